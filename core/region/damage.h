/* damage.h - shared memory that contradicts itself: how that is noticed, and what becomes of an
 * attachment that has noticed it.
 *
 * What other processes can write is never trusted to make sense. The constant part of the
 * superblock is copied when it is validated, and read from the copy (fst_arena.known); indexes,
 * bounds and links are checked where they are followed (region/region.h). Whoever meets a
 * contradiction notes it here: the first sentence stays with the attachment, and from then on every
 * call that could free or hand out memory fails with FST_CORRUPTED. Other processes find out for
 * themselves. No lock is needed, and nothing is repaired: a contradiction does not say which of its
 * sides is wrong.
 */
#ifndef FST_REGION_DAMAGE_H
#define FST_REGION_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define FST_STAND_IN_BYTES 4288u /* no descriptor is larger than this */

struct fst_arena;

/* What one attachment has noticed; it lies in this process's memory. */
struct fst_damage {
    uint32_t found;
    char text[256]; /* the first sentence */
    struct fst_arena *arena;
    uint8_t *stand_in; /* FST_STAND_IN_BYTES for each table, aligned as its descriptors are */
};

int fst_damage_create(struct fst_arena *a);
void fst_damage_destroy(struct fst_arena *a);

/* Note a contradiction; the sentence names the structure and its index. Only the first one is
 * kept. */
void fst_damaged(const struct fst_arena *a, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* FST_CORRUPTED with the contradiction that was noticed first, or FST_OK. */
int fst_damage(const struct fst_arena *a);

#endif
