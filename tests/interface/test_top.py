"""`flagstone top`: by Textual's pilot, in a real terminal, and as text."""

import asyncio
import dataclasses
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import flagstone
from flagstone.observer import Observer
from flagstone.testing import wait_until
from flagstone.views import TABS, alarms, drill, shown
from tests.conftest import missing
from tests.interface.test_cli import assert_error, facts, run

pytest.importorskip("textual")

from textual.widgets import DataTable, Static, Tabs

from flagstone.tui import Depth, Top

PICTURES = Path(__file__).parents[2] / "docs" / "guides"


@pytest.fixture
def busy(arena):
    """Something of each kind."""
    frames = arena.cache("frame", shape=(240, 320), dtype="u1")
    with arena.group("camera", limit="1MiB") as camera, arena.group("day", parent=camera) as day:
        kept = [frames.alloc(group=camera) for _ in range(4)]
        kept += [frames.alloc(group=day) for _ in range(8)]
        channel = arena.channel("frames", capacity=8)
        channel.put(b"m")
        topic = arena.topic("preview", capacity=4)
        with topic.subscribe(slow="drop"), arena.lock("exporter"):
            topic.publish(b"m")
            store = arena.store("models")
            store["k"] = b"v" * 5000
            yield arena
            store.destroy()
        del kept


def cells(app):
    table = app.screen.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(row)] for row in range(table.row_count)]


def text(app, where):
    return str(app.screen.query_one(where, Static).render())


