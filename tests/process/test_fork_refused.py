"""Forked children that get no place in the arena: every way in raises `Closed` with the reason,
what they inherited keeps its bytes while they live, and they change nothing of others'.
"""

import contextlib
import os
import pickle
import resource
import signal

import numpy as np
import pytest

import flagstone
from flagstone.testing import assert_sound, wait_until
from tests.process import calls
from tests.process.support import PATIENCE, Line, assert_all_given_back, forked

SIZE = 1 << 16


@contextlib.contextmanager
def no_descriptor():
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was)


@contextlib.contextmanager
def forked_without_a_place(function):
    """As `forked`, but nothing can be opened at the fork."""
    was = resource.getrlimit(resource.RLIMIT_NOFILE)

    def child():
        resource.setrlimit(resource.RLIMIT_NOFILE, was)
        function()

    with contextlib.ExitStack() as stack:
        with no_descriptor():
            pid = stack.enter_context(forked(child))
        yield pid


def overwrite(arena):
    """Take all that can be had, and write into it."""
    arena.barrier(PATIENCE)
    taken = []
    with contextlib.suppress(flagstone.ArenaFull):
        while True:
            taken.append(arena.alloc(SIZE))
            taken[-1].array[:] = 2
    del taken
    arena.barrier(PATIENCE)


@pytest.fixture(params=["named", "anonymous"])
def arena(request, arena_name):
    name = arena_name if request.param == "named" else None
    with flagstone.open(name, capacity="16MiB") as arena:
        yield arena


def ways_in(arena, cache, group, block, part, message):
    """Each a call that must be refused."""
    bound = cache.bind(group)
    handle = block.handle
    # A named arena is opened anew by that.
    unpickle = {"unpickle": lambda: pickle.loads(message)} if arena.name is None else {}
    return unpickle | {
        "alloc": lambda: arena.alloc(10),
        "put": lambda: arena.put(b"x"),
        "get": lambda: arena.get(handle),
        "array": lambda: block.array,
        "memoryview": lambda: memoryview(block),
        "asarray": lambda: np.asarray(block),
        "handle": lambda: block.handle,
        "nbytes": lambda: block.nbytes,
        "free": block.free,
        "pickle": lambda: pickle.dumps(block),
        "part": lambda: block[1:2],
        "part's pickle": lambda: pickle.dumps(part),
        "holders": lambda: block.holders,
        "cache": lambda: arena.cache("other", size=10),
        "cache.alloc": cache.alloc,
        "cache.destroy": cache.destroy,
        "cache.stats": lambda: cache.stats,
        "group": lambda: arena.group("other"),
        "group.destroy": group.destroy,
        "group.limit": lambda: setattr(group, "limit", 10),
        "bound.alloc": bound.alloc,
        "bound.alloc_many": lambda: bound.alloc_many(3),
        "read": lambda: arena.read().__enter__(),
        "barrier": arena.barrier,
        "synchronize": arena.synchronize,
        "shrink": arena.shrink,
        "snapshot": arena.snapshot,
        "check": arena.check,
        "in_flight": arena.in_flight,
        "drop_in_flight": arena.drop_in_flight,
        "pickled arena": lambda: pickle.dumps(arena),
    }


def test_every_way_in_says_why(arena):
    cache = arena.cache("thing", size=100)
    group = arena.group("job")
    block = arena.put(np.arange(10))
    view = block.array
    other = arena.put(b"other")
    ways = ways_in(arena, cache, group, block, block[2:4], pickle.dumps(other))

    def child():
        for name, way in ways.items():
            with pytest.raises(flagstone.Closed, match="EMFILE"):
                raise AssertionError(f"{name}: {way()!r}")
        assert view.tolist() == list(range(10))
        assert arena.closed

    with forked_without_a_place(child):
        pass
    assert block.array.tolist() == list(range(10))
    arena.drop_in_flight()
    assert_sound(arena)


