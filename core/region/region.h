/* region.h - descriptors by index, the bounds of their tables, and walks along their links.
 *
 * An index is followed only into the committed part of its table. Any other index leads to a
 * stand-in in this process's memory, which is FREE and without links (fst_beyond): so no damage
 * makes an address outside of the table, and whoever follows it goes on to nothing. A bound that
 * only grows is compared with what this process has seen of it (fst_top). A walk along links ends
 * after as many steps as there are descriptors (fst_step). Each of these notes the damage
 * (region/damage.h).
 */
#ifndef FST_REGION_REGION_H
#define FST_REGION_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/atomics.h"
#include "region/damage.h"
#include "region/descriptors.h"
#include "region/forms.h"
#include "region/layout.h"
#include "region/processes.h"
#include "region/rings.h"
#include "region/stores.h"
#include "region/view.h"

/* ---- state words of slabs, caches, children, groups and processes ----
 *
 * They have the bits state:4 | 12 of its own kind | generation:48 (layout.h).
 */

static inline uint32_t fst_state(uint64_t word)
{
    return (uint32_t)(word & 15u);
}

static inline uint64_t fst_state_moved(uint64_t word, uint32_t state)
{
    return (word & ~15ull) | state;
}

/* The next life of a descriptor: generation + 1. */
static inline uint64_t fst_state_next(uint64_t word, uint32_t state)
{
    return (((word >> FST_STATE_GEN_SHIFT) + 1) << FST_STATE_GEN_SHIFT) | state;
}

/* Has this attachment noticed damage? */
static inline bool fst_is_damaged(const struct fst_arena *a)
{
    return __builtin_expect(fst_load_relaxed(&a->damage->found) != 0, 0);
}

/* `rc`, unless damage was noticed; then FST_CORRUPTED. */
static inline int fst_verdict(const struct fst_arena *a, int rc)
{
    return fst_is_damaged(a) ? fst_damage(a) : rc;
}

/* ---- descriptors by index ---- */

/* What people call the descriptors of a table. */
const char *fst_table_name(enum fst_table_kind kind);

/* The descriptor at an index beyond those that this process knew to be committed. More may be
 * committed by now; otherwise the arena is damaged, and the result is a stand-in. */
void *fst_beyond(const struct fst_arena *a, uint32_t kind, uint32_t index);

static inline uint32_t fst_room(const struct fst_arena *a, uint32_t kind)
{
    return fst_load_relaxed(&a->room[kind]); /* another thread may find more */
}

static inline void *fst_at(const struct fst_arena *a, uint32_t kind, uint32_t index, uint64_t size)
{
    if (__builtin_expect(index >= fst_room(a, kind), 0))
        return fst_beyond(a, kind, index);
    return a->table[kind] + index * size;
}

/* How many descriptors the table can have. */
static inline uint32_t fst_count(const struct fst_arena *a, uint32_t kind)
{
    return (uint32_t)a->known.tables[kind].count;
}

static inline struct fst_process *fst_process_at(const struct fst_arena *a, uint32_t slot)
{
    return (struct fst_process *)fst_at(a, FST_T_PROCESS, slot, sizeof(struct fst_process));
}

static inline struct fst_thread_slot *fst_thread_slot_at(const struct fst_arena *a, uint32_t slot)
{
    return (struct fst_thread_slot *)fst_at(a, FST_T_THREAD, slot, sizeof(struct fst_thread_slot));
}

static inline struct fst_inflight *fst_inflight_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_inflight *)fst_at(a, FST_T_INFLIGHT, index, sizeof(struct fst_inflight));
}

static inline struct fst_cache *fst_cache_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_cache *)fst_at(a, FST_T_CACHE, index, sizeof(struct fst_cache));
}

static inline struct fst_child *fst_child_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_child *)fst_at(a, FST_T_CHILD, index, sizeof(struct fst_child));
}

static inline struct fst_group *fst_group_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_group *)fst_at(a, FST_T_GROUP, index, sizeof(struct fst_group));
}

static inline struct fst_cgroup *fst_cgroup_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_cgroup *)fst_at(a, FST_T_CGROUP, index, sizeof(struct fst_cgroup));
}

