"""Arguments that several commands take, and what is wrong with them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from flagstone.names import FOLDER, arena_path, shown
from flagstone.sizes import parse_size


class UsageError(Exception):
    """The command was used wrongly, in a way that argparse cannot tell."""


def arena_name(text: str) -> str:
    """Argparse type: a name or path that an arena can have."""
    try:
        arena_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def size(text: str) -> int:
    """Argparse type: bytes, with a unit or without."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(minimum: int, maximum: int) -> Callable[[str], int]:
    """Argparse type: a whole number between these two."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not minimum <= number <= maximum:
            raise argparse.ArgumentTypeError(f"{number} is not between {minimum} and {maximum}")
        return number

    return parse


def seconds(text: str) -> float:
    """Argparse type: seconds, more than none."""
    try:
        found = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a time to wait")
    return found


def add_arena(parser: argparse.ArgumentParser) -> None:
    """The argument ARENA."""
    parser.add_argument(
        "arena",
        metavar="ARENA",
        type=arena_name,
        help=f"name of the arena (in {FOLDER}), or with a slash the path of its file",
    )


def key_of(text: str) -> str | bytes:
    """Argparse type: a key of a store; b:... is bytes in hexadecimal."""
    if not text.startswith("b:"):
        return text
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: what follows b: is not hexadecimal") from None


def add_store(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The argument STORE."""
    parser.add_argument(
        "store", metavar="STORE", nargs="?" if optional else None, help="name of a store in it"
    )


def add_key(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The argument KEY."""
    parser.add_argument(
        "key",
        metavar="KEY",
        type=key_of,
        nargs="?" if optional else None,
        help="a key of the store; b:HEX is one that is bytes",
    )


def add_folder(parser: argparse.ArgumentParser) -> None:
    """The optional argument FOLDER, of arenas."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default=FOLDER,
        help=f"where to look, a folder on a tmpfs (default: {FOLDER})",
    )


def existing_folder(folder: str) -> str:
    """The folder's absolute path.

    Raises:
        UsageError: it is none.
    """
    path = os.path.abspath(folder)
    if not os.path.isdir(path):
        raise UsageError(f"{shown(path)}: no such folder")
    return path
