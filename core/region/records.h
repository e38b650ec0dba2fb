/* records.h - what lies around an object of a cache that is debugged, in shared memory
 * (alloc/debug.h says what it is for, and who writes it).
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

/* Bytes that a cache of one size has behind each object: a zone of 9 to 16 bytes, and the
 * record. */
#define FST_DEBUG_BEHIND 80u

#define FST_DEBUG_ZONE   0xccu /* a byte of the zones on both sides of the record */
#define FST_DEBUG_BEFORE 0xbbu /* a byte of the zone before the next object, in the record */
/* a byte of an object that was freed; its last byte is FST_DEBUG_END */
#define FST_DEBUG_FREE  0x6bu
#define FST_DEBUG_END   0xa5u
#define FST_DEBUG_FRESH 0x5au /* a byte of an object that was allocated, and never written */

enum fst_debug_state {
    FST_DEBUG_CHANGING = 0x6e616863, /* nothing is to be compared; a kill may leave it so, too */
    FST_DEBUG_IS_FREE = 0x65657266,
    FST_DEBUG_IS_USED = 0x64657375,
};

#define FST_DEBUG_SAID  1u /* what is wrong with the object was reported, in this life of it */
#define FST_DEBUG_TWICE 2u /* the object was freed twice; until it is allocated again */

/* `state` is written before and after everything else. The other fields are for people: pids and
 * threads in their own namespace, times in ns since boot, and numbers of sites
 * (fst_debug_site_add), 0 when not known.
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
    uint64_t freed_at; /* when it was dropped last */
    uint64_t pad;
    uint8_t before[8];
};
static_assert(sizeof(struct fst_debug_record) == 64, "layout");

#endif
