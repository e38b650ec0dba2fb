/* arena.c - attaching to an arena and leaving it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "alloc/active.h"
#include "alloc/group.h"
#include "arena/attach.h"
#include "arena/folder.h"
#include "platform/error.h"
#include "platform/liveness.h"
#include "platform/mapping.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/message.h"
#include "reclaim/reaper.h"
#include "reclaim/shelves.h"
#include "refs/heirs.h"
#include "refs/reftable.h"
#include "region/entries.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/superblock.h"
#include "region/table.h"

#define DEFAULT_CAPACITY (1ull << 30) /* bytes */
/* Looks at a name that others remove and create at the same time, a millisecond apart. */
#define TRIES 1000

pthread_mutex_t fst_open_mutex = PTHREAD_MUTEX_INITIALIZER;
struct fst_arena *fst_attachments;

/* Give back the free entries and the slabs of a thread that ends. Under fst_local_mutex. */
static void at_thread_exit(struct fst_thread *t)
{
    if (!t->arena->usable)
        return;
    t->nest = 0;
    fst_arena_disown(t);
    fst_refs_flush(t);
}

static int initialized = FST_OK;

static void init_once(void)
{
    initialized = fst_threads_init(sizeof(struct fst_actives), fst_actives_reset, at_thread_exit);
    if (initialized == FST_OK)
        initialized = fst_fork_init();
}

int fst_attach_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    return initialized == FST_OK ? FST_OK
                                 : fst_fail(initialized, "the system had no key or no memory left for Flagstone in this process");
}

/* ---- mapping ---- */

static void unmap(struct fst_arena *a)
{
    if (a->data)
        fst_unmap(a->data, a->capacity_pages << FST_PAGE_SHIFT);
    if (a->sb)
        fst_unmap(a->sb, a->known.control_size);
    fst_entries_destroy(a);
    fst_unusable -= a->refused[0] != 0;
    fst_description_unmap(&a->heirs.now);
    fst_file_close(a);
    fst_refs_destroy(a);
    fst_reaper_destroy(a);
    fst_batch_destroy(a);
    fst_damage_destroy(a);
    free(a);
}

static struct fst_arena *new_arena(int fd, const struct stat *st, const char *path)
{
    struct fst_arena *a = calloc(1, sizeof *a);
    if (!a) {
        close(fd);
        return NULL;
    }
    if (fst_damage_create(a)) {
        close(fd);
        free(a);
        return NULL;
    }
    a->handed.fd = fd; /* this is kept until the arena is open */
    a->lock.fd = -1;
    a->device = st->st_dev;
    a->inode = st->st_ino;
    a->references = 1;
    snprintf(a->path, sizeof a->path, "%s", path ? path : "");
    return a;
}

/* Map the file, whose superblock is *sb. */
static int map(struct fst_arena *a, const struct fst_superblock *sb, bool readonly)
{
    bool huge = sb->flags & FST_ARENA_HUGE_PAGES;
    a->readonly = readonly;
    a->capacity_pages = sb->capacity >> FST_PAGE_SHIFT;
    a->known = *sb;
    int fd = a->handed.fd;
    a->sb = fst_map(fd, 0, sb->control_size, true, false);
    a->data = a->sb ? fst_map_aligned(fd, sb->data_offset, sb->capacity, FST_ALIGN_MAX, !readonly, huge) : NULL;
    if (!a->data)
        return fst_cannot_map(errno, sb->control_size + sb->capacity);
    for (int k = 0; k < FST_T_COUNT; k++)
        a->table[k] = k == FST_T_ENTRY ? NULL : (uint8_t *)a->sb + sb->tables[k].offset;
    a->max_entries = fst_count(a, FST_T_ENTRY) / FST_MAX_PROCESSES;
    a->lock.fd = fst_file_reopen(a);
    if (a->lock.fd < 0)
        return fst_fail_errno(FST_OS, errno, "cannot open the arena's file a second time: %s", fst_file_lost(a, errno));
    int error = fst_liveness_missing(a->lock.fd);
    if (error)
        return fst_fail_errno(FST_OS, error,
                              "this kernel, or a sandbox, has no locks of open files (fcntl, F_OFD_SETLK), and an arena "
                              "could not ask who is alive");
    if (!fst_description_keep(&a->lock, false))
        return fst_fail_errno(FST_OS, errno, "cannot map a page that stays with this process alone (mmap, madvise MADV_DONTFORK)");
    int rc = fst_entries_create(a);
    if (rc == FST_OK)
        rc = fst_refs_create(a);
    if (rc == FST_OK)
        rc = fst_batch_create(a);
    return rc ? rc : fst_reaper_create(a);
}

