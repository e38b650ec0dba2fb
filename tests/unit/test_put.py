"""put(): whatever is put arrives as it was, by every way, or is refused with what to do."""

import array
import contextlib
import copy
import ctypes
import hashlib
import io
import mmap
import pickle
import sys
import types
import warnings

import numpy as np
import pytest

import flagstone

try:  # here, because their threads are no test's
    import pandas
except ImportError:
    pandas = None
try:
    import xarray
except ImportError:
    xarray = None


def references(arena):
    return sum(one.references for one in arena.processes)


def ways(arena, block):
    """Every way in which a Block comes back to whoever asks."""
    yield "array", block.array
    yield "pickle", pickle.loads(pickle.dumps(block)).array
    yield "weak", pickle.loads(pickle.dumps(block.weak())).get().array
    yield "deepcopy", copy.deepcopy(block).array
    yield "asarray", np.asarray(block)
    yield "part", block.part(...).array
    yield "part's pickle", pickle.loads(pickle.dumps(block.part(...))).array
    with contextlib.suppress(BufferError):  # what a buffer has no word for
        yield "memoryview", np.asarray(memoryview(block))


def same(one, other):
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with np.errstate(invalid="ignore"):  # these bytes are some long double that is none
        return one.tobytes() == other.tobytes() or np.array_equal(one, other)


BASE = np.random.default_rng(1).integers(0, 100, (4, 3, 2))

SIMPLE = [
    *(
        "?",
        "i1",
        "u1",
        "i2",
        ">i2",
        "<u4",
        "i8",
        ">u8",
        "f2",
        "f4",
        ">f4",
        "f8",
        "g",
        "F",
        "D",
        "G",
    ),
    *(">c8", "M8[ns]", "M8[D]", ">M8[s]", "M8[25s]", "M8", "m8[s]", "m8", "S1", "S5", "U7", ">U3"),
    *("V1", "V5", "V16"),
]

STRUCTURED = {
    "packed": [("a", "u1"), ("b", "f8"), ("s", "S3")],
    "aligned": np.dtype([("a", "u1"), ("b", "f8"), ("c", "i2", (2, 2))], align=True),
    "nested": [("p", [("x", "f4"), ("y", "f4")]), ("t", "M8[us]")],
    "titles": [(("Title", "a"), "i4"), (("Other", "b"), "f8")],
    "gap": {"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8]},
    "gap at the end": {"names": ["a"], "formats": ["u1"], "offsets": [0], "itemsize": 16},
    "gap at the beginning": {"names": ["a"], "formats": ["u1"], "offsets": [8], "itemsize": 16},
    "byte order": [("a", ">i4"), ("b", "<i4"), ("c", ">U2")],
    "subarrays": [("a", "f4", (2, 3)), ("b", "u1", 5)],
    "void": [("a", "V3"), ("b", "?")],
    "names": [("ä ö", "f4"), ("'\"", "u1"), ("a:b", "u1"), ("T{", "i2")],
    "one": [("a", "f8")],
    "half": [("a", "f2"), ("b", "g"), ("c", "F")],
}

REFUSED = {
    "crossed": {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [8, 0], "itemsize": 16},
    "overlap": {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]},
    "object": "O",
    "object in a field": [("a", "i4"), ("b", "O")],
    "object in a nested field": [("a", [("b", "O", (2,))])],
}


@pytest.mark.parametrize("name", [*SIMPLE, *STRUCTURED])
def test_any_dtype_and_shape(arena, name):
    dtype = np.dtype(STRUCTURED.get(name, name))
    for shape in ((), (3,), (0,), (5, 0), (0, 5), (2, 0, 3), (4, 3, 2), (1, 1)):
        check(arena, dtype, shape)


def check(arena, dtype, shape):
    count = int(np.prod(shape)) * dtype.itemsize
    source = np.ndarray(shape, dtype, bytes(n % 50 for n in range(count)) or b"\0")
    block = arena.put(source)
    for way, found in ways(arena, block):
        assert same(found, source), way
    del found, block
    if source.size:
        cache = arena.cache(f"thing {shape}", shape=shape, dtype=dtype)
        assert (cache.dtype, cache.shape) == (dtype, shape)
        block = cache.alloc()
        block.array[...] = source
        assert same(block.array, source)
        cache._link.attachment.formats.clear()
        for way, found in ways(arena, arena.get(block.handle)):
            assert same(found, source), way
        del found, block


