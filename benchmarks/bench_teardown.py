"""End N groups, each with a cache's child of four objects, while others read and allocate."""

from __future__ import annotations

import gc
import pickle
import random
import resource
import time
from typing import Any

import flagstone
from benchmarks.harness import Bench, percentile
from benchmarks.peers import Peer, own_arena, stopped

ORDERS = ("oldest", "newest", "random")
OBJECTS = 4


def run(bench: Bench) -> None:
    counts = [200, 1000] if bench.settings.quick else [1000, 10_000]
    if bench.settings.full:
        counts.append(100_000)
    rows: list[list[Any]] = []
    for count in counts:
        repeats = 1 if count > 10_000 or bench.settings.quick else 3
        for order, held in [*((order, False) for order in ORDERS), ("random", True)]:
            runs = [tear_down(count, order, held) for _ in range(repeats)]
            runs.sort(key=lambda one: one["per_group"])
            rows.append(row(bench, count, order, held, runs[len(runs) // 2]))
    bench.table(
        "destroying N groups",
        [
            "N",
            "order",
            "objects",
            "destroy() median, us CPU",
            "99.9 %, us CPU",
            "median, us wall",
            "99.9 %, us wall",
            "all released, us a group",
            "after the last destroy(), ms",
            "grace periods",
            "batches",
            "voluntary switches",
            "make a group and its objects, us CPU",
            "the same, us wall",
            "third process 99.9 %, us CPU",
            "the same, nobody destroying",
        ],
        rows,
        note="Beside it, a process in read-side sections of 1 ms back to back, and one that"
        " allocates and drops in a group of its own. CPU is the thread's own time; a clock of that"
        " kind costs about 0.5 us a reading, and that is taken off. Of several runs, the one with"
        " the median time a group. Objects: four in each group, dropped before it ends (its slabs"
        " are empty then), or referred to by messages that nobody has taken.",
    )
    synchronous(bench)


def row(bench: Bench, count: int, order: str, held: bool, one: dict[str, Any]) -> list[Any]:
    what = f"{count:,} groups, {order}{' first' if order != 'random' else ''}"
    what += ", objects in flight" if held else ""
    bench.target(f"{what}: destroy() median, us", one["cpu_median"], 2)
    bench.target(f"{what}: destroy() 99.9 %, us", one["cpu_tail"], 50)
    bench.target(f"{what}: after the last destroy(), ms", one["tail_ms"], 20)
    if count >= 10_000:
        bench.target(f"{what}: all released, us a group", one["per_group"], 5)
    if count >= 100_000:
        bench.target(f"{what}: grace periods", one["grace_periods"], count / 100)
    if not held:
        bench.target(f"{what}: make a group and its first object, us CPU", one["make_cpu"], 10)
    bench.target(
        f"{what}: third process's 99.9 %, in that with nobody destroying",
        one["third_tail"] / one["third_idle"],
        3,
    )
    return [
        count,
        order,
        "in flight" if held else "dropped",
        one["cpu_median"],
        one["cpu_tail"],
        one["wall_median"],
        one["wall_tail"],
        one["per_group"],
        one["tail_ms"],
        one["grace_periods"],
        one["batches"],
        one["switches"],
        one["make_cpu"],
        one["make"],
        one["third_tail"],
        one["third_idle"],
    ]


def tear_down(count: int, order: str, held: bool) -> dict[str, Any]:
    """`held`: the objects are referred to by messages on their way, so that their end takes a
    batch; otherwise they were dropped before, and the group ends with empty slabs.
    """
    with own_arena("16GiB") as arena, Peer(_read, arena), Peer(_allocate, arena) as third:
        cache = arena.cache("object", size=64)
        third.ask("go")
        busy_until = time.perf_counter() + 0.2
        while time.perf_counter() < busy_until:
            pass
        third_idle = third.ask("stop")
        began, cpu_began = time.perf_counter(), time.thread_time()
        groups, messages = [], []
        for _ in range(count):
            group = arena.group()
            blocks = cache.alloc_many(OBJECTS, group)
            groups.append(group)
            if held:
                messages += [pickle.dumps(block) for block in blocks]
        del blocks
        make = (time.perf_counter() - began) / count * 1e6
        make_cpu = (time.thread_time() - cpu_began) / count * 1e6
        if order == "newest":
            groups.reverse()
        elif order == "random":
            random.Random(1).shuffle(groups)
        arena.barrier()
        before = arena.snapshot()
        third.ask("go")
        gc.collect()
        gc.disable()
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
        tickets = [group.destroy() for group in groups]  # the same again, for waiting
        pending = tickets[::-1]
        while pending:
            if pending[-1].done:
                pending.pop()
            else:
                time.sleep(0.0002)
        end = clock()
        gc.enable()
        third_tail = third.ask("stop")
        after = arena.snapshot()
        return {
            "cpu_median": percentile(cpu, 0.5) / 1e3,
            "cpu_tail": percentile(cpu, 0.999) / 1e3,
            "wall_median": percentile(wall, 0.5) / 1e3,
            "wall_tail": percentile(wall, 0.999) / 1e3,
            "per_group": (end - first) / count / 1e3,
            "tail_ms": (end - last) / 1e6,
            "grace_periods": after.grace_periods - before.grace_periods,
            "batches": after.batches - before.batches,
            "switches": switches,
            "make": make,
            "make_cpu": make_cpu,
            "third_tail": third_tail,
            "third_idle": third_idle,
        }


def _clock_cost() -> int:
    at = time.thread_time_ns()
    return time.thread_time_ns() - at


def _read(pipe: Any, arena: Any) -> None:
    while not stopped(pipe):
        with arena.read():
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass


def _allocate(pipe: Any, arena: Any) -> None:
    """Allocations in a group of its own: tells the 99.9th percentile, us of CPU, when stopped."""
    group = arena.group("third")
    alloc = arena.cache("third's", size=64).bind(group).alloc
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


def synchronous(bench: Bench) -> None:
    """What it would cost to wait for a grace period in each destroy, as it once was in the kernel:
    destroy() and then the ticket's wait(), one group after the other.
    """
    count = 20 if bench.settings.quick else 200
    with own_arena() as arena, Peer(_read, arena):
        cache = arena.cache("object", size=64)
        samples: dict[str, list[float]] = {"waiting for each": [], "not waiting": []}
        for name, wait in (("waiting for each", True), ("not waiting", False)):
            groups = [arena.group() for _ in range(count)]
            messages = [
                pickle.dumps(block)
                for group in groups
                for block in cache.alloc_many(OBJECTS, group)
            ]
            for group in groups:
                began = time.perf_counter()
                ticket: flagstone.Teardown = group.destroy()
                if wait:
                    ticket.wait()
                samples[name].append((time.perf_counter() - began) * 1e6)
            arena.barrier()
            messages.clear()
        found = bench.compared(
            "waiting for each group's end, or not",
            samples,
            base="not waiting",
            unit="us",
            note="A sample is one group.",
        )
    times = found.median("waiting for each") / found.median("not waiting")
    bench.target("waiting for each, times as long per destroy()", times, 100, least=True)
