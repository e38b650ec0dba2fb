"""The torture, for a short while; `make soak MINUTES=n` goes on for longer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SECONDS = 60 * float(os.environ.get("MINUTES") or 10)


def torture(seconds, seed, *arguments):
    """Run the program in a process of its own: it is its descendants' reaper."""
    command = [sys.executable, "-m", "tests.soak.torture", "--seconds", str(seconds)]
    result = subprocess.run(
        [*command, "--seed", str(seed), *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=seconds + 300,
    )
    assert result.returncode == 0, result.stderr
    print(result.stdout)


def test_torture_for_a_short_time():
    torture(12, 1, "--ages")


def test_torture_on_a_full_file_system(small_tmpfs):
    torture(6, 2, "--folder", str(small_tmpfs))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_torture_for_long():
    """In pieces, so that the end, where everything has to be back, is looked at often."""
    seed = int(os.environ.get("SEED") or time.time())
    end = time.monotonic() + SECONDS
    while (left := end - time.monotonic()) > 0:
        torture(min(left, 60), seed, "--ages", "--workers", str(3 + seed % 5))
        seed += 1
