/* finding.h - what a part of check() found wrong, and how it says so.
 *
 * A finding is a state to which no order of steps leads. Nothing that a kill may leave is a
 * finding, and nothing that other processes are changing: check() runs beside them. One wrong word
 * should be one finding.
 */
#ifndef FST_OBSERVE_FINDING_H
#define FST_OBSERVE_FINDING_H

#include <stddef.h>

#include "region/region.h"

struct fst_check {
    struct fst_arena *a;
    void (*found)(void *context, const char *text);
    void *context;
    size_t findings;
    bool held; /* a lock took longer than this thread waits */
};

/* Count a finding, and tell it (printf form). */
void fst_check_say(struct fst_check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is the state in this word one that such a descriptor can have, up to `most`? If not, it is
 * told. */
bool fst_check_state(struct fst_check *c, const char *what, uint32_t index, uint64_t state, uint32_t most);

/* Does the lock's word name a process that never was? Then that is told. (Whoever waits for the
 * lock takes it over.) */
void fst_check_lock(struct fst_check *c, const char *what, uint32_t index, const uint32_t *lock);

#endif
