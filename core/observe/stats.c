/* stats.c - what people and tools see of an arena. Nothing here changes anything; numbers may be a
 * moment old. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "alloc/child.h"
#include "alloc/debug.h"
#include "alloc/form.h"
#include "alloc/registry.h"
#include "alloc/run.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/file.h"
#include "region/lock.h"

/* A section that holds up a grace period for so long is reported. */
#define STALL_NS (1000 * FST_MS)

/* Look at the file. False: there is no way to it any more. */
static bool file_status(struct fst_arena *a, struct stat *st)
{
    int fd = fst_file_get(a);
    bool known = fd >= 0 && fstat(fd, st) == 0;
    fst_file_put(a, fd);
    return known;
}

static uint64_t control_bytes(const struct fst_arena *a)
{
    uint64_t bytes = FST_PAGE;
    for (int k = 0; k < FST_T_COUNT; k++)
        bytes += fst_load_relaxed(&a->sb->tables[k].committed);
    for (uint32_t slot = 0; slot < fst_process_top(a); slot++)
        bytes += fst_process_at(a, slot)->entries_committed;
    return bytes;
}

static void stall_info(const struct fst_arena *a, struct fst_arena_info *out)
{
    uint32_t index = fst_load_relaxed(&a->sb->stalled_thread) - 1;
    if (index >= fst_thread_top(a))
        return;
    const struct fst_thread_slot *t = fst_thread_slot_at(a, index);
    uint64_t age = fst_now() - fst_load_relaxed(&a->sb->stalled_since);
    if (fst_load_relaxed(&t->seq) != fst_load_relaxed(&a->sb->stalled_seq) || age < STALL_NS)
        return; /* that section has ended, or is not worth a word yet */
    uint32_t process = fst_thread_owner_process(fst_load_relaxed(&t->owner));
    if (process >= FST_MAX_PROCESSES)
        return;
    out->stalled_pid = (uint64_t)fst_process_at(a, process)->pid;
    out->stalled_tid = t->tid;
    out->stalled_ns = age;
}

bool fst_section_in_the_way(fst_arena *a, int32_t *pid, uint32_t *tid)
{
    uint64_t oldest = fst_load_acquire(&a->sb->gp_seq);
    uint32_t top = fst_thread_top(a);
    bool found = false;
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_thread_slot *t = fst_thread_slot_at(a, i);
        uint64_t seq = fst_load_acquire(&t->seq);
        uint32_t process = fst_thread_owner_process(fst_load_relaxed(&t->owner));
        if (!seq || seq >= oldest || process >= fst_process_top(a) || !fst_process_alive(a, process))
            continue;
        oldest = seq;
        *pid = fst_load_relaxed(&fst_process_at(a, process)->pid);
        *tid = fst_load_relaxed(&t->tid);
        found = true;
    }
    return found;
}

static void batch_info(const struct fst_arena *a, struct fst_arena_info *out)
{
    uint32_t slot = fst_lock_owner(fst_load_relaxed(&a->sb->reaper_lock));
    uint64_t began = fst_load_relaxed(&a->sb->batch_started);
    if (slot >= fst_process_top(a))
        return;
    uint64_t now = fst_now();
    out->batch_pid = (uint64_t)fst_process_at(a, slot)->pid;
    /* While the batch has only just begun, or is about to end, this is 0. */
    out->batch_ns = began && now > began ? now - began : 0;
}

static const char *lock_name(uint32_t offset)
{
    if (offset == offsetof(struct fst_superblock, names_lock))
        return "names";
    if (offset == offsetof(struct fst_superblock, pages_lock))
        return "pages";
    return offset ? "child" : "";
}

