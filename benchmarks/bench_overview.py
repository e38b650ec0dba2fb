"""What an object costs from Python: allocate and drop, beside what people use instead.

All variants run in turn, nine rounds; the table shows the median and the spread of the time for one
operation, and the ratio to the first row in the same round. Run it with `make bench`.
"""

import os
import platform
import statistics
import timeit
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory

import numpy as np

import flagstone

ROUNDS = 9
SIZE = 4096


def shared_memory() -> None:
    """Create, close and unlink a segment: the standard library's way."""
    segment = SharedMemory(create=True, size=SIZE)
    segment.close()
    segment.unlink()


def variants(arena: flagstone.Arena) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured: name -> (operation, calls in a round)."""
    bound = arena.cache("bench", size=SIZE).bind(arena.root_group)
    block = bound.alloc()
    handle = block.handle
    buffer = bytearray(SIZE)
    keep = [block]
    return {
        "flagstone: alloc and drop": (bound.alloc, 100_000),
        "bytearray(4096)": (lambda: bytearray(SIZE), 100_000),
        "numpy.empty(4096)": (lambda: np.empty(SIZE, "u1"), 100_000),
        "SharedMemory create, close, unlink": (shared_memory, 500),
        "flagstone: block.array": (lambda: keep[0].array, 100_000),
        "numpy.frombuffer": (lambda: np.frombuffer(buffer, "u1"), 100_000),
        "flagstone: arena.get(handle) and drop": (lambda: arena.get(handle), 50_000),
        "flagstone: synchronize, everyone idle": (arena.synchronize, 20_000),
    }


def main() -> None:
    """Measure, and print a table."""
    with flagstone.open(capacity="64MiB") as arena:
        what = variants(arena)
        times: dict[str, list[float]] = {name: [] for name in what}
        for _ in range(ROUNDS):
            for name, (call, number) in what.items():
                times[name].append(timeit.timeit(call, number=number) / number * 1e9)
        what.clear()
    first = next(iter(times.values()))
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}"
    lines = [f"{machine}, Python {platform.python_version()}, {ROUNDS} rounds, ns each"]
    for name, each in times.items():
        ratio = statistics.median(a / b for a, b in zip(each, first, strict=True))
        spread = f"{min(each):,.0f} to {max(each):,.0f}"
        lines.append(f"{name:40}{statistics.median(each):>10,.0f}  ({spread})  x {ratio:.2f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
