"""A volume that joblib's workers fill in place, slice by slice, and a table that all of them read.

Nothing of it goes through a pipe or into joblib's folder of memmaps.

Run it: python examples/joblib_volume.py   (needs joblib)
"""

import os

import joblib
import numpy as np

import flagstone
import flagstone.joblib

SHAPE = (16, 256, 256)


def smooth(volume, weights, z):
    """Write a slice of the volume, which the caller sees; the weights are one copy for all."""
    below, above = max(z - 1, 0), min(z + 1, SHAPE[0] - 1)
    mean = (volume[below] + volume[z] + volume[above]) / 3
    return float((mean * weights[z]).sum()), flagstone.block_of(volume)[1]


def fill(view, value):
    view[:] = value


def main():
    with flagstone.open(f"volume-{os.getpid()}", capacity="256MiB") as arena:
        volume = arena.put(np.zeros(SHAPE))
        weights = np.ones(SHAPE)  # 8 MiB: copied once, however many calls have it
        with joblib.parallel_config("flagstone", arena=arena, n_jobs=2):
            joblib.Parallel()(joblib.delayed(fill)(volume.array[z], z) for z in range(SHAPE[0]))
            assert [int(plane[0, 0]) for plane in volume.array] == list(range(SHAPE[0]))
            print(f"{SHAPE[0]} slices filled in place by joblib's workers")

            found = joblib.Parallel()(
                joblib.delayed(smooth)(volume.array, weights, z) for z in range(SHAPE[0])
            )
        sums = [value / SHAPE[1] / SHAPE[2] for value, _ in found]
        assert all(offset == 0 for _, offset in found)  # the whole Block, and no copy of it
        print(f"means: {np.round(sums, 2)}")
        assert arena.in_flight() == []
        print(f"hash of the volume: {joblib.hash(volume) == joblib.hash(volume) and 'stable'}")


if __name__ == "__main__":
    main()