@pytest.mark.parametrize("name", REFUSED)
def test_dtypes_that_are_refused(arena, name):
    source = np.zeros(3, REFUSED[name])
    for call in (
        lambda: arena.put(source),
        lambda: arena.cache("thing", shape=3, dtype=source.dtype),
    ):
        with pytest.raises(TypeError, match=r"store a view|Python objects"):
            call()
    assert references(arena) == 0
    # What the text says to do does it.
    if not source.dtype.hasobject:
        assert same(arena.put(source.view(f"V{source.itemsize}")).array.view(source.dtype), source)


def test_a_dtype_of_another_package(arena):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    source = np.ones(3, ml_dtypes.bfloat16)
    with pytest.raises(TypeError, match=r"view\('u2'\)"):
        arena.put(source)
    assert same(arena.put(source.view("u2")).array.view(source.dtype), source)


@pytest.mark.parametrize("name", [*SIMPLE, *STRUCTURED])
def test_a_buffer_means_to_numpy_what_the_array_means(arena, name):
    """Also where NumPy gives a code that it cannot read, or reads as something else."""
    source = np.zeros(3, STRUCTURED.get(name, name))
    block = arena.put(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        form = block._parts[1]  # None: bytes
        if form is not None and form.code is None:
            with pytest.raises(BufferError, match=r"use \.array"):
                memoryview(block)
        else:
            assert np.asarray(memoryview(block)).dtype == source.dtype
        assert np.asarray(block).dtype == source.dtype
        assert np.array(block).dtype == source.dtype
    # As one run of bytes it can always be had.
    assert hashlib.sha256(block).digest() == hashlib.sha256(bytes(source.nbytes)).digest()
    assert io.BytesIO().write(block) == source.nbytes


# ---- order


SHAPES = [(3, 4), (2, 3, 4), (1, 3, 4), (2, 3, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "M8[s]", [("a", "u1"), ("b", "f8")]], ids=str)
def test_order_is_kept(arena, shape, dtype):
    source = np.zeros(shape, dtype)
    source.reshape(-1).view("u1")[:] = np.arange(source.nbytes) % 100
    source = np.asfortranarray(source)
    block = arena.put(source)
    for way, found in ways(arena, block):
        assert same(found, source), way
        assert found.flags.f_contiguous, way
    del found
    with arena.group("job") as group:
        assert arena.put(source, order="C", group=group).array.flags.c_contiguous
        assert same(arena.put(source, order="C").array, source)
        assert arena.put(source, order="A").array.flags.f_contiguous
        assert arena.put(np.ascontiguousarray(source), order="F").array.flags.f_contiguous
        assert same(arena.put(np.ascontiguousarray(source), order="F").array, source)
        assert arena.put(np.ascontiguousarray(source)).array.flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_cache_in_fortran_order(arena, shape):
    source = np.asfortranarray(np.arange(np.prod(shape), dtype="f4").reshape(shape))
    cache = arena.cache("volume", shape=shape, dtype="f4", order="F", init=source)
    assert cache.order == "F"
    assert "Fortran" in repr(cache)
    block = cache.alloc()
    cache._link.attachment.formats.clear()
    for way, found in ways(arena, arena.get(block.handle)):
        assert same(found, source), way
        assert found.flags.f_contiguous, way
    del found
    assert pickle.loads(pickle.dumps(cache)) == cache
    with pytest.raises(flagstone.CacheMismatch, match="Fortran"):
        arena.cache("volume", shape=shape, dtype="f4", init=source)
    other = arena.cache("other", shape=shape, dtype="f4")
    assert (other.order, other.merged_into) == ("C", None)
    assert arena.cache("bytes", size=8).order is None


def test_where_the_orders_are_the_same_they_are_merged(arena):
    one = arena.cache("one", shape=(1, 5), dtype="f4", order="F")
    other = arena.cache("other", shape=(1, 5), dtype="f4")
    assert other.merged_into == "one"
    assert one.order == "C"


def test_a_buffer_in_fortran_order(arena):
    """As from a NumPy array: who does not ask how it lies is refused."""
    source = np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3))
    block = arena.put(source)
    assert memoryview(block).strides == (1, 2)
    assert memoryview(block).f_contiguous
    assert bytes(memoryview(block)) == bytes(source.data)
    assert np.ndarray((2, 3), "u1", block.array, order="F").tolist() == source.tolist()
    for refused in (hashlib.sha256, io.BytesIO().write, lambda one: np.frombuffer(one, "u1")):
        with pytest.raises((BufferError, ValueError)):
            refused(block)
    assert hashlib.sha256(block.array.T).digest() == hashlib.sha256(source.T).digest()
    # A part of it looks at the same bytes.
    part = pickle.loads(pickle.dumps(block[1:, ::2]))
    assert part.tolist() == source[1:, ::2].tolist()
    part[0, 0] = 99
    assert block.array[1, 0] == 99


