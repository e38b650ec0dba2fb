"""A frozen picture of an arena: all that the command line, a viewer or metrics read; and what it
says to people, as plain text: `str(snapshot)`, and what `flagstone info` prints.

All sizes are bytes, all times seconds. A snapshot is taken while others work: each number was true
at some moment of the look.
"""

from __future__ import annotations

import functools
import heapq
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from flagstone._core import now as _nanoseconds
from flagstone.facts import (
    Batch,
    Burial,
    CacheInfo,
    ChannelInfo,
    ChildCounts,
    Fault,
    GroupInfo,
    InFlight,
    Keeper,
    LockHold,
    LockInfo,
    ProcessInfo,
    Sender,
    Site,
    StoreInfo,
    TopicInfo,
)
from flagstone.names import NO_NAME
from flagstone.notices import LONG
from flagstone.picture import BAD, Page, duration, number, printable, share, some
from flagstone.sizes import format_size, many

__all__ = ["ArenaSnapshot", "by_name", "show", "sites", "size_of"]

_MOST: Final = 40
"""Lines of caches or groups unless everything is asked for; those with the most bytes are shown."""

_MOST_IN_FLIGHT: Final = 10
_MOST_BURIALS: Final = 10
_MOST_BATCHES: Final = 5


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
        groups_waiting: closed or destroyed, and waiting for a batch.
        children: child caches by state.
        keepers: who keeps what has ended, at most 256.
        stores: live ones.
        channels: live ones.
        topics: live ones, with who subscribes.
        locks: live ones, with who owns them.
        longest_hold: of a shared lock, in wall time; None: not seen yet.
        longest_hold_cpu: the same in the holder's CPU time.
        sites: where living objects were allocated, the most bytes first; empty unless a cache is
            debugged with "U".
        faults: what is wrong with objects of caches that are debugged, and the last 6 that were
            found, the newest first.
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
    stores: tuple[StoreInfo, ...]
    channels: tuple[ChannelInfo, ...]
    topics: tuple[TopicInfo, ...]
    locks: tuple[LockInfo, ...]
    longest_hold: LockHold | None
    longest_hold_cpu: LockHold | None
    sites: tuple[Site, ...] = ()
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        """What `flagstone info` prints elsewhere: several lines, without colours."""
        page = Page()
        show(self, page, own=True)
        return str(page)


def show(
    snapshot: ArenaSnapshot, page: Page, *, everything: bool = False, own: bool = False
) -> None:
    """Draw a snapshot for people.

    Args:
        snapshot: the arena.
        page: drawn on.
        everything: all caches, groups and messages, not the largest and oldest alone.
        own: this process, too: it is not there only to look.
    """
    _arena(snapshot, page)
    page.line()
    _processes(snapshot, page, own)
    page.line()
    _burials(snapshot, page, everything)
    page.line()
    _caches(snapshot, page, everything)
    page.line()
    _groups(snapshot, page, everything)
    by_name(snapshot, page, below=True)
    page.line()
    _keepers(snapshot, page)
    page.line()
    _faults(snapshot, page)
    if snapshot.sites:
        sites(snapshot.sites[:_MOST], page)
        page.line()
    _batches(snapshot, page)
    page.line()
    _in_flight(snapshot, page, everything)


def _arena(snapshot: ArenaSnapshot, page: Page) -> None:
    modes = [word for word, on in (("lasting", snapshot.lasting),) if on]
    last = f", the last one in {duration(snapshot.last_batch)}" if snapshot.batches else ""
    page.facts(
        f"arena {snapshot.name or '(anonymous)'}",
        [
            ("file", snapshot.path or "none"),
            ("uuid", snapshot.uuid),
            ("age", duration(max(0.0, time.time() - snapshot.created_at))),
            ("mode", ", ".join(modes)),
            ("capacity", format_size(snapshot.capacity)),
            ("used", share(snapshot.used, snapshot.capacity)),
            (
                "committed",
                f"{format_size(snapshot.committed)},"
                f" {format_size(snapshot.control)} of it metadata",
            ),
            ("batches", number(snapshot.batches) + last),
            ("grace periods", number(snapshot.grace_periods)),
            (
                "released",
                f"{many(snapshot.released_objects, 'object')},"
                f" {format_size(snapshot.released_bytes)} by batches",
            ),
            ("deaths", number(snapshot.deaths) if snapshot.deaths else ""),
            ("child caches", _children(snapshot.children)),
            ("longest hold", _hold(snapshot)),
        ],
    )
    if snapshot.unlinked:
        page.line("  its file was unlinked: nobody new can attach by name", BAD)
    if snapshot.stalled is not None:
        pid, thread, seconds = snapshot.stalled
        page.line(
            f"  a grace period has waited {duration(seconds)} for the reader in process {pid},"
            f" thread {thread}: what has ended is not released until it leaves its section",
            BAD,
        )
    if snapshot.batch is not None and snapshot.batch[1] > LONG:
        pid, seconds = snapshot.batch
        page.line(f"  process {pid} has run a batch for {duration(seconds)}: is it stopped?", BAD)


