"""What debug mode costs an allocation, letter by letter."""

from __future__ import annotations

from benchmarks.harness import Bench
from benchmarks.peers import own_arena


def run(bench: Bench) -> None:
    """Blocks that are kept, so that no batch is measured; they are dropped between the samples."""
    with own_arena() as arena:
        variants = {}
        for letters in ("-", "F", "Z", "P", "U", "ZPU"):
            bound = arena.cache(f"c{letters}", size=256, debug=letters).bind()

            def measure(alloc=bound.alloc) -> float:  # type: ignore[no-untyped-def]
                kept: list[object] = []
                add = kept.append
                cost = bench.timed(lambda: _deep(DEPTH, alloc, add), COUNT)()
                kept.clear()
                arena.barrier()
                return cost

            variants[letters] = measure
        table = bench.compare(
            "an allocation of 256 bytes",
            variants,
            base="-",
            note=f'Letters as in slub_debug; "-": not debugged. {DEPTH} calls deep: of 12 is told.',
        )
    more = table.median("U") - table.median("-")
    bench.target("U, microseconds more an allocation", more / 1000, 3)


COUNT, DEPTH = 2000, 12


def _deep(depth, alloc, add) -> None:  # type: ignore[no-untyped-def]
    if depth:
        _deep(depth - 1, alloc, add)
    else:
        _fill(alloc, add)


def _fill(alloc, add) -> None:  # type: ignore[no-untyped-def]
    for _ in range(COUNT):
        add(alloc())
