"""`flagstone rm`: remove an arena's file."""

from __future__ import annotations

import argparse

import flagstone
from flagstone.cli.attach import find
from flagstone.cli.screen import Screen, many
from flagstone.cli.usage import add_arena
from flagstone.names import arena_path, shown

NAME = "rm"
HELP = "remove an arena"
DESCRIPTION = """\
Remove an arena's name. Processes that have it keep it, until the last one leaves; nobody new can
attach by the name. So one that is in use is only removed with --force."""
EXAMPLE = """\
  $ flagstone rm video
  removed /dev/shm/flagstone.video"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_arena(parser)
    parser.add_argument("-f", "--force", action="store_true", help="also when it is in use")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Remove it."""
    name: str = arguments.arena
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
        raise FileNotFoundError(f"there is no arena {name!r} ({shown(path)})") from None
    if arguments.json:
        screen.json({"removed": path})
    else:
        screen.line(f"removed {path}")
    return 0
