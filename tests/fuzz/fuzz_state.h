/* fuzz_state.h - what the processes of fuzz_operations.c know of the arena, and of each other:
 * groups, caches, objects and messages, and what became of them.
 */
#ifndef FST_FUZZ_STATE_H
#define FST_FUZZ_STATE_H

#include "fuzz.h"

#define REFS     24
#define GROUPS   6 /* 0: the root */
#define CACHES   5
#define MESSAGES 8
#define OBJECTS  512
#define NOBODY   UINT32_MAX
#define TURN     64 /* bytes of operations that the peer gets at a time, at most */
#define SOON     (2 * 1000 * 1000ull)

static const struct fst_cache_spec caches[CACHES] = {
    {.name = "plain", .size = 64},
    {.name = "same as plain", .size = 64}, /* is merged with it */
    {.name = "alone", .size = 200, .flags = FST_CACHE_NO_MERGE},
    {.name = "by rcu", .size = 4096, .flags = FST_CACHE_TYPESAFE_BY_RCU},
    {.name = "made", .size = 24, .init = "content", .init_bytes = 7},
};

/* ---- what all processes know ---- */

struct group {
    uint64_t id;
    uint32_t parent;
    bool known, ended; /* destroyed by an operation, itself or one above it */
};

struct object {
    uint64_t nbytes, seed;
    uint32_t group;
    bool freed;
};

struct message {
    struct fst_message message;
    uint32_t object, group; /* one of them is NOBODY; both: not used */
};

static struct shared {
    struct group groups[GROUPS];
    struct object objects[OBJECTS];
    struct message messages[MESSAGES];
    struct fst_handle handles[OBJECTS];
    uint32_t object_count;
    uint32_t nest[2];   /* sections of this process and the peer */
    uint8_t turn[TURN]; /* the peer's next operations */
    uint32_t turn_size;
} * all;

/* ---- what this process has ---- */

static struct side {
    fst_arena *arena;
    struct {
        struct fst_ref ref;
        uint32_t object; /* NOBODY: free */
    } refs[REFS];
    uint32_t group_refs[GROUPS];
    bool readonly, peer;
} me;

static struct peer peer;

/* How deep this process is in sections, and the other one. */
static uint32_t *nest(bool other)
{
    return &all->nest[me.peer != other];
}

/* ---- objects ---- */

#define CHECKED 256 /* bytes at either end of an object */

static void fill_object(const struct fst_ref *ref, uint64_t seed)
{
    uint64_t n = ref->nbytes < CHECKED ? ref->nbytes : CHECKED;
    fill(ref->data, n, seed);
    fill((uint8_t *)ref->data + ref->nbytes - n, n, seed);
}

static void check_object(const struct fst_ref *ref, uint32_t object)
{
    const struct object *o = &all->objects[object];
    uint64_t n = o->nbytes < CHECKED ? o->nbytes : CHECKED;
    CHECK_EQ(o->nbytes, ref->nbytes);
    CHECK(ref->nbytes != o->nbytes || filled((uint8_t *)ref->data + o->nbytes - n, n, o->seed));
}

static bool ended(uint32_t object)
{
    return all->groups[all->objects[object].group].ended;
}

static bool held(uint32_t object)
{
    for (unsigned i = 0; i < REFS; i++)
        if (me.refs[i].object == object)
            return true;
    return false;
}

static void drop(unsigned i)
{
    check_object(&me.refs[i].ref, me.refs[i].object);
    fst_drop(me.arena, &me.refs[i].ref);
    me.refs[i].object = NOBODY;
}

/* One of our references, NOBODY if there is none: the byte counts those that there are, so that
 * most bytes mean something. */
static uint32_t some_ref(struct input *in)
{
    unsigned n = 0, which = byte(in);
    for (unsigned i = 0; i < REFS; i++)
        n += me.refs[i].object != NOBODY;
    for (unsigned i = 0; i < REFS && n; i++)
        if (me.refs[i].object != NOBODY && which-- % n == 0)
            return i;
    return NOBODY;
}

/* A place for a reference, empty. */
static unsigned place(void)
{
    unsigned i = 0;
    while (i < REFS - 1 && me.refs[i].object != NOBODY)
        i++;
    if (me.refs[i].object != NOBODY)
        drop(i);
    return i;
}

/* A group that is known; the root is one. */
static unsigned some_group(struct input *in)
{
    unsigned g = byte(in) % GROUPS;
    while (!all->groups[g].known)
        g--;
    return g;
}

static void keep(const struct fst_ref *ref, uint32_t object)
{
    unsigned i = place();
    me.refs[i].ref = *ref;
    me.refs[i].object = object;
    check_object(ref, object);
}

/* A new object, whose bytes are known from now on. */
static void adopt(const struct fst_ref *ref, uint32_t group)
{
    uint32_t object = all->object_count++;
    all->objects[object] = (struct object){.nbytes = ref->nbytes, .seed = object, .group = group};
    fill_object(ref, object);
    fst_handle_of(me.arena, ref, &all->handles[object]);
    keep(ref, object);
}

#endif
