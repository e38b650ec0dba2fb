#include "refs/heirs.h"

#include <errno.h>
#include <unistd.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "process/slot.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/file.h"

static off_t byte_of(uint32_t slot)
{
    return FST_LOCK_HEIRS + (off_t)slot * FST_HEIRS_BYTES;
}

int fst_heirs_prepare(struct fst_arena *a, uint32_t slot, struct fst_description *out)
{
    struct fst_description d = {.fd = fst_file_reopen(a)};
    if (d.fd < 0)
        return fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
    /* Some bytes may be locked by children of a process that had the slot before. */
    bool good = false;
    for (int k = 0; k < FST_HEIRS_BYTES && !good; k++) {
        d.mark = byte_of(slot) + k;
        good = fst_liveness_try(d.fd, d.mark, 1);
    }
    errno = EAGAIN;
    good = good && fst_description_keep(&d, false);
    int error = errno;
    close(d.fd); /* the page keeps it */
    d.fd = -1;
    *out = d;
    return good ? FST_OK : fst_fail_errno(FST_OS, error, "cannot prepare for forked children");
}

/* Set the flag by which people in other processes see it. */
static void say(struct fst_arena *a)
{
    fst_process_set_flags(a->self, FST_PROCESS_HEIRS, fst_heirs_any(a) ? FST_PROCESS_HEIRS : 0);
}

void fst_heirs_keep(struct fst_arena *a)
{
    struct fst_heirs *h = &a->heirs;
#ifdef FST_MUTANT_NO_HEIRS
    return;
#endif
    h->kept[h->turn] += fst_refs_keep(a, h->turn);
    say(a);
}

bool fst_heirs_any(const struct fst_arena *a)
{
    return fst_load_relaxed(&a->heirs.kept[0]) || fst_load_relaxed(&a->heirs.kept[1]);
}

static void let_go(struct fst_arena *a, uint32_t turn, bool *any)
{
    if (fst_refs_let_go(a, turn)) {
        fst_add32(&a->self->dropped, 1);
        *any = true;
    }
}

/* Give the next children another page: whether those who have the old one live, its byte tells from
 * now on. */
static bool renew(struct fst_arena *a)
{
    struct fst_heirs *h = &a->heirs;
    struct fst_description next;
    if (fst_heirs_prepare(a, a->slot, &next))
        return false;
    /* no fork meanwhile, whose child would inherit both pages */
    pthread_mutex_lock(&a->refs->mutex);
    bool good = fst_description_inherit(&next);
    if (good) {
        h->before = h->now.mark;
        fst_description_unmap(&h->now);
        h->now = next;
        h->turn ^= 1;
    }
    pthread_mutex_unlock(&a->refs->mutex);
    if (!good)
        fst_description_unmap(&next);
    return good;
}

bool fst_heirs_ask(struct fst_arena *a)
{
    struct fst_heirs *h = &a->heirs;
    bool any = false;
    if (!fst_heirs_any(a) || fst_swap32(&h->asking, 1))
        return false;
    for (int i = 0; i < 2; i++) {
        uint32_t old = h->turn ^ 1;
        if (h->kept[old]) {
            if (fst_file_find(a, h->before, 1) >= 0)
                break;
            let_go(a, old, &any);
        }
        if (!h->kept[h->turn] || !renew(a))
            break;
    }
    say(a);
    fst_store_release(&h->asking, 0);
    return any;
}

void fst_heirs_forked(struct fst_arena *a, const struct fst_description *own)
{
    struct fst_heirs *h = &a->heirs;
    fst_description_unmap(&h->now);
    *h = (struct fst_heirs){.now = *own};
}
