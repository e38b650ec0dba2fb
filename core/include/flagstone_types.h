/* flagstone_types.h - the types of all parts of flagstone.h, and the conventions that hold for all
 * of them.
 *
 *   - Functions return FST_OK (0) or a negative enum fst_status; then fst_last_error() has a
 *     sentence for people, in the calling thread. A function that returns something else says so.
 *     Any function that can fail may also return FST_CLOSED (the arena is not attached any more:
 *     fst_arena_usable), FST_CORRUPTED (other processes have overwritten its structures), FST_FULL
 *     (out of memory or thread slots) or FST_OS.
 *   - Every function may be called from any thread, and processes need no coordination of their
 *     own, unless a comment says otherwise.
 *   - No function calls back into its caller, but those to which the caller gives a function:
 *     fst_debug_ask, fst_debug_hear, fst_destroy_synchronously, and lists and checks that tell what
 *     they find.
 *   - Some functions acquire locks that all processes share, for microseconds. A process that is
 *     stopped while it has such a lock keeps it; then they return FST_HELD when the thread's
 *     patience is over (fst_patience), and nothing has changed. What cannot be put off (a drop,
 *     letting go, the end of a thread) waits for such a lock no longer than a fifth of a
 *     millisecond: a batch does it later. Functions that are marked "may wait" also wait for
 *     something else.
 *   - Sizes are bytes and times are nanoseconds; a time of FST_FOREVER never ends, and one of 0
 *     does not wait.
 *   - Things are named by `uint64_t` ids: the low 32 bits are an index into a table of the arena,
 *     and the high 32 bits a generation. So an id of something that is gone is recognized and
 *     refused.
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
    FST_FULL = -1,     /* the file system, the capacity or a table is used up */
    FST_LIMIT = -2,    /* a group's limit does not allow it */
    FST_BUSY = -3,     /* it is in use; nothing has changed */
    FST_MISMATCH = -4, /* it exists with other parameters */
    FST_STALE = -5,    /* the handle's object is gone */
    FST_READONLY = -6, /* this attachment may not write */
    /* the arena, group or cache was closed or destroyed, or the attachment is gone */
    FST_CLOSED = -7,
    FST_LAYOUT = -8,      /* another version's or another program's file */
    FST_CORRUPTED = -9,   /* the arena's structures contradict each other */
    FST_EXISTS = -10,     /* it must not exist, but does */
    FST_MISSING = -11,    /* it must exist, but does not */
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
/* the system's error behind FST_OS, in the calling thread; or 0 */
int fst_last_errno(void);

typedef struct fst_arena fst_arena; /* this process's attachment to an arena; reference-counted */

enum fst_create { FST_OPEN_OR_CREATE = 0, FST_CREATE_NEW = 1, FST_OPEN_EXISTING = 2 };

/* A reference of this process to an object. It is plain data: copying it makes no reference. */
struct fst_ref {
    void *data;
    uint64_t nbytes; /* bytes of the object, as asked for */
    uint64_t oid;    /* object id */
    uint32_t entry;  /* the place in this process's table of references */
    /* the object's form (fst_form_intern), the same in every process, in a reference that was
     * resolved, taken or found, or is of fst_alloc_form; 0: it has none; FST_FORM_OWN: it has a
     * text of its own */
    uint32_t form;
};
#define FST_FORM_OWN 8191u

/* 16 bytes that name an object for ever, and guarantee nothing. */
struct fst_handle {
    uint64_t generation_tag; /* generation:40 | arena tag:24 (from the uuid) */
    uint64_t oid_slab;       /* object id:39 | low bits of the slab's generation:25 */
};

/* A handle with an in-flight reference: what travels in a pickle. 24 bytes. */
struct fst_message {
    struct fst_handle handle;
    uint32_t entry; /* the in-flight entry; UINT32_MAX: none */
    uint32_t tag;   /* which use of that entry */
};

#ifdef __cplusplus
}
#endif
#endif
