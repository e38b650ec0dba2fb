"""Members of a cluster in this process: workers, nannies, clients and the scheduler. Each is
changed once, when it begins, so that it uses the arena, and lets go of the arena when it ends.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from distributed import Client, Nanny, Scheduler, Worker
from distributed.comm.core import BaseListener

from flagstone.dask import memory, wire
from flagstone.dask.page import add_page
from flagstone.dask.results import Results, Settler
from flagstone.dask.shuffle import settle_pieces
from flagstone.dask.tasks import settle_tasks
from flagstone.errors import FlagstoneError

if TYPE_CHECKING:
    from flagstone._core import Block
    from flagstone.arena import Arena
    from flagstone.dask.settings import Settings
    from flagstone.group import Group

__all__ = ["begin", "end", "group_of", "here"]

_logger = logging.getLogger("flagstone.dask")
_MOST: Final = 1000


class _Member:
    """What a member has of the arena: its attachment, and a worker's group."""

    def __init__(self, arena: Arena, settings: Settings) -> None:
        self.arena = arena
        self.settings = settings
        self.uuid = wire.add(arena, settings)
        self.group: Group | None = None
        self.settler: Settler | None = None

    def end(self) -> None:
        wire.remove(self.uuid, None if self.settler is None else self.settler.allocator)
        try:
            if self.group is not None:
                self.group.close()
        except FlagstoneError:
            pass  # ended with its arena
        self.group = None
        self.settler = None
        self.arena.close()


_members: WeakKeyDictionary[Any, _Member] = WeakKeyDictionary()
_lock = threading.Lock()


def here(worker: Any) -> _Member | None:
    """What this member of a cluster has of the arena; None: it was never told to use one."""
    return _members.get(worker)


def group_of(worker: Any) -> tuple[Arena, Group] | None:
    """The arena and the group of a worker, if it has them."""
    member = _members.get(worker)
    if member is None or member.group is None:
        return None
    return member.arena, member.group


def begin(member: Any, settings: Settings) -> None:
    """Let a worker, nanny, client or scheduler use the arena. Again: nothing.

    Raises:
        FlagstoneError, OSError, ValueError: there is no such arena, and none can be made.
        TypeError: it is none of these.
    """
    with _lock:  # tasks of several threads may ask for their worker's client
        if member in _members:
            return
        if isinstance(member, Scheduler):
            add_page(member)  # it needs no arena: workers tell it
            return
        for kind, tell in _TELL.items():
            if isinstance(member, kind):
                arena = settings.open()
                _members[member] = made = _Member(arena, settings)
                try:
                    tell(member, made)
                except BaseException:
                    end(member)
                    raise
                return
    raise TypeError(
        f"flagstone.dask is for a Worker, Nanny, Client or Scheduler, not {type(member).__name__}"
    )


def end(member: Any) -> None:
    """Let a member go of its arena: it closes. What others have of its group stays theirs."""
    made = _members.pop(member, None)
    if made is not None:
        made.end()


def _begin_worker(worker: Worker, made: _Member) -> None:
    limit = made.settings.limit or worker.memory_manager.memory_limit
    made.group = _new_group(made.arena, worker.address, limit)
    made.settler = Settler(made.arena, made.group, made.settings.threshold)
    wire.add_allocator(made.uuid, made.settler.allocator)
    settle_pieces(worker.address, made.settler)
    settle_tasks(worker, made.settler)
    _announce(worker, made.uuid)
    for listener in worker.listeners:
        _listen(listener, made.uuid)
    give = worker.handlers["get_data"]

    @functools.wraps(give)  # Dask looks whether it may be told what serializers are asked for
    async def get_data(comm: Any, *args: Any, **kwargs: Any) -> Any:
        # What it writes is kept until the receiver has said that it is there.
        token = wire.sending.set(True)
        try:
            return await give(comm, *args, **kwargs)
        finally:
            wire.sending.reset(token)

    worker.handlers["get_data"] = get_data
    get_client = worker._get_client

    @functools.wraps(get_client)
    def _get_client(*args: Any, **kwargs: Any) -> Client:
        # A task that submits tasks has a client, too, which keeps the Blocks that it gives them.
        client = get_client(*args, **kwargs)
        if worker in _members:
            begin(client, made.settings)
        return client

    worker._get_client = _get_client
    results = Results(worker.memory_manager.data, made.settler)
    worker.memory_manager.data = results
    worker.state.data = results
    monitor = worker.monitor
    private = monitor.get_process_memory
    monitor.get_process_memory = functools.partial(
        memory.of_worker, private, made.arena, made.group
    )
    worker.metrics["flagstone"] = functools.partial(_metrics, made)


