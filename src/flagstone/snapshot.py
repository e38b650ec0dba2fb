"""Frozen pictures of an arena: everything that the command line, a viewer or metrics read.

All sizes are bytes, all times seconds. A snapshot is taken while others work: each number was true
at some moment of the look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flagstone import _core
from flagstone.errors import ArenaCorrupted, Closed
from flagstone.format import parse_format
from flagstone.names import text
from flagstone.picture import Page, show
from flagstone.sizes import FOREVER, to_nanoseconds

if TYPE_CHECKING:
    from flagstone._core import Attachment, Handle

__all__ = [
    "ArenaSnapshot",
    "Batch",
    "Burial",
    "CacheInfo",
    "CacheStats",
    "ChildCounts",
    "Finding",
    "GroupEvents",
    "GroupInfo",
    "Holder",
    "InFlight",
    "Keeper",
    "LockHold",
    "ProcessInfo",
    "Sender",
]

PAGE: Final = 4096
SIZE_CLASS: Final = 4
_CACHE_FLAGS: Final = {1: "typesafe_by_rcu", 2: "no_merge", SIZE_CLASS: "size_class"}
_CACHE_STATES: Final = {1: "live", 3: "ended", 4: "alias", 6: "retired"}
_CGROUP: Final = 2
GROUP_STATES: Final = {1: "live", 2: "closed", 3: "destroyed"}


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
    """What one process (0: killed before it could say who it was) has in flight.

    Attributes:
        pid: as the process saw it; command: short name; alive: it has the arena attached.
        messages: pickled by it and not yet taken; bytes: of their objects, once for each.
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
        groups: closed, destroyed or no more referenced, that it took off the queue.
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
        releasing: taken by the running batch.
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
    """

    group: str
    pid: int | None
    command: str
    references: int
    bytes: int
    seconds: float


class LockHold(NamedTuple):
    """The longest time that a shared lock was held: of the acquisitions looked at, one in 256.

    Attributes:
        lock: "names", "pages" or "child".
        seconds: how long.
    """

    lock: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ArenaSnapshot:
    """An arena at one moment, more or less.

    Attributes:
        uuid: hexadecimal.
        name: as `flagstone.open` takes it; None for an anonymous arena.
        path: of its file, or None.
        capacity: bytes of data at most.
        used: bytes of the pages that slabs and large objects hold.
        committed: bytes taken from the system, metadata included.
        control: the part of `committed` that is metadata.
        created_at: seconds since the epoch.
        readonly: how this process is attached.
        lasting: outlives its processes.
        unlinked: the file lost its name from outside: nobody new can attach by it.
        batches: finished so far.
        grace_periods: finished so far.
        released_objects: by batches, so far.
        released_bytes: by batches, so far.
        deaths: processes that ended without leaving.
        last_batch: seconds that the last batch took.
        stalled: (pid, thread id, seconds) of the reader that a grace period waits for, or None.
        batch: (pid, seconds): who runs a batch, and for how long already; None: nobody.
        processes: attached, or dead and not yet buried by a batch.
        caches: size classes and ended ones included.
        groups: the root group included.
        in_flight: pickled and not taken, the oldest first.
        senders: who pickled them, the most messages first.
        burials: of the last processes that died without leaving, the newest first.
        last_batches: at most 16, the newest first.
        groups_waiting: closed or destroyed, and not yet taken by a batch.
        children: child caches by state.
        keepers: who keeps what has ended, at most 256.
        longest_hold: of a shared lock, in wall time; None: not seen yet.
        longest_hold_cpu: the same in the holder's CPU time.
    """

    uuid: str
    name: str | None
    path: str | None
    capacity: int
    used: int
    committed: int
    control: int
    created_at: int
    readonly: bool
    lasting: bool
    unlinked: bool
    batches: int
    grace_periods: int
    released_objects: int
    released_bytes: int
    deaths: int
    last_batch: float
    stalled: tuple[int, int, float] | None
    batch: tuple[int, float] | None
    processes: tuple[ProcessInfo, ...]
    caches: tuple[CacheInfo, ...]
    groups: tuple[GroupInfo, ...]
    in_flight: tuple[InFlight, ...]
    senders: tuple[Sender, ...]
    burials: tuple[Burial, ...]
    last_batches: tuple[Batch, ...]
    groups_waiting: int
    children: ChildCounts
    keepers: tuple[Keeper, ...]
    longest_hold: LockHold | None
    longest_hold_cpu: LockHold | None

    def __str__(self) -> str:
        """What `flagstone info` prints elsewhere: several lines, without colours."""
        page = Page()
        show(self, page, own=True)
        return str(page)


def processes(attachment: Attachment) -> list[ProcessInfo]:
    """The processes that have the arena attached."""
    return [
        ProcessInfo(
            slot=one["slot"],
            pid=one["pid"],
            uid=one["uid"],
            alive=one["alive"],
            is_self=one["self"],
            readonly=one["readonly"],
            command=text(one["command"]),
            arguments=text(one["arguments"]),
            started=one["started"] / 1e9,
            references=one["references"],
            dropped=one["dropped"],
            bytes=one["bytes"],
            threads=one["threads"],
        )
        for one in attachment.processes()
    ]


def burials(attachment: Attachment) -> list[Burial]:
    """The last deaths, the newest first."""
    return [
        Burial(
            number=one["number"],
            pid=one["pid"],
            uid=one["uid"],
            command=text(one["command"]),
            noticed=one["noticed_at"] / 1e9,
            finished=one["finished_at"] / 1e9 or None,
            reaper=one["reaper"],
            objects=one["objects"],
            bytes=one["bytes"],
            groups=one["groups"],
        )
        for one in attachment.burials()
    ]


def last_batches(attachment: Attachment) -> list[Batch]:
    """The last batches, the newest first."""
    return [
        Batch(
            number=one["number"],
            groups=one["groups"],
            children=one["children"],
            objects=one["objects"],
            bytes=one["bytes"],
            began=one["began"] / 1e9,
            seconds=one["duration"] / 1e9,
            waited=one["grace_ns"] / 1e9,
        )
        for one in attachment.batches()
    ]


def keepers(
    attachment: Attachment, *, group: int | None = None, cache: int | None = None
) -> list[Keeper]:
    """Who keeps what has ended, the longest first; only of one group and those below it, or of
    one cache.
    """
    found = attachment.keepers() if cache is None else attachment.cache_keepers(cache)
    if group is not None:
        found = [one for one in found if _is_below(attachment, one["group"], group)]
    return sorted((_keeper(attachment, one) for one in found), key=lambda one: -one.seconds)


def _is_below(attachment: Attachment, group: int, top: int) -> bool:
    seen: set[int] = set()
    while group != top and group not in seen:  # the parent of the root is the root
        seen.add(group)
        try:
            group = attachment.group_info(group)["parent"]
        except Closed:  # released meanwhile
            return False
    return group == top


def _keeper(attachment: Attachment, one: Mapping[str, Any]) -> Keeper:
    names: dict[tuple[bool, int], str] = {}
    return Keeper(
        group=_name_of(attachment, names, True, one["group"]),
        pid=one["pid"] or None,
        command=text(one["command"]),
        references=one["references"],
        bytes=one["bytes"],
        seconds=one["ended_ns"] / 1e9,
    )


def _hold(lock: bytes, nanoseconds: int) -> LockHold | None:
    return LockHold(text(lock), nanoseconds / 1e9) if nanoseconds else None


def cache_stats(info: Mapping[str, Any]) -> CacheStats:
    """How full a cache is."""
    return CacheStats(
        info["slabs"], info["objects"], info["allocated"], info["bytes"], info["children"]
    )


def cache_flags(flags: int) -> frozenset[str]:
    """Names of the flags of a cache."""
    return frozenset(name for bit, name in _CACHE_FLAGS.items() if flags & bit)


def caches(attachment: Attachment) -> list[CacheInfo]:
    """All caches: size classes, aliases and ended ones too."""
    infos = _still_there(attachment.cache_info, attachment.cache_ids())
    names = {info["id"]: text(info["name"]) for info in infos}
    return [_cache(info, names) for info in infos]


def _cache(info: Mapping[str, Any], names: Mapping[int, str]) -> CacheInfo:
    try:
        form = parse_format(text(info["format"]))
    except ArenaCorrupted:  # a picture of a damaged arena is wanted all the more
        form = None
    merged = info["merged_into"]
    return CacheInfo(
        id=info["id"],
        name=names[info["id"]],
        dtype=None if form is None else str(form.dtype),
        shape=None if form is None else form.shape,
        size=info["size"],
        align=info["align"],
        stride=info["stride"],
        flags=cache_flags(info["flags"]),
        state=_CACHE_STATES.get(info["state"], "changing"),
        merged_into=None if merged == info["id"] else names.get(merged, f"#{merged & 0xFFFFFFFF}"),
        aliases=info["aliases"],
        stats=cache_stats(info),
    )


def group_limit(limit: int) -> int | None:
    """A limit, or None where there is none."""
    return None if limit == FOREVER else limit


def groups(attachment: Attachment) -> list[GroupInfo]:
    """All groups, the root group first."""
    root = attachment.root_group
    infos = _still_there(attachment.group_info, attachment.group_ids())
    infos.sort(key=lambda info: info["id"] != root)
    return [
        GroupInfo(
            id=info["id"],
            parent=None if info["id"] == root else info["parent"],
            name=text(info["name"]),
            state=GROUP_STATES.get(info["state"], "changing"),
            lasting=bool(info["flags"] & 1),
            cgroup=attachment.group_cgroup(info["id"]) if info["flags"] & _CGROUP else None,
            limit=group_limit(info["limit"]),
            usage=info["usage"],
            peak=info["peak"],
            children=info["children"],
            events=GroupEvents(info["limit_hits"], info["failed"], info["reclaims"]),
        )
        for info in infos
    ]


def in_flight(attachment: Attachment, older_than: float = 0.0) -> list[InFlight]:
    """What was pickled at least `older_than` seconds ago and never taken; the oldest first."""
    return _flying(attachment, older_than)[0]


def _flying(attachment: Attachment, older_than: float) -> tuple[list[InFlight], tuple[Sender, ...]]:
    names: dict[tuple[bool, int], str] = {}
    cache = partial(_name_of, attachment, names, False)
    group = partial(_name_of, attachment, names, True)
    found, senders = attachment.in_flight(to_nanoseconds(older_than), InFlight, cache, group)
    who = [Sender(*key, *total) for key, total in senders.items()]
    return found, tuple(sorted(who, key=lambda one: -one.messages))


def snapshot(attachment: Attachment, name: str | None) -> ArenaSnapshot:
    """Everything at once."""
    info = attachment.info()
    flying, senders = _flying(attachment, 0.0)
    return ArenaSnapshot(
        uuid=attachment.uuid.hex(),
        name=name,
        path=attachment.path,
        capacity=info["capacity"],
        used=info["used"],
        committed=info["committed"],
        control=info["control"],
        created_at=info["created_at"],
        readonly=info["readonly"],
        lasting=info["lasting"],
        unlinked=info["unlinked"],
        batches=info["batches"],
        grace_periods=info["grace_periods"],
        released_objects=info["released_objects"],
        released_bytes=info["released_bytes"],
        deaths=info["deaths"],
        last_batch=info["batch_last_ns"] / 1e9,
        stalled=(
            (info["stalled_pid"], info["stalled_tid"], info["stalled_ns"] / 1e9)
            if info["stalled_pid"]
            else None
        ),
        batch=(info["batch_pid"], info["batch_ns"] / 1e9) if info["batch_pid"] else None,
        processes=tuple(processes(attachment)),
        caches=tuple(caches(attachment)),
        groups=tuple(groups(attachment)),
        in_flight=tuple(flying),
        senders=senders,
        burials=tuple(burials(attachment)),
        last_batches=tuple(last_batches(attachment)),
        groups_waiting=info["groups_waiting"],
        children=ChildCounts(**attachment.child_counts()),
        keepers=tuple(keepers(attachment)),
        longest_hold=_hold(info["hold_wall_lock"], info["hold_wall_ns"]),
        longest_hold_cpu=_hold(info["hold_cpu_lock"], info["hold_cpu_ns"]),
    )


def slabinfo(infos: Iterable[CacheInfo]) -> str:
    """The caches in the format of `/proc/slabinfo`, version 2.1; aliases are not listed, as
    there.
    """
    lines = [
        "slabinfo - version: 2.1",
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
        " : tunables <limit> <batchcount> <sharedfactor>"
        " : slabdata <active_slabs> <num_slabs> <sharedavail>",
    ]
    for info in infos:
        if info.state == "alias":
            continue
        stats = info.stats
        slabs = max(stats.slabs, 1)
        pages = math.ceil(stats.bytes / slabs / PAGE)
        name = "_".join(info.name.split()) or "-"
        lines.append(
            f"{name:<17} {stats.allocated:6} {stats.objects:6} {info.size:6}"
            f" {stats.objects // slabs:4} {pages:4} : tunables {0:4} {0:4} {0:4}"
            f" : slabdata {stats.slabs:6} {stats.slabs:6} {0:6}"
        )
    return "\n".join(lines) + "\n"


def now() -> float:
    """Seconds since boot: the clock of `ProcessInfo.started`."""
    return _core.now() / 1e9


def _still_there(look: Any, ids: Iterable[int]) -> list[dict[str, Any]]:
    found = []
    for one in ids:
        try:
            found.append(look(one))
        except Closed:  # released between the list and the look
            continue
    return found


def _name_of(
    attachment: Attachment, names: dict[tuple[bool, int], str], is_group: bool, ident: int
) -> str:
    key = (is_group, ident)
    if key not in names:
        look = attachment.group_info if is_group else attachment.cache_info
        try:
            names[key] = text(look(ident)["name"])
        except Closed:
            names[key] = f"#{ident & 0xFFFFFFFF}"
    return names[key]
