"""End N groups, each with a cache's child of four objects, while others read and allocate."""

from __future__ import annotations

import contextlib
import gc
import pickle
import random
import resource
import statistics
import time
from typing import Any

import flagstone
from benchmarks.harness import Bench, percentile
from benchmarks.peers import Peer, own_arena, stopped
from flagstone import _core

ORDERS = ("oldest", "newest", "random")
OBJECTS = 4
ELSEWHERE = 100_000
"""References of another process, for one of the runs."""

COLUMNS = {
    "N": "count",
    "order": "order",
    "objects": "objects",
    "destroy() median, us CPU": "cpu_median",
    "99.9 %, us CPU": "cpu_tail",
    "median, us wall": "wall_median",
    "99.9 %, us wall": "wall_tail",
    "all released, us a group": "per_group",
    "after the last destroy(), ms": "tail_ms",
    "grace periods": "grace_periods",
    "batches": "batches",
    "voluntary switches": "switches",
    "make a group and its objects, us CPU": "make_cpu",
    "the same, us wall ": "make",
    "third process 99.9 %, us CPU": "third_tail",
    "the same, nobody destroying": "third_idle",
}


def run(bench: Bench) -> None:
    quick = bench.settings.quick
    counts = [200, 1000] if quick else [1000, 10_000, 100_000]
    if bench.settings.full:
        counts.append(500_000)
    rows = []
    for count in counts:
        plans = [(order, "dropped") for order in ORDERS]
        if count * OBJECTS <= 400_000:
            plans.append(("random", "in flight"))
        repeats = 3 if count <= 10_000 and not quick else 1
        for order, objects in plans:
            rows.append(several(bench, count, order, objects, repeats))
    largest = {row["order"]: row["per_group"] for row in rows if row["count"] >= 10_000}
    if len(largest) > 1:
        dropped = [
            r["per_group"] for r in rows if r["count"] >= 10_000 and r["objects"] == "dropped"
        ]
        bench.target(
            "slowest in fastest, us a group, of N and orders", max(dropped) / min(dropped), 1.5
        )
    if bench.settings.full:
        rows.append(several(bench, 1_000_000, "random", "dropped", 1))
    bench.table(
        "destroying N groups",
        list(COLUMNS),
        [[row[key] for key in COLUMNS.values()] for row in rows],
        note="Beside it, a process in read-side sections of 1 ms back to back, and one that"
        " allocates and drops in a group of its own. CPU is the thread's own time; a clock of that"
        " kind costs about 0.5 us a reading, and that is taken off. Of several runs, the one with"
        " the median time a group. Objects: four in each group, dropped before it ends (its slabs"
        " are empty then), or referred to by messages that nobody has taken.",
    )
    bench.series(
        "released, by number of groups",
        "N",
        "us a group",
        {
            order: [
                (row["count"], row["per_group"])
                for row in rows
                if (row["order"], row["objects"]) == (order, "dropped")
                and row["count"] <= counts[-1]
            ]
            for order in ORDERS
        },
    )
    holds(bench, [200] if quick else counts[1:])
    elsewhere(bench, 200 if quick else 10_000)
    making(bench, 500 if quick else 20_000)
    memory(bench, 200 if quick else 10_000)
    rounds(bench, *((5, 100) if quick else (200, 5000)))
    synchronous(bench, 20 if quick else 200)


