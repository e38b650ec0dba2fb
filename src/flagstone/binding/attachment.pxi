# The attachment: the core's functions on caches, groups, objects and grace periods as methods. What
# only looks is in observe.pxi; stores, channels and debugging have files of their own.

@cython.final
@cython.no_gc
cdef class Attachment:
    """This process's attachment to an arena: one reference of the core's, let go of when the last
    user of this object is gone.

    Everything of an arena that needs its memory (Blocks, sections) holds it; `Arena`, `Cache` and
    `Group` reach it through a `Link`, which `Arena.close()` cuts. Methods are the core's functions;
    a negative answer becomes an exception (`flagstone.errors`), except where a method says that it
    returns the status. Safe to use from any thread; what may wait does so without the GIL.
    """

    cdef fst_arena *ptr
    cdef readonly bint readonly
    cdef readonly bytes uuid     # 16 bytes
    cdef readonly str path       # of the arena's file; None: anonymous
    cdef readonly tuple locator  # a flagstone.attach.Locator, for pickles; None: anonymous
    cdef readonly dict formats   # cache id -> Format or None, for Blocks that arrive as handles
    cdef Forms forms             # those of objects without a cache
    cdef uint64_t root           # id of the root group
    cdef list last               # [the Known of the last Block that arrived, or None]
    cdef readonly bint synchronous  # destroying waits: see fst_destroy_synchronously
    cdef dict gave_up            # thread -> the exception that ended its wait in destroying
    cdef readonly list noticed   # [what flagstone.notices has last told of, and when, or None]
    cdef public uint64_t told    # burials up to this number were told of
    cdef object __weakref__

    def __init__(self):
        raise TypeError("use Attachment.open(), open_fd() or find()")

    def __dealloc__(self):
        # Without the GIL: this may wait for the reaper's thread, which may wait for a read-side
        # section of a thread of this process, which may wait for the GIL.
        if self.ptr != NULL:
            with nogil:
                fst_arena_unref(self.ptr)

    cdef int fill(self) except -1:
        # What is known of the arena once it is attached to.
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
        """Attach to the arena at a path (None: a new anonymous one), or create it. `create` is an
        `enum fst_create`, `capacity` bytes, `debug` the flags of its size classes. May wait.
        """
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
        """Attach through a descriptor of the arena's file, which stays the caller's."""
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
        """Whether this process can use it: false after a fork that it did not come along over."""
        return fst_arena_usable(self.ptr)

    def require_usable(self):
        """Raise `Closed`, with the reason, where `usable` is false."""
        _check(fst_arena_refused(self.ptr))

    @property
    def address(self):
        """Where the core's struct lies: the same for all Attachments of one arena."""
        return <size_t>self.ptr

    def fd(self):
        """The descriptor of the arena's file, which stays the core's."""
        cdef int fd = fst_arena_fd(self.ptr)
        if fd < 0:
            raise _error(fd)
        return fd

    def info(self):
        """The core's facts about the arena, a dict (`_structs._ArenaInfo`)."""
        cdef fst_arena_info info
        _check(fst_arena_get_info(self.ptr, &info))
        facts = <object>info
        facts["uuid"] = info.uuid[:16]  # Cython takes it for a text, which ends at its first zero
        return facts

    # ---- caches and groups

    def cache_open(self, bytes name, uint64_t size, uint64_t align, uint32_t flags, bytes format,
                   bytes init, bint replace, object mismatch):
        """The id of the cache of this name, which is made if there is none. May wait.

        `mismatch(id, text)` makes the exception for the case that there is one with other
        parameters, and `replace` is false.
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
        """End the cache; true if only this name of it ended, because it has others. May wait."""
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
        """Give empty slabs back to the system; the bytes of all that were. May wait."""
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
        """`cache_info()` in constant time: what has to be counted is 0 in it."""
        cdef fst_cache_info info
        _check(fst_cache_look(self.ptr, cache, &info))
        return self.described(&info)

    def cache_info(self, uint64_t cache):
        """The core's facts about a cache, a dict (`_structs._CacheInfo`). Counts its slabs; may
        wait.
        """
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
        # The struct as a dict, with the whole text of the format, of which the struct has only the
        # beginning. Its length lies in shared memory, so it is not believed beyond what it can be.
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
        """The ids of all caches; some may have ended since they were listed."""
        return _ids(self, fst_cache_list, 0)

    @property
    def root_group(self):
        """The id of the root group, which is the arena itself."""
        return fst_group_root(self.ptr)

    def group_open(self, Link link not None, bytes name, uint64_t parent, object limit,
                   bint lasting, int create, bytes cgroup, object mismatch, object messages_expire,
                   object wait):
        """Open or create a group; (GroupRef, whether it was created). May wait.

        Args:
            link: the group is let go of when this is cut.
            name: None is a new group without a name.
            parent: id of the group that it is part of.
            limit: bytes; None keeps what there is.
            create: an `enum fst_create`.
            cgroup: the folder of the cgroup that it ends with, or None.
            mismatch: makes the exception for a group with other parameters.
            messages_expire: nanoseconds; None keeps what there is.
            wait: nanoseconds to wait for a lock; None is for ever.
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
        """Take the message of a pickled group; its GroupRef, let go of when `link` is cut."""
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
        """The message for a pickle of a group, as bytes; its reference is in flight from now on."""
        cdef fst_message message
        cdef int status = fst_group_share(self.ptr, group, &message)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_share, group)
        _check(status)
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    cpdef object ticket(self, bytes message):
        """A Ticket for a message of an object, a channel or a group: see binding/ticket.h."""
        cdef fst_message value
        _message(message, &value)
        return ticket_new(self, self.ptr, &value)

    def group_close(self, uint64_t group):
        """Let the group take no more allocations. May wait."""
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_close(self.ptr, group)
        while _again(status, self, &began):
            with nogil:
                status = fst_group_close(self.ptr, group)
        _check(status)

    def group_destroy(self, uint64_t group):
        """End the group; (usage, peak, limit hits, failed, reclaims) as they were just before. May
        wait.
        """
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
        """Set the group's limit in bytes, for everybody. May wait."""
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_set_limit(self.ptr, group, limit)
        while _again(status, self, &began):
            with nogil:
                status = fst_group_set_limit(self.ptr, group, limit)
        _check(status)

    def group_info(self, uint64_t group):
        """The core's facts about a group, a dict (`_structs._GroupInfo`)."""
        cdef fst_group_info info
        _check(fst_group_get_info(self.ptr, group, &info))
        return info

    def group_cgroup(self, uint64_t group):
        """The folder of the cgroup that the group ends with, or None."""
        cdef char path[1024]
        return _path(path) if fst_group_cgroup(self.ptr, group, path, sizeof(path)) else None

    def destroy_synchronously(self, bint on):
        """Let destroying wait from now on until everything is released, or no longer."""
        self.synchronous = on
        fst_destroy_synchronously(self.ptr, on, _go_on, <void *>self)

    cdef int waited(self) except -1:
        # To be called after what may have destroyed synchronously: raises what ended that wait.
        cdef object why = self.gave_up.pop(PyThread_get_thread_ident(), None)
        if why is not None:
            raise why
        return 0

    def group_ids(self):
        """The ids of all groups; some may have ended since they were listed."""
        return _ids(self, fst_group_list, 0)

    def group_caches(self, uint64_t group):
        """The ids of the caches that have objects of the group."""
        return _ids(self, NULL, group)

    def group_gone(self, uint64_t group):
        """Whether the group's descriptor has been released."""
        cdef fst_group_info info
        return _gone(fst_group_get_info(self.ptr, group, &info))

    def cache_gone(self, uint64_t cache):
        """Whether the cache's descriptor has been released."""
        cdef fst_cache_info info
        return _gone(fst_cache_look(self.ptr, cache, &info))

    # ---- objects: whoever gets a status instead of a Block waits, and tries again

    def alloc_bytes(self, uint64_t group, uint64_t nbytes, Format format, uint64_t patience=0):
        """A Block of so many bytes, or (`format` not None) of that Format; or the status. Waits at
        most `patience` ns for each lock; 0 does not wait.
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
        """Take the message of a pickled Block; the Block. May wait, for a `Cache.destroy()`."""
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
        """The Block of a handle. May wait, for a `Cache.destroy()`."""
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
        # The destroy() of the object's cache is looking for users: wait until it has decided. The
        # status, of which none is 1.
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
        """A Block of the object that has the byte at this address, and that this process uses; None
        if there is none.
        """
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
        # A Block that the core has just filled, with its Format.
        cdef uint64_t cache = 0, group = 0
        cdef Format format
        cdef object last
        block.life = 1
        if block.ref.form:
            format = self.forms.of(self.ptr, &block.ref)
        else:
            _check(fst_object_owner(self.ptr, &block.ref, &cache, &group))
            last = only_object(self.last)
            if last is not None and (<Known>last).cache == cache:
                format = (<Known>last).format
            else:
                format = self.learn(cache)
        # The text of a format lies in shared memory, so it is believed only as far as the object
        # reaches.
        if format is not None and format.size > block.ref.nbytes and format.size:
            raise ArenaCorrupted(f"an object of {exact_size(block.ref.nbytes)} is said to be"
                                 f" {format.dtype} {format.shape}")
        block.shape(<PyObject *>format)
        return block

    cdef Format learn(self, uint64_t cache):
        # The Format of a cache, remembered as the last; ids of caches are never used again.
        cdef Known known = Known.__new__(Known)
        found = self.formats.get(cache, self)
        known.cache = cache
        known.format = _hooks.format_of(self, cache) if found is self else found
        self.last[0] = known
        return known.format

    def reclaim(self, uint64_t group, uint64_t timeout):
        """Free what can be freed now, counted for the group; the status. Waits at most `timeout` ns
        for readers.
        """
        cdef int status
        with nogil:
            status = fst_reclaim(self.ptr, group, timeout)
        return status

    def note_failed(self, uint64_t group):
        """Count an allocation of the group that failed for good."""
        fst_group_note_failed(self.ptr, group)

    def wait_for_memory(self, uint64_t timeout):
        """Wait at most so many nanoseconds for memory that others give back."""
        with nogil:
            fst_wait_for_memory(self.ptr, timeout)

    def describe_usage(self):
        """Who holds the arena's memory, as a sentence."""
        cdef char text[4096]
        text[0] = 0
        fst_describe_usage(self.ptr, text, sizeof(text))
        return _text(text)

    # ---- grace periods

    @property
    def in_section(self):
        """Whether the calling thread is in a read-side section of the arena."""
        return fst_in_section(self.ptr)

    def synchronize(self, uint64_t timeout):
        """Wait for a grace period, at most so many nanoseconds; whether it has ended."""
        cdef int status
        with nogil:
            status = fst_synchronize(self.ptr, timeout)
        return _in_time(status)

    def barrier_begin(self):
        """Begin a barrier; a cookie for `barrier_wait`. May wait."""
        cdef uint64_t cookie = 0
        cdef int status
        with nogil:
            status = fst_barrier_begin(self.ptr, &cookie)
        _check(status)
        return cookie

    def barrier_wait(self, uint64_t cookie, uint64_t timeout):
        """Wait at most so many nanoseconds until all that ended before the barrier began is
        released; whether it is.
        """
        cdef int status
        with nogil:
            status = fst_barrier_wait(self.ptr, cookie, timeout)
        return _in_time(status)

    def gp_cookie(self):
        """A cookie for `gp_done`: of a grace period that begins after this call."""
        return fst_gp_cookie(self.ptr)

    def gp_done(self, uint64_t cookie):
        """Whether the grace period of this cookie has ended. Does not wait."""
        return fst_gp_done(self.ptr, cookie)

    def section_age(self, uint32_t turns):
        """For tests: be in a read-side section for so many turns of a loop; how many grace periods
        that began in it ended before it did. More than 0 is a broken promise.
        """
        return fst_section_age(self.ptr, turns)

    def shrink(self, uint64_t timeout):
        """Give memory that nothing uses back to the system; its bytes. Waits at most `timeout` ns
        for readers.
        """
        cdef uint64_t count = 0
        cdef int status
        with nogil:
            fst_patience(_SLICE)
            status = fst_shrink(self.ptr, timeout, &count)
            fst_patience_default()
        _check(status)
        return count

    # ---- whom one waits for, and what was lost

    @property
    def burial_count(self):
        """How many processes have died without leaving. One load."""
        return fst_burial_count(self.ptr)

    @property
    def held_up(self):
        """Whose lock a thread of this process waits for, as a sentence, or None."""
        return _text(fst_last_error()) if fst_held_up(self.ptr) else None

    @property
    def section_in_the_way(self):
        """(Pid, thread id) of the section that a grace period waits for, or None."""
        cdef int32_t pid = 0
        cdef uint32_t thread = 0
        return (pid, thread) if fst_section_in_the_way(self.ptr, &pid, &thread) else None

    def drop_in_flight(self, uint64_t older_than, uint64_t group, int32_t pid, bint dead):
        """Drop messages that have been in flight for so many nanoseconds; how many.

        Only those of a group (FST_FOREVER: any), those that a process has sent (0: any), or those
        of senders that are `dead`.
        """
        cdef size_t count
        with nogil:
            count = fst_inflight_drop_from(self.ptr, older_than, group, pid, dead)
        return count

    def watch(self):
        """Have a thread of this process look for deaths, and for messages that expire, from now on.
        """
        with nogil:
            fst_arena_watch(self.ptr)

    def tended(self):
        """Say that this process is ended by a signal when all is well, as workers of pools are: its
        death is no news.
        """
        fst_arena_tended(self.ptr)
