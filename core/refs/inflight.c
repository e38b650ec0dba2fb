#include "refs/inflight.h"

#include <string.h>
#include <unistd.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "region/table.h"

#define PROBES 64 /* entries looked at before the table grows instead */

/* Where this thread looks first; any value does. */
static _Thread_local uint32_t cursor;

static bool try_put(struct fst_arena *a, uint32_t index, uint64_t oid, uint64_t generation, uint32_t *tag)
{
    struct fst_inflight *e = fst_inflight_at(a, index);
    uint64_t empty = fst_load_relaxed(&e->word);
    if (empty & FST_INFLIGHT_LIVE)
        return false;
    /* An empty word keeps the tag of its next use, so that claiming it and choosing the tag are one operation. */
    uint32_t use = (uint32_t)(empty >> FST_INFLIGHT_TAG_SHIFT);
    if (!fst_cas64(&e->word, &empty, fst_inflight_word(oid, use)))
        return false;
    fst_release_fence(); /* PAIR(record): whoever reads what follows sees that the entry has gone on */
    fst_store_relaxed(&e->generation, generation);
    fst_store_relaxed(&e->sent_at, fst_now());
    fst_store_relaxed(&e->pid, a->self->pid);
    memcpy(e->command, a->self->command, sizeof e->command);
    fst_store_release(&e->use, use + 1); /* PAIR(record) */
    *tag = use;
    return true;
}

int fst_inflight_put(struct fst_arena *a, uint64_t oid, uint64_t generation, uint32_t *entry, uint32_t *tag)
{
    for (;;) {
        uint32_t top = fst_inflight_top(a);
        uint32_t probes = top < PROBES || top == FST_MAX_INFLIGHT ? top : PROBES;
        for (uint32_t i = 0; i < probes; i++) {
            uint32_t index = (cursor + i) % top;
            if (try_put(a, index, oid, generation, tag)) {
                *entry = index;
                cursor = index;
                return FST_OK;
            }
        }
        cursor += probes;
        if (top == FST_MAX_INFLIGHT)
            return fst_fail(FST_FULL, "all %u in-flight entries of the arena are in use: messages were pickled and never taken",
                            FST_MAX_INFLIGHT);
        uint32_t more = top < FST_PAGE ? FST_PAGE / sizeof(struct fst_inflight) : FST_PAGE;
        uint32_t want = FST_MAX_INFLIGHT - top < more ? FST_MAX_INFLIGHT : top + more;
        int rc = fst_table_commit(a, FST_T_INFLIGHT, want);
        if (rc)
            return rc;
        if (fst_cas32(&a->sb->inflight_top, &top, want))
            cursor = top;
    }
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

uint64_t fst_inflight_age(const struct fst_inflight *e, uint64_t word)
{
    if (fst_load_acquire(&e->use) != (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT) + 1) /* PAIR(record) */
        return 0;
    uint64_t now = fst_now(), sent = fst_load_relaxed(&e->sent_at);
    return now > sent ? now - sent : 0;
}

bool fst_inflight_sender(const struct fst_inflight *e, uint64_t word, int32_t *pid, char command[16], uint64_t *age)
{
    bool said = fst_load_acquire(&e->use) == (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT) + 1; /* PAIR(record) */
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
        uint32_t use = fst_load_acquire(&e->use), now = (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT) + 1;
        if (!(word & FST_INFLIGHT_LIVE) || use == now)
            continue;
        fst_store_relaxed(&e->sent_at, fst_now());
        fst_cas32(&e->use, &use, now); /* a sender that lives says the same in a moment */
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
