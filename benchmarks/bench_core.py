"""The core from C: pairs beside other allocators, sections and grace periods beside liburcu."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Samples, build_program, build_with_core, run_json

ALLOCATORS = {
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
    "jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
}
PAIRS = ("64 B", "4 KiB", "64 B, 256 then 256", "4 KiB, 256 then 256")


def run(bench: Bench) -> None:
    program = build_with_core("core")
    libraries: dict[str, str] = {"glibc": ""}
    for name, (library, package) in ALLOCATORS.items():
        path = find_library(library)
        if path:
            libraries[name] = path
        else:
            bench.skip(name, f"{library} is not installed (Debian's package {package})")
    for threads in (1, 2):
        pairs(bench, program, libraries, threads)
    sections(bench, program)


def find_library(name: str) -> str:
    folders = [
        Path("/usr/lib"),
        Path("/lib"),
        Path("/usr/local/lib"),
        *Path("/usr/lib").glob("*-gnu"),
    ]
    return next((str(folder / name) for folder in folders if (folder / name).exists()), "")


class Program:
    """A program that prints several figures in one run."""

    def __init__(self, *command: Any, preload: str = "") -> None:
        self.command = command
        self.environment = os.environ | ({"LD_PRELOAD": preload} if preload else {})

    def __call__(self) -> dict[str, float]:
        found: dict[str, float] = run_json(*self.command, env=self.environment)
        return found


def tables(
    bench: Bench, programs: dict[str, Program], titles: dict[str, str], base: str | None = None
) -> dict[str, Samples]:
    """Run the programs in turn, round by round; a table for each figure."""
    samples: dict[str, dict[str, list[float]]] = {figure: {} for figure in titles}
    order = list(programs)
    for number in range(bench.settings.rounds):
        at = number % len(order)
        for name in order[at:] + order[:at]:
            found = programs[name]()
            for figure in titles:
                if figure in found:
                    samples[figure].setdefault(name, []).append(found[figure])
    return {
        figure: bench.compared(title, samples[figure], base=base)
        for figure, title in titles.items()
    }


def pairs(bench: Bench, program: Path, libraries: dict[str, str], threads: int) -> None:
    seconds = bench.settings.sample * 2
    programs = {"flagstone": Program(program, "flagstone", threads, seconds)}
    for name, library in libraries.items():
        programs[name] = Program(program, "malloc", threads, seconds, preload=library)
    base = "tcmalloc" if "tcmalloc" in programs else "glibc"
    many = "one thread" if threads == 1 else f"{threads} threads"
    titles = {name: f"allocate and free {name}, {many}" for name in PAIRS}
    found = tables(bench, programs, titles, base)
    for name, samples in found.items():
        for peer, bound in (("tcmalloc", 2.0), ("glibc", 1.0), ("mimalloc", 1.0)):
            if peer in programs:
                ratio = samples.ratio("flagstone", peer)["median"]
                bench.target(f"{name}, {many}, in {peer}", ratio, bound)


def sections(bench: Bench, program: Path) -> None:
    seconds = bench.settings.sample * 2
    programs = {"flagstone": Program(program, "flagstone", 1, seconds)}
    with bench.peer("liburcu"):
        urcu = build_program("urcu", "-lurcu")
        programs["liburcu memb"] = Program(urcu, seconds)
    bounds = {
        "section": 5.0,
        "synchronize, idle": 5_000.0,
        "synchronize, short sections": 20_000.0,
        "synchronize, 1 ms sections": 0.0,
        "1,000 shared drops and a barrier": 300_000.0,
        "1,000 shared drops and a barrier, 1 ms sections": 0.0,
    }
    found = tables(bench, programs, {name: name for name in bounds})
    for name, bound in bounds.items():
        if bound:
            bench.target(f"{name}, ns", found[name].median("flagstone"), bound)
