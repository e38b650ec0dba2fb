/* fuzz_handle.c - bytes become handles and messages, as they come out of a damaged pickle: each is
 * refused, or names an object that is really there, and the arena stays sound.
 *
 * A step is an operation (1 byte), which real message it is made from (1 byte), and 24 bytes: they
 * are xored over the message, or are the message themselves. Real ones are of objects, groups,
 * freed and released objects, and of another arena.
 */
#include "fuzz.h"

#define OBJECTS 40
#define REAL    64

enum step { RESOLVE, TAKE, GROUP_TAKE, FIND, SEND, STEPS };
#define STEP_RAW 128 /* the bytes are the message, but for the arena's tag */

static fst_arena *a;
static struct fst_ref objects[OBJECTS]; /* what the arena is populated with */
static struct fst_message real[REAL];
static unsigned real_count;
static uint64_t group;

static void remember(const struct fst_message *message)
{
    real[real_count++] = *message;
}

static struct fst_ref filled_object(uint64_t child, uint64_t seed)
{
    struct fst_ref ref;
    CHECK_EQ(FST_OK, fst_alloc(a, child, &ref));
    fill(ref.data, ref.nbytes, seed);
    return ref;
}

/* Objects that handles may still name, though nobody may have them any more. */
static void add_ghosts(uint64_t child)
{
    struct fst_message message = {.entry = UINT32_MAX};
    struct fst_ref freed = filled_object(child, 0), dropped = filled_object(child, 0);
    fst_handle_of(a, &freed, &message.handle);
    remember(&message);
    CHECK_EQ(FST_OK, fst_free(a, &freed));
    fst_drop(a, &freed);
    CHECK_EQ(FST_OK, fst_share(a, &dropped, &message));
    remember(&message);
    fst_drop(a, &dropped);
    uint64_t destroyed = make_group(a, "destroyed", fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK_EQ(FST_OK, fst_group_share(a, destroyed, &message));
    remember(&message);
    fst_group_destroy(a, destroyed);
    fst_group_unref(a, destroyed);
    settle(a);
}

static void add_stranger(void)
{
    struct fst_message message;
    fst_arena *other = anonymous(MIB);
    struct fst_ref ref = alloc_one(other, root_child(other, "c", 64, 0));
    CHECK_EQ(FST_OK, fst_share(other, &ref, &message));
    remember(&message);
    fst_drop(other, &ref);
    fst_arena_unref(other);
}

static void set_up(void)
{
    static const struct {
        uint64_t size;
        uint32_t flags;
    } caches[] = {{64, 0}, {100, FST_CACHE_TYPESAFE_BY_RCU}, {5000, FST_CACHE_NO_MERGE}, {100000, 0}};
    struct fst_message message = {.entry = UINT32_MAX};
    uint64_t child[4];
    a = anonymous(16 * MIB);
    group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    for (unsigned i = 0; i < 4; i++) {
        char name[] = "cache-0";
        name[6] = (char)('0' + i);
        child[i] = child_of(a, make_cache(a, name, caches[i].size, caches[i].flags), i % 2 ? group : fst_group_root(a));
    }
    add_ghosts(child[0]);
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (i % 5 < 4) {
            objects[i] = filled_object(child[i % 5], i);
        } else {
            CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, i * i * i * 10, &objects[i]));
            fill(objects[i].data, objects[i].nbytes, i);
        }
        fst_handle_of(a, &objects[i], &message.handle);
        remember(&message);
    }
    CHECK_EQ(FST_OK, fst_group_share(a, group, &message));
    remember(&message);
    add_stranger();
    FUZZ_END();
}

/* Who names an object that is there gets one of ours, whole. */
static void got(struct fst_ref *ref, const struct fst_handle *handle)
{
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (objects[i].data == ref->data && objects[i].oid == ref->oid) {
            CHECK_EQ(objects[i].nbytes, ref->nbytes);
            CHECK_EQ(generation_of(a, &objects[i]), fst_handle_generation(handle));
            fst_drop(a, ref);
            return;
        }
    }
    TEST_FAIL("object %llx is none of ours", (unsigned long long)ref->oid);
}

static struct fst_message made_up(struct input *in, uint8_t op, uint8_t which)
{
    struct fst_message message = real[which % real_count];
    uint8_t *bytes = (uint8_t *)&message;
    uint64_t tag = message.handle.generation_tag >> 40 << 40;
    for (unsigned i = 0; i < sizeof message; i++)
        bytes[i] = (uint8_t)(byte(in) ^ (op & STEP_RAW ? 0 : bytes[i]));
    if (op & STEP_RAW)
        message.handle.generation_tag = message.handle.generation_tag << 24 >> 24 | tag;
    return message;
}

static void step(struct input *in)
{
    uint8_t op = byte(in), which = byte(in);
    struct fst_message sent, message = made_up(in, op, which);
    struct fst_ref ref;
    uint64_t taken;
    int rc = FST_STALE;
    switch ((op & ~STEP_RAW) % STEPS) {
    case RESOLVE:
        if ((rc = fst_resolve(a, &message.handle, &ref)) == FST_OK)
            got(&ref, &message.handle);
        break;
    case TAKE:
        if ((rc = fst_take(a, &message, &ref)) == FST_OK)
            got(&ref, &message.handle);
        break;
    case GROUP_TAKE:
        if ((rc = fst_group_take(a, &message, &taken)) == FST_OK)
            fst_group_unref(a, taken);
        break;
    case FIND: {
        fst_arena *found = fst_arena_find((const uint8_t *)&message);
        if (found)
            fst_arena_unref(found);
        break;
    }
    case SEND: /* something in flight that damaged messages may hit; itself, it arrives */
        CHECK_EQ(FST_OK, fst_share(a, &objects[which % OBJECTS], &sent));
        rc = fst_take(a, &message, &ref);
        if (rc == FST_OK)
            got(&ref, &message.handle);
        CHECK_EQ(FST_OK, fst_take(a, &sent, &ref));
        got(&ref, &sent.handle);
        rc = FST_OK;
    }
    CHECK(rc == FST_OK || rc == FST_STALE || rc == FST_FOREIGN || rc == FST_CLOSED);
}

static void sound(void)
{
    struct state s = state_of(a);
    CHECK(s.in_flight <= 1); /* the message of the group, if nobody has taken it */
    for (unsigned i = 0; i < OBJECTS; i++)
        CHECK(filled(objects[i].data, objects[i].nbytes < 1000 ? objects[i].nbytes : 1000, i));
    CHECK_CLEAN(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    if (!a)
        set_up();
    while (more(&in))
        step(&in);
    sound();
    FUZZ_END();
    return 0;
}
