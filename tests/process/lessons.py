"""What the tests of the lessons share: everything has to be given back in the end."""

import contextlib
import gc
import pickle

import pytest

import flagstone
from tests.process.support import (
    Worker,
    assert_all_given_back,
    kept,
)


def again_and_again(short, long):
    """So many rounds, and more of them under `soak`."""
    marks = [pytest.mark.soak, pytest.mark.timeout(3000)]
    return pytest.mark.parametrize("rounds", [short, pytest.param(long, marks=marks)])


@contextlib.contextmanager
def crew(count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Worker()) for _ in range(count)]


def assert_empty(arena):
    assert_all_given_back(arena)
    shot = arena.snapshot()
    assert [one.name for one in shot.caches if "size_class" not in one.flags] == []
    assert [one.parent for one in shot.groups] == [None]
    live = sum(one.stats.children for one in shot.caches)
    assert children(arena) == (live, 0, 0)
    assert (shot.groups_waiting, shot.keepers) == (0, ())


def end_everything(arena):
    """What loops have left: a group may end with the one above it, or be released just now."""
    for cache in arena.caches:
        cache.destroy()
    for group in arena.groups:
        with contextlib.suppress(flagstone.Closed):
            group.destroy()


def children(arena):
    """Children that live, that are deactivated, that have ended."""
    counts = arena.snapshot().children
    return counts.live, counts.deactivated, counts.queued + counts.releasing


def forget():
    arena = kept["arena"]
    kept.clear()
    gc.collect()
    kept["arena"] = arena


def share_and_drop(block):
    """It has been seen by others: only a batch releases it."""
    return bytes(pickle.loads(pickle.dumps(block)))[:0]


def all_at_once(workers, function, *arguments):
    """The function in all of them; what they returned."""
    for worker in workers:
        worker.send(function, *arguments)
    return [worker.result() for worker in workers]


def working(workers):
    """Go on as long as one of them has not answered."""
    while not all(worker.answered() for worker in workers):
        yield
