"""Every count of bytes says the same of an object, whatever its size: alone in a slab or with
others, held, in flight, kept by an ended group, released."""

import pickle

import pytest

import flagstone
from tests.process.support import PATIENCE, kept

# With others in a slab, alone in one, and above 64 KiB, where objects have no common size.
SIZES = [1000, 8192, 40_000, 65_536, 65_537, 70_000, 8 << 20]


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="128MiB") as arena:
        yield arena


def about(nbytes):
    """A size class is at most a quarter larger than what is asked for."""
    return range(nbytes, nbytes + nbytes // 4 + 8)


def own(arena):
    return next(one for one in arena.processes if one.is_self).bytes


@pytest.mark.parametrize("nbytes", SIZES)
def test_of_one_object_from_its_allocation_to_its_release(arena, nbytes):
    before = arena.snapshot()
    group = arena.group("job")
    block = arena.alloc(nbytes, group=group)
    assert own(arena) == nbytes
    assert group.usage >= nbytes
    message = pickle.dumps(block)
    assert [one.nbytes for one in arena.in_flight()] == [nbytes]
    pickle.loads(message)
    ticket = group.destroy()
    arena.barrier(PATIENCE)
    (keeper,) = arena.snapshot().keepers
    assert keeper.bytes == nbytes
    del block
    ticket.wait(PATIENCE)
    arena.barrier(PATIENCE)
    after = arena.snapshot()
    assert after.released_bytes - before.released_bytes in about(nbytes)
    assert sum(one.bytes for one in after.last_batches) in about(nbytes)
    assert ticket.released_bytes >= nbytes


def hold(name, sizes):
    arena = kept["arena"] = flagstone.open(name, create=False)
    kept["blocks"] = [arena.alloc(nbytes) for nbytes in sizes]


def test_of_what_a_killed_process_had(worker, arena):
    worker(hold, arena.name, SIZES)
    worker.kill()
    arena.barrier(PATIENCE)
    arena.barrier(PATIENCE)
    (burial,) = arena.snapshot().burials
    assert burial.objects == len(SIZES)
    assert burial.bytes in about(sum(SIZES))
