"""errors: the tree, and the table from the core's answers."""

import errno
import os
import pickle
import queue
import re
from pathlib import Path

import pytest

import flagstone
from flagstone import errors

TREE = {
    "ArenaFull": MemoryError,
    "GroupLimitExceeded": MemoryError,
    "CacheBusy": Exception,
    "CacheMismatch": ValueError,
    "GroupMismatch": ValueError,
    "ChannelMismatch": ValueError,
    "StoreMismatch": ValueError,
    "ChannelFull": queue.Full,
    "ChannelEmpty": queue.Empty,
    "Disconnected": Exception,
    "ChannelClosed": EOFError,
    "ReadOnly": TypeError,
    "Closed": ValueError,
    "StaleHandle": LookupError,
    "LayoutMismatch": Exception,
    "ArenaCorrupted": Exception,
}


@pytest.mark.parametrize(("name", "base"), TREE.items())
def test_tree(name, base):
    cls = getattr(flagstone, name)
    assert issubclass(cls, flagstone.FlagstoneError)
    assert issubclass(cls, base)
    assert cls.__module__ == "flagstone"


def test_the_drawing_is_the_tree():
    drawn = dict(re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__))
    assert set(drawn) == set(TREE) == set(errors.__all__) - {"FlagstoneError"}
    assert all(TREE[name].__name__ == (base or "Exception") for name, base in drawn.items())


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (-1, flagstone.ArenaFull),
        (-2, flagstone.GroupLimitExceeded),
        (-3, flagstone.CacheBusy),
        (-5, flagstone.StaleHandle),
        (-6, flagstone.ReadOnly),
        (-7, flagstone.Closed),
        (-8, flagstone.LayoutMismatch),
        (-9, flagstone.ArenaCorrupted),
        (-10, FileExistsError),
        (-11, FileNotFoundError),
        (-12, ValueError),
        (-13, OSError),
        (-14, RuntimeError),
        (-15, TimeoutError),
        (-16, PermissionError),
        (-17, flagstone.StaleHandle),
        (-18, TimeoutError),
        (-19, flagstone.ChannelClosed),
        (-99, flagstone.FlagstoneError),
    ],
)
def test_every_status_has_an_exception(status, cls):
    error = errors.exception_of(status, "the reason", errno.EIO)
    assert type(error) is cls
    assert "the reason" in str(error)
    assert str(errors.exception_of(status, ""))


def test_a_mismatch_is_the_callers():
    assert type(errors.exception_of(-4, "x")) is ValueError
    assert type(errors.exception_of(-4, "x", 0, flagstone.GroupMismatch)) is flagstone.GroupMismatch


def test_system_errors_are_the_ones_of_python():
    assert errors.exception_of(-13, "no", errno.EACCES).errno == errno.EACCES
    assert isinstance(errors.exception_of(-13, "no", errno.EACCES), PermissionError)
    assert errors.exception_of(-10, "there").errno == errno.EEXIST


def test_the_table_names_every_status():
    header = Path(__file__).parents[2] / "core" / "include" / "flagstone_types.h"
    values = {int(value) for value in re.findall(r"FST_[A-Z_]+ = (-\d+),", header.read_text())}
    assert values == set(errors._EXCEPTIONS)


@pytest.mark.parametrize("name", TREE)
def test_exceptions_travel(name):
    error = pickle.loads(pickle.dumps(getattr(flagstone, name)("the reason")))
    assert type(error).__name__ == name
    assert str(error) == "the reason"
    assert type(error.__new__(type(error), "as tblib makes it")) is type(error)


def test_a_limit_says_whose():
    error = flagstone.GroupLimitExceeded("too much", "camera", 4096, 4000)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert (str(one), one.group, one.limit, one.usage) == ("too much", "camera", 4096, 4000)


def test_sizes_are_in_peoples_units(arena_name):
    """No count of bytes that has to be counted by its digits, unless it stands behind one."""
    raw = re.compile(r"\d{4,}(?!\d* bytes\))")
    with (
        flagstone.open(arena_name, capacity="16MiB") as arena,
        arena.group("job", limit="1MiB") as job,
    ):
        held = arena.alloc("12MiB")
        arena.cache("frame", size=5000)
        wrong = {
            "full": lambda: arena.alloc("8MiB"),
            "more than there can be": lambda: arena.alloc("1GiB"),
            "limit": lambda: arena.alloc("3MiB", group=job),
            "group": lambda: arena.group("job", limit="3MiB"),
            "cache": lambda: arena.cache("frame", size=500_000),
            "alignment": lambda: arena.cache("frame", size=5000, align=4096),
            "init": lambda: arena.cache("b", size=2000, init=bytes(3000)),
            "large cache": lambda: arena.cache("c", size="1GiB"),
            "many": lambda: arena.cache("frame", size=5000).alloc_many(10**6),
            "capacity": lambda: flagstone.open(arena_name, capacity="64MiB"),
            "too much": lambda: flagstone.open(capacity=2**61),
            "size": lambda: arena.alloc(2**63),
        }
        for what, call in wrong.items():
            with pytest.raises((flagstone.FlagstoneError, ValueError, MemoryError)) as caught:
                call()
            said = str(caught.value).replace(arena_name, "").replace(str(os.getpid()), "")
            said = said.replace("1,000,000 objects", "")
            assert not raw.search(said), (what, said)
            assert "iB" in said, (what, said)
        del held
