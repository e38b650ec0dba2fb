"""Block: bytes, views, freeing, copies; one process."""

import copy
import gc
import hashlib
import io
import pickle
import sys
import threading

import numpy as np
import pytest

import flagstone


@pytest.fixture
def cache(arena):
    return arena.cache("frame", shape=(2, 3), dtype="<i4")


def test_array(arena, cache):
    block = cache.alloc(zero=True)
    assert type(block.array) is np.ndarray
    assert (block.array.shape, block.array.dtype) == ((2, 3), np.dtype("<i4"))
    assert block.array.flags.c_contiguous
    assert block.array.flags.aligned
    assert block.array.flags.writeable
    assert not block.array.flags.owndata
    block.array[1, 2] = 7
    assert block.array[1].tolist() == [0, 0, 7]
    assert block.array is not block.array
    assert block.nbytes == 24
    assert not block.readonly
    plain = arena.alloc(5)
    assert (plain.array.shape, plain.array.dtype) == ((5,), np.dtype("u1"))


def test_facts(arena, cache):
    with arena.group("job") as group:
        block = cache.alloc(group)
        assert block.cache == cache
        assert block.group == group
        assert block.handle == block.handle
        assert isinstance(block.handle, flagstone.Handle)
        ((pid, command),) = block.holders
        assert pid == arena.processes[0].pid
        assert command
        assert repr(block) == (
            f"<Block of cache 'frame' in arena '{arena.name}', group 'job', 24 B, int32 (2, 3)>"
        )
        del block
    small = arena.alloc(10)
    assert repr(small) == f"<Block in arena '{arena.name}', 10 B>"
    assert small.group == arena.root_group
    assert "size_class" in small.cache.flags


def test_memoryview(cache):
    block = cache.alloc(zero=True)
    block.array[:] = [[1, 2, 3], [4, 5, 6]]
    view = memoryview(block)
    assert (view.shape, view.strides, view.format) == ((2, 3), (12, 4), "i")
    assert (view.nbytes, view.itemsize, view.readonly) == (24, 4, False)
    assert view.tolist() == [[1, 2, 3], [4, 5, 6]]
    view[1, 2] = 60
    assert block.array[1, 2] == 60
    assert bytes(block) == block.array.tobytes()
    assert view.obj is block


def test_what_wants_bytes_gets_bytes(arena, cache):
    block = cache.alloc(zero=True)
    raw = bytes(24)
    assert hashlib.sha256(block).digest() == hashlib.sha256(raw).digest()
    file = io.BytesIO()
    assert file.write(block) == 24
    assert io.BytesIO(b"x" * 24).readinto(block) == 24
    assert bytes(block) == b"x" * 24
    assert b"".join([block, block]) == b"x" * 48
    assert np.frombuffer(block, "u1").tobytes() == b"x" * 24
    plain = arena.put(b"hello")
    assert memoryview(plain).format == "B"
    assert bytes(plain) == b"hello"
    assert memoryview(plain)[1:3] == b"el"


@pytest.mark.parametrize("number", [int, float, complex])
def test_a_block_of_no_dimension_is_its_number(arena, number):
    assert number(arena.put(np.array(7))) == 7
    assert number(arena.put(np.float32(2.5))) == number(np.float32(2.5).real)
    for several in (arena.zeros(2), arena.put(b"77"), arena.put(b"")):  # not the digits of a text
        with pytest.raises(TypeError):
            number(several)


def test_numpy_protocols(cache):
    block = cache.alloc(zero=True)
    array = np.asarray(block)
    assert (array.shape, array.dtype) == ((2, 3), np.dtype("<i4"))
    array[0, 0] = 5
    assert block.array[0, 0] == 5
    assert block.__array__().base is not None
    assert np.array(block, dtype="f8").tolist() == [[5, 0, 0], [0, 0, 0]]
    assert block.__array__(np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="without a copy"):
        block.__array__(np.float32, copy=False)
    copied = block.__array__(copy=True)
    copied[0, 0] = 6
    assert block.array[0, 0] == 5
    assert np.from_dlpack(block)[0, 0] == 5
    assert block.__dlpack_device__() == (1, 0)


