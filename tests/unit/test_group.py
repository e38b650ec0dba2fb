"""Group: limits, ending, holding open; one process."""

import asyncio
import contextlib
import gc
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flagstone


@pytest.fixture
def cache(arena):
    return arena.cache("a", size=1024, merge=False)


def test_facts(arena, cache):
    with arena.group("job", limit="1MiB") as group:
        assert (group.name, group.state, group.limit) == ("job", "live", 2**20)
        assert (group.usage, group.peak) == (0, 0)
        assert (group.parent, group.children, group.caches) == (arena.root_group, [], [])
        assert (group.events.limit_hits, group.events.failed) == (0, 0)
        block = cache.alloc(group)
        assert 1024 <= group.usage <= 2**20
        assert group.peak >= group.usage
        assert group.caches == [cache]
        assert repr(group).startswith("<Group 'job', live, ")
        with arena.group("part", parent=group) as part:
            assert (part.parent, group.children) == (group, [part])
            assert part.limit is None
            cache.alloc(part)
        assert {one.name for one in arena.groups} == {"job"}
        del block
    assert arena.groups == []
    root = arena.root_group
    assert (root.parent, root.state) == (None, "live")


def test_opening_again(arena):
    with arena.group("job", limit=8192) as first:
        again = arena.group("job")
        assert again == first
        assert hash(again) == hash(first)
        assert again.limit == 8192
        assert arena.group("job", limit=8192) == first
        with pytest.raises(flagstone.GroupMismatch):
            arena.group("job", limit=4096)
        with arena.group("job"):
            pass
        # It was not made by that object.
        assert first.state == "live"
        assert arena.group("job", parent=first) != first
    assert again.state == "destroyed"


def test_without_a_name(arena):
    with arena.group() as first, arena.group() as second:
        assert first != second
        assert (first.name, second.name) == (None, None)
        assert repr(first)


def test_leaving_destroys(arena, cache):
    with arena.group("job") as group:
        block = cache.alloc(group)
        block.array[:] = 7
        handle = block.handle
        message = pickle.dumps(block)
    assert group.state == "destroyed"
    assert (block.array == 7).all()
    with pytest.raises(flagstone.StaleHandle):
        arena.get(handle)
    with pytest.raises(flagstone.StaleHandle):
        pickle.loads(message)
    with pytest.raises(flagstone.Closed):
        cache.alloc(group)
    assert group.usage == 0
    assert group.peak > 0
    with arena.group("job") as again:
        assert again != group
        cache.alloc(again)
    del block


def test_destroy(arena, cache):
    group = arena.group("job")
    cache.alloc_many(100, group)
    block = cache.alloc(group)
    usage = group.usage
    ticket = group.destroy()
    assert group.destroy() is ticket
    assert repr(ticket).startswith("<Teardown of group 'job', ")
    with pytest.raises(TypeError, match="Teardown is one process's"):
        pickle.dumps(ticket)
    block.array[:] = 1
    del block
    assert ticket.wait(timeout=30)
    assert ticket.done
    assert ticket.released_bytes == usage
    assert repr(group) == "<Group 'job', destroyed>"
    for call in (lambda: group.limit, lambda: group.parent, lambda: pickle.dumps(group)):
        with pytest.raises(flagstone.Closed):
            call()
    assert ticket.batch >= 0
    group.close()
    with pytest.raises(ValueError, match=r"root|itself"):
        arena.root_group.destroy()


def test_a_live_block_holds_a_teardown_up(arena, cache):
    group = arena.group("job")
    block = cache.alloc(group)
    ticket = group.destroy()
    with pytest.raises(TimeoutError, match="job"):
        ticket.wait(timeout=0.2)
    assert not ticket.done
    assert (ticket.batch, ticket.released_bytes) == (None, 0)
    with arena.read(), pytest.raises(RuntimeError, match="inside"):
        ticket.wait()
    del block
    ticket.wait(timeout=30)


def test_a_teardown_can_be_awaited(arena, cache):
    async def end():
        group = arena.group("job")
        cache.alloc(group)
        ticket = await group.destroy()
        assert ticket.done

    asyncio.run(asyncio.wait_for(end(), 30))


def test_close(arena, cache):
    with arena.group("job") as group:
        block = cache.alloc(group)
        block.array[:] = 5
        group.close()
        group.close()
        assert group.state == "closed"
        with pytest.raises(flagstone.Closed):
            cache.alloc(group)
        assert (arena.get(block.handle).array == 5).all()
        del block


