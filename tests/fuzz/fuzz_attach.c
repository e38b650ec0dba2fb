/* fuzz_attach.c - bytes become the file of an arena: whoever opens it says what is wrong, or works
 * with it, and never crashes or hangs.
 *
 * The first byte says how, see enum how. Then come patches of a good file, of 12 bytes each: which
 * field of the superblock, how (enum change), where (2 bytes), and 8 bytes; or the file itself. The
 * good file has caches, groups, objects and messages, and the slot of a process that was killed
 * with references.
 */
#include "fuzz.h"
#include "region/superblock.h"

enum how {
    WHOLE = 1,    /* the bytes are the file, from its start; its size is in front (4 bytes) */
    CHECKSUM = 2, /* make the checksum right again */
    /* a file of another size, in front of the patches (4 bytes, what is missing or too much) */
    RESIZE = 4,
    BY_FD = 8, /* attach through a descriptor */
    READONLY = 16,
};
enum change { BYTE, HALF, WORD, XOR, ADD, CHANGES };

#define MAX_PARTS 64

/* The parts of the good file that are no holes. */
static struct part {
    uint64_t offset, size;
    uint8_t *bytes;
} parts[MAX_PARTS];
static unsigned part_count;
static uint64_t file_size;
static char good_path[128], path[128];

/* ---- the good file ---- */

static void populate(fst_arena *a)
{
    static const uint64_t sizes[] = {64, 5000, 24};
    char name[] = "cache-0";
    for (unsigned i = 0; i < 3; i++) {
        name[6] = (char)('0' + i);
        uint64_t group = make_group(a, name, fst_group_root(a), i ? MIB : FST_NO_LIMIT, FST_GROUP_LASTING);
        uint64_t child = child_of(a, make_cache(a, name, sizes[i], FST_CACHE_NO_MERGE), group);
        struct fst_ref ref = {0};
        struct fst_message message;
        for (unsigned n = 0; n < 5; n++) {
            CHECK_EQ(FST_OK, fst_alloc(a, child, &ref));
            fill(ref.data, ref.nbytes, n);
            if (n == 0)
                CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
        }
        CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, 300 + 100000 * i, &ref));
    }
}

static void killed_process(struct peer *parent, void *context)
{
    (void)parent;
    (void)context;
    fst_arena *a = NULL;
    CHECK_EQ(FST_OK, try_open(good_path, 0, FST_OPEN_EXISTING, &a));
    populate(a);
    fst_read_lock(a);
    peer_say(parent, 'k');
    peer_hear(parent);
}

static void remember(int fd)
{
    off_t at = 0, end;
    while (part_count < MAX_PARTS && (at = lseek(fd, at, SEEK_DATA)) >= 0 && (end = lseek(fd, at, SEEK_HOLE)) > at) {
        struct part *p = &parts[part_count++];
        *p = (struct part){(uint64_t)at, (uint64_t)(end - at), malloc((size_t)(end - at))};
        if (!p->bytes || pread(fd, p->bytes, p->size, at) != (ssize_t)p->size)
            abort();
        at = end;
    }
}

static void clean_up(void)
{
    for (unsigned i = 0; i < part_count; i++)
        free(parts[i].bytes);
    unlink(path);
}

static void set_up(void)
{
    struct fst_open_options o = {.path = good_path, .capacity = 4 * MIB, .lasting = true, .mode = 0600};
    fst_arena *a = NULL;
    folder();
    atexit(clean_up); /* before the folder goes */
    snprintf(good_path, sizeof good_path, "%s/good", folder());
    snprintf(path, sizeof path, "%s/patched", folder());
    CHECK_EQ(FST_OK, fst_arena_open(&o, &a));
    struct peer p = peer_start(killed_process, NULL);
    PEER_WAIT(&p, 'k');
    peer_kill(&p);
    int fd = open(good_path, O_RDWR | O_CLOEXEC);
    file_size = (uint64_t)lseek(fd, 0, SEEK_END);
    remember(fd);
    close(fd);
    fst_arena_unref(a);
    unlink(good_path);
    FUZZ_END();
}

