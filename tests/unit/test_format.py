"""format: the text that says what the bytes of an object mean."""

import numpy as np
import pytest

from flagstone import ArenaCorrupted
from flagstone.format import descr_of, format_text, make_format, order_of, parse_format

DTYPES = [
    "u1",
    ">f4",
    "<c16",
    "?",
    "M8[ns]",
    "S5",
    "U3",
    "V7",
    "e",
    np.dtype([("a", "u1"), ("b", ">f8", (2, 3))]),
    np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"]}, align=True),
    np.dtype({"names": ["a", "b"], "formats": ["u4", "u4"], "offsets": [0, 8], "itemsize": 16}),
    np.dtype([("outer", [("inner", "i2")])]),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_round_trip(dtype):
    form = make_format(dtype, (2, 3))
    again = parse_format(format_text(form))
    assert (again.dtype, again.shape) == (np.dtype(dtype), (2, 3))
    assert again.nbytes == 6 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("shape", [(), (0,), (1, 0, 2), 5, [2, 3], np.array([2, 3])])
def test_shapes(shape):
    expected = np.empty(shape, "u2")
    form = make_format("u2", shape)
    assert (form.shape, form.nbytes) == (expected.shape, expected.nbytes)
    assert all(type(dim) is int for dim in form.shape)


def test_a_dtype_with_a_shape_of_its_own():
    form = make_format(("f4", (2, 2)), (3,))
    assert (form.dtype, form.shape) == (np.dtype("f4"), (3, 2, 2))


@pytest.mark.parametrize("dtype", ["O", [("a", "O")]])
def test_python_objects_are_refused(dtype):
    with pytest.raises(TypeError, match="Python objects"):
        make_format(dtype, ())


def test_what_cannot_be_described_is_refused():
    crossed = {"names": ["a", "b"], "formats": ["u4", "u4"], "offsets": [4, 0]}
    with pytest.raises(TypeError, match="no dtype"):
        make_format(crossed, ())


@pytest.mark.parametrize("shape", [-1, (2, -1), (1,) * 33, (2**62, 4), (2**40, 2**40)])
def test_shapes_that_make_no_sense(shape):
    with pytest.raises(ValueError, match="shape"):
        make_format("u1", shape)


@pytest.mark.parametrize("shape", [(0, 2**63), (0, 2**40, 2**40), (2**62, 2)])
def test_shapes_larger_than_any_memory(shape):
    with pytest.raises(ValueError, match="more than any memory"):
        make_format("u1", shape)


@pytest.mark.parametrize("shape", ["12", b"12", 1.5, (1.5,), None, ("a",)])
def test_shapes_of_the_wrong_type(shape):
    with pytest.raises(TypeError, match="shape"):
        make_format("u1", shape)


def test_too_long():
    dtype = [(f"field_{number}_" + "x" * 100_000, "u1") for number in range(200)]
    with pytest.raises(ValueError, match="there is room for"):
        format_text(make_format(dtype, ()))


def test_plain_bytes():
    assert format_text(None) == ""
    assert parse_format("") is None


@pytest.mark.parametrize(
    "text",
    [
        *("x", "()", "(1, 2)", "('|u1',)", "('|u1', 'x')", "('|u1', (-1,))", "('|O', ())"),
        *("('zz', ())", "__import__('os')", "('|u1', (2**9,))", "(" * 200, "('|u1', (1,), 2)"),
        *("('|u1', (1,), 'C')", "('|u1', (1,), 'F', 'F')", "('|u1', (1,), [])"),
        *("\0", "[('a',)], ()", "(('|u1',), (1,))", "('|u1', (0, 2**70))"),
    ],
)
def test_a_damaged_text_is_an_error(text):
    with pytest.raises(ArenaCorrupted, match="unreadable"):
        parse_format(text)


def test_descr_is_plain():
    assert descr_of(np.dtype("u1")) == "|u1"
    assert descr_of(np.dtype("u1", metadata={})) == "|u1"


COLOUR = np.dtype("u1", metadata={"enum": {"RED": 1}})


@pytest.mark.parametrize(
    "dtype",
    [
        COLOUR,
        np.dtype([("a", COLOUR)]),
        np.dtype([("a", "i4"), ("b", [("c", COLOUR)])]),
        np.dtype((COLOUR, (2,))),
        np.dtype([("a", COLOUR, (2,))]),
        np.dtype([("a", "i4")], metadata={"unit": "m"}),
        np.dtype({"names": ["a"], "formats": [COLOUR], "offsets": [8], "itemsize": 16}),
    ],
    ids=str,
)
def test_metadata_is_refused(dtype):
    with pytest.raises(TypeError, match="metadata"):
        make_format(dtype, (2,))


def test_equal_dtypes_of_other_meaning_are_not_mixed_up():
    """NumPy says that they are equal, and gives them one hash."""
    plain = np.dtype("u1")
    assert plain == COLOUR
    for _ in range(2):
        assert make_format(plain, ()).dtype.metadata is None
        with pytest.raises(TypeError, match="metadata"):
            make_format(COLOUR, ())


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype((np.record, [("a", "i4")])),
        np.dtype([("a", np.dtype((np.record, [("b", "i4")])))]),
        np.dtype([("a", np.dtype((np.record, [("b", "i4")])), (3,))]),
    ],
    ids=str,
)
def test_records_are_refused(dtype):
    with pytest.raises(TypeError, match="record"):
        make_format(dtype, ())
    assert make_format(np.dtype([("a", "i4")]), ()).dtype.type is np.void


