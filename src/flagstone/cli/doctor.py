"""`flagstone doctor`: what on this machine will bite, and what to do about it."""

from __future__ import annotations

import argparse

from flagstone.cli.screen import BAD, GOOD, Screen, many
from flagstone.cli.usage import add_folder, existing_folder
from flagstone.machine import FINE, WRONG, Machine, diagnose

NAME = "doctor"
HELP = "say what on this machine will bite, and what to do about it"
DESCRIPTION = """\
Look at what arenas depend on here: the size of /dev/shm and who fills it, memory cgroups,
systemd's RemoveIPC, ulimits, membarrier, the kernel, and arenas that were left over or are of
another version. Each finding comes with its fix; `docs/caveats.md` explains it. Nothing is changed.

"note" is what may bite, and "wrong" what bites now: exit status 1 if there is any of the latter."""
EXAMPLE = """\
  $ flagstone doctor
  wrong  shm         /dev/shm has 64 MiB, 64 MiB (100 %) free: what a container gets by itself
                     fix: docker run --shm-size, an emptyDir with medium: Memory, ..."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_folder(parser)


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Ask, and say what was found."""
    found = diagnose(Machine(shm=existing_folder(arguments.folder)))
    wrong = [one for one in found if one.level == WRONG]
    if arguments.json:
        screen.json({"healthy": not wrong, "findings": found})
        return 1 if wrong else 0
    for one in found:
        style = {WRONG: BAD, FINE: GOOD}.get(one.level)
        screen.line(f"{one.level:<5}  {one.about:<10}  {one.text}", style)
        if one.fix:
            screen.line(f"{'':<19}fix: {one.fix}")
    notes = sum(one.level not in (WRONG, FINE) for one in found)
    screen.line(f"{len(wrong)} wrong, {many(notes, 'note')}", BAD if wrong else GOOD)
    return 1 if wrong else 0
