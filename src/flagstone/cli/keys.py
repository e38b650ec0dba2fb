"""`flagstone keys`: the keys of a store."""

from __future__ import annotations

import argparse

from flagstone.cli.attach import attached
from flagstone.cli.screen import Screen
from flagstone.cli.usage import add_arena, add_store
from flagstone.picture import number, printable
from flagstone.sizes import format_size

NAME = "keys"
HELP = "list the keys of a store"
DESCRIPTION = """\
List the keys of a store, each with the bytes of its value and its version. Keys that are bytes are
shown as b'...'."""
EXAMPLE = """\
  $ flagstone keys models current
  key        bytes  version
  weights  256 MiB       17"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    add_store(parser)


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """List the keys; the exit status."""
    with attached(arguments.arena) as arena:
        found = arena.store(arguments.store, create=False)._list()
    found.sort(key=lambda row: (isinstance(row[0], bytes), str(row[0])))
    if arguments.json:
        screen.json(
            {
                "keys": [
                    {
                        "key": key if isinstance(key, str) else key.hex(),
                        "kind": type(key).__name__,
                        "bytes": size,
                        "version": version,
                    }
                    for key, size, version in found
                ]
            }
        )
        return 0
    screen.table(
        "",
        ["key", ">bytes", ">version"],
        [
            [
                printable(key) if isinstance(key, str) else repr(key),
                format_size(size),
                number(version),
            ]
            for key, size, version in found
        ],
        empty="no keys",
    )
    return 0
