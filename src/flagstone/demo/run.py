"""The whole demo: the parent's own reading, three runs of the pipeline, and what is left over."""

from __future__ import annotations

import os
import random
import secrets
import sysconfig
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import flagstone
from flagstone.demo.arena import FlagstoneArena
from flagstone.demo.files import Reference, Skip, Skipped, find_files, read_reference
from flagstone.demo.pickled import PickledBytes
from flagstone.demo.pipeline import (
    NobodyListens,
    Pipeline,
    PipelineBroken,
    PipelineResult,
    Progress,
    plan_kills,
)
from flagstone.demo.report import ArenaFacts, DemoReport
from flagstone.demo.segments import SharedMemorySegments
from flagstone.demo.transport import SHARED_MEMORY_FOLDER, Transport, files_named
from flagstone.sizes import many

_NOT_OURS: Final = frozenset({"site-packages", "dist-packages"})
"""Folders in the standard library's that hold what was installed beside it."""

_BUDGET: Final = 256 << 20
"""Bytes in workers' hands at most, over each transport."""

_BARRIER_SECONDS: Final = 30.0


class NothingToDo(Exception):
    """The folder holds no file that can be read, or is none."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What can be chosen.

    Attributes:
        folder: whose files to move; None for Python's standard library (without what was installed
            beside it).
        readers: reader processes, at least 1.
        hashers: hasher processes, at least 1.
        kills: readers to kill, and as many hashers.
        seed: of the order of files and the moments of the kills; None for a new one.
        capacity: of the arena, in bytes.
        peers: run the other transports too.
    """

    folder: str | None = None
    readers: int = 2
    hashers: int = 2
    kills: int = 1
    seed: int | None = None
    capacity: int = 1 << 30
    peers: bool = True


def run_demo(options: DemoOptions, progress: Progress | None = None) -> DemoReport:
    """Run it, and leave nothing behind, however it ends.

    Raises:
        NothingToDo: no folder, or no file in it that can be read.
        PipelineBroken: workers die one after another over Flagstone.
        flagstone.FlagstoneError, OSError: the arena cannot be made.
    """
    progress = progress or NobodyListens()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    rng = random.Random(seed)
    tag = f"flagstone-demo-{os.getpid()}-{secrets.token_hex(3)}"
    skipped = Skipped()
    room = min(options.capacity, _shared_memory_free())
    folder, paths = _choose_files(options, skipped)
    # Large and small files mixed, as in real work; the same order for every transport.
    rng.shuffle(paths)

    began = perf_counter()
    references = _read_everything(paths, room * 9 // 10, skipped, progress)
    reading_seconds = perf_counter() - began
    if not references:
        raise NothingToDo(f"{folder}: none of its {many(len(paths), 'file')} can be read")
    files, nbytes = len(references), sum(one.size for one in references.values())

    def run(transport: Transport, kills: int) -> PipelineResult:
        tasks = len(references)
        left = sum(one.size for one in references.values())
        progress.phase(transport.label, tasks, left)
        return Pipeline(
            transport,
            references,
            skipped,
            readers=options.readers,
            hashers=options.hashers,
            budget=min(_BUDGET, room // 2),
            kills=plan_kills(rng, kills, tasks),
            progress=progress,
        ).run()

    peers: list[PipelineResult] = []
    other_problems: list[str] = []
    if options.peers:
        for transport in (PickledBytes(), SharedMemorySegments(tag)):
            try:
                peers.append(run(transport, kills=0))
                left = transport.left_over()
                other_problems += [f"{transport.label} left {path}" for path in left]
            except PipelineBroken as error:
                # A full /dev/shm kills its users with SIGBUS, for example: no fault of Flagstone's.
                other_problems.append(f"{transport.label}: {error}")
            finally:
                transport.clean_up()

    arena_facts = ArenaFacts()
    try:
        with flagstone.open(tag, capacity=options.capacity, create=True) as arena:
            groups = FlagstoneArena(arena)
            result = run(groups, kills=options.kills)
            arena_facts.objects = result.stored
            arena_facts.groups = groups.ended
            _look_at(arena, arena_facts)
        arena_facts.left_files = files_named(tag)
    finally:
        # After an interruption that the whole process group got, workers that are just dying may
        # be there a moment longer than this process: then nobody was the last one to leave.
        flagstone.unlink(tag)

    return DemoReport(
        folder=folder,
        seed=seed,
        readers=options.readers,
        hashers=options.hashers,
        files=files,
        bytes=nbytes,
        reading_seconds=reading_seconds,
        flagstone=result,
        peers=peers,
        arena=arena_facts,
        kills_planned=2 * options.kills,
        skipped={reason.value: count for reason, count in skipped.counts.items()},
        skipped_examples={reason.value: paths for reason, paths in skipped.examples.items()},
        other_problems=other_problems,
    )


def _choose_files(options: DemoOptions, skipped: Skipped) -> tuple[str, list[str]]:
    if options.folder is None:
        folder = sysconfig.get_path("stdlib")
        leave_out = _NOT_OURS
    else:
        folder = os.path.realpath(options.folder)
        leave_out = frozenset()
    if not os.path.isdir(folder):
        raise NothingToDo(f"{folder}: no such folder")
    paths = find_files(folder, leave_out, skipped)
    if not paths:
        raise NothingToDo(f"{folder}: there is no regular file in it")
    return folder, paths


def _read_everything(
    paths: list[str], largest: int, skipped: Skipped, progress: Progress
) -> dict[int, Reference]:
    progress.phase("the parent's own reading", len(paths), 0)
    references: dict[int, Reference] = {}
    for index, path in enumerate(paths):
        reference = read_reference(path, largest)
        if isinstance(reference, Skip):
            skipped.add(reference, path)
            progress.advance(1, 0)
        else:
            references[index] = reference
            progress.advance(1, reference.size)
    return references


def _look_at(arena: flagstone.Arena, facts: ArenaFacts) -> None:
    """What happened in the arena, once everything that has ended is released."""
    arena.barrier(_BARRIER_SECONDS)
    now = arena.snapshot()
    facts.released_objects = now.released_objects
    facts.released_bytes = now.released_bytes
    facts.batches = now.batches
    facts.grace_periods = now.grace_periods
    facts.deaths = now.deaths
    facts.peak = now.groups[0].peak
    facts.left_bytes = now.used
    facts.left_objects = sum(cache.stats.allocated for cache in now.caches)
    facts.left_in_flight = len(now.in_flight)
    facts.left_processes = [one.pid for one in now.processes if not one.is_self]
    facts.findings = [str(finding) for finding in arena.check()]


def _shared_memory_free() -> int:
    try:
        status = os.statvfs(SHARED_MEMORY_FOLDER)
    except OSError:
        return 1 << 62
    return status.f_bavail * status.f_frsize