/* ---- the file of an input ---- */

static void write_at(int fd, const void *bytes, uint64_t size, uint64_t at)
{
    if (pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size)
        abort();
}

static void change(uint8_t *at, uint64_t room, enum change how, uint64_t value)
{
    uint64_t n = 0, width = how == BYTE ? 1 : how == HALF ? 4 : 8;
    if (width > room)
        width = room;
    memcpy(&n, at, width);
    n = how == XOR ? n ^ value : how == ADD ? n + value : value;
    memcpy(at, &n, width);
}

/* What is validated when a process attaches: the constant part, the state, the bounds and what
 * was committed; and what is for people. What others change all the time is validated where it
 * is used. */
#define FIELD(name)                                                                       \
    {                                                                                     \
        offsetof(struct fst_superblock, name), sizeof(((struct fst_superblock *)0)->name) \
    }
static const struct field {
    size_t offset, size;
} constant[] = {{0, offsetof(struct fst_superblock, checksum) + sizeof(uint64_t)},
                FIELD(state),
                FIELD(lasting),
                FIELD(batch_log),
                FIELD(released_objects),
                FIELD(hold_lock)},
  bounds[] = {FIELD(zones),      FIELD(slab_top),     FIELD(cache_top),   FIELD(child_top), FIELD(group_top),
              FIELD(cgroup_top), FIELD(inflight_top), FIELD(process_top), FIELD(thread_top)};
#undef FIELD
#define CONSTANT (sizeof constant / sizeof *constant)
#define BOUNDS   (sizeof bounds / sizeof *bounds)

/* A bound that is too low hides what is in use: nobody can tell. */
static void raise_bounds(uint8_t *first)
{
    for (size_t i = 0; i < BOUNDS; i++) {
        for (size_t at = bounds[i].offset; at < bounds[i].offset + bounds[i].size; at += 4) {
            uint32_t good, now;
            memcpy(&good, parts[0].bytes + at, 4);
            memcpy(&now, first + at, 4);
            memcpy(first + at, now < good ? &good : &now, 4);
        }
    }
}

static void patch(uint8_t *first, struct input *in)
{
    unsigned f = byte(in) % (CONSTANT + BOUNDS);
    const struct field *field = f < CONSTANT ? &constant[f] : &bounds[f - CONSTANT];
    enum change how = byte(in) % CHANGES;
    uint64_t at = number(in, 2) % field->size;
    change(first + field->offset + at, field->size - at, how, number(in, 8));
}

static void make_patched(int fd, struct input *in, uint8_t how)
{
    _Alignas(64) uint8_t first[sizeof(struct fst_superblock)];
    uint64_t size = file_size;
    if (how & RESIZE)
        size += (uint64_t)(int64_t)(int32_t)number(in, 4);
    if (ftruncate(fd, (off_t)size) != 0)
        return; /* no size of a file */
    for (unsigned i = 0; i < part_count; i++)
        write_at(fd, parts[i].bytes, parts[i].size, parts[i].offset);
    struct fst_superblock *sb = (void *)first;
    memcpy(first, parts[0].bytes, sizeof first);
    while (more(in))
        patch(first, in);
    raise_bounds(first);
    if (how & CHECKSUM)
        sb->checksum = fst_superblock_checksum(sb);
    write_at(fd, first, sizeof *sb, 0);
    if (ftruncate(fd, (off_t)size) != 0)
        abort();
}

static void make_whole(int fd, struct input *in)
{
    uint64_t size = number(in, 4);
    if (more(in))
        write_at(fd, in->at, (uint64_t)(in->end - in->at), 0);
    if (ftruncate(fd, (off_t)size) != 0)
        abort();
}

/* ---- what a process does with it ---- */

#define SOON (2 * 1000 * 1000ull) /* a damaged arena may have anything to wait for */

