"""`flagstone sites`: living memory by where it was allocated."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter

from flagstone.cli.attach import attached
from flagstone.cli.screen import Screen
from flagstone.cli.usage import add_arena, seconds
from flagstone.facts import Site
from flagstone.picture import printable
from flagstone.snapshot import sites

NAME = "sites"
HELP = "living memory by the line that allocated it"
DESCRIPTION = """\
Living objects by where in a program they were allocated, the most bytes first, by which process,
and how many of them which processes hold; with --grown what came to live within so many seconds,
and who holds more, the most first: a leak. Who holds may be another one than who allocated. Only of
caches that are debugged with U: start the program with FLAGSTONE_DEBUG=U, or open its arena with
debug="U"."""
EXAMPLE = """\
  $ FLAGSTONE_DEBUG=U python pipeline.py &
  $ flagstone sites video
  allocated at
    bytes  objects  oldest  by     held by     caches  where
  512 MiB       86   4.2 s  10412  10415 (86)  frame   /srv/pipeline.py:31 in grab
  $ flagstone sites video --grown 10 --stacks"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    parser.add_argument(
        "--grown",
        type=seconds,
        metavar="SECONDS",
        help="look twice, so far apart, and show what is more the second time",
    )
    parser.add_argument("--stacks", action="store_true", help="print who called, too")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """List the sites; the exit status."""
    with attached(arguments.arena) as arena:
        found = arena.snapshot().sites
        if arguments.grown is not None:
            time.sleep(arguments.grown)
            found = _grown(found, arena.snapshot().sites)
    if arguments.json:
        screen.json({"sites": [dataclasses.asdict(site) for site in found]})
        return 0
    sites(found, screen, empty="nothing has grown" if arguments.grown is not None else "")
    for number, site in enumerate(found if arguments.stacks else (), 1):
        screen.line(f"{number}.")
        for line in site.where.split("\n"):
            screen.line(f"  {printable(line)}")
    return 0


def _grown(before: tuple[Site, ...], after: tuple[Site, ...]) -> tuple[Site, ...]:
    """How many more objects and bytes there are of each, the most bytes first."""
    known = {site.where: site for site in before}
    found = []
    for site in after:
        old = known.get(site.where)
        held = Counter(dict(site.holders)) - Counter(dict(old.holders if old else ()))
        more = dataclasses.replace(
            site,
            objects=site.objects - (old.objects if old else 0),
            nbytes=site.nbytes - (old.nbytes if old else 0),
            holders=tuple(held.most_common()),
        )
        if more.nbytes > 0:
            found.append(more)
    return tuple(sorted(found, key=lambda site: -site.nbytes))
