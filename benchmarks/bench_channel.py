"""Small messages between processes: what one costs, and how many SIGKILLs a transport survives."""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import random
import signal
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import flagstone
from benchmarks import transports
from benchmarks.bench_handover import check, consumer, measure, ring
from benchmarks.harness import Bench, Measure
from benchmarks.peers import own_arena, without_leftovers
from benchmarks.transports import Transport, fork

MESSAGE = bytes(range(24))
WORDS = (1 << 20) // 8
KILLS = 60
PATIENCE = 3.0  # seconds without progress: it stalls
PROCESSORS = sorted(os.sched_getaffinity(0))

POLLS = ("iceoryx2",)  # keeps the processor that the other one needs

Make = Callable[[], Transport]


def run(bench: Bench) -> None:
    alone(bench)
    with own_arena("256MiB") as arena, without_leftovers("iox2_*"):
        makers: dict[str, Make] = {
            "flagstone channel": lambda: transports.Channel(arena),
            "flagstone topic": lambda: transports.Topic(arena),
            "multiprocessing.Queue": transports.Queue,
            "multiprocessing.SimpleQueue": transports.SimpleQueue,
            "multiprocessing.Pipe": transports.Pipe,
            "faster-fifo": transports.FasterFifo,
            "pyzmq": transports.Zmq,
            "posix_ipc message queue": transports.PosixQueue,
            "iceoryx2": transports.Iceoryx2,
        }
        bench.skip("cloudtoid-interprocess", "a library for C# and C++, which pip does not have")
        for name in list(makers):
            with bench.peer(name):
                makers[name]().close()
                continue
            del makers[name]
        one_way(bench, makers)
        round_trips(bench, makers)
        large(bench, arena)
        kept: dict[str, Make] = {
            **makers,
            "flagstone store": lambda: transports.Store(arena),
            "LMDB": transports.Lmdb,
            "Manager().dict()": transports.ManagerDict,
        }
        killed(bench, kept)


# ---- in one process, where nobody waits


def alone(bench: Bench) -> None:
    with flagstone.open(None, capacity="64MiB") as arena:
        channel, topic, simple = arena.channel(), arena.topic("topic"), queue.SimpleQueue()
        subscription = topic.subscribe(slow="drop")
        hundred = [MESSAGE] * 100
        many = bench.statement(
            "put(items); get(100)", put=channel.put_many, get=channel.get_many, items=hundred
        )
        pair = "put(item); get()"
        found = bench.compare(
            "put and get of 24 bytes in one process",
            {
                "channel": bench.statement(pair, put=channel.put, get=channel.get, item=MESSAGE),
                "channel, 100 at a time": lambda: many() / 100,
                "topic": bench.statement(
                    pair, put=topic.publish, get=subscription.get, item=MESSAGE
                ),
                "queue.SimpleQueue": bench.statement(
                    pair, put=simple.put, get=simple.get, item=MESSAGE
                ),
                "two empty calls": bench.statement("put(); get()", put=dict, get=tuple),
            },
            note="Nobody waits. queue.SimpleQueue is for the threads of one process, and copies"
            " nothing.",
        )
    bench.target("put and get, ns", found.median("channel"), 90)
    bench.target("batched, ns", found.median("channel, 100 at a time"), 60)
    bound = found.median("queue.SimpleQueue") + 40
    bench.target("put and get, with queue.SimpleQueue plus 40", found.median("channel"), bound)


# ---- between two


def one_way(bench: Bench, makers: dict[str, Make]) -> None:
    count = 500 if bench.settings.quick else 10_000
    with contextlib.ExitStack() as stack:
        variants: dict[str, Measure] = {}
        for name, make in makers.items():
            with bench.peer(name):
                send = stack.enter_context(sender(make()))
                variants[name] = measure_ns(send, count)
                variants[name]()
        found = bench.compare(
            "24 bytes to another process",
            variants,
            base="flagstone channel",
            note=f"Time for one message, {count:,} in a row, from the first put to the last get."
            " iceoryx2 polls, the others sleep.",
        )
    for name, bound in (("multiprocessing.Queue", 20), ("faster-fifo", 10)):
        if name in variants:
            ratio = found.ratio(name, "flagstone channel")["median"]
            bench.target(f"times as fast as {name}", ratio, bound, least=True)


