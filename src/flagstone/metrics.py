"""Numbers of arenas for Prometheus: a collector for programs that have an endpoint of their own.

    import flagstone.metrics
    from prometheus_client import REGISTRY, start_http_server

    REGISTRY.register(flagstone.metrics.Collector("video"))
    start_http_server(9464)

Needs the extra `metrics`. Nothing is collected between scrapes: a scrape looks at the arenas, and
where that is dear, one that comes too soon gets the numbers of the last one (`flagstone.observer`).

Cardinality is bounded. What has a name and may come in any number (groups, caches, commands of
processes, channels, ...) has a label each up to a limit; the rest is summed as "(other)". Who got a
label keeps it for as long as it lives; the counters of those that are gone keep theirs while there
is room. Names that several share ("worker" below each of ten groups)
are summed. Counters only grow: they add what happened since the last look, so the end of a group is
no step back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from flagstone.extra import Extra

with Extra("flagstone.metrics", "prometheus-client", "metrics"):
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.registry import Collector as _Base

import flagstone
from flagstone.arena import Arena
from flagstone.facts import GroupInfo
from flagstone.names import FOLDER, NO_NAME
from flagstone.observer import Observer, share
from flagstone.snapshot import ArenaSnapshot

__all__ = ["OTHER", "Collector"]

OTHER: Final = "(other)"
ROOT: Final = "(root)"

_Thing = TypeVar("_Thing")


class Collector(_Base):
    """What a Prometheus registry asks for the numbers of arenas. Safe to use from any thread.

    Args:
        *arenas: names, paths, or Arena objects of this process; none: all arenas of this user that
            are in `folder` at the moment of the scrape.
        folder: where to look for them.
        most: labels of one kind (groups, say) for each arena; what comes later is summed.

    Raises:
        ValueError: `most` is less than 1.
    """

    def __init__(self, *arenas: str | Arena, folder: str = FOLDER, most: int = 100) -> None:
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        self._given = arenas
        self._folder = folder
        self._most = most
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._families: list[Any] = []
        self._next = 0.0

    def describe(self) -> Iterable[Any]:
        """The families without numbers: registering must not have to look."""
        return list(_Families().all())

    def collect(self) -> Iterable[Any]:
        """The numbers, of now or, where looking is dear, of the last scrape."""
        with self._lock:
            now = time.monotonic()
            if now >= self._next or not self._families:
                began = time.thread_time()
                families = _Families()
                for watched in self._present():
                    watched.add_to(families)
                self._families = list(families.all())
                self._next = now + (time.thread_time() - began) / share()
            return list(self._families)

    def close(self) -> None:
        """Detach from arenas that were given by name."""
        with self._lock:
            for watched in self._watched.values():
                watched.observer.close()

    def _present(self) -> list[_Watched]:
        given: Iterable[str | Arena] = self._given
        if not self._given:
            given = [one.name for one in flagstone.arenas(self._folder) if not one.orphan]
        found = {}
        for arena in given:
            key = arena if isinstance(arena, str) else arena.uuid
            found[key] = self._watched.get(key) or _Watched(arena, self._most)
        for key, watched in self._watched.items():
            if key not in found:
                watched.observer.close()
        self._watched = found
        return list(found.values())


class _Families:
    """All metric families, each with its name, its help and its labels."""

    def __init__(self) -> None:
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        self.info = InfoMetricFamily("flagstone_arena", "An arena.", labels=["arena"])
        self._all: dict[str, Any] = {}
        for kind, name, text, *labels in (
            (gauge, "up", "Whether the arena could be looked at."),
            (gauge, "look_seconds", "CPU time that the last look at the arena took."),
            (gauge, "capacity_bytes", "Data at most."),
            (gauge, "used_bytes", "Pages that slabs and large objects hold."),
            (gauge, "committed_bytes", "Taken from the system, metadata included."),
            (gauge, "control_bytes", "Metadata, a part of what is committed."),
            (counter, "batches_total", "Batches that finished."),
            (counter, "grace_periods_total", "Grace periods that finished."),
            (counter, "released_objects_total", "Objects that batches released."),
            (counter, "released_bytes_total", "Bytes of the objects that batches released."),
            (counter, "deaths_total", "Processes that ended without leaving."),
            (gauge, "last_batch_seconds", "What the last batch took."),
            (gauge, "last_batch_wait_seconds", "The part of it that it waited for readers."),
            (gauge, "batch_running_seconds", "Age of the batch that runs now; 0: none does."),
            (gauge, "stalled_seconds", "How long a reader has held up a grace period; 0: none."),
            (gauge, "groups_waiting", "Ended groups that wait for a batch."),
            (gauge, "kept_bytes", "Objects of ended groups that somebody still refers to."),
            (gauge, "children", "Child caches by state.", "state"),
            (gauge, "processes", "Attached processes; dead: not buried yet.", "state"),
            (gauge, "held_bytes", "Objects that processes use, by command.", "command"),
            (gauge, "held_objects", "References of processes, by command.", "command"),
            (gauge, "dropped_references", "That await a batch, by command.", "command"),
            (gauge, "groups", "Groups by state.", "state"),
            (gauge, "group_usage_bytes", "Charged to the group and those below it.", "group"),
            (gauge, "group_peak_bytes", "The most that it ever was.", "group"),
            (gauge, "group_limit_bytes", "Its limit, where it has one.", "group"),
            (counter, "group_limit_hits_total", "Allocations that met the limit.", "group"),
            (counter, "group_failed_allocations_total", "That failed in the end.", "group"),
            (counter, "group_reclaims_total", "Batches run on the group's behalf.", "group"),
            (gauge, "cache_bytes", "Pages of the slabs of a cache.", "cache"),
            (gauge, "cache_objects", "Objects that its slabs have room for.", "cache"),
            (gauge, "cache_allocated_objects", "In use or awaiting a batch.", "cache"),
            (gauge, "in_flight_messages", "Pickled and not yet taken."),
            (gauge, "in_flight_bytes", "Objects of these messages."),
            (gauge, "in_flight_oldest_seconds", "Age of the oldest message; 0: there is none."),
            (gauge, "store_keys", "Keys that have a value.", "store"),
            (gauge, "store_bytes", "Objects that the keys hold.", "store"),
            (counter, "store_changes_total", "Changes of the store.", "store"),
            (gauge, "channel_waiting_messages", "In the channel.", "channel"),
            (gauge, "channel_taken_messages", "Taken and not acknowledged.", "channel"),
            (gauge, "channel_capacity_messages", "That may wait.", "channel"),
            (gauge, "topic_messages", "That lie in the topic.", "topic"),
            (gauge, "topic_subscribers", "Who subscribes.", "topic"),
            (gauge, "topic_lag_messages", "Behind, of its slowest subscriber.", "topic"),
            (counter, "topic_lost_messages_total", "Subscribers were too slow for.", "topic"),
            (gauge, "lock_owned", "Whether somebody owns the lock.", "lock"),
        ):
            self._all[name] = kind(f"flagstone_{name}", text, labels=["arena", *labels])

    def all(self) -> Iterator[Any]:
        """Every family."""
        yield self.info
        yield from self._all.values()

    def add(self, name: str, arena: str, value: float, label: str | None = None) -> None:
        """One number of the family of this name."""
        labels = [arena] if label is None else [arena, label]
        self._all[name].add_metric(labels, value)


class _Labels:
    """Who has a label: so many at most, and each for as long as it lives."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def share(self, names: Iterable[str]) -> Callable[[str], str]:
        """The label of a name, where these are all that there are, the most important first."""
        wanted = list(dict.fromkeys(names))
        self._known.intersection_update(wanted)
        for name in wanted:
            if len(self._known) >= self._most:
                break
            self._known.add(name)
        known = frozenset(self._known)
        return lambda name: name if name in known else OTHER


