"""References to Python's objects: as many after a call as before it, whichever method it was, and
whoever called it at the same time.
"""

import os
import subprocess
import sys
from pathlib import Path


def test_no_method_leaves_a_reference_or_takes_one(arena_name):
    """refcounts.py says what it finds; what was freed too early, Python says by ending."""
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.process.refcounts", arena_name],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr[-5000:]
    assert result.stderr == ""
    assert result.stdout == "done\n"
