/* How long the sections of the shared locks are. Whoever is stopped in one holds up all who need
 * that lock, so the chance of it is the section's length. A victim's parent steps it, and looks
 * after each instruction at the locks that it has. What a loop does again and again needs none of
 * them. A group's life and new memory have bounds, in instructions of a release build: a quarter
 * above what gcc 12 and clang 14 make of them; eight times as many in other builds. Rings are
 * formatted before, and gone through in lots, so theirs do not grow with the ring. And no clock is
 * read inside: that was a third of such a section once.
 */
#include "kill_operations.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "observe/parts.h"
#include "stepping.h"
#include "watching.h"

/* Once an object of a child was handed out, its owners fence. */
static void alloc_where_one_was_shared(void)
{
    alloc_and_share();
    take_and_drop();
    drop_ref();
    alloc_pool();
}

static void use_new_slab(void)
{
    open_group_and_child();
    warm_up();
}

static void group_with_an_object(void)
{
    open_group_and_child();
    alloc_charged();
    drop_ref();
}

static fst_channel_use *channel, *mine; /* a victim inherits the first */
static fst_store_use *store;            /* a victim inherits it, too */
static uint64_t number = 7, version;

static fst_channel_use *opened_channel(const char *name, uint32_t flags)
{
    struct fst_channel_spec spec = {.name = name, .capacity = 500, .inline_bytes = 64, .flags = flags, .group = root};
    fst_channel_use *u = NULL;
    bool created;
    REQUIRE(fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created) == FST_OK);
    return u;
}

static fst_store_use *opened_store(const char *name)
{
    struct fst_store_spec spec = {.name = name, .group = root};
    fst_store_use *u = NULL;
    bool created;
    REQUIRE(fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created) == FST_OK);
    return u;
}

/* What the survivor has in them belongs to its state. */
static void with_channel_and_store(void)
{
    channel = opened_channel("old", 0);
    store = opened_store("old");
    w = &work[0];
    alloc_pool();
    MUST(fst_store_put(store, &(struct fst_key){.bytes = &number, .nbytes = 8}, &(struct fst_value){.ref = &w->ref},
                       FST_ANY_VERSION, &version));
    drop_ref();
    settle(a);
    base = state_of(a);
    fst_cache_list(a, base_caches, 16);
}

static void open_channel(void)
{
    mine = opened_channel("new", 0);
}

static void open_topic(void)
{
    mine = opened_channel("new", FST_CHANNEL_TOPIC);
}

static void leave_channel(void)
{
    fst_channel_leave(mine);
}

static void destroy_channel(void)
{
    MUST(fst_channel_destroy(mine));
}

static void open_again(void)
{
    fst_channel_leave(opened_channel("old", 0));
}

static void look_at_channel(void)
{
    struct fst_channel_info info;
    CHECK_EQ(FST_OK, fst_channel_get_info(a, fst_channel_id(channel), &info));
}

static void check_rings(void)
{
    struct fst_check c = {.a = a};
    fst_check_channels(&c);
    CHECK(!c.held && c.findings == 0);
}

static void put_and_get(void)
{
    uint8_t bytes[64];
    struct fst_received r;
    MUST(fst_channel_put(channel, &(struct fst_letter){.bytes = &number, .nbytes = 8, .ref = &w->ref}));
    MUST(fst_channel_get(channel, bytes, &r));
}

static void open_store(void)
{
    fst_store_leave(opened_store("new"));
}

static void store_again(void)
{
    fst_store_leave(opened_store("old"));
}

static void look_up(void)
{
    struct fst_ref ref;
    struct fst_looked_up got;
    MUST(fst_store_get(store, &(struct fst_key){.bytes = &number, .nbytes = 8}, &ref, &got));
    fst_drop(a, &ref);
}

static void put_key(void)
{
    MUST(fst_store_put(store, &(struct fst_key){.bytes = &number, .nbytes = 8}, &(struct fst_value){.ref = &w->ref},
                       FST_ANY_VERSION, &version));
}

