/* records.h - what lies around an object of a cache that is debugged, as it lies in shared memory
 * (alloc/debug.h says what for, and who writes it).
 *
 * The memory of one object, `whole` bytes of it:
 *      0              n              record         record + 64     whole
 *      | user's bytes | zone of 0xcc | record       | zone of 0xcc |
 * n: what was asked for. The record lies as far behind as it can, at a multiple of 8. Its last
 * eight bytes are the zone before the next object.
 */
#ifndef FST_REGION_RECORDS_H
#define FST_REGION_RECORDS_H

#include "region/layout.h"

/* Bytes that a cache of one size has behind each object: a zone of 9 to 16, and the record. */
#define FST_DEBUG_BEHIND 80u

#define FST_DEBUG_ZONE   0xccu
#define FST_DEBUG_BEFORE 0xbbu
#define FST_DEBUG_FREE   0x6bu /* a byte that was freed; the last one is */
#define FST_DEBUG_END    0xa5u
#define FST_DEBUG_FRESH  0x5au /* one that was allocated, and never written */

enum fst_debug_state {
    FST_DEBUG_CHANGING = 0x6e616863, /* nothing is to be compared; also what a kill leaves */
    FST_DEBUG_IS_FREE = 0x65657266,
    FST_DEBUG_IS_USED = 0x64657375,
};

#define FST_DEBUG_SAID  1u /* what is wrong with it was reported, in this life */
#define FST_DEBUG_TWICE 2u /* it was freed twice; until it is allocated again */

/* `state` is written before and after everything else. The rest is for people: pid and thread in
 * their own namespace, ns since boot, and the site's number (fst_debug_site_add), 0: not known.
 * struct fst_debug_record
 *      0       4                8            12    16          20       24             28     32
 *      | state | allocated_site | freed_site | pid | freed_pid | thread | freed_thread | said |
 *      32             40         48    56       64
 *      | allocated_at | freed_at | pad | before | */
struct fst_debug_record {
    uint32_t state;
    uint32_t allocated_site;
    uint32_t freed_site;
    int32_t pid;
    int32_t freed_pid;
    uint32_t thread;
    uint32_t freed_thread;
    uint32_t said; /* FST_DEBUG_SAID, FST_DEBUG_TWICE */
    uint64_t allocated_at;
    uint64_t freed_at; /* of whoever dropped it last */
    uint64_t pad;
    uint8_t before[8];
};
static_assert(sizeof(struct fst_debug_record) == 64, "layout");

#endif
