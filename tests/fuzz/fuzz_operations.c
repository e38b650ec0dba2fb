/* fuzz_operations.c - bytes become a sequence of operations on one arena, in two processes; at the
 * end everybody has let go, and nothing is left.
 *
 * Each operation is a byte and its arguments. The peer is a fork of this process in the middle of
 * the sequence, with all it had then; it has the same operations, can be killed, and can attach
 * anew. What all processes know about groups, objects and messages stands in memory that they
 * share; each knows its own references. The two take turns, so that what is true in the end is
 * known: what a process holds has its bytes, what was freed is found no more, what is held can be
 * found.
 */
#include "fuzz_state.h"

/* ---- operations: allocate, drop ---- */

static void op_alloc(struct input *in)
{
    unsigned c = byte(in) % CACHES, g = some_group(in), many = byte(in) % 4;
    uint64_t cache, child;
    struct fst_ref refs[4];
    size_t got = 1;
    if (all->object_count == OBJECTS || fst_cache_open(me.arena, &caches[c], &cache))
        return;
    int rc = fst_child_open(me.arena, cache, all->groups[g].id, &child);
    CHECK(rc != FST_OK || !all->groups[g].ended);
    if (rc)
        return;
    rc = many ? fst_alloc_many(me.arena, child, many, refs, &got) : fst_alloc(me.arena, child, refs);
    CHECK(rc == FST_OK || rc == FST_FULL || rc == FST_LIMIT || rc == FST_CLOSED || rc == FST_READONLY);
    CHECK((rc == FST_READONLY) == me.readonly);
    if (!many && rc)
        return;
    for (size_t n = 0; n < got; n++) {
        CHECK_EQ(caches[c].size, refs[n].nbytes);
        CHECK(!caches[c].init || caches[c].flags || memcmp(refs[n].data, caches[c].init, caches[c].init_bytes) == 0);
        if (n == 0) {
            adopt(&refs[n], g);
        } else {
            fst_drop(me.arena, &refs[n]);
        }
    }
}

static void op_alloc_bytes(struct input *in)
{
    unsigned g = some_group(in);
    uint64_t nbytes = number(in, 3);
    struct fst_ref ref;
    if (all->object_count == OBJECTS)
        return;
    int rc = fst_alloc_bytes(me.arena, all->groups[g].id, nbytes, &ref);
    CHECK(rc == FST_OK || rc == FST_FULL || rc == FST_LIMIT || rc == FST_CLOSED || rc == FST_READONLY);
    if (rc == FST_OK) {
        CHECK_EQ(nbytes, ref.nbytes);
        CHECK(!all->groups[g].ended && !me.readonly);
        adopt(&ref, g);
    }
}

static void op_drop(struct input *in)
{
    uint32_t i = some_ref(in);
    if (i != NOBODY)
        drop(i);
}

static void op_hold(struct input *in)
{
    uint32_t i = some_ref(in);
    if (i == NOBODY)
        return;
    struct fst_ref ref = me.refs[i].ref;
    uint32_t object = me.refs[i].object;
    fst_hold(me.arena, &ref);
    keep(&ref, object);
}

static void op_free(struct input *in)
{
    uint32_t i = some_ref(in);
    if (i == NOBODY)
        return;
    struct object *o = &all->objects[me.refs[i].object];
    int rc = fst_free(me.arena, &me.refs[i].ref);
    CHECK_EQ(me.readonly ? FST_READONLY : o->freed ? FST_STALE : FST_OK, rc);
    o->freed |= rc == FST_OK;
}

/* ---- operations: handles and messages ---- */

static void op_resolve(struct input *in)
{
    uint32_t back = byte(in); /* the youngest first */
    struct fst_ref ref;
    if (!all->object_count)
        return;
    uint32_t object = all->object_count - 1 - back % all->object_count;
    int rc = fst_resolve(me.arena, &all->handles[object], &ref);
    CHECK(rc == FST_OK || rc == FST_STALE);
    CHECK(rc != FST_OK || (!all->objects[object].freed && !ended(object)));
    CHECK(rc == FST_OK || all->objects[object].freed || ended(object) || !held(object));
    if (rc == FST_OK)
        keep(&ref, object);
}

static void op_share(struct input *in)
{
    uint32_t i = some_ref(in);
    struct message *m = &all->messages[byte(in) % MESSAGES];
    if (i == NOBODY)
        return;
    int rc = fst_share(me.arena, &me.refs[i].ref, &m->message);
    CHECK_EQ(FST_OK, rc);
    m->object = me.refs[i].object;
    m->group = NOBODY;
}

