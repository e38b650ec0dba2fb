"""The pipeline: files go to readers, what they stored to hashers, and some workers get killed.

A file is a `Job` that is in one place at a time:

    pending ──> a reader's hands ──> stored ──> a hasher's hands ──> settled
       ^               │ killed                        │ killed
       └───────────────┴───────────────────────────────┘   lost work is done again

The parent is one thread in one loop. It blocks in three places: waiting for any worker to say
something, receiving a message that has begun to arrive, and sending to a hasher. None of them can
wait for a dead process (its end of the pipe is closed), and no worker waits for the parent to read
before it reads itself, except a reader, to whom only small tasks are sent that the pipe holds.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Final, Protocol

from flagstone.demo import workers
from flagstone.demo.files import Reference, Skip, Skipped, read_reference
from flagstone.demo.transport import Transport
from flagstone.demo.workers import Failure
from flagstone.sizes import many

WINDOW: Final = 8
"""Files in one worker's hands: enough that it need not wait for the parent, few enough that a kill
loses little.
"""

_TRIES: Final = 4
"""How often a file is read again that changes all the time, or cannot be read by the reader but by
the parent.
"""

_DEATHS: Final = 10
"""Workers that may die without having been killed by the demo before it gives up."""

_STOP_SECONDS: Final = 10.0

_SILENCE_SECONDS: Final = 120.0
"""After so long without a word from any worker the demo gives up (somebody may have stopped them).
"""


class Progress(Protocol):
    """Hears how the demo goes on."""

    def phase(self, label: str, files: int, nbytes: int) -> None:
        """A new phase begins, with so much to do."""

    def advance(self, files: int, nbytes: int) -> None:
        """So much more of it is done."""

    def killed(self, role: str) -> None:
        """A worker was killed on purpose."""


class NobodyListens:
    """The progress of a demo that is run without anybody watching."""

    def phase(self, label: str, files: int, nbytes: int) -> None:
        """Ignored."""

    def advance(self, files: int, nbytes: int) -> None:
        """Ignored."""

    def killed(self, role: str) -> None:
        """Ignored."""


@dataclass(slots=True)
class PipelineResult:
    """What one run of the pipeline did."""

    label: str
    seconds: float = 0.0
    """From the first task to the last digest; workers had started before."""
    files: int = 0
    bytes: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    """Workers killed on purpose, and replaced, by role."""
    stored: int = 0
    """Files that a reader stored; more than `files` when work was lost."""
    redone: int = 0
    """Files that were in the hands of a killed worker."""
    deaths: int = 0
    """Workers that died by themselves."""
    differing: list[str] = field(default_factory=list)
    """Files whose digest is not that of the parent's own reading."""
    problems: list[str] = field(default_factory=list)
    """What else went wrong, in sentences."""

    @property
    def megabytes_per_second(self) -> float:
        """Millions of bytes a second."""
        return self.bytes / self.seconds / 1e6 if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One worker to kill: when a role has been given `after` tasks, and `delay` seconds later, the
    one with the most files in hand.
    """

    role: str
    after: int
    delay: float


def plan_kills(rng: random.Random, each: int, tasks: int) -> list[Kill]:
    """`each` readers and as many hashers, at random moments of a run with so many files."""
    return [
        Kill(role, rng.randint(1, tasks), rng.uniform(0, 0.003))
        for role in ("reader", "hasher")
        for _ in range(each)
    ]


@dataclass(slots=True, eq=False)
class _Job:
    index: int
    reference: Reference
    tries: int = 0
    charged: int = 0
    """Bytes it takes of the budget at the moment; a changed file has another size by then."""

    @property
    def size(self) -> int:
        return self.reference.size


@dataclass(slots=True, eq=False)
class _Worker:
    role: str
    process: BaseProcess
    pipe: Connection
    jobs: deque[_Job] = field(default_factory=deque)
    ready: bool = False
    killed: bool = False


class PipelineBroken(Exception):
    """Workers die one after another, or say nothing: the pipeline gave up."""


def _server_of_workers() -> ForkServerContext:
    """Start the server that forks workers: quicker than spawning them, and they inherit no thread,
    lock or pipe of this process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([workers.__name__])
    # Ctrl-C reaches every process of the terminal, and the parent decides what it means. Blocked
    # while the server starts, it is so in the server and all workers from their first instruction.
    # (The resource tracker comes first, because starting it unblocks the signal.)
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


