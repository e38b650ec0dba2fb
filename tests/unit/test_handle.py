"""Handle: 16 bytes that name an object."""

import copy
import pickle

import pytest

from flagstone import Handle

RAW = bytes(range(16))


def test_round_trip():
    assert bytes(Handle(RAW)) == RAW
    for data in (bytearray(RAW), memoryview(RAW), Handle(RAW).__bytes__()):
        assert Handle(data) == Handle(RAW)


def test_hash_and_order():
    other = Handle(b"\xff" * 16)
    assert Handle(RAW) != other
    assert len({Handle(RAW), Handle(RAW), other}) == 2
    assert Handle(RAW) < other >= other > Handle(RAW) <= other
    assert Handle(RAW) != RAW
    with pytest.raises(TypeError):
        sorted([Handle(RAW), RAW])


def test_copies():
    handle = Handle(RAW)
    assert pickle.loads(pickle.dumps(handle)) == handle
    assert copy.copy(handle) == handle == copy.deepcopy(handle)


@pytest.mark.parametrize("data", [b"", RAW[:-1], RAW + b"x", RAW * 1000])
def test_exactly_16_bytes(data):
    with pytest.raises(ValueError, match="16 bytes"):
        Handle(data)


@pytest.mark.parametrize("data", [None, 16, "x" * 16, [0] * 16])
def test_only_bytes(data):
    with pytest.raises(TypeError):
        Handle(data)


def test_repr():
    assert repr(Handle(RAW)) == "Handle(000102030405060708090a0b0c0d0e0f)"
