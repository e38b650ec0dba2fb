"""`flagstone demo`: real files flow between real processes, two of which are killed."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import flagstone
from flagstone.cli.progress import Bar
from flagstone.cli.screen import BAD, GOOD, Screen, many, number
from flagstone.cli.usage import UsageError, count, size
from flagstone.sizes import format_size

if TYPE_CHECKING:
    from flagstone.demo import DemoReport

NAME = "demo"
HELP = "show it at work: real files, real processes, two of them killed"
DESCRIPTION = """\
Reader processes put every file of a folder into an arena, hasher processes compute its SHA-256
there without copying a byte, and this process compares each digest with its own reading. Meanwhile
a reader and a hasher are killed at random moments and replaced; lost work is done again. The same
pipeline then runs with pickled bytes and with multiprocessing.shared_memory, for comparison.

Exit status 1 if a digest differs, or if anything is left: bytes, references, files, processes."""
EXAMPLE = """\
  $ flagstone demo
  $ flagstone demo ~/pictures --readers 4 --kills 3 --seed 7"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="whose files to move (default: Python's standard library)",
    )
    parser.add_argument(
        "--readers", type=count(1, 64), default=2, metavar="N", help="reader processes (default: 2)"
    )
    parser.add_argument(
        "--hashers", type=count(1, 64), default=2, metavar="N", help="hasher processes (default: 2)"
    )
    kills = parser.add_mutually_exclusive_group()
    kills.add_argument(
        "--kills",
        type=count(0, 1000),
        default=1,
        metavar="N",
        help="readers to kill, and as many hashers (default: 1)",
    )
    kills.add_argument(
        "--no-kills", dest="kills", action="store_const", const=0, help="kill nobody"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out the other two pipelines")
    parser.add_argument(
        "--seed", type=count(0, 2**64 - 1), metavar="N", help="repeat the random choices of a run"
    )
    parser.add_argument(
        "--capacity",
        type=size,
        default=size("1GiB"),
        metavar="SIZE",
        help='of the arena, such as "256MiB": an upper bound, not a cost (default: 1GiB)',
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Run it, and say what came out."""
    from flagstone.demo import DemoOptions, NothingToDo, PipelineBroken, run_demo

    options = DemoOptions(
        folder=arguments.folder,
        readers=arguments.readers,
        hashers=arguments.hashers,
        kills=arguments.kills,
        seed=arguments.seed,
        capacity=arguments.capacity,
        peers=not arguments.no_peers,
    )
    try:
        with _ended_like_by_ctrl_c(), Bar(screen, quiet=arguments.json) as bar:
            report = run_demo(options, bar)
    except NothingToDo as error:
        raise UsageError(str(error)) from None
    except PipelineBroken as error:
        raise flagstone.FlagstoneError(f"the demo broke down: {error}") from None
    if arguments.json:
        screen.json(report.as_dict())
    else:
        show(report, screen)
    return 0 if report.passed else 1


@contextmanager
def _ended_like_by_ctrl_c() -> Iterator[None]:
    """SIGTERM cleans up as Ctrl-C does; the arena would go with the last worker in any case."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread: then signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def show(report: DemoReport, screen: Screen) -> None:
    """The summary, for people."""
    screen.line()
    screen.line(f"{many(report.files, 'file')}, {report.bytes / 1e6:,.1f} MB from {report.folder}")
    for reason, left_out in sorted(report.skipped.items()):
        names = ", ".join(report.skipped_examples[reason][:2])
        more = ", ..." if left_out > 2 else ""
        screen.line(f"  left out, {reason}: {number(left_out)} ({names}{more})")
    screen.line()
    _pipelines(report, screen)
    screen.line()
    _arena(report, screen)
    for problem in report.other_problems:
        screen.line(f"  not Flagstone's: {problem}")
    screen.line()
    _verdict(report, screen)


def _pipelines(report: DemoReport, screen: Screen) -> None:
    rows = []
    for pipeline in [report.flagstone, *report.peers]:
        killed = sum(pipeline.killed.values())
        rows.append(
            [
                pipeline.label,
                number(pipeline.files),
                f"{pipeline.seconds:.2f}",
                f"{pipeline.megabytes_per_second:,.0f}",
                f"{many(killed, 'worker')} killed" if killed else "",
            ]
        )
    screen.table(
        f"the same pipeline, {many(report.readers, 'reader')} and"
        f" {many(report.hashers, 'hasher')}, over",
        ["", ">files", ">seconds", ">MB/s", ""],
        rows,
    )


def _arena(report: DemoReport, screen: Screen) -> None:
    arena = report.arena
    by_role = sorted(report.flagstone.killed.items(), reverse=True)  # readers first
    killed = " and ".join(many(deaths, role) for role, deaths in by_role)
    left = [
        format_size(arena.left_bytes),
        many(arena.left_objects, "object"),
        f"{number(arena.left_in_flight)} in flight",
        many(len(arena.left_files), "file"),
        many(len(arena.left_processes), "process", "processes"),
    ]
    checked = "sound" if not arena.findings else many(len(arena.findings), "finding")
    screen.facts(
        "the arena",
        [
            (
                "killed",
                f"{killed}; {many(report.flagstone.redone, 'file')} done again"
                if killed
                else "nobody",
            ),
            (
                "objects",
                f"{number(arena.objects)} stored,"
                f" {number(arena.objects - arena.left_objects)} reclaimed",
            ),
            ("groups", f"{number(arena.groups)} came and went, each with a cache of its own"),
            (
                "batches",
                f"{number(arena.batches)}, with {many(arena.grace_periods, 'grace period')}:"
                f" {arena.groups_per_grace_period:,.1f} groups for each",
            ),
            ("memory", f"at most {format_size(arena.peak)} in use"),
            ("left over", ", ".join(left)),
            ("check", checked),
        ],
    )


def _verdict(report: DemoReport, screen: Screen) -> None:
    if report.passed:
        screen.line(
            f"PASSED: {many(report.files, 'digest')} as the parent read them,"
            f" {many(report.kills_survived, 'kill')} survived, nothing left",
            GOOD,
        )
        return
    screen.line(f"FAILED (--seed {report.seed})", BAD)
    for problem in report.problems[:20]:
        screen.line(f"  {problem}")
    if len(report.problems) > 20:
        screen.line(f"  and {number(len(report.problems) - 20)} more")