DTYPES = ["u1", ">f8", "<c16", "?", "M8[ns]", "S5", "U3", "e", [("a", "u1"), ("b", ">i8", (2,))]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 3)], ids=str)
def test_put_keeps_dtype_and_shape(arena, dtype, shape):
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    source = np.frombuffer(bytes(n % 120 for n in range(count)), "u1")
    source = np.ndarray(shape, dtype, source.tobytes() or b"\0")
    block = arena.put(source)
    assert (block.array.shape, block.array.dtype) == (source.shape, source.dtype)
    assert block.array.tobytes() == source.tobytes()
    assert block.nbytes == source.nbytes
    again = pickle.loads(pickle.dumps(block))
    assert (again.array.shape, again.array.dtype) == (source.shape, source.dtype)
    assert again.array.tobytes() == source.tobytes()
    other = copy.deepcopy(block)
    assert (other.array.shape, other.array.dtype) == (source.shape, source.dtype)
    assert other.array.tobytes() == source.tobytes()
    assert np.asarray(block).dtype == source.dtype
    del block, again, other


def test_put_of_what_is_not_contiguous(arena):
    source = np.arange(24).reshape(4, 6)
    for view in (source.T, source[::2, ::-1], np.asfortranarray(source), source[:, 2]):
        block = arena.put(view)
        assert block.array.tolist() == view.tolist()
        assert block.array.flags.forc
    assert arena.put(source.T).array.flags.f_contiguous
    assert arena.put(source[::2, ::-1]).array.flags.c_contiguous


@pytest.mark.parametrize(
    "value",
    [b"abc", bytearray(b"abc"), memoryview(b"abcabc")[::2], memoryview(b"aabbcc")[::2][:3]],
    ids=["bytes", "bytearray", "strided", "strided-part"],
)
def test_put_of_buffers(arena, value):
    block = arena.put(value)
    assert bytes(block) == bytes(value)
    assert block.array.dtype == np.uint8


def test_put_of_other_things(arena):
    import array

    assert arena.put(array.array("d", [1, 2])).array.tolist() == [1.0, 2.0]
    assert arena.put(np.float32(1.5)).array == np.float32(1.5)
    assert arena.put(arena.put(np.arange(3))).array.tolist() == [0, 1, 2]
    assert arena.put(b"").nbytes == 0
    assert bytes(arena.put(b"")) == b""
    assert pickle.loads(pickle.dumps(arena.put(b""))).nbytes == 0
    used = sum(one.references for one in arena.processes)
    for value in ("text", 1, None, [1, 2], object(), np.array([object()]), bytes):
        with pytest.raises(TypeError):
            arena.put(value)
    assert sum(one.references for one in arena.processes) == used


@pytest.mark.parametrize("nbytes", [0, 1, 7, 8, 9, 100, 4095, 4096, 4097, 70_000, 5_000_000])
def test_alloc_of_any_size(arena, nbytes):
    block = arena.alloc(nbytes)
    assert block.nbytes == nbytes
    assert block.array.shape == (nbytes,)
    block.array[:] = 1
    for again in (pickle.loads(pickle.dumps(block)), arena.get(block.handle)):
        assert again.nbytes == nbytes
        assert bytes(again) == b"\1" * nbytes
    del block, again


@pytest.mark.parametrize(
    ("nbytes", "error"),
    [(-1, ValueError), (2**63, ValueError), ("x", ValueError), (1.0, TypeError), (None, TypeError)],
)
def test_alloc_of_nonsense(arena, nbytes, error):
    with pytest.raises(error):
        arena.alloc(nbytes)


def test_more_than_there_is(arena):
    for nbytes in (arena.capacity + 1, 2**40, 2**62):
        with pytest.raises(flagstone.ArenaFull):
            arena.alloc(nbytes)


def test_dropping_frees(arena, cache):
    handle = cache.alloc().handle
    with pytest.raises(flagstone.StaleHandle):
        arena.get(handle)
    assert cache.stats.allocated == 0


