"""Segments of shared memory: `flagstone.shared_memory` beside the standard library's."""

from __future__ import annotations

import os
import time
from multiprocessing import shared_memory as standard
from typing import Any

from benchmarks.harness import Bench, Measure
from benchmarks.peers import own_name
from flagstone import segment, shared_memory

KIB, MIB = 1 << 10, 1 << 20

CLASSES: dict[str, Any] = {
    "flagstone": shared_memory.SharedMemory,
    "standard library": standard.SharedMemory,
}


def run(bench: Bench) -> None:
    os.environ[segment.ARENA] = own_name()
    sizes = [4 * KIB, 64 * KIB, MIB] + ([] if bench.settings.quick else [16 * MIB])
    for nbytes in sizes:
        name = f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB"
        count = max(5, min(200, 64 * MIB // nbytes))
        samples = bench.compare(
            f"{name}: created, closed, unlinked",
            {who: made(kind, nbytes, count) for who, kind in CLASSES.items()},
            base="flagstone",
            unit="us",
            note="Nothing is written. The standard library's has no memory yet; Flagstone's has all"
            " of it, set to zero.",
        )
        written = bench.compare(
            f"{name}: created, written whole, closed, unlinked",
            {who: made(kind, nbytes, count, bytes(nbytes)) for who, kind in CLASSES.items()},
            base="flagstone",
            unit="us",
        )
        attached = bench.compare(
            f"{name}: attached to, closed",
            {who: opened(kind, nbytes, count) for who, kind in CLASSES.items()},
            base="flagstone",
            unit="us",
        )
        for what, measured in (
            ("created, closed, unlinked", samples),
            ("created, written, closed, unlinked", written),
            ("attached to", attached),
        ):
            if nbytes > MIB and measured is samples:
                continue  # memory that is there costs what it costs
            ratio = measured.ratio("flagstone", "standard library")["median"]
            bench.target(f"{name} {what}: times the standard library's", ratio, 1.0)
    segment.forget()


def made(kind: Any, nbytes: int, count: int, data: bytes | None = None) -> Measure:
    def measure() -> float:
        began = time.perf_counter()
        for _ in range(count):
            one = kind(create=True, size=nbytes)
            if data is not None:
                one.buf[:] = data
            one.close()
            one.unlink()
        return (time.perf_counter() - began) / count * 1e6

    return measure


def opened(kind: Any, nbytes: int, count: int) -> Measure:
    def measure() -> float:
        whole = kind(create=True, size=nbytes)
        began = time.perf_counter()
        for _ in range(count):
            kind(whole.name).close()
        took = (time.perf_counter() - began) / count * 1e6
        whole.close()
        whole.unlink()
        return took

    return measure
