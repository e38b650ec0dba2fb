/* flagstone_store.h - stores: objects found by name. A part of flagstone.h.
 *
 * A store maps keys to objects, and holds them, for any number of takers. It ends when it is
 * destroyed, with its group, or with its arena; no death of a process ends it. Looking up takes no
 * lock and waits for nobody.
 */
#ifndef FLAGSTONE_STORE_H
#define FLAGSTONE_STORE_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FST_STORE_EVICTS 1u /* of no consequence to the core: for the user */

struct fst_store_spec {
    const char *name;
    uint32_t flags; /* FST_STORE_* */
    uint64_t group; /* id: what it ends with */
};

/* A process's use of a store. May be used by many threads, and after a fork by the child. */
typedef struct fst_store_use fst_store_use;

/* Open the store of this name, or create it. */
int fst_store_open(fst_arena *arena, const struct fst_store_spec *spec, enum fst_create how, fst_store_use **out, bool *created);
void fst_store_leave(fst_store_use *use);
uint64_t fst_store_id(const fst_store_use *use);

struct fst_key {
    const void *bytes;
    uint32_t nbytes; /* at most 255 */
    uint8_t kind;    /* the user's: keys of two kinds are two keys */
};

struct fst_looked_up {
    struct fst_ref ref;
    uint32_t kind;
    uint64_t version;
};
/* A reference to what the key holds. FST_MISSING, FST_FULL; FST_CLOSED: the store has ended. */
int fst_store_get(fst_store_use *use, const struct fst_key *key, struct fst_looked_up *out);
/* The version of the key's value, without a reference to it. */
int fst_store_key_version(fst_store_use *use, const struct fst_key *key, uint64_t *version);

#define FST_ANY_VERSION UINT64_MAX
#define FST_NO_VERSION  0u /* the key has no value */

struct fst_value {
    const struct fst_ref *ref; /* the caller keeps its reference */
    uint32_t kind;             /* the user's, below 256 */
    uint64_t ttl;              /* ns; 0: for ever */
};
/* The key holds this from now on. Only if its version is `if_version`: otherwise FST_MISMATCH.
 * FST_FULL, FST_READONLY; FST_CLOSED: the store has ended; FST_STALE: the object's group or cache
 * has. */
int fst_store_put(fst_store_use *use, const struct fst_key *key, const struct fst_value *value, uint64_t if_version,
                  uint64_t *version);
/* The key holds nothing from now on. FST_MISSING, FST_MISMATCH. */
int fst_store_remove(fst_store_use *use, const struct fst_key *key, uint64_t if_version);

/* A claim: this process makes the value of a key. If it dies, somebody else may claim. */
struct fst_store_claim {
    uint32_t item;
    uint64_t hold;
};
/* FST_EXISTS: it has a value; FST_WAIT: somebody else makes it. */
int fst_store_claim(fst_store_use *use, const struct fst_key *key, struct fst_store_claim *out);
/* FST_STALE: the claim is not ours any more, or as fst_store_put. */
int fst_store_publish(fst_store_use *use, const struct fst_store_claim *claim, const struct fst_value *value, uint64_t *version);
void fst_store_give_up(fst_store_use *use, const struct fst_store_claim *claim);

/* Counts the store's changes. */
uint64_t fst_store_version(const fst_store_use *use);
/* How many keys have a value; a process that was killed just now may have it say one more or less
 * until the next batch. */
uint64_t fst_store_length(const fst_store_use *use);
/* Sleep until the version is another one: then true. Some milliseconds at most, whatever the
 * timeout. May wait. */
bool fst_store_wait(fst_store_use *use, uint64_t version, uint64_t timeout);

/* Let go of a key that was not used for long, of so many bytes. FST_MISSING: there is none. */
int fst_store_evict(fst_store_use *use, uint64_t *bytes);

struct fst_listed_key {
    uint8_t bytes[255];
    uint8_t nbytes, kind;
    uint32_t value_kind;
    uint64_t version;
    uint64_t size; /* bytes of the object */
};
/* The next key from *position on, which is 0 at first. FST_MISSING: there is none more; FST_STALE:
 * begin anew, the index was moved. */
int fst_store_next(fst_store_use *use, uint64_t *position, struct fst_listed_key *out);

/* The store ends now: its name is free, everybody's calls fail with FST_CLOSED. */
int fst_store_destroy(fst_store_use *use);

struct fst_store_info {
    uint64_t id, group;
    char name[FST_NAME_MAX];
    uint32_t state; /* 1 live, 2 ended */
    uint32_t flags;
    uint64_t keys, version;
    uint64_t bytes; /* of the objects that they hold */
    uint64_t slots; /* of its index */
};
int fst_store_get_info(fst_arena *arena, uint64_t store, struct fst_store_info *out);
/* Ids of all stores that are not FREE: up to max; returns their number. */
size_t fst_store_list(fst_arena *arena, uint64_t *ids, size_t max);

#ifdef __cplusplus
}
#endif

#endif
