#include "alloc/fault.h"

#include <pthread.h>
#include <string.h>

#include "platform/atomics.h"
#include "platform/futex.h"
#include "refs/reftable.h"

#define KEPT   64u /* faults that this process keeps until they are asked for */
#define FAULTS (sizeof((struct fst_superblock *)0)->fault_log / sizeof(struct fst_fault_record))

static pthread_mutex_t faults_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fst_fault faults[KEPT];
/* numbers of faults found, and of faults asked for; under the mutex */
static uint64_t faults_begun, faults_told;
static uint32_t faults_count; /* faults_begun, read without the mutex */

static fst_debug_heard *hear; /* whom to call; under the mutex, too */

void fst_debug_hear(fst_debug_heard *heard)
{
    pthread_mutex_lock(&faults_mutex);
    hear = heard;
    pthread_mutex_unlock(&faults_mutex);
}

void fst_fault_find_holders(struct fst_arena *a, struct fst_fault *f)
{
    uint32_t slots[4];
    size_t n = fst_refs_holders(a, f->about.oid, slots, 4);
    for (size_t i = 0; i < n && i < 4; i++)
        f->holders[i] = fst_load_relaxed(&fst_process_at(a, slots[i])->pid);
}

/* What the arena keeps of a fault. Each line is a field of the record, and where it is in `f`, the
 * fault, or `o`, the object. */
#define KEPT_FIELDS(FIELD)                   \
    FIELD(count, f->count)                   \
    FIELD(offset, f->offset)                 \
    FIELD(finder, f->finder)                 \
    FIELD(found_bytes, f->found_bytes)       \
    FIELD(oid, o->oid)                       \
    FIELD(cache, o->cache)                   \
    FIELD(group, o->group)                   \
    FIELD(nbytes, o->nbytes)                 \
    FIELD(allocated_at, o->allocated_at)     \
    FIELD(freed_at, o->freed_at)             \
    FIELD(allocated_site, o->allocated_site) \
    FIELD(freed_site, o->freed_site)         \
    FIELD(pid, o->pid)                       \
    FIELD(freed_pid, o->freed_pid)           \
    FIELD(thread, o->thread)                 \
    FIELD(freed_thread, o->freed_thread)

#define WRITE(field, from) fst_store_relaxed(&r->field, from);
#define READ(field, to)    (to) = fst_load_relaxed(&r->field);

/* Write a fault into the arena's log. Two threads that write at once have numbers of their own. A
 * kill in between leaves a record that says nothing. */
static void write_down(struct fst_arena *a, const struct fst_fault *f)
{
    uint64_t number = fst_add64(&a->sb->faults, 1) + 1;
    struct fst_fault_record *r = &a->sb->fault_log[number % FAULTS];
    const struct fst_debug_info *o = &f->about;
    fst_store_relaxed(&r->number, 0);
    fst_release_fence(); /* PAIR(record): whoever reads what follows also sees the 0 */
    fst_store_relaxed(&r->found_at, f->found_at);
    KEPT_FIELDS(WRITE)
    fst_store_relaxed(&r->kind, (uint32_t)f->kind);
    fst_store_relaxed(&r->expected, (uint32_t)f->expected);
    for (int i = 0; i < 4; i++)
        fst_store_relaxed(&r->holders[i], f->holders[i]);
    memcpy(r->found, f->found, sizeof r->found);
    fst_store_release(&r->number, number); /* PAIR(record) */
}

static bool read_down(const struct fst_arena *a, uint64_t number, struct fst_fault *f)
{
    const struct fst_fault_record *r = &a->sb->fault_log[number % FAULTS];
    struct fst_debug_info *o = &f->about;
    memset(f, 0, sizeof *f);
    if (fst_load_acquire(&r->number) != number) /* PAIR(record) */
        return false;
    memcpy(f->uuid, a->known.uuid, sizeof f->uuid);
    f->found_at = fst_load_relaxed(&r->found_at);
    KEPT_FIELDS(READ)
    f->kind = (enum fst_fault_kind)fst_load_relaxed(&r->kind);
    f->expected = (uint8_t)fst_load_relaxed(&r->expected);
    for (int i = 0; i < 4; i++)
        f->holders[i] = fst_load_relaxed(&r->holders[i]);
    memcpy(f->found, r->found, sizeof f->found);
    if (f->found_bytes > sizeof f->found)
        f->found_bytes = sizeof f->found;
    fst_acquire_fence(); /* PAIR(record) */
    return fst_load_relaxed(&r->number) == number;
}

size_t fst_debug_log(fst_arena *a, struct fst_fault *out, size_t max)
{
    uint64_t last = fst_load_acquire(&a->sb->faults);
    size_t n = 0;
    for (uint64_t i = 0; i < FAULTS && i < last && n < max; i++)
        n += read_down(a, last - i, &out[n]);
    return n;
}

void fst_debug_leaked(fst_arena *a, const struct fst_debug_info *about, uint64_t objects)
{
    struct fst_fault f = {.kind = FST_FAULT_LEAK, .about = *about, .count = objects};
    f.finder = a->self->pid;
    f.found_at = fst_now();
    write_down(a, &f);
}

void fst_fault_keep(struct fst_arena *a, struct fst_fault *fault)
{
    fault->finder = a->self->pid;
    fault->found_at = fst_now();
    fst_fault_find_holders(a, fault);
    write_down(a, fault);
    pthread_mutex_lock(&faults_mutex);
    faults[faults_begun++ % KEPT] = *fault;
    fst_own_store_relaxed(&faults_count, (uint32_t)faults_begun);
    fst_debug_heard *heard = hear;
    pthread_mutex_unlock(&faults_mutex);
    if (heard)
        heard();
}

void fst_fault_before_fork(void)
{
    pthread_mutex_lock(&faults_mutex);
}

void fst_fault_after_fork(bool child)
{
    if (child)
        faults_told = faults_begun;
    pthread_mutex_unlock(&faults_mutex);
}

uint32_t fst_debug_fault_count(void)
{
    return fst_load_relaxed(&faults_count);
}

size_t fst_debug_faults(struct fst_fault *out, size_t max, uint64_t *lost)
{
    size_t n = 0;
    pthread_mutex_lock(&faults_mutex);
    *lost = faults_begun - faults_told > KEPT ? faults_begun - faults_told - KEPT : 0;
    faults_told += *lost;
    while (n < max && faults_told < faults_begun)
        out[n++] = faults[faults_told++ % KEPT];
    pthread_mutex_unlock(&faults_mutex);
    return n;
}
