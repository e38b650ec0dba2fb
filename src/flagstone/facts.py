"""What a snapshot of an arena is made of, and what reading a part of it returns.

All sizes are bytes, all times seconds. Each number was true at some moment of the look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flagstone._core import Handle

__all__ = [
    "Batch",
    "Burial",
    "CacheInfo",
    "CacheStats",
    "ChannelInfo",
    "ChildCounts",
    "Fault",
    "Finding",
    "GroupEvents",
    "GroupInfo",
    "Holder",
    "InFlight",
    "Keeper",
    "LockHold",
    "LockInfo",
    "ProcessInfo",
    "Sender",
    "Site",
    "StoreInfo",
    "SubscriberInfo",
    "TopicInfo",
]


class Holder(NamedTuple):
    """A process that uses an object.

    Attributes:
        pid: as the process saw it when it attached (in its own pid namespace).
        command: short name.
    """

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A contradiction that `check()` found.

    Attributes:
        text: what contradicts what, in a sentence.
    """

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process that has the arena attached.

    Attributes:
        slot: index in the arena's process table.
        pid: as the process saw it when it attached (in its own pid namespace).
        uid: its user.
        alive: as the kernel says, by the lock on the slot.
        is_self: whether it is this process.
        readonly: attached read-only.
        command: short name.
        arguments: its command line, as far as there was room.
        started: when it attached, in seconds since boot.
        references: objects it uses.
        dropped: references that await a batch.
        bytes: what the objects in `references` hold.
        threads: that have entered a read-side section.
    """

    slot: int
    pid: int
    uid: int
    alive: bool
    is_self: bool
    readonly: bool
    command: str
    arguments: str
    started: float
    references: int
    dropped: int
    bytes: int
    threads: int


@dataclass(frozen=True, slots=True)
class Burial:
    """A process that died without leaving, and what was reclaimed from it.

    Attributes:
        number: of this death; counts from 1.
        pid: as the process saw it (in its own pid namespace).
        uid: its user.
        command: short name.
        noticed: when a batch found it dead, in seconds since boot.
        finished: when everything it held was released, in seconds since boot; None: not yet.
        reaper: pid of the process that released it.
        objects: released with it. What others used, or has been sent, is not counted.
        bytes: of these objects.
        groups: closed with it, because nobody else had them open.
    """

    number: int
    pid: int
    uid: int
    command: str
    noticed: float
    finished: float | None
    reaper: int
    objects: int
    bytes: int
    groups: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How full a cache is, over all groups.

    Attributes:
        slabs: runs of pages that it holds.
        objects: that its slabs have room for.
        allocated: objects in use or awaiting a batch.
        bytes: of the pages of its slabs.
        children: groups that have objects of it.
    """

    slabs: int
    objects: int
    allocated: int
    bytes: int
    children: int


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A cache.

    Attributes:
        id: changes when the name is used again.
        name: as opened.
        dtype: of an object, as text, or None for bytes.
        shape: of an object, or None for bytes.
        size: bytes of an object.
        align: of an object's address.
        stride: bytes from one object to the next.
        flags: of "typesafe_by_rcu", "no_merge", "size_class".
        state: "live", "ended" (awaiting a batch), "alias", or "retired" (another cache has its
            name, and it goes with its last object).
        merged_into: name of the cache this one is an alias of, or None.
        aliases: how many names are aliases of this one.
        stats: how full it is.
    """

    id: int
    name: str
    dtype: str | None
    shape: tuple[int, ...] | None
    size: int
    align: int
    stride: int
    flags: frozenset[str]
    state: str
    merged_into: str | None
    aliases: int
    stats: CacheStats


@dataclass(frozen=True, slots=True)
class GroupEvents:
    """What happened to a group so far.

    Attributes:
        limit_hits: allocations that met its limit, whatever came of them.
        failed: allocations that failed in the end.
        reclaims: batches run on its behalf.
    """

    limit_hits: int
    failed: int
    reclaims: int


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A group.

    Attributes:
        id: changes when the name is used again.
        parent: id of its parent; None for the root group.
        name: "" if it has none.
        state: "live", "closed" or "destroyed" (awaiting a batch).
        lasting: lives on when no process has it open.
        cgroup: folder of the cgroup that it ends with, or None.
        limit: bytes, or None.
        usage: bytes charged to it and its descendants.
        peak: the most that `usage` ever was.
        children: groups in it, not those in these.
        events: limit hits, failed allocations, reclaims.
    """

    id: int
    parent: int | None
    name: str
    state: str
    lasting: bool
    cgroup: str | None
    limit: int | None
    usage: int
    peak: int
    children: int
    events: GroupEvents


@dataclass(frozen=True, slots=True)
class InFlight:
    """An object, or a group, that was pickled and not yet taken.

    Attributes:
        object: its handle.
        is_group: whether it is a pickled Group.
        nbytes: of the object.
        cache: name of its cache.
        group: name of its group ("" if that has none).
        pid: of the sender.
        command: of the sender.
        age: seconds since it was pickled.
    """

    object: Handle
    is_group: bool
    nbytes: int
    cache: str
    group: str
    pid: int
    command: str
    age: float


