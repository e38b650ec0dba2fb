"""A table's way to another process: put into an arena, beside its pickle and a file in /dev/shm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import flagstone
from benchmarks.harness import Bench, Measure
from benchmarks.peers import own_name

spawn = multiprocessing.get_context("spawn")

MIB = 1 << 20


def run(bench: Bench) -> None:
    try:
        import pyarrow as pa
    except ImportError as error:
        bench.skip("tables", str(error))
        return
    rows = 100_000 if bench.settings.quick else 1_000_000
    table = make(pa, rows)
    note = (
        f"{table.nbytes / MIB:.0f} MiB, one column of three strings. Time until another process has"
        " the table, and has added a column and read the last string: many in a row."
    )
    with flagstone.open(own_name(), capacity="4GiB") as arena, consumer() as send:
        kept = arena.put(table)
        samples = bench.compare(
            "a pyarrow table through a queue",
            {
                "put": lambda: send(lambda: ("block", arena.put(table))),
                "sent again": lambda: send(lambda: ("block", kept)),
                "pickled": lambda: send(lambda: ("value", table)),
                "file in /dev/shm": lambda: send(lambda: ("file", written(pa, table))),
            },
            base="put",
            unit="us",
            note=note,
        )
        ratio = samples.ratio("pickled", "put")["median"]
        bench.target("times as fast as the pickled table", ratio, 20, least=True)
        for name, frame in frames(bench, table):
            block = arena.put(frame)
            bench.compare(
                f"a {name} frame through a queue",
                variants(send, arena, frame, block, name),
                base="put",
                unit="us",
                note=note,
            )


def make(pa: Any, rows: int) -> Any:
    return pa.table(
        {
            "number": np.arange(rows),
            "real": np.linspace(0, 1, rows),
            "text": pa.array([f"row {n}" for n in range(rows)], pa.large_string()),
        }
    )


def frames(bench: Bench, table: Any) -> Iterator[tuple[str, Any]]:
    with bench.peer("polars"):
        import polars

        yield "polars", polars.DataFrame(table)
    with bench.peer("pandas"):
        import pandas  # noqa: F401

        yield "pandas", table.to_pandas()


def variants(
    send: Callable[[Callable[[], Any]], float],
    arena: flagstone.Arena,
    frame: Any,
    block: flagstone.Block,
    name: str,
) -> dict[str, Measure]:
    return {
        "put": lambda: send(lambda: (name, arena.put(frame))),
        "sent again": lambda: send(lambda: (name, block)),
        "pickled": lambda: send(lambda: ("value", frame)),
    }


def written(pa: Any, table: Any) -> str:
    """What people do without shared memory: a file of Arrow's, to be mapped."""
    path = f"/dev/shm/flagstone-bench-{os.getpid()}.arrow"
    with pa.OSFile(path, "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return path


def touch(value: Any) -> float:
    """Read a column and a string, as any table of these gives them."""
    text = value["text"]
    last = text[len(text) - 1]
    return float(np.asarray(value["number"])[-1]) + len(str(last))


def received(kind: str, value: Any) -> Any:
    import pyarrow as pa

    if kind == "block":
        return value.table
    if kind == "polars":
        import polars

        return polars.DataFrame(value)
    if kind == "pandas":
        return value.table.to_pandas()
    if kind == "file":
        with pa.memory_map(value) as source:
            return pa.ipc.open_file(source).read_all()
    return value


def consume(inbox: Any, outbox: Any) -> None:
    while (message := inbox.get()) is not None:
        kind, value = message
        touch(received(kind, value))
        if kind == "file":
            os.unlink(value)
        del message, value
        outbox.put(kind)


@contextlib.contextmanager
def consumer() -> Iterator[Callable[[Callable[[], Any]], float]]:
    inbox, outbox = spawn.SimpleQueue(), spawn.SimpleQueue()
    process = spawn.Process(target=consume, args=(inbox, outbox))
    process.start()

    def send(make_message: Callable[[], Any]) -> float:
        count = 5
        began = time.perf_counter()
        for _ in range(count):
            inbox.put(make_message())
            outbox.get()
        return (time.perf_counter() - began) / count * 1e6

    try:
        yield send
    finally:
        inbox.put(None)
        process.join()