async def until(pilot, condition):
    """Let the program go on until this holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await pilot.pause(0.02)


async def on(pilot, tab):
    """Go to a tab."""
    tabs = pilot.app.screen.query_one(Tabs)
    tabs.active = tab.replace(" ", "-")
    await until(pilot, lambda: pilot.app.screen._tab == tab)
    await pilot.pause()


def played(app, play, size=(80, 24)):
    async def perform():
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: isinstance(app.screen, Depth) and app.screen.last)
            await pilot.pause()
            await play(pilot)

    asyncio.run(perform())


def test_each_tab(busy):
    app = Top(busy.name, "/dev/shm", 0.05)

    async def play(pilot):
        look = app.screen.last
        assert busy.name in text(app, "#head")
        for name, tab in TABS.items():
            await on(pilot, name)
            assert len(cells(app)) == len(tab(look).rows), name
        await on(pilot, "groups")
        assert [row[0] for row in cells(app)] == ["(root)", "  camera", "    day"]

    played(app, play)


def test_drill_filter_sort_pause(busy):
    app = Top(busy.name, "/dev/shm", 0.05)

    async def play(pilot):
        await on(pilot, "processes")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen._inside is not None)
        # What this process holds, by cache and group; nobody else is there.
        rows = {(row[2], row[3]): row[4] for row in cells(app)}
        assert rows["frame", "camera"] == "4"
        assert rows["frame", "day"] == "8"
        await pilot.press("escape")
        assert app.screen._inside is None
        await on(pilot, "groups")
        await pilot.press("slash", "d", "a", "y")
        await until(pilot, lambda: [row[0].strip() for row in cells(app)] == ["day"])
        await pilot.press("enter", "escape")
        await until(pilot, lambda: len(cells(app)) == 3)
        await pilot.press("s")
        await until(pilot, lambda: next(row[0].strip() for row in cells(app)) == "(root)")
        await pilot.press("p")
        before = app.screen.last
        assert "PAUSED" in text(app, "#head")
        await pilot.pause(0.3)
        assert app.screen.last is before
        await pilot.press("p")
        await until(pilot, lambda: app.screen.last is not before)
        await pilot.press("q")

    played(app, play)


def test_sort_and_filter_on_each_tab(busy):
    """Each column in turn, the largest number or the first text on top; then as it was. A filter
    leaves the rows that have its text, and Escape brings the others back.
    """
    app = Top(busy.name, "/dev/shm", 0.05)
    for number in range(3):
        busy.channel(f"c{number}", capacity=2 + number)
        busy.barrier()
    messages = [pickle.dumps(busy.put(b"x" * size)) for size in (200, 9000, 40)]
    people = [subprocess.Popen([sys.executable, "-c", STAYS, busy.name], **PIPES) for _ in range(2)]
    for one in people:
        assert one.stdout.readline() == b"stays\n"

    async def play(pilot):
        for name, tab in TABS.items():
            await on(pilot, name)
            await until(pilot, lambda tab=tab: len(cells(app)) == len(tab(app.screen.last).rows))
            await pilot.press("p")  # so that what is drawn is what was looked at
            table = tab(app.screen.last)
            assert len(table.rows) > 1, name
            asis = [list(row.cells) for row in table.rows]
            for place, column in enumerate(table.columns):
                await pilot.press("s")
                wanted = sorted(
                    table.rows,
                    key=lambda row, place=place: row.values[place],
                    reverse=column.startswith(">"),
                )
                assert cells(app) == [list(row.cells) for row in wanted], (name, column)
                assert f"by {column.removeprefix('>')}" in text(app, "#inside")
            await pilot.press("s")
            assert cells(app) == asis
            word = next(cell for cell in asis[-1] if cell.strip()).strip()
            await pilot.press("slash", *(word if word.isalnum() else "i"))
            sought = app.screen.query_one("#filter").value
            assert sought
            wanted = [row for row in asis if any(sought.lower() in cell.lower() for cell in row)]
            assert cells(app) == (wanted or []), (name, sought)
            await pilot.press("enter", "escape")
            assert cells(app) == asis
            await pilot.press("p")

    try:
        played(app, play, (120, 40))
    finally:
        for one in people:
            one.communicate(b"")
        for message in messages:
            del message
        del messages
        busy.drop_in_flight()


def test_into_a_row_of_each_tab_that_has_an_inside(busy):
    app = Top(busy.name, "/dev/shm", 0.05)

    async def play(pilot):
        for name in TABS:
            await on(pilot, name)
            await until(pilot, lambda: cells(app) or name == "in flight")  # noqa: B023
            await pilot.press("enter")
            await pilot.pause(0.2)
            inside = app.screen._inside
            assert (inside is not None) == (name in {"groups", "processes", "caches"}), name
            if inside is not None:
                assert text(app, "#inside").startswith(f"{name}: ")
                await until(pilot, lambda: ["frame", "day"] in [row[2:4] for row in cells(app)])
                await pilot.press("escape")
                assert app.screen._inside is None

    async def chosen(pilot):
        await play(pilot)
        # A row whose group ends while somebody is inside it: nothing, and no error.
        with busy.group("short") as short:
            block = busy.alloc(5000, group=short)
            await on(pilot, "groups")
            await until(pilot, lambda: "  short" in [row[0] for row in cells(app)])
            at = [row[0] for row in cells(app)].index("  short")
            app.screen.query_one(DataTable).move_cursor(row=at)
            await pilot.press("enter")
            await until(pilot, lambda: app.screen._inside is not None)
        del block
        await until(pilot, lambda: not cells(app))
        assert "no process uses an object of it" in text(app, "#inside")

    played(app, chosen)


def test_two_of_a_name_are_two_rows(busy):
    """A look that walks past a store's end and its new beginning finds both."""
    app = Top(busy.name, "/dev/shm", 60)

    async def play(pilot):
        await on(pilot, "names")
        look = app.screen.last
        (store,) = look.snapshot.stores
        snapshot = dataclasses.replace(look.snapshot, stores=(store, store, store))
        app.screen.last = dataclasses.replace(look, snapshot=snapshot)
        app.screen.draw()
        await pilot.pause()
        assert [row[:2] for row in cells(app)[:4]] == [["store", "models"]] * 3 + [
            ["channel", "frames"]
        ]
        app.screen.last = look
        app.screen.draw()
        await pilot.pause()
        assert [row[0] for row in cells(app)[:2]] == ["store", "channel"]

    played(app, play)


def test_the_folder_goes_and_comes(shm_folder):
    path = shm_folder / "arenas"
    path.mkdir()
    app = Top(None, str(path), 0.05)

    async def perform():
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "Enter looks inside" in text(app, "#head"))
            path.rmdir()
            await until(pilot, lambda: "No such file" in text(app, "#head"))
            path.mkdir()
            await until(pilot, lambda: "Enter looks inside" in text(app, "#head"))

    asyncio.run(perform())


def test_from_the_list_and_back(busy, arena_name):
    app = Top(None, "/dev/shm", 0.1)

    async def perform():
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: arena_name in [row[0] for row in cells(app)])
            table = app.screen.query_one(DataTable)
            table.move_cursor(row=[row[0] for row in cells(app)].index(arena_name))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Depth) and app.screen.last)
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, Depth))

    asyncio.run(perform())


