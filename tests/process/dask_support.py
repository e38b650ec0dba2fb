"""What tests of `flagstone.dask` share: a program with a cluster of two workers."""

import os
import subprocess
import sys
import tempfile

from tests.process.support import PATIENCE

BEGIN = """
import gc, logging, os, sys, time
import numpy as np
import dask, distributed
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster, wait
import flagstone, flagstone.dask

NAME = sys.argv[1]

def make(count, value):
    return np.full(count, float(value))

def inside(array):
    try:
        flagstone.block_of(array)
    except (LookupError, TypeError):
        return False
    return True

def look(array):
    return inside(array), bool(array.flags.writeable), float(array.sum())

def handle(array):
    return bytes(flagstone.block_of(array)[0].handle)

def there():
    from distributed import get_worker
    from flagstone.dask import member
    return member.group_of(get_worker())[0]

async def drop_connections(dask_worker):
    for comms in list(dask_worker.rpc.available.values()):
        for comm in list(comms):
            comm.abort()

def settle(question, seconds=60):
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)

def nothing_left(arena):
    gc.collect()
    def empty():
        arena.barrier()
        arena.shrink()
        return arena.used == 0 and not arena.in_flight()
    try:
        settle(empty, 120)
    except AssertionError:
        raise AssertionError((arena.used, arena.in_flight(), arena.groups,
                              [one for one in arena.processes if one.references])) from None
    assert arena.check() == []

def main():
    arena = flagstone.open(NAME, capacity=CAPACITY)
    dask.config.set({"flagstone.arena": NAME, "distributed.worker.memory.terminate": False,
                     "distributed.comm.timeouts.connect": "30s",
                     "distributed.admin.tick.limit": "60s",
                     # LocalCluster gives up a worker that is missing so long after a death.
                     "distributed.deploy.lost-worker-timeout": "1h",
                     # Tasks are not to blame for workers that the tests kill.
                     "distributed.scheduler.allowed-failures": 1000, **CONFIG})
    level = logging.WARNING if QUIET else logging.CRITICAL + 1
    logging.getLogger("distributed").setLevel(level)
    options = dict(nthreads=1, memory_limit=MEMORY, silence_logs=level,
                   preload=["flagstone.dask"] if PRELOAD else [], dashboard_address=None)
    if ARENAS == 1:
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=MEMORY,
                               preload=options["preload"], preload_nanny=options["preload"],
                               dashboard_address="127.0.0.1:0",
                               silence_logs=level, host="127.0.0.1")
    else:
        names = [NAME, NAME + "-b"]
        workers = {n: {"cls": Nanny, "options": {**options, "config": {"flagstone.arena": name}}}
                   for n, name in enumerate(names)}
        scheduler = {"cls": Scheduler, "options": {"dashboard_address": "127.0.0.1:0"}}
        cluster = SpecCluster(workers, scheduler)
    with cluster, Client(cluster) as client:
        if PRELOAD:
            flagstone.dask.dask_setup(client)
        infos = client.scheduler_info()["workers"]
        a, b = sorted(infos, key=lambda address: infos[address]["name"])
        body(arena, client, a, b)
        # A heartbeat that the end of the cluster overtakes is an error in Dask's log.
        client.run(lambda dask_worker: dask_worker.periodic_callbacks["heartbeat"].stop())
        client.run(gc.collect)
        nothing_left(arena)
    gc.collect()
    assert [one for one in arena.processes if one.alive and not one.is_self] == []
    arena.close()
    # Nobody has it any more, the client that was told of it no more than the workers.
    assert not os.path.exists("/dev/shm/flagstone." + NAME)
    print("done")

def body(arena, client, a, b):
    globals().update(arena=arena, client=client, a=a, b=b)
    try:
        exec(compile(BODY, "body", "exec"), globals())
    finally:
        for name in ("arena", "client"):
            globals().pop(name, None)

if __name__ == "__main__":
    main()
"""


def run(
    arena_name,
    body,
    *,
    capacity="1GiB",
    memory="1GiB",
    preload=True,
    quiet=True,
    arenas=1,
    environment=None,
    config=None,
):
    """Run a body with `client`, `arena` and the workers' addresses `a` and `b`. It may print no
    error where `quiet`, and nothing is left in the arena. A worker waits for ever once what it has
    loaded is 0.8 of its `memory`: pandas and Arrow alone are more than 200 MiB.
    """
    head = (
        f"CAPACITY, MEMORY, PRELOAD, QUIET, ARENAS, CONFIG ="
        f" {capacity!r}, {memory!r}, {preload}, {quiet}, {arenas}, {config or {}}\n"
        f"BODY = {body!r}\n"
    )
    with tempfile.TemporaryDirectory(prefix="flagstone-dask-") as folder:
        path = os.path.join(folder, "cluster.py")
        with open(path, "w") as file:
            file.write(head + BEGIN)
        result = subprocess.run(
            [sys.executable, path, arena_name],
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("done\n"), (result.stdout, result.stderr)
    if quiet:
        # On a busy machine a worker may take longer to end than its nanny waits.
        said = [one for one in result.stderr.splitlines() if "still alive after" not in one]
        assert not said, result.stderr