def _children(counts: ChildCounts) -> str:
    return ", ".join(
        f"{number(count)} {what}"
        for what, count in (
            ("live", counts.live),
            ("deactivated", counts.deactivated),
            ("queued", counts.queued),
            ("releasing", counts.releasing),
        )
        if count
    )


def _hold(snapshot: ArenaSnapshot) -> str:
    wall, cpu = snapshot.longest_hold, snapshot.longest_hold_cpu
    if wall is None or cpu is None:
        return ""
    return (
        f"of a shared lock: {duration(wall.seconds)} ({wall.lock}), in the holder's own time"
        f" {duration(cpu.seconds)} ({cpu.lock}); of one acquisition in 256"
    )


def _keeping(keeper: Keeper) -> str:
    children = ", or children without a place" if keeper.for_children else ""
    return keeper.command + children


def _keepers(snapshot: ArenaSnapshot, page: Page) -> None:
    page.table(
        "ended, and kept by",
        ["group", ">pid", "command", ">references", ">bytes", ">since"],
        [
            [
                one.group or NO_NAME,
                "" if one.pid is None else str(one.pid),
                "in flight" if one.pid is None else _keeping(one),
                number(one.references),
                format_size(one.bytes),
                duration(one.seconds),
            ]
            for one in snapshot.keepers[:_MOST]
        ],
        empty="nobody",
    )
    _and_more(max(0, len(snapshot.keepers) - _MOST), "keeper", page)


def sites(found: Iterable[Site], page: Page, empty: str = "") -> None:
    """Draw living memory by where it was allocated, each with its innermost line."""
    page.table(
        "allocated at",
        [">bytes", ">objects", ">oldest", "by", "held by", "caches", "where"],
        [
            [
                format_size(site.nbytes),
                number(site.objects),
                duration(site.oldest),
                some(list(map(str, site.pids))),
                some([f"{pid} ({number(objects)})" for pid, objects in site.holders]),
                printable(", ".join(site.caches)),
                printable(site.where.split("\n", 1)[0]) or "(not known)",
            ]
            for site in found
        ],
        empty=empty
        or "nothing that is debugged with U; start the program that creates the arena and its"
        " caches with FLAGSTONE_DEBUG=U",
    )


def _faults(snapshot: ArenaSnapshot, page: Page) -> None:
    now = _boot_seconds()
    for one in snapshot.faults:
        ago = "now" if one.found is None else f"{duration(max(0.0, now - one.found))} ago"
        by = f", found by process {one.finder}" if one.finder else ""
        for index, line in enumerate(f"{one.kind}, {ago}{by}: {one.text}".split("\n")):
            page.line(line, None if index else BAD)
    if snapshot.faults:
        page.line()


def _batches(snapshot: ArenaSnapshot, page: Page) -> None:
    now = _boot_seconds()
    page.table(
        "last batches",
        [">number", ">ago", ">groups", ">caches", ">objects", ">bytes", ">took", ">waiting"],
        [
            [
                str(one.number),
                duration(max(0.0, now - one.began)),
                number(one.groups),
                number(one.children),
                number(one.objects),
                format_size(one.bytes),
                duration(one.seconds),
                duration(one.waited),
            ]
            for one in snapshot.last_batches[:_MOST_BATCHES]
        ],
        empty="none",
    )
    if snapshot.groups_waiting:
        page.line(
            f"  {many(snapshot.groups_waiting, 'group waits', 'groups wait')} for the next one"
        )


def _burials(snapshot: ArenaSnapshot, page: Page, everything: bool) -> None:
    now = _boot_seconds()
    shown = snapshot.burials if everything else snapshot.burials[:_MOST_BURIALS]
    page.table(
        "died without leaving",
        [">pid", "command", ">ago", ">objects", ">bytes", ">groups", ">by", "state"],
        [
            [
                str(one.pid),
                one.command,
                duration(max(0.0, now - one.noticed)),
                number(one.objects),
                format_size(one.bytes),
                number(one.groups),
                str(one.reaper),
                "" if one.finished is not None else "being buried",
            ]
            for one in shown
        ],
        empty="nobody" if not snapshot.deaths else "",
    )
    _and_more(snapshot.deaths - len(shown), "death", page)


