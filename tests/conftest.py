"""What every test gets: names of its own, and a check that it leaves nothing behind."""

import contextlib
import gc
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import numpy as np  # noqa: F401  (its threads are no test's)
import pytest

pytest.register_assert_rewrite("tests.process.support")

# The allocators of polars and of Arrow have threads that come and go as they like, at forks too:
# those are nobody's leftovers. Read when the libraries are loaded.
for _name in ("_RJEM_MALLOC_CONF", "JE_ARROW_MALLOC_CONF"):
    os.environ.setdefault(_name, "background_thread:false")

# A shell that runs the tests in the background has them ignore Ctrl-C, and their children, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHM = Path("/dev/shm")
SETTLE_SECONDS = 3.0  # how long an exiting thread or process may take to be gone

_RUN = f"fst-test-{os.getpid()}-{secrets.token_hex(4)}"
"""What all names of this run begin with, and no other run's: whatever else the machine does at the
same time, tests of the same checkout included, is none of ours to see.
"""

_numbers = itertools.count(1)


def missing(what):
    """Skip by name, or fail in CI, where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; in CI nothing may be missing", pytrace=False)
    pytest.skip(what)


# A worker of pytest-xdist ignores SIGINT, and its children would, too.
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    if item.get_closest_marker("root") and os.geteuid() != 0:
        missing("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _insist((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = _insist((yield))
    if call.when == "call":
        item.stash[_passed] = report.passed
    return report


def _insist(report):
    """Make a failure of what was skipped in CI, however it said so. Libraries that cannot be had
    for an interpreter are the exception: FST_TEST_ABSENT names them.
    """
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2]
        absent = os.environ.get("FST_TEST_ABSENT", "").split()
        if not any(f"could not import '{name}'" in reason for name in absent):
            report.outcome = "failed"
            report.longrepr = f"{reason}; in CI nothing may be missing"
    return report


_passed = pytest.StashKey[bool]()


def pytest_collection_finish():
    """What the tests and their libraries consist of stays to the end: the collections before and
    after each test need not look at those hundreds of thousands of objects again.
    """
    gc.collect()
    gc.freeze()


class Leftovers:
    """What a process has: children, threads, file descriptors, and files of a prefix."""

    def __init__(self, prefix):
        self.children = _children()
        self.threads = _threads()
        self.descriptors = _descriptors()
        self.files = {path.name: str(path) for path in SHM.glob(f"flagstone.{prefix}*")}

    def since(self, before):
        """Describe what is here and was not before, one line each."""
        return [
            f"{kind}: {text}"
            for kind in ("children", "threads", "descriptors", "files")
            for key, text in getattr(self, kind).items()
            if key not in getattr(before, kind)
        ]


def _children():
    """Living and zombie children by pid; multiprocessing's own helper is none."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            state, parent = rest.split()[:2]
            if int(parent) == os.getpid():
                found[int(folder.name)] = f"{name}) in state {state}"
    found.pop(resource_tracker._resource_tracker._pid, None)
    return found


def _threads():
    """All threads, those that Python does not know as well."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (
                f"{folder.name} {(folder / 'comm').read_text(errors='replace').strip()}"
            )
    return found


def _descriptors():
    """Open files by number and target; the resource tracker's pipe is not counted."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            found[int(name), target] = f"{name} -> {target}"
    tracker = resource_tracker._resource_tracker._fd
    return {key: text for key, text in found.items() if key[0] != tracker}


@pytest.fixture
def _prefix():
    """This test's own prefix. Ends last: what the leak check found is then removed."""
    prefix = f"{_RUN}-{next(_numbers):05}"
    yield prefix
    for path in SHM.glob(f"flagstone.{prefix}*"):
        path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def leaves_nothing(request, _prefix):
    """Fail a test that leaves a child, a thread, a descriptor or an arena behind.

    A test that failed already is not asked: its traceback keeps its arenas alive. Children are
    killed in any case, so that one bad test does not spoil the next.
    """
    gc.collect()
    before = Leftovers(_prefix)
    yield
    forkserver._forkserver._stop()
    deadline = time.monotonic() + SETTLE_SECONDS
    passed = request.node.stash.get(_passed, False)
    while True:
        gc.collect()
        after = Leftovers(_prefix)
        if "FST_TEST_SYMBOLIZER" in os.environ:
            after.children = after.descriptors = {}
        if request.node.get_closest_marker("keeps_arena"):
            after.files = {}
        left = after.since(before)
        if not left or not passed or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for pid in after.children.keys() - before.children.keys():
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if left and passed:
        pytest.fail("the test left behind\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def arena_name(_prefix, leaves_nothing):
    """A name that no other test uses; for more than one, append something to it."""
    return _prefix


@pytest.fixture
def shm_folder(leaves_nothing):
    """A folder on the tmpfs of `/dev/shm`, and nobody else's. For arenas whose processes die: any
    process that opens one beside them, of any program, removes them.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{_RUN}-", dir=SHM))
    yield folder
    gc.collect()
    shutil.rmtree(folder)


@pytest.fixture
def own_shm(tmp_path, leaves_nothing):
    """An empty tmpfs that a program sees as `/dev/shm`: the folder, and the words to put before the
    program's command. Needs root.
    """
    folder = tmp_path / "shm"
    folder.mkdir()
    with _tmpfs(folder, "mode=1777"):
        bind = 'mount --bind "$1" /dev/shm && shift && exec "$@"'
        yield folder, ["unshare", "--mount", "sh", "-c", bind, "sh", str(folder)]


@pytest.fixture
def small_tmpfs(tmp_path, leaves_nothing):
    """A folder on a tmpfs of 64 MiB, to run out of memory in."""
    folder = tmp_path / "tmpfs"
    folder.mkdir()
    with _tmpfs(folder, "size=64m,mode=0700"):
        yield folder


@contextlib.contextmanager
def _tmpfs(folder, options):
    if os.geteuid() != 0:
        missing("mounting a tmpfs needs root")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "flagstone-test", str(folder)],
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        missing(f"no tmpfs can be mounted: {mount.stderr.strip()}")
    try:
        yield
    finally:
        gc.collect()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
