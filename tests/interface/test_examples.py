"""Every program in examples/ runs, says something, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(program):
    ran = run(program)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert ran.stdout
    assert os.environ.get("CI") != "true" or "is not installed" not in ran.stdout


def run(program, before=()):
    return subprocess.run(
        [*before, sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.root
def test_examples_leave_nothing(own_shm):
    folder, alone = own_shm
    for program in EXAMPLES:
        ran = run(program, alone)
        assert ran.returncode == 0, ran.stderr
        assert (program.stem, list(folder.iterdir())) == (program.stem, [])


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_twice_at_once(program):
    """A named arena is every process's that knows the name: a program that starts its own processes
    takes a name that no other run of it has.
    """
    for name in re.findall(r'flagstone\.open\(\s*f?"(.*?)"', program.read_text()):
        assert "{os.getpid()}" in name


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_listed(program):
    assert f"`{program.name}`" in program.with_name("README.md").read_text()
