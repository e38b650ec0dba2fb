"""Block: what keeps its bytes, and who hears that it went; one process."""

import ctypes
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import flagstone

SIZE = 65536


def overwrite(arena):
    """Reuse whatever may be reused."""
    arena.barrier(30)
    return [arena.put(np.full(SIZE, 7, "u1")) for _ in range(64)]


def from_released(block):
    with memoryview(block) as view:
        return np.ndarray((SIZE,), "u1", buffer=block), view.nbytes


WAYS = {
    "ndarray": lambda block: np.ndarray((SIZE,), "u1", buffer=block),
    "ndarray at an offset": lambda block: np.ndarray((SIZE - 8,), "u1", buffer=block, offset=8),
    "ndarray of another dtype": lambda block: np.ndarray((SIZE // 8,), "f8", buffer=block),
    "ndarray over memoryview": lambda block: np.ndarray((SIZE,), "u1", buffer=memoryview(block)),
    "ndarray over a slice": lambda block: np.ndarray((SIZE // 2,), "u1", memoryview(block)[4:]),
    "ndarray over cast": lambda block: np.ndarray((SIZE,), "u1", memoryview(block).cast("b")),
    "ndarray over array": lambda block: np.ndarray((SIZE,), "u1", buffer=block.array),
    "ndarray over part": lambda block: np.ndarray((SIZE // 2,), "u1", buffer=block[: SIZE // 2]),
    "ndarray, then a memoryview released": from_released,
    "view of ndarray": lambda block: np.ndarray((SIZE,), "u1", buffer=block)[3:].view("i1"),
    "memoryview": memoryview,
    "asarray": np.asarray,
    "frombuffer": lambda block: np.frombuffer(block, "u1"),
    "from_dlpack": np.from_dlpack,
    "strided": lambda block: np.lib.stride_tricks.as_strided(np.asarray(block), (4, 4), (4, 1)),
    "ctypes": lambda block: (ctypes.c_uint8 * SIZE).from_buffer(block),
    "pickle buffer": lambda block: pickle.PickleBuffer(block).raw(),
    "array": lambda block: block.array,
    "part": lambda block: block[10:20],
}


def content(view):
    if isinstance(view, tuple):
        view = view[0]
    return bytes(memoryview(view)[:8])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["free", "free, and the Block stays", "del", "group"])
def test_bytes_stay_while_something_looks(arena, way, end):
    group = arena.group("job")
    block = arena.put(np.full(SIZE, 1, "u1"), group=group)
    view = WAYS[way](block)
    before = content(view)
    if end.startswith("free"):
        block.free()
    if end != "free, and the Block stays":
        del block
    if end == "group":
        group.destroy()
    others = overwrite(arena)
    assert content(view) == before
    del view, others
    block = None
    gc.collect()
    group.destroy()
    arena.barrier(30)
    assert arena.used == 0


@pytest.mark.parametrize("way", ["array", "part"])
def test_free_lets_go_at_once_where_no_buffer_was_given_out(arena, way):
    block = arena.put(np.full(SIZE, 1, "u1"))
    view = WAYS[way](block)
    block.free()
    arena.barrier(30)
    assert arena.used
    del view
    arena.barrier(30)
    assert arena.used == 0
    assert repr(block) == "<Block, freed>"


def test_a_buffer_ties_the_reference_to_the_block(arena):
    block = arena.put(np.full(SIZE, 1, "u1"))
    memoryview(block).release()
    block.free()
    with pytest.raises(flagstone.Closed):
        memoryview(block)
    arena.barrier(30)
    assert arena.used
    del block
    arena.barrier(30)
    assert arena.used == 0


def test_threads_give_out_buffers_and_free(arena):
    for _ in range(50):
        block = arena.put(np.full(4096, 1, "u1"))
        start, views = threading.Barrier(4), []

        def look(block=block, start=start, views=views):
            start.wait()
            try:
                views.append(np.ndarray((4096,), "u1", buffer=block))
            except flagstone.Closed:
                views.append(None)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait()
        block.free()
        for thread in threads:
            thread.join()
        del block, look, threads, thread
        others = [arena.put(np.full(4096, 7, "u1")) for _ in range(8)]
        assert all(view is None or view[0] == 1 for view in views)
        del views, others


# ---- weak references


def test_weak_reference(arena):
    block = arena.put(b"x")
    seen = []
    reference = weakref.ref(block, lambda gone: seen.append(gone))
    assert reference() is block
    plain = weakref.ref(block)
    assert plain is weakref.ref(block)
    assert weakref.getweakrefcount(block) == 2
    del block
    assert reference() is None
    assert seen == [reference]


def test_a_view_keeps_the_block_too(arena):
    block = arena.put(b"x")
    reference = weakref.ref(block)
    view = block.array
    del block
    assert reference() is not None
    del view
    assert reference() is None


def test_no_weak_reference_outlives_the_object_that_it_was_made_of(arena):
    """A Block object is used again for another object in the arena."""
    cache = arena.cache("thing", size=64)
    references, dead = [], []
    for _ in range(1000):
        block = cache.alloc()
        references.append(weakref.ref(block, dead.append))
        del block
    assert all(reference() is None for reference in references)
    assert dead == references
    again = [cache.alloc() for _ in range(1000)]
    assert all(reference() is None for reference in references)
    assert all(weakref.getweakrefcount(block) == 0 for block in again)
    again.clear()


def test_the_object_is_free_when_its_callbacks_run(arena):
    cache = arena.cache("thing", size=64)
    handles, answers = [], []

    def gone(reference):
        # Also allocates, and drops, while the Block is on its way out.
        blocks = [cache.alloc() for _ in range(10)]
        assert len({bytes(block.handle) for block in blocks}) == 10
        try:
            arena.get(handles[-1])
            answers.append("alive")
        except flagstone.StaleHandle:
            answers.append("gone")

    for _ in range(300):
        block = cache.alloc()
        handles.append(block.handle)
        reference = weakref.ref(block, gone)
        del block
        assert reference() is None
    assert answers == ["gone"] * 300


def test_a_callback_that_raises_disturbs_nobody(arena, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    def gone(reference):
        raise RuntimeError("of the callback's own")

    box = [arena.put(b"x")]
    reference = weakref.ref(box[0], gone)
    with pytest.raises(KeyError, match="ours"):  # noqa: PT012
        try:
            raise KeyError("ours")
        finally:
            box.clear()
    assert reference() is None
    assert told == [RuntimeError]


def test_finalize(arena):
    handle, freed = None, []
    block = arena.put(b"x")
    handle = block.handle
    finalizer = weakref.finalize(block, freed.append, bytes(handle))
    assert finalizer.alive
    del block
    assert not finalizer.alive
    assert freed == [bytes(handle)]


def test_weak_dictionaries_and_sets(arena):
    tiles = weakref.WeakValueDictionary()
    notes = weakref.WeakKeyDictionary()
    seen = weakref.WeakSet()
    kept = {}
    for number in range(600):  # more than there are spare Block objects
        block = arena.put(np.full(3, number))
        tiles[number] = block
        notes[block] = number
        seen.add(block)
        if number % 3 == 0:
            kept[number] = block
        del block
    assert sorted(tiles) == sorted(kept)
    assert sorted(notes.values()) == sorted(kept)
    assert len(seen) == len(kept)
    assert all(tiles[number].array[0] == number for number in kept)
    kept.clear()
    assert not tiles
    assert not notes
    assert not seen


def test_an_empty_block_object_can_be_referred_to():
    empty = flagstone.Block.__new__(flagstone.Block)
    reference = weakref.ref(empty)
    assert reference() is empty
    del empty
    assert reference() is None


def test_in_a_cycle(arena):
    """A Block cannot be part of one: whoever holds it can."""

    class Frame:
        pass

    frame = Frame()
    frame.self, frame.block = frame, arena.put(b"x")
    reference = weakref.ref(frame.block)
    del frame
    gc.collect()
    assert reference() is None


def test_threads_ask_while_it_goes(arena):
    cache = arena.cache("thing", size=64)
    box, stop, wrong = [None], threading.Event(), []

    def ask():
        while not stop.is_set():
            reference = box[0]
            block = reference() if reference is not None else None
            if block is not None:
                try:
                    block.array[0] = 1
                except Exception as error:
                    wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        block = cache.alloc()
        box[0] = weakref.ref(block)
        del block
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    box.clear()


def test_others_can_be_referred_to(arena):
    cache = arena.cache("thing", size=64)
    group = arena.group("job")
    for value in (arena, cache, group, cache.bind(group), group.destroy()):
        assert weakref.ref(value)() is value


# ---- facts of its array


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 3)], ids=str)
def test_facts_of_the_array(arena, shape):
    block = arena.put(np.zeros(shape, "f4"))
    array = block.array
    assert (block.shape, block.dtype, block.ndim) == (array.shape, array.dtype, array.ndim)
    if shape:
        assert len(block) == len(array)
    else:
        with pytest.raises(TypeError, match="no dimension"):
            len(block)
    assert bool(block) is True
    assert [item.tolist() for item in (block if shape else [])] == array.tolist() or not shape


def test_facts_of_plain_bytes(arena):
    block = arena.alloc(5)
    assert (block.shape, block.dtype, block.ndim, len(block)) == ((5,), np.dtype("u1"), 1, 5)


def test_no_facts_after_free(arena):
    block = arena.put(np.zeros(3))
    block.free()
    for name in ("shape", "dtype", "ndim", "__len__", "__dask_tokenize__"):
        with pytest.raises(flagstone.Closed):
            getattr(block, name)()
    assert block._repr_html_() == "<p>Block, freed</p>"
    assert bool(block) is True


def test_what_a_notebook_shows(arena):
    cache = arena.cache("<frame>", shape=(1000, 1000), dtype="u1")
    with arena.group("a&b") as group:
        block = cache.alloc(group, zero=True)
        shown = block._repr_html_()
        for part in ("(1000, 1000)", "uint8", "976.6 KiB", "&lt;frame&gt;", "a&amp;b", "..."):
            assert part in shown
        assert len(shown) < 2000
        del block
    assert "cache" not in arena.put(b"x")._repr_html_()


def test_the_name_for_dask(arena):
    block, other = arena.put(b"x"), arena.put(b"x")
    assert block.__dask_tokenize__() == arena.get(block.handle).__dask_tokenize__()
    assert block.__dask_tokenize__() != other.__dask_tokenize__()