@pytest.mark.parametrize(
    "kind", ["array", "slice", "memoryview", "asarray", "frombuffer", "dlpack"]
)
def test_a_view_keeps_the_bytes(arena, kind):
    cache = arena.cache("small", shape=8, dtype="u1")
    make = {
        "array": lambda block: block.array,
        "slice": lambda block: block.array[2:][::2][None],
        "memoryview": memoryview,
        "asarray": np.asarray,
        "frombuffer": lambda block: np.frombuffer(block, "u1"),
        "dlpack": np.from_dlpack,
    }[kind]
    for ending in ("drop", "free"):
        block = cache.alloc()
        block.array[:] = 7
        view = make(block)
        before = bytes(view)
        if ending == "free":
            block.free()
        del block
        arena.barrier()
        others = cache.alloc_many(2000)
        for other in others:
            other.array[:] = 9
        assert bytes(view) == before
        del view, others, other
        arena.barrier()
        assert cache.stats.allocated == 0


def test_free(arena, cache):
    block = cache.alloc()
    again = arena.get(block.handle)
    handle = block.handle
    view = memoryview(block)
    block.free()
    for call in (
        lambda: block.array,
        lambda: block.nbytes,
        lambda: block.handle,
        lambda: block.cache,
        lambda: block.group,
        lambda: block.holders,
        lambda: block.readonly,
        lambda: block.free(),
        lambda: pickle.dumps(block),
        lambda: copy.deepcopy(block),
        lambda: bytes(block),
        lambda: memoryview(block),
        lambda: np.asarray(block) + 1,
        lambda: block.__dlpack__(),
    ):
        with pytest.raises((flagstone.Closed, TypeError)):
            call()
    with pytest.raises(flagstone.Closed):
        memoryview(block)
    assert repr(block) == "<Block, freed>"
    assert view.nbytes == 24
    # Others keep the bytes, and cannot free them again.
    assert again.array.shape == (2, 3)
    with pytest.raises(flagstone.StaleHandle):
        again.free()
    assert again.nbytes == 24
    with pytest.raises(flagstone.StaleHandle):
        arena.get(handle)
    del again
    view.release()
    block = (
        None  # a buffer was given out: NumPy may keep nothing but the Block, and look at its bytes
    )
    arena.barrier()
    assert cache.stats.allocated == 0


def test_a_message_survives_free(arena, cache):
    block = cache.alloc(zero=True)
    message = pickle.dumps(block)
    block.free()
    del block
    arena.barrier()
    taken = pickle.loads(message)
    assert not taken.array.any()
    with pytest.raises(flagstone.StaleHandle):
        pickle.loads(message)
    del taken