def test_old_views_keep_their_bytes(arena):
    blocks = [arena.alloc(SIZE) for _ in range(10)]
    for block in blocks:
        block.array[:] = 1
    views = [block.array for block in blocks] + [memoryview(block) for block in blocks]

    def child():
        ready.say()
        go.hear()
        for view in views:
            assert set(bytes(view)) == {1}
        view[:] = bytes(SIZE)  # its own object, and nobody else's

    with Line() as ready, Line() as go, forked_without_a_place(child):
        ready.hear()
        del block
        blocks.clear()
        views.clear()
        overwrite(arena)
        mine = [arena.alloc(SIZE) for _ in range(100)]
        for block in mine:
            block.array[:] = 3
        go.say()
    for block in mine:
        assert block.array.min() == 3
    del block, mine
    assert_all_given_back(arena)


def test_whoever_waits_hears_of_such_children(arena):
    cache = arena.cache("thing", size=SIZE)
    group = arena.group("job")
    block = cache.alloc(group=group)
    views = [block.array]

    def child():
        ready.say()
        go.hear()
        assert views

    who = "forked children of it that have no place"
    with Line() as ready, Line() as go, forked_without_a_place(child):
        ready.hear()
        with pytest.raises(flagstone.CacheBusy, match=who):
            cache.destroy()
        del block
        views.clear()
        with pytest.raises(flagstone.CacheBusy, match=who):
            cache.destroy()
        ticket = group.destroy()
        with pytest.raises(TimeoutError, match=rf"process {os.getpid()} .*{who}") as caught:
            ticket.wait(0.1)
        assert [one.for_children for one in caught.value.keepers] == [True]
        assert "or children without a place" in str(arena.snapshot())
        go.say()
    ticket.wait(PATIENCE)
    block = cache.alloc()
    with pytest.raises(flagstone.CacheBusy) as refused:
        cache.destroy()
    assert "children" not in str(refused.value)
    del block
    assert_all_given_back(arena)


