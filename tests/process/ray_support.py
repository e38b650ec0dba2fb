"""Programs of a Ray job, each with Ray processes of its own that end with it."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

HEAD = """
import os, signal, sys, time
import numpy as np
import ray
from ray.cluster_utils import Cluster
import flagstone
import flagstone.ray

NAME, TEMPORARY = sys.argv[1:]
RAY = dict(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
NODE = dict(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False)

def until(true):
    while not true():
        time.sleep(0.02)
"""


def run(arena, body, *, killed=False):
    """Run it; `killed`: it says so when it is to be killed. What it has printed before."""
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="fr") as folder:
        program = Path(folder, "program.py")
        program.write_text(HEAD + textwrap.dedent(body))
        environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        with subprocess.Popen(
            [sys.executable, program, arena, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            try:
                said = ""
                if killed:
                    said = process.stdout.readline()
                    process.send_signal(signal.SIGKILL)
                output, errors = process.communicate()
            finally:
                process.kill()
    assert process.returncode == (-signal.SIGKILL if killed else 0), errors
    return said + output, errors
