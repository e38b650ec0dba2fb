"""The command line as a user runs it: output, --json, exit status, errors."""

import dataclasses
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flagstone
from flagstone import cli
from flagstone.cli import check, info, ls
from flagstone.cli.screen import Screen, duration, plain, printable

COMMANDS = [module.NAME for module in cli._COMMANDS]
GUIDE = Path(__file__).parents[2] / "docs" / "cli.md"


def run(*arguments, **options):
    """Run `flagstone ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "flagstone", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def facts(*arguments):
    """Run it with --json, which has to succeed, and parse what it printed."""
    ran = run(*arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def assert_error(ran, status, *words):
    """One line on stderr with these words, nothing on stdout, this exit status."""
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr
    if status == 1:
        assert ran.stderr.startswith("flagstone: ")
        assert ran.stderr.count("\n") == 1


@pytest.fixture
def folder(shm_folder):
    return shm_folder


@pytest.fixture
def kept(folder):
    """The path of a lasting arena that no process has."""
    path = folder / "kept"
    flagstone.open(path, lasting=True).close()
    return path


@pytest.fixture
def orphan(folder, kept):
    """The path of an arena whose only process was killed. (Opening another one would remove it.)"""
    path = folder / "orphan"
    program = (
        "import flagstone, sys, time\n"
        f"arena = flagstone.open({str(path)!r})\n"
        "block = arena.put(b'x' * 100_000)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    return path


class TestUsage:
    def test_no_command(self):
        assert_error(run(), 2, "usage: flagstone", "COMMAND")

    def test_unknown_command(self):
        assert_error(run("frobnicate"), 2, "usage: flagstone", "frobnicate")

    def test_missing_argument(self):
        for command in ("info", "check", "rm"):
            assert_error(run(command), 2, "ARENA")

    @pytest.mark.parametrize("command", ["info", "check", "rm"])
    def test_impossible_name(self, command):
        assert_error(run(command, ""), 2, "must not be empty")
        assert_error(run(command, "x" * 300), 2, "255")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_has_an_example(self, command):
        ran = run(command, "--help")
        assert ran.returncode == 0
        assert f"usage: flagstone {command}" in ran.stdout
        assert f"$ flagstone {command}" in ran.stdout
        assert "--json" in ran.stdout
        assert ran.stderr == ""

    def test_help_lists_every_command(self):
        ran = run("--help")
        assert ran.returncode == 0
        for command in COMMANDS:
            assert f"    {command} " in ran.stdout

    def test_every_module_of_a_command_is_one(self):
        """None is forgotten: what has a NAME is listed, and the page of all commands has it."""
        modules = [
            importlib.import_module(f"{cli.__name__}.{found.name}")
            for found in pkgutil.iter_modules(cli.__path__)
        ]
        assert {one.NAME for one in modules if hasattr(one, "NAME")} == set(COMMANDS)
        assert len(set(COMMANDS)) == len(COMMANDS)
        page = GUIDE.read_text()
        for command in COMMANDS:
            assert f"| [`{command} " in page, command

    def test_version(self):
        assert run("--version").stdout == f"flagstone {flagstone.__version__}\n"

    def test_the_script_is_installed(self):
        script = Path(sys.executable).parent / "flagstone"
        ran = subprocess.run([script, "--version"], capture_output=True, text=True)
        assert ran.stdout == f"flagstone {flagstone.__version__}\n"

    @pytest.mark.parametrize("command", ["ls", "gc"])
    def test_no_such_folder(self, command, tmp_path):
        assert_error(run(command, tmp_path / "nowhere"), 2, "nowhere: no such folder")

    def test_ls_of_a_name_that_no_arena_has(self, arena_name):
        assert_error(run("ls", arena_name), 1, f"there is no arena '{arena_name}'")

    def test_demo_options(self, tmp_path):
        assert_error(run("demo", tmp_path, "--readers", "0"), 2, "between 1 and 64")
        assert_error(run("demo", tmp_path, "--readers", "many"), 2, "not a whole number")
        assert_error(run("demo", tmp_path, "--capacity", "12 parsecs"), 2, "12 parsecs")
        assert_error(run("demo", tmp_path, "--kills", "2", "--no-kills"), 2, "not allowed with")


class TestLs:
    def test_nothing(self, folder):
        ran = run("ls", folder)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"no arena in {folder}\n", "")
        assert facts("ls", folder) == {"folder": str(folder), "arenas": [], "others": []}

    def test_one(self, arena, arena_name):
        block = arena.put(b"x" * 5000)
        (shown,) = [one for one in facts("ls")["arenas"] if one["name"] == arena_name]
        assert shown["path"] == arena.path
        assert shown["capacity"] == 64 << 20
        assert shown["used"] == arena.used >= block.nbytes
        assert shown["processes"] == 1
        assert shown["state"] == "in use"
        assert 0 <= shown["age"] < 60
        head, *lines = run("ls").stdout.splitlines()
        assert head.split() == [
            "name",
            "capacity",
            "used",
            "committed",
            "processes",
            "age",
            "state",
        ]
        (line,) = [line for line in lines if line.split()[0] == arena_name]
        assert line.split()[1:3] == ["64", "MiB"]
        assert line.endswith("in use")

    def test_states(self, folder, orphan):
        shown = {one["name"]: one["state"] for one in facts("ls", folder)["arenas"]}
        assert shown == {str(folder / "kept"): "lasting", str(orphan): "orphan"}

    def test_file_that_is_no_arena(self, arena_name):
        path = Path(f"/dev/shm/flagstone.{arena_name}")
        path.write_bytes(b"not an arena" * 1000)
        try:
            assert str(path) in facts("ls")["others"]
            assert f"{path}: no arena of this version" in run("ls").stdout
        finally:
            path.unlink()

    def test_state_of(self):
        def state(**facts):
            empty = dict.fromkeys(flagstone.ArenaInfo.__dataclass_fields__, 0)
            return ls.state_of(flagstone.ArenaInfo(**{**empty, **facts}))

        assert state(processes=2) == "in use"
        assert state(processes=1, lasting=True) == "in use, lasting"
        assert state(lasting=True) == "lasting"
        assert state(orphan=True) == "orphan"


class TestInfo:
    def test_facts(self, arena, arena_name):
        pictures = arena.cache("picture", shape=(8, 8), dtype="f4")
        block = pictures.alloc()
        with arena.group("tenant", limit="1MiB") as tenant:
            other = arena.alloc(3000, group=tenant)
            message = other.__reduce__()
            shown = facts("info", arena_name)
        assert shown["name"] == arena_name
        assert shown["state"] == "in use"
        assert shown["capacity"] == 64 << 20
        assert shown["used"] == arena.used
        mine = {one["pid"]: one for one in shown["processes"]}[os.getpid()]
        assert mine["references"] >= 2
        assert mine["bytes"] >= block.nbytes + other.nbytes
        cache = {one["name"]: one for one in shown["caches"]}["picture"]
        assert (cache["dtype"], cache["shape"], cache["size"]) == ("float32", [8, 8], 256)
        assert cache["stats"]["allocated"] == 1
        group = {one["name"]: one for one in shown["groups"]}["tenant"]
        assert group["limit"] == 1 << 20
        assert group["usage"] >= 3000
        (flight,) = shown["in_flight"]
        assert (flight["pid"], flight["group"], flight["nbytes"]) == (os.getpid(), "tenant", 3000)
        for number in ("batches", "grace_periods", "released_objects", "deaths"):
            assert shown[number] >= 0
        del message

    def test_many_in_flight_are_a_line_each(self, arena, arena_name):
        block = arena.put(b"abc")
        messages = [block.__reduce__() for _ in range(1500)]
        ran = run("info", arena_name, "--json")
        shown = json.loads(ran.stdout)
        lines = ran.stdout.splitlines()
        found = [json.loads(line.rstrip(",")) for line in lines if line.startswith('    {"object"')]
        assert found == shown["in_flight"]
        assert len(found) == len(messages)
        assert found[0]["object"] == bytes(block.handle).hex()
        assert [one["messages"] for one in shown["senders"]] == [len(messages)]
        arena.drop_in_flight()

    def test_text(self, arena, arena_name):
        block = arena.cache("picture", shape=(8, 8), dtype="f4").alloc()
        ran = run("info", arena_name)
        assert (ran.returncode, ran.stderr) == (0, "")
        lines = [line.split() for line in ran.stdout.splitlines()]
        assert ["arena", arena_name] in lines
        assert ["file", arena.path] in lines
        assert ["capacity", "64", "MiB"] in lines
        assert any(line[:1] == [str(os.getpid())] for line in lines)
        assert any(line[:5] == ["picture", "256", "B", "float32", "8x8"] for line in lines)
        assert any(line[:1] == ["root"] for line in lines)
        assert "in flight: nothing" in ran.stdout
        for word in ("batches", "grace periods", "processes", "caches", "groups", "committed"):
            assert word in ran.stdout
        assert block.nbytes == 256

    def test_by_path(self, folder):
        with flagstone.open(folder / "here"):
            assert facts("info", folder / "here")["path"] == str(folder / "here")

    def test_looking_changes_nothing(self, arena, arena_name):
        held = arena.put(b"abc")
        before = arena.used
        for _ in range(3):
            facts("info", arena_name)
        assert [one.pid for one in arena.processes] == [os.getpid()]
        assert arena.used == before
        assert bytes(held) == b"abc"

    def test_missing(self, arena_name):
        assert_error(run("info", arena_name), 1, "there is no arena", arena_name)

    def test_orphan_is_shown_and_kept(self, orphan):
        shown = facts("info", orphan)
        assert shown["state"] == "orphan"
        assert shown["path"] == str(orphan)
        ran = run("info", orphan)
        assert ran.returncode == 0
        assert "an orphan" in ran.stdout
        assert "flagstone gc" in ran.stdout
        assert orphan.exists()

    def test_what_is_no_arena(self, arena_name):
        path = Path(f"/dev/shm/flagstone.{arena_name}")
        try:
            path.write_bytes(b"not an arena" * 1000)
            assert_error(run("info", arena_name), 1)
            path.write_bytes(b"")
            assert_error(run("info", arena_name), 1)
            path.unlink()
            path.mkdir()
            assert_error(run("info", arena_name), 1)
            path.rmdir()
            os.mkfifo(path)
            assert_error(run("info", arena_name), 1)
        finally:
            path.unlink() if not path.is_dir() else path.rmdir()


class TestShow:
    """The drawing alone, from made-up snapshots."""

    def snapshot(self, **changes):
        base = {
            "uuid": "00" * 16,
            "name": "video",
            "path": "/dev/shm/flagstone.video",
            "capacity": 4 << 30,
            "used": 1 << 20,
            "committed": 2 << 20,
            "control": 64 << 10,
            "created_at": 0,
            "readonly": True,
            "lasting": False,
            "unlinked": False,
            "batches": 7,
            "grace_periods": 9,
            "released_objects": 1234,
            "released_bytes": 5 << 20,
            "deaths": 0,
            "last_batch": 0.0012,
            "stalled": None,
            "processes": (),
            "caches": (),
            "groups": (),
            "in_flight": (),
            "senders": (),
            "batch": None,
            "burials": (),
            "last_batches": (),
            "groups_waiting": 0,
            "children": flagstone.ChildCounts(0, 0, 0, 0),
            "keepers": (),
            "stores": (),
            "channels": (),
            "topics": (),
            "locks": (),
            "longest_hold": None,
            "longest_hold_cpu": None,
        }
        return flagstone.ArenaSnapshot(**{**base, **changes})

    def show(self, capsys, **options):
        everything = options.pop("everything", False)
        info.show(self.snapshot(**options), Screen(), everything=everything)
        return capsys.readouterr().out

    def test_numbers(self, capsys):
        text = self.show(capsys)
        assert "  batches        7, the last one in 1.2 ms\n" in text
        assert "  grace periods  9\n" in text
        assert "  released       1,234 objects, 5 MiB by batches\n" in text
        assert "  committed      2 MiB, 64 KiB of it metadata\n" in text
        assert "deaths" not in text

    def test_stalled_reader_and_unlinked_file_are_told(self, capsys):
        text = self.show(capsys, stalled=(17, 18, 3.0), unlinked=True, deaths=2)
        assert "has waited 3 s for the reader in process 17, thread 18" in text
        assert "its file was unlinked" in text
        assert "  deaths         2\n" in text

    def test_the_dead_and_a_long_batch_are_told(self, capsys):
        burial = flagstone.Burial(3, 4711, 0, "decoder", 1.0, 2.0, 4712, 17, 1 << 20, 1)
        text = self.show(capsys, deaths=3, burials=(burial,), batch=(4713, 65.0))
        assert "decoder" in text
        assert "17" in text
        assert "1 MiB" in text
        assert "2 deaths" in text
        assert "process 4713 has run a batch for 65 s" in text
        assert "4713" not in self.show(capsys, batch=(4713, 0.5))
        under_way = dataclasses.replace(burial, finished=None)
        assert "being buried" in self.show(capsys, deaths=1, burials=(under_way,))

    def group(self, ident, parent, name, **changes):
        events = flagstone.GroupEvents(0, 0, 0)
        base = {"state": "live", "lasting": False, "limit": None, "usage": 0, "peak": 0}
        base["cgroup"] = None
        return flagstone.GroupInfo(
            **{**base, **changes}, id=ident, parent=parent, name=name, children=0, events=events
        )

    def test_many_groups_are_cut_to_the_largest(self, capsys):
        groups = [self.group(1, None, ""), self.group(2, 1, "inner")]
        groups += [self.group(n, 1, f"small-{n}", usage=n) for n in range(3, 500)]
        groups += [self.group(1000, 2, "hog", usage=1 << 30)]
        text = self.show(capsys, groups=tuple(groups))
        lines = text.partition("groups\n")[2].splitlines()
        assert [line.split()[0] for line in lines[1:4]] == ["root", "inner", "hog"]
        assert "small-499" in text
        assert "small-3 " not in text
        assert "  and 458 smaller groups (--all shows them)" in lines
        assert "small-3 " in self.show(capsys, groups=tuple(groups), everything=True)

    def test_batches_and_what_is_kept(self, capsys):
        text = self.show(
            capsys,
            last_batches=(flagstone.Batch(7, 4096, 4000, 9, 512, 0.0, 0.0021, 0.001),),
            groups_waiting=17,
            children=flagstone.ChildCounts(5, 1, 12, 0),
            keepers=(
                flagstone.Keeper("job", 4711, "worker", 3, 3 << 20, 12.0),
                flagstone.Keeper("", None, "", 1, 64, 5.0),
            ),
            longest_hold=flagstone.LockHold("names", 0.0007),
            longest_hold_cpu=flagstone.LockHold("pages", 0.0002),
            groups=(self.group(1, None, ""), self.group(2, 1, "with", cgroup="/sys/fs/x")),
        )
        assert "5 live, 1 deactivated, 12 queued" in text
        assert "17 groups wait" in text
        assert re.search(r"job +4711 +worker +3 +3(\.0)? ?MiB +12", text)
        assert re.search(r"\(no name\) +in flight +1 +64", text)
        assert re.search(r"\n +7 .* 4,096 +4,000 +9 +512", text)
        assert "(names)" in text
        assert "(pages)" in text
        assert "live, with cgroup /sys/fs/x" in text

    def test_groups_are_a_tree(self, capsys):
        group = self.group
        text = self.show(
            capsys,
            groups=(
                group(1, None, ""),
                group(2, 1, "site", limit=8 << 20),
                group(4, 1, "other"),
                group(3, 2, "", lasting=True),
                group(5, 99, "lost"),
                group(6, 7, "loop"),
                group(7, 6, "loop"),
            ),
        )
        lines = text.partition("groups\n")[2].splitlines()[1:6]
        assert [line[2:12].rstrip() for line in lines] == [
            "root",
            "  site",
            "    (no na",
            "  other",
            "lost",
        ]
        assert "8 MiB" in lines[1]
        assert lines[2].endswith("live, lasting")

    def test_in_flight_is_cut(self, capsys):
        one = flagstone.InFlight(
            object=flagstone.Handle(bytes(16)),
            is_group=False,
            nbytes=1024,
            cache="frame",
            group="camera",
            pid=5,
            command="python3",
            age=2.0,
        )
        sender = flagstone.Sender(pid=9, command="python", alive=False, messages=12, bytes=84)
        text = self.show(capsys, in_flight=(one,) * 12, senders=(sender,))
        assert "sent: 12 by 9 (python, dead)" in text
        assert "in flight: 12, 12 KiB\n" in text
        assert text.count("camera") == 10
        assert "and 2 younger ones" in text
        text = self.show(capsys, in_flight=(one,) * 12, everything=True)
        assert text.count("camera") == 12

    def test_everything_is_json(self):
        text = json.dumps(plain(self.snapshot(stalled=(1, 2, 3.0))))
        assert json.loads(text)["stalled"] == [1, 2, 3.0]
        assert plain(flagstone.Handle(b"\1" * 16)) == "01" * 16
        assert plain(frozenset("ba")) == ["a", "b"]

    def test_texts(self):
        assert duration(0.00002) == "20 us"
        assert duration(0.0123) == "12.3 ms"
        assert duration(90) == "90 s"
        assert duration(3600) == "60 min"
        assert duration(10**6) == "12 days"
        assert printable("a\x1b[31m\n\udcff") == "a\\x1b[31m\\n\\udcff"


class TestCheck:
    def test_sound(self, arena, arena_name):
        arena.put(b"abc")
        ran = run("check", arena_name)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{arena_name}: sound\n", "")
        assert facts("check", arena_name) == {
            "arena": arena_name,
            "sound": True,
            "findings": [],
        }

    def test_findings(self, arena, arena_name, monkeypatch, capsys):
        monkeypatch.setattr(
            flagstone.Arena, "check", lambda self: [flagstone.Finding("page 7 belongs to nobody")]
        )
        arena.close()
        with flagstone.open(arena_name, readonly=True):
            assert cli.main(["check", arena_name]) == 1
            text = capsys.readouterr()
            assert text.out == f"{arena_name}: 1 finding\n  page 7 belongs to nobody\n"
            assert text.err == ""
            assert cli.main(["check", arena_name, "--json"]) == 1
            shown = json.loads(capsys.readouterr().out)
            assert shown["findings"] == ["page 7 belongs to nobody"]
            assert shown["sound"] is False

    def test_so_damaged_that_it_cannot_be_opened(self, monkeypatch, capsys):
        def refuse(*arguments, **options):
            raise flagstone.ArenaCorrupted("the superblock contradicts itself")

        monkeypatch.setattr(flagstone, "open", refuse)
        assert check.NAME == "check"
        assert cli.main(["check", "whatever"]) == 1
        assert "the superblock contradicts itself" in capsys.readouterr().out

    def test_missing(self, arena_name):
        assert_error(run("check", arena_name), 1, "there is no arena", arena_name)

    def test_orphan(self, orphan):
        ran = run("check", orphan)
        assert ran.returncode == 1
        assert "an orphan" in ran.stdout
        assert orphan.exists()


class TestGc:
    def test_nothing(self, folder):
        ran = run("gc", folder)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == f"nothing to remove in {folder}\n"

    def test_orphan(self, folder, kept, orphan):
        ran = run("gc", folder, "--dry-run")
        assert ran.returncode == 0
        assert ran.stdout.startswith(f"would remove {orphan} (")
        assert orphan.exists()
        ran = run("gc", folder)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(f"removed {orphan} (")
        assert not orphan.exists()
        assert kept.exists()

    def test_json(self, folder, orphan):
        expected = {"folder": str(folder), "dry_run": True, "removed": [str(orphan)]}
        assert facts("gc", folder, "-n") == expected
        assert facts("gc", folder) == {**expected, "dry_run": False}
        assert facts("gc", folder)["removed"] == []

    def test_what_is_in_use_stays(self, folder):
        with flagstone.open(folder / "used") as arena:
            block = arena.put(b"abc")
            assert facts("gc", folder)["removed"] == []
            assert bytes(block) == b"abc"


class TestRm:
    def test_lasting(self, kept):
        ran = run("rm", kept)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"removed {kept}\n", "")
        assert not kept.exists()

    def test_json(self, kept):
        assert facts("rm", kept) == {"removed": str(kept)}

    def test_in_use(self, arena, arena_name):
        block = arena.put(b"abc")
        assert_error(run("rm", arena_name), 1, "in use by 1 process", "--force")
        assert os.path.exists(arena.path)
        assert run("rm", arena_name, "--force").returncode == 0
        assert not os.path.exists(arena.path)
        assert bytes(block) == b"abc"

    def test_missing(self, arena_name):
        assert_error(run("rm", arena_name), 1, "there is no arena", arena_name)

    @pytest.mark.parametrize("command", ["rm", "info", "check"])
    def test_missing_at_a_path(self, command, arena_name):
        path = f"/dev/shm/{arena_name}: 'x'"
        ran = run(command, path)
        assert_error(ran, 1, f"there is no arena {path}")
        assert ran.stderr.count(arena_name) == 1
        assert_error(run(command, f"/{arena_name}"), 1, f"write {arena_name!r}")

    def test_what_is_no_arena_stays(self, arena_name):
        path = Path(f"/dev/shm/flagstone.{arena_name}")
        path.write_bytes(b"precious" * 1000)
        try:
            assert_error(run("rm", arena_name), 1)
            assert path.read_bytes() == b"precious" * 1000
        finally:
            path.unlink()


class TestManners:
    def test_import_is_light(self):
        program = (
            "import sys, flagstone\n"
            "bad = {'rich', 'argparse', 'flagstone.cli', 'flagstone.demo'} & set(sys.modules)\n"
            "sys.exit(str(bad) if bad else 0)\n"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr

    def test_nobody_reads(self, folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "flagstone", "ls", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
        process.stderr.close()

    def test_full_disk_is_an_error(self, folder):
        with open("/dev/full", "w") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "flagstone", "ls", str(folder)],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert ran.returncode == 1
        assert "No space left on device" in ran.stderr
        assert "Traceback" not in ran.stderr

    def test_interrupt(self, monkeypatch, capsys):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(flagstone, "arenas", interrupt)
        assert cli.main(["ls"]) == 130
        assert capsys.readouterr().err == ""

    def test_pipe_gets_plain_text(self, arena, arena_name):
        text = run("info", arena_name).stdout
        assert "\x1b" not in text
        assert text.isascii()

    def test_without_rich_a_terminal_gets_plain_text(self, arena, arena_name):
        text = on_terminal(
            "import sys; sys.modules['rich'] = None; sys.modules['rich.console'] = None\n"
            f"from flagstone.cli import main; sys.exit(main(['info', {arena_name!r}]))"
        )
        assert arena_name in text
        assert "\x1b" not in text

    def test_with_rich_a_terminal_gets_tables(self, arena, arena_name):
        pytest.importorskip("rich")
        text = on_terminal(
            f"import sys; from flagstone.cli import main; sys.exit(main(['info', {arena_name!r}]))"
        )
        assert arena_name in text
        assert "\x1b" in text


def on_terminal(program):
    """What a Python program prints to a terminal of its own; it has to succeed."""
    leader, follower = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    ) as process:
        os.close(follower)
        text = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # how a terminal ends
                break
            if not piece:
                break
            text += piece
        os.close(leader)
        assert process.wait(60) == 0, text.decode()
    return text.decode()


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("torch", "torch", "torch"),
        ("joblib", "joblib", "joblib"),
        ("distributed", "dask", "dask"),
        ("ray", "ray", "ray"),
        ("prometheus_client", "metrics", "metrics"),
        ("prometheus_client", "cli", "metrics"),
    ],
)
def test_a_missing_extra_is_named(package, module, extra):
    use = "; sys.exit(flagstone.cli.main(['metrics']))" if module == "cli" else ""
    text = f"import sys; sys.modules[{package!r}] = None; import flagstone.{module}{use}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode
    assert f'pip install "flagstone[{extra}]"' in done.stderr
