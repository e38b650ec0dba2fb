#include "platform/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/error.h"
#include "platform/memlimit.h"

uint64_t fst_system_page(void)
{
#ifdef FST_SYSTEM_PAGE
    return FST_SYSTEM_PAGE;
#else
    return (uint64_t)sysconf(_SC_PAGESIZE);
#endif
}

static void *map_at(void *where, int flags, int fd, uint64_t offset, uint64_t length, bool writable, bool huge_pages)
{
    int prot = PROT_READ | (writable ? PROT_WRITE : 0);
#ifdef FST_SYSTEM_PAGE
    if (offset % FST_SYSTEM_PAGE) {
        errno = EINVAL; /* as a system with such pages says */
        return NULL;
    }
#endif
    void *base = mmap(where, length, prot, MAP_SHARED | MAP_NORESERVE | flags, fd, (off_t)offset);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, length, MADV_DONTDUMP);
    if (huge_pages)
        madvise(base, length, MADV_HUGEPAGE);
    return base;
}

void *fst_map(int fd, uint64_t offset, uint64_t length, bool writable, bool huge_pages)
{
    return map_at(NULL, 0, fd, offset, length, writable, huge_pages);
}

void *fst_map_aligned(int fd, uint64_t offset, uint64_t length, uint64_t align, bool writable, bool huge_pages)
{
    uint64_t room = length + align;
    uint8_t *reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    uint64_t skip = (align - (uintptr_t)reserved % align) % align;
    void *base = map_at(reserved + skip, MAP_FIXED, fd, offset, length, writable, huge_pages);
    if (!base) {
        munmap(reserved, room);
        return NULL;
    }
    if (skip)
        munmap(reserved, skip);
    munmap(reserved + skip + length, room - skip - length);
    return base;
}

void fst_unmap(void *base, uint64_t length)
{
    if (base)
        munmap(base, length);
}

void *fst_map_private(uint64_t length)
{
    void *base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, length, MADV_DONTDUMP);
    return base;
}

void *fst_map_more(void *base, uint64_t length, uint64_t more)
{
    void *at = mremap(base, length, more, MREMAP_MAYMOVE);
    return at == MAP_FAILED ? NULL : at;
}

const char *fst_commit_refused_by(void)
{
    const char *text = fst_texts()->refused_by;
    return text[0] ? text : "the file system";
}

bool fst_commit_allowed(uint64_t length)
{
    struct fst_texts *texts = fst_texts();
    if (!fst_memlimit_room(length, texts->refused_by, sizeof texts->refused_by))
        return false;
    texts->refused_by[0] = 0;
    return true;
}

int fst_commit(int fd, uint64_t offset, uint64_t length)
{
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0 ? 0 : errno;
    while (rc == EINTR);
    return rc;
}

int fst_append(int fd, uint64_t offset, uint64_t length)
{
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)length) == 0 ? 0 : errno;
    while (rc == EINTR);
    if (rc == 0) /* if punching fails, the page keeps its memory, which costs a page */
        fst_punch(fd, offset, length);
    return rc;
}

int fst_populate(void *base, uint64_t length)
{
    /* A page that these bytes fill only in part is populated as a whole. */
    uint64_t before = (uintptr_t)base % fst_system_page();
    base = (uint8_t *)base - before;
    length += before;
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* a kernel older than Linux 5.14 answers EINVAL */
#endif
    int rc;
    do
        rc = madvise(base, length, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    while (rc == EINTR || rc == EAGAIN);
    /* EFAULT: touching the page would be a SIGBUS, as for want of room */
    return rc == EFAULT ? ENOSPC : rc;
}

int fst_remove(void *base, uint64_t length)
{
    /* Of a page that these bytes fill only in part, only the bytes are zeroed. */
    uint64_t page = fst_system_page();
    uint8_t *from = base, *end = from + length;
    uint64_t before = (page - (uintptr_t)from % page) % page, behind = (uintptr_t)end % page;
    if (before + behind >= length) {
        memset(base, 0, length);
        return 0;
    }
    if (madvise(from + before, length - before - behind, MADV_REMOVE) != 0)
        return errno;
    memset(from, 0, before);
    memset(end - behind, 0, behind);
    return 0;
}

void fst_collapse(void *base, uint64_t length)
{
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* a kernel older than Linux 6.1 answers EINVAL */
#endif
    madvise(base, length, MADV_COLLAPSE);
}

int fst_punch(int fd, uint64_t offset, uint64_t length)
{
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0 ? 0 : errno;
    while (rc == EINTR);
    return rc;
}
