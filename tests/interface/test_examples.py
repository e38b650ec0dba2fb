"""Every program in examples/ runs, says something, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from flagstone.testing import leftovers

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


def arenas_of_no_test():
    """Names on this machine, without those of a test run that goes on beside this one."""
    return {path for path in leftovers() if "fst-" not in str(path)}


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(program):
    before = arenas_of_no_test()
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(program)], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout
    assert arenas_of_no_test() <= before


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_listed(program):
    assert f"`{program.name}`" in program.with_name("README.md").read_text()