def test_strings_outside_of_the_array_are_refused():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("this NumPy has none")
    for dtype in (np.dtypes.StringDType(), np.dtypes.StringDType(na_object=None)):
        with pytest.raises(TypeError, match="astype"):
            make_format(dtype, (2,))


# ---- order


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        *(((), "C"), ((5,), "C"), ((1, 5), "C"), ((5, 1), "C"), ((0, 5), "C"), ((5, 0, 2), "C")),
        *(((2, 3), "F"), ((1, 2, 3), "F"), ((2, 1, 3), "F")),
    ],
)
def test_fortran_order(shape, order):
    form = make_format("f4", shape, order="F")
    assert form.order == order
    text = format_text(form)
    assert parse_format(text).order == order
    assert ("'F'" in text) == (order == "F")
    assert make_format("f4", shape).order == "C"


@pytest.mark.parametrize("order", ["A", "K", "c", "", None, 1, "CF"])
def test_orders_that_are_none(order):
    with pytest.raises(ValueError, match="order must be"):
        make_format("f4", (2, 3), order=order)


CUBE = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("array", "kept", "like"),
    [
        (CUBE, "C", "C"),
        (CUBE.T, "F", "F"),
        (CUBE[:, ::2], "C", "C"),
        (CUBE.T[:, ::2], "F", "C"),
        (CUBE.T[::-1, :, ::-1], "F", "C"),
        (CUBE.transpose(1, 0, 2), "C", "C"),
        (CUBE.transpose(2, 0, 1), "C", "C"),
        (np.broadcast_to(np.zeros(3), (5, 3)), "C", "C"),
        (np.broadcast_to(np.zeros(3), (5, 3)).T, "C", "C"),
        (np.zeros(3), "C", "C"),
        (np.zeros(9)[::2], "C", "C"),
        (np.zeros(()), "C", "C"),
        (np.zeros((3, 0)), "C", "C"),
        (np.zeros((1, 3)).T, "C", "C"),
    ],
)
def test_order_of_a_copy(array, kept, like):
    assert order_of(array, "K") == kept
    assert order_of(array, "A") == like
    assert order_of(array, "C") == "C"
    assert order_of(array, "F") == "F"
    if kept == "F":
        assert array.copy("K").flags.f_contiguous
    assert array.copy("A").flags.c_contiguous == (like == "C")
    for order in ("k", None, 2, ""):
        with pytest.raises(ValueError, match="order must be"):
            order_of(array, order)
