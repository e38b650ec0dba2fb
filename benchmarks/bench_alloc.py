"""Allocate and drop a Block that nobody else has, from Python."""

from __future__ import annotations

import os
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from benchmarks.harness import Bench
from benchmarks.peers import Peer, empty_method, iceoryx2_publisher, own_arena, stopped

SIZES = {"64 B": 64, "4 KiB": 4096, "1 MiB": 1 << 20}
MIB = 1 << 20


def run(bench: Bench) -> None:
    with own_arena() as arena:
        floor_and_peers(bench, arena)
        written(bench, arena)
        many(bench, arena)
        cold(bench, arena)
        at_once(bench, arena)


def floor_and_peers(bench: Bench, arena: Any) -> None:
    variants = {"empty method": bench.statement("call()", call=empty_method(arena))}
    for text, size in SIZES.items():
        alloc = arena.cache(f"of {text}", size=size).bind().alloc
        variants[f"flagstone {text}"] = bench.statement("alloc()", alloc=alloc)
    variants["bytearray(4096)"] = bench.statement("bytearray(4096)")
    variants["numpy.empty(4096)"] = bench.statement("empty(4096, 'u1')", empty=np.empty)
    variants["SharedMemory 4 KiB"] = bench.timed(lambda: segments(4096, 20), 20)
    keep: Any = None
    with bench.peer("iceoryx2"):
        _, keep = iceoryx2_publisher(4096)
        loan = keep[-1].loan_slice_uninit
        variants["iceoryx2 4 KiB"] = bench.statement("loan(4096)", loan=loan)
    found = bench.compare(
        "allocate and drop",
        variants,
        base="empty method",
        note="One object, dropped at once; the loop's share is in every figure. SharedMemory:"
        " create, close, unlink. iceoryx2: loan and drop.",
    )
    for text in SIZES:
        ratio = found.ratio(f"flagstone {text}", "empty method")["median"]
        bench.target(f"{text} in empty methods", ratio, 2.2)
    ours = "flagstone 4 KiB"
    bench.target("in bytearray(4096)", found.ratio(ours, "bytearray(4096)")["median"], 1.0)
    times = found.ratio("SharedMemory 4 KiB", ours)["median"]
    bench.target("times as fast as SharedMemory", times, 300, least=True)
    if keep is not None:
        times = found.ratio("iceoryx2 4 KiB", ours)["median"]
        bench.target("times as fast as iceoryx2", times, 8, least=True)


def segments(size: int, count: int, write: bool = False) -> None:
    for _ in range(count):
        memory = SharedMemory(create=True, size=size)
        if write:
            np.frombuffer(memory.buf, "u1")[:] = 7
        memory.close()
        memory.unlink()


def written(bench: Bench, arena: Any) -> None:
    alloc = arena.cache("of 1 MiB", size=MIB).bind().alloc
    there = alloc()
    found = bench.compare(
        "1 MiB, every byte written",
        {
            "memory that is there": bench.statement("array.fill(7)", array=there.array),
            "flagstone": bench.statement("alloc().array.fill(7)", alloc=alloc),
            "SharedMemory": bench.timed(lambda: segments(MIB, 10, write=True), 10),
        },
        note="Allocate, fill, drop.",
    )
    ratio = found.ratio("flagstone", "memory that is there")["median"]
    bench.target("1 MiB written, in writes of memory that is there", ratio, 1.15)


def many(bench: Bench, arena: Any) -> None:
    alloc_many = arena.cache("of 64 B", size=64).bind().alloc_many
    rounds = 20
    times = [0.0, 0.0]

    def step() -> None:
        times[:] = [0.0, 0.0]
        for _ in range(rounds):
            began = time.perf_counter()
            blocks = alloc_many(1000)
            middle = time.perf_counter()
            del blocks
            times[0] += middle - began
            times[1] += time.perf_counter() - middle

    def allocate() -> float:
        step()
        return times[0] / rounds * 1e6

    def drop() -> float:
        step()
        return times[1] / rounds * 1e6

    found = bench.compare(
        "alloc_many(1000), for one object", {"allocate": allocate, "drop the list": drop}
    )
    bench.target("alloc_many, ns an object", found.median("allocate"), 40)
    bench.target("dropping them, ns an object", found.median("drop the list"), 30)


def cold(bench: Bench, arena: Any) -> None:
    """First touch of 1 MiB: beside the system's own price for the same pages."""
    file = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600)
    count = 16
    cache = arena.cache("cold", size=MIB)

    def plain() -> float:
        import mmap

        os.truncate(file, 0)
        os.truncate(file, count * MIB)
        took = 0.0
        with mmap.mmap(file, count * MIB) as memory:
            view = np.frombuffer(memory, "u1")
            for i in range(count):
                began = time.perf_counter()
                os.posix_fallocate(file, i * MIB, MIB)
                view[i * MIB : (i + 1) * MIB : 4096] = 1
                took += time.perf_counter() - began
            del view
        return took / count * 1e6

    def ours(touch_only_warm: bool = False) -> float:
        if not touch_only_warm:
            arena.barrier()
            arena.shrink()
        blocks, took = [], 0.0
        for _ in range(count):
            began = time.perf_counter()
            block = cache.alloc()
            block.array[::4096] = 1
            took += time.perf_counter() - began
            blocks.append(block)
        return took / count * 1e6

    found = bench.compare(
        "1 MiB, first touch of every page",
        {
            "fallocate and page faults": plain,
            "flagstone, cold": ours,
            "flagstone, warm": lambda: ours(True),
        },
        unit="us",
        note="Cold: after shrink(), so the memory comes from the system again.",
    )
    ratio = found.ratio("flagstone, cold", "fallocate and page faults")["median"]
    bench.target("cold 1 MiB, in fallocate and page faults", ratio, 1.05)
    os.close(file)


def at_once(bench: Bench, arena: Any) -> None:
    """The same in two processes at once, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        bench.skip("two processes at once", "only one core")
        return
    alloc = arena.cache("of 64 B", size=64).bind().alloc
    statements = {
        "alloc": bench.statement("alloc()", alloc=alloc),
        "empty": bench.statement("call()", call=empty_method(arena)),
    }
    os.sched_setaffinity(0, {cores[0]})
    try:
        with Peer(_rival, arena, cores[1]) as rival:

            def alone(what: str) -> float:
                return statements[what]()

            def together(what: str) -> float:
                rival.ask(what)
                sample = statements[what]()
                rival.ask("stop")
                return sample

            found = bench.compare(
                "64 B, two processes at once on two cores",
                {
                    "alone": lambda: alone("alloc"),
                    "two at once": lambda: together("alloc"),
                    "empty method, alone": lambda: alone("empty"),
                    "empty method, two at once": lambda: together("empty"),
                },
                note="The empty method shows what the machine itself loses with both cores busy.",
            )
    finally:
        os.sched_setaffinity(0, cores)
    ratio = found.ratio("two at once", "alone")["median"]
    bench.target("two processes at once, in one alone", ratio, 1.3)


def _rival(pipe: Any, arena: Any, core: int) -> None:
    os.sched_setaffinity(0, {core})
    alloc = arena.cache("of 64 B", size=64).bind().alloc
    calls = {"alloc": alloc, "empty": empty_method(arena)}
    while True:
        call = calls.get(pipe.recv()[0])
        pipe.send(True)
        while call is not None and not stopped(pipe):
            for _ in range(2000):
                call()