/* Claim a process slot: from here on this process is attached. */
static int join(struct fst_arena *a)
{
    int rc = fst_process_claim(a, a->lock.fd, &a->slot);
    if (rc)
        return rc;
    a->lock.mark = FST_LOCK_ALIVE + a->slot;
    if (fst_load_acquire(&a->sb->state) != FST_ARENA_READY) {
        fst_process_leave(a, a->slot);
        return fst_fail(FST_CLOSED, "the arena is being removed");
    }
    rc = fst_heirs_prepare(a, a->slot, &a->heirs.now);
    if (rc == FST_OK && !fst_description_inherit(&a->heirs.now))
        rc = fst_cannot_map(errno, FST_PAGE);
    uint64_t *entries = rc == FST_OK ? fst_entries_map(a, a->slot) : NULL;
    if (rc == FST_OK && !entries)
        rc = FST_OS;
    if (rc) {
        fst_process_leave(a, a->slot);
        return rc;
    }
    fst_process_publish(a, a->slot, a->readonly);
    a->self = fst_process_at(a, a->slot);
    a->entries = entries;
    a->slot_low = fst_lock_generation(a->self->state);
    a->usable = true;
    a->plain = !(a->known.flags & FST_CACHE_DEBUG);
    return FST_OK;
}

static void enlist(struct fst_arena *a)
{
    close(a->handed.fd); /* another one is made when somebody asks for it */
    a->handed.fd = -1;
    a->next = fst_attachments;
    fst_attachments = a;
}

static struct fst_arena *find_attached(const struct stat *st)
{
    for (struct fst_arena *a = fst_attachments; a; a = a->next)
        if (a->usable && a->device == st->st_dev && a->inode == st->st_ino)
            return a;
    return NULL;
}

/* ---- creating ----
 *
 * Two calls have no function in C libraries before glibc 2.25 and 2.27, and are all that would need
 * newer ones than 2.17. */

