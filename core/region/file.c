#include "region/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/liveness.h"
#include "platform/mapping.h"

static bool is_file(const struct fst_arena *a, int fd)
{
    struct stat st;
#ifdef FST_MUTANT_TRUST_NUMBERS
    return fd >= 0;
#endif
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_dev != a->device || st.st_ino != a->inode)
        return false;
    /* The user may have opened the arena's file as well, to look at it or to copy it, in a way that
     * does not serve here: only descriptors for reading and writing do. */
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & (O_ACCMODE | O_PATH)) == O_RDWR;
}

/* The description's number, if it is still a descriptor of the file. Otherwise forget it, so that a
 * file that gets the number next is not taken for the arena's. */
static int number(struct fst_arena *a, struct fst_description *d)
{
    int fd = fst_load_relaxed(&d->fd);
    if (fd < 0 || is_file(a, fd))
        return fd;
    uint32_t lost = (uint32_t)fd;
    fst_cas32((uint32_t *)&d->fd, &lost, UINT32_MAX);
    return -1;
}

/* ---- opening anew ---- */

static int open_if_it(struct fst_arena *a, const char *path, int flags)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
    if (fd < 0 || is_file(a, fd))
        return fd;
    close(fd);
    errno = ENOENT; /* another file has the name now */
    return -1;
}

int fst_file_reopen(struct fst_arena *a)
{
    char link[64];
    int error = EBADF, fd = a->path[0] ? open_if_it(a, a->path, O_NOFOLLOW) : -1, own = number(a, &a->lock);
    if (fd >= 0)
        return fd;
    if (a->path[0])
        error = errno;
    if (own < 0)
        own = number(a, &a->handed);
    if (own >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", own);
        if ((fd = open_if_it(a, link, 0)) >= 0)
            return fd;
        error = errno;
    }
    if (a->lock.page) {
        uintptr_t page = (uintptr_t)a->lock.page;
        snprintf(link, sizeof link, "/proc/self/map_files/%lx-%lx", (unsigned long)page,
                 (unsigned long)page + (unsigned long)sysconf(_SC_PAGESIZE));
        if ((fd = open_if_it(a, link, 0)) >= 0)
            return fd;
        if (errno == EMFILE || errno == ENFILE)
            error = errno;
    }
    errno = error;
    return -1;
}

/* Make a second description, with a mark to know it by. One thread at a time does so, and no other
 * waits for it: the others use a descriptor of their own. */
static int make_handed(struct fst_arena *a)
{
    int fd = fst_file_reopen(a);
    if (fd < 0 || fst_swap32(&a->handing, 1))
        return fd;
    struct fst_description d = {.fd = fd};
    d.mark = FST_LOCK_MARK + ((off_t)a->slot << 40) + (off_t)(fst_now() & 0xffffffffffull);
    if (number(a, &a->handed) < 0 && fst_liveness_try(fd, d.mark, 1) && fst_description_keep(&d, false)) {
        fst_description_unmap(&a->handed); /* the page of one that was lost */
        a->handed.page = d.page;
        a->handed.mark = d.mark;
        fst_store_release(&a->handed.fd, fd);
    }
    fst_store_release(&a->handing, 0);
    return fd;
}

int fst_file_get(struct fst_arena *a)
{
    int fd = number(a, &a->lock);
    if (fd < 0)
        fd = number(a, &a->handed);
    return fd < 0 ? make_handed(a) : fd;
}

void fst_file_put(struct fst_arena *a, int fd)
{
    if (fd < 0 || fd == fst_load_relaxed(&a->lock.fd) || fd == fst_load_acquire(&a->handed.fd))
        return;
    /* Another thread may have closed all descriptors that it did not know, and opened others. */
    if (is_file(a, fd))
        close(fd);
}

int fst_file_handed(struct fst_arena *a)
{
    int fd = number(a, &a->handed);
    if (fd >= 0 || (fd = make_handed(a)) < 0)
        return fd;
    if (fd == fst_load_acquire(&a->handed.fd))
        return fd;
    close(fd);
    errno = EAGAIN;
    return -1;
}

int fst_file_lock(struct fst_arena *a)
{
    int fd = number(a, &a->lock);
    return fd >= 0 && fst_description_is(&a->lock, fd) ? fd : -1;
}

/* ---- letting go ---- */

static void close_if_own(struct fst_arena *a, struct fst_description *d)
{
    int fd = number(a, d);
    if (fd >= 0 && (!d->page || fst_description_is(d, fd)))
        close(fd);
    d->fd = -1;
}

void fst_file_drop(struct fst_arena *a, struct fst_description *d)
{
    close_if_own(a, d);
    fst_description_unmap(d);
}

void fst_file_close(struct fst_arena *a)
{
    fst_file_drop(a, &a->handed);
    fst_file_drop(a, &a->lock);
}

void fst_file_forked(struct fst_arena *a)
{
    /* The mapped pages were not inherited: only the numbers were. */
    close_if_own(a, &a->handed);
    close_if_own(a, &a->lock);
    a->handed.page = a->lock.page = NULL;
    a->handing = 0;
}

/* ---- saying why ---- */

