/* clobber_fields.h - every field of every structure in an arena's file, and what damage to it
 * means. For test_clobber.c.
 *
 * A row is FIELD(struct, field, bytes of one element, kind). The rows of a structure have to cover
 * it without a gap: a field added to one of these headers and not here is a
 * failure of the test's first case.
 */
#ifndef FST_TEST_CLOBBER_FIELDS_H
#define FST_TEST_CLOBBER_FIELDS_H

#include "region/descriptors.h"
#include "region/layout.h"
#include "region/processes.h"
#include "region/rings.h"
#include "region/stores.h"

enum structure {
    S_SUPERBLOCK,
    S_TABLE,
    S_RECORD, /* of a batch */
    S_INFLIGHT,
    S_ZONE,
    S_SLAB,
    S_CACHE,
    S_CHILD,
    S_GROUP,
    S_CGROUP,
    S_PROCESS,
    S_BURIAL,
    S_THREAD,
    S_WORD,    /* of an object */
    S_ENTRY,   /* of references */
    S_BUCKET,  /* of a table of names */
    S_SUMMARY, /* of zones */
    S_CHANNEL,
    S_RING,
    S_CELL, /* of a ring */
    S_HELD, /* what a ring's node refers to */
    S_NODE,
    S_SUBSCRIBER,
    S_STORE,
    S_ITEM,
    S_HOLD, /* what an item holds */
    S_SLOT, /* of a store's index */
    S_FORM,
    S_COUNT
};

enum kind {
    PART,     /* a structure of its own, with rows of its own */
    UNUSED,   /* never read */
    PEOPLE,   /* shown to people, or counted for them: every value is legal */
    HINT,     /* every value is legal: at worst something is done too early, too late or twice */
    CONSTANT, /* of the superblock, under its checksum */
    TRUTH,    /* authoritative */
    DERIVED,  /* from the truth; healed by the next rebuild */
    LOCK,     /* a lock's word */
};

struct field {
    enum structure structure;
    const char *name;
    uint32_t offset, size, element;
    enum kind kind;
};

#define ROW(s, type, field, element, kind)                                                                                      \
    {                                                                                                                           \
        s, #type "." #field, (uint32_t)offsetof(struct type, field), (uint32_t)sizeof(((struct type *)0)->field), element, kind \
    }
#define HOLE(s, type, after, until)                                                                                        \
    {                                                                                                                      \
        s, #type ".(hole after " #after ")", (uint32_t)(offsetof(struct type, after) + sizeof(((struct type *)0)->after)), \
            (uint32_t)((until)-offsetof(struct type, after) - sizeof(((struct type *)0)->after)), 4, UNUSED                \
    }

#define SB(field, element, kind)  ROW(S_SUPERBLOCK, fst_superblock, field, element, kind)
#define SB_HOLE(after, before)    HOLE(S_SUPERBLOCK, fst_superblock, after, offsetof(struct fst_superblock, before))
#define SLAB(field, element, k)   ROW(S_SLAB, fst_slab, field, element, k)
#define CACHE(field, element, k)  ROW(S_CACHE, fst_cache, field, element, k)
#define CHILD(field, element, k)  ROW(S_CHILD, fst_child, field, element, k)
#define GROUP(field, element, k)  ROW(S_GROUP, fst_group, field, element, k)
#define FLIGHT(field, element, k) ROW(S_INFLIGHT, fst_inflight, field, element, k)
#define PROC(field, element, k)   ROW(S_PROCESS, fst_process, field, element, k)
#define BURIAL(field, element, k) ROW(S_BURIAL, fst_burial, field, element, k)
#define THREAD(field, element, k) ROW(S_THREAD, fst_thread_slot, field, element, k)
#define RECORD(field, element, k) ROW(S_RECORD, fst_batch_record, field, element, k)
#define FORM(field, element, k)   ROW(S_FORM, fst_form, field, element, k)
#define CGROUP(field, element, k) ROW(S_CGROUP, fst_cgroup, field, element, k)

