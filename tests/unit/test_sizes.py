"""sizes: what people write for bytes and seconds."""

import math

import numpy as np
import pytest

from flagstone.sizes import (
    FOREVER,
    MAX_SIZE,
    format_size,
    parse_seconds,
    parse_size,
    to_nanoseconds,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        (2**62, 2**62),
        (np.int32(4096), 4096),
        ("4096", 4096),
        ("4096B", 4096),
        ("4K", 4096),
        ("4k", 4096),
        ("4KB", 4096),
        ("512MiB", 512 * 2**20),
        (" 512 MiB ", 512 * 2**20),
        ("4G", 4 * 2**30),
        ("1.5GiB", 3 * 2**29),
        ("1TiB", 2**40),
        ("0.5K", 512),
    ],
)
def test_sizes_that_are_understood(text, size):
    assert parse_size(text) == size
    assert type(parse_size(text)) is int


@pytest.mark.parametrize(
    "text",
    [
        *("", "M", "4X", "4 4", "-1", "+1", "1e9", "0x10", "4GiBs", "1.K", ".5K", "nan", "inf"),
        *("9" * 999, "0.3", "1.0001K", "5E", "0", 0, -1, 2**62 + 1, 10**30, "٤K"),
    ],
)
def test_sizes_that_make_no_sense(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("value", [True, False, None, 1.0, 4096.0, b"4K", [], object()])
def test_sizes_of_the_wrong_type(value):
    with pytest.raises(TypeError, match="capacity"):
        parse_size(value, "capacity")


def test_minimum_is_the_callers():
    assert parse_size(0, minimum=0) == 0
    assert parse_size("0", minimum=0) == 0
    with pytest.raises(ValueError, match="at least 0"):
        parse_size(-1, minimum=0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (2**20, "1 MiB"),
        (4 * 2**30, "4 GiB"),
        (MAX_SIZE, "4 EiB"),
    ],
)
def test_sizes_for_people(size, text):
    assert format_size(size) == text
    assert parse_size(text, minimum=0) == size


def test_seconds():
    assert parse_seconds(None, "wait") == math.inf
    assert parse_seconds(None, "wait", default=0.0) == 0
    assert parse_seconds(0, "wait") == 0
    assert parse_seconds(np.float32(0.5), "wait") == 0.5
    assert parse_seconds(math.inf, "wait") == math.inf
    assert parse_seconds(10**400, "wait") == math.inf


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf])
def test_seconds_that_make_no_sense(value):
    with pytest.raises(ValueError, match="wait must be at least 0"):
        parse_seconds(value, "wait")


@pytest.mark.parametrize("value", ["1", b"1", True, [], 1j])
def test_seconds_of_the_wrong_type(value):
    with pytest.raises(TypeError, match="wait must be a number"):
        parse_seconds(value, "wait")


def test_nanoseconds():
    assert to_nanoseconds(0.0) == 0
    assert to_nanoseconds(1.5) == 1_500_000_000
    assert to_nanoseconds(math.inf) == FOREVER
    assert to_nanoseconds(1e300) == FOREVER