class _Counts:
    """Counters that only grow, of things that come and go. The totals of labels that nothing has
    any more stay while there is room; then the one that has been gone for longest is summed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[Any, float] = {}
        self._totals: dict[str, float] = {}

    def add(self, values: Iterable[tuple[Any, str, float]]) -> dict[str, float]:
        """(What, its label, how far it has counted): the totals by label, with all before."""
        seen, present, totals = {}, set(), self._totals
        for what, label, value in values:
            grown = value - self._seen.get(what, 0.0)
            # Less than before is somebody new in the old one's place.
            totals[label] = totals.get(label, 0.0) + (grown if grown >= 0 else value)
            seen[what] = value
            present.add(label)
        self._seen = seen
        for label in present:  # behind those that are gone
            totals[label] = totals.pop(label)
        gone = [label for label in totals if label not in present and label != OTHER]
        for label in gone[: max(0, len(totals) - (OTHER in totals) - self._most)]:
            totals[OTHER] = totals.get(OTHER, 0.0) + totals.pop(label)
        return totals


class _Watched:
    """One arena, from scrape to scrape."""

    def __init__(self, arena: str | Arena, most: int) -> None:
        self.observer = Observer(arena)
        self.arena = self.observer.name
        self._most = most
        self._labels: dict[str, _Labels] = {}
        self._counts: dict[str, _Counts] = {}
        self._uuid = ""

    def add_to(self, families: _Families) -> None:
        """Look, and add the numbers; of an arena that is not there only that it is down."""
        try:
            look = self.observer.look()
        except (flagstone.FlagstoneError, OSError, ValueError):
            families.add("up", self.arena, 0)
            return
        snapshot = look.snapshot
        if snapshot.uuid != self._uuid:  # another arena of the same name
            self._uuid = snapshot.uuid
            self._labels.clear()
            self._counts.clear()
        families.add("up", self.arena, 1)
        families.add("look_seconds", self.arena, look.seconds)
        facts = {"uuid": snapshot.uuid, "path": snapshot.path or ""}
        families.info.add_metric([self.arena], facts)
        for part in (_arena, _processes, _groups, _caches, _messages, _named):
            part(self, snapshot, families)

    def sums(
        self,
        families: _Families,
        name: str,
        things: Iterable[_Thing],
        label: Callable[[_Thing], str],
        value: Callable[[_Thing], float],
        combine: Callable[[float, float], float] = lambda old, new: old + new,
    ) -> None:
        """A gauge: of the things that share a label, all together."""
        found: dict[str, float] = {}
        for thing in things:
            key, number = label(thing), value(thing)
            found[key] = combine(found[key], number) if key in found else number
        for key, number in found.items():
            families.add(name, self.arena, number, key)

    def counts(
        self, families: _Families, name: str, values: Iterable[tuple[Any, str, float]]
    ) -> None:
        """A counter of things that come and go."""
        counts = self._counts.setdefault(name, _Counts(self._most))
        for label, total in counts.add(values).items():
            families.add(name, self.arena, total, label)

    def labels(self, kind: str, names: Iterable[str]) -> Callable[[str], str]:
        """Labels of this kind, the most important first."""
        return self._labels.setdefault(kind, _Labels(self._most)).share(names)


def _arena(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    last = snapshot.last_batches[0] if snapshot.last_batches else None
    for name, value in (
        ("capacity_bytes", snapshot.capacity),
        ("used_bytes", snapshot.used),
        ("committed_bytes", snapshot.committed),
        ("control_bytes", snapshot.control),
        ("batches_total", snapshot.batches),
        ("grace_periods_total", snapshot.grace_periods),
        ("released_objects_total", snapshot.released_objects),
        ("released_bytes_total", snapshot.released_bytes),
        ("deaths_total", snapshot.deaths),
        ("last_batch_seconds", snapshot.last_batch),
        ("last_batch_wait_seconds", last.waited if last else 0.0),
        ("batch_running_seconds", snapshot.batch[1] if snapshot.batch else 0.0),
        ("stalled_seconds", snapshot.stalled[2] if snapshot.stalled else 0.0),
        ("groups_waiting", snapshot.groups_waiting),
        ("kept_bytes", sum(one.bytes for one in snapshot.keepers)),
    ):
        families.add(name, watched.arena, value)
    for state in ("live", "deactivated", "queued", "releasing"):
        families.add("children", watched.arena, getattr(snapshot.children, state), state)


def _processes(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    # Who only looks is not counted: this process, unless the program itself has the arena.
    others = [one for one in snapshot.processes if not (one.is_self and one.readonly)]
    alive = sum(one.alive for one in others)
    families.add("processes", watched.arena, alive, "alive")
    families.add("processes", watched.arena, len(others) - alive, "dead")
    others.sort(key=lambda one: -one.bytes)
    label = watched.labels("command", (one.command for one in others))
    for name, field in (
        ("held_bytes", "bytes"),
        ("held_objects", "references"),
        ("dropped_references", "dropped"),
    ):
        watched.sums(families, name, others, lambda one: label(one.command), _field(field))


def _field(name: str) -> Callable[[Any], float]:
    return lambda thing: float(getattr(thing, name))


def _groups(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    groups = snapshot.groups
    for state in ("live", "closed", "destroyed"):
        number = sum(one.state == state for one in groups)
        families.add("groups", watched.arena, number, state)
    label = watched.labels(
        "group", (_name(one) for one in sorted(groups, key=lambda one: -one.usage))
    )

    def labelled(group: GroupInfo) -> str:
        return label(_name(group))

    # A group's usage has that of those below it. Where they share a label it must not count twice.
    by_id = {one.id: one for one in groups}

    def within_its_own(group: GroupInfo) -> bool:
        at, mine = group, labelled(group)
        for _ in groups:
            if at.parent not in by_id:
                break
            at = by_id[at.parent]
            if labelled(at) == mine:
                return True
        return False

    tops = [one for one in groups if not within_its_own(one)]
    watched.sums(families, "group_usage_bytes", tops, labelled, _field("usage"))
    watched.sums(families, "group_peak_bytes", tops, labelled, _field("peak"))
    limited = [one for one in tops if one.limit is not None]
    watched.sums(families, "group_limit_bytes", limited, labelled, _field("limit"))
    for name, field in (
        ("group_limit_hits_total", "limit_hits"),
        ("group_failed_allocations_total", "failed"),
        ("group_reclaims_total", "reclaims"),
    ):
        values = ((one.id, labelled(one), float(getattr(one.events, field))) for one in groups)
        watched.counts(families, name, values)


def _name(group: GroupInfo) -> str:
    return ROOT if group.parent is None else group.name or NO_NAME


def _caches(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    caches = [one for one in snapshot.caches if one.state != "alias" and one.stats.slabs]
    caches.sort(key=lambda one: -one.stats.bytes)
    label = watched.labels("cache", (one.name for one in caches))
    for name, field in (
        ("cache_bytes", "bytes"),
        ("cache_objects", "objects"),
        ("cache_allocated_objects", "allocated"),
    ):
        value = _field(field)
        found = [(label(one.name), value(one.stats)) for one in caches]
        watched.sums(families, name, found, _first, _second)


def _first(pair: tuple[str, float]) -> str:
    return pair[0]


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _messages(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    flying = snapshot.in_flight
    families.add("in_flight_messages", watched.arena, len(flying))
    families.add("in_flight_bytes", watched.arena, sum(one.bytes for one in snapshot.senders))
    families.add("in_flight_oldest_seconds", watched.arena, flying[0].age if flying else 0.0)


def _named(watched: _Watched, snapshot: ArenaSnapshot, families: _Families) -> None:
    """What programs find by name: stores, channels, topics, locks."""
    for kind, things, gauges in (
        ("store", snapshot.stores, (("keys", "keys"), ("bytes", "nbytes"))),
        (
            "channel",
            snapshot.channels,
            (
                ("waiting_messages", "waiting"),
                ("taken_messages", "taken"),
                ("capacity_messages", "capacity"),
            ),
        ),
        ("topic", snapshot.topics, (("messages", "messages"),)),
        ("lock", snapshot.locks, (("owned", "owned"),)),
    ):
        label = watched.labels(kind, (_called(one) for one in things))
        for name, field in gauges:
            value = _field(field)
            found = [(label(_called(one)), value(one)) for one in things]
            watched.sums(families, f"{kind}_{name}", found, _first, _second)
    stores = watched.labels("store", map(_called, snapshot.stores))
    changes = ((one.name, stores(one.name), float(one.version)) for one in snapshot.stores)
    watched.counts(families, "store_changes_total", changes)
    topics = watched.labels("topic", map(_called, snapshot.topics))
    watched.sums(
        families,
        "topic_subscribers",
        snapshot.topics,
        lambda one: topics(_called(one)),
        lambda one: float(len(one.subscribers)),
    )
    watched.sums(
        families,
        "topic_lag_messages",
        snapshot.topics,
        lambda one: topics(_called(one)),
        lambda one: float(max((sub.lag for sub in one.subscribers), default=0)),
        max,
    )
    lost: dict[tuple[str, int, str], float] = {}
    for one in snapshot.topics:
        for sub in one.subscribers:
            key = (_called(one), sub.pid, sub.slow)
            lost[key] = lost.get(key, 0.0) + sub.lost
    values = ((key, topics(key[0]), value) for key, value in lost.items())
    watched.counts(families, "topic_lost_messages_total", values)


def _called(thing: Any) -> str:
    return thing.name or NO_NAME