static inline struct fst_channel *fst_channel_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_channel *)fst_at(a, FST_T_CHANNEL, index, sizeof(struct fst_channel));
}

static inline struct fst_store *fst_store_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_store *)fst_at(a, FST_T_STORE, index, sizeof(struct fst_store));
}

static inline struct fst_form *fst_form_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_form *)fst_at(a, FST_T_FORM, index, sizeof(struct fst_form));
}

static inline struct fst_zone *fst_zone_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_zone *)fst_at(a, FST_T_ZONE, index, sizeof(struct fst_zone));
}

/* Bytes of a slab descriptor of this class, its words included. */
static inline uint32_t fst_slab_bytes(uint32_t class)
{
    return (uint32_t)sizeof(struct fst_slab) + ((uint32_t)fst_slab_class_words[class] << fst_slab_class_shift[class]);
}

/* The class in a slab id that may be damaged: FST_SLAB_CLASSES, one more than there are, stands for
 * all that do not exist. */
static inline uint32_t fst_slab_class(uint32_t id)
{
    uint32_t class = FST_SLAB_ID_CLASS(id);
    return class < FST_SLAB_CLASSES ? class : FST_SLAB_CLASSES;
}

/* The descriptor of an id that fst_slab_id_ok has found to be one. */
static inline struct fst_slab *fst_slab_known(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = FST_SLAB_ID_CLASS(id);
    return (struct fst_slab *)(void *)(a->table[FST_T_SLAB + class] + (uint64_t)FST_SLAB_ID_INDEX(id) * fst_slab_bytes(class));
}

static inline struct fst_slab *fst_slab_at(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = fst_slab_class(id), index = FST_SLAB_ID_INDEX(id);
    if (__builtin_expect(index >= fst_room(a, FST_T_SLAB + class), 0))
        return (struct fst_slab *)fst_beyond(a, FST_T_SLAB + class, index);
    return (struct fst_slab *)(void *)(a->table[FST_T_SLAB + class] + (uint64_t)index * fst_slab_bytes(class));
}

/* ---- how many descriptors were ever used: bounds that only grow ---- */

/* Called when the shared word differs from what this process last saw of it: note what is new, or
 * the damage, and return the bound. */
uint32_t fst_top_moved(const struct fst_arena *a, uint32_t kind, const uint32_t *word);

static inline uint32_t fst_seen(const struct fst_arena *a, uint32_t kind)
{
    return fst_load_relaxed(&a->top[kind]);
}

static inline uint32_t fst_top(const struct fst_arena *a, uint32_t kind, const uint32_t *word)
{
    uint32_t top = fst_load_acquire(word);
    return __builtin_expect(top == fst_seen(a, kind), 1) ? top : fst_top_moved(a, kind, word);
}

/* Is the index below the bound? Mostly it is below what this process saw last. */
static inline bool fst_below(const struct fst_arena *a, uint32_t kind, uint32_t index, const uint32_t *word)
{
    return __builtin_expect(index < fst_seen(a, kind), 1) || index < fst_top(a, kind, word);
}

static inline bool fst_is_child(const struct fst_arena *a, uint32_t index)
{
    return fst_below(a, FST_T_CHILD, index, &a->sb->child_top);
}

static inline bool fst_is_group(const struct fst_arena *a, uint32_t index)
{
    return fst_below(a, FST_T_GROUP, index, &a->sb->group_top);
}

static inline bool fst_is_inflight(const struct fst_arena *a, uint32_t index)
{
    return fst_below(a, FST_T_INFLIGHT, index, &a->sb->inflight_top);
}

static inline uint32_t fst_process_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_PROCESS, &a->sb->process_top);
}

static inline uint32_t fst_thread_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_THREAD, &a->sb->thread_top);
}

static inline uint32_t fst_inflight_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_INFLIGHT, &a->sb->inflight_top);
}

static inline uint32_t fst_cache_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_CACHE, &a->sb->cache_top);
}

static inline uint32_t fst_child_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_CHILD, &a->sb->child_top);
}

static inline uint32_t fst_group_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_GROUP, &a->sb->group_top);
}