def several(bench: Bench, count: int, order: str, objects: str, repeats: int) -> dict[str, Any]:
    """The run with the median time a group."""
    runs = sorted(
        (tear_down(count, order, objects == "in flight") for _ in range(repeats)),
        key=lambda one: one["per_group"],
    )
    one = {"count": count, "order": order, "objects": objects, **runs[len(runs) // 2]}
    what = f"{count:,} groups, {order}{' first' if order != 'random' else ''}"
    what += ", objects in flight" if objects == "in flight" else ""
    bench.target(f"{what}: destroy() median, us", one["cpu_median"], 2)
    bench.target(f"{what}: destroy() 99.9 %, us", one["cpu_tail"], 50)
    bench.target(f"{what}: voluntary switches in destroy()", one["switches"], 0)
    bench.target(f"{what}: after the last destroy(), ms", one["tail_ms"], 20)
    if count >= 10_000:
        bench.target(f"{what}: all released, us a group", one["per_group"], 5)
    if count >= 100_000:
        bench.target(f"{what}: grace periods", one["grace_periods"], count / 100)
    if objects == "dropped":
        bench.target(f"{what}: make a group and its objects, us CPU", one["make_cpu"], 10)
    ratio = one["third_tail"] / one["third_idle"]
    bench.target(f"{what}: third process's 99.9 %, in that with nobody destroying", ratio, 3)
    return one


def tear_down(count: int, order: str, in_flight: bool, timed_locks: bool = False) -> dict[str, Any]:
    """`timed_locks`: look how long each shared lock is held, which doubles the time of it all.
    `in_flight`: the objects are referred to by messages on their way, so that their end takes a
    batch; otherwise they were dropped before, and the group ends with empty slabs.
    """
    with own_arena("16GiB") as arena, Peer(_read, arena), Peer(_allocate, arena) as third:
        cache = arena.cache("object", size=64)
        third.ask("go")
        _busy(0.5)
        third_idle = third.ask("stop")
        began, cpu_began = time.perf_counter(), time.thread_time()
        groups, messages = [], []
        for _ in range(count):
            group = arena.group()
            blocks = cache.alloc_many(OBJECTS, group)
            groups.append(group)
            if in_flight:
                messages += [pickle.dumps(block) for block in blocks]
        del blocks
        make = (time.perf_counter() - began) / count * 1e6
        make_cpu = (time.thread_time() - cpu_began) / count * 1e6
        _shuffle(groups, order)
        arena.barrier()
        grace, batches = _counters(arena)
        third.ask("go")
        gc.collect()
        gc.disable()
        _core.lock_sample(1 if timed_locks else 256)
        clock, cpu_clock = time.perf_counter_ns, time.thread_time_ns
        cost = min(_clock_cost() for _ in range(20))
        wall, cpu = [0] * count, [0] * count
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        first = clock()
        for i, group in enumerate(groups):
            at, cpu_at = clock(), cpu_clock()
            group.destroy()
            cpu[i] = cpu_clock() - cpu_at - cost
            wall[i] = clock() - at
        last = clock()
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - switches
        end = _until_released(arena, groups)
        _core.lock_sample(256)
        gc.enable()
        third_tail = third.ask("stop")
        grace_after, batches_after = _counters(arena)
        hold, hold_cpu = _holds(arena)
        return {
            "cpu_median": percentile(cpu, 0.5) / 1e3,
            "cpu_tail": percentile(cpu, 0.999) / 1e3,
            "wall_median": percentile(wall, 0.5) / 1e3,
            "wall_tail": percentile(wall, 0.999) / 1e3,
            "per_group": (end - first) / count / 1e3,
            "tail_ms": (end - last) / 1e6,
            "grace_periods": grace_after - grace,
            "batches": batches_after - batches,
            "switches": switches,
            "hold_wall": hold,
            "hold_cpu": hold_cpu,
            "make": make,
            "make_cpu": make_cpu,
            "third_tail": third_tail,
            "third_idle": third_idle,
        }


def _counters(arena: flagstone.Arena) -> tuple[int, int]:
    info = arena._link.attachment.info()  # a snapshot looks at every group
    return info["grace_periods"], info["batches"]


def _holds(arena: flagstone.Arena) -> tuple[float, float]:
    """The longest hold of a shared lock, us of wall and of CPU time."""
    info = arena._link.attachment.info()
    return info["hold_wall_ns"] / 1e3, info["hold_cpu_ns"] / 1e3


def _shuffle(groups: list[flagstone.Group], order: str) -> None:
    if order == "newest":
        groups.reverse()
    elif order == "random":
        random.Random(1).shuffle(groups)


def _until_released(arena: flagstone.Arena, groups: list[flagstone.Group]) -> int:
    """Look until all are released, without helping; when that was, ns. Asking 100,000 tickets takes
    longer than what is measured, so they are asked when no batch runs and nothing waits for one.
    """
    attachment = arena._link.attachment
    while True:
        info = attachment.info()
        if not info["groups_waiting"] and not info["batch_pid"]:
            end = time.perf_counter_ns()
            if all(group.destroy().done for group in groups):  # the same again: their tickets
                return end
        time.sleep(0.0002)


def _busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _clock_cost() -> int:
    at = time.thread_time_ns()
    return time.thread_time_ns() - at


def _read(pipe: Any, arena: Any) -> None:
    while not stopped(pipe):
        with arena.read():
            _busy(0.001)


def _allocate(pipe: Any, arena: Any) -> None:
    """Allocations in a group of its own: tells the 99.9th percentile, us of CPU, when stopped."""
    group = arena.group("third")
    alloc = arena.cache("third's", size=64, merge=False).bind(group).alloc
    while True:
        pipe.recv()
        pipe.send(True)
        samples: list[int] = []
        while not stopped(pipe):
            for _ in range(200):
                at = time.thread_time_ns()
                alloc()
                samples.append(time.thread_time_ns() - at)
            del samples[: max(0, len(samples) - 2_000_000)]
        pipe.recv()
        pipe.send(percentile(samples, 0.999) / 1e3)


def holds(bench: Bench, counts: list[int]) -> None:
    """How long the locks that everybody needs are held."""
    rows = []
    for count in counts:
        one = tear_down(count, "random", False, timed_locks=True)
        rows.append([count, one["hold_cpu"], one["hold_wall"]])
        bench.target(f"{count:,} groups: longest hold of a lock, ms CPU", one["hold_cpu"] / 1e3, 1)
    bench.table(
        "longest hold of a shared lock while N groups are destroyed",
        ["N", "us CPU", "us wall"],
        rows,
        note="Every acquisition by the destroying process and its reaper thread is timed. Four busy"
        " threads on two cores: whoever holds a lock is sometimes off its core, in wall time.",
    )


def _hold(pipe: Any, arena: Any, count: int) -> None:
    """So many references to shared objects, until told."""
    blocks = arena.cache("held", size=64, merge=False).alloc_many(count)
    for block in blocks:
        pickle.dumps(block)  # known to others, from now on
    arena.drop_in_flight()
    pipe.recv()
    pipe.send(True)
    with contextlib.suppress(EOFError):
        pipe.recv()
    del blocks


def elsewhere(bench: Bench, count: int) -> None:
    """What references that have nothing to do with it cost the batches."""
    rounds = 1 if bench.settings.quick else 5
    samples: dict[str, list[float]] = {"alone": [], "beside references": []}
    for _ in range(rounds):
        for name in samples:
            with own_arena("4GiB") as arena:
                peer = Peer(_hold, arena, ELSEWHERE) if name != "alone" else None
                if peer is not None:
                    peer.ask("ready")
                cache = arena.cache("object", size=64)
                groups = []
                for _ in range(count):
                    group = arena.group()
                    for block in cache.alloc_many(OBJECTS, group):
                        pickle.dumps(block)
                    groups.append(group)
                del block
                arena.barrier()
                began = time.perf_counter_ns()
                for group in groups:
                    group.destroy()
                samples[name].append((_until_released(arena, groups) - began) / count / 1e3)
                if peer is not None:
                    peer.end()
    found = bench.compared(
        f"{ELSEWHERE:,} references of another process",
        samples,
        base="alone",
        unit="us a group",
        note=f"{count:,} groups, objects in flight, nobody reading.",
    )
    ratio = found.ratio("beside references", "alone")["median"]
    bench.target("beside 100,000 references, in the time without", ratio, 2)


def making(bench: Bench, count: int) -> None:
    """A group and its first object: memory that was never touched, and memory that was."""
    samples: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(1 if bench.settings.quick else bench.settings.rounds):
        with own_arena("4GiB") as arena:
            cache = arena.cache("object", size=64)
            for name in samples:
                groups = []
                began = time.perf_counter()
                for _ in range(count):
                    group = arena.group()
                    cache.alloc(group)
                    groups.append(group)
                samples[name].append((time.perf_counter() - began) / count * 1e6)
                for group in groups:
                    group.destroy()
                del groups, group
                arena.barrier()
    found = bench.compared("making a group and its first object", samples, base="warm", unit="us")
    bench.target("a group and its first object, cold, us", found.median("cold"), 10)
    bench.target("a group and its first object, warm, us", found.median("warm"), 2)


def memory(bench: Bench, count: int) -> None:
    """What a group costs whose cache is deactivated, and what is left of it at the end."""
    with own_arena() as arena:
        cache = arena.cache("object", size=64)
        arena.barrier()
        control = arena.snapshot().control
        groups, blocks = [], []
        for _ in range(count):
            group = arena.group()
            blocks.append(cache.alloc(group))
            group.close()
            groups.append(group)
        arena.barrier()
        one = (arena.snapshot().control - control) / count
        blocks.clear()
        groups.clear()
        del group
        arena.barrier()
        left = arena.snapshot()
        used, alive = left.used, len(left.groups) - 1
        again = left.control
        for _ in range(count):
            with arena.group() as group:
                cache.alloc(group)
        arena.barrier()
        growth = arena.snapshot().control - again
    bench.table(
        "memory of groups",
        ["metadata of a group with one deactivated child, bytes", "bytes used after all are gone"],
        [[one, used]],
        note="Metadata is descriptors in tables, which are used again and not given back: as many"
        f" groups again took {growth} bytes more.",
    )
    bench.target("metadata of a group with one deactivated child, bytes", one, 1024)
    bench.target("bytes used, groups left, growth of metadata after it", used + alive + growth, 0)


def rounds(bench: Bench, number: int, count: int) -> None:
    """Whether anything grows."""
    used, control = [], []
    with own_arena() as arena:
        cache = arena.cache("object", size=64)
        for _ in range(number):
            groups = [arena.group() for _ in range(count)]
            for group in groups:
                cache.alloc_many(OBJECTS, group)
            for group in groups:
                group.destroy()
            del groups, group
            arena.barrier()
            info = arena._link.attachment.info()
            used.append(info["used"])
            control.append(info["control"])
    # The first rounds find out how much of the tables is ever used at once.
    settled = number // 10
    slopes = [
        statistics.linear_regression(range(number - settled), values[settled:]).slope
        for values in (used, control)
    ]
    bench.table(
        f"{number} rounds of {count:,} groups",
        ["bytes used, slope a round", "bytes of metadata, slope a round", "at the end"],
        [[*slopes, control[-1]]],
    )
    bench.target("slope of bytes used and of metadata over the rounds", max(map(abs, slopes)), 0)


def synchronous(bench: Bench, count: int) -> None:
    """The way of before Linux 4.11: a grace period for each cache, in the caller, under a lock."""
    with own_arena() as arena, Peer(_read, arena):
        cache = arena.cache("object", size=64)
        _busy(0.3)  # until the reader reads
        samples: dict[str, list[float]] = {"synchronous": [], "batched": []}
        graces = {}
        for name in samples:
            arena._link.attachment.destroy_synchronously(name == "synchronous")
            groups = [arena.group() for _ in range(count)]
            for group in groups:
                cache.alloc_many(OBJECTS, group)
            grace = _counters(arena)[0]
            for group in groups:
                began = time.perf_counter()
                group.destroy()
                samples[name].append((time.perf_counter() - began) * 1e6)
            graces[name] = _counters(arena)[0] - grace
        arena._link.attachment.destroy_synchronously(False)
    found = bench.compared(
        "destroying synchronously, and in batches",
        samples,
        base="batched",
        unit="us",
        note=f"A sample is one group of {count}, beside a process in sections of 1 ms. Grace"
        f" periods: {graces['synchronous']} and {graces['batched']}.",
    )
    times = found.median("synchronous") / found.median("batched")
    bench.target("synchronous, times as long per destroy()", times, 100, least=True)
    per_group = graces["synchronous"] / count
    bench.target("synchronous, grace periods a group", per_group, 1, least=True)