def test_pickle(arena, cache):
    block = cache.alloc()
    block.array[:] = 3
    messages = [pickle.dumps(block, protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    assert len(arena.in_flight()) == len(messages)
    for message in messages:
        taken = pickle.loads(message)
        assert taken.handle == block.handle
        assert (taken.array == 3).all()
        assert taken.cache == cache
    assert arena.in_flight() == []
    # Read twice: the second time as a bare handle.
    assert pickle.loads(messages[0]).handle == block.handle
    handle = block.handle
    del block, taken
    arena.barrier()
    with pytest.raises(flagstone.StaleHandle):
        pickle.loads(messages[0])
    with pytest.raises(flagstone.StaleHandle):
        arena.get(handle)
    assert len(messages[0]) < 300


def test_an_old_pickle_does_not_take_a_newer_message(arena, cache):
    block = cache.alloc()
    old = pickle.dumps(block)
    pickle.loads(old)
    new = pickle.dumps(block)
    pickle.loads(old)
    assert len(arena.in_flight()) == 1
    del block
    arena.barrier()
    taken = pickle.loads(new)
    assert arena.in_flight() == []
    del taken


def test_a_message_alone_keeps_the_object(arena, cache):
    message = pickle.dumps(cache.alloc(zero=True))
    arena.barrier()
    assert cache.stats.allocated == 1
    assert not pickle.loads(message).array.any()
    arena.barrier()
    assert cache.stats.allocated == 0


def test_copies(arena, cache):
    with arena.group("job") as group:
        block = cache.alloc(group)
        block.array[:] = 4
        assert copy.copy(block) is block
        other = copy.deepcopy(block)
        assert other.handle != block.handle
        assert (other.cache, other.group) == (cache, group)
        assert (other.array == 4).all()
        other.array[:] = 5
        assert (block.array == 4).all()
        pair = copy.deepcopy([block, block])
        assert pair[0] is pair[1]
        del block, other, pair
    big = arena.alloc(100_000)
    big.array[:] = 7
    assert (copy.deepcopy(big).array == 7).all()


def test_get_and_drop_use_one_entry(arena, cache):
    block = cache.alloc()
    handle = block.handle
    with arena.read():
        for _ in range(10_000):
            arena.get(handle)
        (process,) = arena.processes
    assert process.references + process.dropped <= 4
    del block


def test_a_block_is_made_by_the_arena(cache):
    with pytest.raises(TypeError, match="alloc"):
        flagstone.Block()
    empty = flagstone.Block.__new__(flagstone.Block)
    for call in (
        lambda: empty.array,
        lambda: empty.nbytes,
        lambda: empty.free(),
        lambda: memoryview(empty),
        lambda: pickle.dumps(empty),
        lambda: empty.handle,
        lambda: empty.holders,
    ):
        with pytest.raises(flagstone.Closed):
            call()
    assert repr(empty)
    view = type(cache.alloc().array.base)
    with pytest.raises(TypeError, match="array"):
        view()
    assert view.__new__(view).block is None


def test_a_block_is_not_tracked_by_the_collector(cache):
    block = cache.alloc()
    alone = object()
    assert not gc.is_tracked(block)
    assert sys.getrefcount(block) == sys.getrefcount(alone)
    with pytest.raises(AttributeError):
        block.something = 1


def test_threads_drop_and_free_one_block(arena, cache):
    for _ in range(50):
        box = [cache.alloc()]
        barrier = threading.Barrier(4)
        freed = []

        def end(box=box, barrier=barrier, freed=freed):
            block = box[0]
            view = block.array
            barrier.wait()
            try:
                block.free()
                freed.append(1)
            except flagstone.Closed:
                pass
            del block, view

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert freed == [1]
        box.clear()
    arena.barrier()
    assert cache.stats.allocated == 0


def test_threads_allocate(arena, cache):
    errors = []

    def work(number):
        try:
            bound = cache.bind()
            for _ in range(300):
                blocks = [bound.alloc() for _ in range(20)]
                for block in blocks:
                    block.array[:] = number
                taken = [pickle.loads(pickle.dumps(block)) for block in blocks[::5]]
                assert all((block.array == number).all() for block in blocks + taken)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    arena.barrier()
    assert cache.stats.allocated == 0


def test_blocks_in_a_cycle_are_collected(arena, cache):
    for _ in range(100):
        cycle = [cache.alloc()]
        cycle.append(cycle)
    del cycle
    gc.collect()
    arena.barrier()
    assert cache.stats.allocated == 0


def test_a_collection_in_the_middle_of_anything(arena, cache):
    def cycle():
        one = [cache.alloc(), cache.alloc().array]
        one.append(one)

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(200):
            cycle()
            block = pickle.loads(pickle.dumps(cache.alloc()))
            arena.get(block.handle).free()
            del block
    finally:
        gc.set_threshold(*threshold)


def test_begins_with_nothing_of_another(arena, cache):
    """Blocks that end are used for those that begin."""
    blocks = [cache.alloc() for _ in range(600)]
    for block in blocks[::2]:
        block.free()
    views = [block.array for block in blocks[1::4]]
    del block, blocks
    for plain in [arena.alloc(8) for _ in range(700)]:
        assert (plain.nbytes, plain.array.dtype, plain.array.shape) == (8, np.uint8, (8,))
    shaped = [cache.alloc() for _ in range(700)]
    assert all(block.array.shape == (2, 3) for block in shaped)
    assert len({one.array.ctypes.data for one in shaped} | {v.ctypes.data for v in views}) == 850


def test_ends_in_the_middle_of_another_end(arena_name):
    """The last Block of an arena ends the attachment, whose end may make and end Blocks."""
    with flagstone.open(arena_name) as other:
        cache = other.cache("other", size=8)
        arena = flagstone.open(None)
        alloc = arena.cache("frame", size=8).bind().alloc
        block = alloc()
        arena.close()
        with pytest.raises(flagstone.Closed):
            alloc()
        del block
        assert cache.alloc().nbytes == 8


@pytest.mark.parametrize("arguments", [(True,), (1, 2)])
def test_alloc_takes_no_positional_arguments(cache, arguments):
    with pytest.raises(TypeError):
        cache.bind().alloc(*arguments)
    with pytest.raises(TypeError):
        cache.bind().alloc(zero=True, nonsense=1)
    assert cache.bind().alloc(zero=True, wait=0.0).array.sum() == 0