static inline uint32_t fst_cgroup_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_CGROUP, &a->sb->cgroup_top);
}

static inline uint32_t fst_channel_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_CHANNEL, &a->sb->channel_top);
}

static inline uint32_t fst_store_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_STORE, &a->sb->store_top);
}

static inline uint32_t fst_item_top(const struct fst_arena *a, uint32_t class)
{
    return fst_top(a, FST_T_ITEM + class, &a->sb->item_top[class]);
}

static inline uint32_t fst_form_top(const struct fst_arena *a)
{
    return fst_top(a, FST_T_FORM, &a->sb->form_top);
}

static inline uint32_t fst_zones(const struct fst_arena *a)
{
    return fst_top(a, FST_T_ZONE, &a->sb->zones);
}

static inline uint32_t fst_slab_top(const struct fst_arena *a, uint32_t class)
{
    return fst_top(a, FST_T_SLAB + class, &a->sb->slab_top[class]);
}

/* The bound of a table that is named by its kind. */
uint32_t fst_top_of(const struct fst_arena *a, uint32_t kind);

/* Was the descriptor at this bound in use already? Bounds are raised before that, so it would be
 * damage. */
bool fst_used_beyond(const struct fst_arena *a, uint32_t kind, uint32_t top);
/* Ask the same, and note the damage. */
bool fst_damaged_beyond(const struct fst_arena *a, uint32_t kind, uint32_t top);

/* For a process that attaches, and has seen no bound yet with which another could be compared: the
 * descriptor at each bound was never used, or FST_CORRUPTED. A process that believed in a bound
 * which was lowered would release what processes beyond it use. */
int fst_tops_check(const struct fst_arena *a);

/* How many entries of the process's table may be read. */
uint32_t fst_entry_top(const struct fst_arena *a, uint32_t slot);

/* ---- walks along links ---- */

/* fst_step: may a walk through descriptors of a table go to this index, after so many others?
 * False: the index is FST_NONE, or leads nowhere, or the walk goes in a circle. fst_lost decides
 * the doubtful cases, and notes the damage. */
bool fst_lost(const struct fst_arena *a, uint32_t kind, uint32_t index, uint32_t steps);

static inline bool fst_step(const struct fst_arena *a, uint32_t kind, uint32_t index, uint32_t *steps)
{
    if (index == FST_NONE)
        return false;
    return __builtin_expect(++*steps <= fst_seen(a, kind) && index < fst_seen(a, kind), 1) || !fst_lost(a, kind, index, *steps);
}

static inline bool fst_slab_step(const struct fst_arena *a, uint32_t id, uint32_t *steps)
{
    return id != FST_NONE && fst_step(a, FST_T_SLAB + fst_slab_class(id), FST_SLAB_ID_INDEX(id), steps);
}

/* Fail with FST_CLOSED because the cache or group of an allocation has ended; or with
 * FST_READONLY. */
int fst_owner_ended(const struct fst_arena *a);
int fst_is_readonly(const struct fst_arena *a);

/* Does the id name a descriptor that was ever used? For ids that come from outside. */
static inline bool fst_slab_id_ok(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = FST_SLAB_ID_CLASS(id);
    return class < FST_SLAB_CLASSES && fst_below(a, FST_T_SLAB + class, FST_SLAB_ID_INDEX(id), &a->sb->slab_top[class]);
}

/* The slab's number of objects, but no more than its descriptor has words. */
static inline uint32_t fst_slab_objects(const struct fst_slab *slab, uint32_t class)
{
    uint32_t n = fst_load_relaxed(&slab->objects);
    return n <= fst_slab_class_words[class] ? n : fst_slab_class_words[class];
}

static inline uint64_t *fst_slab_word(struct fst_slab *slab, uint32_t class, uint32_t object)
{
    return (uint64_t *)(void *)((uint8_t *)(slab + 1) + ((uint64_t)object << fst_slab_class_shift[class]));
}

static inline uint64_t fst_pages_of(uint64_t bytes)
{
    return (bytes + FST_PAGE - 1) >> FST_PAGE_SHIFT;
}

#endif