class _Futures(dict[Any, Any]):
    """A client's futures by key, and the Blocks that the calls behind them were given.

    A Block as an argument goes as a name, as often as Dask likes, so somebody keeps it: the client,
    for as long as it wants the answer.
    """

    def __init__(self, futures: dict[Any, Any]) -> None:
        super().__init__(futures)
        self.kept: dict[Any, list[Block]] = {}

    def pop(self, key: Any, *default: Any) -> Any:
        self.kept.pop(key, None)
        return super().pop(key, *default)

    def __delitem__(self, key: Any) -> None:
        self.kept.pop(key, None)
        super().__delitem__(key)

    def clear(self) -> None:
        self.kept.clear()
        super().clear()


def _begin_client(client: Client, made: _Member) -> None:
    _announce(client, made.uuid)
    submit = client._graph_to_futures
    ours = client.futures = _Futures(client.futures)

    @functools.wraps(submit)
    def graph_to_futures(*args: Any, **kwargs: Any) -> Any:
        with wire.collected() as blocks:
            futures = submit(*args, **kwargs)
        if blocks:
            for key in futures:
                if key in ours:
                    ours.kept[key] = ours.kept.get(key, []) + blocks
        return futures

    close = client._close

    @functools.wraps(close)
    async def and_leave(*args: Any, **kwargs: Any) -> Any:
        try:
            return await close(*args, **kwargs)
        finally:
            end(client)

    client._graph_to_futures = graph_to_futures
    client._close = and_leave


def _begin_nanny(nanny: Nanny, made: _Member) -> None:
    # It has the arena open, so that it is there when its worker starts again.
    callback = nanny.periodic_callbacks.get("memory_monitor")
    if callback is not None:
        callback.callback = functools.partial(memory.watch, nanny, made.arena, callback.callback)


_TELL: Final[dict[type, Any]] = {
    Worker: _begin_worker,
    Client: _begin_client,
    Nanny: _begin_nanny,
}


def _announce(server: Any, uuid: str) -> None:
    """Say it in the handshake of each connection that is opened from now on."""
    ours = wire.handshake(uuid, wire.CONNECTS)
    for arguments in {
        id(one): one for one in (server.connection_args, server.rpc.connection_args)
    }.values():
        before = arguments.get("handshake_overrides") or {}
        arguments["handshake_overrides"] = {**before, **ours}


def _listen(listener: BaseListener, uuid: str) -> None:
    """Say it to those who connect."""
    accept = listener.on_connection
    ours = wire.handshake(uuid, wire.LISTENS)

    @functools.wraps(accept)
    async def on_connection(comm: Any, handshake_overrides: Any = None) -> None:
        await accept(comm, {**(handshake_overrides or {}), **ours})

    listener.on_connection = on_connection


def _new_group(arena: Arena, address: str, limit: int | None) -> Group:
    """A group of this worker's own. One that was killed at this address may still have the name."""
    for number in range(_MOST):
        name = memory.group_name(address, number)
        try:
            return arena.group(name, limit=limit, create=True)
        except FileExistsError:
            continue
    return arena.group(limit=limit)


async def _metrics(made: _Member, worker: Any) -> dict[str, Any]:
    """What the worker's heartbeat tells the scheduler."""
    settler, group = made.settler, made.group
    if settler is None or group is None:
        return {}
    try:
        return {
            "arena": made.settings.arena,
            "uuid": made.uuid,
            "capacity": made.arena.capacity,
            "used": made.arena.used,
            "usage": group.usage,
            "limit": group.limit,
            "peak": group.peak,
            "stored": settler.stored,
            "refused": dict(settler.refused),
        }
    except FlagstoneError:
        return {}
