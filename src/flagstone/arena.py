"""Arena: one shared mapping that processes attach to."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

from flagstone import _core, attach, notices, observe, rcu
from flagstone._core import Attachment, Link, ReadSection
from flagstone.cache import Cache, caches_of, open_cache
from flagstone.channel import Channel, open_channel
from flagstone.closing import Closing
from flagstone.debug import begin, classes_of, rules_of
from flagstone.errors import Closed, FlagstoneError
from flagstone.facts import (
    ChannelInfo,
    Finding,
    InFlight,
    LockInfo,
    ProcessInfo,
    StoreInfo,
    TopicInfo,
)
from flagstone.group import Group, group_id, groups_of, look, open_group
from flagstone.lock import Lock, open_lock
from flagstone.names import Name, arena_name, arena_path, slash_hint
from flagstone.objects import Objects
from flagstone.observe import channels_of, locks_of, stores_of, topics_of
from flagstone.sizes import (
    FOREVER,
    Size,
    format_size,
    parse_seconds,
    parse_size,
    to_nanoseconds,
)
from flagstone.snapshot import ArenaSnapshot
from flagstone.store import Store, open_store
from flagstone.topic import Topic, open_topic

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Arena", "open", "unlink"]

_READERS: Final = 5.0
"""Seconds for which shrink() waits for readers."""


class Arena(Closing, Objects):
    """One shared mapping that processes attach to, and this process's way into it.

    Made by `flagstone.open()`. As a context manager it is closed at the end. It pickles: unpickling
    attaches (to an anonymous arena only in a process that has it, or that is being started with it
    as an argument). Sizes are bytes, times seconds. Everything is safe to use from any thread, any
    process and, after a fork, in the child; whatever has to wait releases the GIL. Two Arena
    objects of one arena share this process's attachment. After `close()` everything but `name`,
    `path`, `uuid`, `capacity`, `readonly`, `closed` and `repr()` raises `Closed`.
    """

    __slots__ = ("__weakref__", "_capacity", "_path", "_readonly")

    def __init__(self, attachment: Attachment) -> None:
        self._begin(Link(attachment))
        self._path = attachment.path
        self._capacity: int = attachment.info()["capacity"]
        self._readonly = attachment.readonly

    # ---- objects

    def cache(
        self,
        name: str,
        *,
        size: Size | None = None,
        shape: int | Iterable[int] | None = None,
        dtype: DTypeLike | None = None,
        order: str = "C",
        align: SupportsIndex | None = None,
        typesafe_by_rcu: bool = False,
        init: Any = None,
        merge: bool = True,
        replace: bool = False,
        debug: str | None = None,
    ) -> Cache:
        """Open the cache of this name, or create it.

        Args:
            name: 1 to 63 bytes of UTF-8.
            size: bytes of an object; or else
            shape: of an object's array, with
            dtype: of its elements (any of NumPy's own, structured ones too, that holds no Python
                objects).
            order: "C", or "F": its array is in Fortran order.
            align: a power of two; by default the largest that divides the size, 64 at most.
            typesafe_by_rcu: objects are reused at once, memory keeps its type until a grace period
                after; for lookups that hold no reference: inside `read()`, find, copy, check.
            init: bytes that each fresh object starts with, at most its size; the rest is zero.
            merge: may share memory with a compatible cache, as its alias.
            replace: retire a live cache of this name that has other parameters: the name is the new
                one's at once, and `alloc` of the old one raises `Closed` in every process. What
                lives of it goes on, in whoever's hands, until it is dropped, and the old cache goes
                with the last of it. Of merged caches, only the name goes, and the others keep it.
            debug: letters of F, Z, P, U, as in `flagstone.open`, or "-": how a cache that is made
                is debugged; None is as the arena's. One that is there stays as it is.

        Raises:
            CacheMismatch: a live cache of this name has other parameters, and not `replace`.
            ReadOnly: it would have to be replaced, and this process attached with `readonly=True`.
            ValueError, TypeError: the parameters make no sense.
            ArenaFull: no room for one more cache.
        """
        return open_cache(
            self._link,
            name,
            size,
            shape,
            dtype,
            order,
            align,
            typesafe_by_rcu,
            init,
            merge,
            replace,
            debug,
        )

    def group(
        self,
        name: str | None = None,
        *,
        parent: Group | None = None,
        limit: Size | None = None,
        cgroup: Name | None = None,
        lasting: bool = False,
        create: bool | None = None,
        messages_expire: float | None = None,
        wait: float | None = None,
    ) -> Group:
        """Open the live group of this name under this parent, or create one.

        Args:
            name: 1 to 63 bytes of UTF-8; None is a new group without a name.
            parent: what it is part of; None is the arena itself.
            limit: bytes that it may use, in whole pages; None keeps what there is, no limit for a
                new one.
            cgroup: path of a Linux cgroup (v2 or v1; its folder, or as in `/proc/<pid>/cgroup`):
                the group lives as long as that, and not as its processes do. When the cgroup goes,
                it is destroyed, within a second or so, by any process that has the arena and the
                same mount namespace.
            lasting: it goes on when no live process has it open any more. Otherwise a batch closes
                it then.
            create: None opens or creates; True must not exist, False must exist.
            messages_expire: seconds after which a message of an object of the group (or of the
                group itself) that nobody took is dropped, as by `drop_in_flight`, by any process
                that runs batches; inf is never. None keeps what there is, the parent's for a
                new one.
            wait: seconds to wait, to a twentieth of one, where a process that is stopped holds the
                lock of the names; None is for ever (the log says after a second whom it waits for).

        Raises:
            FileExistsError, FileNotFoundError: as `create` says.
            TimeoutError: the lock was not free in time; names who holds it.
            GroupMismatch: the live group has another limit, another cgroup, or another
                `messages_expire`. `group.limit = ...` changes the limit of a group that is there.
            FileNotFoundError, ValueError: there is no such cgroup; the path is not one's.
            Closed: the parent has ended.
            ArenaFull: no room for one more group.
        """
        how = attach.how_to_open(create)
        return open_group(
            self._link, name, parent, limit, lasting, cgroup, how, messages_expire, wait
        )

    def channel(
        self,
        name: str | None = None,
        *,
        capacity: int | None = None,
        inline: int | None = None,
        ack: bool = False,
        group: Group | None = None,
        lasting: bool = False,
        create: bool | None = None,
    ) -> Channel:
        """Open the channel of this name, or create one: a bounded queue of messages.

        Args:
            name: 1 to 63 bytes of UTF-8; None is a new channel without a name, for who gets it by
                fork or in a pickle.
            capacity: messages that may wait, 1 to 1,048,576; None is what the channel has, 1,024 if
                it is created.
            inline: bytes of a message that lie in the channel's own memory, at most 4,000; what is
                larger takes an object of its own. None is what the channel has, 200 if it is
                created.
            ack: what was taken is owned until `Delivery.done()`, and comes again when its owner
                dies before.
            group: what its memory is charged to; None is what it has, the arena itself if it is
                created.
            lasting: it goes on, with what is in it, when no live process has it open any more.
            create: None opens or creates; True must not exist, False must exist.

        Raises:
            ChannelMismatch: it exists with another capacity, `inline`, `ack` or `lasting`, or in
                another group.
            FileExistsError, FileNotFoundError: as `create` says.
            ArenaFull, GroupLimitExceeded: no room for it.
            Closed, ReadOnly: the group has ended; attached with `readonly=True`, and there is none.
        """
        how = attach.how_to_open(create)
        return open_channel(self._link, name, capacity, inline, ack, group, lasting, how)

    def topic(
        self,
        name: str | None = None,
        *,
        capacity: int | None = None,
        history: int = 0,
        inline: int | None = None,
        group: Group | None = None,
        lasting: bool = False,
        create: bool | None = None,
    ) -> Topic:
        """Open the topic of this name, or create one: messages for all who subscribe.

        Args:
            name: 1 to 63 bytes of UTF-8; None is a new topic without a name, for who gets it by
                fork or in a pickle. Topics have names of their own.
            capacity: messages that lie there until others take their places, 1 to 1,048,576; None
                is what the topic has, 64 if it is created.
            history: with how many of them a subscription of this object begins, unless it says.
            inline: bytes of a message that lie in the topic's own memory, at most 4,000; None is
                what the topic has, 200 if it is created.
            group: what its memory is charged to; None is what it has, the arena itself if it is
                created.
            lasting: it goes on, with what is in it, when no live process has it open any more.
            create: None opens or creates; True must not exist, False must exist.

        Raises:
            ChannelMismatch: it exists with another capacity, `inline` or `lasting`, or in another
                group.
            FileExistsError, FileNotFoundError: as `create` says.
            ArenaFull, GroupLimitExceeded: no room for it.
            Closed, ReadOnly: the group has ended; attached with `readonly=True`, and there is none.
        """
        how = attach.how_to_open(create)
        return open_topic(self._link, name, capacity, history, inline, group, lasting, how)

    def lock(self, name: str, *, group: Group | None = None) -> Lock:
        """Open the lock of this name, or create it. Whoever owns it is not waited for.

        Args:
            name: 1 to 63 bytes of UTF-8; locks have names of their own.
            group: what its page is charged to, and what it ends with; None is what the lock has,
                the arena itself if it is created.

        Raises:
            ChannelMismatch: it exists in another group.
            ArenaFull, GroupLimitExceeded: no room for it.
            ValueError, TypeError: no such name or group.
            Closed, ReadOnly: the group has ended; attached with `readonly=True`, and there is none.
        """
        return open_lock(self._link, name, group)

    def store(
        self,
        name: str,
        *,
        limit: Size | None = None,
        evict: str | None = None,
        group: Group | None = None,
        lasting: bool | None = None,
        create: bool | None = None,
    ) -> Store:
        """Open the store of this name, or create one: a mapping from keys to objects, which it
        holds.

        It ends with `destroy()`, with its group, or with the arena. Who has the store open has the
        group open, too; a group that no process has open any more ends, with its stores, unless it
        is lasting. A store of the arena itself outlives every process in a lasting arena.

        Args:
            name: 1 to 63 bytes of UTF-8; 57 with a limit.
            limit: bytes that its values may use, in whole pages: they are charged to a group of
                their own, "store " and the name, below `group`.
            evict: "lru" makes room by letting go of what was not used for longest; readers keep
                their bytes. None is what the store does, nothing if it is created.
            group: what its values are charged to, and what it ends with; None is what the store
                has, the arena itself if it is created.
            lasting: True insists on a lasting arena.
            create: None opens or creates; True must not exist, False must exist.

        Raises:
            FileExistsError, FileNotFoundError: as `create` says.
            GroupMismatch: it exists with another limit.
            StoreMismatch: it exists, and evicts nothing, has no limit, or is of another group.
            ArenaFull: no room for one more store.
            ValueError: a name or `evict` makes no sense, or the arena is not lasting.
            Closed, ReadOnly: the group has ended; attached with `readonly=True`, and there is none.
        """
        if lasting and not self._link.attachment.info()["lasting"]:
            raise ValueError("a store lasts as long as its arena, and this one is not lasting")
        return open_store(self._link, name, limit, evict, group, create)

    def in_flight(self, older_than: float = 0.0) -> list[InFlight]:
        """The messages (pickled Blocks, groups, channels) that nobody has taken yet, the oldest
        first. Looks at all of them.

        Args:
            older_than: seconds that they have been in flight at least.

        Raises:
            ValueError, TypeError: no such time.
            Closed: the arena was closed.
        """
        attachment = self._link.attachment
        return observe.in_flight(attachment, parse_seconds(older_than, "older_than"))

    def drop_in_flight(
        self,
        older_than: float = 0.0,
        group: Group | None = None,
        sender: int | str | None = None,
    ) -> int:
        """Drop messages that nobody has taken: the references in flight that they hold.

        Only the caller can know that they are lost, and not just slow. Whoever takes such a message
        later has a bare handle, and `StaleHandle` where nobody else holds the object.

        Args:
            older_than: seconds that they have been in flight at least.
            group: only of objects charged to it; None is any.
            sender: only what this process sent, by its pid (as in `InFlight.pid`); or "dead": what
                was sent by processes that have the arena no more, killed or ended in order, as
                the kernel says, whoever has their pid now. None is anybody.

        Returns:
            How many were dropped.

        Raises:
            ValueError, TypeError: no such time, group or sender.
            Closed: the arena was closed.
        """
        attachment = self._link.attachment
        age = to_nanoseconds(parse_seconds(older_than, "older_than"))
        ident = FOREVER if group is None else group_id(self._link, attachment, group)
        pid = 0
        if sender is not None and sender != "dead":
            if isinstance(sender, str) or (pid := operator.index(sender)) <= 0:
                raise ValueError(f'sender must be a pid or "dead", not {sender!r}')
            if pid > 0x7FFFFFFF:
                return 0  # nobody's
        return attachment.drop_in_flight(age, ident, pid, sender == "dead")

    # ---- grace periods and memory

    def read(self) -> ReadSection:
        """A read-side section of the calling thread, as a context manager: what was looked up in it
        is neither reused nor released before it ends. Sections nest; each `with` needs a call of
        its own.

        Raises:
            Closed: the arena was closed.
        """
        return ReadSection(self._link.attachment)

    def synchronize(self, timeout: float | None = None) -> None:
        """Wait until every read-side section that is open now, in any process, has ended.

        Args:
            timeout: seconds; None is for ever.

        Raises:
            RuntimeError: called inside `read()`.
            TimeoutError: the time was over; says which reader it waited for.
            ValueError, TypeError: no such time.
        """
        rcu.synchronize(self._link.attachment, timeout)

    def barrier(self, timeout: float | None = None) -> None:
        """Wait until everything that was dropped or ended before this call, by anyone, is released.

        Args:
            timeout: seconds; None is for ever.

        Raises:
            RuntimeError: called inside `read()`.
            TimeoutError: the time was over; says which reader, or whose batch, it waited for.
            ValueError, TypeError: no such time.
        """
        rcu.barrier(self._link.attachment, timeout)

    def shrink(self) -> int:
        """Give memory that nothing uses back to the system. Waits up to 5 seconds for readers, and
        leaves what they may still see.

        Returns:
            The bytes that were given back.

        Raises:
            RuntimeError: called inside `read()`.
            TimeoutError: a process that is stopped holds one of the arena's locks.
        """
        with contextlib.suppress(TimeoutError):
            rcu.barrier(self._link.attachment, _READERS)
        released = self._link.attachment.shrink(0)
        notices.tell(self._link.attachment)
        return released

    # ---- looking

    def check(self) -> list[Finding]:
        """Validate every structure of the arena, also while it is in use. Repairs nothing.

        Returns:
            A `Finding` for each contradiction; none where the arena is sound.
        """
        notices.tell(self._link.attachment)
        return [Finding(text) for text in _core.check(self._link.attachment)]

    def snapshot(self) -> ArenaSnapshot:
        """A frozen picture of everything: memory, processes, caches, groups, what is in flight.
        Looks at every reference, message and key once; each number was true at some moment of the
        look.
        """
        notices.tell(self._link.attachment)
        return observe.snapshot(self._link.attachment, self.name)

    def slabinfo(self) -> str:
        """The caches in the format of `/proc/slabinfo`, version 2.1."""
        return observe.slabinfo(observe.caches(self._link.attachment))

    @property
    def name(self) -> str | None:
        """The name, as `flagstone.open()` takes it; None for an anonymous arena."""
        return arena_name(self._path)

    @property
    def path(self) -> str | None:
        """The path of its file; None for an anonymous arena."""
        return self._path

    @property
    def uuid(self) -> str:
        """32 hexadecimal digits that no other arena has, nor one that gets the same name later."""
        return self._link.uuid.hex()

    @property
    def capacity(self) -> int:
        """Bytes of data that it can grow to."""
        return self._capacity

    @property
    def readonly(self) -> bool:
        """Whether this process attached read-only."""
        return self._readonly

    @property
    def closed(self) -> bool:
        """Whether `close()` was called on this object, or the arena did not come along over a
        fork.
        """
        try:
            return not self._link.attachment.usable
        except Closed:
            return True

    @property
    def used(self) -> int:
        """Bytes of the pages that slabs and large objects hold, exactly."""
        used: int = self._link.attachment.info()["used"]
        return used

    @property
    def committed(self) -> int:
        """Bytes taken from the system, metadata included."""
        committed: int = self._link.attachment.info()["committed"]
        return committed

    @property
    def root_group(self) -> Group:
        """The arena itself, as a group."""
        return look(self._link, self._link.attachment.root_group)

    @property
    def caches(self) -> list[Cache]:
        """The live caches, aliases included; not the size classes behind `alloc` and `put`."""
        return caches_of(self._link)

    @property
    def stores(self) -> list[StoreInfo]:
        """The live stores, as they are now. Looks at every key."""
        return stores_of(self._link.attachment)

    @property
    def channels(self) -> list[ChannelInfo]:
        """The live channels, as they are now."""
        return channels_of(self._link.attachment)

    @property
    def topics(self) -> list[TopicInfo]:
        """The live topics, as they are now."""
        return topics_of(self._link.attachment)

    @property
    def locks(self) -> list[LockInfo]:
        """The live locks, as they are now; asks the kernel about their owners."""
        return locks_of(self._link.attachment)

    @property
    def groups(self) -> list[Group]:
        """The groups that are not destroyed, without the root group. These objects only look and
        hold nothing open.
        """
        return groups_of(self._link)

    @property
    def processes(self) -> list[ProcessInfo]:
        """The living processes that have the arena attached, this one included.

        `snapshot().processes` also has the dead ones that no batch has buried yet.
        """
        notices.tell(self._link.attachment)
        return [one for one in observe.processes(self._link.attachment) if one.alive]

    # ---- leaving

    def close(self) -> None:
        """Let go of the arena, and leave the channels, topics, locks and stores that were opened
        through this object: they raise `Closed` from now on. Never raises; again is fine.

        Blocks and views that are still alive keep the mapping, and this process's references, until
        they go. Once nothing does, the process has left: a lock that it owned is for the next one,
        what it took and had not done (`ack=True`) comes again, and the last process to leave a
        named arena removes it, unless it is lasting.
        """
        if not self._link.closed:
            attach.forget(self._link.uuid)
            self._link.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (attach.locate(self._link.attachment), self._readonly)

    def __repr__(self) -> str:
        name = "anonymous" if self._path is None else repr(self.name)
        try:
            used = f"{format_size(self.used)} of {format_size(self._capacity)} used"
        except FlagstoneError:
            used = "closed"
        return f"<Arena {name}, {used}{', read-only' if self._readonly else ''}>"


def _load(locator: attach.Locator, readonly: bool) -> Arena:
    return Arena(attach.attach(locator, readonly=readonly))


def open(
    name: Name | None = None,
    *,
    capacity: Size | None = None,
    create: bool | None = None,
    readonly: bool = False,
    lasting: bool = False,
    mode: int = 0o600,
    huge_pages: bool = False,
    debug: str | None = None,
) -> Arena:
    """Attach to an arena, or create it.

    Args:
        name: None is a new anonymous arena, which travels by fork and as an argument of a process
            being started. A bare name is the file `flagstone.NAME` in `/dev/shm`; one with a slash
            is the path of a file on any tmpfs.
        capacity: bytes of data that it can grow to, 1 GiB by default: an upper bound, not a cost.
            Of an existing arena, what is needed at least.
        create: None attaches or creates; True must not exist, False must exist.
        readonly: map the data read-only; `alloc`, `put`, `free`, `destroy` raise `ReadOnly`.
            Protects against mistakes, not against malice.
        lasting: outlives its processes, from now on if it is there already. Otherwise the last one
            to leave removes it, and one whose processes were all killed is removed by the next
            `open` in its folder.
        mode: permissions of the file, if it is created; 0o600, its owner's alone, by default.
        huge_pages: ask the system for huge pages, if the arena is created: from Linux 6.1 on,
            each 2 MiB become one as soon as memory for all of them was taken.
        debug: how caches are debugged, in the syntax of the kernel's `slub_debug`: letters of F
            (look at everything beside an object at each operation), Z (red zones), P (poison what
            was freed), U (who allocated, who freed), and after a comma the names of the caches that
            they are for: "FZPU", "ZP,frame;U". None is what FLAGSTONE_DEBUG says. It holds for
            the size classes of an arena that is created, and for the caches that are made through
            this one.

    Raises:
        FileExistsError, FileNotFoundError: as `create` says.
        PermissionError: the file is another user's, or no regular file.
        LayoutMismatch: the file was laid out by another version, or is no arena.
        ArenaCorrupted: the file was overwritten.
        ValueError, TypeError: a name, size or letter that makes no sense, more capacity than an
            existing arena has, or `readonly` other than this process has it attached with.
        ArenaFull: the file system is full.
        OSError: the system refuses what an arena needs; says what.
    """
    if name is None and create is False:
        raise ValueError(
            "an anonymous arena cannot be opened, only created: create=False needs a name"
        )
    if isinstance(mode, bool) or not isinstance(mode, SupportsIndex):
        raise TypeError(f"mode must be an int such as 0o600, not {mode!r}")
    mode = operator.index(mode)
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be permissions from 0 to 0o777, not {mode!r}")
    path = None if name is None else arena_path(name)
    rules = rules_of(debug)
    with _explained(path):
        attachment = attach.open_attachment(
            None if path is None else os.fsencode(path),
            capacity=0 if capacity is None else parse_size(capacity, "capacity"),
            create=attach.how_to_open(create),
            readonly=readonly,
            lasting=lasting,
            huge_pages=huge_pages,
            mode=mode,
            debug=classes_of(rules),
        )
    begin(attachment, rules)
    return Arena(attachment)


@contextlib.contextmanager
def _explained(path: str | None) -> Iterator[None]:
    try:
        yield
    except (PermissionError, FileNotFoundError) as error:
        hint = "" if path is None else slash_hint(path)
        if not hint:
            raise
        raise type(error)(error.errno, f"{error.strerror}{hint}") from None


def unlink(name: Name, *, missing_ok: bool = True) -> None:
    """Remove an arena's name. Processes that have the arena keep it; nobody new can attach by name.

    Args:
        name: as in `flagstone.open`.
        missing_ok: whether it is fine that there is no such arena.

    Raises:
        FileNotFoundError: there is none, and not `missing_ok`.
        PermissionError: the file is another user's, or no regular file.
        LayoutMismatch: the file is no arena.
        ValueError, TypeError: no arena can have this name.
    """
    path = arena_path(name)
    try:
        with _explained(path):
            _core.unlink(os.fsencode(path))
    except FileNotFoundError:
        if not missing_ok:
            raise
