"""What the watched notice of `flagstone top`: 1,000 groups, 64 processes, one refresh a second."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import flagstone
from benchmarks.harness import Bench
from flagstone.observer import Observer

GROUPS, PROCESSES, BLOCKS = 1000, 63, 1000
OTHER = """
import flagstone, sys
arena = flagstone.open(sys.argv[1])
blocks = [arena.put(b"x" * 1000) for _ in range(int(sys.argv[2]))]
print(flush=True)
sys.stdin.read()
"""

LOOKS = """
import sys
from flagstone.observer import Observer
with Observer(sys.argv[1]) as observer:
    observer.look()
    print(flush=True)
    while True:
        observer.look()
"""


def run(bench: Bench) -> None:
    """A look by itself; then a watched program beside a top that runs and one that is stopped, in
    turn, each on a processor of its own where there are two.
    """
    quick = bench.settings.quick
    name = f"watched-{os.getpid()}"
    with ExitStack() as stack:
        arena = stack.enter_context(flagstone.open(name, capacity="512MiB"))
        cache = arena.cache("c", size=256)
        groups = [arena.group(f"g{number}", limit="1MiB") for number in range(GROUPS)]
        blocks = [cache.alloc(group=group) for group in groups]
        stack.callback(blocks.clear)
        for _ in range(3 if quick else PROCESSES):
            stack.enter_context(_other(name))
        with Observer(arena) as observer:
            look = bench.compare(
                "a look",
                {
                    "a snapshot": lambda: 1e3 * observer.look().seconds,
                    "with who uses what": lambda: 1e3 * observer.look(uses=True).seconds,
                },
                base="a snapshot",
                unit="ms of CPU time",
                note=f"{GROUPS} groups, {PROCESSES + 1} processes of {BLOCKS} references.",
            )
        bench.target("a look, ms of CPU time", look.median("with who uses what"), 20)
        looking = stack.enter_context(_looks(name))

        # A look is some hundredths of the time, so what it takes of the watched is lost in what
        # else runs. Looks without a pause show it, and one a second is so much of that.
        table = bench.compare(
            "allocate and drop beside looks without a pause",
            {
                "nobody looks": lambda: _pair_after(signal.SIGSTOP, looking, cache, 0.1),
                "looks all the time": lambda: _pair_after(signal.SIGCONT, looking, cache, 0.1),
            },
            base="nobody looks",
            note="CPU time of the watched program, a tenth of a second each, in turn.",
            rounds=5 if quick else 20 * bench.settings.rounds,
        )
        os.kill(looking, signal.SIGSTOP)
        slower = table.ratio("looks all the time", "nobody looks")["median"] - 1
        cost = 100 * slower * look.median("a snapshot") / 1e3
        bench.target("one look a second costs who allocates, percent", max(0.0, cost), 1)
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) > 1:
            os.sched_setaffinity(0, processors[:1])
            stack.callback(os.sched_setaffinity, 0, processors)
        pid = stack.enter_context(_top(name, processors[-1:]))
        time.sleep(5)  # it starts

        table = bench.compare(
            "allocate and drop beside a top",
            {
                "top stopped": lambda: _pair_after(signal.SIGSTOP, pid, cache, 1.5),
                "top running": lambda: _pair_after(signal.SIGCONT, pid, cache, 1.5),
            },
            base="top stopped",
            note="CPU time of the watched program; a stop and a run in turn.",
            rounds=3 if quick else 3 * bench.settings.rounds,
        )
        os.kill(pid, signal.SIGCONT)
        slower = table.ratio("top running", "top stopped")["median"]
        bench.target("allocate and drop while top runs, against alone", slower, 1.01)
        # Not while it is stopped now and then: whenever it goes on, a refresh is due.
        time.sleep(2)
        spent, began = _spent(pid), time.monotonic()
        time.sleep(5 if quick else 30)
        used = (_spent(pid) - spent) / (time.monotonic() - began)
        bench.target("top's share of the processors, percent", 100 * used / len(processors), 1)


def _pair(cache: Any, seconds: float) -> float:
    """Nanoseconds of this thread's CPU time for an allocation and its drop: what top takes of the
    caches and locks, whoever else wants the processor.
    """
    alloc = cache.bind().alloc
    done, began, end = 0, time.thread_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(1000):
            alloc()
        done += 1000
    return 1e9 * (time.thread_time() - began) / done


def _pair_after(sign: signal.Signals, pid: int, cache: Any, seconds: float) -> float:
    """The same, once a process that looks was told to stop or to go on."""
    os.kill(pid, sign)
    return _pair(cache, seconds)


def _spent(pid: int) -> float:
    """CPU seconds of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _other(name: str) -> Iterator[None]:
    command = [sys.executable, "-c", OTHER, name, str(BLOCKS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdin is not None
        one.stdout.readline()
        yield
        one.stdin.close()


@contextmanager
def _looks(name: str) -> Iterator[int]:
    """A process that looks at the arena as `flagstone top` does, again and again."""
    command = [sys.executable, "-c", LOOKS, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        try:
            yield one.pid
        finally:
            one.send_signal(signal.SIGCONT)
            one.terminate()


@contextmanager
def _top(name: str, processors: list[int]) -> Iterator[int]:
    """`flagstone top` in a terminal of 120 columns and 40 lines, which nobody looks at."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "flagstone", "top", name]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=environment) as top:
        os.close(inner)
        os.sched_setaffinity(top.pid, processors)
        threading.Thread(target=_read_all, args=(outer,), daemon=True).start()
        try:
            yield top.pid
        finally:
            top.send_signal(signal.SIGCONT)
            top.terminate()
            top.wait()
            os.close(outer)


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 65536):
            pass
    except OSError:  # its other end was closed
        pass
