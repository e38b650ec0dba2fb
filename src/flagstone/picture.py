"""What a snapshot says to people, as plain text: `str(snapshot)`, and what `flagstone info` prints.

`show` draws on a `Page`, which collects lines; the command line's screen is one that prints them,
with colours where somebody watches.
"""

from __future__ import annotations

import functools
import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from flagstone._core import now as _nanoseconds
from flagstone.notices import LONG
from flagstone.sizes import format_size

if TYPE_CHECKING:
    from flagstone.snapshot import (
        ArenaSnapshot,
        CacheInfo,
        ChildCounts,
        GroupInfo,
        Keeper,
    )

__all__ = ["BAD", "GOOD", "Page", "duration", "many", "number", "printable", "share", "show"]

GOOD: Final = "good"
BAD: Final = "bad"

_MOST: Final = 40
"""Lines of caches or groups unless everything is asked for; those with the most bytes are shown."""

_MOST_IN_FLIGHT: Final = 10
_MOST_BURIALS: Final = 10
_MOST_BATCHES: Final = 5


class Page:
    """Lines of plain text, as they are drawn."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of text; `style` is GOOD, BAD or None, for those that have colours."""
        self.lines.append(printable(text))

    def facts(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """A block of named facts below a title; empty ones are left out."""
        rows = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in rows), default=0)
        self.line(title, None)
        for name, text in rows:
            self.line(f"  {name:<{width}}  {text}")

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = ""
    ) -> None:
        """A table below a title. A column whose name begins with ">" is aligned to the right.

        Args:
            title: nothing is printed for "".
            columns: their names.
            rows: of texts.
            empty: printed instead when there are no rows.
        """
        if not rows:
            if empty:
                self.line(f"{title}: {empty}" if title else empty)
            return
        # There may be a million: rows that are lists are what the garbage collector looks at.
        rows = [row if "".join(row).isprintable() else tuple(map(printable, row)) for row in rows]
        if title:
            self.line(title)
        names = [name.removeprefix(">") for name in columns]
        widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
        line = ("  " if title else "") + "  ".join(
            f"{{:{'>' if name.startswith('>') else '<'}{width}}}"
            for name, width in zip(columns, widths, strict=True)
        )
        for row in [names, *rows]:
            self.line(line.format(*row).rstrip())

    def __str__(self) -> str:
        return "\n".join(self.lines)


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
                one.group or "(no name)",
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
        page.line(f"  {many(snapshot.groups_waiting, 'group')} wait for the next one")


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


def _processes(snapshot: ArenaSnapshot, page: Page, own: bool) -> None:
    now = _boot_seconds()
    page.table(
        "processes",
        [">pid", "command", ">references", ">bytes", ">dropped", ">threads", ">attached", "state"],
        [
            [
                str(one.pid),
                one.arguments or one.command,
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
                format_size(one.size),
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
                "  " * depth + (one.name or ("root" if one.parent is None else "(no name)")),
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
                one.name or "(no name)",
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
                one.name or "(no name)",
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
                topic.name or "(no name)",
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


def printable(text: str) -> str:
    """The text with control characters and broken file names escaped: names come from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def number(value: int) -> str:
    """1,234,567."""
    return f"{value:,}"


def many(value: int, noun: str, plural: str = "") -> str:
    """1 file, 2 files."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: "80 us", "3.4 ms", "12 s", "5 min", "3 h", "2 days"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def share(part: int, whole: int) -> str:
    """12.3 MiB (4 %)."""
    percent = f" ({100 * part / whole:.0f} %)" if whole and part else ""
    return format_size(part) + percent
