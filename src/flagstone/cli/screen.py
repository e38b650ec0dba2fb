"""Printing: tables, facts and JSON, with rich where it is installed and somebody watches.

What goes to a file or a pipe is plain text without colours or boxes, the same with and without
rich, and never cut to the width of a terminal.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flagstone
from flagstone.picture import BAD, GOOD, Page, duration, number, printable, share
from flagstone.sizes import many

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "BAD",
    "GOOD",
    "Screen",
    "duration",
    "fields",
    "many",
    "number",
    "plain",
    "printable",
    "share",
]

_STYLES = {GOOD: "bold green", BAD: "bold red"}
_LONG = 1000
"""Items of a list, above which JSON is not indented within them."""


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

    def flush(self) -> None:
        """Let whoever reads the other end of a pipe have it now."""
        sys.stdout.flush()

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str = ""
    ) -> None:
        """A table below a title, by rich where it draws."""
        if self.console is None or not rows:
            super().table(title, columns, rows, empty)
        else:
            self._rich_table(title, columns, [[printable(cell) for cell in row] for row in rows])

    def json(self, facts: Mapping[str, Any]) -> None:
        """One JSON document; of a long list each item in a line of its own."""
        before = "{"
        for key, value in facts.items():
            sys.stdout.write(f"{before}\n  {json.dumps(key)}: ")
            sys.stdout.writelines(_encoded(value))
            before = ","
        print("\n}")

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


def _encoded(value: Any) -> Iterator[str]:
    # Only what is not indented is encoded in C, and one by one there are no millions of objects for
    # the garbage collector: of a million messages in flight that is minutes.
    if isinstance(value, (list, tuple)) and len(value) > _LONG:
        before = "["
        for one in value:
            yield f"{before}\n    {json.dumps(plain(one))}"
            before = ","
        yield "\n  ]"
    else:
        yield json.dumps(plain(value), indent=2).replace("\n", "\n  ")


def _console() -> Console | None:
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(one.name for one in dataclasses.fields(kind))


def fields(facts: Any) -> dict[str, Any]:
    """The fields of a dataclass as they are; nothing of anything else."""
    kind: Any = type(facts)
    return {name: getattr(facts, name) for name in _names(kind)}


def plain(facts: Any) -> Any:
    """Facts of any kind in what JSON has: dictionaries, lists, texts, numbers."""
    if facts is None or isinstance(facts, (str, int, float)):
        return facts
    if found := fields(facts):
        return {name: plain(value) for name, value in found.items()}
    if isinstance(facts, Mapping):
        return {str(key): plain(value) for key, value in facts.items()}
    if isinstance(facts, (set, frozenset)):
        return sorted(map(plain, facts))
    if isinstance(facts, (list, tuple)):
        return [plain(value) for value in facts]
    if isinstance(facts, flagstone.Handle):
        return bytes(facts).hex()
    return facts
