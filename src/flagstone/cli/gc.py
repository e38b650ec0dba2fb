"""`flagstone gc`: remove the arenas that killed processes left."""

from __future__ import annotations

import argparse

import flagstone
from flagstone.cli.screen import Screen, many
from flagstone.cli.usage import add_folder, existing_folder
from flagstone.folder import gc
from flagstone.sizes import format_size

NAME = "gc"
HELP = "remove the arenas that killed processes left"
DESCRIPTION = """\
Remove the arenas of this user in a folder that no living process has, and that are not lasting.
(Opening any arena in that folder does the same.) Whether a process lives is what the kernel says,
so that nothing in use is ever removed."""
EXAMPLE = """\
  $ flagstone gc
  removed /dev/shm/flagstone.job-17 (812 MiB)"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_folder(parser)
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="only say what would be removed"
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Remove the arenas, or say which; the exit status."""
    folder = existing_folder(arguments.folder)
    sizes = {
        info.path: info.committed
        for info in flagstone.arenas(folder)
        if info.orphan or not arguments.dry_run
    }
    removed = sorted(sizes) if arguments.dry_run else sorted(gc(folder))
    if arguments.json:
        screen.json({"folder": folder, "dry_run": arguments.dry_run, "removed": removed})
        return 0
    did = "would remove" if arguments.dry_run else "removed"
    for path in removed:
        size = f" ({format_size(sizes[path])})" if path in sizes else ""
        screen.line(f"{did} {path}{size}")
    if len(removed) != 1:
        screen.line(
            f"{did} {many(len(removed), 'arena')} in {folder}"
            if removed
            else f"nothing to remove in {folder}"
        )
    return 0