static int make_file(const struct fst_open_options *o, const char *folder)
{
    if (!o->path) {
        int fd = (int)syscall(SYS_memfd_create, "flagstone", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        return fd >= 0 ? fd
                       : fst_fail_errno(FST_OS, errno,
                                        "cannot create an anonymous arena (memfd_create); one with a name needs no such file");
    }
    errno = 0; /* it stays so where the folder lies on another file system */
    int asked = fst_folder_is_tmpfs(folder) ? 0 : errno;
    if (asked && access(folder, F_OK) == 0)
        return fst_fail_errno(FST_OS, asked, "cannot ask for the file system of %s (statfs); an anonymous arena needs no folder",
                              folder);
    if (!fst_folder_is_tmpfs(folder))
        return access(folder, F_OK) == 0
                   ? fst_fail(FST_REFUSED,
                              "%s is not on a tmpfs: an arena would be written to disk; a name without a slash lies in /dev/shm",
                              folder)
                   : fst_fail_errno(FST_OS, errno,
                                    "cannot create an arena in %s: mount a tmpfs there, or have an anonymous one, without a "
                                    "name, which needs no folder",
                                    folder);
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return fst_fail_errno(errno == ENOSPC   ? FST_FULL
                              : errno == EACCES ? FST_REFUSED
                                                : FST_OS,
                              errno, "cannot create a file without a name in %s (open, O_TMPFILE)%s", folder,
                              errno == ENOSPC || errno == EACCES ? "" : "; an anonymous arena needs none");
    if (fchmod(fd, (mode_t)o->mode) == 0)
        return fd;
    int error = errno;
    close(fd);
    return fst_fail_errno(FST_OS, error, "cannot give an arena in %s the mode %o", folder, o->mode);
}

static int format(struct fst_arena *a, const struct fst_open_options *o, struct fst_superblock *sb)
{
    uint8_t uuid[16];
    int rc;
    if (syscall(SYS_getrandom, uuid, sizeof uuid, 0) != (long)sizeof uuid)
        return fst_fail_errno(FST_OS, errno, "cannot make an identity (getrandom)");
    uint64_t capacity = o->capacity ? o->capacity : DEFAULT_CAPACITY;
    if (capacity > FST_MAX_CAPACITY)
        return fst_fail(FST_INVALID, "a capacity of %s: the most is %s", fst_exact(o->capacity), fst_exact(FST_MAX_CAPACITY));
    uint64_t page = fst_system_page(); /* what lies behind the data is mapped, too */
    capacity = (capacity + page - 1) & ~(page - 1);
    uint32_t flags =
        (o->path ? 0 : FST_ARENA_ANONYMOUS) | (o->huge_pages ? FST_ARENA_HUGE_PAGES : 0) | (o->debug & FST_CACHE_DEBUG);
    fst_superblock_format(sb, capacity, flags, uuid);
    sb->lasting = o->lasting;
    uint64_t length = fst_superblock_file_size(sb, 1);
    rc = fst_file_fits_limit(length);
    if (rc)
        return rc;
    if (ftruncate(a->handed.fd, (off_t)length) != 0)
        return fst_fail_errno(FST_OS, errno, "cannot make a file of %s", fst_size(length));
    int error = fst_commit_allowed(FST_PAGE) ? fst_commit(a->handed.fd, 0, FST_PAGE) : ENOMEM;
    if (error && error != ENOSPC && error != ENOMEM)
        return fst_fail_errno(FST_OS, error,
                              "this kernel, or a sandbox, lets nobody commit memory of a file (fallocate), and an arena that "
                              "finds none later would end in SIGBUS");
    if (error)
        return fst_fail_errno(FST_FULL, error, "%s has no room for an arena's first page", fst_commit_refused_by());
    if (pwrite(a->handed.fd, sb, sizeof *sb, 0) != (ssize_t)sizeof *sb)
        return fst_fail_errno(FST_OS, errno, "cannot write the superblock");
    /* Without these seals somebody could cut the file, and every process that touches what is
     * missing would be killed by SIGBUS. */
    if (!o->path && fcntl(a->handed.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        return fst_fail_errno(FST_OS, errno, "cannot keep an anonymous arena from being cut");
    return FST_OK;
}

static int populate(struct fst_arena *a)
{
    int rc = fst_table_commit(a, FST_T_ZONE_SUMMARY, a->known.tables[FST_T_ZONE_SUMMARY].count);
    if (rc == FST_OK)
        rc = fst_table_commit(a, FST_T_BURIAL, FST_MAX_BURIALS);
    if (rc == FST_OK)
        rc = fst_table_commit(a, FST_T_FORM_NAMES, FST_FORM_BUCKETS);
    if (rc == FST_OK)
        rc = join(a);
    return rc == FST_OK ? fst_group_make_root(a) : rc;
}

/* Give the finished arena its name, in one step. FST_EXISTS: another process was quicker. */
static int publish(struct fst_arena *a)
{
    char self[40];
    snprintf(self, sizeof self, "/proc/self/fd/%d", a->handed.fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, a->path, AT_SYMLINK_FOLLOW) == 0)
        return FST_OK;
    return fst_fail_errno(errno == EEXIST   ? FST_EXISTS
                          : errno == ENOSPC ? FST_FULL
                                            : FST_OS,
                          errno, "cannot give the arena its name %s (linkat, by way of /proc)%s", a->path,
                          errno == EEXIST || errno == ENOSPC ? "" : "; an anonymous arena needs none");
}

static int create(const struct fst_open_options *o, const char *folder, struct fst_arena **out)
{
    struct stat st;
    struct fst_superblock sb;
    int fd = make_file(o, folder);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) != 0) {
        int error = errno;
        close(fd);
        return fst_fail_errno(FST_OS, error, "cannot look at a new arena's file");
    }
    struct fst_arena *a = new_arena(fd, &st, o->path);
    if (!a)
        return fst_fail(FST_FULL, "out of memory");
    int rc = format(a, o, &sb);
    if (rc == FST_OK)
        rc = map(a, &sb, o->readonly);
    if (rc == FST_OK)
        rc = populate(a);
    if (rc == FST_OK && o->path)
        rc = publish(a);
    if (rc) {
        unmap(a);
        return rc;
    }
    enlist(a);
    *out = a;
    return FST_OK;
}