int fst_arena_get_info(fst_arena *a, struct fst_arena_info *out)
{
    const struct fst_superblock *sb = a->sb;
    struct stat st;
    bool known = file_status(a, &st);
    memset(out, 0, sizeof *out);
    memcpy(out->uuid, sb->uuid, sizeof out->uuid);
    memcpy(out->path, a->path, sizeof out->path);
    out->capacity = sb->capacity;
    out->used = fst_load_relaxed(&sb->used_pages) << FST_PAGE_SHIFT;
    out->committed = known ? (uint64_t)st.st_blocks * 512 : 0;
    out->control = control_bytes(a);
    out->created_at = sb->created_at;
    out->readonly = a->readonly;
    out->lasting = sb->lasting != 0;
    out->anonymous = (sb->flags & FST_ARENA_ANONYMOUS) != 0;
    out->unlinked = known && a->path[0] && st.st_nlink == 0;
    out->batches = fst_load_relaxed(&sb->batches);
    out->grace_periods = fst_load_relaxed(&sb->grace_periods);
    out->released_objects = fst_load_relaxed(&sb->released_objects);
    out->released_bytes = fst_load_relaxed(&sb->released_bytes);
    out->deaths = fst_load_relaxed(&sb->deaths);
    struct fst_batch_info last;
    out->batch_last_ns = fst_batch_list(a, &last, 1) ? last.duration : 0;
    out->groups_waiting = fst_load_relaxed(&sb->ended_groups) - fst_load_relaxed(&sb->ended_spliced);
    out->hold_wall_ns = fst_load_relaxed(&sb->hold_ns[0]);
    out->hold_cpu_ns = fst_load_relaxed(&sb->hold_ns[1]);
    snprintf(out->hold_wall_lock, sizeof out->hold_wall_lock, "%s", lock_name(fst_load_relaxed(&sb->hold_lock[0])));
    snprintf(out->hold_cpu_lock, sizeof out->hold_cpu_lock, "%s", lock_name(fst_load_relaxed(&sb->hold_lock[1])));
    stall_info(a, out);
    batch_info(a, out);
    return FST_OK;
}

size_t fst_batch_list(fst_arena *a, struct fst_batch_info *out, size_t max)
{
    const struct fst_superblock *sb = a->sb;
    uint32_t last = fst_load_acquire(&sb->batches), room = sizeof sb->batch_log / sizeof *sb->batch_log;
    size_t n = 0;
    for (uint32_t number = last; n < max && number && last - number < room; number--) {
        const struct fst_batch_record *r = &sb->batch_log[number % room];
        if (fst_load_acquire(&r->number) != number) /* PAIR(record) */
            continue;
        struct fst_batch_info info = {.number = number,
                                      .groups = fst_load_relaxed(&r->groups),
                                      .children = fst_load_relaxed(&r->children),
                                      .objects = fst_load_relaxed(&r->objects),
                                      .bytes = fst_load_relaxed(&r->bytes),
                                      .began = fst_load_relaxed(&r->began),
                                      .duration = fst_load_relaxed(&r->duration),
                                      .grace_ns = fst_load_relaxed(&r->grace_ns)};
        fst_acquire_fence();                        /* PAIR(record) */
        if (fst_load_relaxed(&r->number) == number) /* it was not overwritten meanwhile */
            out[n++] = info;
    }
    return n;
}

void fst_child_count(fst_arena *a, struct fst_child_counts *out)
{
    uint32_t ended = 0, top = fst_child_top(a);
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < top; i++) {
        uint32_t state = fst_state(fst_load_relaxed(&fst_child_at(a, i)->state));
        out->live += state == FST_CHILD_LIVE || state == FST_CHILD_ENDING;
        out->deactivated += state == FST_CHILD_OFFLINE;
        ended += state == FST_CHILD_ENDED;
    }
    uint32_t under_way = fst_load_relaxed(&a->sb->batch_groups);
    out->releasing = under_way < ended ? under_way : ended;
    out->queued = ended - out->releasing;
}

/* ---- processes ---- */

/* Is the entry LIVE, and does it speak of something that is there? */
static bool entry_counts(struct fst_arena *a, uint64_t entry)
{
    const uint64_t *word = fst_word_of(a, fst_entry_oid(entry));
    uint64_t seen = word ? fst_load_acquire(word) : 0;
    return fst_entry_state(entry) == FST_ENTRY_LIVE && (seen & FST_WORD_ALLOCATED) && fst_entry_matches(entry, seen);
}

