"""The standard library's own tests of shared memory, of the interpreter that runs, unmodified."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .support import METHODS

# What cannot pass, and why. Whatever is not named here has to.
NOT_OURS = {
    "test_shared_memory_tracking": (
        "it demands that a stranger who looks at a segment destroys it when it ends (cpython#82300)"
    ),
    "test_shared_memory_untracking": (
        "it opens a segment in a Python of its own, started with -I, which nothing can reach: there"
        " is the standard library's shared memory, and this one's segments are no files"
    ),
}


@pytest.fixture
def results(request, arena_name):
    pytest.importorskip("test._test_multiprocessing")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("standard_tests.py")), request.param],
        env={**os.environ, "FLAGSTONE_SHARED_MEMORY": arena_name},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert "resource_tracker" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("results", METHODS, indirect=True)
def test_the_standard_librarys_tests_pass(results):
    """The figure in the text: 13 with 3.11."""
    assert len(results) >= 13
    failed = {
        name: text
        for name, text in results.items()
        if text != "ok" and not (name in NOT_OURS or text.startswith("skipped"))
    }
    assert failed == {}
    assert len([text for text in results.values() if text == "ok"]) >= 13
