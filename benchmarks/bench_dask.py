"""Arrays between Dask's workers on one host: through an arena, and through sockets."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Bench
from benchmarks.peers import own_name

MIB = 1 << 20


def run(bench: Bench) -> None:
    try:
        import dask.array
        import distributed

        import flagstone
        import flagstone.dask
    except ImportError as error:
        bench.skip("dask", str(error))
        return
    quick = bench.settings.quick
    name = own_name()
    dask.config.set({"flagstone.arena": name})
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        arena = stack.enter_context(flagstone.open(name, capacity="6GiB"))
        sides = {
            one: stack.enter_context(cluster(distributed, one == "flagstone"))
            for one in ("flagstone", "default")
        }
        for nbytes in (4096, 256 << 10, MIB, *(() if quick else (100 * MIB,))):
            what = f"{nbytes >> 10} KiB" if nbytes < MIB else f"{nbytes // MIB} MiB"
            for title, timed in (
                (f"{what} that a worker has, looked at by the other one", transfer),
                (f"{what} made by one worker, looked at by the other one", made),
            ):
                samples = bench.compare(
                    title,
                    {one: timed(client, nbytes) for one, client in sides.items()},
                    base="flagstone",
                    unit="ms",
                    note="From the call until the answer is in the client, scheduler included.",
                )
                ratio = samples.ratio("default", "flagstone")["median"]
                if nbytes == 100 * MIB and timed is transfer:
                    bench.target("times as fast as Dask's default, 100 MiB", ratio, 5, least=True)
                elif nbytes < MIB:
                    slower = samples.ratio("flagstone", "default")["median"]
                    bench.target(f"times as long as Dask's default: {title}", slower, 1.05)
        full = bench.settings.full
        nbytes = (64 if quick else 2048 if full else 512) * MIB
        for method in ("tasks", "p2p"):
            shuffle(bench, sides, arena, nbytes, method)


@contextlib.contextmanager
def cluster(distributed: Any, shared: bool) -> Iterator[Any]:
    """A client of two workers."""
    preload = ["flagstone.dask"] if shared else []
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="6GiB",
            preload=preload,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as made,
        distributed.Client(made) as client,
    ):
        yield client


def transfer(client: Any, nbytes: int) -> Callable[[], float]:
    """Time for one that is there, in milliseconds."""
    from distributed import wait

    first, second = list(client.scheduler_info()["workers"])

    def measure() -> float:
        array = client.submit(make, nbytes, workers=first, pure=False)
        wait(array)
        began = time.perf_counter()
        client.submit(touch, array, workers=second, pure=False).result()
        return (time.perf_counter() - began) * 1e3

    return measure


def made(client: Any, nbytes: int) -> Callable[[], float]:
    """The same, with making it."""
    first, second = list(client.scheduler_info()["workers"])

    def measure() -> float:
        began = time.perf_counter()
        array = client.submit(make, nbytes, workers=first, pure=False)
        client.submit(touch, array, workers=second, pure=False).result()
        return (time.perf_counter() - began) * 1e3

    return measure


def shuffle(bench: Bench, sides: dict[str, Any], arena: Any, nbytes: int, method: str) -> None:
    """Rows to columns: half of all pieces change their worker."""
    what = "by tasks" if method == "tasks" else "by P2P, which writes what arrives to files"
    peaks: dict[str, list[float]] = {one: [] for one in sides}

    def timed(one: str) -> Callable[[], float]:
        client = sides[one]
        pids = list(client.run(pid).values())

        def measure() -> float:
            with peak(pids, arena if one == "flagstone" else None) as most:
                began = time.perf_counter()
                rechunk(client, nbytes, method)
                took = time.perf_counter() - began
            peaks[one].append(most[0])
            return took

        return measure

    samples = bench.compare(
        f"{nbytes // MIB} MiB from rows to columns, {what}",
        {one: timed(one) for one in sides},
        base="flagstone",
        unit="s",
        note="An array, made, rechunked and summed on two workers.",
    )
    ratio = samples.ratio("default", "flagstone")["median"]
    bench.target(f"times as fast as Dask's default, shuffle {method}", ratio, 1.5, least=True)
    medians = {one: float(np.median(found)) for one, found in peaks.items()}
    bench.target(
        f"peak memory of the host, share of the default's, shuffle {method}",
        medians["flagstone"] / medians["default"],
        0.7,
    )


def rechunk(client: Any, nbytes: int, method: str) -> None:
    import dask.array

    # Not dask.array.ones(): its chunks are one number each, which Dask sends as such.
    side = int((nbytes / 8) ** 0.5) // 16 * 16
    array = dask.array.map_blocks(
        filled,
        chunks=((side // 16,) * 16, (side,)),
        dtype=float,
        meta=np.empty((0, 0)),
    )
    columns = array.rechunk((side, side // 16), method=method)
    found = columns.sum(axis=0).compute(scheduler=client)
    assert float(found[0]) == side


def filled(block_info: Any = None) -> Any:
    """A chunk whose elements all lie in memory."""
    return np.ones(block_info[None]["chunk-shape"])


@contextlib.contextmanager
def peak(pids: list[int], arena: Any) -> Iterator[list[float]]:
    """The most memory that these processes and the arena had meanwhile, above what they began
    with.
    """
    most, over = [0.0], threading.Event()

    def now() -> float:
        return sum(map(private, pids)) + (0 if arena is None else arena.used)

    before = now()

    def look() -> None:
        while not over.wait(0.01):
            most[0] = max(most[0], now() - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def private(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) << 10
    return 0


def pid() -> int:
    import os

    return os.getpid()


def make(nbytes: int) -> Any:
    return np.ones(nbytes // 8)


def touch(array: Any) -> float:
    return float(array[0] + array[-1])