#define CHANNEL(field, element, k)    ROW(S_CHANNEL, fst_channel, field, element, k)
#define RING(field, element, k)       ROW(S_RING, fst_ring, field, element, k)
#define SUBSCRIBER(field, element, k) ROW(S_SUBSCRIBER, fst_subscriber, field, element, k)
#define STORE(field, element, k)      ROW(S_STORE, fst_store, field, element, k)
#define ITEM(field, element, k)       ROW(S_ITEM, fst_item, field, element, k)

static const uint32_t structure_sizes[S_COUNT] = {
    [S_SUPERBLOCK] = sizeof(struct fst_superblock),
    [S_TABLE] = sizeof(struct fst_table),
    [S_RECORD] = sizeof(struct fst_batch_record),
    [S_INFLIGHT] = sizeof(struct fst_inflight),
    [S_ZONE] = sizeof(struct fst_zone),
    [S_SLAB] = sizeof(struct fst_slab),
    [S_CACHE] = sizeof(struct fst_cache),
    [S_CHILD] = sizeof(struct fst_child),
    [S_GROUP] = sizeof(struct fst_group),
    [S_CGROUP] = sizeof(struct fst_cgroup),
    [S_PROCESS] = sizeof(struct fst_process),
    [S_BURIAL] = sizeof(struct fst_burial),
    [S_THREAD] = sizeof(struct fst_thread_slot),
    [S_WORD] = 8,
    [S_ENTRY] = 8,
    [S_BUCKET] = 4,
    [S_SUMMARY] = 8,
    [S_CHANNEL] = sizeof(struct fst_channel),
    [S_RING] = sizeof(struct fst_ring),
    [S_CELL] = 8,
    [S_HELD] = 8,
    [S_NODE] = sizeof(struct fst_node),
    [S_SUBSCRIBER] = sizeof(struct fst_subscriber),
    [S_STORE] = sizeof(struct fst_store),
    [S_ITEM] = sizeof(struct fst_item),
    [S_HOLD] = 8,
    [S_SLOT] = 8,
    [S_FORM] = sizeof(struct fst_form),
};

