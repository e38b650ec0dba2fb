"""A Dask cluster on two hosts: network namespaces with a veth between them, each with a `/dev/shm`
of its own, and a container on the first one that has another.
"""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import missing
from tests.process.support import PATIENCE

pytest.importorskip("distributed")

A, B = "10.213.77.1", "10.213.77.2"

SETUP = """
import asyncio, gc, logging, os, signal, subprocess, sys, time
import numpy as np
import dask, dask.array, distributed
from distributed import Client, LocalCluster, Nanny, wait
import flagstone, flagstone.dask

QUIET = logging.CRITICAL + 1
logging.getLogger("distributed").setLevel(QUIET)
dask.config.set({"flagstone.arena": "dask", "flagstone.capacity": "128MiB",
                 "array.rechunk.method": "tasks",
                 "distributed.scheduler.allowed-failures": 1000,
                 "distributed.scheduler.worker-ttl": "10s",
                 # it drops every two seconds what more than one worker has
                 "distributed.scheduler.active-memory-manager.start": False,
                 "distributed.worker.memory.terminate": False,
                 "distributed.comm.timeouts.connect": "10s",
                 "distributed.comm.timeouts.tcp": "12s"})
OPTIONS = dict(nthreads=1, memory_limit="400MiB", preload=["flagstone.dask"],
               silence_logs=QUIET, dashboard_address=None)

def make(count, value):
    return np.full(count, float(value))

def look(array):
    try:
        block, _ = flagstone.block_of(array)
    except LookupError:
        return None, float(array.sum())
    return bytes(block.handle), float(array.sum())

def pid():
    return os.getpid()
"""

WORKERS = (
    SETUP
    + """
async def work(host, names):
    nannies = [Nanny(sys.argv[1], host=host, name=name, **OPTIONS) for name in names]
    await asyncio.gather(*nannies)
    print("up", flush=True)
    await asyncio.gather(*(one.finished() for one in nannies))

if __name__ == "__main__":
    asyncio.run(work(sys.argv[2], sys.argv[3:]))
"""
)

HOST_B = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]], start_new_session=True)
sys.stdin.readline()
os.killpg(child.pid, signal.SIGKILL)
child.wait()
# Its workers were in the nannies' session, and are killed with them.
subprocess.run([sys.executable, "-m", "flagstone", "gc"], check=True, stdout=subprocess.DEVNULL)
# multiprocessing's semaphores stay, because its tracker was killed as well.
here = [one for one in os.listdir("/dev/shm") if not one.startswith("sem.mp-")]
print("left", here, flush=True)
"""

HOST_A = (
    SETUP
    + """
def both_ways(client, n):
    x = dask.array.arange(600 * 600, chunks=60_000).reshape(600, 600) + n
    x = x.rechunk((100, 600)).rechunk((600, 100))
    expected = int((np.arange(600 * 600) + n).sum())
    assert int((x.T + x).sum().compute()) == 2 * expected
    wide = dask.array.map_overlap(lambda a: a * 2, x, depth=5, boundary="none")
    assert int(wide.sum().compute()) == 2 * expected

def main():
    arena = flagstone.open("dask", capacity="128MiB")
    with LocalCluster(n_workers=2, threads_per_worker=1, host=sys.argv[1], scheduler_port=8786,
                      memory_limit="400MiB", preload=["flagstone.dask"], silence_logs=QUIET,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        print("up", flush=True)
        client.wait_for_workers(5)
        found = {str(one["name"]): address
                 for address, one in client.scheduler_info(n_workers=-1)["workers"].items()}
        a, b = found["0"], found["1"]
        one = client.submit(make, 200_000, 3, workers=a)
        # The neighbour comes second: a third one asks whoever has it, by chance.
        seen = {name: client.submit(look, one, workers=found[name], pure=False).result()
                for name in ("0", "1", "c", "b1", "b2")}
        assert {total for _, total in seen.values()} == {600_000.0}
        handles = {name: handle for name, (handle, _) in seen.items()}
        # Told apart by the arena alone: the container has this host's address.
        assert handles["0"] == handles["1"] and handles["0"] is not None
        assert arena.in_flight() == []
        mine = {address for address in found.values() if sys.argv[1] in address}
        assert found["c"] in mine and found["b1"] not in mine
        handle = flagstone.Handle(handles["0"])
        assert len({one.pid for one in arena.get(handle).holders}) == 3     # a, b, and this look
        del one
        both_ways(client, 1)
        for victim in (a, found["b1"], found["c"]):
            running = client.run(pid, workers=[victim])[victim]
            client.submit(os.kill, running, signal.SIGKILL, workers=[victim])
            both_ways(client, 2)
        print("unplug", flush=True)
        sys.stdin.readline()
        both_ways(client, 3)
        client.run(gc.collect, workers=[w for w in client.scheduler_info(n_workers=-1)["workers"]
                                        if sys.argv[1] in w], on_error="ignore")
        def empty():
            gc.collect(); arena.barrier(); arena.shrink()
            return arena.used == 0 and not arena.in_flight()
        end = time.monotonic() + 30
        while not empty():
            assert time.monotonic() < end, arena.processes
            time.sleep(0.1)
        assert arena.check() == []
    arena.close()
    here = [one for one in os.listdir("/dev/shm") if not one.startswith("sem.mp-")]
    print("left", here, flush=True)

if __name__ == "__main__":
    main()
"""
)


def ip(*words):
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two network namespaces, each with an address on a wire between them."""
    if os.geteuid() != 0:
        missing("network namespaces need root")
    names = [f"fst{os.getpid()}{end}" for end in "ab"]
    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        except (OSError, subprocess.CalledProcessError) as error:
            missing(f"no network namespaces here: {getattr(error, 'stderr', error)}")
        for name, address in zip(names, (A, B), strict=True):
            ip("link", "set", name, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


def start(namespace, folder, *command):
    """A program on a host: it sees an empty `/dev/shm`."""
    script = 'mount -t tmpfs -o size=512m none /dev/shm && exec "$@"'
    with open(folder / "errors", "a") as errors:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", namespace),
                *("unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *command),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            start_new_session=True,
        )


def expect(process, word, folder):
    """The next line of a host, which must begin so."""
    line = process.stdout.readline()
    assert line.startswith(word), (line, (folder / "errors").read_text()[-4000:])
    return line


@pytest.mark.root
@pytest.mark.timeout(4 * PATIENCE)
def test_two_hosts_and_a_container(hosts, tmp_path):
    for name, source in (("a", HOST_A), ("b", HOST_B), ("workers", WORKERS)):
        (tmp_path / f"{name}.py").write_text(source)
    scheduler = f"tcp://{A}:8786"
    running = []
    try:
        running.append(first := start(hosts[0], tmp_path, "a.py", A))
        expect(first, "up", tmp_path)
        running.append(
            second := start(hosts[1], tmp_path, "b.py", "workers.py", scheduler, B, "b1", "b2")
        )
        running.append(container := start(hosts[0], tmp_path, "workers.py", scheduler, A, "c"))
        for one in (second, container):
            expect(one, "up", tmp_path)
        expect(first, "unplug", tmp_path)
        ip("-n", hosts[1], "link", "set", hosts[1], "down")
        second.stdin.write("end\n")
        second.stdin.flush()
        assert expect(second, "left", tmp_path) == "left []\n"
        first.stdin.write("go on\n")
        first.stdin.flush()
        assert expect(first, "left", tmp_path) == "left []\n"
        assert second.wait() == 0
        assert first.wait() == 0
    finally:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()
            one.stdin.close()
            one.stdout.close()
