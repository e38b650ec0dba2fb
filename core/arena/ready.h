/* ready.h - may somebody who waits at a channel, topic, store or lock go on? True also where the
 * call that follows says what is wrong. Calls are counted meanwhile (channel/use.h).
 */
#ifndef FST_ARENA_READY_H
#define FST_ARENA_READY_H

#include "flagstone.h"

bool fst_channel_ready(const fst_channel_use *u, bool taker);
/* `sub` NULL: a publisher. */
bool fst_topic_ready(const fst_channel_use *u, const struct fst_subscription *sub);
/* `owner`: ask the kernel, too, whether the owner lives. */
bool fst_named_lock_ready(const fst_channel_use *u, bool owner);
bool fst_store_changed(const fst_store_use *u, uint64_t version);
/* Say that this thread is about to sleep until the store changes; a full barrier. The result is
 * what the store's `sleepers` say meanwhile. */
uint32_t fst_store_say_asleep(const fst_store_use *u);

#endif
