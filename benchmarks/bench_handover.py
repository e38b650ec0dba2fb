"""Hand 1 MiB to another process: the producer fills it, the consumer sums it and checks the sum."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from benchmarks.harness import Bench, Measure
from benchmarks.peers import own_arena, own_name

WORDS = (1 << 20) // 8
RING = 8

fork = multiprocessing.get_context("fork")


def run(bench: Bench) -> None:
    count = 40 if bench.settings.quick else 400
    makers: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
        "ring of 8 SharedMemory blocks": ring,
        "the ring, indexes through a Queue": ring_and_queue,
        "flagstone": through_arena,
        "pickled array": pickled,
    }
    for name, module, maker in (
        ("torch queue", "torch", through_torch),
        ("Ray", "ray", through_ray),
        ("iceoryx2", "iceoryx2", through_iceoryx2),
    ):
        if importlib.util.find_spec(module):
            makers[name] = maker
        else:
            bench.skip(name, f"{module} is not installed")
    with contextlib.ExitStack() as stack:
        variants: dict[str, Measure] = {}
        for name, maker in makers.items():
            with bench.peer(name):
                slow = name in ("pickled array", "torch queue", "Ray")
                send = stack.enter_context(maker())
                variants[name] = measure(send, max(10, count // 10) if slow else count)
                variants[name]()
        base = "ring of 8 SharedMemory blocks"
        found = bench.compare(
            "1 MiB through a queue",
            variants,
            base=base,
            unit="us",
            rounds=max(15, bench.settings.rounds) if not bench.settings.quick else None,
            note="Time for one message, many in a row, from the first fill to the last answer. The"
            " ring is written by hand for this: two semaphores, nothing else. Flagstone and the"
            " pickled array go through multiprocessing.Queue; so do the indexes of the second ring,"
            " which is what a ring costs whose messages arrive as Flagstone's do.",
        )
    bench.target("in the hand-written ring", found.ratio("flagstone", base)["median"], 1.0)
    queued = found.ratio("flagstone", "the ring, indexes through a Queue")["median"]
    bench.target("in the hand-written ring whose indexes go through a Queue", queued, 1.0)
    for name, bound in (("iceoryx2", 1.3), ("torch queue", 20), ("pickled array", 20), ("Ray", 20)):
        if name in variants:
            ratio = found.ratio(name, "flagstone")["median"]
            bench.target(f"times as fast as {name}", ratio, bound, least=True)


Send = Callable[[int], None]
"""Sends so many messages, and returns when the other side has checked all of them."""


def measure(send: Send, count: int) -> Measure:
    def sample() -> float:
        began = time.perf_counter()
        send(count)
        return (time.perf_counter() - began) / count * 1e6

    return sample


def check(array: Any, number: int) -> None:
    total = int(array.sum())
    if total != number * WORDS:
        raise AssertionError(f"message {number} has the sum {total}")


@contextlib.contextmanager
def consumer(function: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """A process that calls `function(count, *arguments)` for each count it is told, and answers."""
    ours, theirs = fork.Pipe()

    def serve() -> None:
        ours.close()
        with contextlib.suppress(EOFError):
            while True:
                function(theirs.recv(), *arguments)
                theirs.send(True)

    process = fork.Process(target=serve)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(30)
        if process.exitcode is None:
            process.kill()
            process.join()


@contextlib.contextmanager
def ring() -> Iterator[Send]:
    blocks = [SharedMemory(create=True, size=WORDS * 8) for _ in range(RING)]
    arrays = [np.frombuffer(block.buf, "u8") for block in blocks]
    empty, full = fork.Semaphore(RING), fork.Semaphore(0)

    def consume(count: int) -> None:
        for number in range(count):
            full.acquire()
            check(arrays[number % RING], number)
            empty.release()

    try:
        with consumer(consume) as pipe:

            def send(count: int) -> None:
                pipe.send(count)
                for number in range(count):
                    empty.acquire()
                    arrays[number % RING].fill(number)
                    full.release()
                pipe.recv()

            yield send
    finally:
        arrays.clear()
        for block in blocks:
            block.close()
            block.unlink()


@contextlib.contextmanager
def ring_and_queue() -> Iterator[Send]:
    blocks = [SharedMemory(create=True, size=WORDS * 8) for _ in range(RING)]
    arrays = [np.frombuffer(block.buf, "u8") for block in blocks]
    empty = fork.Semaphore(RING)

    @contextlib.contextmanager
    def taken(index: int) -> Iterator[Any]:
        yield arrays[index]
        empty.release()

    try:
        with queue_of(RING, take=taken) as start:

            def make(number: int) -> int:
                empty.acquire()
                arrays[number % RING].fill(number)
                return number % RING

            yield start(make)
    finally:
        arrays.clear()
        for block in blocks:
            block.close()
            block.unlink()


@contextlib.contextmanager
def through_arena() -> Iterator[Send]:
    with own_arena("64MiB") as arena:
        cache = arena.cache("message", shape=WORDS, dtype="u8")
        alloc = cache.bind().alloc
        # As many under way as the ring has.
        with queue_of(RING, take=lambda item: item.array) as start:

            def make(number: int) -> Any:
                block = alloc()
                block.array.fill(number)
                return block

            yield start(make)


@contextlib.contextmanager
def pickled() -> Iterator[Send]:
    with queue_of(RING, take=lambda item: item) as start:
        yield start(lambda number: np.full(WORDS, number, "u8"))


@contextlib.contextmanager
def through_torch() -> Iterator[Send]:
    import torch
    import torch.multiprocessing as tmp

    torch.set_num_threads(1)
    queue = tmp.get_context("fork").Queue(RING)
    with queue_of(RING, take=lambda item: item.numpy(), queue=queue) as start:
        yield start(lambda number: torch.full((WORDS,), number, dtype=torch.int64))


@contextlib.contextmanager
def through_ray() -> Iterator[Send]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=0)
    class Consumer:
        def check(self, array: Any, number: int) -> None:
            total = int(array.sum())
            if total != number * len(array):
                raise AssertionError(f"message {number} has the sum {total}")

    actor = Consumer.remote()

    def send(count: int) -> None:
        pending: list[Any] = []
        for number in range(count):
            if len(pending) == RING:
                ray.get(pending.pop(0))
            pending.append(actor.check.remote(np.full(WORDS, number, "u8"), number))
        ray.get(pending)

    try:
        yield send
    finally:
        ray.shutdown()


@contextlib.contextmanager
def queue_of(
    size: int, take: Callable[[Any], Any], queue: Any = None
) -> Iterator[Callable[[Callable[[int], Any]], Send]]:
    queue = queue or fork.Queue(size)

    def consume(count: int) -> None:
        for number in range(count):
            item = take(queue.get())
            if isinstance(item, contextlib.AbstractContextManager):
                with item as array:
                    check(array, number)
            else:
                check(item, number)

    with consumer(consume) as pipe:

        def start(make: Callable[[int], Any]) -> Send:
            def send(count: int) -> None:
                pipe.send(count)
                for number in range(count):
                    queue.put(make(number))
                pipe.recv()

            return send

        yield start
    queue.close()
    queue.join_thread()


@contextlib.contextmanager
def through_iceoryx2() -> Iterator[Send]:
    import ctypes

    import iceoryx2 as iox

    name = own_name()
    empty, full = fork.Semaphore(RING), fork.Semaphore(0)
    ready = fork.Event()

    def service() -> tuple[Any, Any]:
        iox.set_log_level(iox.LogLevel.Error)
        node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        builder = node.service_builder(iox.ServiceName.new(name))
        builder = builder.publish_subscribe(iox.Slice[ctypes.c_uint8])
        return node, builder.subscriber_max_buffer_size(RING).open_or_create()

    state: list[Any] = []

    def consume(count: int) -> None:
        if not state:
            state.extend(service())
            state.append(state[1].subscriber_builder().buffer_size(RING).create())
        ready.set()
        for number in range(count):
            full.acquire()
            sample = state[2].receive()
            check(as_array(sample.payload(), ctypes), number)
            sample.delete()
            empty.release()

    with consumer(consume) as pipe:
        node, made = service()
        builder = made.publisher_builder().initial_max_slice_len(WORDS * 8)
        publisher = builder.max_loaned_samples(RING).create()
        pipe.send(0)
        pipe.recv()
        publisher.update_connections()

        def send(count: int) -> None:
            pipe.send(count)
            for number in range(count):
                empty.acquire()
                loan = publisher.loan_slice_uninit(WORDS * 8)
                as_array(loan.payload(), ctypes).fill(number)
                loan.assume_init().send()
                full.release()
            pipe.recv()

        yield send
        publisher.delete()
        del made, node


def as_array(payload: Any, ctypes: Any) -> Any:
    raw = (ctypes.c_uint64 * WORDS).from_address(payload.data_ptr)
    return np.frombuffer(raw, "u8")
