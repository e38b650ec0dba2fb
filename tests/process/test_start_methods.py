"""Producers and consumers under every start method, over everything that carries pickles."""

import concurrent.futures
import itertools
import multiprocessing
import os
import queue as queues

import numpy as np
import pytest

import flagstone
from tests.process.support import (
    METHODS,
    PATIENCE,
    Worker,
    assert_all_given_back,
    kept,
    pattern,
    running,
)

pytestmark = pytest.mark.parametrize("method", METHODS)

SIZE = 20_000


@pytest.fixture
def context(method):
    return multiprocessing.get_context(method)


def produce(name, queue, first, count):
    # The arena is found by its name: one process creates it, the other one attaches.
    with flagstone.open(name, capacity="64MiB") as arena:
        cache = arena.cache("message", size=SIZE)
        for number in range(first, first + count):
            block = cache.alloc(wait=PATIENCE)
            memoryview(block)[:] = pattern(number, SIZE)
            queue.put((number, block))
            del block


def consume(incoming, outgoing):
    """Knows nothing of any arena: the messages bring it."""
    while (message := incoming.get(timeout=PATIENCE)) is not None:
        number, block = message
        outgoing.put((number, bytes(block) == pattern(number, SIZE)))
        del message, block


def test_producers_and_consumers_over_queues(arena_name, context):
    incoming, outgoing = context.Queue(), context.Queue()
    producers = [
        context.Process(target=produce, args=(arena_name, incoming, first, 25)) for first in (0, 25)
    ]
    consumers = [context.Process(target=consume, args=(incoming, outgoing)) for _ in range(2)]
    with flagstone.open(arena_name, capacity="64MiB") as arena, running(*producers, *consumers):
        results = dict(outgoing.get(timeout=PATIENCE) for _ in range(50))
        assert results == dict.fromkeys(range(50), True)
        for _ in consumers:
            incoming.put(None)
        for process in (*producers, *consumers):
            process.join(PATIENCE)
        assert [one.pid for one in arena.processes] == [os.getpid()]
        assert_all_given_back(arena)
    for queue in (incoming, outgoing):
        queue.close()
        queue.join_thread()


def count_up(pipe):
    while (block := pipe.recv()) is not None:
        block.array[0] += 1
        pipe.send(block)
        del block


def test_ping_pong_over_a_pipe(arena_name, context):
    mine, theirs = context.Pipe()
    with flagstone.open(arena_name) as arena, mine, theirs:
        with running(context.Process(target=count_up, args=(theirs,))):
            block = arena.put(np.zeros(1000, "i8"))
            handle = block.handle
            for _ in range(100):
                mine.send(block)
                del block
                assert mine.poll(PATIENCE)
                block = mine.recv()
            assert block.array[0] == 100
            assert block.handle == handle
            mine.send(None)
        del block
        assert_all_given_back(arena)


def checked(item):
    number, block = item
    return number, bytes(block) == pattern(number, SIZE), block


def items(arena, count):
    return [(number, arena.put(pattern(number, SIZE))) for number in range(count)]


def test_every_way_of_a_pool(arena_name, context):
    with flagstone.open(arena_name) as arena:
        sent = items(arena, 12)
        expected = [(number, True, block.handle) for number, block in sent]
        with context.Pool(2, maxtasksperchild=7) as pool:
            results = [
                pool.map(checked, sent),
                list(pool.imap(checked, sent, chunksize=5)),
                sorted(pool.imap_unordered(checked, sent), key=lambda result: result[0]),
                [pool.apply_async(checked, (item,)).get(PATIENCE) for item in sent],
            ]
            pool.close()
            pool.join()
        for result in results:
            assert [(n, good, block.handle) for n, good, block in result] == expected
        del result, results, sent
        assert_all_given_back(arena)


def failing(block):
    raise ValueError(f"{bytes(block[:3])!r} is no good")


def made_there(arena, number):
    return arena.put(pattern(number, SIZE))


def test_concurrent_futures(arena_name, context):
    with flagstone.open(arena_name) as arena:
        sent = items(arena, 12)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = [executor.submit(checked, item) for item in sent]
            for future in concurrent.futures.as_completed(futures, PATIENCE):
                assert future.result()[1]
            block = arena.put(b"it is no good")
            with pytest.raises(ValueError, match="b'it ' is no good"):
                executor.submit(failing_view, block).result(PATIENCE)
            made = [executor.submit(made_there, arena, number) for number in range(5)]
            for number, future in enumerate(made):
                assert bytes(future.result(PATIENCE)) == pattern(number, SIZE)
        # Blocks made in workers that are gone by now are whole.
        assert bytes(made[0].result()) == pattern(0, SIZE)
        del block, future, futures, made, sent
        assert_all_given_back(arena)


def failing_view(block):
    return failing(memoryview(block))


def proxied(queue, arena, count):
    assert [queue.get(timeout=PATIENCE).nbytes for _ in range(count)] == [*range(1, count + 1)]
    queue.put(arena.put(b"thanks"))


