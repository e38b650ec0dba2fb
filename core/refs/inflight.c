#include "refs/inflight.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/mapping.h"
#include "refs/quota.h"
#include "refs/word.h"
#include "region/lock.h"
#include "region/table.h"

#define PROBES 64 /* entries looked at before the table grows instead */

/* Where this thread looks first; any value will do. */
static _Thread_local uint32_t cursor;

/* What is being put in flight. */
struct putting {
    uint64_t oid, generation;
    uint32_t group;
    uint32_t entry, tag; /* where it was put */
};

static inline bool try_put(struct fst_arena *a, struct fst_inflight *e, uint32_t index, struct putting *p)
{
    uint64_t empty = fst_load_relaxed(&e->word);
    if (empty & FST_INFLIGHT_LIVE)
        return false;
    /* An empty word keeps the tag of its next use, so that claiming it and choosing the tag are
     * one operation. */
    uint32_t use = fst_inflight_tag(empty);
    if (!fst_cas64(&e->word, &empty, fst_inflight_word(p->oid, use)))
        return false;
    /* PAIR(record): whoever reads what follows also sees that the entry has gone on. */
    fst_release_fence();
    fst_store_relaxed(&e->generation, p->generation);
    fst_store_relaxed(&e->sent_at, fst_now());
    fst_store_relaxed(&e->pid, a->self->pid);
    fst_store_relaxed(&e->sender, fst_lock_own_word(a));
    fst_store_relaxed(&e->group, p->group);
    memcpy(e->command, a->self->command, sizeof e->command);
    fst_store_release(&e->use, use + 1); /* PAIR(record) */
    p->entry = index;
    p->tag = use;
    cursor = index;
    return true;
}

/* Put into one of the entries [from, to), if one has become free. */
static bool put_between(struct fst_arena *a, uint32_t from, uint32_t to, struct putting *p)
{
    for (uint32_t i = from; i < to; i++)
        if (try_put(a, fst_inflight_at(a, i), i, p))
            return true;
    return false;
}

/* Put into one of the next entries from the cursor on. */
static bool put_near(struct fst_arena *a, uint32_t top, struct putting *p)
{
    uint32_t at = top ? cursor % top : 0;
    for (uint32_t i = 0; i < PROBES && i < top; i++, at = at + 1 < top ? at + 1 : 0) {
        struct fst_inflight *e = fst_inflight_at(a, at);
        if (!(fst_load_relaxed(&e->word) & FST_INFLIGHT_LIVE) && fst_quota_allows(a, at, p->group) && try_put(a, e, at, p))
            return true;
    }
    cursor = at;
    return false;
}

static int put(struct fst_arena *a, struct putting *p)
{
    for (;;) {
        uint32_t top = fst_inflight_top(a);
        if (put_near(a, top, p))
            return FST_OK;
        if (top < fst_count(a, FST_T_INFLIGHT) && fst_quota_allows(a, top, p->group)) {
            uint32_t more = top < FST_PAGE ? FST_PAGE / sizeof(struct fst_inflight) : FST_PAGE;
            uint32_t want = fst_count(a, FST_T_INFLIGHT) - top < more ? fst_count(a, FST_T_INFLIGHT) : top + more;
            int rc = fst_table_commit(a, FST_T_INFLIGHT, want);
            if (rc == FST_FULL && fst_last_errno()) {
                char why[600];
                snprintf(why, sizeof why, "%s has no room for more in-flight entries", fst_commit_refused_by());
                return fst_quota_full(a, p->group, why);
            }
            if (rc)
                return rc;
            if (fst_cas32(&a->sb->inflight_top, &top, want))
                cursor = top;
            continue;
        }
        uint32_t open = FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT));
        open = top < open ? top : open;
        if (put_between(a, 0, open, p) || (top > open && fst_quota_spend(a, p->group) && put_between(a, open, top, p)))
            return FST_OK;
        return fst_quota_full(a, p->group, "no in-flight entry is left for this sender and group");
    }
}

int fst_inflight_put(struct fst_arena *a, uint64_t oid, uint64_t generation, uint32_t group, uint32_t *entry, uint32_t *tag)
{
    struct putting p = {.oid = oid, .generation = generation, .group = group};
    int rc = put(a, &p);
    *entry = p.entry;
    *tag = p.tag;
    return rc;
}

