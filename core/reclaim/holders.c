#include "reclaim/holders.h"

#include "platform/futex.h"
#include "rcu/grace.h"

uint64_t fst_holders_looks(const struct fst_arena *a, uint64_t most)
{
#ifdef FST_MUTANT_LOOKS_UNCOUNTED
    return 0;
#endif
    uint64_t looks = fst_shelves_looks(a);
    return looks > most ? looks : looks + fst_letters_looks(a, most - looks);
}

int fst_holders_ask(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_letters *l, const struct fst_scan *scan,
                    struct fst_holders_wait *wait)
{
    uint64_t began = fst_now();
    /* PAIR(reference): the scan sees the entry of whoever has looked at a word before it was
     * condemned. */
    fst_full_fence();
    int rc = fst_grace_wait(a, fst_load_seq_cst(&a->sb->gp_seq), wait->timeout, wait->stop);
    if (rc)
        return rc;
    wait->waited = fst_now() - began;
    fst_shelves_scan(a, sh, scan);
    fst_letters_scan(a, l, scan);
    return fst_scan(a, scan, fst_holders_looks(a, UINT32_MAX)) ? FST_OK : FST_OS;
}
