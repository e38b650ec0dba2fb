"""One array, made once, used by every worker of a process pool.

The pool's tasks carry a `Block`: some dozen bytes, however large the array is. The results are
written into the arena as well, so that no number crosses a pipe.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import flagstone


def smooth(table, result, column):
    """Write the running mean of a column of `table` into the same column of `result`."""
    values = table.array[:, column]
    result.array[:, column] = np.convolve(values, np.ones(5) / 5, mode="same")
    return os.getpid()


def main():
    values = np.random.default_rng(1).normal(size=(100_000, 8))
    context = multiprocessing.get_context("spawn")
    with flagstone.open(f"table-{os.getpid()}", capacity="64MiB") as arena:
        table = arena.put(values)  # the only copy
        result = arena.put(np.zeros_like(values))

        with ProcessPoolExecutor(2, mp_context=context) as pool:
            columns = range(values.shape[1])
            tasks = [pool.submit(smooth, table, result, column) for column in columns]
            workers = {task.result() for task in tasks}

        expected = np.stack(
            [np.convolve(column, np.ones(5) / 5, mode="same") for column in values.T], axis=1
        )
        assert np.array_equal(result.array, expected)
        assert os.getpid() not in workers
        print(f"{values.nbytes // 1024} KiB smoothed in place by {len(workers)} processes")

        view = table.array[:3, 0]
        del table
        assert np.array_equal(view, values[:3, 0])  # a view keeps the bytes
        print(f"the view is still there: {np.round(view, 2)}")


if __name__ == "__main__":
    main()
