"""No circle of files: what two files need of each other belongs in a third, below both.

A header and its source are one file here, and what one source calls of another is a use as well as
what it includes. A circle that is known is listed by the use that has to go from it: "core: a -> b"
where a must not use b any more.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .layers import Side, includes, sides, uses
from .tree import Finding, Known, Tree


class Use(NamedTuple):
    """Where one file first uses another."""

    path: str
    line: int


Graph = dict[str, dict[str, Use]]


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """The circles that are left when the known uses are gone, and the known uses that make one."""
    package = tree.root / "src" / "flagstone"
    binding = Side(package, [], tree.binding(), _of_binding, calls=True)
    for side in (*sides(tree), binding):
        label = side.base.name
        graph: Graph = {}
        for path, line, used in uses(tree, side):
            name = side.name(path)
            if used != name:
                graph.setdefault(name, {}).setdefault(used, Use(tree.shown(path), line))
        listed = []
        for name, others in graph.items():
            for used in [used for used in others if f"{label}: {name} -> {used}" in known]:
                listed.append((name, used, others.pop(used)))
        for name, used, use in listed:
            if _way(graph, used, name):
                yield Finding(*use, _sentence(name, [used]), f"{label}: {name} -> {used}")
        yield from _circles(graph, label)


def _of_binding(tree: Tree, path: Path) -> Iterator[tuple[int, str]]:
    for line, used in includes(tree, path):
        if used.startswith("binding/"):
            yield line, used.removesuffix(".h")


def _circles(graph: Graph, label: str) -> Iterator[Finding]:
    """The shortest circle through each file that is in one, until there is none."""
    for name in sorted(graph):
        while ways := [way for used in graph[name] if (way := _way(graph, used, name))]:
            shortest = min(ways, key=len)
            use = graph[name].pop(shortest[0])
            key = f"{label}: {name} -> {shortest[0]}"
            yield Finding(*use, _sentence(name, shortest), key)


def _way(graph: Graph, start: str, end: str) -> list[str]:
    """The shortest way from start to end, both included; empty without one."""
    came: dict[str, str] = {start: ""}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if here == end:
            way = [here]
            while came[way[0]]:
                way.insert(0, came[way[0]])
            return way
        for there in graph.get(here, {}):
            if there not in came:
                came[there] = here
                waiting.append(there)
    return []


def _sentence(name: str, way: list[str]) -> str:
    way = way if way[-1] == name else [*way, "...", name]
    return f"a circle: {name} uses {', which uses '.join(way)}"
