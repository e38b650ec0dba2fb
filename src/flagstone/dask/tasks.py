"""What happens in the threads of a worker that run its tasks: chunks are joined in the arena, and
results are copied there.

Dask joins chunks, in a rechunk or an overlap, by `dask.array.core.concatenate3`, which asks NumPy
for an empty array and copies each piece into its place. Tasks name that function, so it stays what
it is; the NumPy of its module is another one, whose `empty` looks for the arena of the worker that
runs the task. Such a chunk need not be copied when it is stored, and its pages are used again.

Dask stores a result in its event loop, which has to answer the neighbours meanwhile. So the copying
is done before, in the thread of the task.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import distributed.worker
import numpy as np
from distributed import get_worker

from flagstone.dask.results import EarlySettler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import DTypeLike

    from flagstone.dask.results import Settler

__all__ = ["empty", "settle_tasks"]

_settlers: WeakKeyDictionary[Any, EarlySettler] = WeakKeyDictionary()


def empty(shape: int | Iterable[int], dtype: DTypeLike, order: str, least: int | None = 0) -> Any:
    """An array in the group of the worker that runs this task, of `least` bytes (None: as the
    worker's configuration says). None if it is smaller, there is no room, or no task.
    """
    try:
        settler = _settlers.get(get_worker())
    except ValueError:  # this is no task
        return None
    return None if settler is None else settler.empty(shape, dtype, order, least)


def settle_tasks(worker: Any, settler: Settler) -> None:
    """Let the tasks of a worker of this process use its group."""
    _settlers[worker] = EarlySettler(settler)
    run = getattr(distributed.worker, "_run_task", None)
    if run is not None and not hasattr(run, "__wrapped__"):
        distributed.worker._run_task = _and_settle(run)
    try:
        core: Any = importlib.import_module("dask.array.core")
    except ImportError:
        return  # without the packages that Dask's arrays need there are none
    if core.np is np:
        core.np = _NumPy()


def _and_settle(run: Any) -> Any:
    @functools.wraps(run)
    def _run_task(task: Any, data: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        told = run(task, data, state, *args, **kwargs)
        settler = _settlers.get(state.get("worker"))
        if settler is not None and "result" in told:
            told["result"] = settler.settle(told["result"])
        return told

    return _run_task


class _NumPy:
    """Stands for NumPy in `dask.array.core`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def empty(shape: Any, dtype: Any = float, order: str = "C", **options: Any) -> Any:
        array = None if options else empty(shape, dtype, order, least=None)
        private: Any = np.empty
        return private(shape, dtype, order, **options) if array is None else array
