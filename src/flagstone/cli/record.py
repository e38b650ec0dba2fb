"""`flagstone record`: write down what an arena does."""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from types import FrameType

import flagstone
from flagstone.cli.screen import Screen, many
from flagstone.cli.usage import add_arena, seconds
from flagstone.observer import Observer
from flagstone.record import Recorder

NAME = "record"
HELP = "write down what an arena does, for `flagstone report`"
DESCRIPTION = """\
Look at an arena again and again and write what was found to a file, a line of JSON for each look,
until the arena is gone, --seconds are over, or Ctrl-C. At most a hundredth of the processors is
spent on looking. `flagstone report` makes a page of it."""
EXAMPLE = """\
  $ flagstone record video -o video.jsonl --seconds 60
  video.jsonl: 60 looks
  $ flagstone report video.jsonl -o report.html"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_arena(parser)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="where to write")
    parser.add_argument(
        "--every", type=seconds, default=1.0, metavar="SECONDS", help="look so often (default: 1)"
    )
    parser.add_argument(
        "--seconds", type=seconds, metavar="SECONDS", help="for so long (default: until the end)"
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Record until the end; the exit status."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, end)
    deadline = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    looks, recorder = 0, Recorder()
    with Observer(arguments.arena) as observer:
        look = observer.look()  # before the file is made: there has to be something to record
        uuid = look.snapshot.uuid
        with open(arguments.out, "w", encoding="utf-8") as file:
            print(json.dumps(recorder.head(look, arguments.arena)), file=file)
            while True:
                print(json.dumps(recorder.line(look)), file=file, flush=True)
                looks += 1
                pause = observer.pause(arguments.every)
                if deadline is not None:
                    pause = min(pause, deadline - time.monotonic())
                if pause <= 0 or ended.wait(pause):
                    break
                try:
                    look = observer.look()
                except (FileNotFoundError, flagstone.FlagstoneError):
                    break  # it is gone, which is how most recordings end
                if look.snapshot.uuid != uuid:
                    break  # another one has its name
    if arguments.json:
        screen.json({"file": arguments.out, "looks": looks})
    else:
        screen.line(f"{arguments.out}: {many(looks, 'look')}")
    return 0
