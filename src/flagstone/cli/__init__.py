"""The command line: `flagstone COMMAND`, and `python -m flagstone COMMAND`.

One module for each command, each with

    NAME, HELP, DESCRIPTION, EXAMPLE    what `--help` shows
    configure(parser)                   its arguments
    run(arguments, screen) -> int       what it does; the exit status

and beside them `screen`, which prints tables and facts, with rich where that is installed and
stdout is a terminal, and as plain text elsewhere.

Exit status: 0 fine, 1 found something wrong (or could not look), 2 wrong usage; 130 after Ctrl-C
and 141 when whoever read the output went away, as a shell counts them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

import flagstone
from flagstone.cli import (
    check,
    demo,
    doctor,
    gc,
    get,
    info,
    keys,
    ls,
    metrics,
    record,
    report,
    rm,
    sites,
    top,
)
from flagstone.cli.screen import Screen
from flagstone.cli.usage import UsageError

__all__ = ["main"]

FINE: Final = 0
WRONG: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
NOBODY_READS: Final = 141

_COMMANDS: Final[tuple[ModuleType, ...]] = (
    demo,
    ls,
    info,
    check,
    gc,
    rm,
    keys,
    get,
    sites,
    metrics,
    top,
    record,
    report,
    doctor,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the arguments; None for those of this process.

    Returns:
        The exit status. (Wrong arguments and `--help` raise SystemExit, as argparse does.)
    """
    arguments = _parser().parse_args(argv)
    status = _run(arguments)
    try:
        # Here, where it can still be caught, and not when the interpreter ends.
        sys.stdout.flush()
    except OSError as error:
        status = _output_failed(error)
    return status


def _run(arguments: argparse.Namespace) -> int:
    try:
        status: int = arguments.run(arguments, Screen())
        return status
    except BrokenPipeError as error:
        return _output_failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except UsageError as error:
        return _complain(str(error), USAGE)
    except (flagstone.FlagstoneError, OSError, TimeoutError, ValueError) as error:
        return _complain(_sentence(error), WRONG)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flagstone",
        description="Shared memory for Python processes that cleans up after itself.",
        epilog="exit status: 0 fine, 1 found something wrong, 2 wrong usage",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {flagstone.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=f"example:\n{module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
        command.add_argument("--json", action="store_true", help="print the facts as JSON")
        command.set_defaults(run=module.run)
    return parser


def _output_failed(error: OSError) -> int:
    # What is still in the buffer goes nowhere; the interpreter would try again, and complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    if isinstance(error, BrokenPipeError):
        return NOBODY_READS
    return _complain(_sentence(error), WRONG)


def _sentence(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        text = where + error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _complain(text: str, status: int) -> int:
    print(f"flagstone: {text}", file=sys.stderr)
    return status
