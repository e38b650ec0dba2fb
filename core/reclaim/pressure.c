#include "reclaim/pressure.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/futex.h"

#define SHARE 10u /* waiting for one part in so many of the time is much */

/* Read the total, in us, from a line "some avg10=0.00 avg60=0.00 avg300=0.00 total=123". */
static bool read_total(const struct fst_pressure *p, uint64_t *us)
{
    char text[256];
    int fd = p->path[0] ? open(p->path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    const char *total = strncmp(text, "some ", 5) == 0 ? strstr(text, "total=") : NULL;
    if (!total)
        return false;
    *us = strtoull(total + 6, NULL, 10);
    return true;
}

void fst_pressure_open_path(struct fst_pressure *p, const char *path)
{
    snprintf(p->path, sizeof p->path, "%s", path);
    p->looked = fst_now();
    if (!read_total(p, &p->waited))
        p->path[0] = 0;
}

/* The process's cgroup in the hierarchy of version 2: the line "0::/path" of /proc/self/cgroup. */
static bool own_cgroup(char *path, size_t size)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        found = strncmp(line, "0::", 3) == 0 && snprintf(path, size, "%s", line + 3) < (int)size;
    }
    if (f)
        fclose(f);
    return found;
}

void fst_pressure_open(struct fst_pressure *p)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char own[400], path[512];
    p->path[0] = 0;
    bool known = own_cgroup(own, sizeof own);
    for (size_t i = 0; known && !p->path[0] && i < sizeof roots / sizeof *roots; i++) {
        snprintf(path, sizeof path, "%s%s/memory.pressure", roots[i], own);
        fst_pressure_open_path(p, path);
    }
    if (!p->path[0])
        fst_pressure_open_path(p, "/proc/pressure/memory");
}

bool fst_pressure_high(struct fst_pressure *p)
{
    uint64_t us, now = fst_now();
    if (!read_total(p, &us))
        return false;
    uint64_t waited = us - p->waited, passed = (now - p->looked) / 1000;
    p->waited = us;
    p->looked = now;
    return waited && waited * SHARE >= passed;
}