static void ignore(void *context, const char *text)
{
    (void)context;
    CHECK(text[0]);
}

static void look_around(fst_arena *a)
{
    static struct fst_cache_info cache;
    static struct fst_process_info processes[16];
    static struct fst_inflight_info in_flight[16];
    static struct fst_keeper keepers[16];
    static struct fst_use uses[16];
    struct fst_arena_info info;
    struct fst_group_info group;
    struct fst_burial_info burials[16];
    struct fst_batch_info batches[16];
    struct fst_child_counts children;
    uint64_t ids[16];
    char text[1000];
    fst_arena_get_info(a, &info);
    for (size_t n = fst_cache_list(a, ids, 16), i = 0; i < n && i < 16; i++)
        fst_cache_get_info(a, ids[i], &cache);
    for (size_t n = fst_group_list(a, ids, 16), i = 0; i < n && i < 16; i++)
        fst_group_get_info(a, ids[i], &group);
    fst_process_list(a, processes, 16);
    fst_inflight_list(a, in_flight, 16);
    fst_keeper_list(a, keepers, 16);
    fst_use_list(a, uses, 16);
    fst_burial_list(a, burials, 16);
    fst_batch_list(a, batches, 16);
    fst_child_count(a, &children);
    fst_describe_usage(a, text, sizeof text);
    fst_check(a, ignore, NULL);
}

static void use(fst_arena *a)
{
    struct fst_cache_spec spec = {.name = "cache-0", .size = 64, .flags = FST_CACHE_NO_MERGE};
    struct fst_group_spec group_spec = {.name = "cache-1", .parent = fst_group_root(a)};
    uint64_t cache, child, group = fst_group_root(a), bytes;
    struct fst_ref ref;
    bool created;
    if (fst_group_open(a, &group_spec, &group, &created))
        group = fst_group_root(a);
    if (fst_cache_open(a, &spec, &cache) == FST_OK && fst_child_open(a, cache, group, &child) == FST_OK &&
        fst_alloc(a, child, &ref) == FST_OK) {
        memset(ref.data, 1, ref.nbytes);
        fst_drop(a, &ref);
    }
    if (fst_alloc_bytes(a, group, 100000, &ref) == FST_OK) {
        struct fst_message message;
        memset(ref.data, 1, ref.nbytes);
        if (fst_share(a, &ref, &message) == FST_OK && fst_take(a, &message, &ref) == FST_OK)
            fst_drop(a, &ref);
    }
    fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false);
    fst_group_destroy(a, group);
    fst_reclaim(a, UINT64_MAX, SOON);
    fst_barrier(a, SOON);
    fst_shrink(a, 5000000000u, &bytes);
}

static int attach(int fd, uint8_t how, fst_arena **out)
{
    struct fst_open_options o = {.path = path, .create = FST_OPEN_EXISTING, .readonly = how & READONLY};
    return how & BY_FD ? fst_arena_open_fd(fd, o.readonly, out) : fst_arena_open(&o, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    if (!part_count)
        set_up();
    uint8_t how = byte(&in);
    int lowest = lowest_descriptor(), fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    if (how & WHOLE)
        make_whole(fd, &in);
    else
        make_patched(fd, &in, how);
    struct fst_peek peek;
    fst_arena *a = NULL;
    fst_peek(path, &peek);
    int rc = attach(fd, how, &a);
    close(fd);
    if (rc == FST_OK) {
        look_around(a);
        use(a);
        look_around(a);
        fst_arena_unref(a);
    } else {
        CHECK(rc == FST_LAYOUT || rc == FST_CORRUPTED || rc == FST_MISSING || rc == FST_CLOSED || rc == FST_FULL ||
              rc == FST_REFUSED);
        CHECK(fst_last_error()[0]);
    }
    unlink(path);
    CHECK_EQ(lowest, lowest_descriptor());
    FUZZ_END();
    return 0;
}
