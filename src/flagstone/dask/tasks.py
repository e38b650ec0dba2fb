"""What happens in the threads of a worker that run its tasks: NumPy allocates the data of large
arrays in the worker's group, and results are settled there.

Dask stores a result in its event loop, which has to answer the neighbours meanwhile. So what has to
be copied is copied before, in the thread of the task.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import distributed.worker
from distributed import get_worker

from flagstone.dask.results import EarlySettler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import DTypeLike

    from flagstone.dask.results import Settler

__all__ = ["empty", "settle_tasks"]

_settlers: WeakKeyDictionary[Any, EarlySettler] = WeakKeyDictionary()


def empty(shape: int | Iterable[int], dtype: DTypeLike, order: str) -> Any:
    """An array in the group of the worker that runs this task. None if there is no room, or no
    task.
    """
    try:
        settler = _settlers.get(get_worker())
    except ValueError:  # this is no task
        return None
    return None if settler is None else settler.empty(shape, dtype, order)


def settle_tasks(worker: Any, settler: Settler) -> None:
    """Let the tasks of a worker of this process use its group."""
    _settlers[worker] = EarlySettler(settler)
    run = getattr(distributed.worker, "_run_task", None)
    if run is not None and not hasattr(run, "__wrapped__"):
        distributed.worker._run_task = _and_settle(run)


def _and_settle(run: Any) -> Any:
    @functools.wraps(run)
    def _run_task(task: Any, data: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        settler = _settlers.get(state.get("worker"))
        if settler is None:
            return run(task, data, state, *args, **kwargs)
        before = settler.allocator.begin()
        try:
            told = run(task, data, state, *args, **kwargs)
        finally:
            settler.allocator.end(before)
        if "result" in told:
            told["result"] = settler.settle(told["result"])
        return told

    return _run_task