def test_only_what_was_asked_for(arena):
    for value in (np.zeros((2, 3)), b"abc"):
        for order in ("c", "", None, 1, "CF"):
            with pytest.raises(ValueError, match="order must be"):
                arena.put(value, order=order)
    with pytest.raises(ValueError, match="order must be"):
        arena.cache("thing", shape=(2, 3), dtype="f4", order="K")


# ---- subclasses of ndarray


class Metres(np.ndarray):
    unit = "m"


class Mapped(np.memmap):
    pass


def masked_record():
    return np.ma.array([(1, 2.0)], mask=[(0, 1)], dtype=[("a", "i4"), ("b", "f8")])


SUBCLASSES = {
    "masked": lambda: np.ma.array([1.0, -9999.0], mask=[0, 1]),
    "masked, without a mask": lambda: np.ma.array([1.0, 2.0]),
    "masked constant": lambda: np.ma.masked,
    "masked record": masked_record,
    "view of masked": lambda: np.ma.array([1.0, -9999.0], mask=[0, 1])[::-1],
    "matrix": lambda: np.matrix([[1, 2], [3, 4]]),
    "recarray": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "chararray": lambda: np.char.array(["a  ", "b"]),
    "of the user": lambda: np.arange(3.0).view(Metres),
    "of memmap": lambda: np.arange(3.0).view(Mapped),
}


@pytest.mark.parametrize("name", SUBCLASSES)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore:The chararray class:DeprecationWarning")
def test_subclasses_that_mean_more_are_refused(arena, name):
    value = SUBCLASSES[name]()
    with pytest.raises(TypeError, match=r"would lose .*: store"):
        arena.put(value)
    if value.nbytes and value.ndim and value.dtype.names is None:
        with pytest.raises(TypeError, match="init= would lose"):
            arena.cache("thing", shape=value.shape, dtype=value.dtype, init=value)
    assert references(arena) == 0


def test_what_the_errors_say_to_do(arena):
    masked = SUBCLASSES["masked"]()
    assert arena.put(masked.filled()).array.tolist() == [1.0, 1e20]
    assert arena.put(np.ma.getmaskarray(masked)).array.tolist() == [False, True]
    assert arena.put(masked.data).array.tolist() == [1.0, -9999.0]
    records = SUBCLASSES["recarray"]()
    again = arena.put(records.view(records.dtype.fields, np.ndarray)).array.view(np.recarray)
    assert again.b.tolist() == [2.0]
    assert arena.put(np.asarray(SUBCLASSES["of the user"]())).array.tolist() == [0, 1, 2]


def test_records_in_a_plain_array(arena):
    records = np.asarray(SUBCLASSES["recarray"]())
    for value in (records, records[0]):
        with pytest.raises(TypeError, match="record"):
            arena.put(value)
    plain = records.view(records.dtype.fields or records.dtype, np.ndarray)
    assert arena.put(plain).array["b"].tolist() == [2.0]


def test_subclasses_that_mean_no_more(arena, tmp_path):
    mapped = np.memmap(tmp_path / "file", "f4", "w+", shape=(3, 2), order="F")
    mapped[:] = [[1, 2], [3, 4], [5, 6]]
    block = arena.put(mapped)
    assert type(block.array) is np.ndarray
    assert block.array.tolist() == mapped.tolist()
    assert block.array.flags.f_contiguous
    part = block[1:]
    assert arena.put(part).array.tolist() == mapped[1:].tolist()
    assert arena.put(block).array.tolist() == mapped.tolist()
    assert arena.put(block).array.flags.f_contiguous


