"""`flagstone ls`: the arenas in a folder, without attaching to any."""

from __future__ import annotations

import argparse
import os
import time

import flagstone
from flagstone.cli.screen import Screen, duration, number, plain, share
from flagstone.cli.usage import add_folder, existing_folder
from flagstone.names import FOLDER, PREFIX
from flagstone.sizes import format_size

NAME = "ls"
HELP = "list the arenas of this machine"
DESCRIPTION = """\
List the arenas in a folder: capacity, bytes used, processes, age, state.

States: "in use" while a process has it; "lasting", kept without any process; "orphan", left by
processes that were all killed: `flagstone gc` removes it, as the next open in its folder does."""
EXAMPLE = """\
  $ flagstone ls
  name   capacity  used           committed  processes  age    state
  video     4 GiB  812 MiB (20 %)   830 MiB          3  5 min  in use"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_folder(parser)


def state_of(info: flagstone.ArenaInfo) -> str:
    """In one word or two."""
    if info.orphan:
        return "orphan"
    if info.lasting:
        return "lasting" if info.processes == 0 else "in use, lasting"
    return "in use"


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """List them."""
    folder = existing_folder(arguments.folder)
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


def _others(folder: str, arenas: set[str]) -> list[str]:
    # Only where the name says that a file is meant to be one.
    if folder != FOLDER:
        return []
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(PREFIX)]
    return sorted(path for path in paths if path not in arenas)
