"""What every part uses: interleaved rounds, medians and spreads of ratios, and a record as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"

Measure = Callable[[], float]
"""Runs once, and returns one sample: a cost (less is better) in the table's unit."""


def spread(samples: list[float]) -> dict[str, float]:
    """The median, and the quartiles as the spread."""
    if len(samples) < 2:
        return {"median": samples[0], "low": samples[0], "high": samples[0]}
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def percentile(samples: list[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


@dataclasses.dataclass
class Settings:
    rounds: int = 9
    sample: float = 0.03  # seconds that one sample takes, about
    quick: bool = False
    full: bool = False


class Samples:
    """What one table's variants took in each round."""

    def __init__(self, unit: str, samples: dict[str, list[float]]) -> None:
        self.unit = unit
        self.samples = samples

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, name: str, base: str) -> dict[str, float]:
        """Cost of `name` in costs of `base`: the median over the rounds of the ratios."""
        pairs = zip(self.samples[name], self.samples[base], strict=True)
        return spread([one / other for one, other in pairs])


class Bench:
    """One part's record. `settings` is what was asked for on the command line."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.tables: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self.began = time.monotonic()

    # ---- measuring

    def statement(self, code: str, setup: str = "pass", **names: Any) -> Measure:
        """Nanoseconds for one run of a statement, its share of the loop included."""
        timer = timeit.Timer(code, setup, globals=names)
        count = 1
        while (took := timer.timeit(count)) < 0.005:
            count *= 2
        count = max(1, round(count * self.settings.sample / took))
        return lambda: timer.timeit(count) / count * 1e9

    def timed(self, function: Callable[[], Any], per: int = 1, unit: float = 1e9) -> Measure:
        """Time for one call of a function, divided by `per`."""

        def measure() -> float:
            began = time.perf_counter()
            function()
            return (time.perf_counter() - began) * unit / per

        return measure

    def compare(
        self,
        title: str,
        variants: dict[str, Measure],
        *,
        base: str | None = None,
        unit: str = "ns",
        note: str = "",
        rounds: int | None = None,
    ) -> Samples:
        """Measure the variants in turn, round by round, each round beginning with another one.

        `base` is what the table gives ratios to.
        """
        names = list(variants)
        samples: dict[str, list[float]] = {name: [] for name in names}
        for name in names:  # once without counting: warm
            variants[name]()
        gc.collect()
        gc.disable()
        try:
            for number in range(rounds or self.settings.rounds):
                at = number % len(names)
                for name in names[at:] + names[:at]:
                    samples[name].append(variants[name]())
        finally:
            gc.enable()
        return self.compared(title, samples, base=base, unit=unit, note=note)

    def compared(
        self,
        title: str,
        samples: dict[str, list[float]],
        *,
        base: str | None = None,
        unit: str = "ns",
        note: str = "",
    ) -> Samples:
        """Record samples that were taken round by round: `samples[name][round]`."""
        found = Samples(unit, samples)
        base = base or next(iter(samples))
        rows = [
            {"name": name, **spread(taken), "ratio": found.ratio(name, base)}
            for name, taken in samples.items()
        ]
        self.tables.append(
            {
                "kind": "compare",
                "title": title,
                "unit": unit,
                "base": base,
                "note": note,
                "rows": rows,
                "samples": samples,
            }
        )
        self.say(title, [f"{r['name']}: {r['median']:.4g} {unit}" for r in rows])
        return found

    # ---- recording

    def table(self, title: str, columns: list[str], rows: list[list[Any]], note: str = "") -> None:
        """A table of another shape."""
        self.tables.append(
            {"kind": "rows", "title": title, "columns": columns, "rows": rows, "note": note}
        )
        self.say(title, ["; ".join(map(show, row)) for row in rows])

    def series(
        self,
        title: str,
        x: str,
        y: str,
        lines: dict[str, list[tuple[float, float]]],
        note: str = "",
    ) -> None:
        """How something grows with something."""
        self.tables.append(
            {"kind": "series", "title": title, "x": x, "y": y, "lines": lines, "note": note}
        )
        self.say(
            title,
            [
                f"{name}: " + ", ".join(f"{a:g} -> {b:.4g}" for a, b in points)
                for name, points in lines.items()
            ],
        )

    def target(self, what: str, measured: float, bound: float, *, least: bool = False) -> None:
        """What was asked for, and what is: at most `bound`, or at least."""
        met = measured >= bound if least else measured <= bound
        self.targets.append(
            {"what": what, "measured": measured, "bound": bound, "least": least, "met": met}
        )
        sign = "at least" if least else "at most"
        print(f"  {'met' if met else 'MISSED'}: {what}: {measured:.4g}, {sign} {bound:g}")

    def skip(self, peer: str, reason: str) -> None:
        """A peer that cannot run."""
        self.skipped.append({"peer": peer, "reason": reason})
        print(f"  left out: {peer}: {reason}")

    @contextlib.contextmanager
    def peer(self, name: str) -> Iterator[None]:
        """Whatever goes wrong in here is the reason why this peer is left out."""
        try:
            yield
        except Exception as error:
            self.skip(name, f"{type(error).__name__}: {error}".splitlines()[0])

    def say(self, title: str, lines: list[str]) -> None:
        print(f"  {title}")
        for line in lines:
            print(f"      {line}", flush=True)

    def record(self) -> dict[str, Any]:
        return {
            "part": self.name,
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
            "commit": commit(),
            "machine": machine(),
            "seconds": round(time.monotonic() - self.began, 1),
            "settings": dataclasses.asdict(self.settings),
            "targets": self.targets,
            "skipped": self.skipped,
            "tables": self.tables,
        }


def show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ---- where it ran


def commit() -> str:
    """Of the working tree, with a plus if it has changes; empty outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine() -> dict[str, Any]:
    """What the figures depend on, without the machine's name."""
    model = "unknown"
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        names = (line.partition(":")[2] for line in file if line.startswith("model name"))
        model = next(names, model).strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"Linux {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


# ---- the core's programs


def build_core() -> Path:
    """The core as a static library, optimised as in a wheel; the folder it is in."""
    folder = BUILD / "library"
    if not (folder / "build.ninja").exists():
        # A warning of an optimiser is no reason not to measure.
        options = (
            "-Dpython=false",
            "-Dbuildtype=release",
            "-Dc_args=-Wno-error=maybe-uninitialized",
        )
        run("meson", "setup", folder, *options, cwd=ROOT)
    run("ninja", "-C", folder)
    return folder


def build_program(name: str, *flags: str) -> Path:
    """Compile benchmarks/native/NAME.c; the program."""
    program = BUILD / name
    BUILD.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).parent / "native" / f"{name}.c"
    run("cc", "-O2", "-g", "-std=gnu11", "-Wall", source, "-o", program, "-pthread", *flags)
    return program


def build_with_core(name: str) -> Path:
    library = build_core() / "core" / "libflagstone-core.a"
    return build_program(name, f"-I{ROOT / 'core' / 'include'}", str(library))


def run(*command: Any, **options: Any) -> str:
    """Run a program; what it printed. RuntimeError with what it said when it fails."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, **options
    )
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise RuntimeError(f"{command[0]} failed: {said[-1] if said else result.returncode}")
    return result.stdout


def run_json(*command: Any, **options: Any) -> Any:
    return json.loads(run(*command, **options))