/* The bytes of the object of which an entry speaks, or 0 when it is not there any more. */
static uint64_t entry_bytes(struct fst_arena *a, uint64_t entry)
{
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(a, oid);
    if (!word || fst_oid_is_group(oid))
        return 0;
    uint64_t w = fst_load_acquire(word);
    const struct fst_slab *s = fst_slab_at(a, fst_oid_slab(oid));
    uint32_t child = fst_load_relaxed(&s->child);
    if (!(w & FST_WORD_ALLOCATED) || !fst_entry_matches(entry, w) || !fst_is_child(a, child))
        return 0;
    return fst_form_counted(a, fst_load_relaxed(&s->asked), fst_child_at(a, child)->size, w);
}

static void count_entries(struct fst_arena *a, uint32_t slot, struct fst_process_info *out)
{
    struct fst_table_look look;
    if (!fst_refs_look(a, slot, &look))
        return;
    for (uint32_t i = 0; i < look.top; i++) {
        uint64_t entry = fst_load_acquire(&look.entries[i]);
        if (fst_entry_state(entry) == FST_ENTRY_LIVE) {
            out->references += entry_counts(a, entry);
            out->bytes += entry_bytes(a, entry);
        } else if (entry) {
            out->dropped++;
        }
    }
    fst_refs_looked(&look);
}

size_t fst_process_list(fst_arena *a, struct fst_process_info *out, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++) {
        const struct fst_process *p = fst_process_at(a, slot);
        uint64_t seen = fst_load_acquire(&p->state);
        uint32_t state = fst_state(seen);
        if (state != FST_PROCESS_LIVE && state != FST_PROCESS_DEAD)
            continue;
        if (n < max) {
            struct fst_process_info *i = &out[n];
            memset(i, 0, sizeof *i);
            i->slot = slot;
            i->alive = state == FST_PROCESS_LIVE && fst_process_alive(a, slot);
            i->self = slot == a->slot;
            i->readonly = (fst_load_relaxed(&p->flags) & FST_PROCESS_READONLY) != 0;
            i->pid = fst_load_relaxed(&p->pid);
            i->uid = fst_load_relaxed(&p->uid);
            i->started = fst_load_relaxed(&p->started);
            memcpy(i->command, p->command, sizeof i->command - 1);
            memcpy(i->arguments, p->arguments, sizeof i->arguments - 1);
            if (!fst_process_is_still(a, slot, seen))
                continue;
            count_entries(a, slot, i);
            uint64_t owner = fst_thread_owner(a, slot);
            for (uint32_t t = 0; t < fst_thread_top(a); t++)
                i->threads += fst_load_relaxed(&fst_thread_slot_at(a, t)->owner) == owner;
        }
        n++;
    }
    return n;
}

size_t fst_holders(fst_arena *a, const struct fst_ref *ref, uint32_t *processes, size_t max)
{
    return fst_refs_holders(a, ref->oid, processes, max);
}

/* ---- in flight ---- */

/* Fill in what is known of an entry. *sender receives the sender, as in struct fst_inflight; 0: it
 * did not say. */
static bool inflight_info(struct fst_arena *a, uint32_t index, struct fst_inflight_info *out, uint32_t *sender)
{
    const struct fst_inflight *e = fst_inflight_at(a, index);
    uint64_t word = fst_load_acquire(&e->word);
    uint64_t oid = fst_inflight_oid(word), *object = fst_word_of(a, oid);
    if (!(word & FST_INFLIGHT_LIVE) || !object)
        return false;
    *sender = fst_inflight_said(e, word) && fst_inflight_has_sender(e) ? fst_load_relaxed(&e->sender) : 0;
    memset(out, 0, sizeof *out);
    out->entry = index;
    out->tag = (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT);
    out->is_group = fst_oid_is_group(oid);
    out->handle.generation_tag = fst_word_gen(fst_load_acquire(object)) | fst_handle_tag(a) << FST_HANDLE_TAG_SHIFT;
    out->handle.oid_slab = oid;
    if (!fst_inflight_sender(e, word, &out->pid, out->command, &out->age))
        return false;
    if (out->is_group) {
        out->group = fst_id(fst_oid_group_index(oid), fst_load_acquire(&fst_group_at(a, fst_oid_group_index(oid))->state));
        return true;
    }
    const struct fst_slab *s = fst_slab_at(a, fst_oid_slab(oid));
    out->handle.oid_slab |= (fst_load_relaxed(&s->state) >> FST_STATE_GEN_SHIFT) << FST_HANDLE_SLAB_SHIFT;
    uint32_t child = fst_load_relaxed(&s->child);
    if (fst_is_child(a, child)) {
        out->nbytes = fst_form_counted(a, fst_load_relaxed(&s->asked), fst_child_at(a, child)->size, fst_load_relaxed(object));
        fst_child_owner(a, child, &out->cache, &out->group);
    }
    return true;
}