@dataclass(frozen=True, slots=True)
class Sender:
    """What one process has in flight.

    Attributes:
        pid: as the process saw it (in its own pid namespace); 0: it was killed before it could say
            who it was.
        command: short name.
        alive: it has the arena attached.
        messages: pickled by it and not yet taken.
        bytes: of their objects, counted once for each message.
    """

    pid: int
    command: str
    alive: bool
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch did.

    Attributes:
        number: counts them.
        groups: closed, destroyed or no longer referenced, that it spliced off the queue.
        children: child caches that it released.
        objects: that it released.
        bytes: of these objects.
        began: in seconds since boot.
        seconds: that it took.
        waited: the part of these that it waited for readers.
    """

    number: int
    groups: int
    children: int
    objects: int
    bytes: int
    began: float
    seconds: float
    waited: float


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """Child caches (a cache's part for one group) by state.

    Attributes:
        live: in use.
        deactivated: their group was closed; slabs go as they empty.
        queued: ended, waiting for a batch or for references that keep them.
        releasing: by the running batch.
    """

    live: int
    deactivated: int
    queued: int
    releasing: int


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who keeps objects of a group or cache that has ended, or a closed group, from being released.

    Attributes:
        group: name of the group ("" if that has none).
        pid: of the process whose references these are; None: they are in flight.
        command: of the process.
        references: to objects of the group, or to itself if it was closed: who has a destroyed
            group open keeps nothing.
        bytes: of these objects.
        seconds: since the group ended.
        for_children: the process, which may be dead, has forked children that could be given no
            place in the arena, and keeps what these inherited until they end.
    """

    group: str
    pid: int | None
    command: str
    references: int
    bytes: int
    seconds: float
    for_children: bool = False


class LockHold(NamedTuple):
    """The longest time that a shared lock was held: of the acquisitions looked at, one in 256.

    Attributes:
        lock: "names", "pages" or "child".
        seconds: how long.
    """

    lock: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a program whose objects live, of caches that are debugged with "U".

    Attributes:
        where: a line for each caller, the innermost first: "FILE:LINE in FUNCTION"; "" where it is
            not known.
        objects: that live.
        nbytes: of these.
        oldest: seconds since the oldest of them was allocated.
        pids: of the processes that allocated them.
        caches: names.
        holders: (pid, objects) of the processes that refer to them, the most objects first. What
            none refers to is in a store, a channel or a message.
    """

    where: str
    objects: int
    nbytes: int
    oldest: float
    pids: tuple[int, ...]
    caches: tuple[str, ...]
    holders: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with an object of a cache that is debugged.

    Attributes:
        kind: "overrun", "written after free", "freed twice" or "leak".
        found: seconds since boot, when it was; None: by this look, and nobody has reported it yet.
        finder: process that found it.
        holders: processes that referred to the object then, 4 at most.
        pid: process that allocated it; None: not known.
        freed_pid: process that freed it; None: not known, or it lives.
        text: which object, which bytes, who allocated it, who freed it, who holds it; lines.
    """

    kind: str
    found: float | None
    finder: int | None
    holders: tuple[int, ...]
    pid: int | None
    freed_pid: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store at one moment.

    Attributes:
        name: as opened.
        keys: that have a value.
        version: counts its changes.
        nbytes: bytes of the objects that they hold.
        evict: "lru" if it makes room by itself.
        group: what its values are charged to; None is the arena itself, or a group without a name.
    """

    name: str
    keys: int
    version: int
    nbytes: int
    evict: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel at one moment.

    Attributes:
        name: None if it has none.
        capacity: messages that may wait.
        inline: bytes of a message that lie in the channel's own memory.
        ack: what was taken has to be acknowledged.
        lasting: it goes on without a process that has it open.
        closed: nothing is put any more.
        waiting: messages in it.
        taken: with `ack`, messages that somebody owns and has not acknowledged; else those that
            somebody is just putting or taking.
        nbytes: bytes of its own memory, without the Blocks that wait in it.
    """

    name: str | None
    capacity: int
    inline: int
    ack: bool
    lasting: bool
    closed: bool
    waiting: int
    taken: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class SubscriberInfo:
    """A subscription at one moment.

    Attributes:
        pid: of its process, in that one's pid namespace.
        command: of its process.
        slow: "block", "drop", "disconnect" or "latest".
        lag: messages that it has not got yet.
        lost: messages that it was too slow for.
        holds: publishers wait for it just now.
    """

    pid: int
    command: str
    slow: str
    lag: int
    lost: int
    holds: bool


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic at one moment.

    Attributes:
        name: None if it has none.
        capacity: messages that lie there, at most.
        inline: bytes of a message that lie in the topic's own memory.
        lasting: it goes on without a process that has it open.
        closed: nothing is published any more.
        messages: that lie there.
        nbytes: bytes of its own memory, without the Blocks that lie in it.
        subscribers: who subscribes.
    """

    name: str | None
    capacity: int
    inline: int
    lasting: bool
    closed: bool
    messages: int
    nbytes: int
    subscribers: tuple[SubscriberInfo, ...]


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A lock at one moment.

    Attributes:
        name: as opened.
        owned: somebody owns it.
        inherited: its owner has gone; the next one takes it over.
        pid: of who owns it; None if nobody, or if it has gone.
        command: of who owns it; "" as for `pid`.
    """

    name: str
    owned: bool
    inherited: bool
    pid: int | None
    command: str