# ---- other libraries, and what looks like them


class WithArray:
    """As a Series, a DataArray, a quantity, a dataset in a file."""

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("nobody may ask")


class WithInterface:
    def __init__(self, value, **more):
        self.value = value
        self.__array_interface__ = {**value.__array_interface__, **more}


class WithStruct:
    __array_struct__ = None


class Tensor:
    """One that refuses, as one with gradients or on another device does."""

    def __dlpack__(self, **options):
        raise RuntimeError("this wants gradients")

    def __dlpack_device__(self):
        return (1, 0)

    __array__ = WithArray.__array__


class Plain:
    def __init__(self, value):
        self.value = value

    def __dlpack__(self, **options):
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.value.__dlpack_device__()


@pytest.mark.parametrize("value", [WithArray(), WithStruct()], ids=["array", "struct"])
def test_what_may_mean_more_is_refused(arena, value):
    with pytest.raises(TypeError, match=r"np\.asarray\(value\)"):
        arena.put(value)
    assert references(arena) == 0


def test_memory_of_others(arena):
    source = np.arange(6.0).reshape(2, 3)
    assert arena.put(WithInterface(source)).array.tolist() == source.tolist()
    with pytest.raises(TypeError, match="mask"):
        arena.put(WithInterface(source, mask=WithInterface(np.zeros((2, 3), bool))))
    image = WithInterface(np.zeros((2, 3), "u1"))
    image.palette = object()
    with pytest.raises(TypeError, match="palette"):
        arena.put(image)
    with pytest.raises(TypeError, match="cannot read"):
        arena.put(WithInterface(source, typestr="nonsense"))


def test_tensors(arena):
    source = np.arange(6.0).reshape(2, 3)
    assert arena.put(Plain(source)).array.tolist() == source.tolist()
    assert arena.put(Plain(source.T)).array.flags.f_contiguous
    with pytest.raises(TypeError, match=r"wants gradients.*detach"):
        arena.put(Tensor())


def test_torch(arena):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6.0).reshape(2, 3)
    assert arena.put(tensor).array.tolist() == tensor.tolist()
    for value in (tensor.clone().requires_grad_(), torch.nn.Parameter(tensor)):
        with pytest.raises(TypeError, match="detach"):
            arena.put(value)

    class Boxes(torch.Tensor):
        pass

    with pytest.raises(TypeError, match="beyond its elements"):
        arena.put(tensor.as_subclass(Boxes))
    with pytest.raises(TypeError, match="cannot read"):
        arena.put(torch.ones(2, dtype=torch.complex64).conj())


def test_a_subclass_of_a_tensor(arena, monkeypatch):
    """As above, where torch is not installed."""

    class Base(Plain):
        pass

    class Boxes(Base):
        pass

    class Parameter(Base):
        pass

    fake = types.SimpleNamespace(Tensor=Base, nn=types.SimpleNamespace(Parameter=Parameter))
    monkeypatch.setitem(sys.modules, "torch", fake)
    source = np.arange(3.0)
    assert arena.put(Base(source)).array.tolist() == [0, 1, 2]
    assert arena.put(Parameter(source)).array.tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="beyond its elements"):
        arena.put(Boxes(source))
    Base.has_names = lambda self: True
    with pytest.raises(TypeError, match="beyond its elements"):
        arena.put(Base(source))


def test_pandas_and_xarray(arena):
    if pandas is None:
        pytest.skip("pandas is not installed")
    values = [
        pandas.Series([1, 2]),
        pandas.Categorical(["a", "b", "a"]),
        pandas.Categorical([1, 2]),
        pandas.Index([1]),
        pandas.array([1, None], dtype="Int64"),
    ]
    if xarray is not None:
        values.append(xarray.DataArray(np.zeros((2, 3)), dims=("a", "b")))
    for value in values:
        with pytest.raises(TypeError, match="beyond its elements"):
            arena.put(value)
    assert arena.put(np.asarray(values[0])).array.tolist() == [1, 2]


# ---- buffers


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


