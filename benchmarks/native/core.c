/* core.c - the core's hot paths, or malloc's, from C. Prints JSON: nanoseconds by name.
 *
 *   core flagstone THREADS SECONDS    pairs, sections, grace periods
 *   core malloc THREADS SECONDS       pairs of the C library's allocator, whichever LD_PRELOAD
 *                                     chose
 *
 * SECONDS is how long one figure takes. The pairs touch the object's first word, so that no
 * allocator may be lazy.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef WITHOUT_CORE
#include "flagstone.h"
#else
struct fst_ref {
    void *data;
};
#endif

#define BULK 256

static double seconds;
static int threads;
static bool use_malloc;
static uint64_t sizes[] = {64, 4096};

#ifndef WITHOUT_CORE
static fst_arena *arena;
static uint64_t children[2];

static void must(int status, const char *what)
{
    if (status) {
        fprintf(stderr, "%s: %s\n", what, fst_last_error());
        exit(1);
    }
}
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- pairs ---- */

static inline void get(int size, struct fst_ref *ref)
{
#ifndef WITHOUT_CORE
    if (!use_malloc) {
        must(fst_alloc(arena, children[size], ref), "fst_alloc");
        *(volatile uint64_t *)ref->data = 1;
        return;
    }
#endif
    ref->data = malloc(sizes[size]);
    *(volatile uint64_t *)ref->data = 1;
}

static inline void put(const struct fst_ref *ref)
{
#ifndef WITHOUT_CORE
    if (!use_malloc) {
        fst_drop(arena, ref);
        return;
    }
#endif
    free(ref->data);
}

static void one_by_one(int size, size_t count)
{
    struct fst_ref ref;
    for (size_t i = 0; i < count; i++) {
        get(size, &ref);
        put(&ref);
    }
}

static void in_bulk(int size, size_t count)
{
    static __thread struct fst_ref refs[BULK];
    for (size_t done = 0; done < count; done += BULK) {
        for (int i = 0; i < BULK; i++)
            get(size, &refs[i]);
        for (int i = 0; i < BULK; i++)
            put(&refs[i]);
    }
}

struct job {
    void (*work)(int size, size_t count);
    int size;
    size_t count;
    pthread_barrier_t *barrier;
    double took;
};

static void *run_job(void *context)
{
    struct job *j = context;
    j->work(j->size, 4 * BULK); /* warm */
    pthread_barrier_wait(j->barrier);
    double began = now();
    j->work(j->size, j->count);
    j->took = now() - began;
    return NULL;
}

/* Nanoseconds of the slower thread for one pair. */
static double pairs(void (*work)(int, size_t), int size)
{
    size_t count = 1 << 14;
    double began = now(), took;
    work(size, count);
    took = now() - began;
    count = (size_t)((double)count * seconds * 1e9 / took) / BULK * BULK + BULK;
    struct job jobs[16];
    pthread_t ids[16];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        jobs[i] = (struct job){work, size, count, &barrier, 0};
        pthread_create(&ids[i], NULL, run_job, &jobs[i]);
    }
    took = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        took = jobs[i].took > took ? jobs[i].took : took;
    }
    pthread_barrier_destroy(&barrier);
    return took / (double)count;
}

static int first = 1;

static void print(const char *name, double value)
{
    printf("%s\"%s\": %.3f", first ? "{" : ", ", name, value);
    first = 0;
}

#ifndef WITHOUT_CORE

/* ---- sections and grace periods ---- */

static double repeat(void (*once)(void))
{
    size_t count = 0;
    double began = now(), took;
    do {
        for (int i = 0; i < 8; i++)
            once();
        count += 8;
        took = now() - began;
    } while (took < seconds * 1e9);
    return took / (double)count;
}

static void sections(void)
{
    for (int i = 0; i < 1000; i++) {
        fst_read_lock(arena);
        __asm__ volatile("" ::: "memory");
        fst_read_unlock(arena);
    }
}

static void synchronize(void)
{
    must(fst_synchronize(arena, FST_FOREVER), "fst_synchronize");
}

/* A waiter that is woken on the reader's core takes it from the reader between two sections, and
 * would measure that. */
static void stay_on(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set); /* with one core it stays where it is */
}

/* In another process: sections of this many nanoseconds, back to back, until killed. */
static pid_t reader(double length)
{
    int ready[2];
    char byte = 0;
    if (pipe(ready))
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        stay_on(1);
        fst_read_lock(arena);
        fst_read_unlock(arena);
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        for (;;) {
            fst_read_lock(arena);
            for (double end = length ? now() + length : 0; end && now() < end;)
                ;
            fst_read_unlock(arena);
        }
    }
    if (read(ready[0], &byte, 1) != 1)
        exit(1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fst_reclaim(arena, UINT64_MAX, 1000000000);
}

#define DROPS 1000
static struct fst_ref dropped[DROPS];

/* What was shared once needs a batch when it is dropped. */
static void make_shared(void)
{
    for (int i = 0; i < DROPS; i++) {
        struct fst_message m;
        struct fst_ref taken;
        must(fst_alloc(arena, children[0], &dropped[i]), "fst_alloc");
        must(fst_share(arena, &dropped[i], &m), "fst_share");
        must(fst_take(arena, &m, &taken), "fst_take");
        fst_drop(arena, &taken);
    }
    must(fst_barrier(arena, FST_FOREVER), "fst_barrier");
}

static double drops_and_barrier(void)
{
    double took = 0;
    int count = 0;
    for (double began = now(); now() - began < seconds * 1e9 || count < 3; count++) {
        make_shared();
        double start = now();
        for (int i = 0; i < DROPS; i++)
            fst_drop(arena, &dropped[i]);
        must(fst_barrier(arena, FST_FOREVER), "fst_barrier");
        took += now() - start;
    }
    return took / count;
}

static void grace(void)
{
    print("section", repeat(sections) / 1000);
    print("synchronize, idle", repeat(synchronize));
    print("1,000 shared drops and a barrier", drops_and_barrier());
    stay_on(0);
    pid_t pid = reader(0);
    print("synchronize, short sections", repeat(synchronize));
    end(pid);
    pid = reader(1e6);
    print("synchronize, 1 ms sections", repeat(synchronize));
    print("1,000 shared drops and a barrier, 1 ms sections", drops_and_barrier());
    end(pid);
}

static void open_arena(void)
{
    struct fst_open_options options = {.capacity = 1ull << 30};
    must(fst_arena_open(&options, &arena), "fst_arena_open");
    for (int i = 0; i < 2; i++) {
        struct fst_cache_spec spec = {.name = i ? "page" : "small", .size = sizes[i], .format = ""};
        uint64_t cache;
        must(fst_cache_open(arena, &spec, &cache), "fst_cache_open");
        must(fst_child_open(arena, cache, fst_group_root(arena), &children[i]), "fst_child_open");
    }
}

#endif

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    use_malloc = strcmp(argv[1], "malloc") == 0;
    threads = atoi(argv[2]);
    seconds = atof(argv[3]);
#ifndef WITHOUT_CORE
    if (!use_malloc)
        open_arena();
#endif
    print("64 B", pairs(one_by_one, 0));
    print("4 KiB", pairs(one_by_one, 1));
    print("64 B, 256 then 256", pairs(in_bulk, 0));
    print("4 KiB, 256 then 256", pairs(in_bulk, 1));
#ifndef WITHOUT_CORE
    if (!use_malloc && threads == 1)
        grace();
    if (!use_malloc)
        fst_arena_unref(arena);
#endif
    printf("}\n");
    return 0;
}
