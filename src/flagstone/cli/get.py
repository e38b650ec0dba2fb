"""`flagstone get`: the value of a key, into a file."""

from __future__ import annotations

import argparse
import sys

import flagstone
from flagstone.cli.attach import attached
from flagstone.cli.screen import Screen
from flagstone.cli.usage import add_arena, add_key, add_store

NAME = "get"
HELP = "write the value of a store's key to a file"
DESCRIPTION = """\
Write the bytes of a key's value to a file, or to stdout: of an array its elements, of anything else
what was stored, as it lies there."""
EXAMPLE = """\
  $ flagstone get models current weights --out weights.bin"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    add_store(parser)
    add_key(parser)
    parser.add_argument("-o", "--out", metavar="FILE", help="instead of stdout")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Write the value; the exit status."""
    with attached(arguments.arena) as arena:
        store = arena.store(arguments.store, create=False)
        try:
            block = store.block(arguments.key)
        except KeyError:
            raise flagstone.FlagstoneError(f"there is no key {arguments.key!r}") from None
        content = block.array.tobytes(order="A")
        facts = {
            "bytes": len(content),
            "dtype": str(block.dtype),
            "shape": list(block.shape),
            "out": arguments.out,
        }
        del block
    if arguments.out:
        with open(arguments.out, "wb") as file:
            file.write(content)
        if arguments.json:
            screen.json(facts)
    else:
        sys.stdout.buffer.write(content)
    return 0