BUFFERS = {
    "bytes": (b"abc", "u1", (3,)),
    "no bytes": (b"", "u1", (0,)),
    "bytearray": (bytearray(b"abc"), "u1", (3,)),
    "no bytearray": (bytearray(), "u1", (0,)),
    "memoryview": (memoryview(b"abcd")[::2], "u1", (2,)),
    "cast": (memoryview(bytes(24)).cast("d").cast("B").cast("i", (2, 3)), "i4", (2, 3)),
    "chars": (memoryview(b"abc").cast("c"), "S1", (3,)),
    "array": (array.array("d", [1, 2]), "f8", (2,)),
    "no array": (array.array("d"), "f8", (0,)),
    "ctypes": ((ctypes.c_int * 3)(1, 2, 3), "i4", (3,)),
    "ctypes, none": ((ctypes.c_int * 0)(), "i4", (0,)),
    "ctypes, inner none": ((ctypes.c_int * 0 * 3)(), "i4", (3, 0)),
    "ctypes, two dimensions": ((ctypes.c_int * 2 * 3)(), "i4", (3, 2)),
    "ctypes scalar": (ctypes.c_double(1.5), "f8", ()),
    "structures": ((Point * 3)(), np.dtype(Point), (3,)),
    "structures, none": ((Point * 0)(), np.dtype(Point), (0,)),
    "structure": (Point(1, 2.0), np.dtype(Point), ()),
    "numpy scalar": (np.float32(1.5), "f4", ()),
    "numpy text": (np.str_("ab"), "U2", ()),
    "datetime": (np.datetime64("2020-01-01", "ns"), "M8[ns]", ()),
    "empty array": (memoryview(np.empty((5, 0))), "f8", (5, 0)),
    "pickle buffer": (pickle.PickleBuffer(b"abc"), "u1", (3,)),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_buffers(arena, name):
    value, dtype, shape = BUFFERS[name]
    block = arena.put(value)
    assert (block.array.dtype, block.array.shape) == (np.dtype(dtype), shape)
    content = value.tobytes() if hasattr(value, "tobytes") else bytes(memoryview(value))
    assert block.array.tobytes() == content
    for way, found in ways(arena, block):
        assert same(found, block.array), way


def test_an_anonymous_map(arena):
    with mmap.mmap(-1, 4096) as memory:
        memory[:3] = b"abc"
        assert bytes(arena.put(memory).array[:4]) == b"abc\0"


@pytest.mark.parametrize(
    "value",
    ["text", 1, 1.5, 1j, None, True, [1, 2], (1,), {}, object(), bytes, np.ndarray, WithArray],
    ids=lambda value: "object" if type(value) is object else repr(value),
)
def test_what_is_no_array(arena, value):
    with pytest.raises(TypeError, match="takes an array or a buffer"):
        arena.put(value)
    assert references(arena) == 0


def test_what_is_no_array_is_dumped(arena):
    with pytest.raises(TypeError, match=r"not dict: arena.dump\(\) stores any object"):
        arena.put({"a": np.arange(3)})
    assert same(arena.dump({"a": np.arange(3)}).load()["a"], np.arange(3))


def test_a_buffer_that_numpy_cannot_read(arena):
    with pytest.raises(TypeError, match="cannot read"):
        arena.put(memoryview(bytes(8)).cast("P"))
    released = memoryview(b"abc")
    released.release()
    with pytest.raises(TypeError, match="cannot read"):
        arena.put(released)


# ---- in another process


def look(block):
    array = block.array
    flags = array.flags
    return array.shape, array.dtype.descr, flags.c_contiguous, flags.f_contiguous, array.tobytes()


def test_in_a_process_that_has_nothing_yet(arena):
    import multiprocessing

    values = [
        np.empty((5, 0), "f4"),
        np.empty((0, 5), "i8"),
        np.empty(0, [("x", "f4"), ("y", "u1")]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros(2, STRUCTURED["packed"]),
        np.zeros(2, "M8[ns]"),
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for value in values:
            flags = value.flags
            expected = (value.shape, value.dtype.descr, flags.c_contiguous, flags.f_contiguous)
            found = pool.apply_async(look, (arena.put(value),)).get(60)
            assert found == (*expected, value.tobytes())
        pool.close()
        pool.join()
