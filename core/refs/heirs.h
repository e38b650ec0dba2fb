/* heirs.h - what a forked child that got no place in the arena has inherited is kept by its parent.
 *
 * Such a child has Blocks and views, and no table to say so in: no descriptor was free, the file
 * system was full, all slots were taken. So its parent says it: what the child inherited counts
 * as held once more in the parent's own table, until the child is gone. The kernel says when: a
 * byte of the file is locked through a description that nobody has a number of, only a page that
 * is mapped through it, and which forked children inherit. It is made when the process attaches,
 * so that nothing has to be had at the fork. Who gets a place unmaps its parent's page at once;
 * who gets none keeps it, and so do those forked from it, until they end or execute another
 * program. To ask, the parent makes a new page for the next children, lets go of the old one, and
 * looks whether its byte is still locked. Where it cannot make one it waits, and keeps all.
 *
 * When the parent dies, its slot is buried, except that its LIVE entries stay as they are while
 * one of its bytes is locked. models/fork.pml.
 */
#ifndef FST_REFS_HEIRS_H
#define FST_REFS_HEIRS_H

#include "region/region.h"

/* Make the page for the children that this process, or the one about to be forked, will fork.
 * FST_OS, FST_CLOSED. */
int fst_heirs_prepare(struct fst_arena *a, uint32_t slot, struct fst_description *out);

/* A child is about to be forked that gets no place: keep all that we hold. Under the mutex of the
 * references. */
void fst_heirs_keep(struct fst_arena *a);

/* Are such children gone? Then let go of what was kept for them alone: true. */
bool fst_heirs_ask(struct fst_arena *a);

/* Do we keep something for them? Whether a slot's process has some: fst_process_has_heirs. */
bool fst_heirs_any(const struct fst_arena *a);

/* In a forked child that has a place: begin anew, with the page that was made for it. */
void fst_heirs_forked(struct fst_arena *a, const struct fst_description *own);

#endif
