"""`flagstone keys`, `get`, `rm` of a key, and what `info` shows of stores."""

import json
import subprocess
import sys

import numpy as np
import pytest

import flagstone


def flagstone_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "flagstone", *arguments], capture_output=True, check=False
    )


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        store = arena.store("current", group=arena.group("models", lasting=True))
        store["weights"] = np.arange(10, dtype="i4")
        store[b"\x01\xff"] = b"raw"
        yield arena_name


def test_keys(arena):
    done = flagstone_command("keys", arena, "current")
    assert done.returncode == 0
    assert b"weights" in done.stdout
    assert b"b'\\x01\\xff'" in done.stdout
    facts = json.loads(flagstone_command("keys", arena, "current", "--json").stdout)
    assert [(row["key"], row["kind"]) for row in facts["keys"]] == [
        ("weights", "str"),
        ("01ff", "bytes"),
    ]


def test_get(arena, tmp_path):
    out = tmp_path / "weights"
    done = flagstone_command("get", arena, "current", "weights", "--out", str(out))
    assert done.returncode == 0
    assert np.fromfile(out, "i4").tolist() == list(range(10))
    assert flagstone_command("get", arena, "current", "b:01ff").stdout == b"raw"
    done = flagstone_command("get", arena, "current", "missing")
    assert done.returncode == 1
    assert b"no key" in done.stderr


def test_rm_of_a_key(arena):
    assert flagstone_command("rm", arena, "current", "weights").returncode == 0
    assert flagstone_command("rm", arena, "current", "weights").returncode == 1
    assert flagstone_command("rm", arena, "current").returncode == 2
    with flagstone.open(arena) as opened:
        assert list(opened.store("current")) == [b"\x01\xff"]


def test_what_is_not_there(arena):
    done = flagstone_command("keys", arena, "other")
    assert done.returncode == 1
    assert b"no store other" in done.stderr


def test_info_shows_stores(arena):
    text = flagstone_command("info", arena).stdout
    assert b"stores" in text
    assert b"current" in text
    facts = json.loads(flagstone_command("info", arena, "--json").stdout)
    assert facts["stores"][0]["name"] == "current"
    assert facts["stores"][0]["keys"] == 2
