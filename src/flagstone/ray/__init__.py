"""Ray: tasks and actors of a node pass Blocks by name, and no byte is copied.

    flagstone.ray.init()                       # instead of ray.init()

    @ray.remote
    def render(scene):
        image = flagstone.ray.empty((2160, 3840, 3), "u1")
        draw(scene, image.array)
        return image                           # what is sent is its name

    image = ray.get(render.remote(scene))      # a Block: the same bytes

A Block may be an argument, a result, a part of either, or be put by `ray.put`. Ray goes on to count
references; a Block lives for as long as Ray may still hand its name out, or a process has it. A
process on another node gets the bytes, by Ray's own store, as a Block of that node's arena.

The environment of a node says what was not given: `FLAGSTONE_RAY_ARENA` (its name; one for all
jobs of a host), `FLAGSTONE_RAY_CAPACITY` (bytes, for who creates it), `FLAGSTONE_RAY_LIMIT` (bytes
of a job's group on this node).

Needs Ray (`pip install "flagstone[ray]"`).
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flagstone.extra import Extra

with Extra("flagstone.ray", "Ray", "ray"):
    import ray
from ray._common.utils import load_class

from flagstone._core import Block
from flagstone.arena import Arena
from flagstone.group import Group
from flagstone.ray import keeper, member, wire

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from flagstone.sizes import Size

__all__ = ["arena", "empty", "enable", "group", "init", "put", "shutdown"]


def init(
    arena: str | None = None,
    *,
    capacity: Size | None = None,
    limit: Size | None = None,
    **options: Any,
) -> Any:
    """`ray.init(**options)`, after which this job's processes send Blocks by name.

    Workers are told by Ray's `worker_process_setup_hook`; one that `options` have in their
    `runtime_env` is called as well.

    Args:
        arena, capacity, limit: as the environment says them, for every node.
        options: of `ray.init`.

    Returns:
        What `ray.init` returns.

    Raises:
        RuntimeError, FlagstoneError, OSError, ValueError: as `enable`; and what `ray.init` raises.
    """
    environment = dict(options.pop("runtime_env", None) or {})
    theirs = environment.get("worker_process_setup_hook")
    environment["worker_process_setup_hook"] = _hook(theirs)
    context = ray.init(runtime_env=environment, **options)
    enable(arena, capacity=capacity, limit=limit)
    return context


def enable(
    arena: str | None = None, *, capacity: Size | None = None, limit: Size | None = None
) -> None:
    """Let this job's processes send Blocks by name, in a driver where Ray runs already.

    Workers are not told, so a task or actor has to call `arena()`, `empty()` or `put()` of this
    module, or be sent a Block, before it sends one. Again in the same job: nothing.

    Raises:
        RuntimeError: Ray has not begun in this process, or its driver is elsewhere (`ray://`).
        FlagstoneError, OSError, ValueError: there is no such arena, and none can be made.
    """
    job, node = member.whereabouts()
    ours = keeper.first(job, node, arena, capacity, limit)
    try:
        member.begin(ours)
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(f"the keeper of Blocks of this node did not begin: {error}") from None
    wire.register()


def shutdown() -> None:
    """`ray.shutdown()`, with nothing left in the arenas of this job: what it has put ends now. What
    this process looks at stays until it lets go. Called at the driver's exit, too.
    """
    member.end()
    if ray.is_initialized():
        ray.shutdown()
    member.leave()


def arena() -> Arena:
    """The arena of this process's node.

    Raises:
        RuntimeError: Ray has not begun here, or its driver has not called `init()` or `enable()`.
    """
    wire.register()
    return member.here().arena


def group() -> Group:
    """The job's group on this node: what its Blocks are charged to. `RuntimeError` as `arena()`."""
    wire.register()
    return member.here().group


def put(value: Any, *, order: str = "K") -> Block:
    """A Block with a copy of an array, a buffer or a table, as `Arena.put`, in the job's group.

    Where there is no room, it waits until Ray has let go of what nobody needs, two seconds at most.

    Raises:
        ArenaFull, GroupLimitExceeded: there is no room.
        TypeError, ValueError: as `Arena.put`.
        RuntimeError: as `arena()`.
    """
    wire.register()
    return member.allocated(lambda here: here.arena.put(value, order=order, group=here.group))


def empty(shape: int | Iterable[int], dtype: DTypeLike = "f8", *, order: str = "C") -> Block:
    """A Block of an array's shape and dtype, as `Arena.empty`, in the job's group: to be filled
    where it is made. Its bytes are whatever was there before. Errors as `put`.
    """
    wire.register()
    return member.allocated(
        lambda here: here.arena.empty(shape, dtype, order=order, group=here.group)
    )


def _hook(theirs: Callable[[], None] | str | None) -> Callable[[], None]:
    """What a worker calls when it begins. Ray sends it by value."""

    def flagstone_hook() -> None:
        from flagstone.ray import wire

        wire.register()
        if isinstance(theirs, str):
            load_class(theirs)()
        elif theirs is not None:
            theirs()

    return flagstone_hook


atexit.register(shutdown)
