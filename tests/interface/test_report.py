"""`flagstone record` and `flagstone report`: the page has the snapshot's numbers; where there is a
Chromium it draws the page, without an error and without a network.
"""

import dataclasses
import gc
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flagstone
from flagstone import cli
from flagstone.observer import Observer
from flagstone.record import Recorder, read
from flagstone.testing import wait_until
from tests.interface.test_cli import assert_error, run

pytest.importorskip("plotly")

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def embedded(page, key):
    found = re.search(rf'<script type="application/json" id="{key}">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def drawn(path, *, shot=None, size=(1000, 900), dark=False):
    """What Chromium makes of it; None where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    profile = path.parent / "profile"
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
    ]
    command += [f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=20000"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
    command += ["--hide-scrollbars", "--allow-file-access-from-files"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    what = f"--screenshot={shot}" if shot else "--dump-dom"
    ran = subprocess.run(
        [*command, what, path.as_uri()], capture_output=True, text=True, timeout=100
    )
    assert "CONSOLE" not in ran.stderr, ran.stderr
    return ran.stdout


def framed(path, width, height=880):
    """A page that shows this one as wide as that: Chromium has no window as narrow as a phone. What
    the inner page says of itself is repeated outside.
    """
    outer = path.with_name(f"framed-{width}.html")
    outer.write_text(
        '<meta name="color-scheme" content="light dark">'
        "<style>body { margin: 0; text-align: center; }</style>"
        f'<iframe src="{path.name}" style="border: 0; width: {width}px; height: {height}px">'
        "</iframe><script>setInterval(() => Object.assign(document.body.dataset,"
        'document.querySelector("iframe").contentDocument.body.dataset), 100);</script>'
    )
    return outer


def test_a_page_of_now(arena, tmp_path):
    """Names that would end a script or a tag are text."""
    nasty = "</script><b>camera"
    path = tmp_path / "now.html"
    with (
        arena.group("job", limit="8MiB") as job,
        arena.group(nasty, parent=job) as inner,
        arena.group("idle"),
    ):
        blocks = [arena.alloc(300_000, group=inner), arena.alloc(100_000, group=job)]
        ran = run("report", arena.name, "-o", path)
        snapshot = arena.snapshot()
        usage = {one.name: one.usage for one in snapshot.groups}
        assert (ran.returncode, ran.stderr) == (0, "")
        page = path.read_text()
        (line,) = embedded(page, "facts")["lines"]
        assert line["used"] == snapshot.used
        tree = embedded(page, "charts")["treemap"]["data"][0]
        own = dict(zip(tree["labels"], tree["values"], strict=True))
        assert own[nasty] == usage[nasty]
        assert own["job"] == usage["job"] - usage[nasty]
        parents = dict(zip(tree["labels"], tree["parents"], strict=True))
        ids = dict(zip(tree["labels"], tree["ids"], strict=True))
        assert parents[nasty] == ids["job"]
        assert parents["job"] == ids["(root)"]
        assert sum(tree["values"]) == snapshot.used
        assert "idle" not in own, "of what is empty there is no box"
        curves = [one["name"] for one in embedded(page, "charts")["groups"]["data"]]
        assert nasty in curves
        assert "idle" not in curves
        assert nasty not in page
        outside = re.sub(r"<script.*?</script>", "", page, flags=re.S)
        assert "http" not in outside
        assert "prefers-color-scheme: dark" in page
        assert "width=device-width" in page
        dom = drawn(path)
        if dom is not None:
            assert 'data-drawn="5"' in dom
            assert "FLAGSTONE_DEBUG=U" in dom
            assert "data-error" not in dom
            assert ">Jan 1, 1970" not in dom, "an axis of numbers shows dates"
            assert dom.count('class="chart js-plotly-plot"') == 5
            assert html.escape(nasty, quote=False) in dom
        del blocks


def test_a_recording(arena_name, tmp_path):
    """Memory over time, a message, a death: and the recording ends with the arena."""
    path = tmp_path / "video.jsonl"
    program = (
        "import flagstone, sys, pickle\n"
        "arena = flagstone.open(sys.argv[1], capacity='64MiB')\n"
        "if sys.argv[2] == 'dies':\n"
        "    kept = arena.put(b'x' * 200_000)\n"
        "print(flush=True)\n"
        "input()\n"
        "block = arena.put(b'x' * 500_000)\n"
        "message = pickle.dumps(block)\n"
        "print(flush=True)\n"
        "input()\n"
        "del block\n"
    )

    def started(what):
        return subprocess.Popen(
            [sys.executable, "-c", program, arena_name, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    stays, dies = started("stays"), started("dies")
    for one in (stays, dies):
        one.stdout.readline()
    recorder = subprocess.Popen(
        [sys.executable, "-m", "flagstone", "record", arena_name, "-o", path, "--every", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def lines():
        return read(path.read_text().splitlines())[1]

    def seen(condition):
        wait_until(lambda: path.exists() and path.read_text().count("\n") > 2, 60, "a line")
        wait_until(lambda: any(condition(line) for line in lines()), 60, "what was waited for")

    seen(lambda line: {row[0] for row in line["processes"]} == {stays.pid, dies.pid})
    stays.stdin.write("\n")
    stays.stdin.flush()
    stays.stdout.readline()
    seen(lambda line: sum(line["ages"]) == 1)
    dies.kill()
    dies.communicate()
    seen(lambda line: any(row[2] == dies.pid and row[6] is not None for row in line["deaths"]))
    stays.communicate("\n")
    out, err = recorder.communicate(timeout=60)
    assert (recorder.returncode, err) == (0, "")
    assert "looks" in out
    rows = [row for line in lines() for row in line["processes"]]
    assert max(row[2] for row in rows if row[0] == stays.pid) >= 500_000
    numbers = [row[0] for line in lines() for row in line["batches"]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 1
    # A writer that was killed leaves half a line.
    path.write_text(path.read_text() + '{"at": 12')
    page = tmp_path / "report.html"
    ran = run("report", path, "-o", page)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"<td>{dies.pid}</td>" in page.read_text()
    used = embedded(page.read_text(), "charts")["groups"]["data"][-1]
    assert used["y"] == [line["used"] for line in lines()]


LEAKING = """
def grab():
    return cache.alloc()

def leak():
    return [grab() for _ in range(30)]

def tidy():
    return [grab(), arena.alloc(500)]
"""


def test_sites_and_flames(arena_name, tmp_path):
    """Where what lives was allocated: the snapshot's numbers, and each call once in the flames."""
    page, recording = tmp_path / "leak.html", tmp_path / "leak.jsonl"
    with flagstone.open(arena_name, capacity="64MiB", debug="U") as arena:
        program = {"arena": arena, "cache": arena.cache("frame<b>", size=1000)}
        exec(compile(LEAKING, "/srv/pipeline.py", "exec"), program)
        kept = program["leak"]() + program["tidy"]()
        command = [sys.executable, "-m", "flagstone", "record", arena_name, "-o", recording]
        recorder = subprocess.Popen([*command, "--every", "0.05"], stdout=subprocess.DEVNULL)
        wait_until(lambda: recording.exists() and recording.read_text().count("\n") > 2, 60)
        before = recording.read_text().count("\n")
        kept += program["leak"]()
        wait_until(lambda: recording.read_text().count("\n") > before + 2, 60)
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(60) == 0
        snapshot = arena.snapshot()
        ran = run("report", recording, "-o", page)
        assert (ran.returncode, ran.stderr) == (0, "")
        written = recording.read_text()
        assert written.count(" in grab") == 3  # each text once, however many looks
        text = page.read_text()
        charts = embedded(text, "charts")
        flames = charts["flames"]["data"][0]
        total = dict(zip(flames["ids"], flames["values"], strict=True))
        labels = dict(zip(flames["ids"], flames["labels"], strict=True))
        assert len(set(zip(flames["parents"], flames["labels"], strict=True))) == len(total)
        (root,) = (one for one, up in zip(total, flames["parents"], strict=True) if not up)
        assert labels[root] == "all"
        assert total[root] == sum(site.nbytes for site in snapshot.sites) == 61_500
        grabbed = sorted(
            total[one] for one in total if labels[one].startswith("grab (pipeline.py:")
        )
        assert grabbed == [1000, 30_000, 30_000]
        table = re.search(r"<table id='where'>.*?</table>", text, re.S)[0]
        rows = re.findall(r"<tr>(<td .*?)</tr>", table)
        assert len(rows) == len(snapshot.sites) == 4
        bare = re.sub(r"<td data-name='[a-z ]+'>", "<td>", table)
        assert "<td>29.3 KiB</td><td>+29.3 KiB</td><td><details>" in bare
        assert "frame&lt;b&gt;" in table
        assert "<summary>/srv/pipeline.py:3 in grab</summary>" in table
        for width in (1280, 390):
            for dark in (False, True):
                dom = drawn(framed(page, width), size=(1300, 900), dark=dark)
                if dom is not None:
                    assert 'data-drawn="7"' in dom
                    assert "data-error" not in dom
                    assert f'data-wide="{width} {width}"' in dom, "wider than the screen"
                    assert f'data-dark="{str(dark).lower()}"' in dom
        if os.environ.get("FLAGSTONE_PICTURES"):
            ours = re.sub(r"(\\n)(?!/srv/)[^\"\\]+", "", written)  # without pytest's own calls
            recording.write_text(ours.replace(arena_name, "video").replace("frame<b>", "frame"))
            assert run("report", recording, "-o", page).returncode == 0
            drawn(framed(page, 1000), shot=GUIDES / "report.png", size=(1000, 880))
            phone = framed(page, 390)
            drawn(phone, shot=GUIDES / "report-phone.png", size=(500, 880), dark=True)
        del kept, program
        gc.collect()


def test_ended_by_a_signal(arena, tmp_path):
    path = tmp_path / "some.jsonl"
    recorder = subprocess.Popen(
        [sys.executable, "-m", "flagstone", "record", arena.name, "-o", path, "--every", "0.05"],
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: path.exists() and path.read_text().count("\n") > 2, 60)
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(60) == 0
    assert path.read_text().endswith("\n")


def test_another_arena_of_the_name_is_not_recorded(arena, tmp_path, monkeypatch):
    """It has numbers of its own: the recording ends where the arena did."""
    path = tmp_path / "some.jsonl"
    look, looks = Observer.look, []

    def found(observer, **options):
        looks.append(look(observer, **options))
        if len(looks) < 4:
            return looks[-1]
        other = dataclasses.replace(looks[-1].snapshot, uuid="0" * 32)
        return dataclasses.replace(looks[-1], snapshot=other)

    monkeypatch.setattr(Observer, "look", found)
    handlers = [(one, signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM)]
    try:
        status = cli.main(["record", arena.name, "-o", str(path), "--every", "0.01"])
    finally:
        for one, handler in handlers:
            signal.signal(one, handler)
    assert status == 0
    assert len(read(path.read_text().splitlines())[1]) == 3


def test_many_groups_are_the_largest(arena):
    groups = [arena.group(f"g{number}") for number in range(80)]
    blocks = [arena.alloc(1 + 5000 * i, group=group) for i, group in enumerate(groups)]
    with Observer(arena) as observer:
        line = Recorder().line(observer.look())
    assert len(line["groups"]) == 50
    ids = {row[0] for row in line["groups"]}
    assert all(row[1] in ids or row[1] is None for row in line["groups"])
    del blocks, groups


def test_wrong_use(arena_name, tmp_path):
    out = tmp_path / "out"
    assert_error(run("record", arena_name, "-o", out), 1, "there is no arena")
    assert_error(run("report", arena_name, "-o", out), 1, "there is no arena")
    other = tmp_path / "other.jsonl"
    head = '{"flagstone": 1, "at": 1, "arena": "a", "uuid": "0", "capacity": 1}\n'
    for text in ('{"something": 1}\n', head + '{"at": 1}\n', head + '{"at": 1, "groups": null}\n'):
        other.write_text(text)
        assert_error(run("report", other, "-o", out), 1, "no recording")
    assert not out.exists()
