/* channel.h - descriptors of channels: who is found by which name, and when one ends.
 *
 *   FREE  -> LIVE   by whoever opens a name that no channel has, under names_lock, with its ring
 *                   ready
 *   LIVE  -> ENDED  by destroy(), or by a batch that finds its group destroyed, or that no process
 *                   has it open; its name is free then
 *   ENDED -> FREE   by a batch, when its nodes refer to nothing and nobody refers to its ring
 *
 * There are few descriptors, and all are looked through: so there is no table of names to rebuild.
 * The ring is an object of the cache FST_CACHE_CHANNELS. A batch frees it only here, because what
 * its nodes refer to has to go first (reclaim/letters.h).
 */
#ifndef FST_CHANNEL_CHANNEL_H
#define FST_CHANNEL_CHANNEL_H

#include "alloc/registry.h"
#include "channel/ring.h"
#include "region/region.h"

/* The flags that make a name of a kind: channels, topics and locks do not see each other's
 * names. */
#define FST_CHANNEL_KIND (FST_CHANNEL_TOPIC | FST_CHANNEL_LOCK)

/* The live channel of this name, of the kind that the flags say, or FST_NONE. Under names_lock. */
uint32_t fst_channel_find(struct fst_arena *a, const char *name, uint32_t flags);

/* A FREE descriptor. FST_NONE: commit more (fst_channel_grow) and try again. Under names_lock. */
uint32_t fst_channel_new(struct fst_arena *a);
int fst_channel_grow(struct fst_arena *a);

/* Does the id name a live channel? */
bool fst_channel_known(const struct fst_arena *a, uint64_t id, uint32_t *index);

/* Make a LIVE channel ENDED, and tell those who have it open where this process can. Under
 * names_lock. */
void fst_channel_end(struct fst_arena *a, uint32_t index);

/* Read the ring of a live channel, which does not end meanwhile. True: names_lock is held until
 * fst_channel_looked. A ring may have a million nodes and more: who goes through them gives the
 * lock back after each lot, and looks anew. */
#define FST_CHANNEL_LOT 64u
bool fst_channel_look(struct fst_arena *a, uint32_t index, struct fst_ring_view *v);
void fst_channel_looked(struct fst_arena *a, struct fst_ring_view *v);

/* Is the object a ring? */
bool fst_channel_is_ring(const struct fst_arena *a, uint64_t oid);

/* The channel whose ring this is, or FST_NONE. */
uint32_t fst_channel_of_ring(struct fst_arena *a, uint64_t oid);

/* Is the object the ring of a live channel that is lasting, or of a lock that somebody owns, or
 * owned when it died? Then the channel lives without a process that has it open. */
bool fst_channel_lasts(struct fst_arena *a, uint64_t oid);

/* A batch has found that no process refers to the ring, whose word is CONDEMNED after the scan: end
 * its channel, unless somebody was quicker to open it. False: it is no channel's ring, because its
 * maker was killed. It acquires names_lock. */
bool fst_channel_unreferenced(struct fst_arena *a, uint64_t oid, uint64_t *word);

#endif