static void op_share_group(struct input *in)
{
    unsigned g = some_group(in);
    struct message *m = &all->messages[byte(in) % MESSAGES], sent = {.object = NOBODY, .group = g};
    if (g == 0 || fst_group_share(me.arena, all->groups[g].id, &sent.message))
        return;
    CHECK(!all->groups[g].ended);
    *m = sent;
}

/* The message stays where it is: somebody may read it again. */
static void op_take(struct input *in)
{
    const struct message *m = &all->messages[byte(in) % MESSAGES];
    struct fst_ref ref;
    uint64_t id;
    if (m->object != NOBODY) {
        int rc = fst_take(me.arena, &m->message, &ref);
        CHECK(rc == FST_OK || rc == FST_STALE);
        CHECK(rc != FST_OK || !ended(m->object));
        CHECK(rc == FST_OK || all->objects[m->object].freed || ended(m->object) || !held(m->object));
        if (rc == FST_OK)
            keep(&ref, m->object);
    } else if (m->group != NOBODY) {
        int rc = fst_group_take(me.arena, &m->message, &id);
        CHECK(rc == FST_OK || rc == FST_STALE || rc == FST_CLOSED);
        if (rc == FST_OK && id == all->groups[m->group].id)
            me.group_refs[m->group]++;
        else if (rc == FST_OK) /* the place has had another group since */
            fst_group_unref(me.arena, id);
    }
}

static void op_drop_in_flight(struct input *in)
{
    bool any = byte(in) % 2;
    fst_inflight_drop_from(me.arena, 0, any ? UINT64_MAX : all->groups[some_group(in)].id, 0, false);
}

/* ---- operations: caches and groups ---- */

static void op_destroy_cache(struct input *in)
{
    unsigned c = byte(in) % CACHES;
    uint64_t cache;
    bool name_only = false;
    if (fst_cache_open(me.arena, &caches[c], &cache))
        return;
    int rc = fst_cache_destroy(me.arena, cache, &name_only);
    CHECK(rc == FST_OK || rc == FST_BUSY || rc == FST_READONLY);
    for (unsigned i = 0; i < REFS && rc == FST_OK && !name_only; i++) {
        uint64_t of = 0, group;
        if (me.refs[i].object != NOBODY && fst_object_owner(me.arena, &me.refs[i].ref, &of, &group) == FST_OK)
            CHECK(of != cache);
    }
}

static void op_shrink_cache(struct input *in)
{
    uint64_t cache, bytes;
    if (fst_cache_open(me.arena, &caches[byte(in) % CACHES], &cache) == FST_OK)
        fst_cache_shrink(me.arena, cache, &bytes);
}

static void let_go_of_group(unsigned g)
{
    for (; me.group_refs[g]; me.group_refs[g]--)
        fst_group_unref(me.arena, all->groups[g].id);
}

static void op_open_group(struct input *in)
{
    static const char *const names[] = {NULL, "a", "b"};
    unsigned g = 1 + byte(in) % (GROUPS - 1), parent = some_group(in), how = byte(in);
    struct fst_group_spec spec = {.name = names[how % 3],
                                  .parent = all->groups[parent].id,
                                  .limit = how & 64 ? (how & 31) * 8192ull : FST_NO_LIMIT,
                                  .set_limit = how & 64,
                                  .flags = how & 128 ? FST_GROUP_LASTING : 0};
    uint64_t id;
    bool created;
    /* A place is used again only when nothing is known of the group that was there. */
    if (all->groups[g].known)
        return;
    int rc = fst_group_open(me.arena, &spec, &id, &created);
    CHECK(rc != FST_OK || !all->groups[parent].ended);
    if (rc)
        return;
    for (unsigned i = 0; i < GROUPS; i++) {
        if (all->groups[i].known && all->groups[i].id == id) {
            CHECK(!created);
            me.group_refs[i]++;
            return;
        }
    }
    all->groups[g] = (struct group){.id = id, .parent = parent, .known = true};
    me.group_refs[g]++;
}

static void op_close_group(struct input *in)
{
    unsigned g = some_group(in);
    if (g > 0)
        fst_group_close(me.arena, all->groups[g].id);
}

static void end_below(unsigned g)
{
    all->groups[g].ended = true;
    for (unsigned i = 1; i < GROUPS; i++)
        if (all->groups[i].known && !all->groups[i].ended && all->groups[i].parent == g)
            end_below(i);
}

