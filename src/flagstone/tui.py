"""The screen of `flagstone top`, by Textual (the extra `tui`): arenas, and one in depth.

It reads and shows, and changes nothing. A look is made in a thread of its own, so that a large
arena does not hold up the keys, and never more often than `Observer.pause` allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections import deque
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Sparkline, Static, Tab, Tabs

import flagstone
from flagstone.observer import Look, Observer, share
from flagstone.picture import printable
from flagstone.views import TABS, Row, Table, alarms, arenas, drawn, drill, headline, shown

__all__ = ["Top"]

_HISTORY: Final = 240
"""Looks that the curve of memory goes back."""


class Rows(DataTable[Text]):
    """A table that knows what it shows: columns, and rows."""

    drawn: tuple[tuple[str, ...], list[Row]] | None = None


def fill(widget: Rows, table: Table) -> None:
    """Draw the table, with the cursor on the row where it was."""
    rows = _apart(table.rows)
    keys = [row.key for row in rows]
    right = [name.startswith(">") for name in table.columns]
    columns, old = widget.drawn or ((), [])
    widget.drawn = (table.columns, rows)
    if columns == table.columns and keys == [row.key for row in old]:
        # Mostly a few numbers have changed, and drawing the whole table again would cost much more.
        for number, (before, now) in enumerate(zip(old, rows, strict=True)):
            if before is not now and (before.cells != now.cells or before.style != now.style):
                _change(widget, number, before, now, right)
        return
    at = None
    if widget.row_count and widget.is_valid_row_index(widget.cursor_row):
        at = widget.coordinate_to_cell_key(widget.cursor_coordinate).row_key.value
    if columns == table.columns:
        widget.clear()
    else:
        widget.clear(columns=True)
        for name, numbers in zip(table.columns, right, strict=True):
            text = name.removeprefix(">")
            widget.add_column(Text(text, justify="right" if numbers else "left"))
    for row in rows:
        cells = zip(row.cells, right, strict=True)
        widget.add_row(*(_cell(text, row, numbers) for text, numbers in cells), key=row.key)
    if at is not None and at in keys:
        widget.move_cursor(row=keys.index(at), animate=False)


def _apart(rows: list[Row]) -> list[Row]:
    """Rows with a key each: a look at what is made and destroyed meanwhile may have found two of a
    name.
    """
    if len({row.key for row in rows}) == len(rows):
        return rows
    seen: set[str] = set()
    found = []
    for row in rows:
        key = row.key
        while key in seen:
            key += "'"
        seen.add(key)
        found.append(row if key == row.key else dataclasses.replace(row, key=key))
    return found


def _change(widget: Rows, number: int, before: Row, now: Row, right: list[bool]) -> None:
    for place, (one, other) in enumerate(zip(before.cells, now.cells, strict=True)):
        if one != other or before.style != now.style:
            cell = _cell(other, now, right[place])
            widget.update_cell_at(Coordinate(number, place), cell, update_width=True)


def _cell(text: str, row: Row, numbers: bool) -> Text:
    style = "bold red" if row.style else ""
    return Text(text, style=style, justify="right" if numbers else "left", no_wrap=True)


class Listing(Screen[None]):
    """All arenas of a folder."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "app.quit", "quit")]

    def __init__(self, folder: str, every: float) -> None:
        super().__init__()
        self._folder, self._every = folder, every

    def compose(self) -> ComposeResult:
        yield Static("", id="head", markup=False)
        yield Rows(cursor_type="row", id="table")
        yield Footer()

    def on_mount(self) -> None:
        self.refresh_rows()
        self.set_interval(self._every, self.refresh_rows)

    def refresh_rows(self) -> None:
        """List them again."""
        said = f"arenas in {self._folder}: Enter looks inside"
        try:
            found = flagstone.arenas(self._folder)
        except OSError as error:  # the folder may come back
            said, found = f"{self._folder}: {error.strerror}", []
        self.query_one("#head", Static).update(printable(said))
        fill(self.query_one(Rows), arenas(found))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.row_key.value is not None:
            self.app.push_screen(Depth(event.row_key.value, self._every, below=True))


