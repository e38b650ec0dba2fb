"""Printing: tables, facts and JSON, with rich where it is installed and somebody watches.

What goes to a file or a pipe is plain text without colours or boxes, the same with and without
rich, and never cut to the width of a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flagstone
from flagstone.picture import BAD, GOOD, Page, duration, many, number, printable, share

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "BAD",
    "GOOD",
    "Screen",
    "duration",
    "many",
    "number",
    "plain",
    "printable",
    "share",
]

_STYLES = {GOOD: "bold green", BAD: "bold red"}


class Screen(Page):
    """Where a command prints its facts: at once, line by line."""

    def __init__(self) -> None:
        super().__init__()
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

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = ""
    ) -> None:
        """A table below a title, by rich where it draws."""
        if self.console is None or not rows:
            super().table(title, columns, rows, empty)
        else:
            self._rich_table(title, columns, [[printable(cell) for cell in row] for row in rows])

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
