"""Look up an object of another process by a handle, and drop it."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from typing import Any

import flagstone
from benchmarks.harness import Bench
from benchmarks.peers import Peer, own_arena, stopped

COUNT = 16_000
SIZE = 1024


def run(bench: Bench) -> None:
    with own_arena() as arena, Peer(_owner, arena) as owner:
        data = owner.ask("make", COUNT)
        handles = [flagstone.Handle(data[i : i + 16]) for i in range(0, len(data), 16)]
        random.Random(1).shuffle(handles)
        variants = {
            "flagstone, one object": bench.statement("get(h)", get=arena.get, h=handles[0]),
            "flagstone, 16,000 in turn": per_item(bench, arena.get, handles),
        }
        environment: Any = None
        with bench.peer("LMDB"):
            environment = Lmdb()
            keys = [handle.__bytes__() for handle in handles]
            environment.fill(keys)
            get = environment.transaction.get
            variants["LMDB, one key"] = bench.statement("get(k)", get=get, k=keys[0])
            variants["LMDB, 16,000 in turn"] = per_item(bench, get, keys)
        found = bench.compare(
            "resolve and drop",
            variants,
            note="1 KiB objects of another process. LMDB: look up in a read transaction held open,"
            " the value as a buffer without copying.",
        )
        bench.target("one object, ns", found.median("flagstone, one object"), 250)
        bench.target("16,000 objects, ns", found.median("flagstone, 16,000 in turn"), 250)
        sustained(bench, arena, handles)
        if environment is not None:
            environment.close()


def per_item(bench: Bench, get: Any, items: list[Any]) -> Any:
    one_pass = bench.statement("for i in items: get(i)", get=get, items=items)
    return lambda: one_pass() / len(items)


class Lmdb:
    def __init__(self) -> None:
        import lmdb

        self.folder = tempfile.mkdtemp(dir="/dev/shm")
        self.environment = lmdb.open(self.folder, map_size=256 << 20, readahead=False)
        self.transaction = None

    def fill(self, keys: list[bytes]) -> None:
        with self.environment.begin(write=True) as transaction:
            for key in keys:
                transaction.put(key, bytes(SIZE))
        self.transaction = self.environment.begin(buffers=True)

    def close(self) -> None:
        if self.transaction is not None:
            self.transaction.abort()
        self.environment.close()
        shutil.rmtree(self.folder)


def sustained(bench: Bench, arena: Any, handles: list[Any]) -> None:
    """For seconds on end, with the batches that the drops cause: in one process, in two."""
    seconds = 0.5 if bench.settings.quick else 10.0
    rows: list[list[Any]] = []
    one = handles[:1]
    with Peer(_looker, arena, one) as other:
        for what, items, rival in (
            ("one object", one, False),
            ("one object, a second process too", one, True),
            ("16,000 objects", handles, False),
        ):
            if rival:
                other.ask("go")
            before = arena.snapshot()
            count, took = look_up(arena, items, seconds)
            after = arena.snapshot()
            if rival:
                other.ask("stop")
            batches = after.batches - before.batches
            rows.append([what, took / count * 1e9, batches, count // max(1, batches)])
            bench.target(f"sustained, {what}, ns", took / count * 1e9, 250)
    bench.table(
        f"resolve and drop for {seconds:g} seconds",
        ["what", "ns each", "batches", "drops a batch"],
        rows,
    )


def look_up(arena: Any, items: list[Any], seconds: float) -> tuple[int, float]:
    get, count = arena.get, 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for item in items * max(1, 1000 // len(items)):
            get(item)
        count += max(len(items), len(items) * (1000 // len(items)))
    return count, took


def _looker(pipe: Any, arena: Any, items: list[Any]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    while True:
        word = pipe.recv()[0]
        pipe.send(True)
        while word == "go" and not stopped(pipe):
            look_up(arena, items, 0.001)


def _owner(pipe: Any, arena: Any) -> None:
    cache = arena.cache("record", size=SIZE)
    _, count = pipe.recv()
    blocks = cache.alloc_many(count)
    pipe.send(b"".join(bytes(block.handle) for block in blocks))
    pipe.recv()
