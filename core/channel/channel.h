/* channel.h - descriptors of channels: who is found by which name, and when one ends.
 *
 *   FREE  -> LIVE   who opens a name that there is none of, under names_lock, with its ring ready
 *   LIVE  -> ENDED  destroy(); a batch that finds its group destroyed, or that no process has it
 *                   open. Its name is free
 *   ENDED -> FREE   a batch, when its nodes refer to nothing and nobody refers to its ring
 *
 * Descriptors are few, and looked through: there is no table of names to rebuild. The ring is an
 * object of the cache FST_CACHE_CHANNELS, which a batch frees only here: what is in its nodes has
 * to go first (reclaim/letters.h).
 */
#ifndef FST_CHANNEL_CHANNEL_H
#define FST_CHANNEL_CHANNEL_H

#include "alloc/registry.h"
#include "channel/ring.h"
#include "region/region.h"

/* What a name is one of: channels, topics and locks do not see each other's. */
#define FST_CHANNEL_KIND (FST_CHANNEL_TOPIC | FST_CHANNEL_LOCK)

/* The live channel of this name, of the kind that the flags say, or FST_NONE. Under names_lock. */
uint32_t fst_channel_find(struct fst_arena *a, const char *name, uint32_t flags);

/* A FREE descriptor; FST_NONE: commit more (fst_channel_grow) and try again. Under names_lock. */
uint32_t fst_channel_new(struct fst_arena *a);
int fst_channel_grow(struct fst_arena *a);

/* Does the id name a live channel? */
bool fst_channel_known(const struct fst_arena *a, uint64_t id, uint32_t *index);

/* LIVE becomes ENDED. Under names_lock; who has it open is told by who called. */
void fst_channel_end(struct fst_arena *a, uint32_t index);

/* To read the ring of a live channel, which does not end meanwhile: true holds names_lock. */
bool fst_channel_look(struct fst_arena *a, uint32_t index, struct fst_ring_view *v);
void fst_channel_looked(struct fst_arena *a, struct fst_ring_view *v);

/* Is the object a ring? */
bool fst_channel_is_ring(const struct fst_arena *a, uint64_t oid);

/* The channel whose ring this is, or FST_NONE. */
uint32_t fst_channel_of_ring(struct fst_arena *a, uint64_t oid);

/* Is it the ring of a live channel that is lasting, or of a lock that somebody owns, or owned when
 * it died? Then it needs nobody. */
bool fst_channel_lasts(struct fst_arena *a, uint64_t oid);

/* A batch has found that no process refers to the ring: its word is CONDEMNED after the scan. End
 * its channel, unless somebody was quicker to open it. False: it is no channel's, its maker was
 * killed. Takes names_lock. */
bool fst_channel_unreferenced(struct fst_arena *a, uint64_t oid, uint64_t *word);

#endif