static const struct field fields[] = {
    SB(magic, 8, CONSTANT),
    SB(fingerprint, 8, CONSTANT),
    SB(uuid, 8, CONSTANT),
    SB(version, 4, CONSTANT),
    SB(flags, 4, CONSTANT),
    SB(capacity, 8, CONSTANT),
    SB(control_size, 8, CONSTANT),
    SB(data_offset, 8, CONSTANT),
    SB(created_at, 8, CONSTANT),
    SB(tables, 8, PART),
    SB(checksum, 8, CONSTANT),
    SB_HOLE(checksum, gp_seq),
    SB(gp_seq, 8, TRUTH),
    SB(gp_completed, 8, TRUTH),
    SB(state, 8, TRUTH),
    SB(lasting, 8, TRUTH),
    SB_HOLE(lasting, pages_lock),
    SB(pages_lock, 4, LOCK),
    SB(zones, 4, TRUTH),
    SB(used_pages, 8, DERIVED),
    SB(slab_free, 4, DERIVED),
    SB(slab_top, 4, TRUTH),
    SB(idle_looked, 8, HINT),
    SB_HOLE(idle_looked, names_lock),
    SB(names_lock, 4, LOCK),
    SB(cache_top, 4, TRUTH),
    SB(child_top, 4, TRUTH),
    SB(group_top, 4, TRUTH),
    SB(cache_free, 4, DERIVED),
    SB(child_free, 4, DERIVED),
    SB(group_free, 4, DERIVED),
    SB(buckets, 4, DERIVED),
    SB(cgroup_top, 4, TRUTH),
    SB(channel_top, 4, TRUTH),
    SB(channel_look, 4, HINT),
    SB(store_top, 4, TRUTH),
    SB(item_top, 4, TRUTH),
    SB(store_look, 4, HINT),
    SB(teardown_lock, 4, LOCK),
    SB_HOLE(teardown_lock, reaper_lock),
    SB(reaper_lock, 4, LOCK),
    SB(batches, 4, TRUTH),
    SB(batches_begun, 4, TRUTH),
    SB(batch_dirty, 4, HINT),
    SB(waiters, 4, HINT),
    SB(ended_head, 4, DERIVED),
    SB(ended_tail, 4, DERIVED),
    SB(ended_groups, 4, DERIVED),
    SB(ended_spliced, 4, DERIVED),
    SB(ended_caches, 4, DERIVED),
    SB(ended_walk, 4, HINT),
    SB(ended_slabs, 4, HINT),
    SB(batch_groups, 4, PEOPLE),
    SB(loose, 4, PEOPLE),
    SB(batch_started, 8, PEOPLE),
    SB(batch_log, 8, PART),
    SB(released_objects, 8, PEOPLE),
    SB(released_bytes, 8, PEOPLE),
    SB(grace_periods, 8, PEOPLE),
    SB(deaths, 8, PEOPLE),
    SB(burials, 8, PEOPLE),
    SB(hold_lock, 4, PEOPLE),
    SB(hold_ns, 8, PEOPLE),
    SB(stalled_thread, 4, PEOPLE),
    SB(holes, 4, DERIVED),
    SB(stalled_seq, 8, PEOPLE),
    SB(stalled_since, 8, PEOPLE),
    SB(barriers, 8, HINT),
    SB_HOLE(barriers, inflight_top),
    SB(inflight_top, 4, TRUTH),
    SB_HOLE(inflight_top, item_expires_at),
    SB(item_expires_at, 8, HINT),
    SB(expire_at, 8, HINT),
    SB_HOLE(expire_at, process_top),
    SB(process_top, 4, TRUTH),
    SB(thread_top, 4, TRUTH),
    SB(form_top, 4, TRUTH),
    SB_HOLE(form_top, faults),
    SB(faults, 8, PEOPLE),
    SB(fault_log, 8, PEOPLE),
    HOLE(S_SUPERBLOCK, fst_superblock, fault_log, sizeof(struct fst_superblock)),

    ROW(S_TABLE, fst_table, offset, 8, CONSTANT),
    ROW(S_TABLE, fst_table, count, 8, CONSTANT),
    ROW(S_TABLE, fst_table, size, 4, CONSTANT),
    ROW(S_TABLE, fst_table, pad, 4, CONSTANT),
    ROW(S_TABLE, fst_table, committed, 8, TRUTH),

    RECORD(number, 4, PEOPLE),
    RECORD(groups, 4, PEOPLE),
    RECORD(children, 4, PEOPLE),
    RECORD(pad0, 4, UNUSED),
    RECORD(objects, 8, PEOPLE),
    RECORD(bytes, 8, PEOPLE),
    RECORD(began, 8, PEOPLE),
    RECORD(duration, 8, PEOPLE),
    RECORD(grace_ns, 8, PEOPLE),
    RECORD(pad1, 8, UNUSED),

    FLIGHT(word, 8, TRUTH),
    FLIGHT(generation, 8, PEOPLE),
    FLIGHT(sent_at, 8, PEOPLE),
    FLIGHT(pid, 4, PEOPLE),
    FLIGHT(use, 4, PEOPLE),
    FLIGHT(command, 8, PEOPLE),
    FLIGHT(sender, 4, PEOPLE),
    FLIGHT(group, 4, PEOPLE),
    FLIGHT(ended, 4, PEOPLE),
    FLIGHT(pad, 4, UNUSED),

    ROW(S_ZONE, fst_zone, classes, 8, DERIVED),
    ROW(S_ZONE, fst_zone, committed, 8, TRUTH),
    ROW(S_ZONE, fst_zone, free, 8, DERIVED),
    ROW(S_ZONE, fst_zone, idle, 8, HINT),
    ROW(S_ZONE, fst_zone, pad, 8, UNUSED),

    SLAB(state, 8, TRUTH),
    SLAB(child, 4, TRUTH),
    SLAB(page, 4, TRUTH),
    SLAB(pages, 4, TRUTH),
    SLAB(objects, 2, TRUTH),
    SLAB(pad0, 2, UNUSED),
    SLAB(owner, 8, TRUTH),
    SLAB(asked, 8, TRUTH),
    SLAB(next, 4, DERIVED),
    SLAB(prev, 4, DERIVED),
    SLAB(list, 1, DERIVED),
    SLAB(shared, 1, HINT),
    SLAB(frees, 2, HINT),
    SLAB(fenced, 1, HINT),
    SLAB(pad1, 1, UNUSED),
    SLAB(revoked, 8, HINT),

    CACHE(state, 8, TRUTH),
    CACHE(size, 8, TRUTH),
    CACHE(align, 8, TRUTH),
    CACHE(flags, 4, TRUTH),
    CACHE(aliases, 4, DERIVED),
    CACHE(first, 4, DERIVED),
    CACHE(merged, 4, TRUTH),
    CACHE(init_slab, 4, TRUTH),
    CACHE(init_bytes, 4, TRUTH),
    CACHE(name, 8, TRUTH),
    CACHE(format, 8, TRUTH),
    CACHE(next_free, 4, DERIVED),
    CACHE(root_child, 4, DERIVED),
    CACHE(ending, 4, LOCK),
    CACHE(first_alias, 4, DERIVED),
    CACHE(next_alias, 4, DERIVED),
    CACHE(prev_alias, 4, DERIVED),
    CACHE(by_name, 4, DERIVED),
    CACHE(by_shape, 4, DERIVED),
    CACHE(next_ended, 4, DERIVED),
    CACHE(queued, 4, DERIVED),
    CACHE(retired, 8, HINT),
    CACHE(rest_bytes, 4, TRUTH),
    CACHE(pad, 4, UNUSED),

    CHILD(state, 8, TRUTH),
    CHILD(cache, 4, TRUTH),
    CHILD(group, 4, TRUTH),
    CHILD(size, 8, TRUTH),
    CHILD(stride, 8, TRUTH),
    CHILD(objects, 4, TRUTH),
    CHILD(pages, 4, TRUTH),
    CHILD(align_order, 4, TRUTH),
    CHILD(flags, 4, TRUTH),
    CHILD(slab_class, 4, TRUTH),
    CHILD(shared, 4, HINT),
    CHILD(pad0, 4, UNUSED),
    CHILD(lock, 4, LOCK),
    CHILD(partial, 4, DERIVED),
    CHILD(full, 4, DERIVED),
    CHILD(slabs, 4, DERIVED),
    CHILD(next_free, 4, DERIVED),
    CHILD(next_in_cache, 4, DERIVED),
    CHILD(prev_in_cache, 4, DERIVED),
    CHILD(next_in_group, 4, DERIVED),
    CHILD(prev_in_group, 4, DERIVED),
    CHILD(pad1, 4, UNUSED),
    CHILD(used_pages, 8, DERIVED),
    CHILD(pad2, 4, UNUSED),
    /* between slab_class's line and the lock's, and at the end */
    HOLE(S_CHILD, fst_child, pad0, offsetof(struct fst_child, lock)),
    HOLE(S_CHILD, fst_child, pad2, sizeof(struct fst_child)),

    GROUP(word, 8, TRUTH),
    GROUP(state, 8, TRUTH),
    GROUP(parent, 4, TRUTH),
    GROUP(first, 4, DERIVED),
    GROUP(flags, 4, TRUTH),
    GROUP(children, 4, DERIVED),
    GROUP(limit, 8, TRUTH),
    GROUP(usage, 8, DERIVED),
    GROUP(peak, 8, PEOPLE),
    GROUP(limit_hits, 8, PEOPLE),
    GROUP(failed, 8, PEOPLE),
    GROUP(reclaims, 8, PEOPLE),
    GROUP(name, 8, TRUTH),
    GROUP(next_free, 4, DERIVED),
    GROUP(next_ended, 4, DERIVED),
    GROUP(ended_at, 8, PEOPLE),
    GROUP(by_name, 4, DERIVED),
    GROUP(first_group, 4, DERIVED),
    GROUP(next_sibling, 4, DERIVED),
    GROUP(prev_sibling, 4, DERIVED),
    GROUP(pad0, 4, UNUSED),
    GROUP(messages_expire, 8, HINT),
    GROUP(pad, 4, UNUSED),

    CGROUP(group, 8, TRUTH),
    CGROUP(device, 8, TRUTH),
    CGROUP(inode, 8, TRUTH),
    CGROUP(view, 8, TRUTH),
    CGROUP(root_inode, 8, TRUTH),
    CGROUP(path, 8, TRUTH),

    PROC(state, 8, TRUTH),
    PROC(pid, 4, PEOPLE),
    PROC(uid, 4, PEOPLE),
    PROC(started, 8, PEOPLE),
    PROC(flags, 4, PEOPLE),
    PROC(entry_top, 4, TRUTH),
    PROC(command, 8, PEOPLE),
    PROC(entries_committed, 8, TRUTH),
    PROC(dropped, 4, HINT),
    PROC(burial, 4, HINT),
    PROC(arguments, 8, PEOPLE),
    PROC(channels, 8, HINT),

    BURIAL(number, 8, PEOPLE),
    BURIAL(noticed_at, 8, PEOPLE),
    BURIAL(finished_at, 8, PEOPLE),
    BURIAL(pid, 4, PEOPLE),
    BURIAL(uid, 4, PEOPLE),
    BURIAL(slot, 4, PEOPLE),
    BURIAL(reaper, 4, PEOPLE),
    BURIAL(generation, 8, PEOPLE),
    BURIAL(bytes, 8, PEOPLE),
    BURIAL(objects, 8, PEOPLE),
    BURIAL(command, 8, PEOPLE),
    BURIAL(groups, 8, PEOPLE),
    BURIAL(flags, 8, PEOPLE),
    BURIAL(pad, 8, UNUSED),

    THREAD(seq, 8, TRUTH),
    THREAD(allocating, 4, HINT),
    THREAD(waiter, 4, HINT),
    THREAD(owner, 8, TRUTH),
    THREAD(tid, 4, PEOPLE),
    THREAD(generation, 4, TRUTH),
    THREAD(pad, 8, UNUSED),

    FORM(state, 4, TRUTH),
    FORM(next, 4, DERIVED),
    FORM(nbytes, 8, TRUTH),
    FORM(hash, 4, TRUTH),
    FORM(text_bytes, 4, TRUTH),
    FORM(pad, 8, UNUSED),
    FORM(text, 8, TRUTH),
    {S_WORD, "object word", 0, 8, 8, TRUTH},
    {S_ENTRY, "reference entry", 0, 8, 8, TRUTH},
    {S_BUCKET, "bucket", 0, 4, 4, DERIVED},
    {S_SUMMARY, "zone summary", 0, 8, 8, DERIVED},
    CHANNEL(state, 8, TRUTH),
    CHANNEL(generation_tag, 8, TRUTH),
    CHANNEL(oid_slab, 8, TRUTH),
    CHANNEL(capacity, 4, TRUTH),
    CHANNEL(inline_bytes, 4, TRUTH),
    CHANNEL(flags, 4, TRUTH),
    CHANNEL(cells, 4, TRUTH),
    CHANNEL(group, 8, TRUTH),
    CHANNEL(nodes_top, 4, TRUTH),
    CHANNEL(refs_top, 4, TRUTH),
    CHANNEL(pad, 8, UNUSED),
    CHANNEL(name, 8, TRUTH),

    RING(ended, 4, TRUTH),
    RING(lock, 4, LOCK),
    RING(holder, 8, HINT),
    RING(pad0, 8, UNUSED),
    RING(tail, 8, TRUTH),
    RING(pad1, 8, UNUSED),
    RING(head, 8, TRUTH),
    RING(pad2, 8, UNUSED),
    RING(takers, 4, HINT),
    RING(putters, 4, HINT),
    RING(subscribers_top, 4, TRUTH),
    RING(pad3, 4, UNUSED),

    {S_CELL, "cell", 0, 8, 8, TRUTH},
    {S_HELD, "reference of a node", 0, 8, 8, TRUTH},

    ROW(S_NODE, fst_node, word, 8, TRUTH),
    ROW(S_NODE, fst_node, nbytes, 4, TRUTH),
    ROW(S_NODE, fst_node, kind, 4, PEOPLE),

    SUBSCRIBER(word, 8, TRUTH),
    SUBSCRIBER(cursor, 8, TRUTH),
    SUBSCRIBER(lost, 8, PEOPLE),
    SUBSCRIBER(pad, 8, UNUSED),

    STORE(state, 8, TRUTH),
    STORE(index, 8, TRUTH),
    STORE(next, 8, HINT),
    STORE(group, 8, TRUTH),
    STORE(flags, 4, TRUTH),
    STORE(pad0, 4, UNUSED),
    STORE(lock, 4, LOCK),
    STORE(sleepers, 4, HINT),
    STORE(version, 8, HINT),
    STORE(count, 8, HINT),
    STORE(filled, 8, DERIVED),
    STORE(hand, 8, HINT),
    STORE(pad1, 4, UNUSED),
    STORE(name, 8, TRUTH),
    STORE(pad2, 8, UNUSED),

    ITEM(hash, 8, TRUTH),
    ITEM(versions, 8, PEOPLE),
    ITEM(expires, 8, HINT),
    ITEM(store, 4, TRUTH),
    ITEM(key_kind, 1, TRUTH),
    ITEM(used, 1, HINT),
    ITEM(key_bytes, 1, TRUTH),
    ITEM(pad, 1, UNUSED),

    {S_HOLD, "hold", 0, 8, 8, TRUTH},
    {S_SLOT, "slot", 0, 8, 8, DERIVED},
};
#define FIELDS (sizeof fields / sizeof *fields)

