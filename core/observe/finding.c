#include "observe/finding.h"

#include <stdarg.h>
#include <stdio.h>

#include "platform/atomics.h"
#include "process/slot.h"
#include "region/lock.h"

void fst_check_say(struct fst_check *c, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->findings++;
    if (c->found)
        c->found(c->context, text);
}

bool fst_check_state(struct fst_check *c, const char *what, uint32_t index, uint64_t state, uint32_t most)
{
    if (fst_state(state) <= most && !(state >> 4 & 0xfff))
        return true;
    fst_check_say(c, "%s %u: state %llx is none", what, index, (unsigned long long)state);
    return false;
}

void fst_check_lock(struct fst_check *c, const char *what, uint32_t index, const uint32_t *lock)
{
    uint32_t word = fst_load_acquire(lock), owner = fst_lock_owner(word);
    if (!word || (word & ~FST_LOCK_WAITERS) == FST_LOCK_ABANDONED)
        return;
    uint64_t state = owner < fst_process_top(c->a) ? fst_load_acquire(&fst_process_at(c->a, owner)->state) : 0;
    /* Lock words have the low bits of a generation, and the first generation is 1. */
    uint64_t lives = state >> FST_STATE_GEN_SHIFT, life = word >> FST_LOCK_GEN_SHIFT;
    bool was = lives > FST_LOCK_GEN_MASK || (life && life <= lives);
    if (!was && fst_load_acquire(lock) == word)
        fst_check_say(c, "%s %u: its lock says %x, which no process ever wrote", what, index, word);
}
