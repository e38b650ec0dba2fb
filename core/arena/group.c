/* group.c - references to groups, and messages of groups; they work as those of objects do. */
#include "alloc/group.h"
#include "arena/handle.h"
#include "platform/error.h"
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"

void fst_group_unref(fst_arena *a, uint64_t group)
{
    if (fst_group_let_go(a, group))
        fst_reaper_dropped(a, 0);
}

uint32_t fst_group_entry(fst_arena *a, uint64_t group)
{
    uint32_t index, entry = fst_group_last_entry(a, group);
    struct fst_thread *t = fst_thread_get(a);
    if (entry != FST_NONE || !t || !fst_group_find(a, group, &index))
        return entry;
    uint64_t generation = fst_word_gen(fst_load_acquire(&fst_group_at(a, index)->word));
    if (fst_refs_get(a, t, fst_oid_group(index), generation, &entry))
        return FST_NONE;
    if (fst_refs_drop(a, entry)) /* the caller has no reference */
        fst_reaper_dropped(a, 0);
    return entry;
}

void fst_group_unref_at(fst_arena *a, uint64_t group, uint32_t entry)
{
    /* A forked child may not have been given the reference: then its entry does not have it. */
    uint64_t word = a->usable && entry < a->max_entries ? fst_load_relaxed(&a->entries[entry]) : 0;
    if (fst_entry_state(word) != FST_ENTRY_LIVE || fst_entry_oid(word) != fst_oid_group((uint32_t)group) ||
        !fst_refs_owners(a, entry))
        fst_group_unref(a, group);
    else if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
}

int fst_group_share(fst_arena *a, uint64_t group, struct fst_message *out)
{
    struct fst_thread *t = fst_thread_get(a);
    uint32_t entry;
    if (!t)
        return fst_thread_refused(a);
    int rc = fst_group_claim(t, group, &entry);
    if (rc)
        return rc;
    uint32_t index;
    /* Without the section, a group that is destroyed now might be another one by the time that its
     * message is written. */
    fst_section_enter(t);
    bool live =
        fst_group_find(a, group, &index) && fst_state(fst_load_acquire(&fst_group_at(a, index)->state)) != FST_GROUP_DESTROYED;
    rc = live ? fst_object_put_in_flight(a, fst_oid_group(index), entry, out) : fst_group_ended(a, group);
    fst_section_leave(t);
    if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
    fst_group_again(a, (uint32_t)group);
    return rc;
}

int fst_group_take(fst_arena *a, const struct fst_message *message, uint64_t *group)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return fst_thread_refused(a);
    int rc = fst_handle_check(a, &message->handle, true);
    if (rc)
        return rc;
    uint32_t entry, index = fst_oid_group_index(fst_handle_oid(&message->handle));
    bool took, dropped = false;
    rc = fst_claim_message(t, message, &entry, &took, &dropped);
    if (rc == FST_OK) {
        uint64_t state = fst_load_acquire(&fst_group_at(a, index)->state);
        *group = fst_id(index, state);
        /* The state belongs to the life of the group that was claimed, if the word still says so
         * after it. */
        fst_acquire_fence();
        uint64_t generation = fst_word_gen(fst_load_relaxed(&fst_group_at(a, index)->word));
        if (fst_state(state) == FST_GROUP_DESTROYED || generation != fst_handle_generation(&message->handle)) {
            dropped |= fst_refs_drop(a, entry);
            fst_group_again(a, index);
            rc = fst_fail(FST_CLOSED, "the group of the message, in arena %s, was destroyed", fst_arena_called(a));
        } else {
            fst_group_note_entry(a, *group, entry);
        }
    }
    if (dropped)
        fst_reaper_dropped(a, 0);
    return rc;
}