def _within(arguments: str, room: int = 72) -> str:
    """A command line, cut in the middle: the interpreter's path is at one end, and what it runs at
    the other.
    """
    if len(arguments) <= room:
        return arguments
    head = room // 3
    return f"{arguments[:head]}...{arguments[head + 3 - room :]}"


def _processes(snapshot: ArenaSnapshot, page: Page, own: bool) -> None:
    now = _boot_seconds()
    page.table(
        "processes",
        [">pid", "command", ">references", ">bytes", ">dropped", ">threads", ">attached", "state"],
        [
            [
                str(one.pid),
                _within(one.arguments or one.command),
                number(one.references),
                format_size(one.bytes),
                number(one.dropped),
                number(one.threads),
                duration(max(0.0, now - one.started)),
                ("read-only" if one.readonly else "") if one.alive else "dead",
            ]
            for one in snapshot.processes
            if own or not one.is_self
        ],
        empty="none but this command",
    )


def _caches(snapshot: ArenaSnapshot, page: Page, everything: bool) -> None:
    shown = [
        one
        for one in snapshot.caches
        if everything or one.stats.slabs or "size_class" not in one.flags
    ]
    if not everything:
        shown = sorted(shown, key=lambda one: -one.stats.bytes)[:_MOST]
    page.table(
        "caches",
        ["name", ">size", "type", ">in use", ">room", ">slabs", ">bytes", ">groups", "state"],
        [
            [
                one.name,
                size_of(one, snapshot),
                _type_of(one),
                number(one.stats.allocated),
                number(one.stats.objects),
                number(one.stats.slabs),
                format_size(one.stats.bytes),
                number(one.stats.children),
                _cache_state(one),
            ]
            for one in shown
        ],
        empty="none in use",
    )
    _and_more(len(snapshot.caches) - len(shown), "cache, small or empty", page)


def size_of(cache: CacheInfo, snapshot: ArenaSnapshot) -> str:
    """The size of its objects; of the one for large objects, and of channels, any."""
    whatever = "size_class" in cache.flags and cache.size == snapshot.capacity
    return "any" if whatever else format_size(cache.size)


def _type_of(cache: CacheInfo) -> str:
    if cache.dtype is None:
        return "bytes"
    shape = "x".join(map(str, cache.shape or ()))
    return f"{cache.dtype} {shape}".strip()


def _cache_state(cache: CacheInfo) -> str:
    words = [cache.state]
    if cache.merged_into is not None:
        words = [f"alias of {cache.merged_into}"]
    if cache.aliases:
        words.append(many(cache.aliases, "alias", "aliases"))
    words += sorted(cache.flags)
    return ", ".join(words)


def _groups(snapshot: ArenaSnapshot, page: Page, everything: bool) -> None:
    shown = snapshot.groups if everything else _largest(snapshot.groups)
    page.table(
        "groups",
        ["name", ">usage", ">peak", ">limit", ">limit hits", ">failed", "state"],
        [
            [
                "  " * depth + (one.name or ("root" if one.parent is None else NO_NAME)),
                format_size(one.usage),
                format_size(one.peak),
                "" if one.limit is None else format_size(one.limit),
                number(one.events.limit_hits),
                number(one.events.failed),
                _group_state(one),
            ]
            for depth, one in _tree(shown)
        ],
        empty="none",
    )
    _and_more(len(snapshot.groups) - len(shown), "smaller group", page)


def by_name(snapshot: ArenaSnapshot, page: Page, *, below: bool) -> None:
    """Draw what programs find by name: stores, channels, topics, locks; of each kind only if there
    is one. `below`: after a line that is empty.
    """
    for found, draw in (
        (snapshot.stores, _stores),
        (snapshot.channels, _channels),
        (snapshot.topics, _topics),
        (snapshot.locks, _locks),
    ):
        if found:
            if below:
                page.line()
            draw(snapshot, page)
            below = True


def _stores(snapshot: ArenaSnapshot, page: Page) -> None:
    page.table(
        "stores",
        ["name", ">keys", ">bytes", ">changes", "group", "evicts"],
        [
            [
                printable(store.name),
                number(store.keys),
                format_size(store.nbytes),
                number(store.version),
                printable(store.group or "-"),
                store.evict or "-",
            ]
            for store in snapshot.stores
        ],
        empty="no store",
    )


