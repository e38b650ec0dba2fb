#include "region/damage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "region/view.h"

#define ALIGN 64u /* bytes; the alignment of descriptors */
static_assert(FST_STAND_IN_BYTES % ALIGN == 0, "each stand-in is aligned");

int fst_damage_create(struct fst_arena *a)
{
    struct fst_damage *d = calloc(1, sizeof *d + (FST_T_COUNT + 1) * FST_STAND_IN_BYTES + ALIGN);
    if (!d)
        return fst_fail(FST_FULL, "out of memory");
    uint8_t *behind = (uint8_t *)(d + 1);
    d->stand_in = behind + (ALIGN - (uintptr_t)behind % ALIGN) % ALIGN;
    d->arena = a;
    a->damage = d;
    return FST_OK;
}

void fst_damage_destroy(struct fst_arena *a)
{
    free(a->damage);
    a->damage = NULL;
}

enum { NONE, WRITING, FOUND };

void fst_damaged(const struct fst_arena *a, const char *format, ...)
{
    struct fst_damage *d = a->damage;
    uint32_t none = NONE;
    if (!fst_own_cas32(&d->found, &none, WRITING))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(d->text, sizeof d->text, format, args);
    va_end(args);
    fst_own_store_release(&d->found, FOUND);
}

int fst_damage(const struct fst_arena *a)
{
    uint32_t found = fst_load_acquire(&a->damage->found);
    if (found == NONE)
        return FST_OK;
    return fst_fail(
        FST_CORRUPTED, "arena %s was overwritten: %s. Run `flagstone check`, end the processes that use it, and remove it",
        a->path[0] ? a->path : "(anonymous)", found == FOUND ? a->damage->text : "its structures contradict each other");
}
