"""names: what an arena, a cache and a group may be called."""

import os
from pathlib import Path

import pytest

from flagstone.names import arena_name, arena_path, object_name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("video", "/dev/shm/flagstone.video"),
        (b"video", "/dev/shm/flagstone.video"),
        ("Zürich 1", "/dev/shm/flagstone.Zürich 1"),
        ("..a", "/dev/shm/flagstone...a"),
        ("/run/user/1/video", "/run/user/1/video"),
        (b"/run/video", "/run/video"),
        (Path("/run/video"), "/run/video"),
        ("/run//x/../video", "/run/video"),
        ("./video", os.path.join(os.getcwd(), "video")),
    ],
)
def test_paths(name, path):
    assert arena_path(name) == path


@pytest.mark.parametrize(
    "name",
    [
        *("", b"", ".", "..", "/", "/run/", "/run/..", "a\0b", "/run/a\0b", "x" * 300),
        *("/" + "x" * 255, "\ud800", "/run/\ud800"),
    ],
)
def test_names_that_make_no_sense(name):
    with pytest.raises(ValueError, match="arena"):
        arena_path(name)


@pytest.mark.parametrize("name", [1, 1.0, ["a"], object(), bytearray(b"a")])
def test_names_of_the_wrong_type(name):
    with pytest.raises(TypeError, match="arena"):
        arena_path(name)


@pytest.mark.parametrize("name", ["video", "a b", "/run/video", "/dev/shm/video"])
def test_the_name_of_a_path_opens_it_again(name):
    assert arena_path(arena_name(arena_path(name))) == arena_path(name)


def test_shortest_name():
    assert arena_name("/dev/shm/flagstone.video") == "video"
    assert arena_name("/dev/shm/flagstone.video/x") == "/dev/shm/flagstone.video/x"
    assert arena_name("/tmp/flagstone.video") == "/tmp/flagstone.video"
    assert arena_name(None) is None


def test_object_names():
    assert object_name("frame", "cache") == b"frame"
    assert object_name("é" * 31, "cache") == ("é" * 31).encode()


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0", "\ud800"])
def test_object_names_that_make_no_sense(name):
    with pytest.raises(ValueError, match="group's name"):
        object_name(name, "group")


@pytest.mark.parametrize("name", [None, b"frame", 1])
def test_object_names_of_the_wrong_type(name):
    with pytest.raises(TypeError, match="cache's name"):
        object_name(name, "cache")
