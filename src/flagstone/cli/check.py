"""`flagstone check`: validate every structure of an arena."""

from __future__ import annotations

import argparse

import flagstone
from flagstone.cli.attach import attached, find
from flagstone.cli.screen import BAD, GOOD, Screen, many
from flagstone.cli.usage import add_arena

NAME = "check"
HELP = "validate every structure of an arena"
DESCRIPTION = """\
Validate every structure of an arena, which may be in use meanwhile, and print each contradiction
that is found. Nothing is repaired. Exit status 1 if there are findings."""
EXAMPLE = """\
  $ flagstone check video
  video: sound"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Check the arena, and print the findings; the exit status, 1 if there is one."""
    name: str = arguments.arena
    listed = find(name)
    if listed is not None and listed.orphan:
        findings = ["an orphan: its processes were all killed; `flagstone gc` removes it"]
    else:
        try:
            with attached(name) as arena:
                findings = [str(finding) for finding in arena.check()]
        except flagstone.ArenaCorrupted as error:
            # So damaged that attaching noticed.
            findings = [str(error)]
    if arguments.json:
        screen.json({"arena": name, "sound": not findings, "findings": findings})
    elif findings:
        screen.line(f"{name}: {many(len(findings), 'finding')}", BAD)
        for finding in findings:
            screen.line(f"  {finding}")
    else:
        screen.line(f"{name}: sound", GOOD)
    return 1 if findings else 0
