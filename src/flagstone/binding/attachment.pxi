# The attachment: the core's functions as methods.

@cython.final
@cython.no_gc
cdef class Attachment:
    """This process's attachment to an arena: one reference of the core's, let go when the last user
    of this object is gone.

    Everything of an arena that needs its memory (Blocks, sections) holds it; `Arena`, `Cache` and
    `Group` reach it through a `Link`, which `Arena.close()` cuts. Methods are the core's functions;
    negative answers become exceptions, except where a method says that it returns the status.
    """

    cdef fst_arena *ptr
    cdef readonly bint readonly
    cdef readonly bytes uuid
    cdef readonly str path       # None: anonymous
    # how others find a named arena (flagstone.attach.Locator); None: anonymous
    cdef readonly tuple locator
    cdef readonly dict formats   # cache id -> Format or None, for Blocks that arrive as handles
    cdef Forms forms
    cdef uint64_t root           # id of the root group
    cdef list last               # of one: the Known of the last of them; ids are never used again
    cdef readonly bint synchronous  # destroying waits: see fst_destroy_synchronously
    cdef dict gave_up            # thread -> exception that ended its waiting, where destroying does
    cdef readonly list noticed   # of one: what flagstone.notices has told of it, and when
    cdef public uint64_t told    # burials up to this number were told of
    cdef object __weakref__

    def __init__(self):
        raise TypeError("use Attachment.open(), open_fd() or find()")

    def __dealloc__(self):
        # This call may wait for the reaper thread, which may wait for a section of a thread of
        # ours, which may wait for the GIL.
        if self.ptr != NULL:
            with nogil:
                fst_arena_unref(self.ptr)

    cdef int fill(self) except -1:
        cdef fst_arena_info info
        _check(fst_arena_get_info(self.ptr, &info))
        self.uuid = info.uuid[:16]
        self.path = None if info.anonymous else _path(info.path)
        self.locator = None if info.anonymous else (self.uuid, <bytes>info.path, None)
        self.readonly = info.readonly
        self.formats = {}
        self.forms = Forms.__new__(Forms)
        self.root = fst_group_root(self.ptr)
        self.last = [None]
        self.gave_up = {}
        self.noticed = [None]
        self.told = fst_burial_count(self.ptr)
        return 0

    @staticmethod
    def open(bytes path, uint64_t capacity, int create, bint readonly, bint lasting,
             bint huge_pages, uint32_t mode, uint32_t debug):
        """Attach or create; path None is anonymous, `create` an `enum fst_create`."""
        cdef Attachment self = Attachment.__new__(Attachment)
        cdef fst_open_options options
        cdef int status
        memset(&options, 0, sizeof(options))
        options.path = NULL if path is None else PyBytes_AS_STRING(path)
        options.capacity = capacity
        options.create = <fst_create>create
        options.readonly = readonly
        options.lasting = lasting
        options.huge_pages = huge_pages
        options.mode = mode
        options.debug = debug
        with nogil:
            status = fst_arena_open(&options, &self.ptr)
        _check(status)
        _forget_sites()
        self.fill()
        return self

    @staticmethod
    def open_fd(int fd, bint readonly):
        """Attach through a descriptor, which stays the caller's."""
        cdef Attachment self = Attachment.__new__(Attachment)
        cdef int status
        with nogil:
            status = fst_arena_open_fd(fd, readonly, &self.ptr)
        _check(status)
        _forget_sites()
        self.fill()
        return self

    @staticmethod
    def find(bytes uuid not None):
        """The attachment that this process has to the arena of this uuid, or None."""
        cdef Attachment self = Attachment.__new__(Attachment)
        if len(uuid) != 16:
            raise ValueError("a uuid is 16 bytes")
        cdef const uint8_t *bytes_of = <const uint8_t *>PyBytes_AS_STRING(uuid)
        with nogil:  # another thread may be opening an arena, or leaving one
            self.ptr = fst_arena_find(bytes_of)
        if self.ptr == NULL:
            return None
        self.fill()
        return self

    @property
    def usable(self):
        return fst_arena_usable(self.ptr)

    def require_usable(self):
        """`Closed`, with the reason, where `usable` is false."""
        _check(fst_arena_refused(self.ptr))

    @property
    def address(self):
        return <size_t>self.ptr

    def fd(self):
        cdef int fd = fst_arena_fd(self.ptr)
        if fd < 0:
            raise _error(fd)
        return fd

    def info(self):
        cdef fst_arena_info info
        _check(fst_arena_get_info(self.ptr, &info))
        facts = <object>info
        facts["uuid"] = info.uuid[:16]  # Cython takes it for a text, which ends at its first zero
        return facts

    # ---- caches and groups

    def cache_open(self, bytes name, uint64_t size, uint64_t align, uint32_t flags, bytes format,
                   bytes init, bint replace, object mismatch):
        """The id of the cache of this name, made if there is none.

        `mismatch(id, text)` is the exception when there is one with other parameters, and it is not
        to be replaced.
        """
        cdef fst_cache_spec spec
        cdef uint64_t cache = 0, began = 0
        cdef int status = FST_HELD
        spec.name, spec.size, spec.align, spec.flags, spec.format = name, size, align, flags, format
        spec.init = NULL if init is None else PyBytes_AS_STRING(init)
        spec.init_bytes = 0 if init is None else <uint32_t>len(init)
        spec.replace = replace
        while _again(status, self, &began):
            with nogil:
                status = fst_cache_open(self.ptr, &spec, &cache)
        if status == FST_MISMATCH:
            raise mismatch(cache, _text(fst_last_error()))
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.cache_open, name, size, align, flags,
                                    format, init, replace, mismatch)
        _check(status)
        return cache

    def cache_destroy(self, uint64_t cache):
        """Whether only the name went: the cache lives on by others."""
        cdef fst_bool name_only = 0
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        while _again(status, self, &began):
            with nogil:
                status = fst_cache_destroy(self.ptr, cache, &name_only)
        self.waited()
        _check(status)
        if not name_only:
            self.formats.pop(cache, None)
        return bool(name_only)

    def cache_shrink(self, uint64_t cache):
        cdef uint64_t count = 0, began = 0
        cdef int status = FST_HELD
        total = 0
        while _again(status, self, &began):
            with nogil:
                status = fst_cache_shrink(self.ptr, cache, &count)
            total += count
        _check(status)
        return total

    def cache_look(self, uint64_t cache):
        """cache_info() with nothing counted: what is there to be counted is 0."""
        cdef fst_cache_info info
        _check(fst_cache_look(self.ptr, cache, &info))
        return self.described(&info)

    def cache_info(self, uint64_t cache):
        cdef fst_cache_info info
        cdef uint64_t began = 0
        cdef int status
        status = fst_cache_get_info(self.ptr, cache, &info)
        while _again(status, self, &began):
            with nogil:
                status = fst_cache_get_info(self.ptr, cache, &info)
        _check(status)
        return self.described(&info)

    cdef object described(self, fst_cache_info *info):
        # With the whole text of the format. Its length lies in shared memory.
        cdef object facts = info[0]
        cdef size_t room = <size_t>info.format_bytes + 1
        cdef uint64_t began = 0
        cdef char *text
        cdef int status = FST_HELD
        if strlen(info.format) == info.format_bytes or room > FST_FORMAT_LONGEST:
            return facts
        text = <char *>_allocate(room, 1)
        try:
            while _again(status, self, &began):
                with nogil:
                    status = fst_cache_format(self.ptr, info.id, text, room)
            _check(status)
            facts["format"] = <bytes>text
        finally:
            PyMem_Free(text)
        return facts

    def cache_ids(self):
        return _ids(self, fst_cache_list, 0)

    @property
    def root_group(self):
        return fst_group_root(self.ptr)

    def group_open(self, Link link not None, bytes name, uint64_t parent, object limit,
                   bint lasting, int create, bytes cgroup, object mismatch, object messages_expire,
                   object wait):
        """(GroupRef, whether it was created). `limit` None keeps what there is, `create` is an
        `enum fst_create`, `cgroup` the folder of the one that it ends with, or None;
        `messages_expire`: ns, or None, as with `limit`; `wait`: ns for a lock, or None.
        """
        cdef GroupRef ref = GroupRef.__new__(GroupRef)
        cdef fst_group_spec spec
        cdef fst_bool created = 0
        cdef const char *folder = NULL
        cdef uint64_t began = 0
        cdef int status
        spec.name = NULL if name is None else PyBytes_AS_STRING(name)
        spec.parent = parent
        spec.limit = FST_NO_LIMIT if limit is None else limit
        spec.set_limit = limit is not None
        spec.flags = lasting
        spec.create = <fst_create>create
        spec.messages_expire = 0 if messages_expire is None else messages_expire
        spec.set_messages_expire = messages_expire is not None
        if cgroup is None:
            status = fst_group_open(self.ptr, &spec, &ref.node.id, &created)
        else:
            folder = PyBytes_AS_STRING(cgroup)
            status = FST_HELD
        while _again(status, self, &began, wait):
            with nogil:
                if folder == NULL:
                    status = fst_group_open(self.ptr, &spec, &ref.node.id, &created)
                else:
                    status = fst_group_open_cgroup(self.ptr, &spec, folder, &ref.node.id, &created)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_open, link, name, parent,
                                    limit, lasting, create, cgroup, mismatch, messages_expire, wait)
        if status != FST_OK:
            raise _error(status, mismatch)
        ref.hold(link, self)
        if spec.messages_expire:
            self.watch()
        return ref, bool(created)

    def group_take(self, Link link not None, bytes message not None):
        """The GroupRef of a pickled group."""
        cdef GroupRef ref = GroupRef.__new__(GroupRef)
        cdef fst_message value
        cdef int status
        _message(message, &value)
        status = fst_group_take(self.ptr, &value, &ref.node.id)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_take, link, message)
        _check(status)
        ref.hold(link, self)
        return ref

    def group_share(self, uint64_t group):
        cdef fst_message message
        cdef int status = fst_group_share(self.ptr, group, &message)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_share, group)
        _check(status)
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    cpdef object ticket(self, bytes message):
        """The Ticket of a message, an object's or a group's."""
        cdef fst_message value
        _message(message, &value)
        return ticket_new(self, self.ptr, &value)

    def group_close(self, uint64_t group):
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_close(self.ptr, group)
        while _again(status, self, &began):
            with nogil:
                status = fst_group_close(self.ptr, group)
        _check(status)

    def group_destroy(self, uint64_t group):
        """End the group; (usage, peak, limit hits, failed, reclaims) as they were just before."""
        cdef fst_group_info info
        cdef uint64_t began = 0
        cdef int status
        _check(fst_group_get_info(self.ptr, group, &info))
        status = FST_HELD if self.synchronous else fst_group_destroy(self.ptr, group)
        while _again(status, self, &began):
            with nogil:
                status = fst_group_destroy(self.ptr, group)
        self.waited()
        _check(status)
        return info.usage, info.peak, info.limit_hits, info.failed, info.reclaims

    def group_set_limit(self, uint64_t group, uint64_t limit):
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_set_limit(self.ptr, group, limit)
        while _again(status, self, &began):
            with nogil:
                status = fst_group_set_limit(self.ptr, group, limit)
        _check(status)

    def group_info(self, uint64_t group):
        cdef fst_group_info info
        _check(fst_group_get_info(self.ptr, group, &info))
        return info

    def group_cgroup(self, uint64_t group):
        """The folder of the cgroup that the group ends with, or None."""
        cdef char path[1024]
        return _path(path) if fst_group_cgroup(self.ptr, group, path, sizeof(path)) else None

    def destroy_synchronously(self, bint on):
        """From now on, destroying waits until everything is released."""
        self.synchronous = on
        fst_destroy_synchronously(self.ptr, on, _go_on, <void *>self)

    cdef int waited(self) except -1:
        # To be called after what may have destroyed synchronously.
        cdef object why = self.gave_up.pop(PyThread_get_thread_ident(), None)
        if why is not None:
            raise why
        return 0

    def group_ids(self):
        return _ids(self, fst_group_list, 0)

    def group_caches(self, uint64_t group):
        return _ids(self, NULL, group)

    def channel_ids(self):
        return _ids(self, fst_channel_list, 0)

    def channel_info(self, uint64_t channel):
        cdef fst_channel_info info
        _check(fst_channel_get_info(self.ptr, channel, &info))
        return info

    def subscribers(self, uint64_t channel):
        cdef fst_subscriber_info found[FST_SUBSCRIBERS]
        cdef size_t n = fst_topic_list(self.ptr, channel, found, FST_SUBSCRIBERS), i
        return [found[i] for i in range(min(n, FST_SUBSCRIBERS))]

    def lock_owner(self, uint64_t channel):
        cdef fst_named_lock_owner owner
        return owner if fst_named_lock_look_at(self.ptr, channel, &owner) else None

    def group_gone(self, uint64_t group):
        """Whether the group's descriptor has been released."""
        cdef fst_group_info info
        return _gone(fst_group_get_info(self.ptr, group, &info))

    def cache_gone(self, uint64_t cache):
        """Whether the cache's descriptor has been released."""
        cdef fst_cache_info info
        return _gone(fst_cache_look(self.ptr, cache, &info))

    # ---- objects: where a Block or a status is returned, the status is for the caller to wait and
    # try again

    def alloc_bytes(self, uint64_t group, uint64_t nbytes, Format format, uint64_t patience=0):
        """An object of so many bytes, or (`format` not None) of that Format. Waits for locks at
        most `patience` ns; 0 does not wait.
        """
        cdef Block block = _begin_block()
        cdef fst_form_spec form
        cdef fst_form_spec *means = NULL
        cdef int status
        block.of(self)
        if format is not None:
            nbytes = format.size
            if not format.plain:
                means = self.forms.say(self.ptr, format, &form)
                block.shape(<PyObject *>format)
        if nbytes < _LONG and not patience:
            status = alloc_sized(self.ptr, group, nbytes, means, &block.ref)
        else:
            with nogil:
                fst_patience(patience)
                status = alloc_sized(self.ptr, group, nbytes, means, &block.ref)
                fst_patience_default()
        if status != FST_OK:
            return status
        block.life = 1
        return block

    def take(self, bytes message not None):
        """The Block of a pickled message."""
        cdef Block block = _begin_block()
        cdef fst_message value
        cdef int status
        block.of(self)
        _message(message, &value)
        status = fst_take(self.ptr, &value, &block.ref)
        if status == FST_HELD:
            status = self.get_patiently(NULL, &value, &block.ref)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.take, message)
        _check(status)
        return self.arrived(block)

    cpdef Block resolve(self, Handle handle):
        """The Block of a bare handle."""
        cdef Block block = _begin_block()
        cdef int status
        block.of(self)
        status = fst_resolve(self.ptr, &handle.value, &block.ref)
        if status == FST_HELD:
            status = self.get_patiently(&handle.value, NULL, &block.ref)
        if status == FST_INVALID or status == FST_FOREIGN:
            raise StaleHandle(_text(fst_last_error()) or "the handle names no object of this arena")
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.resolve, handle)
        _check(status)
        return self.arrived(block)

    cdef int get_patiently(self, fst_handle *handle, fst_message *message, fst_ref *ref) except? 1:
        # Its cache's destroy() is looking for users: wait until it has decided.
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        while _again(status, self, &began):
            with nogil:
                if message != NULL:
                    status = fst_take(self.ptr, message, ref)
                else:
                    status = fst_resolve(self.ptr, handle, ref)
        return status

    def hold_at(self, size_t address):
        """A Block of the object of this process that has this byte, or None."""
        cdef Block block = _begin_block()
        cdef int status
        block.of(self)
        status = fst_ref_at(self.ptr, <const void *>address, &block.ref)
        if status == FST_MISSING:
            return None
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.hold_at, address)
        _check(status)
        return self.arrived(block)

    cdef Block arrived(self, Block block):
        cdef uint64_t cache = 0, group = 0
        cdef Format format
        cdef object last
        block.life = 1
        if block.ref.form:
            format = self.forms.of(self.ptr, &block.ref)
        else:
            _check(fst_object_owner(self.ptr, &block.ref, &cache, &group))
            last = self.last[0]
            if last is not None and (<Known>last).cache == cache:
                format = (<Known>last).format
            else:
                format = self.learn(cache)
        # The text of a format lies in shared memory: believe it only as far as the object reaches.
        if format is not None and format.size > block.ref.nbytes and format.size:
            raise ArenaCorrupted(f"an object of {exact_size(block.ref.nbytes)} is said to be"
                                 f" {format.dtype} {format.shape}")
        block.shape(<PyObject *>format)
        return block

    cdef Format learn(self, uint64_t cache):
        cdef Known known = Known.__new__(Known)
        found = self.formats.get(cache, self)
        known.cache = cache
        known.format = _hooks.format_of(self, cache) if found is self else found
        self.last[0] = known
        return known.format

    def reclaim(self, uint64_t group, uint64_t timeout):
        """Free what can be freed now, counted for the group. Returns the status; may wait."""
        cdef int status
        with nogil:
            status = fst_reclaim(self.ptr, group, timeout)
        return status

    def note_failed(self, uint64_t group):
        """Count an allocation of the group that failed for good."""
        fst_group_note_failed(self.ptr, group)

    def wait_for_memory(self, uint64_t timeout):
        with nogil:
            fst_wait_for_memory(self.ptr, timeout)

    def describe_usage(self):
        cdef char text[4096]
        text[0] = 0
        fst_describe_usage(self.ptr, text, sizeof(text))
        return _text(text)

    # ---- grace periods

    @property
    def in_section(self):
        return fst_in_section(self.ptr)

    def synchronize(self, uint64_t timeout):
        """Whether it was done in time; may wait."""
        cdef int status
        with nogil:
            status = fst_synchronize(self.ptr, timeout)
        return _in_time(status)

    def barrier_begin(self):
        cdef uint64_t cookie = 0
        cdef int status
        with nogil:
            status = fst_barrier_begin(self.ptr, &cookie)
        _check(status)
        return cookie

    def barrier_wait(self, uint64_t cookie, uint64_t timeout):
        """Whether it was done in time; may wait."""
        cdef int status
        with nogil:
            status = fst_barrier_wait(self.ptr, cookie, timeout)
        return _in_time(status)

    def gp_cookie(self):
        return fst_gp_cookie(self.ptr)

    def gp_done(self, uint64_t cookie):
        return fst_gp_done(self.ptr, cookie)

    def section_age(self, uint32_t turns):
        """For tests: a section, and how many grace periods ended that had to wait for it."""
        return fst_section_age(self.ptr, turns)

    def shrink(self, uint64_t timeout):
        cdef uint64_t count = 0
        cdef int status
        with nogil:
            fst_patience(_SLICE)
            status = fst_shrink(self.ptr, timeout, &count)
            fst_patience_default()
        _check(status)
        return count

    # ---- looking

    @property
    def burial_count(self):
        return fst_burial_count(self.ptr)

    def burials(self):
        """The last deaths, the newest first."""
        cdef fst_burial_info infos[64]
        cdef size_t count = fst_burial_list(self.ptr, infos, 64), i
        return [infos[i] for i in range(count)]

    def processes(self):
        cdef size_t count = 0, i
        cdef fst_process_info *infos = <fst_process_info *>_listed(
            self.ptr, _fill_processes, NULL, sizeof(fst_process_info), 64, &count)
        try:
            return [infos[i] for i in range(count)]
        finally:
            PyMem_Free(infos)

    def batches(self):
        """The last batches, newest first."""
        cdef fst_batch_info infos[16]
        cdef size_t i, count = fst_batch_list(self.ptr, infos, 16)
        return [infos[i] for i in range(count)]

    def child_counts(self):
        """Child caches by state."""
        cdef fst_child_counts counts
        fst_child_count(self.ptr, &counts)
        return counts

    def keepers(self):
        """Who keeps what has ended from being released."""
        cdef fst_keeper keepers[256]
        cdef size_t i, count
        with nogil:
            count = fst_keeper_list(self.ptr, keepers, 256)
        return [keepers[i] for i in range(count)]

    def uses(self, size_t most):
        """What processes use, by cache and group: up to so many rows (and one for the rest)."""
        cdef size_t i, count
        cdef fst_use *rows = <fst_use *>_allocate(most + 1, sizeof(fst_use))
        try:
            with nogil:
                count = fst_use_list(self.ptr, rows, most + 1)
            return [rows[i] for i in range(count)]
        finally:
            PyMem_Free(rows)

    @property
    def held_up(self):
        """Whose lock a thread of this process waits for, as a sentence, or None."""
        return _text(fst_last_error()) if fst_held_up(self.ptr) else None

    @property
    def section_in_the_way(self):
        """Process and thread whose section is what a grace period waits for, or None."""
        cdef int32_t pid = 0
        cdef uint32_t thread = 0
        return (pid, thread) if fst_section_in_the_way(self.ptr, &pid, &thread) else None

    def cache_keepers(self, uint64_t cache):
        """Who keeps objects of a cache."""
        cdef fst_keeper keepers[256]
        cdef size_t i, count
        with nogil:
            count = fst_cache_keepers(self.ptr, cache, keepers, 256)
        return [keepers[i] for i in range(count)]

    def in_flight(self, uint64_t older_than, type kind, object cache_name, object group_name):
        """(What is in flight and at least so many ns old, the oldest first; who sent it).

        The first is a list of `kind`, which has the slots of `flagstone.snapshot.InFlight`; there
        may be a million, so they are filled here, and names are asked for once. The second is
        {(pid, command, alive): [messages, bytes]}.
        """
        return _in_flight_of(self.ptr, older_than, kind, cache_name, group_name)

    def drop_in_flight(self, uint64_t older_than, uint64_t group, int32_t pid, bint dead):
        cdef size_t count
        with nogil:
            count = fst_inflight_drop_from(self.ptr, older_than, group, pid, dead)
        return count

    def watch(self):
        """Look for deaths, and messages that expire, from now on: a thread."""
        with nogil:
            fst_arena_watch(self.ptr)

    def tended(self):
        """In good order this process is ended by a signal."""
        fst_arena_tended(self.ptr)

    def check(self):
        """What fst_check found, as texts."""
        cdef fst_texts texts
        texts.bytes = NULL
        texts.size = 0
        cdef uint64_t began = 0
        cdef size_t found = FST_CHECK_HELD
        while _again(FST_HELD if found == FST_CHECK_HELD else FST_OK, self, &began):
            with nogil:
                found = fst_check(self.ptr, fst_texts_add, &texts)
        try:
            # Each text ends with a zero, so the last piece of the split would be empty.
            return _texts(texts.bytes, texts.size - 1) if texts.size else []
        finally:
            free(texts.bytes)
