/* finding.h - what a part of check() found wrong, and how it says so.
 *
 * Whatever a kill may leave is no finding, and neither is anything that others are changing:
 * check() runs beside them. A finding is a state that no order of steps leads to. One wrong word
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
    bool held; /* a lock could not be had in time */
};

void fst_check_say(struct fst_check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is the word of a descriptor's state one that it can have? Says so if not. */
bool fst_check_state(struct fst_check *c, const char *what, uint32_t index, uint64_t state, uint32_t most);

/* Does the lock's word name a process that never was? (Whoever waits for it takes it over.) */
void fst_check_lock(struct fst_check *c, const char *what, uint32_t index, const uint32_t *lock);

#endif
