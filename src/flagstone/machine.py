"""What on this machine will bite, and what to do about it: what `flagstone doctor` asks.

Every question is answered from what the kernel shows (`/proc`, `/sys`, statvfs, limits of this
process), never from a log or a guess. Nothing is changed, and nothing is attached to.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as BadConfig
from dataclasses import dataclass
from typing import Final

from flagstone import _core
from flagstone.errors import FlagstoneError, LayoutMismatch
from flagstone.folder import arenas
from flagstone.names import FOLDER, PREFIX, shown
from flagstone.picture import share
from flagstone.sizes import format_size, many

__all__ = ["Diagnosis", "Machine", "diagnose"]

FINE: Final = "fine"
NOTE: Final = "note"
WRONG: Final = "wrong"

_MIB: Final = 1 << 20
_SMALL: Final = 64 * _MIB
"""Bytes of `/dev/shm` in a container that nobody gave more."""
_WANTED: Final = 5 << 30
"""Bytes of address space, and of a file's length, of an arena of 1 GiB."""
_LARGEST: Final = 5
"""Files that are named."""
_MEMBARRIER: Final = {"x86_64": 324, "aarch64": 283}
"""Numbers of the system call, by machine."""
_PRIVATE: Final = 1 << 3
_GLOBAL: Final = 1 << 0
_UNLIMITED: Final = 1 << 60
"""Bytes: a memory cgroup of version 1 without a limit says 2**63 less a page."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The answer to one question.

    Attributes:
        about: the question, in one word.
        level: "fine"; "note": it may bite; "wrong": it bites now, or nearly.
        text: what was found, in a sentence, with the numbers.
        fix: what to do; "" where nothing is to be done.
        caveat: how the paragraph of docs/caveats.md begins that explains it; "" if it needs none.
    """

    about: str
    level: str
    text: str
    fix: str = ""
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where to look.

    Attributes:
        shm: the folder of arenas.
        root: what the paths of `/proc`, `/sys`, `/etc` and `/run` begin with.
    """

    shm: str = FOLDER
    root: str = ""

    def text(self, path: str) -> str | None:
        """The content of a small file; None where it cannot be read."""
        try:
            with open(self.root + path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """A number from such a file; None where there is none, as in "max"."""
        text = (self.text(path) or "").strip()
        return int(text) if text.isdigit() else None


def diagnose(machine: Machine | None = None) -> list[Diagnosis]:
    """Ask everything.

    Args:
        machine: where to look; None is here.

    Returns:
        At least one answer to each question, in the order of the questions.
    """
    where = machine or Machine()
    mapped = _mapped(where)
    found: list[Diagnosis] = []
    for question in (_shm, _fills, _memory, _remove_ipc, _limits, _membarrier, _kernel):
        found += question(where, mapped)
    return [*found, *_arenas(where, mapped)]


Mapped = dict[tuple[int, int], set[int]]
"""Pids by device and inode of the file that they have mapped, as far as this user may look."""


def _mapped(machine: Machine) -> Mapped:
    """Who has files of the folder mapped: also those whose names are gone."""
    found: Mapped = {}
    with contextlib.suppress(OSError):
        device = os.stat(machine.shm).st_dev
        for pid in filter(str.isdigit, os.listdir(machine.root + "/proc")):
            for line in (machine.text(f"/proc/{pid}/maps") or "").splitlines():
                # proc(5): address perms offset dev(major:minor) inode path
                fields = line.split(None, 5)
                if len(fields) == 6 and fields[4] != "0":
                    major, _, minor = fields[3].partition(":")
                    if os.makedev(int(major, 16), int(minor, 16)) == device:
                        found.setdefault((device, int(fields[4])), set()).add(int(pid))
    return found


def _shm(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    caveat = "Containers give `/dev/shm` 64 MB."
    fix = (
        "docker run --shm-size, an emptyDir with medium: Memory, or a path on another tmpfs as"
        " the arena's name"
    )
    try:
        system = os.statvfs(machine.shm)
    except OSError as error:
        said = f"{shown(machine.shm)}: {error.strerror}"
        yield Diagnosis("shm", WRONG, said, "mount -t tmpfs", "An arena must lie on a tmpfs.")
        return
    kind = _kind(machine)
    if kind not in ("tmpfs", None):
        yield Diagnosis(
            "shm",
            WRONG,
            f"{shown(machine.shm)} is a {kind}, and no tmpfs",
            "mount -t tmpfs, or a path on a tmpfs as the arena's name",
            "An arena must lie on a tmpfs.",
        )
        return
    total, free = system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize
    text = f"{shown(machine.shm)} has {format_size(total)}, {share(free, total)} free"
    if total == 0:
        yield Diagnosis("shm", FINE, f"{shown(machine.shm)} has no limit of its own")
    elif total <= _SMALL or free * 10 < total:
        why = ": what a container gets by itself" if total == _SMALL else ""
        yield Diagnosis("shm", WRONG, text + why, fix, caveat)
    else:
        yield Diagnosis("shm", FINE, text)


def _kind(machine: Machine) -> str | None:
    """The kind of file system that the folder lies on; None where nobody says it."""
    best: tuple[str, str | None] = ("", None)
    folder = os.path.realpath(machine.shm)
    for line in (machine.text("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        within = folder == point or folder.startswith(point.rstrip("/") + "/")
        if within and len(point) >= len(best[0]):  # of two on one folder the later one is seen
            best = (point, after.split(" ", 1)[0])
    return best[1]


def _fills(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    """Who fills the folder: files by size, and what has no name any more."""
    try:
        system = os.statvfs(machine.shm)
        device = os.stat(machine.shm).st_dev
    except OSError:
        return
    files: dict[int, tuple[int, str]] = {}
    for folder, _, names in os.walk(machine.shm):
        for name in names:
            with contextlib.suppress(OSError):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if status.st_dev == device:
                    files[status.st_ino] = (status.st_blocks * 512, path)
    used = (system.f_blocks - system.f_bfree) * system.f_frsize
    named = sum(size for size, _ in files.values())
    for inode, (size, path) in sorted(files.items(), key=lambda one: -one[1][0])[:_LARGEST]:
        if size >= _MIB:
            who = _who(machine, mapped.get((device, inode), set()))
            yield Diagnosis("fills", FINE, f"{shown(path)}: {format_size(size)}, {who}")
    rest = used - named
    if rest > max(_MIB, used // 10):
        who = _who(machine, {p for (_, i), pids in mapped.items() if i not in files for p in pids})
        yield Diagnosis(
            "fills",
            NOTE,
            f"{format_size(rest)} in {shown(machine.shm)} have no name any more, {who}",
            "end the processes that hold them; RemoveIPC=no in logind.conf if a logout took the"
            " names",
            "systemd's `RemoveIPC=yes` deletes files in `/dev/shm` when a user logs out.",
        )


def _who(machine: Machine, pids: set[int]) -> str:
    if not pids:
        return "mapped by nobody that this user can see"
    names = [
        f"{(machine.text(f'/proc/{pid}/comm') or '?').strip()} (pid {pid})" for pid in sorted(pids)
    ]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "mapped by " + ", ".join(names[:3]) + more


def _memory(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    """Limits of the memory cgroups of this process, the nearest first."""
    caveat = "What is on a tmpfs counts for the container's memory limit"
    fix = (
        "a memory limit that has room for the arena's capacity beside the processes"
        " (docker run --memory, resources.limits.memory), or a capacity well below it"
    )
    looked = False
    for folder, limit_file, usage_file in _cgroups(machine):
        usage = machine.number(f"{folder}/{usage_file}")
        limit = machine.number(f"{folder}/{limit_file}")
        looked = looked or usage is not None
        if limit is None or usage is None or limit >= _UNLIMITED:
            continue
        text = f"the memory cgroup {folder} is limited to {format_size(limit)}"
        text += f", of which {share(usage, limit)} are in use"
        with contextlib.suppress(OSError):
            system = os.statvfs(machine.shm)
            if (total := system.f_blocks * system.f_frsize) > limit:
                text += f"; {shown(machine.shm)} seems to have {format_size(total)}, more than that"
        # Most of what is in use may be cached files, so that nearly full is not nearly killed.
        level = WRONG if limit - usage < limit // 20 else NOTE
        yield Diagnosis("cgroup", level, text, fix, caveat)
        return
    if looked:
        yield Diagnosis("cgroup", FINE, "no memory cgroup that this process sees has a limit")
    else:
        yield Diagnosis(
            "cgroup",
            NOTE,
            "/sys/fs/cgroup shows no memory cgroup of this process: limits are not seen before the"
            " kernel kills",
            "a capacity well below the container's memory limit",
            caveat,
        )


def _cgroups(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Folder, and the files of limit and usage, of this process's memory cgroups and of those
    above, version 2 first.
    """
    for line in (machine.text("/proc/self/cgroup") or "").splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            roots, files = ["", "/unified"], ("max", "current")
        elif kinds == "memory":
            roots, files = ["/memory"], ("limit_in_bytes", "usage_in_bytes")
        else:
            continue
        own = "" if path.startswith("/..") else path.rstrip("/")
        for root in roots:
            at = own
            while True:
                yield f"/sys/fs/cgroup{root}{at}", f"memory.{files[0]}", f"memory.{files[1]}"
                if not at:
                    break
                at = at.rpartition("/")[0]


