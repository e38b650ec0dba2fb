"""Reading an arena: what its pictures (`snapshot.py`) show is looked up here, and nothing changes.

Each number was true at some moment of the look; what goes meanwhile is left out.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flagstone import _core
from flagstone.debug import faults_of
from flagstone.errors import ArenaCorrupted, Closed
from flagstone.facts import (
    Batch,
    Burial,
    CacheInfo,
    CacheStats,
    ChannelInfo,
    ChildCounts,
    GroupEvents,
    GroupInfo,
    InFlight,
    Keeper,
    LockHold,
    LockInfo,
    ProcessInfo,
    Sender,
    Site,
    StoreInfo,
    SubscriberInfo,
    TopicInfo,
)
from flagstone.format import parse_format
from flagstone.names import text
from flagstone.sizes import FOREVER, to_nanoseconds
from flagstone.snapshot import ArenaSnapshot
from flagstone.states import (
    CACHE_ALIAS,
    CACHE_CONSISTENCY,
    CACHE_ENDED,
    CACHE_LIVE,
    CACHE_NO_MERGE,
    CACHE_POISON,
    CACHE_RED_ZONE,
    CACHE_RETIRED,
    CACHE_SIZE_CLASS,
    CACHE_STORE_USER,
    CACHE_TYPESAFE_BY_RCU,
    CHANNEL_ACK,
    CHANNEL_LASTING,
    CHANNEL_LIVE,
    CHANNEL_LOCK,
    CHANNEL_TOPIC,
    GROUP_CGROUP,
    GROUP_CLOSED,
    GROUP_DESTROYED,
    GROUP_LASTING,
    GROUP_LIVE,
    STORE_EVICTS,
    STORE_LIVE,
)

if TYPE_CHECKING:
    from flagstone._core import Attachment

PAGE: Final = 4096
SLOW: Final = ("block", "drop", "disconnect", "latest")
"""What a subscription is called that is slow, by the core's number."""
_CACHE_FLAGS: Final = {
    CACHE_TYPESAFE_BY_RCU: "typesafe_by_rcu",
    CACHE_NO_MERGE: "no_merge",
    CACHE_SIZE_CLASS: "size_class",
    CACHE_CONSISTENCY: "consistency",
    CACHE_RED_ZONE: "red_zone",
    CACHE_POISON: "poison",
    CACHE_STORE_USER: "store_user",
}
_CACHE_STATES: Final = {
    CACHE_LIVE: "live",
    CACHE_ENDED: "ended",
    CACHE_ALIAS: "alias",
    CACHE_RETIRED: "retired",
}
GROUP_STATES: Final = {
    GROUP_LIVE: "live",
    GROUP_CLOSED: "closed",
    GROUP_DESTROYED: "destroyed",
}


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
        for one in _core.processes(attachment)
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
        for one in _core.burials(attachment)
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
        for one in _core.batches(attachment)
    ]


def keepers(
    attachment: Attachment, *, group: int | None = None, cache: int | None = None
) -> list[Keeper]:
    """Who keeps what has ended, the longest first; only of one group and those below it, or of
    one cache.
    """
    found = _core.keepers(attachment, cache)
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
        for_children=bool(one["for_children"]),
    )


def _hold(lock: bytes, nanoseconds: int) -> LockHold | None:
    return LockHold(text(lock), nanoseconds / 1e9) if nanoseconds else None


def cache_stats(info: Mapping[str, Any]) -> CacheStats:
    """How full a cache is, of the core's facts about it."""
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
            lasting=bool(info["flags"] & GROUP_LASTING),
            cgroup=attachment.group_cgroup(info["id"]) if info["flags"] & GROUP_CGROUP else None,
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
    found, senders = _core.in_flight(attachment, to_nanoseconds(older_than), InFlight, cache, group)
    who = [Sender(*key, *total) for key, total in senders.items()]
    return found, tuple(sorted(who, key=lambda one: -one.messages))


def store_info(attachment: Attachment, facts: Any) -> StoreInfo:
    """The core's answer, for people."""
    return StoreInfo(
        name=text(facts["name"]),
        keys=facts["keys"],
        version=facts["version"],
        nbytes=facts["bytes"],
        evict="lru" if facts["flags"] & STORE_EVICTS else None,
        group=_group_name(attachment, facts["group"]),
    )


def _group_name(attachment: Attachment, ident: int) -> str | None:
    try:
        return text(attachment.group_info(ident)["name"]) or None
    except Closed:
        return None


def stores_of(attachment: Attachment) -> list[StoreInfo]:
    """The live stores of an arena."""
    found = []
    for ident in _core.store_ids(attachment):
        try:
            facts = _core.store_info(attachment, ident)
            if facts["state"] == STORE_LIVE:
                found.append(store_info(attachment, facts))
        except Closed:  # released meanwhile
            continue
    return found


def channel_info(facts: Any) -> ChannelInfo:
    """The core's answer, for people."""
    return ChannelInfo(
        name=text(facts["name"]) or None,
        capacity=facts["capacity"],
        inline=facts["inline_bytes"],
        ack=bool(facts["flags"] & CHANNEL_ACK),
        lasting=bool(facts["flags"] & CHANNEL_LASTING),
        closed=bool(facts["closed"]),
        waiting=facts["waiting"],
        taken=facts["taken"],
        nbytes=facts["bytes"],
    )


_KINDS: Final = CHANNEL_TOPIC | CHANNEL_LOCK
"""The flags that say what stands on a ring; neither: a channel."""