STAYS = """
import sys, flagstone
arena = flagstone.open(sys.argv[1])
block = arena.alloc(70_000)
print("stays", flush=True)
sys.stdin.read()
"""
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}

STALLS = """
import sys, flagstone
arena = flagstone.open(sys.argv[1])
block = arena.put(b"x" * 50_000, group=arena.group("camera"))
with arena.read():
    print("inside", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_a_picture_of_a_stall(busy, size, tmp_path, monkeypatch):
    """A reader that holds memory up, as its pid, thread and age, in red; nothing is cut off in the
    middle, and the rest is said to be cut. `FLAGSTONE_PICTURES=1` puts both sizes into the docs.
    """
    (tmp_path / "viewer.py").write_text(STALLS)
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    viewer = subprocess.Popen(
        ["python", "viewer.py", busy.name],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert viewer.stdout.readline() == b"inside\n"
    monkeypatch.setattr(Observer, "look", as_a_pipeline(Observer.look, busy.name))
    with busy.group("job") as job:
        block = busy.put(b"x" * 1_000_000, group=job)
    app = Top(busy.name, "/dev/shm", 0.05)
    made = []

    async def play(pilot):
        await on(pilot, "processes")

        def is_told():
            stalled = app.screen.last.snapshot.stalled
            told = "STALLED" in text(app, "#alarms") and "costs" in text(app, "#head")
            return told and stalled is not None and stalled[2] > 1

        await until(pilot, is_told)
        await pilot.pause()
        made.append(app.export_screenshot(title="flagstone top video"))
        assert f"pid {viewer.pid}, thread {viewer.pid}" in text(app, "#alarms")

    try:
        played(app, play, size)
    finally:
        viewer.communicate(b"")
    del block
    svg = plain(made[0])
    said = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    lines = [line.replace("&#160;", " ") for line in said]
    (alarm,) = [line for line in lines if line.startswith("STALLED")]
    assert alarm.rstrip().endswith("is inside a read-side section")
    (style,) = re.findall(r'class="([^"]*)"[^>]*>STALLED', svg)
    shown_in = re.search(rf"\.{style.split()[0]} {{ fill: (#[0-9a-f]+)", svg)[1]
    assert int(shown_in[1:3], 16) > 200
    assert int(shown_in[3:5], 16) < 100
    if os.environ.get("FLAGSTONE_PICTURES"):
        name = "top-stalled.svg" if size == (80, 24) else "top-stalled-wide.svg"
        (PICTURES / name).write_text(svg)


def as_a_pipeline(look, name):
    """What a look finds, as if the arena were called video, and this process its program."""

    def called(observer, **options):
        observer.name = name  # it may have to attach again
        found = look(observer, **options)
        observer.name = "video"
        processes = [
            dataclasses.replace(one, is_self=False, arguments="python pipeline.py")
            if one.pid == os.getpid()
            else dataclasses.replace(one, arguments=one.arguments.replace(name, "video"))
            for one in found.snapshot.processes
        ]
        snapshot = dataclasses.replace(found.snapshot, processes=tuple(processes))
        return dataclasses.replace(found, snapshot=snapshot)

    return called


def plain(svg):
    """The picture without fonts from a network."""
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def test_a_stall_is_red(arena):
    """Somebody stays in a section that a batch waits for: process, thread and age are told."""
    entered, leave = threading.Event(), threading.Event()

    def read():
        with arena.read():
            entered.set()
            leave.wait()

    reader = threading.Thread(target=read)
    reader.start()
    entered.wait()
    app = Top(arena.name, "/dev/shm", 0.05)
    with arena.group("job") as job:
        block = arena.put(b"x" * 1000, group=job)
    del block

    async def play(pilot):
        await until(pilot, lambda: app.screen.last.snapshot.stalled is not None)
        await pilot.pause(0.2)
        line = text(app, "#alarms")
        assert "STALLED" in line
        assert f"pid {os.getpid()}" in line
        assert f"thread {reader.native_id}" in line
        assert app.screen.query_one("#alarms").display
        await on(pilot, "processes")
        assert cells(app)[0][-2] == "STALLS"

    try:
        played(app, play)
    finally:
        leave.set()
        reader.join()


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_pictures(busy, size, monkeypatch):
    """`FLAGSTONE_PICTURES=1` puts the one of 80x24 into the docs."""
    app = Top(busy.name, "/dev/shm", 0.05)
    monkeypatch.setattr(Observer, "look", as_a_pipeline(Observer.look, busy.name))
    made = []

    async def play(pilot):
        def is_told():
            head = text(app, "#head")
            return len(cells(app)) == 3 and head.startswith("video:") and "costs" in head

        await until(pilot, is_told)
        await pilot.pause()
        made.append(app.export_screenshot(title="flagstone top video"))

    played(app, play, size)
    svg = plain(made[-1])
    assert "camera" in svg
    if os.environ.get("FLAGSTONE_PICTURES") and size == (80, 24):
        (PICTURES / "top.svg").write_text(svg)


MIXED = r"([34]8);2;(\d+);(\d+);(\d+)"


def test_in_a_terminal(busy, tmp_path):
    tmux = shutil.which("tmux") or missing("tmux is not installed")
    server = [tmux, "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def screen():
        ran = subprocess.run(
            [*server, "capture-pane", "-p", "-t", "top"], capture_output=True, text=True
        )
        return ran.stdout

    command = f"NO_COLOR=1 {sys.executable} -m flagstone top {busy.name} --every 0.1"
    subprocess.run(
        [*server, "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", command], check=True
    )
    try:
        # The first line and the table are drawn one after the other: a screen may have either.
        seen = []

        def is_drawn():
            seen[:] = screen().splitlines()
            return any("camera" in line for line in seen) and busy.name in seen[0]

        wait_until(is_drawn, 60, "the groups")
        assert all(len(line) <= 80 for line in seen)
        # Without colour: shades of grey at most, and what is red elsewhere is bold, in words.
        coloured = subprocess.run(
            [*server, "capture-pane", "-e", "-p", "-t", "top"], capture_output=True, text=True
        ).stdout
        for codes in re.findall(r"\x1b\[([0-9;]*)m", coloured):
            assert not re.search(r"(^|;)(3[1-6]|4[1-6]|9[1-6])(;|$)", re.sub(MIXED, "", codes))
            for *_, red, green, blue in re.findall(MIXED, codes):
                assert red == green == blue
        subprocess.run([*server, "send-keys", "-t", "top", "l"], check=True)
        wait_until(lambda: "dropped" in screen(), 60, "the processes")
        subprocess.run([*server, "send-keys", "-t", "top", "q"], check=True)
        gone = [*server, "has-session", "-t", "top"]
        wait_until(lambda: subprocess.run(gone, capture_output=True).returncode != 0, 60)
    finally:
        subprocess.run([*server, "kill-server"], capture_output=True)


def test_once(busy):
    ran = run("top", busy.name, "--once")
    assert (ran.returncode, ran.stderr) == (0, "")
    for word in ("groups", "    day", "processes", "frame", "channel", "exporter", "committed,"):
        assert word in ran.stdout
    found = facts("top", busy.name)
    assert found["capacity"] == busy.capacity
    assert sum(use["objects"] for use in found["uses"]) >= 12
    assert busy.name in run("top", "--once").stdout


def test_wrong_use(arena_name):
    assert_error(run("top", arena_name), 1, "there is no arena")
    with flagstone.open(arena_name, capacity="4MiB"):
        assert_error(run("top", arena_name), 2, "--once")


def test_who_holds_a_group(busy):
    with Observer(busy) as observer:
        look = observer.look(uses=True)
    (camera,) = [one for one in look.snapshot.groups if one.name == "camera"]
    title, table = drill(look, "groups", str(camera.id))
    assert "camera" in title
    # Of the groups below it, too, as its usage.
    held = [row.cells[2:5] for row in table.rows]
    assert held == [("frame", "day", "8"), ("frame", "camera", "4")]
    (day,) = [one for one in look.snapshot.groups if one.name == "day"]
    _, table = drill(look, "groups", str(day.id))
    assert [row.cells[2:5] for row in table.rows] == [("frame", "day", "8")]
    _, table = drill(look, "groups", "12345")
    assert table.rows == []
    assert drill(look, "batches", "b1") is None
    few = shown(TABS["groups"](look), most=1)
    assert few.rows[1].cells[0] == "... and 2 more"
    assert isinstance(alarms(look), list)
