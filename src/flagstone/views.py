"""What a look found, as tables for people: what `flagstone top` and its `--once` show.

A table has rows with a key that stays the same from look to look, cells as text, and the values to
sort by. Nothing here knows a terminal.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from flagstone.facts import GroupInfo
from flagstone.folder import ArenaInfo
from flagstone.names import NO_NAME
from flagstone.observer import Look, Use
from flagstone.picture import duration, number, printable, share
from flagstone.sizes import format_size, many
from flagstone.snapshot import size_of

__all__ = ["TABS", "Row", "Table", "alarms", "arenas", "drawn", "drill", "headline", "shown"]

MOST: Final = 200
"""Rows of a table that are drawn: the rest is counted in a last line."""
_SECTION_NEAR: Final = 0.9


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table.

    Attributes:
        key: the same for the same thing at each look.
        cells: text, one for each column.
        values: what to sort by, one for each column.
        style: "" or "bad": something that wants attention.
    """

    key: str
    cells: tuple[str, ...]
    values: tuple[Any, ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below columns; a name that begins with ">" is a column of numbers.

    Attributes:
        columns: their names.
        rows: in the order that says most.
        empty: what to say where there are none.
        more: rows that are not made, behind these.
    """

    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    empty: str = "nothing"
    more: int = 0


def shown(table: Table, *, filter: str = "", sort: int | None = None, most: int = MOST) -> Table:
    """The table as it is to be drawn.

    Args:
        table: all of it.
        filter: only rows with this text in a cell, upper and lower case alike.
        sort: by this column, the largest number first and texts from a to z; None: as it is.
        most: rows, and one that says how many more there are.
    """
    rows = table.rows
    if filter:
        wanted = filter.casefold()
        rows = [row for row in rows if any(wanted in cell.casefold() for cell in row.cells)]
    if sort is not None:
        rows = sorted(
            rows, key=lambda row: row.values[sort], reverse=table.columns[sort].startswith(">")
        )
    left_out = max(0, len(rows) - most) + table.more
    if left_out:
        left = (f"... and {number(left_out)} more",) + ("",) * (len(table.columns) - 1)
        rows = [*rows[:most], Row("...", left, left)]
    return dataclasses.replace(table, rows=rows)


def _row(key: Any, *cells: tuple[str, Any] | str, bad: bool = False) -> Row:
    pairs = [(cell, cell) if isinstance(cell, str) else cell for cell in cells]
    texts = tuple(printable(text) for text, _ in pairs)
    return Row(str(key), texts, tuple(value for _, value in pairs), "bad" if bad else "")


def _size(value: int) -> tuple[str, int]:
    return format_size(value), value


def _count(value: int) -> tuple[str, int]:
    return number(value), value


def headline(look: Look) -> str:
    """The arena in a line."""
    one = look.snapshot
    # Who only looks is not counted: this process, unless the program itself has the arena.
    people = sum(each.alive and not (each.is_self and each.readonly) for each in one.processes)
    return (
        f"{share(one.used, one.capacity)} of {format_size(one.capacity)},"
        f" {format_size(one.committed)} committed, {many(people, 'process', 'processes')}"
    )


def alarms(look: Look) -> list[str]:
    """What holds memory up, or is about to: a sentence each, the worst first."""
    one, found = look.snapshot, []
    if one.stalled is not None:
        pid, thread, age = one.stalled
        found.append(
            f"STALLED {duration(age)}: pid {pid}, thread {thread} is inside a read-side section"
        )
    if one.batch is not None and one.batch[1] > 1:
        found.append(f"BATCH of pid {one.batch[0]} has run for {duration(one.batch[1])}")
    if one.unlinked:
        found.append("UNLINKED: the file lost its name; nobody new can attach by it")
    for keeper in one.keepers[:2]:
        who = f"pid {keeper.pid} ({keeper.command})" if keeper.pid else "messages in flight"
        found.append(
            f"KEPT {format_size(keeper.bytes)} of ended group {keeper.group or NO_NAME}"
            f" for {duration(keeper.seconds)} by {who}"
        )
    for fault in one.faults[:2]:
        found.append(f"{fault.kind.upper()}: {fault.text}".split("\n", 1)[0])
    if one.used > _SECTION_NEAR * one.capacity:
        found.append(f"NEARLY FULL: {share(one.used, one.capacity)} of the capacity")
    return [printable(text) for text in found]


def arenas(found: Iterable[ArenaInfo]) -> Table:
    """The arenas of a folder."""
    table = Table(
        ("name", ">capacity", ">used", ">committed", ">processes", ">age", "state"),
        empty="no arena here",
    )
    for one in found:
        age = max(0.0, time.time() - one.created_at)
        state = "orphan" if one.orphan else "lasting" if one.lasting else "in use"
        table.rows.append(
            _row(
                one.name,
                one.name,
                _size(one.capacity),
                (share(one.used, one.capacity), one.used),
                _size(one.committed),
                _count(one.processes),
                (duration(age), age),
                state,
                bad=one.orphan,
            )
        )
    return table


def _called(group: GroupInfo) -> str:
    return "(root)" if group.parent is None else group.name or f"#{group.id & 0xFFFFFFFF}"


def _tree(groups: Iterable[GroupInfo]) -> Iterator[tuple[int, GroupInfo]]:
    """Depth and group, parents before children, the largest first."""
    below: dict[int | None, list[GroupInfo]] = {}
    every = list(groups)
    ids = {one.id for one in every}
    for one in every:
        below.setdefault(one.parent if one.parent in ids else None, []).append(one)
    waiting = [(0, one) for one in sorted(below.get(None, []), key=lambda one: one.usage)]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        under = below.pop(one.id, [])
        waiting += [(depth + 1, each) for each in sorted(under, key=lambda each: each.usage)]


def drawn(look: Look, tab: str, *, filter: str = "", sort: int | None = None) -> Table:
    """A tab's table as it is to be drawn; of thousands of rows only those are made."""
    if tab == "groups" and not filter and sort is None:
        return shown(groups(look, MOST))
    return shown(TABS[tab](look), filter=filter, sort=sort)


@functools.lru_cache(4096)  # from look to look most of them stay as they are
def _group(
    key: int,
    depth: int,
    name: str,
    usage: int,
    limit: int | None,
    peak: int,
    hits: int,
    failed: int,
    state: str,
) -> Row:
    full = usage / limit if limit else 0.0
    return _row(
        key,
        ("  " * depth + name, name),
        _size(usage),
        (format_size(limit) if limit is not None else "", limit or 0),
        (f"{100 * full:.0f} %" if limit else "", full),
        _size(peak),
        _count(hits),
        _count(failed),
        "" if state == "live" else state,
        bad=full > _SECTION_NEAR,
    )


def groups(look: Look, most: int | None = None) -> Table:
    """The groups as a tree, or so many rows of it."""
    table = Table(("group", ">usage", ">limit", ">full", ">peak", ">hits", ">failed", "state"))
    for depth, one in itertools.islice(_tree(look.snapshot.groups), most):
        events = (one.events.limit_hits, one.events.failed)
        table.rows.append(
            _group(one.id, depth, _called(one), one.usage, one.limit, one.peak, *events, one.state)
        )
    if most is not None:
        table = dataclasses.replace(table, more=max(0, len(look.snapshot.groups) - most))
    return table


def processes(look: Look) -> Table:
    """The processes, what they hold and what they have dropped."""
    table = Table(
        (
            *(">pid", "command", ">holds", ">objects", ">dropped", ">threads", ">age", "state"),
            "arguments",
        ),
        empty="nobody else has it",
    )
    stalled = look.snapshot.stalled
    now = look.now
    for one in sorted(look.snapshot.processes, key=lambda one: -one.bytes):
        if one.is_self and one.readonly:
            continue
        in_the_way = stalled is not None and stalled[0] == one.pid
        state = ["dead"] * (not one.alive) + ["STALLS"] * in_the_way + ["readonly"] * one.readonly
        table.rows.append(
            _row(
                one.slot,
                (str(one.pid), one.pid),
                one.command,
                _size(one.bytes),
                _count(one.references),
                _count(one.dropped),
                _count(one.threads),
                (duration(now - one.started), now - one.started),
                ", ".join(state),
                one.arguments,
                bad=in_the_way or not one.alive,
            )
        )
    return table


def caches(look: Look) -> Table:
    """Caches that have slabs, the largest first."""
    table = Table(("cache", ">bytes", ">objects", ">room", ">size", ">slabs", ">groups", "state"))
    found = [one for one in look.snapshot.caches if one.state != "alias" and one.stats.slabs]
    for one in sorted(found, key=lambda one: -one.stats.bytes):
        stats = one.stats
        table.rows.append(
            _row(
                one.id,
                one.name,
                _size(stats.bytes),
                _count(stats.allocated),
                _count(stats.objects),
                (size_of(one, look.snapshot), one.size),
                _count(stats.slabs),
                _count(stats.children),
                "" if one.state == "live" else one.state,
            )
        )
    return table


def named(look: Look) -> Table:
    """What programs find by name: stores, channels, topics and who subscribes, locks."""
    table = Table(
        ("kind", "name", ">holds", ">depth", ">lag", ">lost", "state"), empty="nothing has a name"
    )
    add = table.rows.append
    zero = ("", 0)
    for store in look.snapshot.stores:
        add(
            _row(
                f"s{store.name}",
                "store",
                store.name,
                _size(store.nbytes),
                _count(store.keys),
                zero,
                zero,
                f"version {store.version}",
            )
        )
    for index, channel in enumerate(look.snapshot.channels):
        full = channel.waiting >= channel.capacity
        depth = (f"{channel.waiting} of {channel.capacity}", channel.waiting)
        state = "closed" if channel.closed else "full" if full else ""
        name = channel.name or NO_NAME
        size = _size(channel.nbytes)
        add(_row(f"c{index}", "channel", name, size, depth, zero, zero, state, bad=full))
    for index, topic in enumerate(look.snapshot.topics):
        name = topic.name or NO_NAME
        depth = (f"{topic.messages} of {topic.capacity}", topic.messages)
        lag = max((one.lag for one in topic.subscribers), default=0)
        lost = sum(one.lost for one in topic.subscribers)
        state = many(len(topic.subscribers), "subscriber")
        size = _size(topic.nbytes)
        add(_row(f"t{index}", "topic", name, size, depth, _count(lag), _count(lost), state))
        for place, one in enumerate(topic.subscribers):
            state = f"{one.slow}, holds publishers back" if one.holds else one.slow
            add(
                _row(
                    f"t{index}.{place}",
                    "  reader",
                    f"pid {one.pid} ({one.command})",
                    zero,
                    zero,
                    _count(one.lag),
                    _count(one.lost),
                    state,
                    bad=one.holds,
                )
            )
    for lock in look.snapshot.locks:
        state = f"pid {lock.pid} ({lock.command})".removesuffix(" ()") if lock.pid else "free"
        if lock.inherited:
            state = "left by the dead"
        add(_row(f"l{lock.name}", "lock", lock.name, zero, zero, zero, zero, state))
    return table


def in_flight(look: Look) -> Table:
    """Messages, the oldest first."""
    table = Table(
        (">age", ">bytes", "cache", "group", ">pid", "sender"), empty="nothing is in flight"
    )
    for one in look.snapshot.in_flight[: MOST + 1]:
        what = "(a group)" if one.is_group else one.cache
        age = (duration(one.age), one.age)
        pid = (str(one.pid), one.pid)
        key = bytes(one.object).hex()
        table.rows.append(
            _row(
                f"{key}{one.pid}{len(table.rows)}",
                age,
                _size(one.nbytes),
                what,
                one.group,
                pid,
                one.command,
            )
        )
    return table


def batches(look: Look) -> Table:
    """The last batches, and under them the last deaths."""
    table = Table((">batch", ">ago", ">took", ">waited", ">objects", ">bytes", ">groups", "what"))
    now = look.now
    for one in look.snapshot.last_batches:
        table.rows.append(
            _row(
                f"b{one.number}",
                _count(one.number),
                (duration(now - one.began), now - one.began),
                (duration(one.seconds), one.seconds),
                (duration(one.waited), one.waited),
                _count(one.objects),
                _size(one.bytes),
                _count(one.groups),
                "",
            )
        )
    for dead in look.snapshot.burials:
        took = dead.finished - dead.noticed if dead.finished else 0.0
        table.rows.append(
            _row(
                f"d{dead.number}",
                ("", 0),
                (duration(now - dead.noticed), now - dead.noticed),
                (duration(took) if dead.finished else "not yet", took),
                ("", 0.0),
                _count(dead.objects),
                _size(dead.bytes),
                _count(dead.groups),
                f"death of pid {dead.pid} ({dead.command})",
            )
        )
    return table


TABS: Final[dict[str, Callable[[Look], Table]]] = {
    "groups": groups,
    "processes": processes,
    "caches": caches,
    "names": named,
    "in flight": in_flight,
    "batches": batches,
}


def _within(every: Iterable[GroupInfo], key: str) -> set[int]:
    """The group of this key, and those below it."""
    found: set[int] = set()
    depth = None
    for deep, one in _tree(every):
        if depth is not None and deep <= depth:
            break
        if depth is not None or str(one.id) == key:
            depth = deep if depth is None else depth
            found.add(one.id)
    return found


def drill(look: Look, tab: str, key: str) -> tuple[str, Table] | None:
    """What is inside a row: of a process its objects by cache and group, of a cache who holds its
    objects, of a group who holds those of it and of the groups below it, which its usage has, too.
    None: this tab's rows have no inside.
    """
    within = _within(look.snapshot.groups, key) if tab == "groups" else set()
    wanted: dict[str, Callable[[Use], bool]] = {
        "processes": lambda use: str(use.slot) == key,
        "groups": lambda use: use.group in within,
        "caches": lambda use: str(use.cache) == key,
    }
    if tab not in wanted:
        return None
    names = {one.id: one.name for one in look.snapshot.caches}
    names |= {one.id | 1 << 64: _called(one) for one in look.snapshot.groups}
    table = Table(
        (">pid", "command", "cache", "group", ">objects", ">bytes"),
        empty="no process uses an object of it: in flight, in a store or a channel, or free",
    )
    for index, use in enumerate(one for one in look.uses if wanted[tab](one)):
        table.rows.append(
            _row(
                index,
                (str(use.pid), use.pid or 0),
                use.command,
                names.get(use.cache, "?"),
                names.get(use.group | 1 << 64, "?"),
                _count(use.objects),
                _size(use.bytes),
            )
        )
    row = next((one for one in TABS[tab](look).rows if one.key == key), None)
    title = (
        " ".join(row.cells[:2]).strip()
        if tab == "processes" and row
        else row.cells[0]
        if row
        else key
    )
    return f"{tab}: {title.strip()}", table