class Pipeline:
    """One run over one transport.

    Args:
        transport: what travels.
        references: the parent's own readings by number; files found to have changed are read again,
            files found to be gone are taken out and added to `skipped`.
        skipped: see there.
        readers: reader processes.
        hashers: hasher processes.
        budget: bytes in workers' hands at any time (one larger file goes alone).
        kills: whom to kill.
        progress: hears of each file.
    """

    def __init__(
        self,
        transport: Transport,
        references: dict[int, Reference],
        skipped: Skipped,
        *,
        readers: int,
        hashers: int,
        budget: int,
        kills: Iterable[Kill] = (),
        progress: Progress | None = None,
    ) -> None:
        self._transport = transport
        self._references = references
        self._skipped = skipped
        self._counts = {"reader": readers, "hasher": hashers}
        self._budget = budget
        self._progress = progress or NobodyListens()
        self._kills = sorted(kills, key=lambda kill: kill.after)
        self._given = {"reader": 0, "hasher": 0}
        self._doomed: list[tuple[float, str]] = []
        """When to kill a worker of which role."""

        self._workers: list[_Worker] = []
        self._pending = deque(_Job(index, reference) for index, reference in references.items())
        self._stored: deque[tuple[_Job, bytes]] = deque()
        self._open = len(self._pending)
        self._flying = 0
        """Bytes in files that are neither pending nor settled."""

        self.result = PipelineResult(transport.label)

    def run(self) -> PipelineResult:
        """Move every file, and stop all workers.

        Raises:
            PipelineBroken: workers die one after another, or say nothing.
        """
        self._context = _server_of_workers()
        try:
            for role, count in self._counts.items():
                for _ in range(count):
                    self._start(role)
            while not all(worker.ready for worker in self._workers):
                self._listen()
            began = self._ended = time.perf_counter()
            while self._open or self._doomed or any(worker.killed for worker in self._workers):
                self._kill_the_doomed()
                self._hand_out()
                self._listen()
            self.result.seconds = self._ended - began
        except BaseException:
            self._stop(patience=2.0)
            raise
        self._stop(_STOP_SECONDS)
        return self.result

    # ---- workers

    def _start(self, role: str) -> None:
        mine, theirs = multiprocessing.Pipe()
        process = self._context.Process(
            target=workers.reader if role == "reader" else workers.hasher,
            args=(theirs, self._transport.endpoint(role)),
            name=f"flagstone-demo-{role}",
            daemon=True,
        )
        process.start()
        # The worker's end must be open in the worker alone, or its death would not end the pipe.
        theirs.close()
        self._workers.append(_Worker(role, process, mine))

    def _kill_the_doomed(self) -> None:
        now = time.monotonic()
        for doom in [doom for doom in self._doomed if doom[0] <= now]:
            role = doom[1]
            living = [one for one in self._workers if one.role == role and not one.killed]
            worker = max(living, key=lambda one: len(one.jobs), default=None)
            if worker is None or (self._open and not worker.jobs):
                continue  # soon: nobody is there, or nobody has anything to lose
            self._doomed.remove(doom)
            worker.killed = True
            assert worker.process.pid is not None
            os.kill(worker.process.pid, signal.SIGKILL)
            self._progress.killed(role)

    def _bury(self, worker: _Worker) -> None:
        """A worker's pipe has ended: its work is lost, and somebody else takes its place."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join()
        result = self.result
        if worker.killed:
            result.killed[worker.role] = result.killed.get(worker.role, 0) + 1
        else:
            result.deaths += 1
            result.problems.append(
                f"a {worker.role} ended by itself (exit code {worker.process.exitcode})"
            )
        result.redone += len(worker.jobs)
        for job in reversed(worker.jobs):
            self._transport.lost(job.index)
            self._again(job)
        if result.deaths > _DEATHS:
            raise PipelineBroken(f"{many(result.deaths, 'worker')} ended by themselves")
        if self._open or self._doomed:
            self._start(worker.role)

    def _stop(self, patience: float) -> None:
        # The end of its pipe ends a worker, after the file it has in hand.
        for worker in self._workers:
            worker.pipe.close()
        deadline = time.monotonic() + patience
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
                self.result.problems.append(f"a {worker.role} did not end by itself")
        self._workers.clear()

    # ---- work

    def _hand_out(self) -> None:
        while self._pending and (reader := self._free("reader")):
            job = self._pending[0]
            if self._flying and self._flying + job.size > self._budget:
                break
            self._pending.popleft()
            job.charged = job.size
            self._flying += job.charged
            place = self._transport.begin(job.index)
            self._give(reader, job, pickle.dumps((job.reference.path, place)))
        while self._stored and (hasher := self._free("hasher")):
            self._give(hasher, *self._stored.popleft())

    def _free(self, role: str) -> _Worker | None:
        """The worker with the fewest files in hand that can take one more."""
        able = [
            worker
            for worker in self._workers
            if worker.role == role
            and worker.ready
            and not worker.killed
            and len(worker.jobs) < WINDOW
        ]
        return min(able, key=lambda worker: len(worker.jobs), default=None)

    def _give(self, worker: _Worker, job: _Job, message: bytes) -> None:
        worker.jobs.append(job)
        try:
            worker.pipe.send_bytes(message)
        except OSError:
            pass  # it is dead; the end of its pipe is about to say so, and the job is in its hands
        self._given[worker.role] += 1
        for kill in self._kills:
            if kill.role == worker.role and kill.after <= self._given[worker.role]:
                self._kills.remove(kill)
                self._doomed.append((time.monotonic() + kill.delay, kill.role))
                break

    def _listen(self) -> None:
        """Wait until somebody speaks, or is due to be killed, and hear everybody who spoke."""
        timeout = _SILENCE_SECONDS
        if self._doomed:
            timeout = max(0.0005, min(self._doomed)[0] - time.monotonic())
        by_pipe = {worker.pipe: worker for worker in self._workers}
        speaking = wait(list(by_pipe), timeout)
        if not speaking and not self._doomed:
            raise PipelineBroken(f"no worker has said anything for {timeout:.0f} s")
        for pipe in speaking:
            assert isinstance(pipe, Connection)
            worker = by_pipe[pipe]
            try:
                message = pipe.recv_bytes()
            except (EOFError, OSError):
                # OSError: it was killed in the middle of a message.
                self._bury(worker)
                continue
            self._hear(worker, message)

    def _hear(self, worker: _Worker, message: bytes) -> None:
        kind = message[:1]
        if kind == workers.READY:
            worker.ready = True
            return
        job = worker.jobs.popleft()
        if kind == workers.STORED:
            self.result.stored += 1
            self._stored.append((job, message))
        elif kind == workers.DIGEST:
            self._transport.end(job.index)
            self._compare(job, message[1:])
        else:
            self._transport.end(job.index)
            failure, text = pickle.loads(message[1:])
            self._failed(job, failure, text)

    def _compare(self, job: _Job, digest: bytes) -> None:
        if digest == job.reference.digest:
            self._settle(job)
            return
        # Either the file has changed since the parent read it, or something is wrong.
        now = self._read_again(job)
        if now is None:
            return
        before, job.reference = job.reference, now
        if digest == now.digest:
            self._settle(job)
        elif now.signature != before.signature:
            self._retry(job)
        else:
            self.result.differing.append(job.reference.path)
            self._settle(job)

    def _failed(self, job: _Job, failure: Failure, text: str) -> None:
        path = job.reference.path
        if failure in (Failure.CHANGED, Failure.READING):
            now = self._read_again(job)
            if now is None:
                return
            job.reference = now
            if failure is Failure.READING and job.tries >= _TRIES:
                self._problem(job, f"{path}: the parent can read it, a reader cannot: {text}")
            else:
                self._retry(job)
        elif failure is Failure.MEMORY and job.size > self._budget:
            self._leave_out(job, Skip.TOO_LARGE)
        else:
            self._problem(job, f"{path}: {failure.value}: {text}")

    def _read_again(self, job: _Job) -> Reference | None:
        """The parent's new reading of a file; None if there is none: the job is settled then."""
        now = read_reference(job.reference.path, largest=1 << 62)
        if isinstance(now, Skip):
            self._leave_out(job, now)
            return None
        self._references[job.index] = now
        return now

    # ---- the ways a job goes on from a worker's hands

    def _again(self, job: _Job) -> None:
        self._flying -= job.charged
        self._pending.appendleft(job)

    def _retry(self, job: _Job) -> None:
        job.tries += 1
        if job.tries > _TRIES:
            self._leave_out(job, Skip.CHANGING)
        else:
            self._again(job)

    def _settle(self, job: _Job) -> None:
        self.result.files += 1
        self.result.bytes += job.size
        self._close(job)

    def _leave_out(self, job: _Job, reason: Skip) -> None:
        self._references.pop(job.index, None)
        self._skipped.add(reason, job.reference.path)
        self._close(job)

    def _problem(self, job: _Job, text: str) -> None:
        self.result.problems.append(text)
        self._close(job)

    def _close(self, job: _Job) -> None:
        self._flying -= job.charged
        self._open -= 1
        self._ended = time.perf_counter()
        self._progress.advance(1, job.size)