static uint64_t next_use(uint64_t word)
{
    uint32_t tag = (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT);
    return (uint64_t)((tag + 1) & FST_INFLIGHT_TAG_MASK) << FST_INFLIGHT_TAG_SHIFT;
}

bool fst_inflight_end(struct fst_arena *a, uint32_t entry, uint64_t word)
{
    return fst_cas64(&fst_inflight_at(a, entry)->word, &word, next_use(word));
}

bool fst_inflight_give_up(struct fst_arena *a, uint32_t entry, uint64_t word, enum fst_inflight_why why)
{
    /* A kill after this store, or a taker that was quicker, does no harm: the reason is read only
     * where the message cannot be taken any more. */
    fst_store_relaxed(&fst_inflight_at(a, entry)->ended, fst_inflight_tag(word) | (uint32_t)why << 24);
    return fst_inflight_end(a, entry, word);
}

uint64_t fst_inflight_age(const struct fst_inflight *e, uint64_t word)
{
    if (!fst_inflight_said(e, word))
        return 0;
    uint64_t now = fst_now(), sent = fst_load_relaxed(&e->sent_at);
    return now > sent ? now - sent : 0;
}

bool fst_inflight_sender(const struct fst_inflight *e, uint64_t word, int32_t *pid, char command[16], uint64_t *age)
{
    bool said = fst_inflight_said(e, word) && fst_inflight_has_sender(e);
    *pid = said ? fst_load_relaxed(&e->pid) : 0;
    memcpy(command, e->command, sizeof e->command);
    command[said ? sizeof e->command - 1 : 0] = 0;
    *age = fst_inflight_age(e, word);
    fst_acquire_fence(); /* PAIR(record) */
    return fst_load_relaxed(&e->word) == word;
}

void fst_inflight_date(struct fst_arena *a)
{
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_inflight *e = fst_inflight_at(a, i);
        uint64_t word = fst_load_acquire(&e->word);
        uint32_t use = fst_load_acquire(&e->use);
        uint64_t oid = fst_inflight_oid(word);
        if (!(word & FST_INFLIGHT_LIVE) || fst_inflight_said(e, word))
            continue;
        fst_store_relaxed(&e->sent_at, fst_now());
        fst_store_relaxed(&e->group, fst_word_of(a, oid) ? fst_inflight_group_of(a, oid) : FST_NONE);
        /* A sender that lives will still say so: `use` is then its own again. */
        fst_cas32(&e->use, &use, (fst_inflight_tag(word) + 1) | FST_INFLIGHT_UNSAID);
    }
}

bool fst_inflight_take(struct fst_arena *a, uint32_t entry, uint32_t tag, uint64_t oid)
{
    if (!fst_is_inflight(a, entry) || tag > FST_INFLIGHT_TAG_MASK)
        return false;
#ifdef FST_MUTANT_NO_TAG
    tag = (uint32_t)(fst_load_relaxed(&fst_inflight_at(a, entry)->word) >> FST_INFLIGHT_TAG_SHIFT);
#endif
    return fst_inflight_end(a, entry, fst_inflight_word(oid, tag));
}

int fst_inflight_stale(struct fst_arena *a, const struct fst_message *m)
{
    static const char *const reasons[] = {
        [FST_INFLIGHT_LOADED] =
            "it was taken before: a message is good for one load, and for more only while somebody holds the object",
        [FST_INFLIGHT_DROPPED] = "it was dropped as lost (drop_in_flight) before it was taken",
        [FST_INFLIGHT_EXPIRED] = "it expired: nobody took it in the time that its group gives messages (messages_expire)",
        [FST_INFLIGHT_DESTROYED] = "its group or cache was destroyed before it was taken",
    };
    uint32_t why = FST_INFLIGHT_LOADED;
    if (m->entry == FST_NONE)
        why = FST_INFLIGHT_DESTROYED;
    else if (fst_is_inflight(a, m->entry)) {
        uint32_t ended = fst_load_relaxed(&fst_inflight_at(a, m->entry)->ended);
        if ((ended & FST_INFLIGHT_TAG_MASK) == m->tag && ended >> 24 <= FST_INFLIGHT_DESTROYED)
            why = ended >> 24;
    }
    return fst_fail(FST_STALE, "the message's object in arena %s is gone, nobody holds it any more, and %s", fst_arena_called(a),
                    reasons[why]);
}
