/* users.h - does anybody use an object of a cache? That is what destroy() of its last name asks.
 *
 * A destroy() that is refused changes nothing: the children are ENDING while it looks, and LIVE
 * again when it has found somebody.
 */
#ifndef FST_TEARDOWN_USERS_H
#define FST_TEARDOWN_USERS_H

#include "region/region.h"

struct fst_users {
    uint32_t processes, references, own, in_flight;
    /* some references may be kept for forked children of this process (refs/heirs.h) */
    bool own_heirs;
    char names[256]; /* the processes with pids and counts, for people */
    /* why the references of one could not be looked at, so that there may be some; empty: all were
     * looked at */
    char unseen[300];
};

/* Find out who uses objects of the cache `body` now. In-flight references that the next batch ends
 * do not count. */
struct fst_users fst_users_count(struct fst_arena *a, uint32_t body);

/* Fail with FST_BUSY, and a sentence that names the users. */
int fst_users_busy(const struct fst_arena *a, const char *name, const struct fst_users *u);

/* Look for users of the cache `body`, called `name`, whose lock `ending` the caller holds. FST_OK:
 * there are none, and its children are ENDING. FST_BUSY: there are some, or damage was noticed; its
 * children are LIVE, and fst_last_error() names the users. FST_HELD: names_lock took longer than
 * this thread waits, and some children are ENDING. */
int fst_users_look(struct fst_arena *a, uint32_t body, const char *name);

#endif
