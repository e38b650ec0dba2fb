"""The core's public header, as far as the binding uses it."""

from libc.stdint cimport int64_t, int32_t, uint8_t, uint32_t, uint64_t


cdef extern from "flagstone.h" nogil:
    ctypedef unsigned char fst_bool "bool"

    enum: FST_OK
    enum: FST_FULL
    enum: FST_LIMIT
    enum: FST_INVALID
    enum: FST_CLOSED
    enum: FST_MISMATCH
    enum: FST_FOREIGN
    enum: FST_MISSING
    enum: FST_STALE
    enum: FST_TIMEOUT
    enum: FST_BUSY
    enum: FST_WAIT
    enum: FST_END
    enum: FST_HELD
    size_t FST_CHECK_HELD
    enum: FST_CACHE_SIZE_CLASS
    uint64_t FST_NO_LIMIT
    size_t FST_FORMAT_LONGEST

    void fst_patience(uint64_t ns)
    void fst_patience_default()
    void fst_patience_of_all(uint64_t ns)

    const char *fst_last_error()
    int fst_last_errno()

    ctypedef struct fst_arena:
        pass

    # ---- arenas

    enum fst_create:
        FST_OPEN_OR_CREATE
        FST_CREATE_NEW
        FST_OPEN_EXISTING

    struct fst_open_options:
        const char *path
        uint64_t capacity
        fst_create create
        bint readonly
        bint lasting
        bint huge_pages
        uint32_t mode, debug

    int fst_arena_open(const fst_open_options *options, fst_arena **out)
    int fst_arena_open_fd(int fd, bint readonly, fst_arena **out)
    fst_arena *fst_arena_find(const uint8_t *uuid)
    void fst_arena_unref(fst_arena *arena)
    void fst_leave_all()
    void fst_fork_begin()
    void fst_fork_end()
    bint fst_arena_usable(const fst_arena *arena)

    struct fst_arena_info:
        uint8_t uuid[16]
        char path[256]
        uint64_t capacity, used, committed, control, created_at
        bint readonly, lasting, anonymous, unlinked
        uint64_t batches, grace_periods, released_objects, released_bytes, deaths
        uint64_t batch_last_ns
        uint32_t groups_waiting
        char hold_wall_lock[8]
        char hold_cpu_lock[8]
        uint64_t hold_wall_ns, hold_cpu_ns
        uint64_t stalled_pid, stalled_tid, stalled_ns
        uint64_t batch_pid, batch_ns

    int fst_arena_get_info(fst_arena *arena, fst_arena_info *out)
    int fst_arena_fd(fst_arena *arena)
    int fst_arena_refused(const fst_arena *arena)
    uint32_t fst_unusable

    struct fst_peek:
        uint8_t uuid[16]
        uint64_t capacity, used, committed, created_at
        uint32_t processes
        bint lasting, orphan

    int peek_file "fst_peek"(const char *path, fst_peek *out)
    int fst_ref_at(fst_arena *arena, const void *address, fst_ref *out)
    bint fst_arena_spans(const fst_arena *arena, const void *address)
    int fst_gc(const char *folder, char **removed)
    int fst_unlink(const char *path)

    # ---- caches and groups

    struct fst_cache_spec:
        const char *name
        uint64_t size, align
        uint32_t flags
        const char *format
        const void *init
        uint32_t init_bytes
        fst_bool replace

    int fst_cache_open(fst_arena *arena, const fst_cache_spec *spec, uint64_t *cache)
    int fst_cache_destroy(fst_arena *arena, uint64_t cache, fst_bool *name_only)
    int fst_cache_shrink(fst_arena *arena, uint64_t cache, uint64_t *bytes)

    struct fst_cache_info:
        uint64_t id
        char name[64]
        char format[1024]
        uint32_t format_bytes
        uint64_t size, align, stride
        uint32_t flags, state
        uint64_t merged_into
        uint32_t aliases
        uint64_t slabs, objects, allocated, bytes
        uint32_t children

    int fst_cache_get_info(fst_arena *arena, uint64_t cache, fst_cache_info *out)
    int fst_cache_look(fst_arena *arena, uint64_t cache, fst_cache_info *out)
    int fst_cache_format(fst_arena *arena, uint64_t cache, char *out, size_t room)
    size_t fst_cache_list(fst_arena *arena, uint64_t *ids, size_t max)

    struct fst_group_spec:
        const char *name
        uint64_t parent, limit
        bint set_limit
        uint64_t messages_expire
        bint set_messages_expire
        uint32_t flags
        fst_create create

    uint64_t fst_group_root(fst_arena *arena)
    int fst_group_open(fst_arena *arena, const fst_group_spec *spec, uint64_t *group,
                       fst_bool *created)
    int fst_group_open_cgroup(fst_arena *arena, const fst_group_spec *spec, const char *path,
                              uint64_t *group, fst_bool *created)
    size_t fst_group_cgroup(fst_arena *arena, uint64_t group, char *path, size_t size)
    void fst_group_unref(fst_arena *arena, uint64_t group)
    uint32_t fst_group_entry(fst_arena *arena, uint64_t group)
    void fst_group_unref_at(fst_arena *arena, uint64_t group, uint32_t entry)
    int fst_group_close(fst_arena *arena, uint64_t group)
    int fst_group_destroy(fst_arena *arena, uint64_t group)
    ctypedef fst_bool fst_go_on(void *context, uint64_t waited) noexcept
    void fst_destroy_synchronously(fst_arena *arena, bint on, fst_go_on *go_on, void *context)
    int fst_group_set_limit(fst_arena *arena, uint64_t group, uint64_t limit)

    struct fst_group_info:
        uint64_t id, parent
        char name[64]
        uint32_t state
        bint released
        uint32_t flags, children
        uint64_t limit, usage, peak, limit_hits, failed, reclaims
        uint64_t messages_expire

    int fst_group_get_info(fst_arena *arena, uint64_t group, fst_group_info *out)
    size_t fst_group_list(fst_arena *arena, uint64_t *ids, size_t max)
    size_t fst_group_caches(fst_arena *arena, uint64_t group, uint64_t *ids, size_t max)
    int fst_child_open(fst_arena *arena, uint64_t cache, uint64_t group, uint64_t *child)

    # ---- objects

    struct fst_ref:
        void *data
        uint64_t nbytes, oid
        uint32_t entry, form

    enum: FST_FORM_OWN

    struct fst_form_spec:
        uint32_t form
        const char *text
        size_t text_bytes

    struct fst_handle:
        uint64_t generation_tag, oid_slab

    struct fst_message:
        fst_handle handle
        uint32_t entry, tag

    int fst_alloc(fst_arena *arena, uint64_t child, fst_ref *out)
    int fst_alloc_at_once(fst_arena *arena, uint64_t child, fst_ref *out)
    int fst_alloc_many(fst_arena *arena, uint64_t child, size_t n, fst_ref *out, size_t *got)
    int fst_alloc_bytes(fst_arena *arena, uint64_t group, uint64_t nbytes, fst_ref *out)
    int fst_alloc_form(fst_arena *arena, uint64_t group, uint64_t nbytes,
                       const fst_form_spec *form, fst_ref *out)
    int fst_form_intern(fst_arena *arena, const char *text, size_t text_bytes, uint64_t nbytes,
                        fst_bool again, uint32_t *form)
    int fst_form_text(fst_arena *arena, const fst_ref *ref, char *out, size_t room,
                      size_t *text_bytes)
    int fst_reclaim(fst_arena *arena, uint64_t group, uint64_t timeout)
    void fst_group_note_failed(fst_arena *arena, uint64_t group)
    void fst_wait_for_memory(fst_arena *arena, uint64_t timeout)
    void fst_describe_usage(fst_arena *arena, char *text, size_t size)
    void fst_drop(fst_arena *arena, const fst_ref *ref)
    int fst_free(fst_arena *arena, const fst_ref *ref)
    int fst_handle_of(fst_arena *arena, const fst_ref *ref, fst_handle *out)
    int fst_resolve(fst_arena *arena, const fst_handle *handle, fst_ref *out)
    int fst_share(fst_arena *arena, const fst_ref *ref, fst_message *out)
    int fst_take(fst_arena *arena, const fst_message *message, fst_ref *out)
    int fst_group_share(fst_arena *arena, uint64_t group, fst_message *out)
    int fst_group_take(fst_arena *arena, const fst_message *message, uint64_t *group)
    size_t fst_holders(
        fst_arena *arena, const fst_ref *ref, uint32_t *processes, size_t max)
    int fst_object_owner(
        fst_arena *arena, const fst_ref *ref, uint64_t *cache, uint64_t *group)

    struct fst_inflight_info:
        uint32_t entry, tag
        bint is_group
        fst_handle handle
        uint64_t nbytes, group, cache
        int32_t pid
        char command[16]
        bint sender_alive
        uint64_t age

    void fst_arena_watch(fst_arena *arena)
    void fst_arena_tended(fst_arena *arena)
    size_t fst_inflight_count(fst_arena *arena)
    size_t fst_inflight_list(fst_arena *arena, fst_inflight_info *out, size_t max)
    size_t fst_inflight_expire(fst_arena *arena)
    size_t fst_inflight_drop_from(
        fst_arena *arena, uint64_t older_than, uint64_t group, int32_t pid, bint dead)

    # ---- grace periods and batches

    int fst_read_lock(fst_arena *arena)
    int fst_read_unlock(fst_arena *arena)
    bint fst_in_section(fst_arena *arena)
    int fst_synchronize(fst_arena *arena, uint64_t timeout)
    int fst_barrier_begin(fst_arena *arena, uint64_t *cookie)
    int fst_barrier_wait(fst_arena *arena, uint64_t cookie, uint64_t timeout)
    int fst_shrink(fst_arena *arena, uint64_t timeout, uint64_t *bytes)
    uint64_t fst_gp_cookie(fst_arena *arena)
    bint fst_gp_done(fst_arena *arena, uint64_t cookie)

    # ---- looking

    struct fst_process_info:
        uint32_t slot
        int32_t pid
        uint32_t uid
        bint alive, self, readonly
        char command[16]
        char arguments[192]
        uint64_t started, references, dropped, bytes
        uint32_t threads

    size_t fst_process_list(fst_arena *arena, fst_process_info *out, size_t max)

    struct fst_batch_info:
        uint32_t number, groups, children
        uint64_t objects, bytes, began, duration, grace_ns

    size_t fst_batch_list(fst_arena *arena, fst_batch_info *out, size_t max)

    struct fst_child_counts:
        uint32_t live, deactivated, queued, releasing

    void fst_child_count(fst_arena *arena, fst_child_counts *out)

    struct fst_keeper:
        uint64_t group
        int32_t pid
        char command[16]
        uint64_t references, bytes, ended_ns
        fst_bool for_children

    size_t fst_keeper_list(fst_arena *arena, fst_keeper *out, size_t max)
    struct fst_use:
        uint32_t slot
        uint64_t cache, group
        uint64_t objects, bytes

    size_t fst_use_list(fst_arena *arena, fst_use *out, size_t max)
    fst_bool fst_held_up(fst_arena *arena)
    fst_bool fst_section_in_the_way(fst_arena *arena, int32_t *pid, uint32_t *tid)
    size_t fst_cache_keepers(fst_arena *arena, uint64_t cache, fst_keeper *out, size_t max)
    void fst_lock_sample(uint32_t every)

    struct fst_burial_info:
        uint64_t number
        int32_t pid, reaper
        uint32_t uid
        char command[16]
        uint64_t noticed_at, finished_at, objects, bytes, groups
        fst_bool tended

    size_t fst_burial_list(fst_arena *arena, fst_burial_info *out, size_t max)
    uint64_t fst_burial_count(fst_arena *arena)
    size_t fst_check(fst_arena *arena, void (*found)(void *, const char *) noexcept nogil,
                     void *context)
    uint64_t fst_now()

    # ---- caches that are debugged

    struct fst_debug_info:
        uint64_t oid, cache, group, nbytes
        fst_bool allocated
        uint32_t allocated_site, freed_site
        int32_t pid, freed_pid
        uint32_t thread, freed_thread
        uint64_t allocated_at, freed_at

    enum fst_fault_kind:
        pass

    struct fst_fault:
        uint8_t uuid[16]
        fst_fault_kind kind
        fst_debug_info about
        int64_t offset
        uint64_t count
        uint32_t found_bytes
        uint8_t found[8]
        uint8_t expected
        int32_t holders[4]
        int32_t finder
        uint64_t found_at

    uint32_t fst_arena_debug(fst_arena *arena)
    bint fst_debug_seen(const fst_arena *arena)
    size_t fst_debug_faults(fst_fault *out, size_t max, uint64_t *lost)
    uint32_t fst_debug_fault_count()
    int fst_debug_list(fst_arena *arena, uint64_t group,
                       void (*found)(void *, const fst_debug_info *) noexcept nogil, void *context)
    int fst_debug_holders(fst_arena *arena,
                          void (*found)(void *, uint32_t, uint64_t) noexcept nogil, void *context)
    void fst_debug_hear(void (*heard)() noexcept nogil)
    size_t fst_debug_log(fst_arena *arena, fst_fault *out, size_t max)
    void fst_debug_leaked(fst_arena *arena, const fst_debug_info *about, uint64_t objects)
    int fst_debug_walk(fst_arena *arena,
                       void (*wrong)(void *, const fst_fault *) noexcept nogil, void *context)
    void fst_debug_ask(uint32_t (*where)(fst_arena *) noexcept)
    int fst_debug_site_add(fst_arena *arena, const char *text, size_t bytes, uint32_t *site)
    size_t fst_debug_site_text(fst_arena *arena, uint32_t site, char *out, size_t room)

    # ---- channels

    ctypedef struct fst_channel_use:
        pass

    struct fst_channel_spec:
        const char *name
        uint32_t capacity, inline_bytes, flags
        uint64_t group

    struct fst_letter:
        const void *bytes
        uint32_t nbytes, kind
        fst_ref *ref
        bint keep

    struct fst_received:
        uint32_t nbytes, kind
        bint has_ref
        fst_ref ref
        uint32_t node
        uint64_t word

    struct fst_channel_info:
        uint64_t id, group
        char name[64]
        uint32_t state, capacity, inline_bytes, flags, waiting, taken
        bint closed
        uint64_t bytes

    enum: FST_CHANNEL_ACK
    enum: FST_CHANNEL_LASTING
    enum: FST_CHANNEL_LOCK
    enum: FST_CHANNEL_TOPIC
    int fst_channel_open(fst_arena *arena, const fst_channel_spec *spec, fst_create how,
                         fst_channel_use **out, fst_bool *created)
    int fst_channel_share(fst_channel_use *use, fst_message *out)
    int fst_channel_join(fst_arena *arena, const fst_message *message, fst_channel_use **out)
    void fst_channel_leave(fst_channel_use *use)
    void fst_channel_count(fst_channel_use *use, uint32_t *calls, uint32_t *away, uint32_t idle)
    uint64_t fst_channel_id(const fst_channel_use *use)
    uint32_t fst_channel_length(const fst_channel_use *use)
    int fst_channel_put(fst_channel_use *use, const fst_letter *letter)
    int fst_channel_get(fst_channel_use *use, void *bytes, fst_received *out)
    int fst_channel_done(fst_channel_use *use, const fst_received *taken)
    bint fst_channel_wait(fst_channel_use *use, fst_bool taker, uint64_t timeout)
    int fst_channel_close(fst_channel_use *use)
    int fst_channel_destroy(fst_channel_use *use)
    int fst_channel_get_info(fst_arena *arena, uint64_t channel, fst_channel_info *out)
    size_t fst_channel_list(fst_arena *arena, uint64_t *ids, size_t max)
    uint32_t fst_channel_kind(fst_arena *arena, uint64_t channel)

    enum fst_slow:
        FST_SLOW_BLOCKS

    enum: FST_SUBSCRIBERS

    struct fst_subscription:
        uint32_t index
        uint64_t word

    struct fst_subscriber_info:
        uint32_t slow
        bint own
        int32_t pid
        char command[16]
        uint64_t lag, lost
        bint holds

    int fst_topic_publish(fst_channel_use *use, const fst_letter *letter, uint32_t *reached)
    int fst_topic_subscribe(fst_channel_use *use, fst_slow slow, uint32_t history,
                            fst_subscription *out)
    void fst_topic_unsubscribe(fst_channel_use *use, const fst_subscription *s)
    int fst_topic_get(fst_channel_use *use, const fst_subscription *s, void *bytes,
                      fst_received *out)
    int fst_topic_latest(fst_channel_use *use, void *bytes, fst_received *out)
    bint fst_topic_wait(fst_channel_use *use, const fst_subscription *s, uint64_t timeout)
    size_t fst_topic_list(fst_arena *arena, uint64_t channel, fst_subscriber_info *out, size_t max)
    uint64_t fst_topic_lost(fst_channel_use *use, const fst_subscription *s)

    struct fst_named_lock_owner:
        bint owned, own, dead
        int32_t pid
        char command[16]

    int fst_named_lock_acquire(fst_channel_use *use, uint64_t timeout, fst_bool *inherited)
    int fst_named_lock_release(fst_channel_use *use)
    void fst_named_lock_look(fst_channel_use *use, fst_named_lock_owner *out)
    bint fst_named_lock_look_at(fst_arena *arena, uint64_t channel, fst_named_lock_owner *out)

    # ---- stores

    ctypedef struct fst_store_use:
        pass

    struct fst_store_spec:
        const char *name
        uint32_t flags
        uint64_t group

    struct fst_key:
        const void *bytes
        uint32_t nbytes
        uint8_t kind

    struct fst_looked_up:
        uint32_t kind
        uint64_t version

    struct fst_value:
        const fst_ref *ref
        uint32_t kind
        uint64_t ttl

    struct fst_store_claim:
        uint32_t item
        uint64_t hold

    struct fst_listed_key:
        uint8_t bytes[255]
        uint8_t nbytes, kind
        uint32_t value_kind
        uint64_t version, size

    struct fst_store_info:
        uint64_t id, group
        char name[64]
        uint32_t state, flags
        uint64_t keys, version, bytes, slots

    enum: FST_STORE_EVICTS
    enum: FST_EXISTS
    uint64_t FST_ANY_VERSION
    int fst_store_open(fst_arena *arena, const fst_store_spec *spec, fst_create how,
                       fst_store_use **out, fst_bool *created)
    void fst_store_leave(fst_store_use *use)
    fst_bool fst_store_hold_group(fst_store_use *use, uint64_t *group)
    uint64_t fst_store_id(const fst_store_use *use)
    int fst_store_get(fst_store_use *use, const fst_key *key, fst_ref *ref, fst_looked_up *out)
    int fst_store_key_version(fst_store_use *use, const fst_key *key, uint64_t *version)
    int fst_store_put(fst_store_use *use, const fst_key *key, const fst_value *value,
                      uint64_t if_version, uint64_t *version)
    int fst_store_remove(fst_store_use *use, const fst_key *key, uint64_t if_version)
    int fst_store_claim_key "fst_store_claim"(fst_store_use *use, const fst_key *key,
                                              fst_store_claim *out)
    int fst_store_publish(fst_store_use *use, const fst_store_claim *claim, const fst_value *value,
                          uint64_t *version)
    void fst_store_give_up(fst_store_use *use, const fst_store_claim *claim)
    int fst_store_version(const fst_store_use *use, uint64_t *version)
    int fst_store_length(const fst_store_use *use, uint64_t *length)
    bint fst_store_wait(fst_store_use *use, uint64_t version, uint64_t timeout)
    int fst_store_evict(fst_store_use *use, uint64_t *bytes)
    int fst_store_next(fst_store_use *use, uint64_t *position, fst_listed_key *out)
    int fst_store_destroy(fst_store_use *use)
    int fst_store_get_info(fst_arena *arena, uint64_t store, fst_store_info *out)
    size_t fst_store_list(fst_arena *arena, uint64_t *ids, size_t max)

    # ---- many of them at once

    enum fst_awaits:
        FST_AWAITS_MESSAGE
        FST_AWAITS_ROOM
        FST_AWAITS_PUBLISHED
        FST_AWAITS_READERS
        FST_AWAITS_LOCK
        FST_AWAITS_CHANGE

    struct fst_awaited:
        uint32_t what
        bint ready
        fst_channel_use *channel
        const fst_subscription *subscription
        fst_store_use *store
        uint64_t version

    struct fst_waiter:
        uint32_t rung
        uint64_t looked

    size_t fst_await_most()
    bint fst_await(fst_waiter *waiter, fst_awaited *all, size_t n, uint64_t timeout)
    void fst_waiter_ring(fst_waiter *waiter)
    void fst_waiter_hush(fst_waiter *waiter)


cdef extern from "flagstone_test.h" nogil:
    uint64_t fst_section_age(fst_arena *arena, uint32_t turns)
    void fst_fault_arm(uint64_t nth)
    uint64_t fst_fault_passed()
    bint fst_has_fault_points()
    int fst_lock_hold(fst_arena *arena, const char *lock, uint64_t cache, uint64_t group,
                      void **held)
    void fst_lock_let_go(fst_arena *arena, void *held)
