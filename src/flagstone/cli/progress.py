"""How far the demo is: a bar where somebody watches, a line for each phase elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from flagstone.cli.screen import Screen, many

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WIDTH: Final = 30
_EVERY: Final = 0.05
"""Seconds between two drawings of the plain bar."""


class Bar:
    """What `flagstone.demo` reports its progress to.

    Args:
        screen: where to draw.
        quiet: draw nothing (stdout is for machines).
    """

    def __init__(self, screen: Screen, *, quiet: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._drawing = not quiet and sys.stdout.isatty()
        self._label = ""
        self._total = self._done = 0
        self._note = ""
        self._drawn = 0.0
        self._rich: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._drawing and self._screen.console is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._rich = Progress(
                TextColumn("{task.description:<30}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._screen.console,
            )
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rich is not None:
            self._rich.stop()
        else:
            self._end_line()

    def phase(self, label: str, files: int, nbytes: int) -> None:
        """A new phase begins."""
        if self._rich is not None:
            self._task = self._rich.add_task(label, total=files, note="")
        elif self._drawing:
            self._end_line()
        elif not self._quiet:
            size = f", {nbytes / 1e6:,.1f} MB" if nbytes else ""
            self._screen.line(f"{label}: {many(files, 'file')}{size}")
            sys.stdout.flush()
        self._label, self._total, self._done, self._note = label, files, 0, ""
        self._draw(force=True)

    def advance(self, files: int, nbytes: int) -> None:
        """More of it is done."""
        self._done += files
        self._draw(force=self._done >= self._total)

    def killed(self, role: str) -> None:
        """A worker was killed on purpose."""
        text = f"killed a {role}"
        self._note = f"{self._note}, {text}" if self._note else text
        if self._rich is None and not self._drawing and not self._quiet:
            self._screen.line(f"  {text}")

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self._drawing or (now - self._drawn < _EVERY and not force):
            return
        self._drawn = now
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self._done, note=self._note)
            return
        full = _WIDTH * self._done // max(self._total, 1)
        bar = "#" * full + "-" * (_WIDTH - full)
        # Many kills do not fit a line; the last one does.
        note = self._note.rpartition(", ")[2]
        line = f"\r{self._label:<30} [{bar}] {self._done}/{self._total} {note}"
        sys.stdout.write(line.ljust(90)[:110])
        sys.stdout.flush()

    def _end_line(self) -> None:
        if self._drawing and self._label:
            sys.stdout.write("\n")
            sys.stdout.flush()
