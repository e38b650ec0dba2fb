"""Tables that travel: the same columns in every process, and nothing left when one is killed."""

import multiprocessing
import os
import signal

import numpy as np
import pyarrow as pa
import pytest

from flagstone.testing import wait_until
from tests.process.support import (
    METHODS,
    Worker,
    assert_all_given_back,
    forget,
    forked,
    kept,
    running,
)

ROWS = 50_000


def table():
    return pa.table(
        {"number": np.arange(ROWS), "text": pa.array([f"row {n}" for n in range(ROWS)])}
    )


def keep_table(block):
    """Keep the table that came, and say what is in it and whether it lies in the Block."""
    kept["table"] = found = block.table
    inside = range(block._address, block._address + block.nbytes)
    buffers = [one for column in found.columns for one in column.chunk(0).buffers() if one]
    return found.num_rows, found["text"][-1].as_py(), all(one.address in inside for one in buffers)


def put_and_keep(arena):
    kept["block"] = arena.put(table())
    return kept["block"].table.num_rows


@pytest.mark.parametrize("method", METHODS)
def test_a_table_travels(arena, method):
    with Worker(method) as worker:
        block = arena.put(table())
        assert worker(keep_table, block) == (ROWS, f"row {ROWS - 1}", True)
        used = arena.used
        del block
        arena.barrier()
        assert arena.used == used  # the table over there keeps it
        worker(forget)
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


def echo(inbox, outbox):
    while (block := inbox.get()) is not None:
        outbox.put((block, block.table.num_rows))


@pytest.mark.parametrize("method", METHODS)
def test_through_queues_and_back(arena, method):
    context = multiprocessing.get_context(method)
    inbox, outbox = context.SimpleQueue(), context.SimpleQueue()
    with running(context.Process(target=echo, args=(inbox, outbox))):
        for _ in range(3):
            block = arena.put(table())
            inbox.put(block)
            back, rows = outbox.get()
            assert (back.handle, rows) == (block.handle, ROWS)
        inbox.put(None)
    for queue in (inbox, outbox):
        queue.close()
    del block, back
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


def test_a_reader_is_killed(arena):
    with Worker() as worker:
        block = arena.put(table())
        worker(keep_table, block)
        del block
        worker.kill()
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


def test_a_writer_is_killed_after_it(arena):
    with Worker("spawn") as worker:
        assert worker(put_and_keep, arena) == ROWS
        assert arena.used
        worker.kill()
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


class Deadly:
    """A table that ends whoever reads it."""

    def __arrow_c_stream__(self, requested_schema=None):
        os.kill(os.getpid(), signal.SIGKILL)


def killed_while_it_writes(arena):
    from flagstone import tables

    def kill(self, raw):
        raw[: raw.size // 2] = 255
        os.kill(os.getpid(), signal.SIGKILL)

    tables.Encoded.write = kill
    arena.put(table())


@pytest.mark.parametrize(
    "die",
    [killed_while_it_writes, lambda arena: arena.put(Deadly())],
    ids=["writing", "reading"],
)
def test_a_writer_is_killed_within_it(arena, die):
    with forked(lambda: die(arena)) as pid:
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


def test_a_message_with_a_table_that_is_lost_ends_with_its_group(arena):
    with arena.group("job") as job:
        with Worker() as worker:
            os.kill(worker.pid, signal.SIGSTOP)
            worker.send(keep_table, arena.put(table(), group=job))
            assert len(arena.in_flight()) == 1
            worker.kill()
    wait_until(lambda: not arena.in_flight())
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)


def test_many_readers_see_the_same_bytes(arena):
    block = arena.put(table())
    workers = [Worker() for _ in range(3)]
    for worker in workers:
        assert worker(keep_table, block)[2]
    assert len(block.holders) == 4
    del block
    for worker in workers[:2]:
        worker.kill()
    workers[2](forget)
    workers[2].end()
    arena.barrier()
    arena.shrink()
    assert_all_given_back(arena)
