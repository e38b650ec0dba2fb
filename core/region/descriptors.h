/* descriptors.h - every byte of the descriptors of caches, children and groups.
 *
 * They lie in tables of the control region (region/layout.h), and alloc/registry.h has their lists.
 */
#ifndef FST_REGION_DESCRIPTORS_H
#define FST_REGION_DESCRIPTORS_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "flagstone.h"

/* A descriptor's place in a hash table of names (alloc/names.h). It is derived, and changed under
 * names_lock. */
struct fst_name_link {
    uint32_t next; /* descriptor + 1 of the same bucket, 0: the last */
    uint32_t hash;
};

/* ---- caches -------------------------------------------------------------------------------------
 *
 * state words of caches, children, groups and processes: state:4 | pad:12 | generation:48, as for
 * slabs.
 *
 * A cache that others are merged with is a *body* with several *names*: its own, and the ALIAS
 * descriptors that point to it.
 *
 * What check() proves of caches, children and groups, under names_lock (observe/check_registry.c):
 *   - a body's `aliases` = the number of ALIAS descriptors whose `merged` it is, all on its list
 *   - a child is on the list of its cache and on that of its group, and on no other
 *   - a group's `children` = the number of groups whose parent it is, all on its list
 *   - no group is above itself: the parents of each lead to the root
 *   - ended_groups - ended_spliced = the length of the queue of ended groups, whose last is
 *     ended_tail
 *   - a table's `entries` = the number of descriptors that have to be in it, and it leads to each
 *   - the lists of free descriptors have each FREE one once, and no other
 *
 * struct fst_cache
 *      0       8      16      24      28        32      36       40          44           48
 *      | state | size | align | flags | aliases | first | merged | init_slab | init_bytes |
 *      48     112      1136        1140         1144     1148          1152         1156
 *      | name | format | next_free | root_child | ending | first_alias | next_alias |
 *      1156         1160      1168       1176         1180     1184      1192         1196  1216
 *      | prev_alias | by_name | by_shape | next_ended | queued | retired | rest_bytes | pad |
 */
enum fst_cache_state {
    FST_CACHE_FREE = 0,
    FST_CACHE_LIVE = 1,
    FST_CACHE_ENDED = 3,    /* unlinked: its names are free; a batch releases it */
    FST_CACHE_ALIAS = 4,    /* a second name for cache `merged`, and nothing else */
    FST_CACHE_NAMELESS = 5, /* its own name was destroyed, and it lives on by its aliases */
    /* replaced: its names are free, nothing is allocated from it, and it goes with its last
     * object */
    FST_CACHE_RETIRED = 6,
};

struct fst_cache {
    uint64_t state;
    uint64_t size;    /* bytes of an object as asked for */
    uint64_t align;   /* bytes, a power of two */
    uint32_t flags;   /* FST_CACHE_* of flagstone.h */
    uint32_t aliases; /* ALIAS descriptors that stand for it; derived from them */
    uint32_t first;   /* first child, linked by next_in_cache; derived; under names_lock */
    uint32_t merged;  /* ALIAS: the cache that it stands for */
    /* id of a one-object slab: the initial content, and behind it the rest of the format;
     * FST_NONE: neither */
    uint32_t init_slab;
    uint32_t init_bytes;
    char name[FST_NAME_MAX];
    /* what the language binding keeps with it, dtype and shape: as much as there is room for */
    char format[FST_FORMAT_MAX];
    uint32_t next_free;  /* the next free descriptor */
    uint32_t root_child; /* its child for the root group, FST_NONE: none yet; derived */
    /* lock: held by destroy() while it looks for users, and by whoever replaces the cache; the word
     * outlives the lives of the descriptor */
    uint32_t ending;
    uint32_t first_alias; /* the list of its aliases; derived, under names_lock, as the two below */
    uint32_t next_alias;  /* ALIAS: the next and the previous one of the same body */
    uint32_t prev_alias;
    struct fst_name_link by_name;  /* under its own name */
    struct fst_name_link by_shape; /* of a body that others may be merged with */
    uint32_t next_ended;           /* on the list of ended caches */
    /* 1: on the list of ended caches, or spliced from it by a batch under way; not to be released
     * by another way */
    uint32_t queued;
    /* id of the last cache of this descriptor whose name was given to another; that cache may be
     * gone by now */
    uint64_t retired;
    /* bytes of the format that did not fit into `format` and lie in init_slab; 0 in an ALIAS, whose
     * body has them */
    uint32_t rest_bytes;
    uint32_t pad[5];
};
static_assert(offsetof(struct fst_cache, name) == 48, "layout");
static_assert(offsetof(struct fst_cache, by_name) == 1160, "layout");
static_assert(sizeof(struct fst_cache) == 1216, "layout");

/* A child: the part of a cache that belongs to one group. Line 0 is read by every allocation; in
 * the life of a child only `shared` is written there, once.
 * struct fst_child
 *      0       8       12      16     24       32        36      40            44      48
 *      | state | cache | group | size | stride | objects | pages | align_order | flags |
 *      48           52       56    64
 *      | slab_class | shared | pad |
 *      64     68        72     76      80          84              88              92
 *      | lock | partial | full | slabs | next_free | next_in_cache | prev_in_cache |
 *      92              96              100   104          112   128
 *      | next_in_group | prev_in_group | pad | used_pages | pad | */