def _rings(attachment: Attachment, kind: int | None = None) -> list[Any]:
    """The core's answers about all that is live and stands on a ring, or all of one kind: the
    flag of it, 0 for channels. Of the others nothing is looked at.
    """
    found = []
    for ident in _core.channel_ids(attachment, kind):
        try:
            facts = _core.channel_info(attachment, ident)
        except Closed:  # released meanwhile
            continue
        if facts["state"] == CHANNEL_LIVE:
            found.append(facts)
    return found


def channels_of(attachment: Attachment, rings: list[Any] | None = None) -> list[ChannelInfo]:
    """The live channels of an arena; `rings`: of a look that was made already."""
    rings = _rings(attachment, 0) if rings is None else rings
    return [channel_info(facts) for facts in rings if not facts["flags"] & _KINDS]


def topic_info(attachment: Attachment, facts: Any) -> TopicInfo:
    """The core's answer, with who subscribes."""
    return TopicInfo(
        name=text(facts["name"]) or None,
        capacity=facts["capacity"],
        inline=facts["inline_bytes"],
        lasting=bool(facts["flags"] & CHANNEL_LASTING),
        closed=bool(facts["closed"]),
        messages=facts["waiting"],
        nbytes=facts["bytes"],
        subscribers=tuple(
            SubscriberInfo(
                pid=one["pid"],
                command=text(one["command"]),
                slow=SLOW[one["slow"]],
                lag=one["lag"],
                lost=one["lost"],
                holds=bool(one["holds"]),
            )
            for one in _core.subscribers(attachment, facts["id"])
        ),
    )


def topics_of(attachment: Attachment, rings: list[Any] | None = None) -> list[TopicInfo]:
    """The live topics of an arena; `rings` as above."""
    rings = _rings(attachment, CHANNEL_TOPIC) if rings is None else rings
    return [topic_info(attachment, facts) for facts in rings if facts["flags"] & CHANNEL_TOPIC]


def lock_info(name: str, owner: Any) -> LockInfo:
    """The core's answer about its owner, for people."""
    return LockInfo(
        name=name,
        owned=bool(owner["owned"]),
        inherited=bool(owner["dead"]),
        pid=os.getpid() if owner["own"] else owner["pid"] or None,
        command=text(owner["command"]),
    )


def locks_of(attachment: Attachment, rings: list[Any] | None = None) -> list[LockInfo]:
    """The live locks of an arena; `rings` as above."""
    rings = _rings(attachment, CHANNEL_LOCK) if rings is None else rings
    return [
        lock_info(text(facts["name"]), owner)
        for facts in rings
        if facts["flags"] & CHANNEL_LOCK
        and (owner := _core.lock_owner(attachment, facts["id"])) is not None
    ]


def snapshot(attachment: Attachment, name: str | None) -> ArenaSnapshot:
    """Everything that is known of an arena, of this name, as one snapshot."""
    info = attachment.info()
    flying, senders = _flying(attachment, 0.0)
    rings = _rings(attachment)
    all_caches = tuple(caches(attachment))
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
        caches=all_caches,
        groups=tuple(groups(attachment)),
        in_flight=tuple(flying),
        senders=senders,
        burials=tuple(burials(attachment)),
        last_batches=tuple(last_batches(attachment)),
        groups_waiting=info["groups_waiting"],
        children=ChildCounts(**_core.child_counts(attachment)),
        keepers=tuple(keepers(attachment)),
        stores=tuple(stores_of(attachment)),
        channels=tuple(channels_of(attachment, rings)),
        topics=tuple(topics_of(attachment, rings)),
        locks=tuple(locks_of(attachment, rings)),
        sites=tuple(sites_of(attachment, all_caches)),
        faults=tuple(faults_of(attachment, (cache.flags for cache in all_caches))),
        longest_hold=_hold(info["hold_wall_lock"], info["hold_wall_ns"]),
        longest_hold_cpu=_hold(info["hold_cpu_lock"], info["hold_cpu_ns"]),
    )


def sites_of(attachment: Attachment, known: Iterable[CacheInfo]) -> list[Site]:
    """Where the living objects of caches that remember it were allocated, the most bytes first."""
    if not any("store_user" in cache.flags for cache in known):
        return []
    now = _core.now()
    names: dict[int, str] = {}
    found: dict[str, list[Any]] = {}
    texts: dict[int, str] = {}
    processes = {one["slot"]: one["pid"] for one in _core.processes(attachment)}
    holders: dict[int, list[int]] = {}
    for slot, oid in _core.debug_holders(attachment):
        if slot in processes:
            holders.setdefault(oid, []).append(processes[slot])
    for one in _core.debug_objects(attachment, 0):
        if not one["pid"]:
            continue  # of a cache that does not remember
        site, cache = one["allocated_site"], one["cache"]
        if site not in texts:
            texts[site] = _core.debug_site(attachment, site)
        if cache not in names:
            with contextlib.suppress(Closed):
                names[cache] = text(attachment.cache_look(cache)["name"])
        sums = found.setdefault(texts[site], [0, 0, one["allocated_at"], set(), set(), Counter()])
        sums[0] += 1
        sums[1] += one["nbytes"]
        sums[2] = min(sums[2], one["allocated_at"])
        sums[3].add(one["pid"])
        sums[4].add(names.get(cache, ""))
        sums[5].update(holders.get(one["oid"], ()))
    sites = [
        Site(
            where,
            objects,
            nbytes,
            max(0, now - oldest) / 1e9,
            tuple(sorted(pids)),
            tuple(sorted(used)),
            tuple(held.most_common()),
        )
        for where, (objects, nbytes, oldest, pids, used, held) in found.items()
    ]
    return sorted(sites, key=lambda site: -site.nbytes)


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
