"""`flagstone doctor`: real limits, a real tmpfs, a real filter of system calls; settings that would
change the machine (systemd's, cgroups') lie in a folder that stands for its root.
"""

import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import flagstone
from flagstone.machine import Machine, diagnose

CAVEATS = (Path(__file__).parents[2] / "docs" / "caveats.md").read_text()


def doctor(*arguments, before=(), status=None, **options):
    ran = subprocess.run(
        [*before, sys.executable, "-m", "flagstone", "doctor", "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert ran.stderr == ""
    found = json.loads(ran.stdout)
    wrong = any(one["level"] == "wrong" for one in found["findings"])
    assert ran.returncode == (1 if wrong else 0)
    assert found["healthy"] is not wrong
    if status is not None:
        assert ran.returncode == status
    explained(found["findings"])
    return found["findings"]


def explained(findings):
    """What is not fine has a fix, and what refers to a caveat refers to one that is there."""
    flat = " ".join(CAVEATS.split())
    for one in findings:
        assert one["level"] in ("fine", "note", "wrong")
        assert one["text"]
        if one["level"] == "wrong":
            assert one["fix"]
        if one["caveat"]:
            assert f"**{one['caveat']}" in flat, one


def about(findings, what):
    found = [one for one in findings if one["about"] == what]
    assert found, f"nothing about {what}"
    return found


def test_everything_is_asked(arena_name):
    with flagstone.open(arena_name, capacity="8MiB") as arena:
        block = arena.put(b"x" * 3_000_000)
        findings = doctor()
        (mine,) = [one for one in about(findings, "fills") if arena_name in one["text"]] or [None]
        # Five files are named: more than that may be larger, of other programs.
        if mine is not None:
            assert f"pid {os.getpid()}" in mine["text"]
        del block
    asked = {one["about"] for one in findings}
    assert asked >= {"shm", "cgroup", "removeipc", "ulimit", "membarrier", "kernel", "arenas"}


def test_people_read_text(shm_folder):
    ran = subprocess.run(
        [sys.executable, "-m", "flagstone", "doctor", str(shm_folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stderr == ""
    assert ran.returncode in (0, 1)
    assert "kernel      Linux" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith(f"{ran.stdout.count('wrong  ')} wrong, ")


def test_a_container_s_shm(small_tmpfs):
    (shm,) = about(doctor(small_tmpfs, status=1), "shm")
    assert "64 MiB" in shm["text"]
    assert "what a container gets" in shm["text"]
    assert "--shm-size" in shm["fix"]


def test_who_fills_it(small_tmpfs):
    with flagstone.open(small_tmpfs / "flagstone.big", capacity="60MiB") as arena:
        block = arena.alloc(40 << 20)
        fills = about(doctor(small_tmpfs), "fills")
        assert "flagstone.big: 4" in fills[0]["text"]
        assert f"pid {os.getpid()}" in fills[0]["text"]
        # As a logout does with RemoveIPC: the name is gone, and the memory is not.
        os.unlink(small_tmpfs / "flagstone.big")
        (fills,) = about(doctor(small_tmpfs), "fills")
        assert "no name any more" in fills["text"]
        assert f"pid {os.getpid()}" in fills["text"]
        assert "RemoveIPC=no" in fills["fix"]
        del block


@pytest.mark.parametrize(
    ("kind", "option"), [(resource.RLIMIT_AS, "v"), (resource.RLIMIT_FSIZE, "f")]
)
def test_limits(kind, option, shm_folder):
    def limited():
        resource.setrlimit(kind, (2 << 30, 2 << 30))

    ulimits = about(doctor(shm_folder, status=1, preexec_fn=limited), "ulimit")
    (found,) = [one for one in ulimits if f"ulimit -{option} " in one["text"]]
    assert found["level"] == "wrong"
    assert "2 GiB" in found["text"]
    assert f"ulimit -{option}" in found["fix"]


FILTERED = """
import ctypes, os, struct, sys
# seccomp(2): load the number of the call; membarrier's is EPERM, all others are allowed.
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, NUMBER), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", *one) for one in steps)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_membarrier_is_forbidden(shm_folder):
    number = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
    before = [sys.executable, "-c", FILTERED.replace("NUMBER", str(number))]
    (found,) = about(doctor(shm_folder, before=before), "membarrier")
    assert found["level"] == "note"
    assert "Operation not permitted" in found["text"]
    assert "seccomp" in found["fix"]


def test_what_was_left(shm_folder):
    orphan = (
        "import flagstone, os, sys\n"
        "arena = flagstone.open(sys.argv[1], capacity='4MiB')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", orphan, shm_folder / "flagstone.killed"])
    (arenas,) = about(doctor(shm_folder), "arenas")
    assert "1 arena" in arenas["text"]
    assert "flagstone.killed" in arenas["text"]
    assert "flagstone gc" in arenas["fix"]


def other_layout(path):
    """Make an arena as another version would have laid it out: its fingerprint is another one."""
    with open(path, "r+b") as file:
        head = file.read(64)
        at = 8  # behind the magic number: version, then the fingerprint
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in head[at : at + 16]))


def test_two_layouts(shm_folder):
    old = shm_folder / "flagstone.old"
    flagstone.open(old, lasting=True, capacity="4MiB").close()
    other_layout(old)
    findings = doctor(shm_folder)
    (left,) = about(findings, "layouts")
    assert "layout version" in left["text"]
    assert "left over" in left["text"]
    assert left["fix"] == f"rm {old}"
    with flagstone.open(shm_folder / "flagstone.new", capacity="4MiB"):
        both = ["import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 4096)"]
        both[0] += "; print(flush=True); sys.stdin.read()"
        user = subprocess.Popen(
            [sys.executable, "-c", *both, old], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        user.stdout.readline()
        layouts = about(doctor(shm_folder, status=1), "layouts")
        user.communicate()
    assert f"pid {user.pid}" in layouts[0]["text"]
    assert layouts[1]["level"] == "wrong"
    assert "side by side" in layouts[1]["text"]


def test_a_damaged_arena(shm_folder):
    path = shm_folder / "flagstone.bad"
    flagstone.open(path, lasting=True, capacity="4MiB").close()
    with open(path, "r+b") as file:
        head = file.read(8)
        file.seek(100)
        file.write(b"\xff" * 16)
    assert struct.unpack("Q", head)[0]
    (found,) = [one for one in about(doctor(shm_folder), "arenas") if one["level"] != "fine"]
    assert found["level"] == "wrong"
    assert "rm " in found["fix"]


def put(root, path, text):
    where = Path(f"{root}{path}")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(text)


def ask(root, shm, what):
    """What is found where `root` stands for the machine's root."""
    found = diagnose(Machine(shm=str(shm), root=str(root)))
    findings = [
        {key: getattr(one, key) for key in ("about", "level", "text", "fix", "caveat")}
        for one in found
    ]
    explained(findings)
    return about(findings, what)


def test_logout(tmp_path, shm_folder, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    (none,) = ask(tmp_path, shm_folder, "removeipc")
    assert none["level"] == "fine"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (default,) = ask(tmp_path, shm_folder, "removeipc")
    assert default["level"] == "note"
    assert "RemoveIPC=yes" in default["text"]
    put(tmp_path, "/etc/systemd/logind.conf", "[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n")
    (off,) = ask(tmp_path, shm_folder, "removeipc")
    assert off["level"] == "fine"
    put(tmp_path, "/usr/lib/systemd/logind.conf.d/9.conf", "[Login]\nRemoveIPC=yes\n")
    (on,) = ask(tmp_path, shm_folder, "removeipc")
    assert "logind.conf.d/9.conf" in on["text"]
    put(tmp_path, "/etc/systemd/logind.conf.d/9.conf", "")  # hides the other one
    (off,) = ask(tmp_path, shm_folder, "removeipc")
    assert off["level"] == "fine"
    put(tmp_path, "/etc/systemd/logind.conf", "")
    monkeypatch.setattr(os, "getuid", lambda: 33)
    (system,) = ask(tmp_path, shm_folder, "removeipc")
    assert system["level"] == "fine"


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/pod/job", "/sys/fs/cgroup/pod", "memory.max", "memory.current"),
        (
            "4:memory:/pod/job",
            "/sys/fs/cgroup/memory/pod",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
)
def test_cgroups(tmp_path, shm_folder, line, folder, limit, usage):
    (unseen,) = ask(tmp_path, shm_folder, "cgroup")
    assert unseen["level"] == "note"
    put(tmp_path, "/proc/self/cgroup", f"{line}\n")
    put(tmp_path, f"{folder}/job/{limit}", "max" if line[0] == "0" else str((1 << 63) - 4096))
    put(tmp_path, f"{folder}/job/{usage}", str(1 << 29))
    (none,) = ask(tmp_path, shm_folder, "cgroup")
    assert none["level"] == "fine"
    put(tmp_path, f"{folder}/{limit}", str(1 << 30))  # one above it has a limit
    put(tmp_path, f"{folder}/{usage}", str(1 << 29))
    (found,) = ask(tmp_path, shm_folder, "cgroup")
    assert found["level"] == "note"
    assert "limited to 1 GiB, of which 512 MiB (50 %)" in found["text"]
    put(tmp_path, f"{folder}/{usage}", str((1 << 30) - 4096))
    (full,) = ask(tmp_path, shm_folder, "cgroup")
    assert full["level"] == "wrong"


def test_a_disk_is_no_tmpfs(tmp_path):
    mounts = "29 1 0:25 / / rw shared:1 - ext4 /dev/sda rw\n30 29 0:26 / /dev rw - tmpfs t rw\n"
    put(tmp_path, "/proc/self/mountinfo", mounts)
    (found,) = ask(tmp_path, tmp_path, "shm")
    assert found["level"] == "wrong"
    assert "ext4" in found["text"]


def test_old_kernels(tmp_path, shm_folder):
    put(tmp_path, "/proc/sys/kernel/osrelease", "4.4.0-generic\n")
    (found,) = ask(tmp_path, shm_folder, "kernel")
    assert found["level"] == "note"
    assert "4.4.0" in found["text"]
    (proc,) = ask(tmp_path / "bare", shm_folder, "proc")
    assert proc["level"] == "wrong"


def test_no_folder():
    ran = subprocess.run(
        [sys.executable, "-m", "flagstone", "doctor", "/no/such/folder"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2
    assert "no such folder" in ran.stderr