def test_limit(arena, cache):
    with arena.group("job", limit="256KiB") as group:
        blocks = []

        def fill():
            while True:
                blocks.append(cache.alloc(group))

        with pytest.raises(flagstone.GroupLimitExceeded, match="job") as caught:
            fill()
        assert (caught.value.group, caught.value.limit) == ("job", 256 * 1024)
        assert caught.value.usage <= 256 * 1024
        assert isinstance(caught.value, MemoryError)
        assert group.usage <= group.limit
        assert len(blocks) > 128
        assert group.events.limit_hits >= 1
        assert group.events.failed >= 1
        group.limit = "1MiB"
        assert group.limit == 2**20
        blocks.append(cache.alloc(group))
        group.limit = None
        assert group.limit is None
        blocks.clear()
        cache.alloc(group)


def test_the_limit_of_an_ancestor(arena, cache):
    with arena.group("tenant", limit="64KiB") as tenant, arena.group("job", parent=tenant) as job:
        with pytest.raises(flagstone.GroupLimitExceeded) as caught:
            cache.alloc_many(100, job)
        assert caught.value.group == "tenant"
        assert tenant.usage <= 64 * 1024


@pytest.mark.parametrize(
    ("limit", "error"), [(-1, ValueError), ("x", ValueError), (1.5, TypeError)]
)
def test_a_limit_that_makes_no_sense(arena, limit, error):
    with pytest.raises(error, match="limit"):
        arena.group("job", limit=limit)
    assert arena.groups == []
    with arena.group("job") as group, pytest.raises(error, match="limit"):
        group.limit = limit


def test_a_group_that_nobody_has_open_is_closed(arena, cache):
    arena.group("gone")
    keep = arena.group("kept", lasting=True)
    block = cache.alloc(arena.group("held"))
    del keep
    gc.collect()
    arena.barrier()
    states = {group.name: group.state for group in arena.groups}
    assert states.get("kept") == "live"
    assert "gone" not in states
    assert states.get("held") in ("closed", None)
    del block
    arena.group("kept").destroy()


def test_pickle(arena, cache):
    with arena.group("job") as group:
        message = pickle.dumps(group)
        (flying,) = arena.in_flight()
        assert flying.is_group
        assert flying.group == "job"
        with pickle.loads(message) as again:
            assert again == group
            assert again.name == "job"
        assert arena.in_flight() == []
        assert group.state == "live"
        cache.alloc(again)
    with pytest.raises((flagstone.StaleHandle, flagstone.Closed)):
        pickle.loads(message)


def test_many_groups(arena, cache):
    used = arena.used
    for _ in range(5000):
        with arena.group("job") as group:
            cache.alloc(group).array[:] = 1
    arena.barrier()
    assert arena.used == used
    assert arena.groups == []


# ---- cgroups


@pytest.fixture
def cgroup():
    """A cgroup of our own, removed at the end; skipped where none can be made, but never in CI."""
    for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        folder = Path(mount) / f"flagstone-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            if not (Path(mount) / "cgroup.procs").exists():
                continue
            folder.mkdir()
        except OSError:
            continue
        yield folder
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
        return
    pytest.skip("no cgroup can be made here: needs root")


def test_a_group_ends_with_its_cgroup(arena, cgroup):
    cache = arena.cache("a", size=64, merge=False)
    group = arena.group("job", cgroup=cgroup)
    assert group.cgroup == str(cgroup)
    assert arena.group("job", cgroup=cgroup) == group
    # As /proc/<pid>/cgroup has it, too.
    assert arena.group("job", cgroup=f"/{cgroup.name}") == group
    (info,) = [one for one in arena.snapshot().groups if one.name == "job"]
    assert (info.cgroup, info.lasting) == (str(cgroup), False)
    block = cache.alloc(group)
    block.array[:] = 5
    cgroup.rmdir()
    while group.state != "destroyed":
        time.sleep(0.01)
    with pytest.raises(flagstone.Closed):
        cache.alloc(group)
    with pytest.raises(flagstone.StaleHandle):
        arena.get(block.handle)
    assert block.array.sum() == 5 * 64
    with pytest.raises(FileNotFoundError):
        arena.group("job", cgroup=cgroup)