class Depth(Screen[None]):
    """One arena."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "quit"),
        Binding("p", "pause", "pause"),
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "back", "back"),
        Binding("right_square_bracket,l", "next_tab(1)", "next", key_display="l"),
        Binding("left_square_bracket,h", "next_tab(-1)", "prev", key_display="h"),
    ]

    def __init__(self, name: str, every: float, *, below: bool = False) -> None:
        super().__init__()
        self.observer = Observer(name)
        self.last: Look | None = None
        self.paused = False
        self._every, self._below = every, below
        self._tab = next(iter(TABS))
        self._sort: dict[str, int | None] = {}
        self._filter = ""
        self._inside: tuple[str, str] | None = None
        self._used: deque[float] = deque(maxlen=_HISTORY)
        self._share = 0.0
        self._gone = ""
        self._looking, self._left = threading.Lock(), False
        self._said: dict[Static, tuple[str, int]] = {}

    def compose(self) -> ComposeResult:
        yield Static("looking ...", id="head", markup=False)
        yield Sparkline([], id="memory")
        yield Static("", id="alarms", markup=False)
        yield Tabs(*(Tab(name, id=name.replace(" ", "-")) for name in TABS))
        with Vertical(id="body"):
            yield Static("", id="inside", markup=False)
            yield Rows(cursor_type="row", id="table")
        yield Input(placeholder="filter: Enter keeps it, Escape clears it", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self.query_one(DataTable).focus()
        self.run_worker(self._watch(), exclusive=True)

    def on_unmount(self) -> None:
        with self._looking:
            self._left = True
            self.observer.close()

    def _look(self) -> Look | None:
        """In a thread, which may come after the screen has gone: then it must not attach again."""
        with self._looking:
            # Who uses what is half as much again, and seen inside a row only.
            inside = self._inside is not None
            return None if self._left else self.observer.look(uses=inside)

    async def _watch(self) -> None:
        began, spent, drawn_before = time.monotonic(), time.process_time(), False
        while True:
            if not self.paused:
                try:
                    look = await asyncio.to_thread(self._look)
                    if look is None:
                        return
                    self.last, self._gone = look, ""
                    self._used.append(float(look.snapshot.used))
                except (flagstone.FlagstoneError, OSError, ValueError) as error:
                    self._gone = str(error)
                self.draw()
            # What was drawn costs more than the look: all of it counts.
            await asyncio.sleep(self._every / 2)
            cost = time.process_time() - spent
            # The first one draws all of the screen, once.
            pause = max(self._every, cost / share()) if drawn_before else self._every
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))
            if drawn_before:
                self._share = cost / max(1e-9, time.monotonic() - began)
            drawn_before = True
            began, spent = time.monotonic(), time.process_time()

    def draw(self) -> None:
        """Show the last look."""
        if self._left or not self.query("#head"):  # it goes, piece by piece, or is not there yet
            return
        head = self.query_one("#head", Static)
        look = self.last
        if look is None:
            self._say(head, printable(self._gone))
            return
        paused = "PAUSED  " if self.paused else ""
        gone = f"GONE: {self._gone}  " if self._gone else ""
        line = printable(f"{paused}{gone}{self.observer.name}: {headline(look)}")
        if self._share:
            costs = f"costs {100 * self._share:.1f} %"
            line += f", {costs}" if len(line) + len(costs) + 2 <= self.size.width else f"\n{costs}"
        self._say(head, line)
        self.query_one(Sparkline).data = list(self._used)
        found = alarms(look)
        bad = self.query_one("#alarms", Static)
        bad.display = bool(found)
        bad.update(Text("\n".join(found[:3]), style="bold red"))
        self._draw_table(look)

    def _say(self, widget: Static, text: str) -> None:
        """Draw it, and arrange all of the screen anew only where it takes more or fewer lines."""
        width = max(1, self.size.width)
        before, lines = self._said.get(widget, ("", 0))
        now = sum(1 + max(0, len(line) - 1) // width for line in text.split("\n"))
        if text != before:
            self._said[widget] = (text, now)
            widget.update(text, layout=lines != now)

    def _draw_table(self, look: Look) -> None:
        sort = self._sort.get(self._tab if self._inside is None else "inside")
        inside = drill(look, *self._inside) if self._inside is not None else None
        if inside is None:
            title, table = "", drawn(look, self._tab, filter=self._filter, sort=sort)
        else:
            title = f"{inside[0]} (Escape goes back)"
            table = shown(inside[1], filter=self._filter, sort=sort)
        if not table.rows:
            title = f"{title} {table.empty}" if title else table.empty
        if self._filter:
            title += f"  filter: {self._filter}"
        if sort is not None and sort < len(table.columns):
            title += f"  by {table.columns[sort].removeprefix('>')}"
        line = self.query_one("#inside", Static)
        line.display = bool(title)
        self._say(line, printable(title.strip()))
        fill(self.query_one(Rows), table)

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        if event.tab.id is not None:
            self._tab, self._inside = event.tab.id.replace("-", " "), None
            self.draw()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        key = event.row_key.value
        if self.last is None or key is None or self._inside is not None:
            return
        if drill(self.last, self._tab, key) is not None:
            with contextlib.suppress(flagstone.FlagstoneError, OSError), self._looking:
                self.last = self.observer.look(uses=True)
            self._inside = (self._tab, key)
            self._sort.pop("inside", None)
            self.draw()

    def action_next_tab(self, step: int) -> None:
        """The tab beside this one."""
        tabs = self.query_one(Tabs)
        (tabs.action_next_tab if step > 0 else tabs.action_previous_tab)()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self.paused = not self.paused
        self.draw()

    def action_sort(self) -> None:
        """By the next column; after the last one as it was."""
        where = self._tab if self._inside is None else "inside"
        columns = len(self.query_one(DataTable).columns)
        at = self._sort.get(where)
        following = 0 if at is None else at + 1
        self._sort[where] = following if following < columns else None
        self.draw()

    def action_filter(self) -> None:
        """Ask for a text that rows must have."""
        field = self.query_one(Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value
        self.draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.input.display = False
        self.query_one(DataTable).focus()

    def action_back(self) -> None:
        """Out of the filter, out of a row, out of the arena."""
        field = self.query_one(Input)
        if field.display or self._filter:
            field.value = self._filter = ""
            field.display = False
            self.query_one(DataTable).focus()
        elif self._inside is not None:
            self._inside = None
        elif self._below:
            self.app.pop_screen()
            return
        self.draw()


class Top(App[None]):
    """The program.

    Args:
        arena: name or path of one; None: all in `folder` to choose from.
        folder: of arenas.
        every: seconds between two looks, or more where these are dear.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; max-height: 2; text-style: bold; }
    #memory { height: 2; margin: 0; }
    #alarms { height: auto; max-height: 3; display: none; text-wrap: nowrap; }
    #alarms { text-overflow: ellipsis; }
    #inside { height: 1; display: none; text-wrap: nowrap; text-overflow: ellipsis; }
    #body { height: 1fr; }
    #table { height: 1fr; }
    #filter { dock: bottom; height: 3; }
    """

    def __init__(self, arena: str | None, folder: str, every: float) -> None:
        super().__init__()
        self._arena, self._folder, self._every = arena, folder, every

    def on_mount(self) -> None:
        """Begin with the arena, or with the choice of one."""
        if self._arena is None:
            self.push_screen(Listing(self._folder, self._every))
        else:
            self.push_screen(Depth(self._arena, self._every))