static void op_destroy_group(struct input *in)
{
    unsigned g = some_group(in);
    if (g == 0)
        return;
    int rc = fst_group_destroy(me.arena, all->groups[g].id);
    CHECK(rc == FST_OK || rc == FST_CLOSED || rc == FST_READONLY);
    if (rc == FST_OK)
        end_below(g);
}

static void op_unref_group(struct input *in)
{
    unsigned g = some_group(in);
    if (me.group_refs[g]) {
        me.group_refs[g]--;
        fst_group_unref(me.arena, all->groups[g].id);
    }
}

static void op_limit(struct input *in)
{
    unsigned g = some_group(in);
    uint64_t limit = number(in, 2) * 64;
    fst_group_set_limit(me.arena, all->groups[g].id, g == 0 || limit == 0 ? FST_NO_LIMIT : limit);
}

/* ---- operations: grace periods and batches ---- */

static void op_section(struct input *in)
{
    if (byte(in) % 2 && *nest(false)) {
        CHECK_EQ(FST_OK, fst_read_unlock(me.arena));
        --*nest(false);
    } else if (*nest(false) < 3) {
        CHECK_EQ(FST_OK, fst_read_lock(me.arena));
        ++*nest(false);
    }
    CHECK_EQ(*nest(false) > 0, fst_in_section(me.arena));
}

/* The other process may be in a section and waits for us: then it is a timeout, or (shrink)
 * longer than a fuzzer likes. */
static void op_wait(struct input *in)
{
    uint64_t bytes;
    int rc = FST_OK;
    switch (byte(in) % 8) {
    case 0:
        rc = fst_synchronize(me.arena, SOON);
        break;
    case 1:
        rc = fst_reclaim(me.arena, UINT64_MAX, SOON);
        break;
    case 2:
        rc = *nest(true) ? FST_OK : fst_shrink(me.arena, 5000000000u, &bytes);
        break;
    default:
        rc = fst_barrier(me.arena, SOON);
    }
    CHECK(!*nest(false) || rc == FST_IN_SECTION || rc == FST_OK || rc == FST_READONLY);
    CHECK(rc == FST_OK || rc == FST_IN_SECTION || rc == FST_TIMEOUT || rc == FST_READONLY || rc == FST_FULL);
}

static void op_look(struct input *in)
{
    static struct fst_cache_info cache;
    static struct fst_process_info processes[4];
    static struct fst_inflight_info in_flight[4];
    static struct fst_keeper keepers[4];
    struct fst_group_info group;
    struct fst_arena_info info;
    uint64_t ids[4];
    uint32_t holders[4];
    char text[300];
    switch (byte(in) % 6) {
    case 0:
        CHECK_CLEAN(me.arena);
        break;
    case 1:
        for (size_t n = fst_cache_list(me.arena, ids, 4), i = 0; i < n && i < 4; i++)
            fst_cache_get_info(me.arena, ids[i], &cache);
        break;
    case 2:
        for (size_t n = fst_group_list(me.arena, ids, 4), i = 0; i < n && i < 4; i++)
            fst_group_get_info(me.arena, ids[i], &group);
        break;
    case 3:
        fst_process_list(me.arena, processes, 4);
        fst_inflight_list(me.arena, in_flight, 4);
        fst_keeper_list(me.arena, keepers, 4);
        break;
    case 4:
        fst_arena_get_info(me.arena, &info);
        fst_describe_usage(me.arena, text, sizeof text);
        break;
    case 5: {
        uint32_t i = some_ref(in);
        if (i != NOBODY)
            CHECK(fst_holders(me.arena, &me.refs[i].ref, holders, 4) >= 1);
    }
    }
}

/* ---- attaching, and the peer ---- */

static void let_go(void)
{
    for (; *nest(false); --*nest(false))
        CHECK_EQ(FST_OK, fst_read_unlock(me.arena));
    for (unsigned i = 0; i < REFS; i++)
        if (me.refs[i].object != NOBODY)
            drop(i);
    for (unsigned g = 1; g < GROUPS; g++)
        let_go_of_group(g);
}

/* Leave, and attach again. Who leaves waits a little for a last batch: not while the other one
 * is in a section. */
