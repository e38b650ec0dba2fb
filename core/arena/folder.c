#include "arena/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "arena/attach.h"
#include "platform/error.h"
#include "platform/liveness.h"
#include "region/superblock.h"

bool fst_folder_is_tmpfs(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

int fst_folder_open(const char *path, struct stat *st)
{
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        int error = errno;
        if (error == ENOENT)
            return fst_fail(FST_MISSING, "there is no arena %s", path);
        if (error == ELOOP || error == EISDIR || error == EACCES || error == EPERM || error == ENXIO)
            return fst_fail_errno(FST_REFUSED, error, "%s is refused: not a regular file of this user", path);
        return fst_fail_errno(FST_OS, error, "cannot open %s", path);
    }
    const char *why = NULL;
    struct statfs fs;
    if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))
        why = "no regular file";
    else if (st->st_uid != geteuid())
        why = "it belongs to another user";
    else if (fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC)
        why = "it is not on a tmpfs; a name without a slash lies in /dev/shm";
    if (!why)
        return fd;
    close(fd);
    return fst_fail(FST_REFUSED, "%s is refused: %s", path, why);
}

int fst_folder_superblock(int fd, const struct stat *st, const char *name, struct fst_superblock *out)
{
    memset(out, 0, sizeof *out);
    ssize_t n = pread(fd, out, sizeof *out, 0);
    if (n < 0)
        return fst_fail_errno(FST_OS, errno, "cannot read %s", name);
    if ((size_t)n < sizeof *out && (n < (ssize_t)sizeof out->magic || out->magic == FST_MAGIC))
        return fst_fail(FST_CORRUPTED, "%s has %s, less than a superblock: it was truncated", name,
                        fst_exact((uint64_t)st->st_size));
    /* The file's length is read after the superblock, because the file grows before the bound of
     * slots is raised. */
    struct stat now;
    if (fstat(fd, &now) != 0)
        return fst_fail_errno(FST_OS, errno, "cannot look at %s", name);
    return fst_superblock_validate(out, (uint64_t)now.st_size, name);
}

static bool names_file(const char *path, const struct stat *st)
{
    struct stat now;
    return lstat(path, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

/* Hold all PRESENT bytes but this process's own. */
static bool hold_all(int fd, uint32_t own)
{
    if (own >= FST_MAX_PROCESSES)
        return fst_liveness_try(fd, FST_LOCK_PRESENT, FST_MAX_PROCESSES);
    off_t after = FST_MAX_PROCESSES - own - 1; /* 0 bytes would mean all up to the end */
    return (!own || fst_liveness_try(fd, FST_LOCK_PRESENT, own)) &&
           (!after || fst_liveness_try(fd, FST_LOCK_PRESENT + own + 1, after));
}

bool fst_folder_remove(int fd, uint32_t own, const char *path, const struct stat *st)
{
    bool alone = hold_all(fd, own);
    if (!alone) {
        fst_liveness_release(fd, FST_LOCK_PRESENT, FST_MAX_PROCESSES);
        return false;
    }
    uint64_t removed = FST_ARENA_REMOVED;
    ssize_t n = pwrite(fd, &removed, sizeof removed, offsetof(struct fst_superblock, state));
    (void)n; /* the superblock's page is there; if it were not, nobody could attach anyway */
    if (names_file(path, st))
        unlink(path);
    fst_liveness_release(fd, FST_LOCK_PRESENT, FST_MAX_PROCESSES);
    return true;
}

static bool attached_here(const struct stat *st)
{
    for (const struct fst_arena *a = fst_attachments; a; a = a->next)
        if (a->device == st->st_dev && a->inode == st->st_ino)
            return true;
    return false;
}

/* Append a path to a list of paths. A path may have any byte but a zero in it, so a zero ends each
 * path, and one more ends the list. */
static int append(char **list, const char *path)
{
    size_t have = 0, more = strlen(path) + 1;
    while (*list && (*list)[have])
        have += strlen(*list + have) + 1;
    char *grown = realloc(*list, have + more + 1);
    if (!grown)
        return fst_fail(FST_FULL, "out of memory");
    memcpy(grown + have, path, more);
    grown[have + more] = 0;
    *list = grown;
    return FST_OK;
}

/* Remove the file if it is an arena that nobody holds; 1: it was, and is gone now. */
static int sweep_file(int folder, const char *folder_path, const char *name, char **removed)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
        st.st_size < (off_t)sizeof(struct fst_superblock) || attached_here(&st))
        return 0;
    int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int done = 0;
    char path[4096];
    struct fst_superblock sb;
    struct stat opened;
    bool same = fstat(fd, &opened) == 0 && opened.st_ino == st.st_ino && opened.st_dev == st.st_dev;
    int n = snprintf(path, sizeof path, "%s/%s", folder_path, name);
    if (same && n > 0 && (size_t)n < sizeof path && pread(fd, &sb, sizeof sb, 0) == (ssize_t)sizeof sb && sb.magic == FST_MAGIC &&
        sb.fingerprint == fst_layout_fingerprint() && (!sb.lasting || sb.state == FST_ARENA_REMOVED) &&
        fst_folder_remove(fd, FST_NONE, path, &st)) {
        done = 1;
        if (removed)
            append(removed, path);
    }
    close(fd);
    return done;
}

