"""Arrays between Ray's actors on one node: through an arena, and through its own store (plasma)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Bench
from benchmarks.peers import own_name

MIB = 1 << 20
PLASMA = 1 << 30
"""Bytes of Ray's store: room for several of the largest arrays."""


def run(bench: Bench) -> None:
    try:
        import ray

        import flagstone.ray
    except ImportError as error:
        bench.skip("ray", str(error))
        return
    options: dict[str, Any] = {
        "num_cpus": 2,
        "object_store_memory": PLASMA,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    flagstone.ray.init(own_name(), capacity="2GiB", **options)
    try:
        _measure(bench, ray)
    finally:
        flagstone.ray.shutdown()


def _measure(bench: Bench, ray: Any) -> None:
    maker, reader = (ray.remote(Actor).remote() for _ in range(2))
    sides = {"flagstone": maker.block, "plasma": maker.array}
    sizes = (100 << 10, MIB, 16 * MIB, *(() if bench.settings.quick else (100 * MIB,)))
    for nbytes in sizes:
        what = f"{nbytes >> 10} KiB" if nbytes < MIB else f"{nbytes // MIB} MiB"
        samples = bench.compare(
            f"{what} filled by one actor, looked at by another one",
            {one: _made(ray, make, reader, nbytes) for one, make in sides.items()},
            unit="ms",
            note="From the call until the answer is in the driver.",
        )
        _judge(bench, samples, nbytes, what, "filled", 5)
        stored = {one: make.remote(nbytes) for one, make in sides.items()}
        samples = bench.compare(
            f"{what} that is there, looked at",
            {one: _looked(ray, reader, ref) for one, ref in stored.items()},
            unit="ms",
        )
        _judge(bench, samples, nbytes, what, "there", 1.3)
        del stored


def _judge(bench: Bench, samples: Any, nbytes: int, what: str, how: str, least: float) -> None:
    if nbytes == 100 * MIB:
        ratio = samples.ratio("plasma", "flagstone")["median"]
        bench.target(f"times as fast as plasma, {what}, {how}", ratio, least, least=True)
    else:
        slower = samples.ratio("flagstone", "plasma")["median"]
        bench.target(f"times as long as plasma: {what}, {how}", slower, 1.05)


def _made(ray: Any, make: Any, reader: Any, nbytes: int) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        ray.get(reader.look.remote(make.remote(nbytes)))
        return (time.perf_counter() - began) * 1e3

    return measure


def _looked(ray: Any, reader: Any, ref: Any) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        ray.get(reader.look.remote(ref))
        return (time.perf_counter() - began) * 1e3

    return measure


class Actor:
    """Makes what others look at."""

    def block(self, nbytes: int) -> Any:
        import flagstone.ray

        block = flagstone.ray.empty(nbytes // 8)
        block.array.fill(1)
        return block

    def array(self, nbytes: int) -> Any:
        array = np.empty(nbytes // 8)
        array.fill(1)
        return array

    def look(self, value: Any) -> float:
        found = value if isinstance(value, np.ndarray) else value.array
        return float(found[0] + found[-1])