def measure_ns(send: Callable[[int], None], count: int) -> Measure:
    sample = measure(send, count)
    return lambda: sample() * 1e3


@contextlib.contextmanager
def sender(transport: Transport) -> Iterator[Callable[[int], None]]:
    connected: list[bool] = []

    def take(count: int) -> None:
        if not connected:
            transport.connect(True)
            connected.append(True)
        for _ in range(count):
            transport.get()

    try:
        with consumer(take) as pipe:
            pipe.send(0)
            pipe.recv()
            transport.connect(False)

            def send(count: int) -> None:
                pipe.send(count)
                put = transport.put
                for _ in range(count):
                    put(MESSAGE)
                pipe.recv()

            yield send
    finally:
        transport.close()


def round_trips(bench: Bench, makers: dict[str, Make]) -> None:
    # To wake a processor that sleeps takes longer than all else, so where the two processes are
    # decides: each pair is told.
    for where, answers in (("two processors", PROCESSORS[-1]), ("one processor", PROCESSORS[0])):
        os.sched_setaffinity(0, {PROCESSORS[0]})
        asked = {
            name: make
            for name, make in makers.items()
            if answers != PROCESSORS[0] or name not in POLLS
        }
        try:
            question_and_answer(bench, asked, where, answers)
        finally:
            os.sched_setaffinity(0, PROCESSORS)


def question_and_answer(bench: Bench, makers: dict[str, Make], where: str, answers: int) -> None:
    count = 50 if bench.settings.quick else 1000
    with contextlib.ExitStack() as stack:
        variants: dict[str, Measure] = {}
        for name, make in makers.items():
            with bench.peer(name):
                trip = stack.enter_context(asker(make(), make(), answers))
                variants[name] = measure(trip, count)
                variants[name]()
        found = bench.compare(
            f"a question and its answer, on {where}",
            variants,
            base="multiprocessing.Pipe",
            unit="us",
            note="24 bytes there and back, each side asleep while the other one works; iceoryx2"
            " polls.",
        )
    ratio = found.ratio("flagstone channel", "multiprocessing.Pipe")["median"]
    bench.target(f"round trip on {where}, in those of multiprocessing.Pipe", ratio, 1.1)


@contextlib.contextmanager
def asker(there: Transport, back: Transport, answers: int) -> Iterator[Callable[[int], None]]:
    """Ask a process on the processor `answers`."""
    connected: list[bool] = []

    def answer(count: int) -> None:
        if not connected:
            os.sched_setaffinity(0, {answers})
            there.connect(True)
            back.connect(False)
            connected.append(True)
        for _ in range(count):
            back.put(there.get())

    try:
        with consumer(answer) as pipe:
            pipe.send(0)
            pipe.recv()
            there.connect(False)
            back.connect(True)

            def ask(count: int) -> None:
                pipe.send(count)
                for _ in range(count):
                    there.put(MESSAGE)
                    back.get()
                pipe.recv()

            yield ask
    finally:
        there.close()
        back.close()


def large(bench: Bench, arena: Any) -> None:
    count = 40 if bench.settings.quick else 400
    base = "ring of 8 SharedMemory blocks"
    with contextlib.ExitStack() as stack:
        variants = {
            base: measure(stack.enter_context(ring()), count),
            "flagstone channel": measure(stack.enter_context(through_channel(arena)), count),
        }
        found = bench.compare(
            "1 MiB handed over",
            variants,
            base=base,
            unit="us",
            rounds=None if bench.settings.quick else max(15, bench.settings.rounds),
            note="Filled, sent, summed and checked. The ring is written by hand for this: two"
            " semaphores, nothing else.",
        )
    ratio = found.ratio("flagstone channel", base)["median"]
    bench.target("1 MiB, in the hand-written ring", ratio, 1.0)