/* ---- attaching ---- */

static int check_again(const struct fst_arena *a, const struct fst_open_options *o)
{
    if (a->readonly != o->readonly)
        return fst_fail(
            FST_MISMATCH, "this process has arena %s attached %s: a process has one attachment, so open it here with %s, too",
            fst_arena_called(a), a->readonly ? "read-only" : "for writing", a->readonly ? "readonly=True" : "readonly=False");
    return FST_OK;
}

/* Who asks for a lasting arena gets one, also of an arena that is there. */
static void keep(struct fst_arena *a, const struct fst_open_options *o)
{
    if (o->lasting)
        fst_store_relaxed(&a->sb->lasting, 1);
}

/* Attach to the file; fd belongs to the attachment from now on. FST_CLOSED: the arena is being
 * removed, so look again. */
static int attach(int fd, const struct stat *st, const struct fst_open_options *o, const char *name, struct fst_arena **out)
{
    struct fst_superblock sb;
    int rc = fst_folder_superblock(fd, st, name, &sb);
    if (rc == FST_OK && o->capacity > sb.capacity)
        rc = fst_fail(FST_INVALID, "%s has a capacity of %s, %s were asked for", name, fst_exact(sb.capacity),
                      fst_exact(o->capacity));
    struct fst_arena *a = rc == FST_OK ? find_attached(st) : NULL;
    if (rc || a) {
        close(fd);
        if (a && (rc = check_again(a, o)) == FST_OK) {
            keep(a, o);
            a->references++;
            *out = a;
        }
        return rc;
    }
    if (sb.state == FST_ARENA_REMOVED) {
        /* The process that was removing it may have been killed. */
        fst_folder_remove(fd, FST_NONE, o->path ? o->path : "", st);
        close(fd);
        return fst_fail(FST_CLOSED, "%s is being removed", name);
    }
    a = new_arena(fd, st, o->path);
    if (!a)
        return fst_fail(FST_FULL, "out of memory");
    rc = map(a, &sb, o->readonly);
    if (rc == FST_OK)
        rc = fst_superblock_validate_bounds(a->sb, name);
    if (rc == FST_OK)
        rc = fst_tops_check(a);
    if (rc == FST_OK)
        rc = join(a);
    if (rc) {
        unmap(a);
        return rc;
    }
    keep(a, o);
    enlist(a);
    fst_reaper_greet(a);
    if (fst_message_expires_in(a) != UINT64_MAX || fst_shelves_expires_in(a, 0) != UINT64_MAX)
        /* whoever sent a message, or put a key, may be gone before it expires */
        fst_reaper_expect(a);
    *out = a;
    return FST_OK;
}

