#include "rcu/thread.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/error.h"
#include "region/table.h"

pthread_mutex_t fst_local_mutex = PTHREAD_MUTEX_INITIALIZER;
struct fst_thread fst_thread_none;
_Thread_local struct fst_thread *fst_thread_current = &fst_thread_none;

static pthread_key_t key;
static size_t behind_bytes;
static void (*start_hook)(struct fst_thread *t), (*exit_hook)(struct fst_thread *t);

/* All states of this thread, one for each arena; fst_thread_current is the one used last. */
static _Thread_local struct fst_thread *states;

struct fst_thread *fst_thread_states(void)
{
    return states;
}

static void at_thread_exit(void *unused)
{
    (void)unused;
    while (states) {
        struct fst_thread *t = states;
        states = t->next;
        pthread_mutex_lock(&fst_local_mutex);
        if (t->arena) {
            exit_hook(t);
            fst_thread_forget(t);
        }
        pthread_mutex_unlock(&fst_local_mutex);
        free(t);
    }
    fst_thread_current = &fst_thread_none;
}

int fst_threads_init(size_t behind, void (*at_start)(struct fst_thread *t), void (*at_exit)(struct fst_thread *t))
{
    behind_bytes = (behind + FST_LINE - 1) / FST_LINE * FST_LINE;
    start_hook = at_start;
    exit_hook = at_exit;
    int error = pthread_key_create(&key, at_thread_exit);
    return error ? fst_fail_errno(FST_OS, error, "no key is left to notice the end of threads by (PTHREAD_KEYS_MAX)") : FST_OK;
}

uint64_t fst_thread_owner(const struct fst_arena *a, uint32_t process)
{
    uint64_t generation = fst_load_relaxed(&fst_process_at(a, process)->state) >> FST_STATE_GEN_SHIFT;
    return (generation << 16) | (process + 1);
}

int fst_thread_slot_claim(struct fst_arena *a, uint32_t process, uint32_t *index)
{
    uint64_t mine = fst_thread_owner(a, process);
    for (uint32_t i = 0; i < FST_MAX_THREADS; i++) {
        uint32_t top = fst_thread_top(a);
        if (i >= top) {
            int rc = fst_table_commit(a, FST_T_THREAD, i + 1);
            if (rc)
                return rc;
            fst_cas32(&a->sb->thread_top, &top, i + 1);
        }
        struct fst_thread_slot *s = fst_thread_slot_at(a, i);
        uint64_t nobody = 0;
        if (fst_load_relaxed(&s->owner) == 0 && fst_cas64(&s->owner, &nobody, mine)) {
            *index = i;
            return FST_OK;
        }
    }
    return fst_fail(FST_FULL, "all %u thread slots of the arena %s are in use", FST_MAX_THREADS, fst_arena_called(a));
}

void fst_thread_slot_free(struct fst_arena *a, uint32_t index)
{
    struct fst_thread_slot *s = fst_thread_slot_at(a, index);
    /* The generation changes first, so that there is no instant in which the slot's next thread
     * passes for the owner of this one's slabs. */
    fst_store_release(&s->generation, s->generation + 1);
    fst_store_release(&s->seq, 0);
    fst_store_relaxed(&s->waiter, 0);
    fst_store_relaxed(&s->allocating, 0);
    fst_store_release(&s->owner, 0);
}

void fst_thread_bind(struct fst_thread *t, uint32_t index)
{
    t->index = index;
    t->slot = fst_thread_slot_at(t->arena, index);
    t->table = t->arena->entries;
    t->name = (uint64_t)t->slot->generation << 32 | (index + 1);
}

static struct fst_thread *find_and_prune(struct fst_arena *a)
{
    struct fst_thread *found = NULL;
    for (struct fst_thread **link = &states; *link;) {
        struct fst_thread *t = *link;
        if (!t->arena) {
            *link = t->next;
            if (fst_thread_current == t)
                fst_thread_current = &fst_thread_none;
            free(t);
            continue;
        }
        if (t->arena == a)
            found = t;
        link = &t->next;
    }
    return found;
}

int fst_thread_usable(const struct fst_arena *a)
{
    if (a->usable)
        return fst_verdict(a, FST_OK);
    return fst_fail(
        FST_CLOSED,
        "the arena did not come along over the fork, for this process could not be given a place in it: %s. Open it again here; "
        "what this process inherited of it can only be looked at through views made before",
        a->refused);
}

void fst_thread_uses(struct fst_arena *a)
{
    uint32_t flags = fst_load_relaxed(&a->self->flags);
    if (flags & FST_PROCESS_FORKED)
        fst_store_relaxed(&a->self->flags, flags & ~FST_PROCESS_FORKED);
}

struct fst_thread *fst_thread_register(struct fst_arena *a)
{
    if (fst_thread_usable(a))
        return NULL;
    fst_thread_uses(a);
    struct fst_thread *t = find_and_prune(a);
    if (t) {
        fst_thread_current = t;
        return t;
    }
    t = aligned_alloc(FST_LINE, sizeof *t + behind_bytes);
    if (!t) {
        fst_fail(FST_FULL, "out of memory");
        return NULL;
    }
    *t = fst_thread_none;
    if (fst_thread_slot_claim(a, a->slot, &t->index)) {
        free(t);
        return NULL;
    }
    int error = pthread_setspecific(key, &key); /* any value asks for at_thread_exit */
    /* Without at_thread_exit the thread would keep its slot for ever. */
    if (error) {
        fst_thread_slot_free(a, t->index);
        free(t);
        fst_fail_errno(FST_FULL, error, "out of memory");
        return NULL;
    }
    t->arena = a;
    fst_thread_bind(t, t->index);
    start_hook(t);
    fst_store_relaxed(&t->slot->tid, (uint32_t)syscall(SYS_gettid));
    t->next = states;
    states = t;
    pthread_mutex_lock(&fst_local_mutex);
    t->next_in_arena = a->threads;
    a->threads = t;
    pthread_mutex_unlock(&fst_local_mutex);
    fst_thread_current = t;
    return t;
}

void fst_thread_forget(struct fst_thread *t)
{
    struct fst_arena *a = t->arena;
    for (struct fst_thread **link = &a->threads; *link; link = &(*link)->next_in_arena) {
        if (*link == t) {
            *link = t->next_in_arena;
            break;
        }
    }
    fst_thread_slot_free(a, t->index);
    t->arena = NULL;
}
