"""What several tests of one process share."""

import gc

import pytest

import flagstone


@pytest.fixture
def arena(arena_name):
    """An arena that is sound in the end, and that nobody refers to."""
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena
        gc.collect()
        arena.barrier(30)
        assert arena.check() == []
        assert sum(one.references for one in arena.processes) == 0