def _channels(snapshot: ArenaSnapshot, page: Page) -> None:
    page.table(
        "channels",
        ["name", ">waiting", ">capacity", ">taken", ">inline", ">bytes", "state"],
        [
            [
                one.name or NO_NAME,
                number(one.waiting),
                number(one.capacity),
                number(one.taken),
                format_size(one.inline),
                format_size(one.nbytes),
                _words(closed=one.closed, acknowledged=one.ack, lasting=one.lasting),
            ]
            for one in snapshot.channels
        ],
    )


def _topics(snapshot: ArenaSnapshot, page: Page) -> None:
    page.table(
        "topics",
        ["name", ">messages", ">capacity", ">subscribers", ">inline", ">bytes", "state"],
        [
            [
                one.name or NO_NAME,
                number(one.messages),
                number(one.capacity),
                number(len(one.subscribers)),
                format_size(one.inline),
                format_size(one.nbytes),
                _words(closed=one.closed, lasting=one.lasting),
            ]
            for one in snapshot.topics
        ],
    )
    page.table(
        "subscribers",
        ["topic", ">pid", "command", "slow", ">lag", ">lost", "state"],
        [
            [
                topic.name or NO_NAME,
                str(one.pid),
                one.command,
                one.slow,
                number(one.lag),
                number(one.lost),
                "holds publishers back" if one.holds else "",
            ]
            for topic in snapshot.topics
            for one in topic.subscribers
        ],
    )


def _locks(snapshot: ArenaSnapshot, page: Page) -> None:
    page.table(
        "locks",
        ["name", "state", ">pid", "command"],
        [
            [
                one.name,
                "left by the dead" if one.inherited else "owned" if one.owned else "free",
                str(one.pid or ""),
                one.command,
            ]
            for one in snapshot.locks
        ],
    )


def _words(**said: bool) -> str:
    return ", ".join(word for word, on in said.items() if on)


def _group_state(group: GroupInfo) -> str:
    if group.cgroup is not None:
        return f"{group.state}, with cgroup {group.cgroup}"
    return group.state + (", lasting" if group.lasting else "")


def _largest(groups: tuple[GroupInfo, ...]) -> tuple[GroupInfo, ...]:
    """The groups with the most usage, and those that these are in, in the same order."""
    if len(groups) <= _MOST:
        return groups
    by_id = {one.id: one for one in groups}
    chosen: set[int] = set()
    for one in heapq.nlargest(_MOST, groups, key=lambda one: one.usage):
        above: GroupInfo | None = one
        while above is not None and above.id not in chosen:
            chosen.add(above.id)
            above = None if above.parent is None else by_id.get(above.parent)
    return tuple(one for one in groups if one.id in chosen)


def _and_more(left_out: int, what: str, page: Page) -> None:
    if left_out:
        noun, comma, rest = what.partition(",")
        page.line(f"  and {many(left_out, noun)}{comma}{rest} (--all shows them)")


def _tree(groups: tuple[GroupInfo, ...]) -> Iterator[tuple[int, GroupInfo]]:
    """Each group below its parent, with its depth; one whose parent is gone stands at the top."""
    ids = {one.id for one in groups}
    below: dict[int | None, list[GroupInfo]] = {}
    for one in groups:
        below.setdefault(one.parent if one.parent in ids else None, []).append(one)
    waiting = [(0, one) for one in reversed(below.get(None, []))]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        # Taken out: a damaged arena may have groups that are each other's parents.
        waiting += [(depth + 1, child) for child in reversed(below.pop(one.id, []))]


def _in_flight(snapshot: ArenaSnapshot, page: Page, everything: bool) -> None:
    found = snapshot.in_flight
    shown = found if everything else found[:_MOST_IN_FLIGHT]
    total = sum(one.nbytes for one in found)
    size = functools.lru_cache(1000)(format_size)
    page.table(
        f"in flight: {number(len(found))}, {format_size(total)}" if found else "in flight",
        ["what", ">bytes", "cache", "group", ">sender", "command", ">age"],
        [
            (
                "group" if one.is_group else "object",
                size(one.nbytes),
                one.cache,
                one.group,
                str(one.pid),
                one.command,
                duration(one.age),
            )
            for one in shown
        ],
        empty="nothing",
    )
    _and_more(len(found) - len(shown), "younger one", page)
    if len(shown) < len(found):
        page.line(
            "  sent: "
            + ", ".join(
                f"{number(one.messages)} by {one.pid} ({one.command or '?'}"
                f"{'' if one.alive else ', dead'})"
                for one in snapshot.senders[:_MOST_IN_FLIGHT]
            )
        )


def _boot_seconds() -> float:
    return _nanoseconds() / 1e9