size_t fst_inflight_count(fst_arena *a)
{
    size_t n = 0;
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++)
        n += fst_load_relaxed(&fst_inflight_at(a, i)->word) & FST_INFLIGHT_LIVE;
    return n;
}

size_t fst_inflight_list(fst_arena *a, struct fst_inflight_info *out, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_inflight_top(a), asked = 0;
    bool alive = false;
    for (uint32_t i = 0; i < top; i++) {
        struct fst_inflight_info info;
        uint32_t sender;
        if (!inflight_info(a, i, &info, &sender))
            continue;
        /* This is mostly the same sender as before, whose messages lie side by side. */
        if (sender && sender != asked)
            alive = fst_slot_alive(a, fst_lock_owner(sender), sender >> FST_LOCK_GEN_SHIFT);
        asked = sender ? sender : asked;
        info.sender_alive = sender && alive;
        if (n < max)
            out[n] = info;
        n++;
    }
    return n;
}

/* ---- who keeps what has ended ---- */

/* The group and the child cache of an object; both FST_NONE when it has none. Whoever has a
 * destroyed group open does not keep it, so that counts as none. */
static uint32_t place_of(struct fst_arena *a, uint64_t oid, uint32_t *child)
{
    uint32_t group;
    *child = FST_NONE;
    if (fst_oid_is_group(oid)) {
        group = fst_oid_group_index(oid);
        if (fst_state(fst_load_acquire(&fst_group_at(a, group)->state)) == FST_GROUP_DESTROYED)
            return FST_NONE;
    } else {
        *child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
        group = fst_is_child(a, *child) ? fst_load_relaxed(&fst_child_at(a, *child)->group) : FST_NONE;
    }
    return fst_is_group(a, group) ? group : FST_NONE;
}

struct keepers {
    struct fst_keeper *out;
    size_t n, max;
    uint32_t cache; /* only what is of this cache; FST_NONE: what is of any ended group */
};

/* Does a reference to this object keep something from being released that is asked for? Then the
 * object's group; otherwise FST_NONE. */
static uint32_t kept_group(struct fst_arena *a, const struct keepers *k, uint64_t oid)
{
    uint32_t child, group = place_of(a, oid, &child);
    if (k->cache != FST_NONE)
        return child != FST_NONE && fst_load_relaxed(&fst_child_at(a, child)->cache) == k->cache ? group : FST_NONE;
    return group != FST_NONE && fst_state(fst_load_acquire(&fst_group_at(a, group)->state)) > FST_GROUP_LIVE ? group : FST_NONE;
}

/* Count a reference of this process (NULL: in flight) to something that has ended. */
static void add_keeper(struct fst_arena *a, struct keepers *k, const struct fst_process *p, uint64_t oid, uint64_t bytes)
{
    uint32_t group = fst_word_of(a, oid) ? kept_group(a, k, oid) : FST_NONE;
    if (group == FST_NONE)
        return;
    const struct fst_group *g = fst_group_at(a, group);
    uint64_t id = fst_id(group, g->state), ended = fst_load_relaxed(&g->ended_at), now = fst_now();
    int32_t pid = p ? p->pid : 0;
    size_t i = k->n; /* mostly the one before: a process's references to a group lie together */
    while (i > 0 && (k->out[i - 1].group != id || k->out[i - 1].pid != pid))
        i--;
    if (i == 0) {
        if (k->n == k->max)
            return;
        struct fst_keeper *new = &k->out[k->n++];
        memset(new, 0, sizeof *new);
        new->group = id;
        new->pid = pid;
        new->ended_ns = ended &&now > ended ? now - ended : 0;
        if (p)
            memcpy(new->command, p->command, sizeof new->command - 1);
        new->for_children = p &&fst_process_keeps_for_children(a, (uint32_t)(p - fst_process_at(a, 0)));
        i = k->n;
    }
    k->out[i - 1].references++;
    k->out[i - 1].bytes += bytes;
}

