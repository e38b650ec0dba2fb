/* damage.h - shared memory that contradicts itself: how it is noticed, and what becomes of an
 * attachment that has noticed it.
 *
 * What others can write is never trusted to be sane. The constant part of the superblock is copied
 * when it was validated, and read from the copy (fst_arena.known); indexes, bounds and links are
 * checked where they are followed (region/region.h). Whoever meets a contradiction notes it here:
 * the first sentence stays with the attachment, and from then on what could free or hand out memory
 * fails with FST_CORRUPTED. Other processes find out for themselves. No lock is needed, and nothing
 * is repaired: a contradiction does not say which side of it is wrong.
 */
#ifndef FST_REGION_DAMAGE_H
#define FST_REGION_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define FST_STAND_IN_BYTES 4288u /* no descriptor is larger */

struct fst_arena;

/* Process-local. */
struct fst_damage {
    uint32_t found;
    char text[256];
    struct fst_arena *arena;
    uint8_t *stand_in; /* FST_STAND_IN_BYTES for each table, aligned as they are */
};

int fst_damage_create(struct fst_arena *a);
void fst_damage_destroy(struct fst_arena *a);

/* Note a contradiction; the sentence names structure and index. */
void fst_damaged(const struct fst_arena *a, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* FST_CORRUPTED with what was noticed first, or FST_OK. */
int fst_damage(const struct fst_arena *a);

#endif