@contextlib.contextmanager
def through_channel(arena: Any) -> Iterator[Callable[[int], None]]:
    cache = arena.cache("message", shape=WORDS, dtype="u8")
    alloc = cache.bind().alloc
    channel = arena.channel(capacity=8)

    def take(count: int) -> None:
        for number in range(count):
            check(channel.get().array, number)

    with channel, consumer(take) as pipe:

        def send(count: int) -> None:
            pipe.send(count)
            for number in range(count):
                block = alloc()
                block.array.fill(number)
                channel.put(block)
            pipe.recv()

        yield send


# ---- killed


def killed(bench: Bench, makers: dict[str, Make]) -> None:
    kills = 5 if bench.settings.quick else KILLS
    rows: list[list[Any]] = []
    for name, make in makers.items():
        row: list[Any] = [name]
        for taker in (True, False):
            with bench.peer(f"{name}, killed"):
                survived, why = kills_until_stall(make(), taker, kills)
                row.append(f"none in {kills}" if survived == kills else f"{survived + 1} ({why})")
        rows.append(row)
    bench.table(
        "SIGKILLs until it stalls",
        ["transport", "of a consumer", "of a producer"],
        rows,
        note="One producer, one consumer; one of the two is killed at a random moment while it"
        " works, and another one takes its place. It stalls when nothing arrives any more for"
        f" {PATIENCE:g} s, and fails when what arrives is torn, or the new one gets an error.",
    )
    for row in rows:
        if row[0].startswith("flagstone"):
            stalls = sum(not cell.startswith("none") for cell in row[1:])
            bench.target(f"{row[0]}: kills that stall it", stalls, 0)


class Counters:
    """How many messages each role has put or taken, and whether a process failed: shared memory."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("<Q", self.map, index * 8)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("<Q", self.map, index * 8, value)


TAKEN, PUT, FAILED = 0, 1, 2


def worker(transport: Transport, taker: bool, counters: Counters) -> Any:
    def work() -> None:
        # What it says of its end would be in the way of the report.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            transport.connect(taker)
            while True:
                if taker:
                    if transport.get() not in (MESSAGE, bytes(24)):
                        raise ValueError("torn")
                    counters[TAKEN] += 1
                else:
                    transport.put(MESSAGE)
                    counters[PUT] += 1
        except BaseException:
            counters[FAILED] = 1
            os._exit(1)

    process = fork.Process(target=work)
    process.start()
    return process


def advances(counters: Counters, role: int) -> bool:
    """Whether this role gets on, before the patience is over."""
    before, until = counters[role], time.monotonic() + PATIENCE
    while time.monotonic() < until and not counters[FAILED]:
        if counters[role] > before + 1:
            return True
        time.sleep(0.0002)
    return False


def kills_until_stall(transport: Transport, taker: bool, most: int) -> tuple[int, str]:
    """Kill one of the two so often: how many kills it survived, and how it ended."""
    counters, chance = Counters(), random.Random(1)
    processes = {role: worker(transport, role, counters) for role in (True, False)}
    survived, why = 0, ""
    try:
        if not advances(counters, TAKEN):
            raise RuntimeError("nothing arrives at all")
        while survived < most and not why:
            time.sleep(chance.random() * 0.003)
            victim = processes[taker]
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            processes[taker] = worker(transport, taker, counters)
            if advances(counters, TAKEN) and advances(counters, PUT):
                survived += 1
            else:
                why = "fails" if counters[FAILED] else "stalls"
    finally:
        for process in processes.values():
            process.kill()
            process.join()
        transport.close()
    return survived, why
