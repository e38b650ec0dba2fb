"""What the arena takes beside the objects."""

from __future__ import annotations

import logging
import os
from typing import Any

from benchmarks.harness import Bench
from benchmarks.peers import Peer, own_arena

PER_PROCESS = 900_000  # a process's table has room for a million references


def run(bench: Bench) -> None:
    live = (16 if bench.settings.quick else 256) << 20
    rows: list[list[Any]] = []
    for size in (64, 256, 1024, 4096, 65536, 1 << 20):
        used, metadata, before = fill(size, live)
        asked = live // size * size
        share = (metadata - before) / asked
        rows.append(
            [
                size,
                live // size,
                used / asked - 1,
                share,
                (metadata - before) / (live // size),
                before,
            ]
        )
        bound = 0.30 if size == 64 else 0.02
        if size == 64 or size >= 4096:
            bench.target(f"metadata for objects of {size:,} bytes, share", share, bound)
    bench.table(
        "metadata",
        [
            "object, bytes",
            "objects",
            "slabs' waste, share",
            "metadata, share",
            "metadata, bytes each",
            "of an empty arena, bytes",
        ],
        rows,
        note=f"{live >> 20} MiB live, each object held once. Metadata: descriptors, words, tables,"
        " the holder's references; what an arena has before its first object stands apart.",
    )
    leftovers(bench)


def fill(size: int, live: int) -> tuple[int, int, int]:
    """Bytes used, metadata when full, metadata when empty."""
    count = live // size
    with own_arena("4GiB") as arena:
        before = arena.snapshot().control
        holders = []
        while count > 0:
            holder = Peer(_hold, arena, size, min(count, PER_PROCESS))
            holder.ask("fill")
            holders.append(holder)
            count -= PER_PROCESS
        picture = arena.snapshot()
        for holder in holders:
            holder.end()
        return picture.used, picture.control, before


def _hold(pipe: Any, arena: Any, size: int, count: int) -> None:
    blocks = []
    pipe.recv()
    cache = arena.cache("object", size=size)
    while count > 0:
        blocks.append(cache.alloc_many(min(count, 10_000)))
        count -= 10_000
    pipe.send(True)
    pipe.recv()


def leftovers(bench: Bench) -> None:
    """What dead processes and ended groups leave: metadata before and after."""
    count = 200 if bench.settings.quick else 10_000
    logging.getLogger("flagstone").setLevel(logging.ERROR)  # of those that died
    with own_arena() as arena:
        cache = arena.cache("object", size=64)

        def groups(count: int) -> None:
            for number in range(count):
                with arena.group() as group:
                    cache.alloc(group)
                if number % 100 == 0:  # how far the reaper lags behind is another matter
                    arena.barrier()

        def processes(count: int) -> None:
            for _ in range(count):
                pid = os.fork()
                if pid == 0:
                    blocks = cache.alloc_many(20)
                    os.kill(os.getpid(), 9)
                    blocks.clear()
                os.waitpid(pid, 0)
            arena.barrier()

        rows: list[list[Any]] = []
        for what, doing in (
            (f"{count:,} groups", groups),
            (f"{count:,} killed processes", processes),
        ):
            doing(count // 10)  # what stays for the next ones, tables that grew, is no leftover
            settle(arena)
            before = arena.snapshot()
            doing(count)
            settle(arena)
            after = arena.snapshot()
            rows.append([what, after.used - before.used, after.control - before.control])
            bench.target(f"left by {what}, bytes of metadata", after.control - before.control, 0)
    bench.table("what is left afterwards, bytes", ["of", "used", "metadata"], rows)


def settle(arena: Any) -> None:
    arena.barrier()
    arena.shrink()
