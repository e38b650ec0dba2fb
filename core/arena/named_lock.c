/* named_lock.c - locks for programs: found by name, and taken over from the dead.
 *
 * The word is one of region/lock.h, in the ring of a descriptor of its own kind: the protocol, and
 * its model, models/lock.pml, are the same. What the lock protects belongs to the program: so
 * whoever takes it over from a dead owner is told, and nothing is rebuilt.
 *
 * `holder` says which thread has the lock, so that a thread is told when it would wait for itself.
 * Only the owner writes it: after the word when it acquires, and before the word when it gives
 * back. So a thread finds its own name there only while it owns the lock.
 *
 * After a kill anywhere the word names the dead process, whatever `holder` says.
 */
#include <string.h>

#include "arena/channel.h"
#include "arena/ready.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "rcu/thread.h"
#include "region/lock.h"

static int usable(const struct fst_channel_use *u, struct fst_thread **t)
{
    struct fst_arena *a = u->v.a;
    *t = fst_thread_get(a);
    if (!*t || fst_is_damaged(a))
        return fst_thread_refused(a);
    if (fst_use_has_ended(&u->v))
        return fst_channel_ended(FST_CLOSED);
    return FST_OK;
}

/* Does a thread of this process own the lock? A forked child without a place in the arena has its
 * parent's slot, and owns nothing. */
static bool own(const struct fst_arena *a, uint32_t word)
{
    return a->usable && (word & ~FST_LOCK_WAITERS) == fst_lock_own_word(a);
}

int fst_named_lock_acquire(fst_channel_use *u, uint64_t timeout, bool *inherited)
{
    struct fst_ring *r = u->v.ring;
    struct fst_arena *a = u->v.a;
    struct fst_thread *t;
    int rc = usable(u, &t);
    if (rc)
        return rc;
    if (fst_load_relaxed(&r->holder) == t->name && own(a, fst_load_relaxed(&r->lock)))
        return fst_fail(FST_BUSY, "this thread owns the lock already");
    struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = timeout, .stop = &r->ended});
    enum fst_try got = fst_lock_untimed(a, &r->lock);
    fst_wait_for(before);
    if (got == FST_TRY_BUSY) {
        return fst_verdict(a, fst_use_has_ended(&u->v) ? fst_channel_ended(FST_CLOSED) : FST_WAIT);
    }
    fst_store_relaxed(&r->holder, t->name);
    *inherited = got == FST_TRY_TAKEN_OVER;
    return fst_verdict(a, FST_OK);
}

bool fst_named_lock_ready(const fst_channel_use *u, bool owner)
{
    struct fst_arena *a = u->v.a;
    if (!a->usable || fst_is_damaged(a) || fst_use_is_over(&u->v))
        return true;
    uint32_t word = fst_load_relaxed(&u->v.ring->lock);
    return !word || fst_use_has_ended(&u->v) || (owner && !fst_slot_alive(a, fst_lock_owner(word), word >> FST_LOCK_GEN_SHIFT));
}

int fst_named_lock_release(fst_channel_use *u)
{
    struct fst_ring *r = u->v.ring;
    struct fst_arena *a = u->v.a;
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    if (fst_use_is_over(&u->v))
        return FST_OK; /* nobody will own it any more */
    if (!own(a, fst_load_relaxed(&r->lock)))
        return fst_fail(FST_INVALID, "no thread of this process owns the lock");
    fst_store_relaxed(&r->holder, 0);
    fst_unlock(a, &r->lock);
    return FST_OK;
}

static void look(struct fst_arena *a, uint32_t word, struct fst_named_lock_owner *out)
{
    uint32_t slot = fst_lock_owner(word);
    memset(out, 0, sizeof *out);
    out->owned = word != 0;
    out->own = own(a, word);
    if (!out->owned)
        return;
    out->dead = !out->own && !fst_slot_alive(a, slot, word >> FST_LOCK_GEN_SHIFT);
    if (out->dead)
        return; /* its slot may be another process's by now */
    const struct fst_process *p = fst_process_at(a, slot);
    out->pid = p->pid;
    memcpy(out->command, p->command, sizeof out->command - 1);
}

void fst_named_lock_look(fst_channel_use *u, struct fst_named_lock_owner *out)
{
    look(u->v.a, fst_use_is_over(&u->v) ? 0 : fst_load_relaxed(&u->v.ring->lock), out);
}

bool fst_named_lock_look_at(fst_arena *a, uint64_t channel, struct fst_named_lock_owner *out)
{
    uint32_t index;
    struct fst_ring_view v;
    if (!fst_channel_known(a, channel, &index) || !(fst_channel_at(a, index)->flags & FST_CHANNEL_LOCK) ||
        !fst_channel_look(a, index, &v))
        return false;
    uint32_t word = fst_load_relaxed(&v.ring->lock);
    fst_channel_looked(a, &v);
    look(a, word, out);
    return true;
}
