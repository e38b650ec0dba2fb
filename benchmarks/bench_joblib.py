"""Arguments and results of joblib's `Parallel`: through an arena, and by joblib's own "loky"."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Bench
from benchmarks.peers import own_name

MIB = 1 << 20
CALLS = 8


def run(bench: Bench) -> None:
    try:
        import joblib

        import flagstone.joblib
    except ImportError as error:
        bench.skip("joblib", str(error))
        return
    sizes = (1, 16) if bench.settings.quick else (1, 16, 100)
    with flagstone.open(own_name(), capacity="8GiB") as arena:

        def timed(backend: str, calls: Callable[[], list[Any]]) -> Callable[[], float]:
            options = {"arena": arena} if backend == "flagstone" else {}

            def measure() -> float:
                with joblib.parallel_config(backend, n_jobs=2, **options):
                    parallel = joblib.Parallel(batch_size=1)
                    made = calls()
                    began = time.perf_counter()
                    found = parallel(made)
                    took = time.perf_counter() - began
                    assert len(found) == CALLS
                    return took / CALLS * 1e3

            return measure

        for size in sizes:
            count = size * MIB // 8
            block = arena.put(np.ones(count))
            work: dict[str, Callable[[], list[Any]]] = {
                "argument, another one for each call": lambda n=count: [
                    joblib.delayed(touch)(np.full(n, float(number))) for number in range(CALLS)
                ],
                "argument that is a view of a Block": lambda b=block: [
                    joblib.delayed(touch)(b.array) for _ in range(CALLS)
                ],
                "result": lambda n=count: [joblib.delayed(make)(n) for _ in range(CALLS)],
            }
            for name, calls in work.items():
                samples = bench.compare(
                    f"{size} MiB: {name}",
                    {one: timed(one, calls) for one in ("flagstone", "loky")},
                    base="flagstone",
                    unit="ms",
                    note=f"Time for one of {CALLS} calls on two workers that are there already; the"
                    " function touches the first and last element.",
                )
                if size == 16 and "view" not in name:
                    ratio = samples.ratio("loky", "flagstone")["median"]
                    what = name.partition(",")[0]
                    bench.target(f"times as fast as loky, 16 MiB, {what}", ratio, 5, least=True)
            del block


def touch(array: Any) -> float:
    return float(array[0] + array[-1])


def make(count: int) -> Any:
    return np.ones(count)