const char *fst_file_lost(const struct fst_arena *a, int error)
{
    switch (error) {
    case EBADF:
        return "this process closed the arena's descriptors, as programs do that become daemons, and an anonymous arena cannot be "
               "opened "
               "again: open it afterwards, or give it a name";
    case ENOENT:
        return a->path[0] ? "this process closed the arena's descriptors, and the arena's file has lost its name, so it cannot be "
                            "opened again: open the arena afterwards"
                          : "the arena's file cannot be opened again through /proc, which is not mounted";
    case EMFILE:
        return "this process has no descriptor left (EMFILE; ulimit -n): close some, or raise the limit";
    case ENFILE:
        return "the system has no descriptor left (ENFILE)";
    case EACCES:
    case EPERM:
        return "this process may not open the arena's file any more (EACCES): it has changed its user since; open the arena after "
               "that";
    default:
        return "the arena's file cannot be opened again";
    }
}

int fst_file_reachable(struct fst_arena *a)
{
    int fd = fst_file_get(a);
    if (fd < 0)
        return fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
    fst_file_put(a, fd);
    return FST_OK;
}

/* ---- using it ---- */

int64_t fst_file_find(struct fst_arena *a, off_t start, off_t count)
{
    for (int tries = 0; tries < 2; tries++) {
        int fd = fst_file_get(a);
        if (fd < 0)
            return 0; /* nobody can be asked, so count somebody as there */
        int64_t found = fst_liveness_find(fd, start, count);
        /* The number may have become another file's before the question. */
        bool sure = found >= 0 || is_file(a, fd);
        fst_file_put(a, fd);
        if (sure)
            return found;
    }
    return 0;
}

bool fst_file_others(struct fst_arena *a, off_t base)
{
    uint32_t after = a->slot + 1;
    return (a->slot && fst_file_find(a, base, a->slot) >= 0) ||
           (after < FST_MAX_PROCESSES && fst_file_find(a, base + after, FST_MAX_PROCESSES - after) >= 0);
}

int fst_file_fits_limit(uint64_t length)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= length)
        return FST_OK;
    return fst_fail_errno(
        FST_OS, EFBIG,
        "the arena's file has to be %s long, most of which is never written, and `ulimit -f` (RLIMIT_FSIZE) allows %s: "
        "raise it, or give the arena less capacity",
        fst_size(length), fst_size(limit.rlim_cur));
}

int fst_file_extend(int fd, uint64_t length)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fst_fail_errno(FST_OS, errno, "cannot look at the arena's file");
    if ((uint64_t)st.st_size >= length)
        return FST_OK;
    int rc = fst_file_fits_limit(length);
    if (rc)
        return rc;
    /* ftruncate could cut what another process has just appended. */
    int error = fst_commit_allowed(FST_PAGE) ? fst_append(fd, length - FST_PAGE, FST_PAGE) : ENOMEM;
    if (error == ENOSPC || error == ENOMEM)
        return fst_fail_errno(FST_FULL, error, "%s has no room for another process's table of references", fst_commit_refused_by());
    return error ? fst_fail_errno(FST_OS, error, "cannot make the arena's file %s long", fst_size(length)) : FST_OK;
}

/* The mapped byte at an offset in the file, or NULL. Of the tables of references only this
 * process's own is looked for. */
static void *mapped(struct fst_arena *a, uint64_t offset)
{
    uint64_t own = a->known.tables[FST_T_ENTRY].offset + (uint64_t)a->slot * a->max_entries * sizeof(uint64_t);
    if (offset < a->known.data_offset)
        return (uint8_t *)a->sb + offset;
    if (offset < a->known.tables[FST_T_ENTRY].offset)
        return a->data + (offset - a->known.data_offset);
    bool is_own = a->entries && offset >= own && offset < own + (uint64_t)a->max_entries * sizeof(uint64_t);
    return is_own ? (uint8_t *)a->entries + (offset - own) : NULL;
}

uint8_t *fst_file_map_data(struct fst_arena *a, uint64_t offset, uint64_t bytes, struct fst_mapped *out)
{
    uint64_t page = fst_system_page(), from = offset & ~(page - 1);
    out->bytes = (offset + bytes - from + page - 1) & ~(page - 1);
    int fd = fst_file_get(a);
    out->base = fd < 0 ? NULL : fst_map(fd, a->known.data_offset + from, out->bytes, true, false);
    fst_file_put(a, fd);
    return out->base ? (uint8_t *)out->base + (offset - from) : NULL;
}

void fst_file_unmap_data(struct fst_mapped *m)
{
    if (m->base)
        fst_unmap(m->base, m->bytes);
    m->base = NULL;
}

int fst_file_commit(struct fst_arena *a, uint64_t offset, uint64_t length)
{
    /* This question comes first: it reads files, which takes time, and a descriptor's number is to
     * be used as soon as possible after it was checked. */
    if (!fst_commit_allowed(length))
        return ENOMEM;
    int fd = fst_file_get(a);
    if (fd < 0)
        return mapped(a, offset) ? fst_populate(mapped(a, offset), length) : EBADF;
    int rc = fst_commit(fd, offset, length);
    fst_file_put(a, fd);
    return rc;
}

int fst_file_punch(struct fst_arena *a, uint64_t offset, uint64_t length)
{
    int fd = fst_file_get(a);
    if (fd < 0)
        return mapped(a, offset) ? fst_remove(mapped(a, offset), length) : EBADF;
    int rc = fst_punch(fd, offset, length);
    fst_file_put(a, fd);
    return rc;
}
