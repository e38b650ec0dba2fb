/* flagstone_types.h - what all parts of flagstone.h speak of, and the conventions of all of them.
 *
 * Conventions for everything in here
 *   - Functions return FST_OK (0) or a negative enum fst_status; fst_last_error() then has the
 *     sentence for people, in the calling thread. Where a function returns something else, it says
 *     so.
 *   - Every function may be called from any thread, and processes need no coordination of their
 *     own, unless a line says otherwise.
 *   - No function calls back into its caller, but for fst_debug_ask and the lists that are given a
 *     function to tell. Some take locks that all processes share, for
 *     microseconds; a process that is stopped in there keeps the lock, and then they answer
 *     FST_HELD when the thread's patience is over (fst_patience), with nothing changed. What cannot
 *     be put off (a drop, letting go, the end of a thread) waits for such a lock no longer than a
 *     fifth of a millisecond: a batch does it later. Those marked "may wait" wait for something
 *     else, too.
 *   - Sizes are bytes, times are nanoseconds; FST_FOREVER never ends, 0 does not wait.
 *   - Indexes (cache, group, child, process) are small integers into tables of the arena; an index
 *     of something that is gone is found out and refused, because the `uint64_t` ids carry a
 *     generation: low 32 bits index, high 32 bits generation.
 */
#ifndef FLAGSTONE_TYPES_H
#define FLAGSTONE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FST_NAME_MAX       64         /* bytes of a name with its final zero */
#define FST_FORMAT_MAX     1024       /* bytes of a format text, with its final zero, in an info */
#define FST_FORMAT_LONGEST (16 << 20) /* bytes of a whole one, with its final zero */
#define FST_FOREVER        UINT64_MAX
#define FST_NO_LIMIT       UINT64_MAX

enum fst_status {
    FST_OK = 0,
    FST_FULL = -1,        /* the file system, the capacity or a table is used up */
    FST_LIMIT = -2,       /* a group's limit */
    FST_BUSY = -3,        /* in use; nothing changed */
    FST_MISMATCH = -4,    /* exists with other parameters */
    FST_STALE = -5,       /* the handle's object is gone */
    FST_READONLY = -6,    /* this attachment may not write */
    FST_CLOSED = -7,      /* arena, group or cache was closed or destroyed */
    FST_LAYOUT = -8,      /* another version's or another program's file */
    FST_CORRUPTED = -9,   /* the arena's structures contradict each other */
    FST_EXISTS = -10,     /* must not exist, but does */
    FST_MISSING = -11,    /* must exist, but does not */
    FST_INVALID = -12,    /* an argument makes no sense */
    FST_OS = -13,         /* a system call failed: fst_last_errno() */
    FST_IN_SECTION = -14, /* would wait for the caller's own read-side section */
    FST_TIMEOUT = -15,    /* the time is over */
    FST_REFUSED = -16,    /* not a regular file of this user */
    FST_FOREIGN = -17,    /* a handle of another arena */
    FST_WAIT = -18,       /* a channel is full, or empty: fst_channel_wait and try again */
    FST_END = -19,        /* a channel was closed: nothing can be put, or everything was taken */
    /* A lock is held by somebody for longer than this thread waits, or it would have to wait and
     * may not; nothing has changed. */
    FST_HELD = -20,
    FST_LAPPED = -21, /* a subscription has fallen behind, and ends for it */
};

const char *fst_last_error(void); /* of the calling thread; valid until its next failing call */
int fst_last_errno(void);

typedef struct fst_arena fst_arena; /* this process's attachment to an arena; reference-counted */

enum fst_create { FST_OPEN_OR_CREATE = 0, FST_CREATE_NEW = 1, FST_OPEN_EXISTING = 2 };

/* A reference of this process to an object. Plain data: copying it copies no reference. */
struct fst_ref {
    void *data;
    uint64_t nbytes; /* what was asked for */
    uint64_t oid;    /* object id */
    uint32_t entry;  /* in this process's reference table */
    /* of a reference that was resolved, taken or found, or of fst_alloc_form: the object's form
     * (fst_form_intern), the same in every process; 0: it has none; FST_FORM_OWN: its own text */
    uint32_t form;
};
#define FST_FORM_OWN 8191u

/* 16 bytes that name an object for ever and guarantee nothing. */
struct fst_handle {
    uint64_t generation_tag; /* generation:40 | arena tag:24 (from the uuid) */
    uint64_t oid_slab;       /* object id:39 | low bits of the slab's generation:25 */
};

/* A handle with an in-flight reference: what travels in a pickle. 24 bytes. */
struct fst_message {
    struct fst_handle handle;
    uint32_t entry; /* in-flight entry; UINT32_MAX: none */
    uint32_t tag;   /* use of that entry */
};

#ifdef __cplusplus
}
#endif
#endif
