"""What an arena did, written down look by look: JSON lines, some hundred bytes to some KiB each.

The first line says which arena it is, each other one what a look found: memory, the largest groups
and processes, ages of messages, where what lives was allocated (of caches that are debugged with
U), and the batches and deaths since the line before. A file that was cut off in the middle of a
line (its writer was killed) is read up to there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from flagstone.observer import Look

__all__ = ["AGES", "Recorder", "read"]

VERSION: Final = 1
AGES: Final = (1.0, 10.0, 60.0, 600.0)
"""Seconds: messages are counted by age up to each of these, and beyond the last."""
_LARGEST: Final = 50
"""Groups, processes and allocation sites in a line."""


class Recorder:
    """Makes lines of looks at one arena."""

    def __init__(self) -> None:
        self._batch = self._death = 0
        self._open: set[int] = set()
        self._places: dict[str, int] = {}

    def head(self, look: Look, name: str) -> dict[str, Any]:
        """The first line of a recording, for the arena of this look."""
        one = look.snapshot
        facts = {"arena": name, "uuid": one.uuid, "capacity": one.capacity}
        return {"flagstone": VERSION, "at": look.at, **facts}

    def line(self, look: Look) -> dict[str, Any]:
        """The line of a look, with what is new since the last one."""
        one = look.snapshot
        boot = look.at - look.now
        groups = sorted(one.groups, key=lambda group: -group.usage)[:_LARGEST]
        people = [each for each in one.processes if not (each.is_self and each.readonly)]
        people.sort(key=lambda each: -each.bytes)
        batches = [each for each in one.last_batches if each.number > self._batch]
        self._batch = max([self._batch, *(each.number for each in batches)])
        deaths = [
            each for each in one.burials if each.number > self._death or each.number in self._open
        ]
        self._death = max([self._death, *(each.number for each in deaths)])
        self._open = {each.number for each in deaths if each.finished is None}
        places, sites = [], []
        for site in one.sites[:_LARGEST]:
            if site.where not in self._places:
                self._places[site.where] = len(self._places)
                places.append(site.where)
            place = self._places[site.where]
            pids, names = list(site.pids), list(site.caches)
            held = [list(one) for one in site.holders]
            sites.append([place, site.objects, site.nbytes, site.oldest, pids, names, held])
        ages = [0] * (len(AGES) + 1)
        for message in one.in_flight:
            ages[sum(message.age > limit for limit in AGES)] += 1
        return {
            "at": look.at,
            "used": one.used,
            "committed": one.committed,
            # A parent's usage has its children's, so none of the largest is without its parent.
            "groups": [
                [each.id, each.parent, each.name, each.usage, each.limit] for each in groups
            ],
            "processes": [
                [each.pid, each.command, each.bytes, each.references] for each in people[:_LARGEST]
            ],
            "ages": ages,
            # Texts are long: each is written once, and numbered from 0 in the order they come in.
            "places": places,
            "sites": sites,
            "batches": [
                [
                    each.number,
                    boot + each.began,
                    each.seconds,
                    each.waited,
                    each.objects,
                    each.bytes,
                ]
                for each in reversed(batches)
            ],
            "deaths": [
                [
                    each.number,
                    boot + each.noticed,
                    each.pid,
                    each.command,
                    each.objects,
                    each.bytes,
                    None if each.finished is None else each.finished - each.noticed,
                ]
                for each in reversed(deaths)
            ],
        }


def read(lines: Iterable[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line of a recording, and the others.

    Raises:
        ValueError: it is none, or another version's.
    """
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            facts = json.loads(line)
        except ValueError:  # cut off
            break
        if not isinstance(facts, dict):
            break
        found.append(facts)
    if not found or found[0].get("flagstone") != VERSION:
        raise ValueError("no recording of `flagstone record`, or of another version")
    if len(found) == 1:
        raise ValueError("the recording has no look in it")
    return found[0], found[1:]