int fst_folder_sweep(const char *folder, char **removed)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return fst_fail_errno(errno == ENOENT ? FST_MISSING : FST_OS, errno, "cannot look into %s", folder);
    int count = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_type == DT_REG || e->d_type == DT_UNKNOWN)
            count += sweep_file(dirfd(dir), folder, e->d_name, removed);
    closedir(dir);
    return count;
}

int fst_gc(const char *folder, char **removed)
{
    if (removed)
        *removed = NULL;
    if (!fst_folder_is_tmpfs(folder))
        return access(folder, F_OK) == 0 ? fst_fail(FST_REFUSED, "%s is not on a tmpfs", folder)
                                         : fst_fail(FST_MISSING, "there is no folder %s", folder);
    pthread_mutex_lock(&fst_open_mutex);
    int rc = fst_folder_sweep(folder, removed);
    pthread_mutex_unlock(&fst_open_mutex);
    return rc;
}

int fst_unlink(const char *path)
{
    struct stat st;
    struct fst_superblock sb;
    int fd = fst_folder_open(path, &st);
    if (fd < 0)
        return fd;
    int rc = fst_folder_superblock(fd, &st, path, &sb);
    close(fd);
    if (rc && sb.magic != FST_MAGIC)
        return rc; /* whatever this is, it is not for this function to remove */
    if (!names_file(path, &st) || unlink(path) != 0)
        return fst_fail(FST_MISSING, "there is no arena %s", path);
    return FST_OK;
}

int fst_peek(const char *path, struct fst_peek *out)
{
    struct stat st;
    struct fst_superblock sb;
    memset(out, 0, sizeof *out);
    int fd = fst_folder_open(path, &st);
    if (fd < 0)
        return fd;
    int rc = fst_folder_superblock(fd, &st, path, &sb);
    if (rc == FST_OK) {
        memcpy(out->uuid, sb.uuid, sizeof out->uuid);
        out->capacity = sb.capacity;
        out->used = sb.used_pages << FST_PAGE_SHIFT;
        out->committed = (uint64_t)st.st_blocks * 512;
        out->created_at = sb.created_at;
        out->lasting = sb.lasting;
        for (uint32_t slot = 0; slot < sb.process_top && slot < FST_MAX_PROCESSES; slot++)
            out->processes += fst_liveness_find(fd, FST_LOCK_ALIVE + slot, 1) >= 0;
        out->orphan = !out->lasting && fst_liveness_find(fd, FST_LOCK_PRESENT, FST_MAX_PROCESSES) < 0;
    }
    close(fd);
    return rc;
}
