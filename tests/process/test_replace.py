"""`arena.cache(..., replace=True)` while other processes use what is replaced: a camera that comes
back with another resolution, say. Nobody ever gets an object of the wrong size.
"""

import multiprocessing
import os
import pickle
import signal

import pytest

import flagstone
from tests.process.support import METHODS, PATIENCE, Line, assert_all_given_back, forked, kept

OLD, NEW = (576, 1024), (720, 1280)


def detector(pipe):
    held = pipe.recv()
    pipe.send(held.array.shape)
    new = pipe.recv()
    pipe.send(new.array.shape)
    pipe.recv()
    pipe.send((held.array.shape, int(held.array.min()), int(held.array.max())))


@pytest.mark.parametrize("method", METHODS)
def test_another_resolution_while_a_detector_holds_a_frame(arena, method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=detector, args=(theirs,))
    process.start()
    try:
        old = arena.cache("door", shape=OLD, dtype="u1")
        frame = old.alloc()
        frame.array[:] = 7
        ours.send(frame)
        del frame
        assert ours.recv() == OLD
        with pytest.raises(flagstone.CacheMismatch, match="replace=True"):
            arena.cache("door", shape=NEW, dtype="u1")
        with pytest.raises(flagstone.CacheBusy, match=str(process.pid)):
            old.destroy()
        new = arena.cache("door", shape=NEW, dtype="u1", replace=True)
        with pytest.raises(flagstone.Closed):
            old.alloc()
        ours.send(new.alloc())
        assert ours.recv() == NEW
        rivals = [new.alloc(zero=True) for _ in range(8)]
        ours.send(None)
        assert ours.recv() == (OLD, 7, 7)
        del rivals
        process.join(PATIENCE)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
        theirs.close()
    arena.barrier(PATIENCE)
    assert old.destroy().wait(PATIENCE)
    assert arena.caches == [new]
    assert_all_given_back(arena)


def open_camera(name):
    kept["arena"] = flagstone.open(name)
    kept["cache"] = kept["arena"].cache("door", shape=OLD, dtype="u1")
    kept["bound"] = kept["cache"].bind()
    kept["held"] = [kept["bound"].alloc() for _ in range(3)]


def alloc_here():
    return [block.array.shape for block in (kept["bound"].alloc(), kept["cache"].alloc())]


def open_again():
    kept["cache"] = kept["arena"].cache("door", shape=NEW, dtype="u1")
    kept["bound"] = kept["cache"].bind()


def shapes_held():
    return [block.array.shape for block in kept["held"]]


def replace_here(name):
    kept["arena"] = flagstone.open(name)
    kept["arena"].cache("door", shape=NEW, dtype="u1", replace=True).alloc()


def test_a_process_with_the_old_cache_hears_of_it(arena, worker, other_worker):
    worker(open_camera, arena.name)
    other_worker(replace_here, arena.name)
    with pytest.raises(flagstone.Closed, match="open it again"):
        worker(alloc_here)
    assert worker(shapes_held) == [OLD] * 3
    worker(open_again)
    assert worker(alloc_here) == [NEW] * 2
    # Killed: nothing is left of the old one.
    worker.kill()
    other_worker.kill()
    arena.barrier(PATIENCE)
    assert [cache.shape for cache in arena.caches] == [NEW]
    assert_all_given_back(arena)


def test_a_pickled_cache_that_was_replaced(arena, worker):
    old = arena.cache("door", shape=OLD, dtype="u1")
    block, message = old.alloc(), pickle.dumps(old)
    arena.cache("door", shape=NEW, dtype="u1", replace=True)
    # Loading it raises nothing, which would end a pool's worker; using it does.
    assert pickle.loads(message) == old
    with pytest.raises(flagstone.Closed):
        pickle.loads(message).alloc()
    del block
    arena.barrier()
    with pytest.raises(flagstone.CacheMismatch):
        pickle.loads(message)


def test_killed_replacers(arena):
    """Each wants another size, and is killed at any time: there is one cache, and it works."""
    for turn in range(40):

        def replace(turn=turn):
            line.say()
            for number in range(10_000):
                cache = arena.cache("door", size=1000 + (turn + number) % 7, replace=True)
                try:
                    assert cache.alloc().nbytes == cache.size
                except flagstone.Closed:
                    pass  # the rival's turn
            signal.pause()

        with Line() as line, forked(replace) as one, forked(replace) as two:
            line.hear()
            line.hear()
            for _ in range(turn % 8):
                arena.cache("door", size=5000, replace=True)
            for pid in (one, two):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    cache = arena.cache("door", size=2000, replace=True)
    assert cache.alloc().nbytes == 2000
    assert_all_given_back(arena)
    assert arena.caches == [cache]
