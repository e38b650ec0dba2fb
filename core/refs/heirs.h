/* heirs.h - what a forked child without a place in the arena has inherited is kept by its parent.
 *
 * A child gets no place when no descriptor is free, the file system is full, or all slots are in
 * use. It has inherited Blocks and views, but has no table of entries that says so. So its parent
 * says it: what the child inherited counts as held once more in the parent's own table, until the
 * child is gone.
 *
 * The kernel says when that is. A byte of the file is locked through a description that has no
 * number any more, only a page that is mapped through it, and that forked children inherit. The
 * page is made when the process attaches, so that nothing has to be found at the fork. A child with
 * a place unmaps its parent's page at once. A child without one keeps it, and so do those forked
 * from it, until they end or execute another program. To ask, the parent makes a new page for the
 * next children, unmaps the old one, and looks whether the old one's byte is still locked. As long
 * as it cannot make one it keeps everything.
 *
 * When the parent dies, its slot is buried, except that its LIVE entries stay as they are while one
 * of its bytes is locked. The model is models/fork.pml.
 */
#ifndef FST_REFS_HEIRS_H
#define FST_REFS_HEIRS_H

#include "region/region.h"

/* Make the page for the children that this process, or the one about to be forked, will fork.
 * FST_OS, FST_CLOSED. */
int fst_heirs_prepare(struct fst_arena *a, uint32_t slot, struct fst_description *out);

/* Keep everything that this process holds, for a child without a place that is about to be forked.
 * Under the mutex of the references. */
void fst_heirs_keep(struct fst_arena *a);

/* Let go of what was kept for such children alone, if they are gone. True: something was let go
 * of. */
bool fst_heirs_ask(struct fst_arena *a);

/* Does this process keep anything for such children? fst_process_has_heirs tells of another slot's
 * process. */
bool fst_heirs_any(const struct fst_arena *a);

/* In a forked child with a place: begin anew, with the page that was made for it. */
void fst_heirs_forked(struct fst_arena *a, const struct fst_description *own);

#endif
