"""Paths are bytes: an arena whose name is no UTF-8, or holds anything else that a file's name may
hold, is an arena like any other.
"""

import json
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import flagstone
from flagstone.folder import gc as collect
from tests.process.support import Worker, kept, program

ODD = [b"\xff\xfe", "é".encode("latin-1"), b"two\nlines", b"\x85\xe2\x80\xa8", "ünï".encode()]
"""No UTF-8 twice, what ends a line to some, and plain text."""


@pytest.fixture(params=ODD, ids=repr)
def odd_name(request, arena_name):
    return os.fsdecode(arena_name.encode() + b"-" + request.param)


def total(block):
    return int(block.array.sum())


def look(arena):
    return os.fsencode(arena.path), [group.name for group in arena.groups]


def send_back(group):
    return group.name


def flagstone_command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "flagstone", *arguments], capture_output=True, timeout=60
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout


class TestOddNames:
    def test_every_pickle_of_the_arena_travels(self, odd_name):
        with Worker("spawn") as worker, flagstone.open(odd_name, capacity="16MiB") as arena:
            assert arena.name == odd_name
            assert worker(total, arena.put(np.arange(10))) == 45
            with arena.group("job") as job:
                assert worker(send_back, job) == "job"
                path = os.fsencode(arena.path)
                assert worker(look, arena) == (path, ["job"])
            assert os.path.exists(path)
        assert not os.path.exists(path)

    def test_a_pickle_holds_the_bytes_of_the_path(self, odd_name):
        """Who unpickles may decode names in another way than who pickled."""
        with flagstone.open(odd_name, capacity="16MiB") as arena:
            block = arena.put(np.arange(10))
            message = pickle.dumps(block)
            assert os.fsencode(arena.path) in message
            script = """
                import pickle, sys
                print(int(pickle.loads(bytes.fromhex(sys.argv[1])).array.sum()))
            """
            assert program(script, message.hex()).strip() == "45"

    def test_opened_by_bytes_text_and_path(self, odd_name):
        with flagstone.open(os.fsencode(odd_name)) as arena:
            for name in (odd_name, os.fsencode(arena.path), arena.path):
                with flagstone.open(name, create=False) as again:
                    assert again.path == arena.path
            assert arena.path in [info.path for info in flagstone.arenas(b"/dev/shm")]

    def test_what_is_printed_can_be_printed(self, odd_name, caplog):
        with flagstone.open(odd_name, capacity="1MiB") as arena:
            repr(arena).encode()
            with pytest.raises(flagstone.ArenaFull) as full:
                arena.alloc("64MiB")
            str(full.value).encode()
            del full  # its frames keep the attachment
            message = pickle.dumps(arena)
            with caplog.at_level(logging.WARNING, "flagstone"), Worker("fork") as worker:
                worker(look, arena)
                worker.kill()
                arena.barrier()
            for record in caplog.records:
                record.getMessage().encode()
        with Worker("spawn") as worker, pytest.raises(flagstone.StaleHandle) as stale:
            worker(pickle.loads, message)
        str(stale.value).encode()

    def test_the_command_line(self, odd_name, arena_name):
        with flagstone.open(odd_name, capacity="1MiB") as arena:
            for command in (["ls"], ["info", odd_name], ["check", odd_name]):
                flagstone_command(*command).decode()
            listed = json.loads(flagstone_command("ls", "--json"))["arenas"]
            assert arena.path in [one["path"] for one in listed]
            facts = json.loads(flagstone_command("info", odd_name, "--json"))
            assert os.fsencode(facts["path"]) == os.fsencode(arena.path)
            removed = json.loads(flagstone_command("rm", odd_name, "--force", "--json"))
            assert removed["removed"] == arena.path
        assert not os.path.exists(arena.path)

    def test_gc_says_whole_paths(self, odd_name, shm_folder):
        path = os.path.join(shm_folder, odd_name)
        worker = Worker("spawn")
        worker(hold, os.fsencode(path))
        worker.kill()
        assert path in collect(os.fsencode(shm_folder))
        assert not os.path.exists(path)


def hold(name):
    kept["arena"] = flagstone.open(name, capacity="1MiB")


class TestOddCommands:
    def test_a_process_with_a_name_of_any_bytes(self, arena_name, tmp_path):
        """What `comm` and the arguments hold is for people, and prints."""
        script = tmp_path / os.fsdecode(b"wo\xffrker.py")
        script.write_text(
            "import sys, flagstone\n"
            "with open('/proc/self/comm', 'wb') as comm: comm.write(b'wo\\xffrker')\n"
            "arena = flagstone.open(sys.argv[1], create=False)\n"
            "print('there', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with flagstone.open(arena_name, capacity="1MiB") as arena:
            one = subprocess.Popen(
                [sys.executable, script, arena_name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            with one:
                assert one.stdout.readline() == b"there\n"
                process = next(other for other in arena.processes if other.pid == one.pid)
                assert process.command == "wo\\xffrker"
                assert "wo\\xffrker.py" in process.arguments
                flagstone_command("info", arena_name).decode()
                one.stdin.close()
