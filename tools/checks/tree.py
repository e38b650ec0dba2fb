"""The tree that is checked: its files, and what in a file is code and what is said to people."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

_C = re.compile(
    r"(?P<prose>/\*.*?\*/|//[^\n]*)|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
)
_PYTHON = re.compile(
    r"(?P<prose>\"\"\".*?\"\"\"|'''.*?'''|\#[^\n]*)|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
    re.DOTALL,
)
_SHELL = re.compile(r"(?P<prose>(?<!\S)\#[^\n]*)")
_SYNTAX = {
    **dict.fromkeys(("", ".build", ".options", ".yml"), _SHELL),
    **dict.fromkeys((".c", ".h", ".pml"), _C),
    **dict.fromkeys((".py", ".pyi", ".pyx", ".pxi", ".pxd"), _PYTHON),
}
# Built, installed, or kept by a tool: not the project's.
_FOREIGN = {"build", "__pycache__"}


@dataclass(frozen=True)
class Finding:
    """Something wrong in a file, at a line (0: in the file as a whole).

    `key` is what names it in the list of what is known (known.toml); "" cannot be listed.
    """

    path: str
    line: int
    text: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


class Parts(NamedTuple):
    """A file's text in parts, with blanks in place of the rest: lines and columns stay."""

    code: str
    live: str  # code, and its strings
    prose: str  # comments, docstrings


@dataclass(frozen=True)
class Tree:
    """A checkout."""

    root: Path

    def files(self, folder: str, *suffixes: str) -> list[Path]:
        """The files with these suffixes under the folder, sorted."""
        return [path for path in _walk(self.root / folder) if path.suffix in suffixes]

    def everything(self) -> list[str]:
        """All files, relative to the root."""
        return [self.shown(path) for path in _walk(self.root)]

    def core(self) -> list[Path]:
        """C of the core."""
        return self.files("core", ".c", ".h")

    def binding(self) -> list[Path]:
        """C of the binding."""
        return self.files("src/flagstone", ".c", ".h")

    def all_c(self) -> list[Path]:
        """C of the core, of the binding and of the core's tests."""
        return [
            *self.core(),
            *self.binding(),
            *self.files("tests/core", ".c", ".h"),
            *self.files("tests/fuzz", ".c", ".h"),
        ]

    def models(self) -> list[Path]:
        """The models of its protocols."""
        return self.files("models", ".pml")

    def recipes(self) -> list[Path]:
        """What builds and checks: files for make, meson and the documentation's site, and scripts,
        which have no suffix.
        """
        scripts = [path for path in (self.root / "tools").glob("*") if not path.suffix]
        named = [self.root / name for name in ("Makefile", "meson.options", "mkdocs.yml")]
        found = [path for path in (*named, *scripts, self.root / "models/run") if path.is_file()]
        return sorted({*found, *self.files("", ".build")})

    def package(self) -> list[Path]:
        """The package, with the binding."""
        return self.files("src/flagstone", ".py", ".pyi", ".pyx", ".pxi", ".pxd")

    def shown(self, path: Path) -> str:
        """How a message names the file."""
        return str(path.relative_to(self.root))


@cache
def _walk(folder: Path) -> list[Path]:
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOREIGN and name[0] != "."]
        found += [Path(here, name) for name in files]
    return sorted(found)


@cache
def text_of(path: Path) -> str:
    """What the file says; "" if it is no text."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


@cache
def parts_of(path: Path) -> Parts:
    """The file's code and prose. Strings are neither."""
    text = text_of(path)
    script = path.suffix == "" and "python" in text.partition("\n")[0]
    syntax = _PYTHON if script else _SYNTAX.get(path.suffix)
    if syntax is None:
        return Parts("", "", text)
    code, live, prose = list(text), list(text), list(_blank(text))
    for match in syntax.finditer(text):
        start, end = match.span()
        code[start:end] = _blank(match[0])
        if match["prose"] is not None:
            live[start:end] = code[start:end]
            prose[start:end] = match[0]
    return Parts("".join(code), "".join(live), "".join(prose))


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def line_at(text: str, position: int) -> int:
    """Number of the line, from 1."""
    return text.count("\n", 0, position) + 1


def matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Each match, with the number of its line."""
    for match in pattern.finditer(text):
        yield line_at(text, match.start()), match


Known = Collection[str]