static void op_attach_again(struct input *in)
{
    bool readonly = byte(in) % 4 == 0 && me.peer;
    if (*nest(true))
        return;
    let_go();
    int fd = dup(fst_arena_fd(me.arena));
    fst_arena_unref(me.arena);
    me.arena = NULL;
    CHECK_EQ(FST_OK, fst_arena_open_fd(fd, readonly, &me.arena));
    close(fd);
    me.readonly = readonly;
    FUZZ_END();
}

static void op_fork(struct input *in);
static void op_peer(struct input *in);
static void op_kill(struct input *in);

static void (*const operations[])(struct input *in) = {
    op_alloc,         op_alloc_bytes,  op_drop,           op_hold,          op_free,         op_resolve,
    op_share,         op_take,         op_share_group,    op_take,          op_open_group,   op_close_group,
    op_destroy_group, op_unref_group,  op_limit,          op_destroy_cache, op_shrink_cache, op_section,
    op_wait,          op_look,         op_drop_in_flight, op_alloc,         op_alloc_bytes,  op_drop,
    op_resolve,       op_attach_again, op_fork,           op_peer,          op_peer,         op_kill,
};

static void run(struct input *in)
{
    while (more(in)) {
        operations[byte(in) % (sizeof operations / sizeof *operations)](in);
        FUZZ_END();
    }
}

static void serve(struct peer *parent, void *context)
{
    (void)context;
    me.peer = true;
    for (char c; (c = peer_hear(parent)) == 't'; peer_say(parent, 'k')) {
        struct input in = {all->turn, all->turn + all->turn_size};
        run(&in);
    }
    let_go();
    fst_arena_unref(me.arena);
    FUZZ_END();
}

static void end_peer(void)
{
    if (peer.pid)
        peer_end(&peer);
    peer.pid = 0;
    all->nest[1] = 0;
}

static void op_fork(struct input *in)
{
    (void)in;
    if (me.peer || (peer.pid && *nest(false)))
        return;
    end_peer();
    all->nest[1] = all->nest[0]; /* a section goes on in both */
    peer = peer_start(serve, NULL);
}

/* The next bytes are the peer's operations. */
static void op_peer(struct input *in)
{
    size_t n = byte(in) % TURN, left = (size_t)(in->end - in->at);
    if (me.peer || !peer.pid)
        return;
    all->turn_size = (uint32_t)(n < left ? n : left);
    memcpy(all->turn, in->at, all->turn_size);
    in->at += all->turn_size;
    TELL(peer, 't');
}

static void op_kill(struct input *in)
{
    (void)in;
    if (me.peer || !peer.pid)
        return;
    peer_kill(&peer);
    peer.pid = 0;
    all->nest[1] = 0;
}

/* ---- the whole ---- */

static void set_up(void)
{
    if (!all)
        all = shared_memory(sizeof *all);
    memset(all, 0, sizeof *all);
    memset(&me, 0, sizeof me);
    for (unsigned i = 0; i < REFS; i++)
        me.refs[i].object = NOBODY;
    for (unsigned i = 0; i < MESSAGES; i++)
        all->messages[i].object = all->messages[i].group = NOBODY;
    me.arena = anonymous(MIB);
    all->groups[0] = (struct group){.id = fst_group_root(me.arena), .known = true};
}

/* Everybody lets go, everything ends: only the root group is left, and no memory is used. */
static void tear_down(const struct state *before)
{
    let_go();
    end_peer();
    for (unsigned g = 1; g < GROUPS; g++)
        if (all->groups[g].known)
            fst_group_destroy(me.arena, all->groups[g].id); /* those that last */
    settle(me.arena);
    for (unsigned c = 0; c < CACHES; c++) {
        uint64_t cache;
        CHECK_EQ(FST_OK, fst_cache_open(me.arena, &caches[c], &cache));
        CHECK_EQ(FST_OK, fst_cache_destroy(me.arena, cache, NULL));
    }
    settle(me.arena);
    struct state after = state_of(me.arena);
    CHECK_EQ(before->used, after.used);
    CHECK_EQ(before->groups, after.groups);
    CHECK_EQ(before->dropped, after.dropped);
    CHECK_EQ(before->in_flight, after.in_flight);
    CHECK_EQ(1, after.processes);
    CHECK_CLEAN(me.arena);
    fst_arena_unref(me.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    int lowest = lowest_descriptor();
    set_up();
    struct state before = state_of(me.arena);
    run(&in);
    tear_down(&before);
    CHECK_EQ(lowest, lowest_descriptor());
    FUZZ_END();
    return 0;
}
