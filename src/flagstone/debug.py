"""Caches that are debugged: which, and what people hear of them.

The letters are those of the kernel's `slub_debug`: F looks at everything beside an object at each
operation, Z puts red zones around objects, P poisons what was freed, U remembers who allocated and
who freed. So is the syntax: blocks with ";" between them, each of letters and, after a comma, the
names of the caches that it is for ("*" at the end of one stands for any rest). "-" is none, and a
block of names alone is all letters. Of the blocks that name a cache the first counts, and of those
without names the last, for all caches that none names. The size classes, which `alloc`, `put` and
`empty` take from, are debugged together, as "size-classes".

What is found is reported through the logger "flagstone" as an error, in the process that finds it
by an allocation, a drop or a batch: by its main thread between two of its instructions, or earlier
by a call that looks for news. The arena's log has the last of them for everybody who takes a
snapshot.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from flagstone import _core, notices
from flagstone._core import Attachment
from flagstone.errors import FlagstoneError
from flagstone.facts import Fault
from flagstone.names import called, text
from flagstone.sizes import exact_size, format_size, many
from flagstone.states import (
    CACHE_CONSISTENCY,
    CACHE_POISON,
    CACHE_RED_ZONE,
    CACHE_STORE_USER,
    GROUP_DESTROYED,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from flagstone._structs import _DebugInfo, _Fault

__all__ = ["begin", "faults_of", "flags_of", "leaks", "parse", "rules_of"]

_LETTERS: Final = {
    "F": CACHE_CONSISTENCY,
    "Z": CACHE_RED_ZONE,
    "P": CACHE_POISON,
    "U": CACHE_STORE_USER,
}
_ALL: Final = CACHE_CONSISTENCY | CACHE_RED_ZONE | CACHE_POISON | CACHE_STORE_USER
_CLASSES: Final = "size-classes"
_VARIABLE: Final = "FLAGSTONE_DEBUG"
_TEXT: Final = 480
_MOST_USES: Final = 4096
_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_BYTES: Final = {
    1: "behind it {were} overwritten",
    2: "between it and the next object {were} overwritten",
    3: "{were} written after it was freed",
    4: "of its record {were} overwritten",
}
_FREED_TWICE: Final = 5
_LEAK: Final = 6
_KINDS: Final = {
    1: "overrun",
    2: "overrun",
    3: "written after free",
    4: "overrun",
    _FREED_TWICE: "freed twice",
    _LEAK: "leak",
}
_DEBUGGED: Final = {"consistency", "red_zone", "poison", "store_user"}

_logger: Final = logging.getLogger("flagstone")
_chosen: dict[bytes, list[Rule]] = {}
"""What `flagstone.open(debug=)` said, by the arena's uuid."""


class Rule(NamedTuple):
    """A block: flags, and the names that it is for; none: all."""

    flags: int
    names: tuple[str, ...]


def parse(value: str, what: str = "debug") -> list[Rule]:
    """The blocks of a text in `slub_debug`'s syntax.

    Args:
        value: the text; empty blocks are skipped.
        what: whose text it is, for errors.

    Raises:
        ValueError: a letter that is none, or a name that is missing or cannot be read.
    """
    rules = []
    for block in value.split(";"):
        if not block.strip():
            continue
        letters, *names = (part.strip() for part in block.split(","))
        flags = _flags(letters, value, what) if letters else _ALL
        for name in names:
            if not name:
                raise ValueError(
                    f"{what}: a name is missing in {value!r}: what follows a comma names a cache"
                )
            if "*" in name[:-1]:
                raise ValueError(
                    f'{what}: "*" stands at the end of a name, for any rest: {name!r} in {value!r}'
                )
        rules.append(Rule(flags, tuple(names)))
    return rules


def _flags(letters: str, value: str, what: str) -> int:
    flags = 0
    for letter in letters.upper() if letters != "-" else "":
        if letter == "-":
            raise ValueError(
                f'{what}: "-" is for nothing, and stands alone in its block: {letters!r} in'
                f" {value!r}"
            )
        if letter not in _LETTERS:
            raise ValueError(
                f"{what}: {letter!r} in {value!r} is none of F (checks), Z (red zones),"
                ' P (poison), U (who), "-" (nothing); "," comes before each name, ";" between'
                " blocks"
            )
        flags |= _LETTERS[letter]
    return flags


