"""Printing: tables, facts and JSON, with rich where it is installed and somebody watches.

What goes to a file or a pipe is plain text without colours or boxes, the same with and without
rich, and never cut to the width of a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flagstone
from flagstone.sizes import format_size

if TYPE_CHECKING:
    from rich.console import Console

GOOD = "good"
BAD = "bad"
_STYLES = {GOOD: "bold green", BAD: "bold red"}


class Screen:
    """Where a command prints its facts."""

    def __init__(self) -> None:
        self.console: Console | None = _console()
        """Rich's, or None for plain text."""

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of text; `style` is GOOD, BAD or None."""
        text = printable(text)
        if self.console is not None:
            self.console.print(
                text, style=_STYLES.get(style or ""), markup=False, highlight=False, soft_wrap=True
            )
        else:
            print(text)

    def facts(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        """A block of named facts below a title; empty ones are left out."""
        rows = [(name, text) for name, text in rows if text]
        width = max((len(name) for name, _ in rows), default=0)
        self.line(title, None)
        for name, text in rows:
            self.line(f"  {name:<{width}}  {text}")

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = ""
    ) -> None:
        """A table below a title. A column whose name begins with ">" is aligned to the right.

        Args:
            title: nothing is printed for "".
            columns: their names.
            rows: of texts.
            empty: printed instead when there are no rows.
        """
        if not rows:
            if empty:
                self.line(f"{title}: {empty}" if title else empty)
            return
        rows = [[printable(cell) for cell in row] for row in rows]
        if self.console is not None:
            self._rich_table(title, columns, rows)
            return
        if title:
            print(title)
        names = [name.removeprefix(">") for name in columns]
        widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
        for row in [names, *rows]:
            cells = [
                f"{cell:>{width}}" if name.startswith(">") else f"{cell:<{width}}"
                for name, cell, width in zip(columns, row, widths, strict=True)
            ]
            indent = "  " if title else ""
            print((indent + "  ".join(cells)).rstrip())

    def json(self, facts: Any) -> None:
        """One JSON document."""
        print(json.dumps(plain(facts), indent=2))

    def _rich_table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        assert self.console is not None
        table = Table(
            title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD
        )
        for name in columns:
            table.add_column(
                name.removeprefix(">"), justify="right" if name.startswith(">") else "left"
            )
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)


def _console() -> Console | None:
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def plain(facts: Any) -> Any:
    """The same facts in what JSON has: dictionaries, lists, texts, numbers."""
    if dataclasses.is_dataclass(facts) and not isinstance(facts, type):
        return {one.name: plain(getattr(facts, one.name)) for one in dataclasses.fields(facts)}
    if isinstance(facts, Mapping):
        return {str(key): plain(value) for key, value in facts.items()}
    if isinstance(facts, (set, frozenset)):
        return sorted(map(plain, facts))
    if isinstance(facts, (list, tuple)):
        return [plain(value) for value in facts]
    if isinstance(facts, flagstone.Handle):
        return bytes(facts).hex()
    return facts


def printable(text: str) -> str:
    """The text with control characters and broken file names escaped: names come from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def number(value: int) -> str:
    """1,234,567."""
    return f"{value:,}"


def many(value: int, noun: str, plural: str = "") -> str:
    """1 file, 2 files."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: "80 us", "3.4 ms", "12 s", "5 min", "3 h", "2 days"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def share(part: int, whole: int) -> str:
    """12.3 MiB (4 %)."""
    percent = f" ({100 * part / whole:.0f} %)" if whole and part else ""
    return format_size(part) + percent