/* ---- what check() need not see ---- */

enum { ZERO, ONES, PLUS, MINUS, FLIP, BEYOND, SELF, VALUES };

#define V(v) (1u << (v))
#define ALL  (V(VALUES) - 1)

/* A value that may be right: nothing says which of the legal ones it was. Of every other value
 * of a word that is TRUTH, DERIVED or a LOCK, check() says exactly one thing. */
static const struct legal {
    const char *field, *spot; /* NULL: any */
    uint32_t values;
    const char *why;
} legal[] = {
    /* descriptors that are free: only that they are, and where the next free one is, means
     * anything */
    {"fst_cache", "gone", ALL, "free"},
    {"fst_child", "gone", ALL, "free"},
    {"fst_group", "ended", ALL, "free"},
    {"fst_slab", "free slab", ALL, "free"},
    {"fst_inflight.word", "free message", V(FLIP) | V(BEYOND) | V(SELF), "another tag for its next use"},
    {"object word", "large", V(PLUS), "about to be given back"},
    {"object word", "free", V(PLUS) | V(FLIP), "another generation, or about to be released"},
    /* states */
    {"fst_cache.state", NULL, V(FLIP), "another generation"},
    {"fst_child.state", NULL, V(FLIP), "another generation"},
    {"fst_group.state", NULL, V(FLIP), "another generation"},
    {"fst_slab.state", NULL, V(FLIP), "another generation"},
    {"fst_cache.state", "starting", V(SELF), "LIVE, another generation"},
    {"fst_child.state", NULL, V(PLUS) | V(MINUS) | V(SELF), "a state that it may go to"},
    {"fst_group.state", NULL, V(MINUS) | V(SELF), "a state that it may have come from"},
    {"fst_process.state", "base", V(PLUS) | V(MINUS) | V(FLIP), "another state or generation"},
    {"fst_group.word", NULL, V(ZERO) | V(PLUS) | V(FLIP) | V(SELF), "nobody refers to it, or another generation"},
    {"object word", NULL, V(FLIP), "another generation or slack"},
    {"fst_inflight.word", "message", V(ZERO) | V(SELF) | V(FLIP), "taken, or another tag"},
    {"reference entry", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "another state, object or generation"},
    /* parameters that only their user knows */
    {"fst_cache.name", NULL, ALL, "what is behind the end of the text"},
    {"fst_cache.format", NULL, ALL, "any text, or what is behind its end"},
    {"fst_group.name", NULL, ALL, "any text of a group that ended, or what is behind its end"},
    {"fst_cache.flags", "alias", V(PLUS) | V(SELF), "another set of flags"},
    {"fst_cache.init_bytes", "starting", V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "another length that fits in the slab"},
    {"fst_cache.rest_bytes", "starting", ALL, "another length that fits in the slab"},
    {"fst_cache.init_slab", "alias", V(ZERO) | V(PLUS), "a slab with initial content"},
    {"fst_group.flags", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(SELF) | V(FLIP), "another set of flags"},
    {"fst_group.limit", NULL, ALL, "another limit"},
    {"fst_slab.asked", "large", V(PLUS) | V(MINUS) | V(FLIP), "another size of as many pages"},
    {"fst_slab", "initial slab", ALL, "of the words of a slab with initial content only state, page and pages are read"},
    {"fst_slab.owner", NULL, V(PLUS) | V(SELF) | V(FLIP), "another thread's, or a dead one's"},
    {"fst_cgroup", NULL, ALL, "another cgroup, or none"},
    {"fst_zone.committed", NULL, ALL, "memory that is there is taken once more; what is not is taken when it is touched"},
    {"fst_process.entries_committed", NULL, V(FLIP), "the same"},
    {"fst_table.committed", NULL, V(FLIP), "the same"},
    {"fst_process.entry_top", "base", V(ZERO) | V(PLUS) | V(SELF) | V(FLIP), "entries that were not used yet"},
    /* links of what is on no list */
    {"fst_cache.by_name", NULL, V(ONES) | V(PLUS) | V(MINUS) | V(FLIP) | V(BEYOND) | V(SELF), "the last of its bucket"},
    {"fst_cache.by_shape", NULL, ALL, "the last of its bucket, or in no table"},
    {"fst_group.by_name", NULL, ALL, "the last of its bucket, or in no table"},
    {"fst_cache.first", "alias", ALL, "an alias has no children"},
    {"fst_cache.first_alias", "alias", ALL, "nor aliases"},
    {"fst_cache.aliases", "alias", ALL, "the same"},
    {"fst_cache.root_child", "alias", ALL, "the same"},
    {"fst_cache.next_alias", "plain", ALL, "no alias"},
    {"fst_cache.prev_alias", "plain", ALL, "no alias"},
    {"fst_cache.next_alias", "starting", ALL, "no alias"},
    {"fst_cache.prev_alias", "starting", ALL, "no alias"},
    {"fst_cache.next_ended", NULL, ALL, "on no list"},
    {"fst_cache.queued", NULL, ALL, "cleared by a batch that looks at everything"},
    {"fst_cache.next_free", NULL, ALL, "in use"},
    {"fst_child.next_free", NULL, ALL, "in use"},
    {"fst_group.next_free", NULL, ALL, "in use"},
    {"fst_group.next_ended", NULL, ALL, "on no list"},
    {"fst_group.next_sibling", "root", ALL, "the root has no siblings"},
    {"fst_group.prev_sibling", "root", ALL, "the root has no siblings"},
    {"zone summary", NULL, V(FLIP) | V(BEYOND) | V(ONES), "bits of zones that are not in use"},
    /* counters that others compare only with each other */
    {"fst_superblock.buckets", NULL, V(PLUS) | V(MINUS) | V(FLIP), "as long as every name is found"},
    {"fst_superblock.ended_tail", NULL, ALL, "nothing is queued"},
    {"fst_superblock.batches", NULL, V(MINUS) | V(FLIP), "a batch was broken off"},
    {"fst_superblock.batches_begun", NULL, V(PLUS) | V(FLIP), "a batch was broken off"},
    {"fst_superblock.gp_seq", NULL, V(PLUS) | V(FLIP) | V(BEYOND), "others have begun and are not over"},
    {"fst_superblock.gp_completed", NULL, V(ZERO) | V(MINUS) | V(FLIP) | V(SELF), "the next one says what is over"},
    {"fst_superblock.lasting", NULL, V(ZERO) | V(MINUS) | V(FLIP) | V(SELF), "both are legal"},
    {"fst_superblock.state", NULL, V(PLUS), "about to be removed"},
    {"fst_superblock.process_top", NULL, V(PLUS) | V(FLIP), "slots that were not used yet"},
    {"fst_superblock.thread_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.cgroup_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.form_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_form.state", NULL, V(ZERO) | V(MINUS) | V(FLIP) | V(SELF), "its maker was killed, or as it was"},
    {"fst_form.text", NULL, ALL, "what is behind the end of the text"},
    {"fst_superblock.channel_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.store_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.item_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.cache_top", NULL, V(PLUS) | V(FLIP), "the same: whoever rebuilds finds it free"},
    {"fst_superblock.slab_top", NULL, V(PLUS) | V(FLIP), "the same"},
    {"fst_superblock.inflight_top", NULL, V(MINUS) | V(FLIP), "entries that were not used yet"},
    {"fst_thread_slot.generation", NULL, ALL, "another thread"},
    {"fst_thread_slot.owner", "base", V(ZERO) | V(PLUS) | V(SELF) | V(FLIP), "another process's, or nobody's"},
    {"fst_thread_slot.seq", NULL, V(ZERO) | V(PLUS) | V(SELF), "in a section, or in none"},
    /* channels, topics and locks: what a queue may look like at some moment */
    {"fst_channel.state", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "a state it may go to, or another generation"},
    {"fst_channel.generation_tag", NULL, V(FLIP) | V(SELF), "another tag"},
    {"fst_channel.oid_slab", NULL, V(FLIP), "another tag"},
    {"fst_channel.capacity", NULL, V(PLUS) | V(MINUS) | V(SELF), "another capacity of as many cells"},
    {"fst_channel.capacity", "lock", V(FLIP), "a lock has no messages"},
    {"fst_channel.inline_bytes", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "another length of as many lines"},
    {"fst_channel.flags", NULL, ALL, "another set of flags"},
    {"fst_channel.group", NULL, ALL, "what large messages are charged to"},
    {"fst_channel.name", NULL, ALL, "any name, or what is behind its end"},
    {"fst_ring.lock", "queue", ALL, "no lock"},
    {"fst_ring.lock", "topic", ALL, "no lock"},
    {"fst_ring.lock", "lock", V(SELF), "waited for"},
    {"fst_ring.tail", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(SELF), "a step behind, or fewer messages"},
    {"fst_ring.head", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(SELF), "the same"},
    {"fst_ring.subscribers_top", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "records that were not used yet"},
    {"cell", NULL, ALL, "a position of another round"},
    {"reference of a node", NULL, ALL, "another object that is there, or none"},
    {"fst_node.word", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(BEYOND) | V(SELF), "another state, owner or position"},
    {"fst_node.nbytes", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "another length that fits"},
    {"fst_node.nbytes", "free", ALL, "free"},
    {"fst_subscriber.word", NULL, V(ZERO) | V(MINUS) | V(FLIP) | V(BEYOND) | V(SELF), "another state, policy, use or owner"},
    {"fst_subscriber", "free subscriber", ALL, "free"},
    {"fst_subscriber.cursor", NULL, V(PLUS), "a message that is just being published"},
    /* stores */
    {"fst_store.state", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "a state it may go to, or another generation"},
    {"fst_store.group", NULL, ALL, "another group"},
    {"fst_store.flags", NULL, ALL, "the user's"},
    {"fst_store.index", NULL, V(FLIP), "another count of how often it moved"},
    {"fst_store.name", NULL, ALL, "any name, or what is behind its end"},
    {"fst_store.lock", NULL, V(SELF), "waited for"},
    {"fst_item", NULL, ALL, "another key"},
    {"hold", NULL, V(ZERO) | V(PLUS) | V(MINUS) | V(FLIP) | V(SELF), "another state, object or tag"},
    {"slot", NULL, V(PLUS) | V(MINUS) | V(FLIP) | V(BEYOND) | V(SELF) | V(ONES), "another item, or hash"},
    /* one's own slot as the lock's owner: waited for */
    {"fst_cache.ending", NULL, V(SELF), "no word of a lock at all"},
    {"fst_child.lock", NULL, V(SELF), "the same"},
};
#define LEGALS (sizeof legal / sizeof *legal)

#endif