def rules_of(debug: str | None) -> list[Rule]:
    """What `flagstone.open(debug=)` and the environment ask for; the argument counts more."""
    if debug is not None and not isinstance(debug, str):
        raise TypeError(f"debug must be a str, not {type(debug).__name__}")
    if debug is not None:
        return parse(debug)
    return parse(os.environ[_VARIABLE], _VARIABLE) if os.environ.get(_VARIABLE) else []


def classes_of(rules: list[Rule]) -> int:
    """The flags of the size classes of an arena that is created by these rules."""
    return _fitting(rules, _CLASSES) or 0


def begin(attachment: Attachment, rules: list[Rule]) -> None:
    """These rules are for the caches that this process makes in the arena from now on."""
    if rules:
        _chosen[attachment.uuid] = rules


def flags_of(attachment: Attachment, name: str, debug: str | None) -> int:
    """The flags of a cache that is made now: what was asked for; or what the rules say; or, where
    this process has none, the arena's.
    """
    if debug is not None:
        rules = rules_of(debug)
    else:
        rules = _chosen.get(attachment.uuid) or rules_of(None)
        if not rules:
            return _core.debug_of(attachment)
    return _fitting(rules, name) or 0


def _fitting(rules: list[Rule], name: str) -> int | None:
    """The flags that the rules have for a cache: of the first that names it, or of the last without
    names; None: they say nothing of it.
    """
    found = None
    for rule in rules:
        if not rule.names:
            found = rule.flags
        elif any(_fits(name, pattern) for pattern in rule.names):
            return rule.flags
    return found


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


# ---- sites


def _describe(frames: list[FrameType]) -> bytes:
    """Where something happens: a line for each caller, the innermost first, ours left out."""
    lines = []
    for frame in frames:
        code = frame.f_code
        if not code.co_filename.startswith(_HERE):
            lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
    told = b""
    for line in lines:
        raw = line.encode("utf-8", "replace")
        if len(told) + len(raw) + 1 > _TEXT:
            break
        told += b"\n" + raw if told else raw
    return told or b"(flagstone itself)"


# ---- reports


def _tell() -> None:
    faults, lost = _core.debug_faults()
    for fault in faults:
        _logger.error("%s", _sentence(fault))
    if lost:
        more = many(lost, "more fault of an object was", "more faults of objects were")
        _logger.error("%s found, and not told of", more)


def _sentence(fault: _Fault) -> str:
    attachment = Attachment.find(fault["uuid"])
    one = fault["about"]
    if attachment is None:
        return f"an arena that was closed: an object of {exact_size(one['nbytes'])} was damaged"
    return f"arena {called(attachment.path)}: {_said(attachment, fault)}"


def _said(attachment: Attachment, fault: _Fault) -> str:
    """What is wrong, of which object, who allocated it, who freed it, who holds it."""
    one = fault["about"]
    who = _who(attachment, one)
    if fault["holders"]:
        who += f"\n  held by process {', '.join(map(str, fault['holders']))}"
    if fault["kind"] == _LEAK:
        where = _of(attachment, one, alone=False)
        size = format_size(one["nbytes"])
        some = many(fault["count"], "object")
        their = "its" if fault["count"] == 1 else "their"
        return f"{some} ({size}){where} lived when {their} group was destroyed{who}"
    what = f"an object of {exact_size(one['nbytes'])}{_of(attachment, one)}"
    if fault["kind"] == _FREED_TWICE:
        return f"{what} was freed twice{who}"
    found = fault["found"][: fault["found_bytes"]].hex(" ")
    more = " ..." if fault["count"] > fault["found_bytes"] else ""
    done = _BYTES.get(fault["kind"], "{were} wrong")
    done = done.format(were="was" if fault["count"] == 1 else "were")
    return (
        f"{what}: {many(fault['count'], 'byte')} from {fault['offset']} on {done}"
        f" ({found}{more}, not {fault['expected']:02x}){who}"
    )


def faults_of(attachment: Attachment, flags: Iterable[frozenset[str]]) -> list[Fault]:
    """What is wrong with objects now, and then the last that was found, by whatever process.

    Args:
        attachment: the arena.
        flags: of its caches: nothing is looked at where none of them is debugged.
    """
    if not any(one & _DEBUGGED for one in flags):
        return []
    with contextlib.suppress(FlagstoneError):  # a lock that is held: what was found is known
        return [
            Fault(
                kind=_KINDS.get(fault["kind"], "unknown"),
                found=fault["found_at"] / 1e9 if fault["finder"] else None,
                finder=fault["finder"] or None,
                holders=tuple(fault["holders"]),
                pid=fault["about"]["pid"] or None,
                freed_pid=fault["about"]["freed_pid"] or None,
                text=_said(attachment, fault),
            )
            for fault in [*_core.debug_damage(attachment), *_core.debug_log(attachment)]
        ]
    return []


