"""`flagstone report`: a page about an arena."""

from __future__ import annotations

import argparse
import os

from flagstone.cli.screen import Screen, many
from flagstone.cli.usage import UsageError
from flagstone.observer import Observer
from flagstone.record import Recorder, read

NAME = "report"
HELP = "make a page of HTML of a recording, or of an arena as it is now"
DESCRIPTION = """\
Make one page of HTML that needs no network: usage over time by group and by process, a treemap of
the arena at the end, ages of messages, batches and what they took, deaths and what came back. Of a
file of `flagstone record`, or of one look at an arena. Needs `pip install "flagstone[report]"`."""
EXAMPLE = """\
  $ flagstone report video.jsonl -o report.html
  $ flagstone report video -o now.html"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "what", metavar="FILE or ARENA", help="a recording; or, if it is none, an arena"
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the page")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Write the page; the exit status."""
    from flagstone.report import page

    if _is_recording(arguments.what):
        with open(arguments.what, encoding="utf-8") as file:
            head, lines = read(file)
    else:
        with Observer(arguments.what) as observer:
            look = observer.look()
        recorder = Recorder()
        head, lines = recorder.head(look, arguments.what), [recorder.line(look)]
    try:
        text = page(head, lines)
    except ImportError as error:
        raise UsageError(str(error)) from None
    except (IndexError, KeyError, TypeError):
        what = f"{arguments.what} is no recording of `flagstone record`, or was changed"
        raise ValueError(what) from None
    with open(arguments.out, "w", encoding="utf-8") as file:
        file.write(text)
    if arguments.json:
        screen.json({"page": arguments.out, "looks": len(lines)})
    else:
        screen.line(f"{arguments.out}: {many(len(lines), 'look')}")
    return 0


def _is_recording(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:  # an arena may lie at a path, too
        return file.read(1) == b"{"
