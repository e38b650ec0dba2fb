"""format: the text that says what the bytes of an object mean."""

import numpy as np
import pytest

from flagstone import ArenaCorrupted
from flagstone.format import descr_of, format_text, make_format, parse_format

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
        *("\0", "[('a',)], ()"),
    ],
)
def test_a_damaged_text_is_an_error(text):
    with pytest.raises(ArenaCorrupted, match="unreadable"):
        parse_format(text)


def test_descr_is_plain():
    assert descr_of(np.dtype("u1")) == "|u1"
    assert descr_of(np.dtype("u1", metadata={"a": object()})) == "|u1"
