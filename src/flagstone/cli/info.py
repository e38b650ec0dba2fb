"""`flagstone info`: everything about one arena."""

from __future__ import annotations

import argparse
import time

import flagstone
from flagstone.cli.attach import attached, find
from flagstone.cli.ls import state_of
from flagstone.cli.screen import Screen, fields
from flagstone.cli.usage import add_arena
from flagstone.picture import duration, share
from flagstone.sizes import format_size
from flagstone.snapshot import show

NAME = "info"
HELP = "show who uses an arena for what"
DESCRIPTION = """\
Show an arena: its memory, the processes that have it and what they hold, those that died and what
was reclaimed from them, its caches and groups, its stores, channels, topics and locks, the
objects that are in flight (pickled and not yet taken), batches and grace periods, and the readers
and holders that keep memory from being released, if there are any."""
EXAMPLE = """\
  $ flagstone info video
  $ flagstone info video --json | jq '.processes[] | {pid, bytes}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    parser.add_argument(
        "--all",
        action="store_true",
        help="show every cache, group and object in flight, not the largest and oldest alone",
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Show the arena; the exit status."""
    listed = find(arguments.arena)
    if listed is not None and listed.orphan:
        # Attaching would remove it, as every open in its folder does.
        if arguments.json:
            screen.json({**fields(listed), "state": "orphan"})
        else:
            _show_orphan(listed, screen)
        return 0
    with attached(arguments.arena) as arena:
        snapshot = arena.snapshot()
    if arguments.json:
        state = state_of(listed) if listed is not None else "in use"
        screen.json({**fields(snapshot), "state": state})
    else:
        show(snapshot, screen, everything=arguments.all)
    return 0


def _show_orphan(info: flagstone.ArenaInfo, screen: Screen) -> None:
    screen.facts(
        f"arena {info.name}: an orphan",
        [
            ("file", info.path),
            ("age", duration(max(0.0, time.time() - info.created_at))),
            ("capacity", format_size(info.capacity)),
            ("used", share(info.used, info.capacity)),
            ("committed", format_size(info.committed)),
        ],
    )
    screen.line("Its processes were all killed. The next open in its folder removes it,")
    screen.line("and so does `flagstone gc`.")
