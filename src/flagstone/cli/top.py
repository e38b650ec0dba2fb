"""`flagstone top`: watch arenas."""

from __future__ import annotations

import argparse
import sys

import flagstone
from flagstone.cli.screen import BAD, Screen, fields
from flagstone.cli.usage import UsageError, arena_name, existing_folder, seconds
from flagstone.extra import needs
from flagstone.names import FOLDER
from flagstone.observer import Observer
from flagstone.picture import duration
from flagstone.views import TABS, alarms, arenas, headline, shown

NAME = "top"
HELP = "watch arenas: who holds what, and what holds memory up"
DESCRIPTION = """\
Watch the arenas of this machine, or one in depth: memory over time, groups as a tree, processes,
caches, stores, channels and topics, what is in flight, batches and deaths; what holds memory up is
red. Attaches read-only, takes no lock, and spends at most a hundredth of the processors.

Keys: arrows; h and l or a click for the tabs; s sorts by the next column; / filters; Enter goes
into a process, group or cache (who holds what of it), and Escape comes back; p pauses; q ends.
--once prints the same as text. The screen needs `pip install "flagstone[tui]"`."""
EXAMPLE = """\
  $ flagstone top
  $ flagstone top video --every 5
  $ flagstone top video --once"""

_ONCE = 20
"""Rows of each table with --once."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "arena", metavar="ARENA", nargs="?", type=arena_name, help="which one (default: choose)"
    )
    parser.add_argument("--folder", default=FOLDER, help=f"of arenas (default: {FOLDER})")
    parser.add_argument(
        "--every", type=seconds, default=1.0, metavar="SECONDS", help="look so often (default: 1)"
    )
    parser.add_argument("--once", action="store_true", help="print what is now, and end")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Watch arenas, or print them once; the exit status."""
    folder = existing_folder(arguments.folder)
    if arguments.arena is not None:
        with Observer(arguments.arena) as observer:
            observer.look()  # there is one, or there is an error that says why
    if arguments.once or arguments.json:
        _once(arguments, folder, screen)
        return 0
    if not sys.stdout.isatty():
        raise UsageError("top draws on a terminal; --once prints to anything")
    try:
        from flagstone.tui import Top
    except ImportError:
        raise UsageError(f"{needs('top', 'textual', 'tui')}, or --once") from None
    app = Top(arguments.arena, folder, arguments.every)
    app.run()
    return app.return_code or 0


def _once(arguments: argparse.Namespace, folder: str, screen: Screen) -> None:
    if arguments.arena is None:
        found = flagstone.arenas(folder)
        if arguments.json:
            screen.json({"folder": folder, "arenas": found})
            return
        table = arenas(found)
        rows = [row.cells for row in table.rows]
        screen.table("", table.columns, rows, empty=f"no arena in {folder}")
        return
    with Observer(arguments.arena) as observer:
        look = observer.look(uses=True)
    if arguments.json:
        uses = [use._asdict() for use in look.uses]
        more = {"uses": uses, "seconds": look.seconds, "alarms": alarms(look)}
        screen.json({**fields(look.snapshot), **more})
        return
    screen.line(f"{arguments.arena}: {headline(look)}, look {duration(look.seconds)}")
    for text in alarms(look):
        screen.line(text, BAD)
    for name, tab in TABS.items():
        table = shown(tab(look), most=_ONCE)
        if table.rows:
            screen.line()
            screen.table(name, table.columns, [row.cells for row in table.rows])
