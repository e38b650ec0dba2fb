"""A leak is found as docs/guides/leaks.md says: a pipeline of four processes that keeps more and
more, and nothing but the commands. Each step is taken as a stranger would, and leads on.
"""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from flagstone.testing import wait_until
from tests.interface.test_cli import facts, run

PIPELINE = textwrap.dedent("""
    import multiprocessing, sys, time
    import flagstone

    def joined():
        arena = flagstone.open(sys.argv[1], capacity="512MiB")
        raw, small, found = (arena.channel(name, capacity=8) for name in ("raw", "small", "found"))
        return arena, raw, small, found

    def camera():
        arena, raw, _, _ = joined()
        frames = arena.cache("frame", shape=(60, 80), dtype="u1")
        while True:
            raw.put(frames.alloc(zero=True))
            time.sleep(0.01)

    def resize():
        arena, raw, small, _ = joined()
        sizes = arena.cache("small", shape=(30, 40), dtype="u1")
        known = {}
        for number in range(1 << 30):
            frame = raw.get()
            if number % 5 == 0:
                known[number] = thumbnail(arena)
            small.put(sizes.alloc(zero=True))

    def thumbnail(arena):
        return arena.alloc(60_000)  # the leak

    def detect():
        arena, _, small, found = joined()
        weights = arena.alloc(100 << 20)  # large, and needed
        window = []
        while True:
            window = [*window[-40:], small.get()]
            found.put(arena.alloc(500))

    def store():
        arena, _, _, found = joined()
        last = arena.store("last")
        while True:
            last["detection"] = found.get()

    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        stages = (camera, resize, detect, store)
        processes = [context.Process(target=stage, daemon=True) for stage in stages]
        for process in processes:
            process.start()
        with joined()[0]:  # the last to go, so that the arena goes with it
            print(*(process.pid for process in processes), flush=True)
            sys.stdin.read()
            for process in processes:
                process.kill()
                process.join()
    """)
LEAK = next(n for n, line in enumerate(PIPELINE.splitlines(), 1) if "# the leak" in line)


@pytest.fixture
def pipeline(arena_name, tmp_path):
    """The program's file, and the processes of its stages in their order."""
    program = tmp_path / "pipeline.py"
    program.write_text(PIPELINE)
    leaking = subprocess.Popen(
        [sys.executable, program, arena_name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FLAGSTONE_DEBUG": "U"},
        text=True,
    )
    try:
        pids = [int(pid) for pid in leaking.stdout.readline().split()]
        assert len(pids) == 4
        yield program, pids
    finally:
        leaking.communicate("")
    assert leaking.returncode == 0


def said(*arguments):
    """What a command prints that has to succeed."""
    ran = run(*arguments)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    return ran.stdout


def living(name, where):
    """Objects that were allocated by a function."""
    sites = facts("sites", name)["sites"]
    return sum(site["objects"] for site in sites if f" in {where}" in site["where"].split("\n")[0])


def test_the_commands_lead_to_the_line(pipeline, arena_name, tmp_path):
    program, (_, resize, detect, _) = pipeline
    line = f"{program}:{LEAK} in thumbnail"
    # What is kept on purpose is there, and the leak has begun.
    wait_until(lambda: living(arena_name, "resize") >= 41, 60, "detect's window")
    # Which arena, and who holds what.
    assert re.search(rf"^{arena_name} +512 MiB .* in use$", said("ls"), re.M)
    held = {use["pid"] for use in facts("top", arena_name)["uses"]}
    assert {resize, detect} <= held
    assert str(resize) in said("top", arena_name, "--once")
    # All that lives: the largest is needed.
    for command in ("sites", "info"):
        listed = said(command, arena_name)
        assert line in listed
        assert listed.index(" in detect") < listed.index(line)
    assert said("check", arena_name)
    # What grows: the leak, who allocates it, and who calls.
    lines = said("sites", arena_name, "--grown", 3, "--stacks").splitlines()
    assert lines[0] == "allocated at"
    assert lines[2].endswith(line)
    assert f" {resize}  {resize} (" in lines[2]  # by, and held by
    first = lines[lines.index("1.") + 1 :]
    assert first[0].strip() == line
    assert first[1].strip().endswith(" in resize")


def test_the_report_names_the_line(pipeline, arena_name, tmp_path):
    pytest.importorskip("plotly")
    program, _ = pipeline
    wait_until(lambda: living(arena_name, "resize") >= 41, 60, "detect's window")
    recording, page = tmp_path / "leak.jsonl", tmp_path / "leak.html"
    said("record", arena_name, "-o", recording, "--seconds", 4)
    said("report", recording, "-o", page)
    found = re.search(
        r'<script type="application/json" id="facts">(.*?)</script>', page.read_text(), re.S
    )
    looks = json.loads(found[1])["lines"]
    places = [place for look in looks for place in look["places"]]
    first, last = (
        {place: nbytes for place, _, nbytes, *_ in look["sites"]} for look in (looks[0], looks[-1])
    )
    grown = max(last, key=lambda place: last[place] - first.get(place, 0))
    assert places[grown].split("\n")[0] == f"{program}:{LEAK} in thumbnail"
