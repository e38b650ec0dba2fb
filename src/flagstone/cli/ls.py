"""`flagstone ls`: the arenas in a folder, or what programs find by name in one of them."""

from __future__ import annotations

import argparse
import os
import time

import flagstone
from flagstone.cli.attach import attached, find
from flagstone.cli.screen import Screen, duration, number, plain, share
from flagstone.cli.usage import UsageError, existing_folder
from flagstone.names import FOLDER, PREFIX, arena_path
from flagstone.sizes import format_size
from flagstone.snapshot import by_name

NAME = "ls"
HELP = "list the arenas of this machine, or what one has by name"
DESCRIPTION = """\
List the arenas in a folder: capacity, bytes used, processes, age, state.

States: "in use" while a process has it; "lasting", kept without any process; "orphan", left by
processes that were all killed: `flagstone gc` removes it, as the next open in its folder does.

Of an arena, list what programs find in it by name: stores with their keys; channels and how many
messages wait; topics, who subscribes, how far behind and how much was lost; locks and who owns
them."""
EXAMPLE = """\
  $ flagstone ls
  name   capacity  used           committed  processes  age    state
  video     4 GiB  812 MiB (20 %)   830 MiB          3  5 min  in use

  $ flagstone ls video
  channels
    name    waiting  capacity  taken  inline   bytes  state
    frames        3      1024      0   200 B  256 KiB"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "what",
        metavar="FOLDER or ARENA",
        nargs="?",
        default=FOLDER,
        help=f"a folder on a tmpfs (default: {FOLDER}); or, if it is none, the name of an arena",
    )


def state_of(info: flagstone.ArenaInfo) -> str:
    """The state of an arena, in one word or two."""
    if info.orphan:
        return "orphan"
    if info.lasting:
        return "lasting" if info.processes == 0 else "in use, lasting"
    return "in use"


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """List the arenas, or what is in one; the exit status."""
    what = arguments.what  # a bare name that is no folder is an arena's, also where there is none
    if not os.path.isdir(what) and (os.sep not in what or _is_arena(what)):
        return _within(arguments, screen)
    folder = existing_folder(arguments.what)
    arenas = flagstone.arenas(folder)
    others = _others(folder, {info.path for info in arenas})
    now = time.time()
    if arguments.json:
        shown = [
            {**plain(info), "state": state_of(info), "age": max(0.0, now - info.created_at)}
            for info in arenas
        ]
        screen.json({"folder": folder, "arenas": shown, "others": others})
        return 0
    screen.table(
        "",
        ["name", ">capacity", ">used", ">committed", ">processes", ">age", "state"],
        [
            [
                info.name,
                format_size(info.capacity),
                share(info.used, info.capacity),
                format_size(info.committed),
                number(info.processes),
                duration(max(0.0, now - info.created_at)),
                state_of(info),
            ]
            for info in arenas
        ],
        empty=f"no arena in {folder}",
    )
    for path in others:
        screen.line(f"{path}: no arena of this version, or another user's")
    return 0


def _is_arena(name: str) -> bool:
    try:
        return os.path.isfile(arena_path(name))
    except ValueError:
        return False


def _within(arguments: argparse.Namespace, screen: Screen) -> int:
    listed = find(arguments.what)
    if listed is not None and listed.orphan:  # attaching would remove it
        raise UsageError(f"{arguments.what} is an orphan: its processes were all killed")
    with attached(arguments.what) as arena:
        snapshot = arena.snapshot()
    kinds = ("stores", "channels", "topics", "locks")
    found = {kind: getattr(snapshot, kind) for kind in kinds}
    if arguments.json:
        screen.json({"arena": arguments.what, **found})
    elif any(found.values()):
        by_name(snapshot, screen, below=False)
    else:
        screen.line(f"nothing has a name in {arguments.what}")
    return 0


def _others(folder: str, arenas: set[str]) -> list[str]:
    # Only where the name says that a file is meant to be one.
    if folder != FOLDER:
        return []
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(PREFIX)]
    return sorted(path for path in paths if path not in arenas)
