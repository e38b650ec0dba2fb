"""`flagstone rm`: remove an arena's file."""

from __future__ import annotations

import argparse

import flagstone
from flagstone.cli.attach import attached, find
from flagstone.cli.screen import Screen, many
from flagstone.cli.usage import UsageError, add_arena, add_key, add_store
from flagstone.names import arena_path, no_arena

NAME = "rm"
HELP = "remove an arena, or a key of a store"
DESCRIPTION = """\
Remove an arena's name. Processes that have it keep it, until the last one leaves; nobody new can
attach by the name. So one that is in use is only removed with --force.

With STORE and KEY, remove only this key of that store."""
EXAMPLE = """\
  $ flagstone rm video
  removed /dev/shm/flagstone.video
  $ flagstone rm models current weights
  removed the key 'weights'"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    add_store(parser, optional=True)
    add_key(parser, optional=True)
    parser.add_argument("-f", "--force", action="store_true", help="also when it is in use")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Remove the arena, or the key; the exit status."""
    name: str = arguments.arena
    if arguments.store is not None:
        return _remove_key(arguments, screen)
    path = arena_path(name)
    listed = find(name)
    if listed is not None and listed.processes and not arguments.force:
        raise flagstone.FlagstoneError(
            f"{name} is in use by {many(listed.processes, 'process', 'processes')}"
            " (`flagstone info` shows them); --force removes its name all the same"
        )
    try:
        flagstone.unlink(name, missing_ok=False)
    except FileNotFoundError:
        raise FileNotFoundError(no_arena(name, path)) from None
    if arguments.json:
        screen.json({"removed": path})
    else:
        screen.line(f"removed {path}")
    return 0


def _remove_key(arguments: argparse.Namespace, screen: Screen) -> int:
    if arguments.key is None:
        raise UsageError("rm takes a KEY with a STORE; an arena is removed without either")
    with attached(arguments.arena, readonly=False) as arena:
        store = arena.store(arguments.store, create=False)
        try:
            del store[arguments.key]
        except KeyError:
            raise flagstone.FlagstoneError(f"there is no key {arguments.key!r}") from None
    if arguments.json:
        screen.json({"removed": str(arguments.key)})
    else:
        screen.line(f"removed the key {arguments.key!r}")
    return 0