def _of(attachment: Attachment, one: _DebugInfo, *, alone: bool = True) -> str:
    said = f" (slab {one['oid'] >> 9} object {one['oid'] & 511})" if alone else ""
    try:
        said += f" of cache {text(attachment.cache_look(one['cache'])['name'])!r}"
        group = text(attachment.group_info(one["group"])["name"])
        if group:
            said += f" in group {group!r}"
    except FlagstoneError:  # one of them has gone
        pass
    return said


def _who(attachment: Attachment, one: _DebugInfo) -> str:
    said = ""
    if one["pid"]:
        said += f"\n  allocated by process {one['pid']} thread {one['thread']}"
        said += _where(attachment, one["allocated_site"])
    if one["freed_at"]:
        said += f"\n  freed by process {one['freed_pid']} thread {one['freed_thread']}"
        said += _where(attachment, one["freed_site"])
    return said


def _where(attachment: Attachment, site: int) -> str:
    where = _core.debug_site(attachment, site) if site else ""
    return " at\n    " + where.replace("\n", "\n    ") if where else ""


def _below(attachment: Attachment, group: int) -> set[int]:
    """The group and those below it."""
    parents = {}
    for one in attachment.group_ids():
        with contextlib.suppress(FlagstoneError):
            parents[one] = attachment.group_info(one)["parent"]
    found = {group}
    for one in parents:
        path = [one]
        while path[-1] not in found and path[-1] in parents and len(path) < len(parents):
            path.append(parents[path[-1]])
        if path[-1] in found:
            found.update(path)
    return found


def _holding(attachment: Attachment, groups: set[int]) -> str:
    """Who refers to objects of these groups."""
    pids = {one["slot"]: one["pid"] for one in _core.processes(attachment)}
    objects: dict[int, int] = {}
    for use in _core.uses(attachment, _MOST_USES):
        if use["group"] in groups and use["slot"] in pids:
            pid = pids[use["slot"]]
            objects[pid] = objects.get(pid, 0) + use["objects"]
    most = sorted(objects.items(), key=lambda item: -item[1])
    said = ", ".join(f"{pid} ({many(count, 'object')})" for pid, count in most[:5])
    return f"\n  held by process {said}" if said else ""


def leaks(attachment: Attachment, group: int, name: str) -> None:
    """Report what lives in a group that is about to be destroyed, and in those below it, by
    allocation site.
    """
    if not _core.debug_seen(attachment) and not _core.debug_of(attachment):
        return
    try:
        state = attachment.group_info(group)["state"]
        if state == GROUP_DESTROYED:  # with the one above it, whose end has told of it
            return
        groups = _below(attachment, group)
        living = [one for one in _core.debug_objects(attachment, 0) if one["group"] in groups]
        holding = _holding(attachment, groups)
    except FlagstoneError:  # the group has gone already
        return
    sites: dict[int, list[_DebugInfo]] = {}
    for one in living:
        if one["pid"]:  # of a cache with U
            sites.setdefault(one["allocated_site"], []).append(one)
    if not sites:
        return

    def size(some: Iterable[_DebugInfo]) -> int:
        return sum(one["nbytes"] for one in some)

    most = sorted(sites.items(), key=lambda item: -size(item[1]))
    lines = []
    for site, some in most[:5]:
        _core.debug_leaked(attachment, some[0], len(some), size(some))
        where = _where(attachment, site) or ", allocated at a place that is not known"
        lines.append(f"\n  {many(len(some), 'object')}, {format_size(size(some))}{where}")
    every = [one for some in sites.values() for one in some]
    _logger.warning(
        "arena %s: %s (%s) %s in the group %s, which is destroyed:%s",
        called(attachment.path),
        many(len(every), "object"),
        format_size(size(every)),
        "lives" if len(every) == 1 else "live",
        repr(name) if name else "without a name",
        "".join(lines) + holding,
    )


_core.debug_install(_describe, _tell)
atexit.register(_core.debug_deaf)
notices.others.append(_core.debug_told)
