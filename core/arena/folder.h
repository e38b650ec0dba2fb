/* folder.h - arenas as files: which are there, which nobody holds, and removing them.
 *
 * An arena's name goes when the last process leaves it, or, when all of them were killed, by the
 * next open() of anything in the folder. Who removes holds the whole range of PRESENT bytes
 * (platform/liveness.h), so that nobody attaches meanwhile; it marks the superblock REMOVED before
 * it unlinks, so that an attacher who opened the file before and gets its byte after sees that it
 * came too late. Killed in between, the file is REMOVED and nobody holds it: whoever meets it next
 * unlinks it.
 */
#ifndef FST_ARENA_FOLDER_H
#define FST_ARENA_FOLDER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "region/layout.h"

/* Open an existing arena's file: a regular file of this user on a tmpfs, not through a link. fd,
 * or FST_MISSING, FST_REFUSED, FST_OS. */
int fst_folder_open(const char *path, struct stat *st);

/* Read the superblock without mapping the file, and validate it. */
int fst_folder_superblock(int fd, const struct stat *st, const char *name, struct fst_superblock *out);

/* Hold the range of PRESENT bytes through fd, mark REMOVED, unlink path if it still names this
 * file. False: somebody is present. `own`: the slot whose byte is the caller's through another
 * description, or FST_NONE. */
bool fst_folder_remove(int fd, uint32_t own, const char *path, const struct stat *st);

/* Remove what nobody holds in the folder of `path`, lasting arenas apart; best effort. Appends
 * names to *removed if not NULL. */
int fst_folder_sweep(const char *folder, char **removed);

/* Is the folder (or file) on a tmpfs? */
bool fst_folder_is_tmpfs(const char *path);

#endif
