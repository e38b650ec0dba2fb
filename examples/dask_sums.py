"""Dask's workers on this host share a chunked array: for sums of its columns each needs what the
other has made, and nothing of it goes through a socket. Then one of them is killed.

Run it: python examples/dask_sums.py   (needs dask and distributed)
"""

import logging
import os
import signal

import dask
import numpy as np
from distributed import Client, LocalCluster, wait

import flagstone
import flagstone.dask

NAME = f"example-dask-{os.getpid()}"


def make(row, column):
    return np.full((256, 256), float(row * 10 + column))


def add(*blocks):
    shared = 0
    for block in blocks:
        try:
            flagstone.block_of(block)
            shared += 1
        except LookupError:
            pass
    return sum(float(block.sum()) for block in blocks), shared


def main():
    dask.config.set({"flagstone.arena": NAME, "flagstone.capacity": "256MiB"})
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    options = {"preload": "flagstone.dask", "preload_nanny": "flagstone.dask"}
    with (
        flagstone.open(NAME, capacity="256MiB") as arena,
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL + 1,
            **options,
        ) as cluster,
        Client(cluster) as client,
    ):
        blocks = [[client.submit(make, row, column) for column in range(4)] for row in range(4)]
        wait([block for row in blocks for block in row])
        sums = client.gather([client.submit(add, *column) for column in zip(*blocks, strict=True)])
        print(f"sums of the columns: {[total for total, _ in sums]}")
        print(f"{sum(shared for _, shared in sums)} of 16 blocks were looked at where they lie")
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        again = client.gather([client.submit(add, *row) for row in blocks])
        print(f"a worker was killed; sums of the rows: {[total for total, _ in again]}")
        print(f"in flight: {len(arena.in_flight())} messages")


if __name__ == "__main__":
    main()
