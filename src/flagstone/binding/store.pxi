# Stores: mappings from keys to objects, which they hold.

cdef enum:
    _KEY_MOST = 255  # bytes of a key


cdef extern from *:
    # As PyUnicode_AsUTF8AndSize, but that it may be looked at what is wrong: a `try` around each
    # lookup would cost more than the lookup's other checks.
    const char *utf8_of "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size)


cdef int has_no_utf8() except -1:
    # What key_of() returns after utf8_of() has failed.
    if not PyErr_ExceptionMatches(UnicodeEncodeError):
        return -1
    PyErr_Clear()
    return 1


def store_ids(Attachment attachment not None):
    """The ids of the arena's stores; some may have ended since they were listed."""
    return _ids(attachment, fst_store_list, 0)


def store_info(Attachment attachment not None, uint64_t store):
    """The core's facts about a store, a dict (`_structs._StoreFacts`). Looks at every key."""
    cdef fst_store_info info
    _check(fst_store_get_info(attachment.ptr, store, &info))
    return info


cdef class StoreBase:
    """What `flagstone.Store` is made of: the part that a loop calls."""

    cdef fst_store_use *use
    cdef str path               # of the arena; None: anonymous
    cdef Link link
    cdef readonly object _group_id
    cdef readonly bint _evicts
    cdef bint ended             # leave() was called here
    cdef GroupRef group_ref     # keeps open what the store ends with; None: nothing is to be kept

    def __init__(self):
        raise TypeError("a Store is made by Arena.store()")

    def __dealloc__(self):
        if self.use != NULL:
            fst_store_leave(self.use)

    cdef inline Attachment usable(self):
        # To be had as long as `use` is used: Arena.close() may be called meanwhile.
        cdef object attachment = only_object(self.link.box)
        if self.ended or attachment is None:
            raise _hooks.left(self.path, "Store", self._name)
        if fst_unusable:  # nearly never
            self.sure(fst_arena_refused((<Attachment>attachment).ptr))
        return <Attachment>attachment

    cdef object error(self, int status):
        return _error_of(status, self.path, "Store", self._name)

    cdef int sure(self, int status) except -1:
        if status != FST_OK:
            raise self.error(status)
        return 0

    cdef inline int key_of(self, object key, fst_key *out) except -1:
        # Let *out look at the key's bytes; 1 if no store can have it: it is too long, or no UTF-8.
        cdef Py_ssize_t n = 0
        if type(key) is str:
            out.bytes = utf8_of(key, &n)
            if out.bytes is NULL:
                return has_no_utf8()
            out.kind = 0
        elif type(key) is bytes:
            out.bytes = PyBytes_AS_STRING(<bytes>key)
            n = len(<bytes>key)
            out.kind = 1
        elif isinstance(key, str):
            out.bytes = utf8_of(key, &n)
            if out.bytes is NULL:
                return has_no_utf8()
            out.kind = 0
        elif isinstance(key, bytes):
            out.bytes = PyBytes_AS_STRING(<bytes>key)
            n = len(<bytes>key)
            out.kind = 1
        else:
            raise TypeError(f"a key is str or bytes, not {type(key).__name__}")
        if n > _KEY_MOST:
            return 1
        out.nbytes = <uint32_t>n
        return 0

    cdef Attachment key_to_put(self, object key, fst_key *out):
        # The same for what changes the store, where a key that it cannot have is an error; as
        # usable().
        cdef Attachment attachment = self.usable()
        if self.key_of(key, out):
            try:
                raise ValueError(f"a key has at most {_KEY_MOST} bytes (as UTF-8), and this one"
                                 f" {len(key if isinstance(key, bytes) else key.encode())}")
            except UnicodeEncodeError:
                raise ValueError(f"a key must be valid text: {key[:80]!r} has half of a surrogate"
                                 " pair; os.fsencode(key) makes bytes of a file's name, which may"
                                 " be a key") from None
        return attachment

    def _open(self, Link link not None, bytes name not None, uint32_t flags, uint64_t group,
              int create):
        cdef fst_store_spec spec
        cdef fst_store_info info
        cdef fst_bool created = 0
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        cdef Attachment attachment = link.attachment
        self.link, self.path = link, attachment.path
        spec.name, spec.flags, spec.group = PyBytes_AS_STRING(name), flags, group
        while _again(status, attachment, &began):
            with nogil:
                status = fst_store_open(attachment.ptr, &spec, <fst_create>create, &self.use,
                                        &created)
        if status == FST_FULL or status == FST_LIMIT:
            return _hooks.once_more(attachment, _error(status), self._open, link, name, flags,
                                    group, create)
        self.sure(status)
        self.sure(fst_store_get_info(attachment.ptr, fst_store_id(self.use), &info))
        self._group_id = info.group
        self._evicts = info.flags & FST_STORE_EVICTS
        self.hold_group(attachment)
        return bool(created)

    cdef int hold_group(self, Attachment attachment) except -1:
        cdef GroupRef ref = GroupRef.__new__(GroupRef)
        if fst_store_hold_group(self.use, &ref.node.id):
            ref.hold(self.link, attachment)
            self.group_ref = ref
        return 0

    def _link_of(self):
        return self.link

    @property
    def _id(self):
        return fst_store_id(self.use)

    def _info(self):
        cdef Attachment attachment = self.usable()
        return store_info(attachment, fst_store_id(self.use))

    # ---- looking up

    cdef Block look_up(self, object key, fst_looked_up *got):
        # The Block that a key holds, and in *got what the store says of it; None: no such key.
        cdef fst_key k
        cdef Block block
        cdef int status
        cdef Attachment attachment = self.usable()
        if self.key_of(key, &k):
            return None
        block = _begin_block()
        block.of(attachment)
        status = fst_store_get(self.use, &k, &block.ref, got)
        if status != FST_OK:
            if status == FST_MISSING:
                return None
            raise self.error(status)
        block.life = 1
        return attachment.arrived(block)

    def block(self, key):
        """The Block that a key holds, which is looked up without a lock.

        Args:
            key: `str` or `bytes`.

        Raises:
            KeyError: there is no such key.
            TypeError: the key is neither `str` nor `bytes`.
            ArenaFull: no room for one more reference.
            Closed: the store was destroyed, or left here.
        """
        cdef fst_looked_up got
        cdef Block block = self.look_up(key, &got)
        if block is None:
            raise KeyError(key)
        return block

    def _get(self, key):
        # (Block, kind, version); None: there is no such key.
        cdef fst_looked_up got
        cdef Block block = self.look_up(key, &got)
        return None if block is None else (block, got.kind, got.version)

    def _check_key(self, key):
        cdef fst_key k
        cdef Attachment attachment = self.key_to_put(key, &k)

    def _version(self, key):
        # The version of a key's value; 0: there is no such key.
        cdef fst_key k
        cdef uint64_t version = 0
        cdef int status
        cdef Attachment attachment = self.usable()
        if self.key_of(key, &k):
            return 0
        status = fst_store_key_version(self.use, &k, &version)
        if status == FST_MISSING:
            return 0
        self.sure(status)
        return version

    def __contains__(self, key):
        if not isinstance(key, (str, bytes)):
            return False
        return self._version(key) != 0

    def __len__(self):
        cdef uint64_t length
        cdef Attachment attachment = self.usable()
        self.sure(fst_store_length(self.use, &length))
        return length

    def _key_from(self, uint64_t position):
        """A key that is at this position or after it, or else the first one, and the position after
        it; None: there is no key.
        """
        cdef fst_listed_key listed
        cdef int status
        cdef Attachment attachment = self.usable()
        while True:
            status = fst_store_next(self.use, &position, &listed)
            if status != FST_STALE and (status != FST_MISSING or position == 0):
                break
            position = 0
        if status == FST_MISSING:
            return None
        self.sure(status)
        return _key_of(&listed), position

    def _list(self):
        """All keys as they are now, each with the bytes of its value and its version."""
        cdef fst_listed_key listed
        cdef uint64_t position = 0
        cdef int status
        cdef list found = []
        cdef Attachment attachment = self.usable()
        while True:
            status = fst_store_next(self.use, &position, &listed)
            if status == FST_STALE:  # the index was made anew meanwhile
                position = 0
                found = []
                continue
            if status == FST_MISSING:
                return found
            self.sure(status)
            found.append((_key_of(&listed), listed.size, listed.version))

    # ---- changing

    def _copy_of(self, value):
        """A Block with a copy of these bytes or of this array; None where it is anything else, or
        large, or something is the matter: then the class above does it.
        """
        return _copy_of(self.usable(), self._group_id, value)

    def _put(self, key, Block block not None, uint32_t kind, uint64_t ttl, uint64_t if_version):
        # Let the key hold the Block; its version, or None if its value had another one than
        # `if_version` (FST_FOREVER: any; 0: no value).
        cdef fst_key k
        cdef fst_value value
        cdef uint64_t version = 0, began = 0
        cdef int status
        cdef Attachment attachment = self.key_to_put(key, &k)
        block.use()
        block.export()
        try:
            value.ref, value.kind, value.ttl = &block.ref, kind, ttl
            status = fst_store_put(self.use, &k, &value, if_version, &version)
            while _again(status, attachment, &began):
                with nogil:
                    status = fst_store_put(self.use, &k, &value, if_version, &version)
        finally:
            block.leave()
        if status == FST_MISMATCH:
            return None
        self.sure(status)
        return version

    def _remove(self, key, uint64_t if_version):
        # Whether the key was there, with this version (FST_FOREVER: any), and is removed.
        cdef fst_key k
        cdef uint64_t began = 0
        cdef int status
        cdef Attachment attachment = self.usable()
        if self.key_of(key, &k):
            return False
        status = fst_store_remove(self.use, &k, if_version)
        while _again(status, attachment, &began):
            with nogil:
                status = fst_store_remove(self.use, &k, if_version)
        if status == FST_MISSING or status == FST_MISMATCH:
            return False
        self.sure(status)
        return True

    def _claim(self, key, wait=None):
        """A Claim to make the key's value; None: it has one by now, or another process makes it.

        `wait`, here and below: nanoseconds to wait for locks, and then `TimeoutError`, with nothing
        done; None is for ever.
        """
        cdef fst_key k
        cdef Claim claim = Claim.__new__(Claim)
        cdef uint64_t began = 0
        cdef int status
        cdef Attachment attachment = self.key_to_put(key, &k)
        status = fst_store_claim_key(self.use, &k, &claim.value)
        while _again(status, attachment, &began, wait):
            with nogil:
                status = fst_store_claim_key(self.use, &k, &claim.value)
        if status == FST_EXISTS or status == FST_WAIT:
            return None
        self.sure(status)
        claim.store, claim.attachment = self, attachment
        return claim

    def _publish(self, Claim claim not None, Block block not None, uint32_t kind, uint64_t ttl,
                 wait=None):
        """Let the claimed key hold the Block; its version, or None if it was given another value
        meanwhile.
        """
        cdef fst_value value
        cdef uint64_t version = 0, began = 0
        cdef int status
        cdef Attachment attachment = self.usable()
        block.use()
        block.export()
        try:
            value.ref, value.kind, value.ttl = &block.ref, kind, ttl
            status = fst_store_publish(self.use, &claim.value, &value, &version)
            while _again(status, attachment, &began, wait):
                with nogil:
                    status = fst_store_publish(self.use, &claim.value, &value, &version)
        finally:
            block.leave()
        if status == FST_STALE:
            return None
        self.sure(status)
        claim.store = claim.attachment = None
        return version

    def _evict(self, wait=None):
        """Let go of what was not used for longest; its bytes (1 at least), or 0 if there is nothing
        to let go of.
        """
        cdef uint64_t freed = 0, began = 0
        cdef int status
        cdef Attachment attachment = self.usable()
        status = fst_store_evict(self.use, &freed)
        while _again(status, attachment, &began, wait):
            with nogil:
                status = fst_store_evict(self.use, &freed)
        if status == FST_MISSING:
            return 0
        self.sure(status)
        return max(freed, 1)

    # ---- the rest

    def _changes(self):
        # The store's version, which counts its changes.
        cdef uint64_t version
        cdef Attachment attachment = self.usable()
        self.sure(fst_store_version(self.use, &version))
        return version

    def _sleep(self, uint64_t version, uint64_t nanoseconds):
        # Wait until the store's version is another one; whether it is.
        cdef bint changed
        cdef Attachment attachment = self.usable()
        with nogil:
            changed = fst_store_wait(self.use, version, nanoseconds)
        PyErr_CheckSignals()
        return changed

    def destroy(self):
        """End the store now, for everybody: its name is free, and what only it held is released.
        Again is fine.

        Raises:
            Closed: it was left here.
            ReadOnly: attached with `readonly=True`.
        """
        cdef uint64_t began = 0
        cdef int status
        cdef Attachment attachment = self.usable()
        status = fst_store_destroy(self.use)
        while _again(status, attachment, &began):
            with nogil:
                status = fst_store_destroy(self.use)
        self.sure(status)

    def leave(self):
        """Let go of the store here; it goes on. Again is fine."""
        self.ended = True
        if self.group_ref is not None:
            self.group_ref.release()


@cython.final
cdef class Claim:
    """A key of a store whose value this process makes, while others wait for it. It ends by
    `StoreBase._publish`, by `give_up`, when it goes out of scope, or with the process.
    """

    cdef StoreBase store        # None: it has ended
    cdef Attachment attachment
    cdef fst_store_claim value

    def __init__(self):
        raise TypeError("a Claim is made by a Store")

    def __del__(self):
        # A coroutine may be cancelled while a helper thread gets one for it.
        self.give_up()

    def give_up(self):
        """Let somebody else make the value. Does nothing once it was published, or given up."""
        cdef StoreBase store = self.store
        if store is not None:
            self.store = None
            fst_store_give_up(store.use, &self.value)
            self.attachment = None


cdef object _key_of(fst_listed_key *listed):
    cdef bytes key = PyBytes_FromStringAndSize(<char *>listed.bytes, listed.nbytes)
    return key.decode("utf-8", "replace") if listed.kind == 0 else key
