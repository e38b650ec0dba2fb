"""`python -m benchmarks`: run the parts, each in a process of its own, and write the report."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import ROOT, Bench, Settings
from benchmarks.peers import without_leftovers

# In the order of the report.
PARTS = (
    "calls",
    "alloc",
    "array",
    "core",
    "resolve",
    "store",
    "channel",
    "batch",
    "handover",
    "share",
    "arrow",
    "joblib",
    "dask",
    "ray",
    "torch",
    "shared_memory",
    "teardown",
    "memory",
    "fork",
    "scale",
    "watch",
    "debug",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--full", action="store_true", help="the largest sizes too: many minutes")
    parser.add_argument("--quick", action="store_true", help="small settings, to try the programs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--report-only", action="store_true", help="from the JSON that is there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_one(options: argparse.Namespace) -> None:
    """Run one part in this process, and write its JSON."""
    settings = Settings(options.rounds, quick=options.quick, full=options.full)
    if options.quick:
        settings.rounds, settings.sample = min(3, options.rounds), 0.005
    bench = Bench(options.one, settings)
    importlib.import_module(f"benchmarks.bench_{options.one}").run(bench)
    file = options.out / f"{options.one}.json"
    file.write_text(json.dumps(bench.record(), indent=1) + "\n")


def main() -> int:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        run_one(options)
        return 0
    chosen = options.only.replace(",", " ").split() or list(PARTS)
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    failed = []
    for part in PARTS if not options.report_only else ():
        if part not in chosen:
            continue
        print(f"== {part}", flush=True)
        # A process of its own: no part finds the leftovers of another one's memory or threads.
        command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--one", part]
        with without_leftovers("iox2_*"):
            if subprocess.run(command, cwd=ROOT).returncode:
                failed.append(part)
    from benchmarks.report import write_report

    write_report(options.out, PARTS)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
