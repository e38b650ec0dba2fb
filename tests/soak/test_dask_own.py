"""Dask's own tests, unmodified, with `flagstone.dask` as preload: none fails that passes without.

They are of serialization, rechunking, spilling, memory limits, the death of workers, actors, queues
and variables. PyPI has no release of Dask with its tests, so they are those of the version that
Debian's unstable release has, and run with that version.
"""

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "protocol/tests",
    "shuffle/tests/test_rechunk.py",
    "tests/test_spill.py",
    "tests/test_worker_memory.py",
    "tests/test_failed_workers.py",
    "tests/test_actor.py",
    "tests/test_queues.py",
    "tests/test_variable.py",
)
TYPES = "it asks what type a worker's `data` has, which is a mapping of ours before Dask's own"
EXCEPTIONS = {
    "distributed.shuffle.tests.test_rechunk.test_rechunk_in_memory_shards_dont_share_buffer": (
        "it looks at what NumPy's arrays lie in, and knows no Blocks; each piece has its own"
    ),
    **{
        f"distributed.tests.test_worker_memory.test_{name}": TYPES
        for name in (
            "avoid_memory_monitor_if_zero_limit_nanny",
            "avoid_memory_monitor_if_zero_limit_worker",
            "dict_data_if_no_spill_to_disk",
            "manual_evict_proto",
            "override_data_nanny",
            "override_data_vs_memory_monitor",
            "override_data_worker",
            "worker_data_callable_kwargs",
            "worker_data_callable_local_directory",
            "worker_data_callable_local_directory_kwargs",
        )
    },
}
"""Tests that cannot pass with Flagstone, and why."""

pytestmark = [pytest.mark.soak, pytest.mark.root, pytest.mark.timeout(7200)]


def test_none_fails_that_passes_without(tmp_path, arena_name):
    found = subprocess.run(
        [ROOT / "tools" / "dask-tests", tmp_path], capture_output=True, text=True
    )
    if found.returncode:
        missing(found.stdout.strip() or found.stderr)
    plain = _failures(tmp_path, {})
    preload = {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": "['flagstone.dask']",
        "DASK_FLAGSTONE__ARENA": arena_name,
        "DASK_FLAGSTONE__CAPACITY": "2GiB",
    }
    ours = _failures(tmp_path, preload)
    print(f"Dask {found.stdout.strip()}: {len(plain)} of its tests fail without, {len(ours)} with")
    wrong = ours - plain - set(EXCEPTIONS)
    if wrong:  # Some of them have limits of seconds.
        wrong &= _failures(tmp_path, preload)
    assert not wrong


def _failures(folder, environment):
    """The tests of Dask that fail."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    subprocess.run(
        [
            folder / "venv/bin/python",
            "-m",
            "pytest",
            "--quiet",
            "--timeout=120",
            "--timeout-method=signal",
            f"--junitxml={report}",
            *(f"distributed/{part}" for part in PARTS),
        ],
        cwd=folder / "distributed",
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert cases
    return {
        f"{case.get('classname')}.{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
