/* stopped_early.h - what a test says that is stopped because its time is over: the case, and where
 * each of its processes and threads stands. Forked children inherit the handler, and are asked too.
 */
#ifndef FST_TEST_STOPPED_EARLY_H
#define FST_TEST_STOPPED_EARLY_H

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if __has_include(<execinfo.h>) /* not every libc has it */
#include <execinfo.h>
#else
#define backtrace(frames, count) ((void)(frames), 0)
static inline void backtrace_symbols_fd(void *const *frames, int count, int fd)
{
    (void)frames, (void)count, (void)fd;
}
#endif

static const char *stopped_case = "no case";
static pid_t stopped_tester;

static void stopped_show(const char *pid, const char *what)
{
    char path[64], text[300];
    snprintf(path, sizeof path, "/proc/%.20s/%s", pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    fprintf(stderr, "#   %s %s: %s\n", pid, what, text);
}

/* No function here is safe in a handler, and the test is over anyway. */
static void stopped_early(int signal)
{
    void *frames[32];
    fprintf(stderr, "# process %d is stopped in the case %s\n", (int)getpid(), stopped_case);
    backtrace_symbols_fd(frames, backtrace(frames, 32), STDERR_FILENO);
    if (getpid() == stopped_tester) {
        DIR *all = opendir("/proc");
        for (struct dirent *e; all && (e = readdir(all));) {
            pid_t pid = (pid_t)atoi(e->d_name);
            if (pid <= 0 || getpgid(pid) != getpgrp())
                continue;
            stopped_show(e->d_name, "stat");
            stopped_show(e->d_name, "syscall");
            stopped_show(e->d_name, "wchan");
            if (pid != stopped_tester)
                kill(pid, SIGTERM);
        }
        usleep(200000);
    }
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(signal, &usual, NULL);
    raise(signal);
}

static inline void stopped_early_tell(void)
{
    void *frame;
    struct sigaction tell = {.sa_handler = stopped_early};
    backtrace(&frame, 1); /* it loads a library the first time */
    stopped_tester = getpid();
    sigaction(SIGTERM, &tell, NULL);
}

#endif