static size_t list_keepers(struct fst_arena *a, struct keepers *k)
{
    for (uint32_t slot = 0; slot < fst_process_top(a); slot++) {
        const struct fst_process *p = fst_process_at(a, slot);
        if (!fst_process_keeps(a, slot))
            continue;
        struct fst_table_look look;
        if (!fst_refs_look(a, slot, &look))
            continue;
        for (uint32_t i = 0; i < look.top; i++) {
            uint64_t entry = fst_load_acquire(&look.entries[i]);
            if (entry_counts(a, entry))
                add_keeper(a, k, p, fst_entry_oid(entry), entry_bytes(a, entry));
        }
        fst_refs_looked(&look);
    }
    for (uint32_t i = 0; i < fst_inflight_top(a); i++) {
        struct fst_inflight_info info;
        uint32_t sender;
        if (inflight_info(a, i, &info, &sender))
            add_keeper(a, k, NULL, fst_handle_oid(&info.handle), info.nbytes);
    }
    return k->n;
}

size_t fst_keeper_list(fst_arena *a, struct fst_keeper *out, size_t max)
{
    return list_keepers(a, &(struct keepers){.out = out, .max = max, .cache = FST_NONE});
}

size_t fst_cache_keepers(fst_arena *a, uint64_t cache, struct fst_keeper *out, size_t max)
{
    return list_keepers(a, &(struct keepers){.out = out, .max = max, .cache = (uint32_t)cache});
}

/* ---- what processes use, by cache and group ---- */

#define USE_PROBES 8u

/* The row for these two in a table of `room` rows, in which `cache` is the child's index + 1 until
 * everything is counted. NULL: that row and those beside it are in use for others. */
static struct fst_use *use_row(struct fst_use *rows, size_t room, uint32_t slot, uint32_t child)
{
    uint64_t at = (slot * 0x9E3779B97F4A7C15u ^ child) * 0xD6E8FEB86659FD93u >> 32;
    for (uint32_t i = 0; i < USE_PROBES && i < room; i++) {
        struct fst_use *row = &rows[(at + i) % room];
        if (!row->objects)
            *row = (struct fst_use){.slot = slot, .cache = (uint64_t)child + 1};
        if (row->slot == slot && row->cache == (uint64_t)child + 1)
            return row;
    }
    return NULL;
}

static void count_use(struct fst_arena *a, struct fst_use *rows, size_t room, struct fst_use *rest, uint32_t slot, uint64_t entry)
{
    uint64_t oid = fst_entry_oid(entry);
    if (!entry_counts(a, entry) || fst_oid_is_group(oid))
        return;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    struct fst_use *row = room && fst_is_child(a, child) ? use_row(rows, room, slot, child) : NULL;
    row = row ? row : rest;
    row->objects++;
    row->bytes += entry_bytes(a, entry);
}

size_t fst_use_list(fst_arena *a, struct fst_use *out, size_t max)
{
    struct fst_use rest = {.slot = UINT32_MAX};
    size_t n = 0, room = max ? max - 1 : 0; /* the last row is for the rest */
    for (size_t i = 0; i < room; i++)
        out[i].objects = 0;
    for (uint32_t slot = 0; slot < fst_process_top(a); slot++) {
        struct fst_table_look look;
        if (!fst_process_keeps(a, slot) || !fst_refs_look(a, slot, &look))
            continue;
        for (uint32_t i = 0; i < look.top; i++)
            count_use(a, out, room, &rest, slot, fst_load_acquire(&look.entries[i]));
        fst_refs_looked(&look);
    }
    for (size_t i = 0; i < room; i++) {
        struct fst_use row = out[i];
        if (!row.objects)
            continue;
        if (fst_child_owner(a, (uint32_t)(row.cache - 1), &row.cache, &row.group) == FST_OK) {
            out[n++] = row;
        } else { /* released meanwhile */
            rest.objects += row.objects;
            rest.bytes += row.bytes;
        }
    }
    if (rest.objects && max)
        out[n++] = rest;
    return n;
}

