"""Plain text for people: a page that collects lines and tables, and how it writes numbers.

The command line's screen is a page that prints them, with colours where somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from flagstone.sizes import format_size

__all__ = [
    "BAD",
    "GOOD",
    "Page",
    "duration",
    "number",
    "printable",
    "share",
    "some",
]

GOOD: Final = "good"
BAD: Final = "bad"


class Page:
    """Lines of plain text, as they are drawn."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of text; `style` is GOOD, BAD or None, for those that have colours."""
        self.lines.append(printable(text))

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
        # There may be a million: rows that are lists are what the garbage collector looks at.
        rows = [row if "".join(row).isprintable() else tuple(map(printable, row)) for row in rows]
        if title:
            self.line(title)
        names = [name.removeprefix(">") for name in columns]
        widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
        line = ("  " if title else "") + "  ".join(
            f"{{:{'>' if name.startswith('>') else '<'}{width}}}"
            for name, width in zip(columns, widths, strict=True)
        )
        for row in [names, *rows]:
            self.line(line.format(*row).rstrip())

    def __str__(self) -> str:
        return "\n".join(self.lines)


def some(texts: list[str]) -> str:
    """The first three, and whether there are more."""
    return ", ".join(texts[:3]) + (", ..." if len(texts) > 3 else "")


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