def _remove_ipc(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    caveat = "systemd's `RemoveIPC=yes` deletes files in `/dev/shm` when a user logs out."
    if not os.path.isdir(machine.root + "/run/systemd/system"):
        yield Diagnosis("removeipc", FINE, "systemd does not run here: no logout removes arenas")
        return
    setting, where = "yes", "systemd's default"
    for path in _configured(machine, "systemd/logind.conf"):
        config = ConfigParser(strict=False, interpolation=None)
        with contextlib.suppress(BadConfig):
            config.read_string(machine.text(path) or "")
            if config.has_option("Login", "RemoveIPC"):
                setting, where = config.get("Login", "RemoveIPC"), path
    on = setting.strip().lower() in ("yes", "true", "on", "1")
    text = f"RemoveIPC={setting} ({where})"
    if not on:
        yield Diagnosis("removeipc", FINE, text)
    elif os.getuid() < _first_user(machine):
        yield Diagnosis("removeipc", FINE, f"{text}, but not for a system user as this one")
    else:
        fix = "RemoveIPC=no in /etc/systemd/logind.conf, or run as a system user"
        yield Diagnosis("removeipc", NOTE, text, fix, caveat)


def _configured(machine: Machine, name: str) -> list[str]:
    """The files that systemd reads for this one, in the order in which later ones win."""
    main = [f"/usr/lib/{name}", f"/etc/{name}"]
    found: dict[str, str] = {}  # a file of /etc hides one of the same name elsewhere
    for folder in (f"/usr/lib/{name}.d", f"/run/{name}.d", f"/etc/{name}.d"):
        with contextlib.suppress(OSError):
            for one in os.listdir(machine.root + folder):
                if one.endswith(".conf"):
                    found[one] = f"{folder}/{one}"
    return main + [found[one] for one in sorted(found)]


def _first_user(machine: Machine) -> int:
    """The first number of a user that is a person."""
    match = re.search(r"^SYS_UID_MAX\s+(\d+)", machine.text("/etc/login.defs") or "", re.MULTILINE)
    return int(match[1]) + 1 if match else 1000


def _limits(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    caveat = "Address space and the size of files."
    for kind, option, what in (
        (resource.RLIMIT_AS, "v", "address space"),
        (resource.RLIMIT_FSIZE, "f", "the length of a file"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit == resource.RLIM_INFINITY:
            yield Diagnosis("ulimit", FINE, f"ulimit -{option}: no limit of {what}")
            continue
        text = f"ulimit -{option} limits {what} to {format_size(limit)}"
        if limit < _WANTED:
            text += f": an arena of 1 GiB wants {format_size(_WANTED)}, nearly all never written"
        fix = f"raise ulimit -{option}, which costs no memory, or give arenas less capacity"
        yield Diagnosis("ulimit", WRONG if limit < _WANTED else NOTE, text, fix, caveat)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < 256:
        text = (
            f"ulimit -n allows {many(files, 'descriptor')}; a forked child needs one of each arena"
        )
        caveat = "A forked child that can be given no place in the arena"
        yield Diagnosis("ulimit", NOTE, text, "raise ulimit -n", caveat)


def _membarrier(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    number = _MEMBARRIER.get(platform.machine())
    if number is None:
        yield Diagnosis("membarrier", NOTE, f"not asked on {platform.machine()}")
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    got = call(ctypes.c_long(number), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0))
    if got >= 0 and got & _PRIVATE and got & _GLOBAL:
        yield Diagnosis("membarrier", FINE, "membarrier(2) can be called")
        return
    why = os.strerror(ctypes.get_errno()) if got < 0 else "the kernel has not all of it"
    yield Diagnosis(
        "membarrier",
        NOTE,
        f"membarrier(2) cannot be called ({why}): each allocation pays a fence, some nanoseconds",
        "a seccomp profile that allows membarrier (Docker's own does); nothing breaks without it",
        "`barrier()`, `shrink()` and an allocation that finds the arena full may take 10 to 20 ms",
    )


def _kernel(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    release = (machine.text("/proc/sys/kernel/osrelease") or platform.release()).strip()
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    text = f"Linux {release} on {platform.machine()}"
    if version < (4, 14):
        text += " is older than 4.14: it has not all of membarrier(2)"
        yield Diagnosis("kernel", NOTE, text, "a newer kernel")
    else:
        yield Diagnosis("kernel", FINE, text)
    if not os.path.isdir(machine.root + "/proc/self"):
        text = "/proc is not mounted: arenas are attached to, and none is created"
        fix = "mount /proc, or let somebody else create the arena"
        yield Diagnosis("proc", WRONG, text, fix, "Without `/proc`")


def _arenas(machine: Machine, mapped: Mapped) -> Iterator[Diagnosis]:
    """What was left in the folder, and whether two layouts are in use beside each other."""
    try:
        ours = arenas(machine.shm)
        paths = [entry.path for entry in os.scandir(machine.shm) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    orphans = [one for one in ours if one.orphan]
    if orphans:
        size = format_size(sum(one.committed for one in orphans))
        names = ", ".join(shown(one.name) for one in orphans[:_LARGEST])
        text = f"{many(len(orphans), 'arena')} ({size}) of killed processes: {names}"
        yield Diagnosis("arenas", NOTE, text, f"flagstone gc {shown(machine.shm)}")
    strangers = 0
    for path in sorted(set(paths) - {one.path for one in ours}):
        try:
            _core.peek(os.fsencode(path))
        except LayoutMismatch as error:
            try:
                status = os.stat(path)
            except OSError:  # gone meanwhile
                continue
            pids = mapped.get((status.st_dev, status.st_ino), set())
            if pids:
                strangers += 1
                said = f"in use: {_who(machine, pids)}"
                fix = "the same version of Flagstone in every program that shares an arena"
            else:
                said = "left over: mapped by nobody that this user can see"
                fix = f"rm {shown(path)}"
            yield Diagnosis("layouts", NOTE, f"{_short(error)}; {said}", fix)
        except FlagstoneError as error:
            fix = f"end the processes that use it, then rm {shown(path)}"
            caveat = "Damage is noticed, not survived, and malice may go unnoticed."
            yield Diagnosis("arenas", WRONG, str(error), fix, caveat)
        except (OSError, ValueError):  # another user's, or gone meanwhile: none of ours
            continue
    used = [one for one in ours if one.processes]
    if strangers and used:
        text = f"two layouts side by side: {many(strangers, 'arena')} of another version of"
        text += f" Flagstone beside {many(len(used), 'arena')} of this one, all in use"
        fix = "the same version of Flagstone in every program that shares an arena"
        yield Diagnosis("layouts", WRONG, text, fix)
    kept = [one for one in ours if one.lasting and not one.processes]
    if kept:
        size = format_size(sum(one.committed for one in kept))
        names = ", ".join(shown(one.name) for one in kept[:_LARGEST])
        text = f"{many(len(kept), 'lasting arena')} ({size}) without a process: {names}"
        fix = "flagstone rm NAME, if nobody is to find it again"
        yield Diagnosis("arenas", FINE, text, fix)
    if not orphans and not strangers:
        yield Diagnosis("arenas", FINE, f"{many(len(ours), 'arena')} in {shown(machine.shm)}")


def _short(error: Exception) -> str:
    """Without its advice, which is what follows the colon after the versions."""
    return str(error).partition(": end the processes")[0]
