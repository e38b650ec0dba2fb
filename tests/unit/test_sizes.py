"""sizes: what people write for bytes and seconds."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from flagstone.sizes import (
    FOREVER,
    MAX_SIZE,
    format_size,
    many,
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


def test_counts():
    assert many(0, "object") == "0 objects"
    assert many(1, "object") == "1 object"
    assert many(2, "object") == "2 objects"
    assert many(1234, "process", "processes") == "1,234 processes"
    assert many(1, "message waits", "messages wait") == "1 message waits"


THINGS = (
    "arenas|batches|buckets|bytes|caches|channels|children|descriptors|entries|faults|files"
    "|findings|groups|holders|items|keys|kills|locks|looks|messages|nodes|objects|pages|processes"
    "|readers|references|slabs|slots|sites|subscribers|threads|topics|workers"
)
COUNTED = re.compile(
    rf"(?:\}}|%(?:u|d|zu|llu|lld|lu|zd))(?: more| free| reference| page)? ({THINGS})\b"
)
ALWAYS_SEVERAL = re.compile(
    r"FST_NAME_MAX|FST_MAX_\w+|FST_SUBSCRIBERS|FST_RING_\w+|max_entries|sizeof|\bmost\)"
    r"|_MOST|_MAX_|at most|always"
)


def test_no_text_says_1_objects():
    """What counts things asks `many` (in C fst_many) for the word, or counts what is never one."""
    root = Path(__file__).parents[2]
    sources = [
        path
        for folder, kinds in (("core", "*.c"), ("src/flagstone", "*.py"), ("src", "*.p[yx][xi]"))
        for path in (root / folder).rglob(kinds)
    ]
    found = []
    for path in sources:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            text = " ".join(re.findall(r'"(?:[^"\\]|\\.)*"', line))
            if COUNTED.search(text) and "many(" not in line:
                near = " ".join(lines[number : number + 3])
                if not ALWAYS_SEVERAL.search(near):
                    found.append(f"{path.relative_to(root)}:{number + 1}: {line.strip()}")
    assert found == []
