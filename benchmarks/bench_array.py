"""A NumPy array over an object's bytes."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Bench
from benchmarks.peers import own_arena


def run(bench: Bench) -> None:
    with own_arena() as arena:
        block = arena.cache("image", shape=(100, 100, 3), dtype="u1").alloc()
        plain = bytearray(30_000)
        names = {"block": block, "plain": plain, "np": np}
        found = bench.compare(
            "an array without copying",
            {
                "numpy.frombuffer(bytearray)": bench.statement(
                    "np.frombuffer(plain, 'u1')", **names
                ),
                "block.array": bench.statement("block.array", **names),
                "numpy.ndarray(buffer=)": bench.statement(
                    "np.ndarray((100, 100, 3), 'u1', plain)", **names
                ),
                "memoryview(block)": bench.statement("memoryview(block)", **names),
                "numpy.frombuffer(block)": bench.statement("np.frombuffer(block, 'u1')", **names),
            },
            note="block.array has the dtype and the shape of its cache already.",
        )
        ratio = found.ratio("block.array", "numpy.frombuffer(bytearray)")["median"]
        bench.target("block.array in numpy.frombuffer", ratio, 0.6)
