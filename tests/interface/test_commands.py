"""What pages tell to type: each program is there, and each of ours takes these arguments."""

import contextlib
import io
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from typing import NamedTuple

import pytest

from flagstone.cli import _parser
from flagstone.debug import parse
from flagstone.run import _parser as parser_of_run
from flagstone.run import _split
from tests.interface.test_docs import ALL_PAGES, ROOT
from tools.pages import blocks

# Programs that are neither Python's nor the project's, and how their options begin.
SYSTEM = {
    "cd": (),
    "cp": (),
    "docker run": ("--shm-size=", "--memory=", "-v"),
    "docker volume create": ("--driver", "--opt"),
    "gcc": ("-O2", "-w", "-D", "-o"),
    "meson setup": ("-D",),
    "meson test": ("-C",),
    "mktemp": ("-d",),
    "spin": ("-D", "-a", "-t", "-p", "-g"),
}


class Command(NamedTuple):
    """A simple command of a page, and the lines around it."""

    page: str
    words: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    block: str

    def __str__(self):
        return f"{self.page}: {' '.join(self.words)}"


def found():
    for page in ALL_PAGES:
        for block in blocks(page.read_text()):
            if block.language is None:  # an indented block is what to type
                lines = block.text.splitlines()
            elif block.language == "":  # a fenced one says also what comes of it
                lines = [one[2:] for one in block.text.splitlines() if one.startswith("$ ")]
            else:
                continue
            for line in filter(None, lines):
                yield from simple(str(page.relative_to(ROOT)), line, block.text)


def simple(page, line, block):
    """The commands of a line, without a comment or a description behind them."""
    lexer = shlex.shlex(re.split(r"\s{2,}|\s#", line)[0], posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words, file = [], False
    for word in [*lexer, ";"]:
        if not set(word) <= set("();<>|&"):
            words += [] if file else [word]
            file = False
        elif set(word) & set("<>"):
            file = True
        else:
            settings = [one for one in words if re.match("[A-Z_]+=", one)]
            words = [one for one in words if one not in settings]
            if words:
                pairs = tuple(tuple(one.split("=", 1)) for one in settings)
                yield Command(page, tuple(words), pairs, block)
            words = []


COMMANDS = list(found())


def every(*names):
    return pytest.mark.parametrize(
        "command", [one for one in COMMANDS if one.words[0] in names], ids=str
    )


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_program_is_there(command):
    """It is the project's, Python's, or a known one of the system, with known options."""
    name = command.words[0]
    if "/" in name:
        made = f"-o {name.removeprefix('./')} " in command.block
        built = re.fullmatch(r"build/core-gcc/(tests/\w+/\w+)", name)
        assert made or (ROOT / (f"{built[1]}.c" if built else name)).exists()
    elif name not in ("flagstone", "make", "python", "pip", "dask"):
        text = " ".join([*command.words, ""])
        options = [known for one, known in SYSTEM.items() if text.startswith(f"{one} ")]
        assert options, f"{name}: no program that this test knows"
        own = itertools.takewhile(lambda word: word != "IMAGE", command.words)
        assert [one for one in own if one[0] == "-" and not one.startswith(options[0])] == []


def test_no_program_is_known_for_nothing():
    texts = [" ".join(one.words) for one in COMMANDS]
    assert [one for one in SYSTEM if not any(text.startswith(one) for text in texts)] == []


@every("flagstone")
def test_flagstone(command):
    """The command takes these arguments."""
    words = command.words[1:]
    if words[0].endswith(","):  # several, described together
        words = [words[0].rstrip(","), "--help"]
    words = [one for one in words if not one.startswith("[")]  # what may be left out
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            _parser().parse_args(words)
            status = 0
        except SystemExit as end:
            status = end.code
    assert status == 0, said.getvalue()


@every("python")
def test_python(command):
    """A program of the reader's, a module of the project's, or what `flagstone.run` starts, which
    leaves the program's own arguments.
    """
    words = command.words[1:]
    if words[0] in ("...", "pipeline.py"):
        return
    assert words[0] == "-m"
    if words[1] == "flagstone":
        _parser().parse_args(words[2:])
    elif words[1] == "flagstone.run":
        parser_of_run().parse_args(_split(list(words[2:]))[0])
    else:
        path = ROOT / words[1].replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@every("make")
def test_make(command):
    """The Makefile has the target, and it or the target's program what is set."""
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):", text, re.MULTILINE)
    words = command.words[1:]
    assert [one for one in words if one not in targets] == []
    for name, _ in command.settings:
        programs = [ROOT / "tools" / one for one in words if (ROOT / "tools" / one).is_file()]
        assert any(re.search(rf"\b{name}\b", one) for one in [text, *map(read, programs)]), name


def read(path):
    return path.read_text()


@every("meson")
def test_meson(command):
    """What is set is an option of the project's."""
    there = re.findall(r"^option\('(\w+)'", (ROOT / "meson.options").read_text(), re.MULTILINE)
    for word in command.words:
        if word.startswith("-D"):
            assert word[2:].partition("=")[0] in there


@every("pip")
def test_pip(command):
    """pip has the options. (What it installs of ours: `test_extras`.)"""
    ask = [sys.executable, "-m", "pip", command.words[1], "--help"]
    help = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    for word in command.words[2:]:
        assert not word.startswith("-") or word in help
        assert word in (".",) or word.startswith(("-", "flagstone[", "build/wheels/"))


@every("dask")
def test_dask(command):
    """Dask's commands take these arguments."""
    from distributed.cli import dask_scheduler, dask_worker

    main = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[command.words[1]]
    main.make_context(command.words[1], list(command.words[2:]))


def test_extras():
    """What `pip install "flagstone[...]"` names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        there = tomllib.load(file)["project"]["optional-dependencies"]
    named = {
        one
        for page in ALL_PAGES
        for extras in re.findall(r"flagstone\[([a-z,]+)\]", page.read_text())
        for one in extras.split(",")
    }
    assert {"cli", "dask", "torch"} <= named <= set(there)


def test_settings():
    """Each variable of the environment that pages name is read by somebody, and what commands set
    can be read.
    """
    readers = [
        path.read_text()
        for folder, pattern in (("src", "*.py"), ("tests", "*.py"), ("tests", "*.h"))
        for path in ROOT.joinpath(folder).rglob(pattern)
        if path.name != "test_commands.py"
    ]
    for page in ALL_PAGES:
        for name in set(re.findall(r"\bFLAGSTONE_[A-Z_]+\b|\bFST_[A-Z_]+(?==)", page.read_text())):
            assert any(name in text for text in readers), f"{page}: {name}"
    set_here = [pair for one in COMMANDS for pair in one.settings if "FLAGSTONE" in pair[0]]
    assert {name for name, _ in set_here} == {"FLAGSTONE_DEBUG"}
    for _, value in set_here:
        assert parse(value)
