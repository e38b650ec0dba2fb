/* slot.h - process slots: who is attached.
 *
 * A slot belongs to whoever holds the write lock on its byte (platform/liveness.h). Life of a slot:
 *
 *   FREE -> JOINING   by who got the byte's lock and still found FREE; generation + 1 already,
 *                     because the byte is locked again: the last owner's words (locks, thread
 *                     slots) must be nobody's from the first moment on
 *   JOINING -> LIVE   by the same
 *   LIVE -> FREE      by its owner at detach, when its table of entries is empty
 *   LIVE, JOINING -> DEAD   by a batch that found the byte unlocked
 *   DEAD -> FREE      by a batch, when its entries are gone
 */
#ifndef FST_PROCESS_SLOT_H
#define FST_PROCESS_SLOT_H

#include "region/region.h"

/* Claim a slot through lock_fd, state JOINING. FST_FULL when all are in use; FST_CLOSED when the
 * arena is being removed. */
int fst_process_claim(struct fst_arena *a, int lock_fd, uint32_t *slot);

/* Fill the slot in for this process (or for the child about to be forked), and make it LIVE. */
void fst_process_publish(struct fst_arena *a, uint32_t slot, bool readonly);

/* LIVE -> FREE at detach; the caller then closes its lock description. */
void fst_process_leave(struct fst_arena *a, uint32_t slot);

/* Is this what our own slot says, from attach to detach? */
bool fst_process_is_own(const struct fst_arena *a, uint64_t state);

/* Is the slot's owner alive now? Asks the kernel. False for FREE slots. */
bool fst_process_alive(struct fst_arena *a, uint32_t slot);

/* Is the slot still that of the process whose state word this was? Then everything that was read
 * from it since is about that process. */
bool fst_process_is_still(const struct fst_arena *a, uint32_t slot, uint64_t state);

/* Does nobody miss it? It never quite came, has left in good order, or was forked and never used
 * the arena: then it has probably gone on to exec, which looks like a death to the kernel. */
bool fst_process_unmissed(const struct fst_process *p);

/* Clear and set flags of our own slot in one step. Only flags that are for people are set in this
 * way: those that matter to other processes (FST_PROCESS_LEFT) change in two steps, which may undo
 * what another thread sets meanwhile. */
void fst_process_set_flags(struct fst_process *self, uint32_t clear, uint32_t set);

/* Do forked children of the slot's process, which is dead, live that have no place of their own
 * (refs/heirs.h)? */
bool fst_process_has_heirs(struct fst_arena *a, uint32_t slot);
/* Does it, dead or alive, keep something for such children? For people. */
bool fst_process_keeps_for_children(struct fst_arena *a, uint32_t slot);
/* Do the LIVE entries of this slot keep what they refer to? Those of a process that lives, or of
 * one that is dead and has such children. */
bool fst_process_keeps(struct fst_arena *a, uint32_t slot);

/* Is there a slot whose owner is dead, and that nobody has buried yet? Asks the kernel for each,
 * a microsecond. */
bool fst_process_any_dead(struct fst_arena *a);

/* Write down who we are: pid, command, arguments. Also after fork, in the child. */
void fst_process_describe(struct fst_process *p);

#endif
