"""The demo: real files, real processes, kills; and that it notices what it is there to notice."""

import hashlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flagstone import cli
from flagstone.demo import DemoOptions, NothingToDo, run_demo
from flagstone.demo import pipeline as demo_pipeline
from flagstone.demo import run as demo_run
from flagstone.demo.files import FileChanged, Skip, Skipped, find_files, opened, read_reference
from flagstone.demo.pickled import PickledBytes
from flagstone.demo.pipeline import Pipeline, plan_kills
from flagstone.demo.report import ArenaFacts, DemoReport
from flagstone.demo.segments import SharedMemorySegments

RUN = secrets.token_hex(4)
started = []
"""The demos of this test that were started as programs."""


def left_in_shared_memory():
    """Of the demos of this test: their names have the pid of the process that the demo is."""
    tags = [f"flagstone-demo-{pid}-" for pid in (os.getpid(), *(one.pid for one in started))]
    tags.append(f"flagstone-demo-test-{RUN}")
    return sorted(name for name in os.listdir("/dev/shm") if any(tag in name for tag in tags))


@pytest.fixture(autouse=True)
def nothing_stays():
    started.clear()
    before = left_in_shared_memory()
    yield
    # A file that was there before lies in the way since another boot, or in another container.
    assert set(left_in_shared_memory()) <= set(before)


@pytest.fixture
def folder(tmp_path):
    """Files of all sizes, awkward names, an empty one, a link, a FIFO."""
    folder = tmp_path / "files"
    deep = folder / "one" / "two"
    deep.mkdir(parents=True)
    rng = random.Random(1)
    for number in range(60):
        where = folder if number % 2 else deep
        (where / f"file-{number}").write_bytes(rng.randbytes(rng.randrange(1, 60_000)))
    (folder / "empty").touch()
    (folder / "large").write_bytes(rng.randbytes(5_000_000))
    (folder / "with\nnewline \x1b[31m").write_bytes(b"awkward")
    Path(os.fsdecode(os.fsencode(folder) + b"/not-utf-8-\xff")).write_bytes(b"more awkward")
    (folder / "link").symlink_to("file-1")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "fifo")
    return folder


FILES = 64

WORKER_THAT_HEARS_OF_A_DEATH = """
import os, signal, sys
import flagstone
from flagstone.demo.arena import FlagstoneArena

with flagstone.open(sys.argv[1], capacity="16MiB") as arena:
    FlagstoneArena(arena).endpoint("reader").attach()
    died = os.fork()
    if not died:
        held = arena.alloc(100)  # or the fork had only gone on to exec, for all that can be told
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(died, 0)
    arena.barrier()
    print([burial.pid == died for burial in arena.snapshot().burials])
"""


