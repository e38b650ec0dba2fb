"""`flagstone keys`, `get`, `rm` of a key, and what `info` and `ls` show of what has a name."""

import dataclasses
import json
import os
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


@pytest.fixture
def named(arena_name):
    with (
        flagstone.open(arena_name, capacity="64MiB") as arena,
        arena.channel("frames", capacity=8, ack=True) as channel,
        arena.topic("preview", capacity=4) as topic,
        topic.subscribe(slow="block") as slow,
        topic.subscribe(slow="drop") as lossy,
        arena.lock("exporter") as lock,
    ):
        for n in range(4):
            channel.put(n)
            topic.publish(n)
        taken = channel.get()
        slow.get()
        topic.publish(4)
        assert lossy.get() == 1
        arena.store("current")["a"] = b"1"
        yield arena
        taken.done()
        del lock


def same(snapshot):
    """What it says, from the snapshot as from the command's JSON."""
    (channel,), (topic,), (lock,) = snapshot["channels"], snapshot["topics"], snapshot["locks"]
    assert (channel["name"], channel["waiting"], channel["taken"]) == ("frames", 3, 1)
    assert (channel["capacity"], channel["ack"], channel["closed"]) == (8, True, False)
    assert (topic["name"], topic["messages"], topic["capacity"]) == ("preview", 4, 4)
    seen = [(one["slow"], one["lag"], one["lost"], one["holds"]) for one in topic["subscribers"]]
    assert seen == [("block", 4, 0, True), ("drop", 3, 1, False)]
    assert {one["pid"] for one in topic["subscribers"]} == {os.getpid()}
    assert (lock["name"], lock["owned"], lock["pid"]) == ("exporter", True, os.getpid())


def test_what_has_a_name(named):
    same(dataclasses.asdict(named.snapshot()))
    same(json.loads(flagstone_command("info", named.name, "--json").stdout))
    facts = json.loads(flagstone_command("ls", named.name, "--json").stdout)
    same(facts)
    assert facts["stores"][0]["keys"] == 1
    for command in ("info", "ls"):
        text = flagstone_command(command, named.name).stdout.decode()
        for word in ("frames", "preview", "holds publishers back", "exporter", "owned", "current"):
            assert word in text, (command, word)
    assert named.check() == []


def test_an_arena_without_names(arena_name):
    with flagstone.open(arena_name):
        assert b"nothing has a name" in flagstone_command("ls", arena_name).stdout
    gone = flagstone_command("ls", arena_name)
    assert gone.returncode == 1
    assert b"there is no arena" in gone.stderr
