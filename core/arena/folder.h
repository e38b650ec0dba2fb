/* folder.h - arenas as files: which are there, which nobody holds, and how they are removed.
 *
 * An arena's name is removed when the last process leaves the arena; or, when all of them were
 * killed, by the next open() of anything in the folder. Whoever removes holds the whole range of
 * PRESENT bytes (platform/liveness.h), so that nobody attaches meanwhile. It marks the superblock
 * REMOVED before it unlinks the file: a process that opened the file before, and gets its byte
 * after, sees that it came too late. A kill in between leaves a file that is REMOVED and that
 * nobody holds: whoever meets it next unlinks it.
 */
#ifndef FST_ARENA_FOLDER_H
#define FST_ARENA_FOLDER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "region/layout.h"

/* Open an existing arena's file: a regular file of this user on a tmpfs, not through a link. The
 * result is the descriptor; or FST_MISSING, FST_REFUSED, FST_OS. */
int fst_folder_open(const char *path, struct stat *st);

/* Read the superblock without mapping the file, and validate it. FST_OS, FST_LAYOUT,
 * FST_CORRUPTED. */
int fst_folder_superblock(int fd, const struct stat *st, const char *name, struct fst_superblock *out);

/* Hold the range of PRESENT bytes through fd, mark the arena REMOVED, and unlink `path` if that
 * still names this file. False: somebody is present. `own`: the slot whose byte the caller holds
 * through another description, or FST_NONE. */
bool fst_folder_remove(int fd, uint32_t own, const char *path, const struct stat *st);

/* Remove the arenas in this folder that nobody holds and that are not lasting, as far as possible.
 * The result is their number, or FST_MISSING, FST_OS; their paths are appended to *removed, unless
 * that is NULL. */
int fst_folder_sweep(const char *folder, char **removed);

/* Is the folder (or file) on a tmpfs? */
bool fst_folder_is_tmpfs(const char *path);

#endif