def demo(*arguments, timeout=100):
    process = subprocess.Popen(
        [sys.executable, "-m", "flagstone", "demo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class TestCommand:
    def test_json(self, folder):
        ran = demo(folder, "--json", "--kills", 2, "--seed", 7)
        assert ran.stderr == ""
        shown = json.loads(ran.stdout)
        assert shown["problems"] == []
        assert ran.returncode == 0
        assert shown["passed"] is True
        assert shown["files"] == FILES
        assert shown["seed"] == 7
        assert shown["skipped"] == {"symbolic links": 3, "not regular files": 1}
        assert shown["kills_survived"] == shown["kills_planned"] == 4
        flow = shown["flagstone"]
        assert flow["killed"] == {"reader": 2, "hasher": 2}
        assert flow["files"] == FILES
        assert flow["bytes"] == shown["bytes"] > 5_000_000
        assert flow["stored"] >= FILES
        assert flow["mb_per_second"] > 0
        labels = [peer["label"] for peer in shown["peers"]]
        assert labels == ["pickled bytes", "multiprocessing.shared_memory"]
        for peer in shown["peers"]:
            assert (peer["files"], peer["killed"]) == (FILES, {})
        arena = shown["arena"]
        assert arena["groups"] >= FILES
        assert arena["objects"] >= FILES
        assert arena["batches"] > 0
        assert arena["grace_periods"] > 0
        assert arena["deaths"] == 4
        assert arena["peak"] > 0
        for left in ("left_bytes", "left_objects", "left_in_flight"):
            assert arena[left] == 0
        assert arena["left_files"] == arena["left_processes"] == arena["findings"] == []

    def test_text(self, folder):
        ran = demo(folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stderr == ""
        assert f"{FILES} files, " in ran.stdout
        assert "left out, symbolic links: 3 (" in ran.stdout
        assert "\n  flagstone " in ran.stdout
        assert "\n  pickled bytes " in ran.stdout
        assert "\n  multiprocessing.shared_memory " in ran.stdout
        assert "1 reader and 1 hasher; " in ran.stdout
        assert "left over  0 B, 0 objects, 0 in flight, 0 files, 0 processes\n" in ran.stdout
        assert "check      sound\n" in ran.stdout
        last = ran.stdout.splitlines()[-1]
        assert last.startswith(f"PASSED: {FILES} digests as the parent read them, 2 kills survived")

    def test_without_kills_and_peers(self, folder):
        ran = demo(folder, "--no-kills", "--no-peers", "--json", "--readers", 1, "--hashers", 3)
        shown = json.loads(ran.stdout)
        assert ran.returncode == 0
        assert shown["peers"] == []
        assert shown["flagstone"]["killed"] == {}
        assert shown["flagstone"]["redone"] == 0
        assert (shown["readers"], shown["hashers"]) == (1, 3)

    def test_workers_leave_it_to_the_report_who_was_killed(self, arena_name):
        ran = subprocess.run(
            [sys.executable, "-c", WORKER_THAT_HEARS_OF_A_DEATH, arena_name],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (ran.stdout, ran.stderr) == ("[True]\n", "")

    def test_one_worker_of_each_kind_is_killed(self, folder):
        ran = demo(folder, "--readers", 1, "--hashers", 1, "--kills", 3, "--no-peers", "--json")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert json.loads(ran.stdout)["kills_survived"] == 6

    def test_nothing_to_do(self, tmp_path):
        for folder in (tmp_path / "nowhere", tmp_path, Path(__file__)):
            ran = demo(folder)
            assert (ran.returncode, ran.stdout) == (2, "")
            assert ran.stderr.startswith(f"flagstone: {folder}: ")
            assert ran.stderr.count("\n") == 1

    def test_small_arena_and_a_file_that_does_not_fit(self, tmp_path):
        folder = tmp_path / "files"
        folder.mkdir()
        for number in range(40):
            (folder / f"{number}").write_bytes(bytes([number]) * 400_000)
        with open(folder / "sparse", "wb") as sparse:
            sparse.truncate(1 << 40)
        ran = demo(folder, "--capacity", "8MiB", "--no-peers", "--json")
        shown = json.loads(ran.stdout)
        assert shown["problems"] == []
        assert ran.returncode == 0
        assert shown["files"] == 40
        assert shown["skipped"] == {"files larger than the arena can take": 1}
        assert shown["arena"]["peak"] <= 8 << 20

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, tmp_path, number):
        folder = tmp_path / "files"
        folder.mkdir()
        for one in range(400):  # enough to be in the middle of them whenever the signal comes
            with (folder / f"{one}").open("wb") as file:
                file.truncate(8 << 20)
        process = subprocess.Popen(
            [sys.executable, "-m", "flagstone", "demo", str(folder), "--no-peers"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell may have started us with the signal ignored, which is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        for line in process.stdout:
            if line.startswith("  killed"):
                break
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        if number == signal.SIGINT:
            assert err == ""
        assert "PASSED" not in out
        assert process.returncode == 128 + number


class TestNotices:
    """What the demo is for: each kind of failure fails it."""

    def wrong_reading(self, monkeypatch, victim):
        def read(path, *arguments, **options):
            reference = read_reference(path, *arguments, **options)
            if os.path.basename(path) == victim:
                reference.digest = hashlib.sha256(b"something else").digest()
            return reference

        monkeypatch.setattr(demo_run, "read_reference", read)
        monkeypatch.setattr(demo_pipeline, "read_reference", read)

    def test_wrong_digest(self, folder, monkeypatch, capsys):
        self.wrong_reading(monkeypatch, "file-3")
        assert cli.main(["demo", str(folder), "--no-kills"]) == 1
        text = capsys.readouterr().out
        assert "FAILED (--seed " in text
        assert "file-3: another digest than the parent's" in text

    def test_verdict(self):
        def report(**arena):
            result = demo_pipeline.PipelineResult("flagstone")
            return DemoReport(
                "folder", 1, 2, 2, 0, 0, 0.0, result, [], ArenaFacts(**arena), 0, {}, {}, []
            )

        assert report().passed
        assert "1 B of the arena are still in use" in report(left_bytes=1).problems
        assert "2 objects are still allocated" in report(left_objects=2).problems
        assert "3 references are still in flight" in report(left_in_flight=3).problems
        assert "/dev/shm/x was left behind" in report(left_files=["/dev/shm/x"]).problems
        assert "process 7 still has the arena" in report(left_processes=[7]).problems
        assert "check: page 3 is lost" in report(findings=["page 3 is lost"]).problems
        missed = report()
        missed.kills_planned = 2
        assert not missed.passed
        assert missed.as_dict()["passed"] is False

    def test_no_folder(self, tmp_path):
        with pytest.raises(NothingToDo):
            run_demo(DemoOptions(str(tmp_path)))


class TestFiles:
    def test_what_is_found(self, folder):
        skipped = Skipped()
        found = find_files(str(folder), frozenset({"one"}), skipped)
        assert len(found) == FILES - 30
        assert skipped.counts == {Skip.SYMLINK: 3, Skip.SPECIAL: 1}

    def test_digest(self, folder):
        for name in ("empty", "large", "file-1"):
            path = folder / name
            reference = read_reference(str(path), 1 << 30)
            assert reference.digest == hashlib.sha256(path.read_bytes()).digest()
            assert reference.size == path.stat().st_size

    def test_what_is_not_read(self, folder):
        assert read_reference(str(folder / "large"), 1000) is Skip.TOO_LARGE
        assert read_reference(str(folder / "nowhere"), 1000) is Skip.VANISHED
        assert read_reference(str(folder / "link"), 1000) is Skip.UNREADABLE
        assert read_reference(str(folder / "fifo"), 1000) is Skip.CHANGING

    @pytest.mark.parametrize("size", [99, 101, 0])
    def test_file_that_changes_size(self, folder, size):
        path = folder / "changing"
        path.write_bytes(b"x" * 100)
        with opened(str(path)) as source:
            os.truncate(path, size)
            with pytest.raises(FileChanged):
                source.read_into(bytearray(source.size))

    def test_file_that_is_rewritten(self, folder):
        path = folder / "changing"
        path.write_bytes(b"x" * 100)
        with opened(str(path)) as source:
            before = source.signature
            while path.stat().st_ctime_ns == before.ctime_ns:
                path.write_bytes(b"y" * 100)
            with pytest.raises(FileChanged):
                source.digest()

    def test_file_that_says_it_is_empty(self):
        assert read_reference("/proc/self/status", 1 << 30) is Skip.CHANGING


class TestPipeline:
    """The plumbing, over the transports that need no arena."""

    def run(self, folder, transport, kills=0, **changes):
        skipped = Skipped()
        references = demo_run._read_everything(
            find_files(str(folder), frozenset(), skipped),
            1 << 30,
            skipped,
            demo_pipeline.NobodyListens(),
        )
        options = {"readers": 2, "hashers": 2, "budget": 1 << 20, **changes}
        plan = plan_kills(random.Random(3), kills, len(references))
        return Pipeline(transport, references, skipped, kills=plan, **options).run(), skipped

    @pytest.mark.parametrize("transport", ["pickled", "segments"])
    def test_survives_kills(self, folder, transport):
        tag = f"flagstone-demo-test-{RUN}"
        over = PickledBytes() if transport == "pickled" else SharedMemorySegments(tag)
        try:
            result, _ = self.run(folder, over, kills=6)
        finally:
            over.clean_up()
        assert result.killed == {"reader": 6, "hasher": 6}
        assert result.files == FILES
        assert result.problems == result.differing == []

    def test_tiny_budget(self, folder):
        result, _ = self.run(folder, PickledBytes(), budget=1)
        assert result.files == FILES

    def test_files_that_change_and_vanish(self, tmp_path):
        folder = tmp_path / "restless"
        folder.mkdir()
        for number in range(200):
            (folder / f"{number}").write_bytes(bytes([number]) * 50_000)
        stop = threading.Event()

        def disturb():
            rng = random.Random(5)
            while not stop.is_set():
                path = folder / f"{rng.randrange(40)}"
                if rng.random() < 0.2:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(rng.randbytes(rng.randrange(50_000)))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            result, skipped = self.run(folder, PickledBytes())
        finally:
            stop.set()
            thread.join()
        assert result.problems == result.differing == []
        # One of the forty restless files may be away at the moment when the folder is listed.
        assert 160 <= result.files + sum(skipped.counts.values()) <= 200
        assert result.files >= 160
        assert set(skipped.counts) <= {Skip.CHANGING, Skip.VANISHED}

    def test_worker_that_dies_by_itself(self, folder, monkeypatch):
        """The demo does not hide a death that it did not cause."""
        pipelines = []
        start = Pipeline._start

        def remember(self, role):
            pipelines.append(self)
            start(self, role)

        class Killer(demo_pipeline.NobodyListens):
            done = False

            def advance(self, files, nbytes):
                if not self.done:
                    self.done = True
                    os.kill(pipelines[0]._workers[0].process.pid, signal.SIGKILL)

        monkeypatch.setattr(Pipeline, "_start", remember)
        result, _ = self.run(folder, PickledBytes(), progress=Killer(), budget=100_000)
        assert result.files == FILES
        assert result.deaths == 1
        assert result.problems == ["a reader ended by itself (exit code -9)"]
