"""Dask: workers of a host share arrays instead of sending them to each other.

    dask scheduler --preload flagstone.dask
    dask worker tcp://...:8786 --preload flagstone.dask --preload-nanny flagstone.dask

or, from the client of a cluster that runs already:

    flagstone.dask.enable(client)

Results of tasks lie in an arena of the host, in a group of the worker. A worker that needs one, and
has the same arena, is told where it is; others are sent the bytes, as ever. A worker that is killed
leaves nothing: what nobody else uses of its group is given back.

Configuration (Dask's own, `dask.config`, the keys below `flagstone`): `arena`, the arena's name,
the same for all workers of a host; `capacity`, bytes, for who creates it; `threshold`, bytes from
which on a value is shared; `limit`, bytes of a worker's group (its `memory_limit`); `writable`,
whether arrays that came from other workers may be written.

Needs Dask's distributed scheduler (`pip install "flagstone[dask]"`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from flagstone.extra import Extra

with Extra("flagstone.dask", "distributed", "dask"):
    from distributed import Client, Status
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

from flagstone.dask import member, tasks
from flagstone.dask.settings import read

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from flagstone.sizes import Size

__all__ = [
    "FlagstoneNanny",
    "FlagstonePage",
    "FlagstonePlugin",
    "dask_setup",
    "dask_teardown",
    "empty",
    "enable",
]


def dask_setup(server: Any) -> None:
    """What `--preload flagstone.dask` calls, in a worker, a nanny, a scheduler or a client."""
    member.begin(server, read())


def dask_teardown(server: Any) -> None:
    """What Dask calls when it closes."""
    member.end(server)


class FlagstonePlugin(WorkerPlugin):
    """Lets workers use arenas, those that run and those that come: `client.register_plugin(...)`.

    Args:
        arena, capacity, threshold, limit, writable: as in the configuration, instead of it.

    Raises:
        ValueError, TypeError: one of them makes no sense.
    """

    name = "flagstone"
    idempotent = True

    def __init__(
        self,
        arena: str | None = None,
        *,
        capacity: Size | None = None,
        threshold: Size | None = None,
        limit: Size | None = None,
        writable: bool | None = None,
    ) -> None:
        self._given = {
            "arena": arena,
            "capacity": capacity,
            "threshold": threshold,
            "limit": limit,
            "writable": writable,
        }
        read(**self._given)

    def setup(self, worker: Any) -> None:
        """Called by Dask when a worker begins, or the plugin comes to it."""
        member.begin(worker, read(**self._given))

    def teardown(self, worker: Any) -> None:
        """Called by Dask when a worker ends, or loses the plugin. One that goes on without it stays
        as it is, because its neighbours go on sending it names.
        """
        if worker.status not in (Status.running, Status.paused):
            member.end(worker)


class FlagstoneNanny(NannyPlugin):
    """Lets nannies count a worker's memory as the worker does: `client.register_plugin(...)`.

    Args:
        arena: as in the configuration, instead of it.
        given: the others, as in `FlagstonePlugin`.

    Raises:
        ValueError, TypeError: one of them makes no sense.
    """

    name = "flagstone-nanny"
    idempotent = True
    restart = False

    def __init__(self, arena: str | None = None, **given: Any) -> None:
        self._given = {"arena": arena, **given}

    def setup(self, nanny: Any) -> None:
        """Called by Dask when a nanny begins, or the plugin comes to it."""
        member.begin(nanny, read(**self._given))

    def teardown(self, nanny: Any) -> None:
        """Called by Dask when a nanny ends, or loses the plugin."""
        member.end(nanny)


class FlagstonePage(SchedulerPlugin):
    """Adds the page `/flagstone` to the scheduler's dashboard."""

    name = "flagstone-page"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Called by Dask when the scheduler begins, or the plugin comes to it."""
        member.begin(scheduler, read())


def enable(
    client: Client,
    arena: str | None = None,
    *,
    capacity: Size | None = None,
    threshold: Size | None = None,
    limit: Size | None = None,
    writable: bool | None = None,
) -> Any:
    """Let a client, and all workers of its cluster, use arenas from now on.

    Connections that are open already go on as before.

    Args:
        client: of the cluster; with an asynchronous one, what this returns has to be awaited.
        arena, capacity, threshold, limit, writable: as in the configuration, instead of it.

    Raises:
        ValueError, TypeError: one of them makes no sense.
        FlagstoneError, OSError: this process has no such arena, and none can be made.
    """
    given: dict[str, Any] = {
        "capacity": capacity,
        "threshold": threshold,
        "limit": limit,
        "writable": writable,
    }
    member.begin(client, read(arena=arena, **given))
    plugins = [FlagstonePlugin(arena, **given), FlagstoneNanny(arena, **given), FlagstonePage()]
    return client.sync(_register, client, plugins)


async def _register(client: Client, plugins: Iterable[Any]) -> None:
    for plugin in plugins:
        await client._register_plugin(plugin, plugin.name, True)


def empty(shape: int | Iterable[int], dtype: DTypeLike = "f8", *, order: str = "C") -> Any:
    """An array for a task's result, in the arena from the first, so that it need not be copied
    there. Its elements are whatever was there before.

    Outside a worker, and where there is no room, it is NumPy's own `empty`.

    Args:
        shape: of the array.
        dtype: of its elements.
        order: "C" or "F".
    """
    wanted = shape if isinstance(shape, int) else tuple(shape)
    array = tasks.empty(wanted, dtype, order)
    return np.empty(wanted, dtype, order) if array is None else array  # type: ignore[call-overload]
