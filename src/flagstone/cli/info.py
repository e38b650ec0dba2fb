"""`flagstone info`: everything about one arena."""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Iterator
from typing import Final

import flagstone
from flagstone.cli.attach import attached, find
from flagstone.cli.ls import state_of
from flagstone.cli.screen import BAD, Screen, duration, many, number, plain, share
from flagstone.cli.usage import add_arena
from flagstone.notices import LONG
from flagstone.sizes import format_size
from flagstone.snapshot import now as boot_seconds

NAME = "info"
HELP = "show who uses an arena for what"
DESCRIPTION = """\
Show an arena: its memory, the processes that have it and what they hold, those that died and what
was reclaimed from them, its caches and groups, the
objects that are in flight (pickled and not yet taken), batches and grace periods, and the readers
and holders that keep memory from being released, if there are any."""
EXAMPLE = """\
  $ flagstone info video
  $ flagstone info video --json | jq '.processes[] | {pid, bytes}'"""


_MOST: Final = 40
"""Lines of caches or groups without --all; those with the most bytes are shown."""

_MOST_IN_FLIGHT: Final = 10
_MOST_BURIALS: Final = 10
_MOST_BATCHES: Final = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_arena(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every cache, group and object in flight, not the largest and oldest alone",
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Show it."""
    listed = find(arguments.arena)
    if listed is not None and listed.orphan:
        # Attaching would remove it, as every open in its folder does.
        if arguments.json:
            screen.json({**plain(listed), "state": "orphan"})
        else:
            _show_orphan(listed, screen)
        return 0
    with attached(arguments.arena) as arena:
        snapshot = arena.snapshot()
    if arguments.json:
        state = state_of(listed) if listed is not None else "in use"
        screen.json({**plain(snapshot), "state": state})
    else:
        show(snapshot, screen, everything=arguments.all)
    return 0


def _show_orphan(info: flagstone.ArenaInfo, screen: Screen) -> None:
    screen.facts(
        f"arena {info.name}: an orphan",
        [
            ("file", info.path),
            ("age", duration(max(0.0, time.time() - info.created_at))),
            ("capacity", format_size(info.capacity)),
            ("used", share(info.used, info.capacity)),
            ("committed", format_size(info.committed)),
        ],
    )
    screen.line("Its processes were all killed. The next open in its folder removes it,")
    screen.line("and so does `flagstone gc`.")


def show(snapshot: flagstone.ArenaSnapshot, screen: Screen, *, everything: bool = False) -> None:
    """Print a snapshot for people."""
    _arena(snapshot, screen)
    screen.line()
    _processes(snapshot, screen)
    screen.line()
    _burials(snapshot, screen, everything)
    screen.line()
    _caches(snapshot, screen, everything)
    screen.line()
    _groups(snapshot, screen, everything)
    screen.line()
    _keepers(snapshot, screen)
    screen.line()
    _batches(snapshot, screen)
    screen.line()
    _in_flight(snapshot, screen, everything)


def _arena(snapshot: flagstone.ArenaSnapshot, screen: Screen) -> None:
    modes = [word for word, on in (("lasting", snapshot.lasting),) if on]
    last = f", the last one in {duration(snapshot.last_batch)}" if snapshot.batches else ""
    screen.facts(
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
        screen.line("  its file was unlinked: nobody new can attach by name", BAD)
    if snapshot.stalled is not None:
        pid, thread, seconds = snapshot.stalled
        screen.line(
            f"  a grace period has waited {duration(seconds)} for the reader in process {pid},"
            f" thread {thread}: what has ended is not released until it leaves its section",
            BAD,
        )
    if snapshot.batch is not None and snapshot.batch[1] > LONG:
        pid, seconds = snapshot.batch
        screen.line(f"  process {pid} has run a batch for {duration(seconds)}: is it stopped?", BAD)


def _children(counts: flagstone.ChildCounts) -> str:
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


def _hold(snapshot: flagstone.ArenaSnapshot) -> str:
    wall, cpu = snapshot.longest_hold, snapshot.longest_hold_cpu
    if wall is None or cpu is None:
        return ""
    return (
        f"of a shared lock: {duration(wall.seconds)} ({wall.lock}), in the holder's own time"
        f" {duration(cpu.seconds)} ({cpu.lock}); of one acquisition in 256"
    )


def _keepers(snapshot: flagstone.ArenaSnapshot, screen: Screen) -> None:
    screen.table(
        "ended, and kept by",
        ["group", ">pid", "command", ">references", ">bytes", ">since"],
        [
            [
                one.group or "(no name)",
                "" if one.pid is None else str(one.pid),
                "in flight" if one.pid is None else one.command,
                number(one.references),
                format_size(one.bytes),
                duration(one.seconds),
            ]
            for one in snapshot.keepers[:_MOST]
        ],
        empty="nobody",
    )
    _and_more(max(0, len(snapshot.keepers) - _MOST), "keeper", screen)


def _batches(snapshot: flagstone.ArenaSnapshot, screen: Screen) -> None:
    now = boot_seconds()
    screen.table(
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
        screen.line(f"  {many(snapshot.groups_waiting, 'group')} wait for the next one")


def _burials(snapshot: flagstone.ArenaSnapshot, screen: Screen, everything: bool) -> None:
    now = boot_seconds()
    shown = snapshot.burials if everything else snapshot.burials[:_MOST_BURIALS]
    screen.table(
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
    _and_more(snapshot.deaths - len(shown), "death", screen)


def _processes(snapshot: flagstone.ArenaSnapshot, screen: Screen) -> None:
    now = boot_seconds()
    screen.table(
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
            if not one.is_self
        ],
        empty="none but this command",
    )


def _caches(snapshot: flagstone.ArenaSnapshot, screen: Screen, everything: bool) -> None:
    shown = [
        one
        for one in snapshot.caches
        if everything or one.stats.slabs or "size_class" not in one.flags
    ]
    if not everything:
        shown = sorted(shown, key=lambda one: -one.stats.bytes)[:_MOST]
    screen.table(
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
    _and_more(len(snapshot.caches) - len(shown), "cache, small or empty", screen)


def _type_of(cache: flagstone.CacheInfo) -> str:
    if cache.dtype is None:
        return "bytes"
    shape = "x".join(map(str, cache.shape or ()))
    return f"{cache.dtype} {shape}".strip()


def _cache_state(cache: flagstone.CacheInfo) -> str:
    words = [cache.state]
    if cache.merged_into is not None:
        words = [f"alias of {cache.merged_into}"]
    if cache.aliases:
        words.append(many(cache.aliases, "alias", "aliases"))
    words += sorted(cache.flags)
    return ", ".join(words)


def _groups(snapshot: flagstone.ArenaSnapshot, screen: Screen, everything: bool) -> None:
    shown = snapshot.groups if everything else _largest(snapshot.groups)
    screen.table(
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
    _and_more(len(snapshot.groups) - len(shown), "smaller group", screen)


def _group_state(group: flagstone.GroupInfo) -> str:
    if group.cgroup is not None:
        return f"{group.state}, with cgroup {group.cgroup}"
    return group.state + (", lasting" if group.lasting else "")


def _largest(groups: tuple[flagstone.GroupInfo, ...]) -> tuple[flagstone.GroupInfo, ...]:
    """The groups with the most usage, and those that these are in, in the same order."""
    if len(groups) <= _MOST:
        return groups
    by_id = {one.id: one for one in groups}
    chosen: set[int] = set()
    for one in heapq.nlargest(_MOST, groups, key=lambda one: one.usage):
        above: flagstone.GroupInfo | None = one
        while above is not None and above.id not in chosen:
            chosen.add(above.id)
            above = None if above.parent is None else by_id.get(above.parent)
    return tuple(one for one in groups if one.id in chosen)


def _and_more(left_out: int, what: str, screen: Screen) -> None:
    if left_out:
        noun, comma, rest = what.partition(",")
        screen.line(f"  and {many(left_out, noun)}{comma}{rest} (--all shows them)")


def _tree(groups: tuple[flagstone.GroupInfo, ...]) -> Iterator[tuple[int, flagstone.GroupInfo]]:
    """Each group below its parent, with its depth; one whose parent is gone stands at the top."""
    ids = {one.id for one in groups}
    below: dict[int | None, list[flagstone.GroupInfo]] = {}
    for one in groups:
        below.setdefault(one.parent if one.parent in ids else None, []).append(one)
    waiting = [(0, one) for one in reversed(below.get(None, []))]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        # Taken out: a damaged arena may have groups that are each other's parents.
        waiting += [(depth + 1, child) for child in reversed(below.pop(one.id, []))]


def _in_flight(snapshot: flagstone.ArenaSnapshot, screen: Screen, everything: bool) -> None:
    found = snapshot.in_flight
    shown = found if everything else found[:_MOST_IN_FLIGHT]
    total = sum(one.nbytes for one in found)
    screen.table(
        f"in flight: {number(len(found))}, {format_size(total)}" if found else "in flight",
        ["what", ">bytes", "cache", "group", ">sender", "command", ">age"],
        [
            [
                "group" if one.is_group else "object",
                format_size(one.nbytes),
                one.cache,
                one.group,
                str(one.pid),
                one.command,
                duration(one.age),
            ]
            for one in shown
        ],
        empty="nothing",
    )
    _and_more(len(found) - len(shown), "younger one", screen)