int fst_debug_holders(fst_arena *a, fst_debug_holder *found, void *context)
{
    for (uint32_t slot = 0; slot < fst_process_top(a); slot++) {
        struct fst_table_look look;
        if (!fst_process_keeps(a, slot) || !fst_refs_look(a, slot, &look))
            continue;
        for (uint32_t i = 0; i < look.top; i++) {
            uint64_t entry = fst_load_acquire(&look.entries[i]);
            if (entry_counts(a, entry) && fst_debug_has(a, fst_entry_oid(entry)))
                found(context, slot, fst_entry_oid(entry));
        }
        fst_refs_looked(&look);
    }
    return fst_verdict(a, FST_OK);
}

/* ---- who holds the memory ---- */

/* What neither a process holds nor a message in flight. The bytes are not said, because all keys
 * would have to be gone through, and a store that makes room comes here each time. */
static void describe_kept(struct fst_arena *a, char *text, size_t size)
{
    uint64_t keys = 0, most = 0, rings = 0;
    char name[FST_NAME_MAX] = "";
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_store *s = fst_store_at(a, i);
        uint64_t count = fst_load_relaxed(&s->count);
        if (fst_state(fst_load_acquire(&s->state)) != FST_STORE_LIVE)
            continue;
        keys += count;
        if (count > most) {
            most = count;
            memcpy(name, s->name, sizeof name - 1);
        }
    }
    top = fst_channel_top(a);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_channel *c = fst_channel_at(a, i);
        rings += fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_LIVE && !(c->flags & FST_CHANNEL_LOCK);
    }
    int at = 0;
    if (keys)
        at = snprintf(text, size, "; in stores %s, %llu of them in '%.63s'", fst_many(keys, "key", "keys"),
                      (unsigned long long)most, name);
    if (rings && (size_t)at < size)
        snprintf(text + at, size - (size_t)at, "; what waits in %s", fst_many(rings, "channel or topic", "channels and topics"));
}

void fst_describe_usage(fst_arena *a, char *text, size_t size)
{
    struct fst_process_info p[16];
    struct statfs fs;
    uint64_t in_flight = 0, in_flight_bytes = 0, waiting = 0;
    size_t at = 0, n = fst_process_list(a, p, 16);
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_inflight_info info;
        uint32_t sender;
        if (inflight_info(a, i, &info, &sender)) {
            in_flight++;
            in_flight_bytes += info.nbytes;
        }
    }
    if (!size)
        return;
    text[0] = 0;
#define SAY(...)                                                       \
    do {                                                               \
        if (at < size)                                                 \
            at += (size_t)snprintf(text + at, size - at, __VA_ARGS__); \
    } while (0)
    SAY("arena %s: capacity %s, used %s", fst_arena_called(a), fst_size(a->known.capacity),
        fst_size(fst_load_relaxed(&a->sb->used_pages) << FST_PAGE_SHIFT));
    int fd = fst_file_get(a);
    if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_blocks)
        SAY(", its file system has %s free", fst_size((uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize));
    fst_file_put(a, fd);
    SAY("; held by");
    for (size_t i = 0; i < n && i < 16; i++) {
        SAY("%s pid %d (%s%s) %s in %s", i ? "," : "", p[i].pid, p[i].command, p[i].alive ? "" : ", dead", fst_size(p[i].bytes),
            fst_many(p[i].references, "object", "objects"));
        waiting += p[i].dropped;
    }
    char kept[200] = "";
    describe_kept(a, kept, sizeof kept);
    SAY("%s", kept);
    SAY("; in flight %s in %s; %s a batch", fst_size(in_flight_bytes), fst_many(in_flight, "message", "messages"),
        fst_many(waiting, "reference awaits", "references await"));
    struct fst_arena_info info;
    memset(&info, 0, sizeof info);
    stall_info(a, &info);
    if (info.stalled_pid)
        SAY(", stalled for %.1f s behind the read-side section of pid %llu, thread %llu", (double)info.stalled_ns / 1e9,
            (unsigned long long)info.stalled_pid, (unsigned long long)info.stalled_tid);
#undef SAY
}
