"""What came out of the demo, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from flagstone.demo.pipeline import PipelineResult
from flagstone.sizes import exact_size, many


@dataclass(slots=True)
class ArenaFacts:
    """What happened in the arena, and what is left of it.

    Attributes:
        objects: that readers stored, those of killed workers that were stored in full included.
        released_objects: that batches released (what was never shared is freed without one).
        released_bytes: that batches released.
        groups: that came and went, one for each time a file was handed out.
        batches: that gave memory back.
        grace_periods: that they waited for.
        deaths: processes that ended without leaving, as the arena noticed.
        peak: the most bytes that were in use.
        left_bytes: used after everything had ended; has to be 0.
        left_objects: allocated then; has to be 0.
        left_in_flight: in-flight references then; has to be 0.
        left_processes: pids that still have the arena, besides the parent; has to be empty.
        left_files: files in /dev/shm after the arena was closed.
        findings: of `Arena.check()`, after everything had ended.
    """

    objects: int = 0
    released_objects: int = 0
    released_bytes: int = 0
    groups: int = 0
    batches: int = 0
    grace_periods: int = 0
    deaths: int = 0
    peak: int = 0
    left_bytes: int = 0
    left_objects: int = 0
    left_in_flight: int = 0
    left_processes: list[int] = field(default_factory=list)
    left_files: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def groups_per_grace_period(self) -> float:
        """Groups (each with a cache of its own) that were released by one grace period."""
        return self.groups / self.grace_periods if self.grace_periods else 0.0


@dataclass(slots=True)
class DemoReport:
    """Everything the summary shows.

    Attributes:
        folder: whose files were moved.
        seed: of the random moments and the order.
        readers: reader processes.
        hashers: hasher processes.
        files: that the parent read and that were compared.
        bytes: in them.
        reading_seconds: that the parent's own reading took.
        flagstone: the pipeline over an arena, with the kills.
        peers: the same pipeline over other transports, without kills.
        arena: what happened in the arena.
        kills_planned: workers that were to be killed.
        skipped: files left out, by reason.
        skipped_examples: a few paths for each reason.
        other_problems: what kept a peer from finishing; not Flagstone's doing.
    """

    folder: str
    seed: int
    readers: int
    hashers: int
    files: int
    bytes: int
    reading_seconds: float
    flagstone: PipelineResult
    peers: list[PipelineResult]
    arena: ArenaFacts
    kills_planned: int
    skipped: dict[str, int]
    skipped_examples: dict[str, list[str]]
    other_problems: list[str]

    @property
    def kills_survived(self) -> int:
        """Workers that were killed, and whose work was done again."""
        return sum(self.flagstone.killed.values())

    @property
    def differing(self) -> list[str]:
        """Files with a digest other than the parent's, over any transport."""
        pipelines = [self.flagstone, *self.peers]
        return sorted({path for pipeline in pipelines for path in pipeline.differing})

    @property
    def problems(self) -> list[str]:
        """Why the demo failed, in sentences; empty when it did not."""
        arena = self.arena
        found = [f"{path}: another digest than the parent's" for path in self.differing]
        found += self.flagstone.problems
        for peer in self.peers:
            found += [f"{peer.label}: {problem}" for problem in peer.problems]
        if self.kills_survived != self.kills_planned:
            found.append(f"{self.kills_survived} of {many(self.kills_planned, 'kill')} took place")
        if arena.left_bytes:
            found.append(f"{exact_size(arena.left_bytes)} of the arena are still in use")
        if arena.left_objects:
            found.append(f"{many(arena.left_objects, 'object is', 'objects are')} still allocated")
        if arena.left_in_flight:
            found.append(
                f"{many(arena.left_in_flight, 'reference is', 'references are')} still in flight"
            )
        found += [f"process {pid} still has the arena" for pid in arena.left_processes]
        found += [f"{path} was left behind" for path in arena.left_files]
        found += [f"check: {finding}" for finding in arena.findings]
        return found

    @property
    def passed(self) -> bool:
        """The verdict."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: the fields, and what follows from them."""
        facts = asdict(self)
        for pipeline, shown in zip(
            [self.flagstone, *self.peers], [facts["flagstone"], *facts["peers"]], strict=True
        ):
            shown["mb_per_second"] = round(pipeline.megabytes_per_second, 1)
        facts["arena"]["groups_per_grace_period"] = round(self.arena.groups_per_grace_period, 1)
        facts["kills_survived"] = self.kills_survived
        facts["differing"] = self.differing
        facts["problems"] = self.problems
        facts["passed"] = self.passed
        return facts
