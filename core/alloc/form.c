#include "alloc/form.h"

#include <string.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "rcu/thread.h"
#include "region/table.h"

/* FNV-1a, which serves for finding a form and for finding damage. */
static uint32_t hash_of(const char *text, size_t text_bytes, uint64_t nbytes)
{
    uint64_t h = 0xcbf29ce484222325ull ^ nbytes;
    for (size_t i = 0; i < text_bytes; i++)
        h = (h ^ (uint8_t)text[i]) * 0x100000001b3ull;
    return (uint32_t)(h ^ h >> 32);
}

const struct fst_form *fst_form_find(const struct fst_arena *a, uint32_t form)
{
    if (!fst_below(a, FST_T_FORM, form - 1, &a->sb->form_top))
        return NULL;
    const struct fst_form *f = fst_form_at(a, form - 1);
    return fst_load_acquire(&f->state) == FST_FORM_READY ? f : NULL;
}

bool fst_form_sound(const struct fst_form *f)
{
    return f->text_bytes <= FST_FORM_TEXT && hash_of(f->text, f->text_bytes, f->nbytes) == f->hash;
}

/* ---- interning ---- */

/* The number of the form in the bucket that begins with `first`; 0: it is not there. */
static uint32_t look_up(const struct fst_arena *a, uint32_t first, uint32_t hash, const char *text, size_t text_bytes,
                        uint64_t nbytes)
{
    uint32_t steps = 0;
    for (uint32_t i = first - 1; fst_step(a, FST_T_FORM, i, &steps);) {
        const struct fst_form *f = fst_form_at(a, i);
        if (f->hash == hash && f->nbytes == nbytes && f->text_bytes == text_bytes && memcmp(f->text, text, text_bytes) == 0)
            return i + 1;
        i = fst_load_relaxed(&f->next) - 1;
    }
    return 0;
}

/* Claim a place in the table that nobody else has: its number. 0: there is no room, or another
 * thread has claimed one meanwhile, so that the top moved on. */
static uint32_t claim(struct fst_arena *a, uint32_t top)
{
    if (top >= FST_MAX_FORMS || fst_table_commit(a, FST_T_FORM, top + 1ull) != FST_OK)
        return 0;
    uint32_t seen = top; /* PAIR(bound): what the bound admits was committed before */
    return fst_cas32(&a->sb->form_top, &seen, top + 1) ? top + 1 : 0;
}

int fst_form_intern(fst_arena *a, const char *text, size_t text_bytes, uint64_t nbytes, bool again, uint32_t *form)
{
    *form = 0;
    int rc = fst_thread_usable(a);
    if (rc || text_bytes > FST_FORM_TEXT)
        return rc;
    uint32_t hash = hash_of(text, text_bytes, nbytes), made = 0;
    uint32_t *bucket = (uint32_t *)(void *)a->table[FST_T_FORM_NAMES] + hash % FST_FORM_BUCKETS;
    while (!fst_is_damaged(a)) {
        uint32_t top = fst_form_top(a), first = fst_load_acquire(bucket);
        *form = look_up(a, first, hash, text, text_bytes, nbytes);
        if (*form)
            break; /* a place that this thread has claimed stays nobody's */
        if (!made) {
            if (!again && top >= FST_MAX_FORMS / 2)
                return fst_verdict(a, FST_OK);
            made = claim(a, top);
            if (!made && fst_form_top(a) == top)
                return fst_verdict(a, FST_OK); /* no room */
            /* Look for the form again, because somebody may just have made it. */
            continue;
        }
        struct fst_form *f = fst_form_at(a, made - 1);
        if (fst_load_relaxed(&f->state) == FST_FORM_FREE) {
            memcpy(f->text, text, text_bytes);
            f->nbytes = nbytes;
            f->hash = hash;
            f->text_bytes = (uint32_t)text_bytes;
        }
        fst_store_relaxed(&f->next, first);
        fst_store_release(&f->state, FST_FORM_READY);
        if (fst_cas32(bucket, &first, made)) { /* PAIR(form) */
            *form = made;
            break;
        }
    }
    return fst_verdict(a, FST_OK);
}

/* ---- the form of an object ---- */

static int damaged(struct fst_arena *a, uint64_t word, const char *what)
{
    fst_damaged(a, "an object's word %016llx says that it is of form %u, %s", (unsigned long long)word, fst_form_in(word), what);
    return fst_damage(a);
}

/* Fail because of memory in which users may write: the arena itself is as sound as before. */
static int overwritten(uint64_t whole)
{
    return fst_fail(FST_CORRUPTED, "what an object of %s means was overwritten behind its bytes", fst_exact(whole));
}

static bool behind(const uint8_t *data, uint64_t whole, struct fst_form_behind *out)
{
    if (whole < sizeof *out)
        return false;
    memcpy(out, data + whole - sizeof *out, sizeof *out);
    uint64_t room = whole - sizeof *out;
    return out->text_bytes <= room && out->nbytes <= room - out->text_bytes;
}

int fst_form_nbytes(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, uint64_t *nbytes)
{
    uint32_t form = fst_form_in(word);
    struct fst_form_behind tail;
    if (form == FST_FORM_OWN) {
        if (!behind(data, whole, &tail))
            return overwritten(whole);
        *nbytes = tail.nbytes;
        return FST_OK;
    }
    const struct fst_form *f = fst_form_find(a, form);
    if (!f)
        return damaged(a, word, "which there is not");
    *nbytes = f->nbytes;
    return *nbytes <= whole ? FST_OK : damaged(a, word, "whose objects are larger");
}

void fst_form_put_behind(uint8_t *data, uint64_t whole, uint64_t nbytes, const char *text, size_t text_bytes)
{
    struct fst_form_behind tail = {nbytes, (uint32_t)text_bytes, hash_of(text, text_bytes, nbytes)};
    memcpy(data + whole - sizeof tail - text_bytes, text, text_bytes);
    memcpy(data + whole - sizeof tail, &tail, sizeof tail);
}

int fst_form_text_of(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, char *out, size_t room,
                     size_t *text_bytes)
{
    uint32_t form = fst_form_in(word), hash;
    struct fst_form_behind tail;
    const char *text;
    uint64_t nbytes;
    if (form == FST_FORM_OWN) {
        if (!behind(data, whole, &tail))
            return overwritten(whole);
        text = (const char *)data + whole - sizeof tail - tail.text_bytes;
        *text_bytes = tail.text_bytes;
        hash = tail.hash;
        nbytes = tail.nbytes;
    } else {
        const struct fst_form *f = fst_form_find(a, form);
        if (!f || f->text_bytes > FST_FORM_TEXT)
            return damaged(a, word, "which there is not");
        text = f->text;
        *text_bytes = f->text_bytes;
        hash = f->hash;
        nbytes = f->nbytes;
    }
    memcpy(out, text, *text_bytes < room ? *text_bytes : room);
    /* The copy is hashed, because users may be writing the original. */
    if (*text_bytes > room || hash_of(out, *text_bytes, nbytes) == hash)
        return FST_OK;
    return form == FST_FORM_OWN ? overwritten(whole) : damaged(a, word, "whose text was overwritten");
}
