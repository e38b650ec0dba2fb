"""The tormentor: starts the workers, and kills, stops and starves them."""

import collections
import contextlib
import ctypes
import faulthandler
import functools
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.soak.pattern import Wrong
from tests.soak.shared import Shared
from tests.soak.worker import child, work

PATIENCE = 60.0  # seconds without progress that are a hang
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper():
    """Have the orphans of this process's children come to it."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


class Tormentor:
    """Starts the workers, and makes their lives hard."""

    def __init__(self, name, seed, workers, folder=None):
        self.name = name
        self.seed = seed
        self.random = random.Random(seed)
        self.shared = Shared()
        self.folder = folder
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (as long as this object)
        self.pids = [0] * workers
        self.progress = [(0, 0.0)] * workers  # operations, and when they were last more
        self.started = 0
        self.done = collections.Counter()

    def start(self, slot):
        number = self.started
        self.started += 1
        pid = os.fork()
        if pid:
            # By both, as either may need it first.
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            self.pids[slot] = pid
            self.progress[slot] = (-1, time.monotonic())
            return
        os.dup2(self.log.fileno(), 2)
        os.setpgid(0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        faulthandler.enable(self.log)
        faulthandler.register(signal.SIGUSR1, self.log)
        child(functools.partial(work, self.shared, self.name, number, self.seed, slot))

    def ended(self, slot):
        """A worker that ended, in which way it must not; Wrong if it is so."""
        pid, status = os.waitpid(self.pids[slot], os.WNOHANG)
        if pid:
            self.pids[slot] = 0
            raise Wrong(f"worker in slot {slot} ended by itself: {describe(status)}")

    def watch(self):
        now = time.monotonic()
        for slot in range(len(self.pids)):
            self.ended(slot)
            count, since = self.progress[slot]
            if int(self.shared.counters[slot]) != count:
                self.progress[slot] = (int(self.shared.counters[slot]), now)
            elif now - since > PATIENCE:
                self.dump(slot)
                raise Wrong(f"worker in slot {slot} has done nothing for {PATIENCE:.0f} s")

    def dump(self, slot):
        """The stack of a worker that hangs, for the report."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[slot], signal.SIGUSR1)
        if shutil.which("gdb"):
            command = ["gdb", "-p", str(self.pids[slot]), "-batch", "-ex", "thread apply all bt 12"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, stdout=self.log, stderr=self.log, timeout=30)
        time.sleep(0.5)

    def torment(self, seconds):
        for slot in range(len(self.pids)):
            self.start(slot)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.random.random() * 0.12)
            slot = self.random.randrange(len(self.pids))
            what = self.random.choices(
                [self.kill, self.kill_two, self.halt, self.halt_long, self.fill],
                [6, 1, 5, 0.3, 1 if self.folder else 0],
            )[0]
            self.watch()
            self.done[what.__name__] += 1
            what(slot)

    def kill(self, slot):
        everyone = self.random.random() < 0.2  # its forked children as well
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if everyone else os.kill)(self.pids[slot], signal.SIGKILL)
        status = os.waitpid(self.pids[slot], 0)[1]
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            self.pids[slot] = 0
            raise Wrong(f"worker in slot {slot} ended by itself: {describe(status)}")
        self.start(slot)

    def kill_two(self, slot):
        """Two at once, so that one may die while it clears up after the other."""
        other = (slot + 1) % len(self.pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[other], signal.SIGSTOP)
        self.kill(slot)
        self.kill(other)

    def halt(self, slot, longest=0.08):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[slot], signal.SIGSTOP)
        time.sleep(self.random.random() * longest)
        if self.random.random() < 0.2:
            self.kill(slot)
        else:
            os.kill(self.pids[slot], signal.SIGCONT)

    def halt_long(self, slot):
        self.halt(slot, 2.0)

    def fill(self, slot):
        """Take what is left of the file system, for a moment."""
        path = Path(self.folder) / "ballast"
        with contextlib.suppress(OSError), open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(self.folder).f_bavail * 4096 - 65536)
        time.sleep(self.random.random() * 0.1)
        path.unlink(missing_ok=True)

    def finish(self):
        """Let the workers end by themselves."""
        self.shared.set_stop()
        for slot, pid in enumerate(self.pids):
            os.kill(pid, signal.SIGCONT)
            deadline = time.monotonic() + PATIENCE
            while True:
                gone, status = os.waitpid(pid, os.WNOHANG)
                if gone:
                    break
                if time.monotonic() > deadline:
                    self.dump(slot)
                    raise Wrong(f"worker in slot {slot} does not end")
                time.sleep(0.01)
            self.pids[slot] = 0
            # It may have died of a kill that was on its way.
            if status and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                raise Wrong(f"worker in slot {slot} ended badly: {describe(status)}")

    def clear(self):
        """Nobody of ours may be left, whatever happened."""
        for pid in self.pids:
            if pid:
                for number in (signal.SIGKILL, signal.SIGCONT):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, number)
        # Orphans come here: this process is their subreaper.
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def said(self):
        self.log.seek(0)
        return self.log.read()


def describe(status):
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
