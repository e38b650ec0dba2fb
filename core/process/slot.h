/* slot.h - process slots: who is attached.
 *
 * A slot belongs to whoever holds the write lock on its byte (platform/liveness.h). The life of a
 * slot:
 *
 *   FREE -> JOINING   by the process that got the byte's lock and still found FREE. The generation
 *                     grows in this step: the byte is locked again, so words that name the last
 *                     owner (of locks, of thread slots) must be nobody's from this moment on
 *   JOINING -> LIVE   by the same process
 *   LIVE -> FREE      by its owner at detach, when its table of entries is empty
 *   LIVE, JOINING -> DEAD   by a batch that found the byte unlocked
 *   DEAD -> FREE      by a batch, when its entries are gone
 */
#ifndef FST_PROCESS_SLOT_H
#define FST_PROCESS_SLOT_H

#include "region/region.h"

/* Claim a slot through lock_fd, in state JOINING. FST_FULL when all slots are in use; FST_CLOSED
 * when the arena is being removed. */
int fst_process_claim(struct fst_arena *a, int lock_fd, uint32_t *slot);

/* Fill the slot in for this process (or for the child about to be forked), and make it LIVE. */
void fst_process_publish(struct fst_arena *a, uint32_t slot, bool readonly);

/* Make the own slot FREE at detach; the caller then closes its lock description. */
void fst_process_leave(struct fst_arena *a, uint32_t slot);

/* Is this the state word of this process's own slot, as it is from attach to detach? */
bool fst_process_is_own(const struct fst_arena *a, uint64_t state);

/* Is the slot's owner alive now? This asks the kernel. False for FREE slots. */
bool fst_process_alive(struct fst_arena *a, uint32_t slot);

/* Does the slot still belong to the process whose state word this was? Then everything that was
 * read from it since is about that process. */
bool fst_process_is_still(const struct fst_arena *a, uint32_t slot, uint64_t state);

/* Does nobody miss the slot's process when it is gone? It never quite came, has left in good order,
 * or was forked and never used the arena: then it has probably gone on to exec, which looks like a
 * death to the kernel. */
bool fst_process_unmissed(const struct fst_process *p);

/* Clear and set flags of this process's own slot in one step. Only flags that are for people are
 * set in this way. Those that matter to other processes (FST_PROCESS_LEFT) change in two steps,
 * which may undo what another thread sets meanwhile. */
void fst_process_set_flags(struct fst_process *self, uint32_t clear, uint32_t set);

/* Does a forked child of the slot's process, which is dead, still live that has no place of its own
 * (refs/heirs.h)? */
bool fst_process_has_heirs(struct fst_arena *a, uint32_t slot);
/* Does the slot's process, dead or alive, keep references for such children? For people. */
bool fst_process_keeps_for_children(struct fst_arena *a, uint32_t slot);
/* Do the LIVE entries of this slot keep what they refer to? They do while the process lives, and
 * after its death while such children of it live. */
bool fst_process_keeps(struct fst_arena *a, uint32_t slot);

/* Is there a slot whose owner is dead and that nobody has buried yet? This asks the kernel about
 * each, in a microsecond. */
bool fst_process_any_dead(struct fst_arena *a);

/* Note in this process's own slot that the process may come to own nodes or subscriptions of a
 * channel. Whoever claims a slot has it say so of none. */
void fst_process_note_channel(struct fst_process *self, uint32_t channel);

/* Write pid, command and arguments of the calling process into its slot; after fork, in the child,
 * again. */
void fst_process_describe(struct fst_process *p);

#endif
