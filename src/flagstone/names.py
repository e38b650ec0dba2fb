"""Names of arenas, and of what is in them: checked before anything happens, and shown in errors."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

Name: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""An arena's name: bare ("video") for a file in `/dev/shm`, or with a slash the path of a file on
any tmpfs.
"""

NO_NAME: Final = "(no name)"
"""What people and metrics read in the place of a name, where there is none."""
FOLDER: Final = "/dev/shm"
PREFIX: Final = "flagstone."
_MAX_PATH: Final = 255
_MAX_NAME: Final = 63


def arena_path(name: Name) -> str:
    """The absolute path that a name stands for.

    Raises:
        TypeError: neither text, bytes nor a path.
        ValueError: empty, a folder, too long, no text, or with a zero byte in it.
    """
    if not isinstance(name, (str, bytes, os.PathLike)):
        raise TypeError(f"an arena's name must be text or a path, not {type(name).__name__}")
    text = os.fsdecode(name)
    if not text:
        raise ValueError("an arena's name must not be empty (None is an anonymous arena)")
    if "\0" in text:
        raise ValueError(f"an arena's name must not have a zero byte in it: {text!r}")
    if os.path.basename(text) in ("", ".", ".."):
        raise ValueError(f"{text!r} names a folder, not an arena")
    path = os.path.abspath(text) if "/" in text else f"{FOLDER}/{PREFIX}{text}"
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError(f"an arena's name must be valid text: {text!r}") from None
    if length > _MAX_PATH:
        raise ValueError(
            f"an arena's path has at most {_MAX_PATH} bytes, {text[:40]!r}... makes {length}"
        )
    return path


def slash_hint(path: str) -> str:
    """What to add to an error about a path right below the root folder: it is mostly meant as a
    name, which `shm_open` and others want with a slash in front.
    """
    if os.path.dirname(path) != "/":
        return ""
    name = os.path.basename(path)
    return f" (a slash makes it a path: for the arena {name!r} in {FOLDER} write {name!r})"


def arena_name(path: str | None) -> str | None:
    """The shortest name that `arena_path` turns into this path."""
    start = f"{FOLDER}/{PREFIX}"
    if path is not None and path.startswith(start) and "/" not in path[len(start) :]:
        return path[len(start) :]
    return path


def called(path: str | None) -> str:
    """What an error calls the arena at this path."""
    return arena_name(path) or "(anonymous)"


def named(kind: str, name: str | None, path: str | None) -> str:
    """What an error calls something of the arena at this path that may have a name."""
    what = f"{kind} {name!r}" if name else f"a nameless {kind}"
    return f"{what} of arena {shown(called(path))}"


def no_arena(name: str, path: str) -> str:
    """The sentence for a name that stands for this path, where no arena is: what was written, and
    the path where that says more.
    """
    said = "" if name == path else f"{shown(name)!r} "
    where = f"({shown(path)})" if said else shown(path)
    return f"there is no arena {said}{where}{slash_hint(path)}"


def shown(path: str) -> str:
    r"""The path for people: bytes that are not UTF-8 come as `\xff`, so that it can be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def text(raw: bytes) -> str:
    r"""A fixed-size text of the core, for people: up to its zero; no UTF-8 comes as `\xff`."""
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def object_name(name: str, what: str) -> bytes:
    """The name of a cache, group, channel, topic, lock or store, as the core wants it. `what` is
    the noun, for the error.

    Raises:
        TypeError: not a string.
        ValueError: empty, longer than 63 bytes of UTF-8, or with a zero byte in it.
    """
    if not isinstance(name, str):
        raise TypeError(f"a {what}'s name must be a string, not {type(name).__name__}")
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a {what}'s name must be valid text: {name!r}") from None
    if not raw or len(raw) > _MAX_NAME or b"\0" in raw:
        raise ValueError(
            f"a {what}'s name must have 1 to {_MAX_NAME} bytes and no zero byte: {name[:80]!r}"
        )
    return raw