def test_a_cgroup_that_differs(arena, cgroup):
    plain = arena.group("plain")
    bound = arena.group("bound", cgroup=cgroup)
    with pytest.raises(flagstone.GroupMismatch):
        arena.group("plain", cgroup=cgroup)
    assert arena.group("bound") == bound
    assert plain.cgroup is None
    assert bound.state == "live"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("relative", ValueError),
        ("/proc", ValueError),
        ("/there/is/no/such/cgroup", FileNotFoundError),
        ("/sys/fs/cgroup/../../../proc", ValueError),
        ("/with\0zero", ValueError),
        (b"/bytes", FileNotFoundError),
        (5, TypeError),
    ],
)
def test_no_cgroup(arena, path, error):
    with pytest.raises(error):
        arena.group("job", cgroup=path)
    assert arena.groups == []


def test_lasting_and_with_a_cgroup(arena):
    with pytest.raises(ValueError, match="not both"):
        arena.group("job", cgroup="/", lasting=True)


# ---- what is seen of ends


def test_who_keeps_what_has_ended(arena, cache):
    group = arena.group("job")
    block = cache.alloc(group)
    message = pickle.dumps(cache.alloc(group))
    arena.barrier()
    assert arena.snapshot().keepers == ()
    group.close()
    arena.barrier()
    (held, in_flight) = sorted(arena.snapshot().keepers, key=lambda one: one.pid is None)
    assert (held.group, held.pid) == ("job", os.getpid())
    assert held.bytes == block.nbytes
    assert (in_flight.group, in_flight.pid, in_flight.references) == ("job", None, 1)
    assert arena.snapshot().children.deactivated == 1
    group.destroy()
    del message
    before = arena.snapshot()
    assert before.children.deactivated == 0
    assert before.children.queued + before.children.releasing == 1
    del block
    arena.barrier()
    after = arena.snapshot()
    assert after.keepers == ()
    assert after.children.queued == 0
    assert after.groups_waiting == 0
    assert sum(batch.groups for batch in after.last_batches) >= 1
    numbers = [batch.number for batch in after.last_batches]
    assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1))
    assert numbers[0] == after.batches
    assert all(0 <= batch.waited <= batch.seconds for batch in after.last_batches)


SYNCHRONOUS = """
import flagstone
with flagstone.open() as arena:
    cache = arena.cache("a", size=64)
    group = arena.group("job")
    cache.alloc(group)
    before = arena.snapshot().grace_periods
    ticket = group.destroy()
    assert ticket.done, "released when destroy() returns"
    assert arena.snapshot().grace_periods > before
    other = arena.group("other")
    with arena.read():
        try:
            other.destroy()
        except RuntimeError as error:
            assert "would wait for itself" in str(error)
        else:
            raise AssertionError("it waits inside a section")
    assert other.state == "live"
    assert cache.destroy().done
"""


def test_the_synchronous_way():
    environment = {**os.environ, "FLAGSTONE_TEARDOWN": "sync"}
    subprocess.run([sys.executable, "-c", SYNCHRONOUS], env=environment, check=True, timeout=60)


# ---- create


def test_create(arena):
    with pytest.raises(FileNotFoundError, match="job"):
        arena.group("job", create=False)
    with arena.group("job", create=True, limit="1MiB") as job:
        assert job.limit == 1 << 20
        with pytest.raises(FileExistsError, match="job"):
            arena.group("job", create=True)
        for create in (None, False):
            with arena.group("job", create=create) as again:
                assert again == job
            assert job.state == "live"
        with pytest.raises(FileNotFoundError):
            arena.group("job", parent=job, create=False)
    with pytest.raises(FileNotFoundError):
        arena.group("job", create=False)
    with arena.group(create=True) as unnamed, arena.group(create=True) as other:
        assert unnamed != other
    with pytest.raises(ValueError, match="without a name"):
        arena.group(create=False)


def test_a_mismatch_says_what_to_do(arena):
    with arena.group("job", limit="1MiB"):
        with pytest.raises(flagstone.GroupMismatch) as caught:
            arena.group("job", limit="3MiB")
        for word in ("'job'", "1 MiB", "3 MiB", "group.limit = ..."):
            assert word in str(caught.value)
    with arena.group("free"):
        with pytest.raises(flagstone.GroupMismatch, match="no limit"):
            arena.group("free", limit="3MiB")
