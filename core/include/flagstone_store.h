/* flagstone_store.h - stores: objects found by name. It is a part of flagstone.h, whose conventions
 * hold here as well.
 *
 * A store maps keys to objects, and holds these, for any number of takers. It ends when it is
 * destroyed, with its arena, or with its group: when that is destroyed, or closed and no process
 * has it open any more. Looking up takes no lock and waits for nobody.
 */
#ifndef FLAGSTONE_STORE_H
#define FLAGSTONE_STORE_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FST_STORE_EVICTS 1u /* kept for the user; the core does nothing with it */
#define FST_STORE_OWNS   2u /* the group is the store's own: both end with the group above it */

/* A store to be opened. */
struct fst_store_spec {
    const char *name; /* 1 to 63 bytes */
    uint32_t flags;   /* FST_STORE_* */
    uint64_t group;   /* id of the group that the store ends with */
};

/* A process's use of a store. Many threads may use it at once, and after a fork the child may,
 * too. */
typedef struct fst_store_use fst_store_use;

/* Open the store of this name, or create it; *created says which. FST_EXISTS, FST_MISSING as `how`
 * says; FST_INVALID, FST_FULL, FST_READONLY, FST_HELD; FST_CLOSED: the group has ended. */
int fst_store_open(fst_arena *arena, const struct fst_store_spec *spec, enum fst_create how, fst_store_use **out, bool *created);
/* Let go of the use, which changes nothing of the store. */
void fst_store_leave(fst_store_use *use);
/* Keep open the group that the store ends with: a reference of this process to it, to be given
 * back by fst_group_unref. False: the process got none, because the group is closed, or is the root
 * group, which nobody has to keep. */
bool fst_store_hold_group(fst_store_use *use, uint64_t *group);
uint64_t fst_store_id(const fst_store_use *use);

/* A key: some bytes and a kind. */
struct fst_key {
    const void *bytes;
    uint32_t nbytes; /* at most 255 */
    uint8_t kind;    /* a number of the user's: keys of two kinds are two keys */
};

/* What is said of the object that a key holds. */
struct fst_looked_up {
    uint32_t kind;    /* of the value: the user's */
    uint64_t version; /* of the value */
};
/* Make a reference to the object that the key holds, to be dropped. FST_MISSING: it holds none;
 * FST_FULL; FST_INVALID: the key is too long; FST_CLOSED: the store has ended. */
int fst_store_get(fst_store_use *use, const struct fst_key *key, struct fst_ref *ref, struct fst_looked_up *out);
/* The version of the key's value, without a reference to its object. It fails as fst_store_get
 * does. */
int fst_store_key_version(fst_store_use *use, const struct fst_key *key, uint64_t *version);

#define FST_ANY_VERSION UINT64_MAX
#define FST_NO_VERSION  0u /* the key has no value */

/* A value to be put. */
struct fst_value {
    const struct fst_ref *ref; /* an object of the caller's, which keeps its reference */
    uint32_t kind;             /* a number of the user's, below 256 */
    uint64_t ttl;              /* ns until the value expires; 0: it never does */
};
/* Have the key hold this value from now on; *version receives the value's version. FST_MISMATCH:
 * `if_version` is not FST_ANY_VERSION, and the key's value has another version. FST_FULL,
 * FST_READONLY, FST_HELD, FST_INVALID; FST_CLOSED: the store has ended; FST_STALE: the object's
 * group or cache has ended. */
int fst_store_put(fst_store_use *use, const struct fst_key *key, const struct fst_value *value, uint64_t if_version,
                  uint64_t *version);
/* Have the key hold nothing from now on. FST_MISSING: it holds nothing already; FST_MISMATCH, as
 * fst_store_put; FST_READONLY, FST_HELD, FST_INVALID, FST_CLOSED. */
int fst_store_remove(fst_store_use *use, const struct fst_key *key, uint64_t if_version);

/* A claim says that this process makes the value of a key. When the process dies, another one may
 * claim the key. */
struct fst_store_claim {
    uint32_t item;
    uint64_t hold;
};
/* Claim a key. FST_EXISTS: it has a value; FST_WAIT: another process is making one; other errors as
 * fst_store_put. */
int fst_store_claim(fst_store_use *use, const struct fst_key *key, struct fst_store_claim *out);
/* Give a claimed key its value. FST_STALE: the claim does not hold any more, or the object's group
 * or cache has ended; other errors as fst_store_put. */
int fst_store_publish(fst_store_use *use, const struct fst_store_claim *claim, const struct fst_value *value, uint64_t *version);
/* Give up a claim without a value. */
void fst_store_give_up(fst_store_use *use, const struct fst_store_claim *claim);

/* The number of changes of the store so far. FST_CLOSED: it has ended. */
int fst_store_version(const fst_store_use *use, uint64_t *version);
/* How many keys have a value. After the kill of a process that was changing one, it may be one more
 * or less until the next batch. FST_CLOSED: the store has ended. */
int fst_store_length(const fst_store_use *use, uint64_t *length);
/* Sleep until the store's version is not this one: then true. It sleeps for some milliseconds at
 * most, whatever the timeout (ns). May wait. */
bool fst_store_wait(fst_store_use *use, uint64_t version, uint64_t timeout);

/* Remove a key that was not used for long; *bytes receives the bytes of its object. FST_MISSING:
 * there is none; FST_READONLY, FST_HELD, FST_CLOSED. */
int fst_store_evict(fst_store_use *use, uint64_t *bytes);

/* A key of a listing, and its value. */
struct fst_listed_key {
    uint8_t bytes[255];
    uint8_t nbytes, kind;
    uint32_t value_kind; /* as in struct fst_value */
    uint64_t version;
    uint64_t size; /* bytes of the object */
};
/* The next key from *position on, which is 0 at first. FST_MISSING: there is none more; FST_STALE:
 * the index was moved, so begin anew; FST_CLOSED. */
int fst_store_next(fst_store_use *use, uint64_t *position, struct fst_listed_key *out);

/* End the store now: its name is free, and everybody's calls fail with FST_CLOSED. FST_READONLY,
 * FST_HELD. */
int fst_store_destroy(fst_store_use *use);

/* The numbers of a store. */
struct fst_store_info {
    uint64_t id, group;
    char name[FST_NAME_MAX];
    uint32_t state; /* 1 live, 2 ended */
    uint32_t flags;
    uint64_t keys, version;
    uint64_t bytes; /* bytes of the objects that its keys hold */
    uint64_t slots; /* slots of its index */
};
/* FST_CLOSED: there is no such store. */
int fst_store_get_info(fst_arena *arena, uint64_t store, struct fst_store_info *out);
/* The ids of all stores that are not FREE: up to `max`. The result is their number. */
size_t fst_store_list(fst_arena *arena, uint64_t *ids, size_t max);

#ifdef __cplusplus
}
#endif

#endif
