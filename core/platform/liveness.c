#include "platform/liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int fst_liveness_reopen(int fd)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

bool fst_description_keep(struct fst_description *d, bool inherited)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_NONE, MAP_SHARED, d->fd, 0);
    if (page == MAP_FAILED)
        return false;
    d->page = page;
    if (inherited || fst_description_private(d))
        return true;
    fst_description_unmap(d);
    return false;
}

bool fst_description_private(const struct fst_description *d)
{
    return madvise(d->page, (size_t)sysconf(_SC_PAGESIZE), MADV_DONTFORK) == 0;
}

bool fst_description_inherit(const struct fst_description *d)
{
    return madvise(d->page, (size_t)sysconf(_SC_PAGESIZE), MADV_DOFORK) == 0;
}

void fst_description_unmap(struct fst_description *d)
{
    if (d->page)
        munmap(d->page, (size_t)sysconf(_SC_PAGESIZE));
    d->page = NULL;
}

bool fst_description_is(const struct fst_description *d, int fd)
{
    return d->page && fst_liveness_find(fd, d->mark, 1) < 0;
}

static int lock_command(int fd, int command, short type, off_t start, off_t count, struct flock *out)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = count, .l_pid = 0};
    int rc;
    do
        rc = fcntl(fd, command, &lock);
    while (rc != 0 && errno == EINTR);
    if (out)
        *out = lock;
    return rc;
}

int fst_liveness_missing(int lock_fd)
{
    struct flock found;
    return lock_command(lock_fd, F_OFD_GETLK, F_WRLCK, 0, 1, &found) == 0 ? 0 : errno;
}

bool fst_liveness_try(int lock_fd, off_t start, off_t count)
{
    return lock_command(lock_fd, F_OFD_SETLK, F_WRLCK, start, count, NULL) == 0;
}

void fst_liveness_release(int lock_fd, off_t start, off_t count)
{
    lock_command(lock_fd, F_OFD_SETLK, F_UNLCK, start, count, NULL);
}

int64_t fst_liveness_find(int lock_fd, off_t start, off_t count)
{
    struct flock found;
    /* A probe that fails must never make the living look dead: on an error somebody is there. */
    if (lock_command(lock_fd, F_OFD_GETLK, F_WRLCK, start, count, &found) != 0)
        return 0;
    if (found.l_type == F_UNLCK)
        return -1;
    return found.l_start > start ? found.l_start - start : 0;
}
