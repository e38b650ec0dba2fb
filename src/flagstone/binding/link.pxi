# What is cut when an Arena is closed: links, and the groups that are open through them.

cdef struct group_node:
    # A GroupRef in the list of its Link.
    group_node *prev
    group_node *next
    PyObject *attachment  # a counted reference; NULL: the group was let go of
    uint64_t id
    uint32_t entry        # of the process's table: the reference that holds the group open


@cython.final
@cython.no_gc
cdef class Link:
    """What an Arena and everything made from it share: the attachment, until `Arena.close()` takes
    it away.

    The attachment is the item of a list of one, because reading an item of a list gives a counted
    reference in every build, also while another thread puts None in its place. The groups that are
    open through this link, and let go of when it is cut, form a list through their GroupRefs:
    groups come and go by the hundred thousand, and a dictionary would cost a cache miss for each of
    its parts. Of channels, topics and locks there are few.
    """

    cdef list box            # [Attachment], or [None] once it is cut
    cdef group_node *first
    cdef uint32_t busy       # 1: a thread changes the list, for an instant without Python code
    cdef dict opened         # id of a channel, topic or lock -> weak reference to it
    cdef readonly bytes uuid
    cdef str path            # of the arena; None: anonymous

    def __cinit__(self, Attachment attachment not None):
        self.uuid, self.path = attachment.uuid, attachment.path
        self.box = [attachment]
        self.opened = {}

    cdef void add(self, group_node *node) noexcept:
        while swap(&self.busy, 1):
            pass
        node.prev = NULL
        node.next = self.first
        if self.first != NULL:
            self.first.prev = node
        self.first = node
        swap(&self.busy, 0)

    cdef bint let_go(self, group_node *node) noexcept:
        """Let go of the group of this node; of NULL, of the first in the list. False if there was
        nothing to let go of.
        """
        cdef PyObject *attachment = NULL
        cdef uint64_t group = 0
        cdef uint32_t entry = 0
        while swap(&self.busy, 1):
            pass
        if node == NULL:
            node = self.first
        if node != NULL and node.attachment != NULL:
            attachment, node.attachment = node.attachment, NULL
            group, entry = node.id, node.entry
            if node.prev != NULL:
                node.prev.next = node.next
            else:
                self.first = node.next
            if node.next != NULL:
                node.next.prev = node.prev
        swap(&self.busy, 0)
        if attachment == NULL:
            return False
        fst_group_unref_at((<Attachment>attachment).ptr, group, entry)
        Py_DECREF(<Attachment>attachment)
        return True

    cdef int opens(self, object named) except -1:
        # Have a channel, topic or lock left when the link is cut. (pop() gets the weak reference as
        # what to return where there is nothing to forget.)
        forget = functools.partial(self.opened.pop, id(named))
        self.opened[id(named)] = weakref.ref(named, forget)
        # Another thread may have cut the link meanwhile, and missed this one.
        if only_object(self.box) is None:
            named.leave()
        return 0

    cdef inline Attachment get(self):
        cdef object attachment = only_object(self.box)
        if attachment is None:
            raise _hooks.closed(self.uuid, self.path)
        return <Attachment>attachment

    cdef inline PyObject *own(self) except NULL:
        # As get(), for fields that are plain pointers: the reference is the caller's.
        cdef PyObject *attachment = only_item(<PyObject *>self.box)
        if attachment == <PyObject *>None:
            Py_DECREF(None)
            raise _hooks.closed(self.uuid, self.path)
        return attachment

    @property
    def attachment(self):
        """The `Attachment`; `Closed` after `close()`, or in a process that could not carry it over
        a fork.
        """
        cdef Attachment attachment = self.get()
        if fst_unusable:
            _check(fst_arena_refused(attachment.ptr))
        return attachment

    @property
    def closed(self):
        """Whether `close()` was called."""
        return only_object(self.box) is None

    def close(self):
        """Let go of the attachment, and of the groups, channels, topics and locks that are open
        through this link. Never raises; again is fine.
        """
        self.box[0] = None
        while self.let_go(NULL):
            pass
        for reference in list(self.opened.values()):
            named = reference()
            if named is not None:
                named.leave()


@cython.final
@cython.no_gc
cdef class GroupRef:
    """One reference of this process to a group: let go by `release()`, when the Link is cut, or
    with this object.
    """

    cdef Link link
    cdef group_node node

    def __init__(self):
        raise TypeError("a GroupRef is made by Attachment.group_open() or group_take()")

    def __dealloc__(self):
        if self.link is not None:
            self.link.let_go(&self.node)

    @property
    def id(self):
        """The group's id, also once it was let go of."""
        return self.node.id

    cdef int hold(self, Link link, Attachment attachment) except -1:
        self.link = link
        self.node.entry = fst_group_entry(attachment.ptr, self.node.id)
        Py_INCREF(attachment)
        self.node.attachment = <PyObject *>attachment
        link.add(&self.node)
        # Another thread may have cut the link meanwhile, and missed this one.
        if only_object(link.box) is None:
            link.let_go(&self.node)
        return 0

    def release(self):
        """Let go of the group. Again is fine."""
        if self.link is not None:
            self.link.let_go(&self.node)