enum fst_child_state {
    FST_CHILD_FREE = 0,
    FST_CHILD_LIVE = 1,
    /* its group was closed or its cache replaced: no more allocations, and slabs are closed when
     * they are empty */
    FST_CHILD_OFFLINE = 2,
    FST_CHILD_ENDED = 3, /* its group or cache was destroyed */
    /* the destroy() of its cache looks for users, and holds the cache's lock `ending` */
    FST_CHILD_ENDING = 4,
};

/* beside the cache's flags: the objects have initial content */
#define FST_CHILD_HAS_INIT (1u << 16)

struct fst_child {
    uint64_t state;
    uint32_t cache;
    uint32_t group;
    uint64_t size;    /* bytes a user may use of an object */
    uint64_t stride;  /* bytes from one object to the next */
    uint32_t objects; /* in a slab */
    /* of a slab; 0: each slab has as many as its object needs (objects above 64 KiB of the size
     * classes) */
    uint32_t pages;
    uint32_t align_order; /* its runs start at a multiple of 2^this pages */
    uint32_t flags;
    uint32_t slab_class;
    /* 1: somebody was given a handle or a message of an object, so other processes will free
     * some */
    uint32_t shared;
    uint32_t pad0[2];

    alignas(64) uint32_t lock;
    uint32_t partial;       /* first slab that may have a free object and that no thread owns */
    uint32_t full;          /* first of all the other slabs */
    uint32_t slabs;         /* on both lists; derived */
    uint32_t next_free;     /* the next free descriptor */
    uint32_t next_in_cache; /* as the three below: derived, under names_lock */
    uint32_t prev_in_cache;
    uint32_t next_in_group;
    uint32_t prev_in_group;
    uint32_t pad1;
    uint64_t used_pages; /* under pages_lock, derived */
    uint32_t pad2[4];
};
static_assert(offsetof(struct fst_child, lock) == 64, "layout");
static_assert(sizeof(struct fst_child) == 128, "layout");

/* ---- groups -------------------------------------------------------------------------------------
 *
 * A group has two authoritative words. `word` has the form of an object's word, so that
 * processes refer to a group by an entry as they refer to any object; the release of that word
 * closes the group. `state` is what a program has done to the group: closed or destroyed it.
 *
 * struct fst_group
 *      0      8       16       20      24      28         32      40      48     56           64
 *      | word | state | parent | first | flags | children | limit | usage | peak | limit_hits |
 *      64       72         80     144         148          152        160       168           172
 *      | failed | reclaims | name | next_free | next_ended | ended_at | by_name | first_group |
 *      172            176            180   184               192   256
 *      | next_sibling | prev_sibling | pad | messages_expire | pad | */
enum fst_group_state {
    FST_GROUP_FREE = 0,
    FST_GROUP_LIVE = 1,
    FST_GROUP_CLOSED = 2,    /* offline: no more allocations */
    FST_GROUP_DESTROYED = 3, /* everything in it is freed */
};

/* on the list of ended groups, or spliced from it by a batch under way: the descriptor is not to be
 * reused */
#define FST_GROUP_QUEUED (1u << 31)
/* the group ended further while it was QUEUED and a batch ran, which may have passed it: it is to
 * be queued once more */
#define FST_GROUP_AGAIN (1u << 30)
/* a store ends, or did, with it */
#define FST_GROUP_STORES (1u << 29)

struct fst_group {
    uint64_t word;
    uint64_t state;
    uint32_t parent;     /* index; FST_NONE for the root group, which is group 0 */
    uint32_t first;      /* first child cache, linked by next_in_group; derived; under names_lock */
    uint32_t flags;      /* FST_GROUP_* of flagstone.h, and those above */
    uint32_t children;   /* how many groups are below it, directly; derived */
    uint64_t limit;      /* pages, UINT64_MAX: none */
    uint64_t usage;      /* pages charged, descendants included; derived; under pages_lock */
    uint64_t peak;       /* the most that usage has been */
    uint64_t limit_hits; /* allocations that met the limit */
    uint64_t failed;     /* allocations that failed for good (fst_group_note_failed) */
    uint64_t reclaims;   /* calls of fst_reclaim for this group */
    char name[FST_NAME_MAX];
    uint32_t next_free;           /* the next free descriptor */
    uint32_t next_ended;          /* on the queue of ended groups */
    uint64_t ended_at;            /* ns since boot, of the first close() or destroy(); for people */
    struct fst_name_link by_name; /* a LIVE group with a name is found by it */
    /* first group below it; derived, under names_lock, as the two below */
    uint32_t first_group;
    uint32_t next_sibling;
    uint32_t prev_sibling;
    uint32_t pad0;
    /* ns after which a message of an object of it that nobody took is given up; 0: never; constant
     * while the group lives */
    uint64_t messages_expire;
    uint32_t pad[16];
};
static_assert(offsetof(struct fst_group, ended_at) == 152, "layout");
static_assert(offsetof(struct fst_group, messages_expire) == 184, "layout");
static_assert(sizeof(struct fst_group) == 256, "layout");

/* A record of which group ends with which cgroup. `group` is the truth; a record whose group is
 * gone is free.
 * struct fst_cgroup
 *      0       8        16      24     32           40     1024
 *      | group | device | inode | view | root_inode | path | */
struct fst_cgroup {
    uint64_t group;  /* id; 0: never used */
    uint64_t device; /* of the cgroup's folder when the group was bound */
    uint64_t inode;
    uint64_t view; /* inode of the mount namespace in which the path means the cgroup */
    /* inode of the root folder as that process saw it: a process with another root folder sees
     * other paths */
    uint64_t root_inode;
    char path[984];
};
static_assert(sizeof(struct fst_cgroup) == 1024, "layout");

#endif
