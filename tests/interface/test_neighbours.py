"""Tests see nothing of what else runs on the machine: two runs at once, beside a busy neighbour."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

FEW = (
    "tests/unit/test_package.py",
    "tests/interface/test_cli.py::TestGc",
    "tests/interface/test_cli.py::TestLs",
    "tests/interface/test_demo.py::TestPipeline::test_survives_kills",
    "tests/process/test_attach.py::test_what_a_killed_process_left_is_removed_by_the_next_open",
    "tests/process/test_death.py::TestFiles::test_a_crash_loop_leaves_nothing",
)


def test_two_runs_at_once():
    command = [sys.executable, "tools/test-twice", *FEW]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
