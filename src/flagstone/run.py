"""`python -m flagstone.run PROGRAM ARGS`: a program with its shared memory on an arena.

The program is not touched: `multiprocessing.shared_memory` is `flagstone.shared_memory` for it, and
for every Python that it starts (whatever way, unless by `python -E`, `-I` or `-S`).
"""

from __future__ import annotations

import argparse
import builtins
import importlib.machinery
import os
import runpy
import sys
import types
from collections.abc import Sequence

from flagstone import segment
from flagstone.errors import FlagstoneError
from flagstone.shared_memory import install

__all__ = ["main"]

_SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flagstone.run",
        usage="%(prog)s [--arena NAME] [--capacity SIZE] [-m MODULE | -c CODE | PROGRAM] [ARGS]",
        description="Run a program whose multiprocessing.shared_memory lies in an arena.",
    )
    parser.add_argument("--arena", help=f"name or path of the arena (now {segment.place()!r})")
    parser.add_argument("--capacity", help="of the arena, if it is to be made: 4GiB, ...")
    parser.add_argument("-m", dest="module", help="run a module, as python -m does")
    parser.add_argument("-c", dest="code", help="run this text, as python -c does")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="PROGRAM ARGS")
    return parser


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments for `flagstone.run`, up to `-m NAME` or `-c CODE`; and those from the program's
    name on, or after these.
    """
    ours: list[str] = []
    rest = list(arguments)
    while rest:
        one = rest[0]
        if one in ("-m", "-c"):
            return ours + rest[:2], rest[2:]
        if not one.startswith("-") or one == "-":
            return ours, rest
        if one == "--":
            return ours, rest[1:]
        ours.append(rest.pop(0))
        if one in ("--arena", "--capacity") and rest:
            ours.append(rest.pop(0))
    return ours, rest


def _run_script(path: str) -> None:
    """Run a file as `python PATH` does, in a `__main__` that stays: threads that outlive it, and
    pickles, need it.
    """
    if os.path.isdir(path) or (not path.endswith((".py", ".pyw")) and _is_archive(path)):
        sys.path.insert(0, path)
        runpy.run_path(path, run_name="__main__")
        return
    with open(path, "rb") as file:
        source = file.read()
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__dict__["__builtins__"] = builtins
    main.__dict__["__cached__"] = None
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)


def _is_archive(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)


def _run_code(code: str) -> None:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.path.insert(0, "")
    exec(compile(code, "<string>", "exec", dont_inherit=True), main.__dict__)


def _tell_python() -> None:
    """Have every Python that is started from now on import our `sitecustomize`."""
    paths = os.environ.get("PYTHONPATH", "")
    if _SITE not in paths.split(os.pathsep):
        os.environ["PYTHONPATH"] = _SITE + (os.pathsep + paths if paths else "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a program. What it raises, and how it exits, is the program's.

    Args:
        arguments: as after `python -m flagstone.run`; None is `sys.argv`.
    """
    ours, rest = _split(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(ours)
    if options.module is None and options.code is None and not rest:
        parser.error("there is no program")
    try:
        install(options.arena, capacity=options.capacity)
    except (FlagstoneError, ValueError) as error:
        parser.error(str(error))
    _tell_python()
    # sys.path[0] is this one's own: of `-m flagstone.run` the folder that it was called in.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    if options.module is not None:
        sys.argv = [options.module, *rest]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(options.module, run_name="__main__", alter_sys=True)
    elif options.code is not None:
        sys.argv = ["-c", *rest]
        _run_code(options.code)
    else:
        sys.argv = list(rest)
        _run_script(rest[0])


if __name__ == "__main__":
    main()