static int open_named(const struct fst_open_options *o, struct fst_arena **out)
{
    char folder[256];
    const char *slash = strrchr(o->path, '/');
    if (o->path[0] != '/' || strlen(o->path) >= sizeof folder)
        return fst_fail(FST_INVALID, "%s is no absolute path of less than %zu bytes", o->path, sizeof folder);
    memcpy(folder, o->path, (size_t)(slash - o->path) + 1);
    folder[slash == o->path ? 1 : slash - o->path] = 0;
    if (fst_folder_is_tmpfs(folder))
        fst_folder_sweep(folder, NULL);
    int rc = FST_CLOSED;
    for (int i = 0; i < TRIES && rc == FST_CLOSED; i++) {
        struct stat st;
        int fd = fst_folder_open(o->path, &st);
        if (fd >= 0) {
            if (o->create == FST_CREATE_NEW) {
                close(fd);
                return fst_fail(FST_EXISTS, "the arena %s exists", o->path);
            }
            rc = attach(fd, &st, o, o->path, out);
        } else if (fd == FST_MISSING && o->create != FST_OPEN_EXISTING) {
            rc = create(o, folder, out);
            if (rc == FST_EXISTS && o->create == FST_OPEN_OR_CREATE)
                rc = FST_CLOSED;
        } else {
            return fd;
        }
        if (rc == FST_CLOSED)
            usleep(1000);
    }
    return rc;
}

int fst_arena_open(const struct fst_open_options *options, fst_arena **out)
{
    int rc = fst_attach_init();
    if (rc)
        return rc;
    pthread_mutex_lock(&fst_open_mutex);
    rc = options->path ? open_named(options, out) : create(options, NULL, out);
    pthread_mutex_unlock(&fst_open_mutex);
    return rc;
}

int fst_arena_open_fd(int fd, bool readonly, fst_arena **out)
{
    struct stat st;
    char link[40], path[256] = "";
    struct fst_open_options o = {.readonly = readonly};
    int rc = fst_attach_init();
    if (rc)
        return rc;
    int own = fst_liveness_reopen(fd);
    if (own < 0 || fstat(own, &st) != 0) {
        int error = errno;
        if (own >= 0)
            close(own);
        return fst_fail_errno(FST_OS, error, "cannot use the descriptor of an arena");
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", own);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    struct stat named;
    if (lstat(path, &named) == 0 && named.st_ino == st.st_ino && named.st_dev == st.st_dev)
        o.path = path;
    pthread_mutex_lock(&fst_open_mutex);
    rc = attach(own, &st, &o, o.path ? o.path : "the anonymous arena", out);
    pthread_mutex_unlock(&fst_open_mutex);
    return rc;
}

fst_arena *fst_arena_find(const uint8_t uuid[16])
{
    struct fst_arena *found = NULL;
    pthread_mutex_lock(&fst_open_mutex);
    for (struct fst_arena *a = fst_attachments; a && !found; a = a->next)
        if (a->usable && memcmp(a->known.uuid, uuid, 16) == 0)
            found = a;
    if (found)
        found->references++;
    pthread_mutex_unlock(&fst_open_mutex);
    return found;
}

void fst_arena_watch(fst_arena *a)
{
    fst_reaper_expect(a);
}

void fst_arena_tended(fst_arena *a)
{
    if (a->usable)
        fst_process_set_flags(a->self, 0, FST_PROCESS_TENDED);
}

void fst_arena_unref(fst_arena *a)
{
    pthread_mutex_lock(&fst_open_mutex);
    if (--a->references == 0) {
        for (struct fst_arena **link = &fst_attachments; *link; link = &(*link)->next) {
            if (*link == a) {
                *link = a->next;
                break;
            }
        }
        if (a->usable)
            fst_arena_detach(a);
        unmap(a);
    }
    pthread_mutex_unlock(&fst_open_mutex);
}

void fst_leave_all(void)
{
    pthread_mutex_lock(&fst_open_mutex);
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        fst_reaper_stop(a, true);
        if (a->usable)
            fst_store_relaxed(&a->self->flags, a->self->flags | FST_PROCESS_LEFT);
        fst_arena_leave(a);
    }
    pthread_mutex_unlock(&fst_open_mutex);
}

int fst_arena_refused(const fst_arena *a)
{
    return a->usable ? FST_OK : fst_thread_usable(a);
}

bool fst_arena_usable(const fst_arena *a)
{
    return a->usable;
}

int fst_arena_fd(fst_arena *a)
{
    int fd = fst_file_handed(a);
    return fd >= 0 ? fd : fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
}