static const struct bounded {
    struct operation operation;
    uint64_t longest; /* instructions from a lock's word taken to the word given back */
} bounded[] = {
    {{"alloc from the active slab", NULL, warm_up, alloc_pool, NULL, false}, 0},
    {{"drop private", NULL, alloc_pool, drop_ref, NULL, false}, 0},
    {{"drop shared", NULL, alloc_and_share, drop_ref, NULL, false}, 0},
    {{"share", NULL, alloc_where_one_was_shared, share_ref, NULL, false}, 0},
    {{"take", post_object, NULL, take_message, NULL, false}, 0},
    {{"resolve", post_object, NULL, resolve_handle, NULL, false}, 0},
    {{"resolve what it has", NULL, NULL, resolve_held, NULL, false}, 0},
    {{"free private and drop", NULL, alloc_pool, free_and_drop, NULL, false}, 0},
    {{"alloc with a new slab", NULL, use_new_slab, alloc_charged, NULL, false}, 1120},
    {{"group open", NULL, NULL, open_group, NULL, false}, 900},
    {{"group's child creation", NULL, open_group, child_of_group, NULL, false}, 690},
    {{"group close", NULL, group_with_an_object, close_group, NULL, false}, 570},
    {{"group destroy", NULL, group_with_an_object, destroy_group, NULL, false}, 580},
    {{"group unref", NULL, open_group, unref_group, NULL, false}, 0},
    {{"channel open", NULL, NULL, open_channel, NULL, false}, 930},
    {{"topic open", NULL, NULL, open_topic, NULL, false}, 930},
    {{"channel open again", NULL, NULL, open_again, NULL, false}, 185},
    {{"channel leave", NULL, open_channel, leave_channel, NULL, false}, 0},
    {{"channel destroy", NULL, open_channel, destroy_channel, NULL, false}, 700},
    {{"channel put and get", NULL, alloc_pool, put_and_get, NULL, false}, 0},
    {{"channel info", NULL, NULL, look_at_channel, NULL, false}, 2320},
    {{"store open", NULL, NULL, open_store, NULL, false}, 620},
    {{"store open again", NULL, NULL, store_again, NULL, false}, 270},
    {{"store look up", NULL, NULL, look_up, NULL, false}, 0},
    {{"store put", NULL, alloc_pool, put_key, NULL, false}, 610},
    {{"check of channels", NULL, NULL, check_rings, NULL, false}, 8000},
};
#define BOUNDED   ((int)(sizeof bounded / sizeof *bounded))
#define ELSEWHERE 8u /* so many times the bound in a build that is no release */

static struct {
    uint64_t now; /* instructions of the section that the victim is in */
    uint64_t longest, all;
    uint32_t sections, clock; /* ..., instructions in the kernel's page of clocks */
    const char *lock;         /* of the longest */
} seen;

/* Where the victim is: its next instruction. */
static uintptr_t place_of(pid_t pid)
{
    struct user_regs_struct registers;
    struct iovec into = {&registers, sizeof registers};
    REQUIRE(ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &into) == 0);
#if defined __x86_64__
    return registers.rip;
#else
    return registers.pc;
#endif
}

/* The kernel's code for clocks, which is mapped at the same place in a forked child. */
static bool in_clock(uintptr_t place)
{
    uintptr_t begin = getauxval(AT_SYSINFO_EHDR);
    return begin && place - begin < 0x2000;
}

static void look_at_its_locks(pid_t pid)
{
    const char *lock = lock_of(pid);
    if (!lock) {
        seen.now = 0;
        return;
    }
    seen.sections += seen.now++ == 0;
    seen.clock += in_clock(place_of(pid));
    seen.all++;
    if (seen.now > seen.longest) {
        seen.longest = seen.now;
        seen.lock = lock;
    }
}

static const char *name_of(int i)
{
    return bounded[i].operation.name;
}

static const char *cannot_look(int i)
{
    (void)i;
    return cannot_trace();
}

static void run_one(int i)
{
    uint64_t allowed_here = bounded[i].longest * (released ? 1 : ELSEWHERE);
    memset(&seen, 0, sizeof seen);
    after_each = look_at_its_locks;
    start();
    with_channel_and_store();
    uint64_t length = kill_after(&bounded[i].operation, 0, NULL);
    fst_channel_leave(channel);
    fst_store_leave(store);
    fst_arena_unref(a);
    printf("# %s: %llu instructions, %llu of them in %u sections, the longest %llu of %s\n", name_of(i), (unsigned long long)length,
           (unsigned long long)seen.all, seen.sections, (unsigned long long)seen.longest, seen.lock ? seen.lock : "nothing");
    if (seen.clock)
        TEST_FAIL("%s: %u instructions of a clock in a section", name_of(i), seen.clock);
    if (seen.longest > allowed_here)
        TEST_FAIL("%s: %llu instructions in a section of %s, allowed are %llu", name_of(i), (unsigned long long)seen.longest,
                  seen.lock, (unsigned long long)allowed_here);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){BOUNDED, name_of, cannot_look, run_one}, argc, argv);
}
