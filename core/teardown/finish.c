#include "teardown/finish.h"

#include "platform/atomics.h"
#include "refs/word.h"
#include "teardown/end.h"

void fst_finish_unreferenced(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_group_top(a); i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE && !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED))
            fst_end_unreferenced(a, i);
    }
}