def test_such_children_of_the_dead(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        cache = arena.cache("thing", size=SIZE)
        group = arena.group("job")

        def parent():
            block = cache.alloc(group=group)

            def child():
                ready.say()
                go.hear()
                assert block
                over.say()

            with forked_without_a_place(child):
                ready.hear()
                died.say()
                os.kill(os.getpid(), signal.SIGKILL)

        with Line() as ready, Line() as died, Line() as go, Line() as over:
            pid = os.fork()
            if pid == 0:
                parent()
            died.hear()
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL
            arena.barrier(PATIENCE)
            with pytest.raises(flagstone.CacheBusy, match=rf"pid {pid} .*forked children of it"):
                cache.destroy()
            ticket = group.destroy()
            with pytest.raises(TimeoutError, match=rf"process {pid} .*forked children"):
                ticket.wait(0.1)
            go.say()
            over.hear()
        ticket.wait(PATIENCE)
        assert_all_given_back(arena)


def test_its_own_children_too(arena):
    block = arena.alloc(SIZE)
    block.array[:] = 1
    views = [block.array]

    def child():
        with forked(grandchild):
            pass

    def grandchild():
        ready.say()
        go.hear()
        assert set(views[0].tolist()) == {1}
        with pytest.raises(flagstone.Closed, match="EMFILE"):
            arena.alloc(10)

    with Line() as ready, Line() as go, forked_without_a_place(child):
        ready.hear()
        del block
        views.clear()
        overwrite(arena)
        go.say()
    assert_all_given_back(arena)


def test_opening_again_in_the_child(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        block = arena.put(b"abc")
        handle = block.handle

        def child():
            with flagstone.open(arena_name) as again:
                assert bytes(again.get(handle)) == b"abc"
                again.put(b"x").free()
            with pytest.raises(flagstone.Closed):
                arena.put(b"x")

        with forked_without_a_place(child):
            pass
        assert_sound(arena)


def test_exit_runs_as_always(arena):
    block = arena.put(b"abc")
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    with no_descriptor():
        pid = os.fork()
        if pid == 0:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, was)
                arena.close()
                del block
            finally:
                os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert bytes(block) == b"abc"
    assert_sound(arena)


@pytest.mark.root
def test_a_full_file_system(small_tmpfs):
    with flagstone.open(small_tmpfs / "arena", capacity="128MiB") as arena:
        block = arena.alloc(SIZE)
        block.array[:] = 1
        views = [block.array]
        more = []
        for size in (1 << 20, SIZE, 4096):
            with contextlib.suppress(flagstone.ArenaFull):
                while True:
                    more.append(arena.alloc(size))
        with (
            open(small_tmpfs / "fill", "wb", buffering=0) as file,
            contextlib.suppress(OSError),
        ):
            while True:
                file.write(bytes(4096))

        def child():
            ready.say()
            go.hear()
            assert set(views[0].tolist()) == {1}
            with pytest.raises(flagstone.Closed, match="room"):
                arena.alloc(10)

        with Line() as ready, Line() as go, forked(child):
            ready.hear()
            os.unlink(small_tmpfs / "fill")
            del block, more
            views.clear()
            overwrite(arena)
            go.say()
        assert_all_given_back(arena)


def test_its_parent_goes_first(arena):
    def parent():
        block = arena.alloc(SIZE)
        block.array[:] = 1
        view = block.array

        def child():
            ready.say()
            go.hear()
            assert set(view.tolist()) == {1}
            good.say()

        manager = forked_without_a_place(child)
        manager.__enter__()
        gone.hear()
        os._exit(0)

    with Line() as ready, Line() as go, Line() as good, Line() as gone:
        with forked(parent):
            ready.hear()
            gone.say()
        overwrite(arena)
        go.say()
        good.only_hear()
        assert good.hear() == b"."
        assert good.hear() == b""
    # A child that ends closes its pipe before the kernel gives up the lock that a mapping kept.
    wait_until(lambda: arena.barrier(PATIENCE) is None and arena.used == 0, PATIENCE)
    assert_all_given_back(arena)


# What goes on in such a child: names and numbers that the process knows itself, views that were
# made before, what is equal, letting go; and what is done without an arena where there is none.
LOOKS = {
    "__aexit__", "__bytes__", "__copy__", "__deepcopy__", "__del__", "__enter__", "__eq__",
    "__exit__", "__ge__", "__gt__", "__hash__", "__le__", "__lt__", "__ne__", "__repr__",
    "ack", "align", "capacity", "close", "closed", "dtype", "evict", "fileno", "flags", "group",
    "inherited", "inline", "leave", "lost", "name", "order", "path", "readonly", "shape", "size",
    "topic", "uuid", "value",
}  # fmt: skip
OWN = {
    "Block.__bool__",
    "Block.__delitem__",
    "Cache.destroy",  # of one that has ended: it says so
    "Handle.__reduce__",
    "Sharing.__reduce__",
    "Sharing.arena",
    "Sharing.dumps",
    "Subscription.__iter__",  # itself: the first step says why
    "Subscription.__reduce__",
    "Delivery.__reduce__",
    "Teardown.__reduce__",
    "WeakBlock.handle",
    "WeakBlock.nbytes",
}
VIEWS = {"Packed", "PackedArrays", "Part"}


def may_go_on(key):
    cls, _, name = key.partition(".")
    return cls in VIEWS or key in OWN or (name in LOOKS and key != "Group.close")


def test_a_lock_stays_its_parents(arena):
    lock = arena.lock("only")
    lock.acquire()

    def child():
        for call in (lock.release, lock.acquire, lock.locked, lambda: lock.info):
            with pytest.raises(flagstone.Closed, match="EMFILE"):
                call()

    with forked_without_a_place(child):
        pass
    assert lock.info.pid == os.getpid()
    lock.release()
    lock.destroy()


def test_every_public_method_says_why():
    """An anonymous arena: a named one is opened anew by what travels by its path."""
    with flagstone.open(None, capacity="256MiB") as arena:
        world = calls.World(arena)
        ways, made = {}, []
        names = [key for key in calls.public_names() if "." in key]
        for key in sorted(names, key=lambda key: key in ("Arena.close", "Arena.__exit__")):
            ways[key] = world.prepare(key)
            made += [world.kept, world.channels, world.stores, *world.made]
            # all of it stays until the child has called it
            world.kept, world.made, world.channels, world.stores = [], [], [], []

        def child():
            went = set()
            for key, way in ways.items():
                try:
                    way()
                    went.add(key)
                except flagstone.Closed as error:
                    if "EMFILE" not in str(error):
                        went.add(key + " closed")
                except BaseException as error:
                    went.add(f"{key} {error!r}")
            went = sorted(key for key in went if not may_go_on(key))
            assert not went, went

        with forked_without_a_place(child):
            pass
        assert arena.check() == []
        for one in made:
            if callable(one):
                with contextlib.suppress(flagstone.Closed):
                    one()
        ways.clear()
