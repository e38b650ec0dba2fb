/* What a child cache says of its objects is compared with its cache: damage to it is noticed by
 * whoever binds it, allocates from it, or is given an object of it. */
#include "alloc/child.h"
#include "alloc/registry.h"
#include "alloc/sizeclass.h"
#include "support.h"

static fst_arena *a;

static struct damage {
    const char *what;
    size_t offset;
    uint64_t bytes, value;
} const damages[] = {
    {"no size and no stride", offsetof(struct fst_child, size), 16, 0},
    {"no stride", offsetof(struct fst_child, stride), 8, 0},
    {"a lower size", offsetof(struct fst_child, size), 8, 5},
    {"a higher size", offsetof(struct fst_child, size), 8, 1008},
    {"a lower stride", offsetof(struct fst_child, stride), 8, 8},
    {"fewer objects", offsetof(struct fst_child, objects), 4, 1},
    {"no flags", offsetof(struct fst_child, flags), 4, 0},
    {"no alignment", offsetof(struct fst_child, align_order), 4, 7},
};

static void damage(uint64_t child, const struct damage *d)
{
    memset((uint8_t *)fst_child_at(a, (uint32_t)child) + d->offset, 0, d->bytes);
    memcpy((uint8_t *)fst_child_at(a, (uint32_t)child) + d->offset, &d->value, d->bytes < 8 ? d->bytes : 8);
}

/* In a process that knows nothing of the child yet: two objects are two, of the bytes that were
 * asked for, or there is an error. */
static bool sane(int rc, const struct fst_ref ref[2], uint64_t nbytes)
{
    if (rc)
        return rc == FST_CORRUPTED;
    return ref[0].data != ref[1].data && ref[0].nbytes == nbytes && ref[1].nbytes == nbytes;
}

enum way { BOUND, ALLOCATED, BY_BYTES, RESOLVED, WAYS };

static int take_two(enum way way, uint64_t child, const struct fst_handle handles[2], struct fst_ref ref[2])
{
    int rc = FST_OK;
    uint64_t again;
    for (int i = 0; i < 2 && rc == FST_OK; i++) {
        if (way == RESOLVED) {
            rc = fst_resolve(a, &handles[i], &ref[i]);
            continue;
        }
        if (way == BY_BYTES) {
            rc = fst_alloc_bytes(a, fst_group_root(a), 990, &ref[i]);
            continue;
        }
        if (way == BOUND)
            rc = fst_child_open(a, fst_id(fst_child_at(a, (uint32_t)child)->cache, fst_cache_at(a, 0)->state), fst_group_root(a),
                                &again);
        if (rc == FST_OK)
            rc = fst_alloc(a, child, &ref[i]);
    }
    return rc;
}

static void damaged_child_is_noticed(void)
{
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        for (enum way way = BOUND; way < WAYS; way++) {
            pid_t pid = fork();
            if (pid == 0) {
                a = anonymous(16 * MIB);
                struct fst_ref held[3], ref[2] = {{0}};
                struct fst_handle handles[2];
                uint64_t child, nbytes = way == BY_BYTES ? 990 : 1000;
                if (way == BY_BYTES) {
                    struct fst_sized sized;
                    CHECK_EQ(FST_OK, fst_size_class_child(a, fst_group_root(a), fst_size_class_of(nbytes), &sized));
                    child = sized.child;
                } else {
                    child = root_child(a, "c", 1000, FST_CACHE_TYPESAFE_BY_RCU);
                }
                for (int k = 0; k < 3; k++)
                    CHECK_EQ(FST_OK, way == BY_BYTES ? fst_alloc_bytes(a, fst_group_root(a), nbytes, &held[k])
                                                     : fst_alloc(a, child, &held[k]));
                for (int k = 0; k < 2; k++)
                    CHECK_EQ(FST_OK, fst_handle_of(a, &held[k], &handles[k]));
                damage(child, &damages[i]);
                pid_t other = fork();
                if (other == 0) {
                    int rc = take_two(way, child, handles, ref);
                    if (!sane(rc, ref, nbytes))
                        TEST_FAIL("%s, way %d: %s, %p and %p, %llu and %llu bytes", damages[i].what, way,
                                  rc ? fst_last_error() : "ok", ref[0].data, ref[1].data, (unsigned long long)ref[0].nbytes,
                                  (unsigned long long)ref[1].nbytes);
                    CHILD_EXIT();
                }
                CHECK_CHILD(other);
                CHILD_EXIT();
            }
            CHECK_CHILD(pid);
        }
    }
}

TEST_MAIN(CASE(damaged_child_is_noticed))