def test_a_queue_of_a_manager(arena_name, context):
    with flagstone.open(arena_name) as arena:
        with context.Manager() as manager:
            queue = manager.Queue()
            for number in range(1, 6):
                queue.put(arena.alloc(number))
            with running(context.Process(target=proxied, args=(queue, arena, 5))):
                pass
            # The sender is gone, and the manager's process takes the reference for a while.
            assert bytes(queue.get(timeout=PATIENCE)) == b"thanks"
        assert_all_given_back(arena)


def answer(queue, arena, block):
    queue.put(bytes(block))
    queue.put(arena.get(block.handle))
    queue.put(arena.put(np.arange(3)))
    queue.put(arena.group("job"))


def test_an_anonymous_arena_as_an_argument(context):
    queue = context.Queue()
    with flagstone.open() as arena:
        block = arena.put(b"a block of its own")
        with arena.group("job") as group:
            with running(context.Process(target=answer, args=(queue, arena, block))):
                assert queue.get(timeout=PATIENCE) == b"a block of its own"
                assert queue.get(timeout=PATIENCE).handle == block.handle
                assert queue.get(timeout=PATIENCE).array.tolist() == [0, 1, 2]
                assert queue.get(timeout=PATIENCE) == group
        queue.close()
        queue.join_thread()
        del block
        assert_all_given_back(arena)


def remember(arena):
    kept["arena"] = arena


def put_there(number):
    return kept["arena"].put(pattern(number, SIZE))


def test_an_anonymous_arena_as_a_pools_initial_argument(context):
    with flagstone.open() as arena:
        with context.Pool(2, initializer=remember, initargs=(arena,)) as pool:
            results = pool.map(put_there, range(6))
            assert all(good for _, good, _ in pool.map(checked, list(enumerate(results))))
            pool.close()
            pool.join()
        with concurrent.futures.ProcessPoolExecutor(
            2, mp_context=context, initializer=remember, initargs=(arena,)
        ) as executor:
            results += list(executor.map(put_there, range(6, 12)))
        assert [bytes(block) for block in results] == [pattern(n, SIZE) for n in range(12)]
        del results
        assert_all_given_back(arena)


def size_of(block):
    return block.nbytes


def test_an_anonymous_arena_that_did_not_come_along(method):
    # Started before there was an arena, so it does not have it under any method.
    with Worker(method) as worker, flagstone.open() as arena:
        block = arena.put(b"secret")
        with pytest.raises(flagstone.FlagstoneError, match=r"anonymous arena.*name.*argument"):
            worker(size_of, block)
        with pytest.raises(flagstone.FlagstoneError, match="anonymous arena"):
            worker(size_of, arena)
        with pytest.raises(flagstone.FlagstoneError, match="anonymous arena"):
            worker(size_of, arena.group("job"))
        # It was never taken: visible, and the sender can drop it.
        assert {one.nbytes for one in arena.in_flight() if not one.is_group} == {6}
        assert arena.drop_in_flight() == 2
        assert bytes(block) == b"secret"
        del block
        assert_all_given_back(arena)


def open_and_keep(name):
    kept["arena"] = flagstone.open(name)


def is_the_same(arena, block):
    return (
        arena.name,
        bytes(block),
        len(arena.processes),
        kept["arena"].get(block.handle) is not None,
    )


def test_a_named_arena_is_found_by_unpickling(arena_name, method):
    with Worker(method) as first, Worker(method) as second, flagstone.open(arena_name) as arena:
        first(open_and_keep, arena_name)
        second(remember, arena)
        assert len(arena.processes) == 3
        block = arena.put(b"found")
        for worker in (first, second):
            assert worker(is_the_same, arena, block) == (arena_name, b"found", 3, True)
        del block
        first.end()
        second.end()
        assert [one.pid for one in arena.processes] == [os.getpid()]
        assert_all_given_back(arena)


def relay(incoming, outgoing):
    while True:
        try:
            outgoing.put(incoming.get(timeout=PATIENCE), timeout=PATIENCE)
        except queues.Empty:
            raise SystemExit(2) from None
        if incoming.empty():
            return


def test_a_chain_of_processes(arena_name, context):
    """Each message passes through five processes, each of which ends as soon as it has sent it."""
    ends = [context.Queue() for _ in range(6)]
    with flagstone.open(arena_name) as arena:
        ends[0].put(arena.put(pattern(0, SIZE)))
        for incoming, outgoing in itertools.pairwise(ends):
            with running(context.Process(target=relay, args=(incoming, outgoing))):
                pass
        block = ends[-1].get(timeout=PATIENCE)
        assert bytes(block) == pattern(0, SIZE)
        assert [holder.pid for holder in block.holders] == [os.getpid()]
        del block
        for queue in ends:
            queue.close()
            queue.join_thread()
        assert_all_given_back(arena)
