"""This process as a member of a Ray job: its arena, the job's group, and the tokens it has ready.

Made when it is first needed, and anew where the job or the keeper is another one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import ray
import ray._private.worker as ray_worker
from ray.exceptions import RayActorError, RayError

from flagstone.arena import open as open_arena
from flagstone.errors import ArenaFull, Closed, FlagstoneError, GroupLimitExceeded, StaleHandle
from flagstone.group import look
from flagstone.ray import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstone._core import Block
    from flagstone.arena import Arena
    from flagstone.ray.keeper import Place

__all__ = [
    "Member",
    "allocated",
    "begin",
    "brought",
    "end",
    "held",
    "here",
    "leave",
    "put",
    "whereabouts",
]

_TOKENS: Final = 32
"""Tokens that a process asks for at a time."""
_PATIENCE: Final = 2.0
"""Seconds for which who finds no memory waits until Ray has let go of what nobody needs."""
_PAUSE: Final = 0.02
_ENDING: Final = 10.0
"""Seconds for which a driver waits for its keepers."""
_BALLAST: Final = np.zeros(100 << 10, np.uint8)
"""What makes Ray keep an object with a name in it where the Block lies, and not at its owner, who
has what is smaller by value: so the name is lost with its node, and Ray runs again what made it.
Ray's default (`max_direct_call_object_size`).
"""
_DRIVER: Final = ray_worker.SCRIPT_MODE


class Member:
    """What this process has of the arena of its node, for one job."""

    def __init__(self, job: str, node: str) -> None:
        self.job = job
        self.node = node
        self.keeper = _get(keeper.keeper_of(job, node))
        place: Place = _get(self.keeper.place.remote())
        self.place = place
        self.arena = open_arena(place.path, create=False)
        if self.arena.uuid != place.uuid:
            raise FlagstoneError(
                f"{place.path} of this process is not the arena of its node's keeper: all processes"
                " of a Ray node have to have the same /dev/shm"
            )
        self.attachment = self.arena._link.attachment
        self.path = os.fsencode(place.path)
        self.ballast = _BALLAST if place.apart else None
        if ray_worker.global_worker.mode != _DRIVER:
            self.attachment.tended()  # Ray ends its workers by a signal, in good order
        self.group = look(self.arena._link, place.group)
        self.store = self.arena.store(place.store, create=False)
        self._tokens: list[Any] = []
        self._coming: Any = None
        self._lock = threading.Lock()

    def token(self) -> Any:
        """One of Ray's references to a token, which nobody else has."""
        with self._lock:
            if not self._tokens:
                coming = self._coming or self.keeper.tokens.remote(_TOKENS)
                self._coming = None
                store, tokens = _get(coming)
                if store != self.place.store:
                    raise Closed(f"the keeper of {self.arena} was killed, and began again")
                self._tokens = tokens
            elif self._coming is None and len(self._tokens) <= _TOKENS // 2:
                self._coming = self.keeper.tokens.remote(_TOKENS)  # there when they are needed
            return self._tokens.pop()

    def hold(self, block: Block) -> Any:
        """Let the keeper hold a Block for as long as the token that is returned is known."""
        token = self.token()
        self.store.put(token.hex().encode(), block)
        return token


_lock = threading.Lock()
_member: tuple[int, Member] | None = None
_first: tuple[int, Any] | None = None


def whereabouts() -> tuple[str, str]:
    """The job and the node of this process, in hex.

    Raises:
        RuntimeError: Ray has not begun here.
    """
    if not ray.is_initialized():
        raise RuntimeError("Ray has not begun in this process: flagstone.ray.init()")
    context = ray.get_runtime_context()
    return context.get_job_id(), context.get_node_id()


def here(anew: Member | None = None) -> Member:
    """This process's; another one than `anew`, whose keeper is gone.

    Raises:
        RuntimeError: Ray has not begun here, or its driver has not called `enable()`.
        FlagstoneError, OSError: its node has no arena, and none can be made.
    """
    global _member
    job, node = whereabouts()
    pid = os.getpid()
    found = _member
    if found is not None and found[0] == pid and found[1] is not anew:
        member = found[1]
        if member.job == job and member.node == node and member.attachment.usable:
            return member
    with _lock:
        if _member is found:
            _member = pid, Member(job, node)
        assert _member is not None
        return _member[1]


def begin(first: Any) -> None:
    """The driver has started the first keeper, and keeps it: the others end with it."""
    global _first
    here()
    _first = os.getpid(), first


def end() -> None:
    """In the driver: the job's keepers end, and give back what they hold."""
    global _first
    first, _first = _first, None
    if first is None or first[0] != os.getpid() or not ray.is_initialized():
        return
    with contextlib.suppress(RayError):
        ray.get(first[1].end.remote(), timeout=_ENDING)


def leave() -> None:
    """This process is a member no more. What it has of the arena stays its own."""
    global _member
    with _lock:
        found, _member = _member, None
    if found is not None and found[0] == os.getpid():
        _wait_for_workers(found[1].arena)
        with contextlib.suppress(FlagstoneError):
            found[1].arena.close()


def _wait_for_workers(arena: Arena) -> None:
    """Let Ray end those who have the arena, so that the last one to leave it is this process."""
    until = time.monotonic() + _PATIENCE
    with contextlib.suppress(FlagstoneError):
        while any(one.alive and not one.is_self for one in arena.processes):
            if time.monotonic() >= until:
                return  # of another job; what is left then, the next who opens an arena removes
            time.sleep(_PAUSE)


def held(block: Block) -> tuple[Member, Block, Any]:
    """Let the keeper hold a Block, or its copy where it lies in another arena; the token."""
    member = here()
    for last in (False, True):
        try:
            if block._parts[0] is not member.attachment:
                block = put(block.array)
            return member, block, member.hold(block)
        except (Closed, KeyError, StaleHandle, RayActorError):
            # The keeper was killed, and is started again, with a group of its own.
            if last:
                raise
            member = here(anew=member)
    raise AssertionError


def put(array: Any) -> Block:
    """A copy of an array in this node's arena, in the job's group."""
    return allocated(lambda one: one.arena.put(array, group=one.group))


def allocated(allocate: Callable[[Member], Block]) -> Block:
    """What it allocates; where there is no room, after the keeper has let go of what it can."""
    member = here()
    until = None
    while True:
        try:
            return allocate(member)
        except Closed:
            if until is not None:
                raise
            member = here(anew=member)
            until = time.monotonic()
        except (ArenaFull, GroupLimitExceeded):
            # Ray counts references by messages, so what was dropped just now takes a moment.
            now = time.monotonic()
            if until is None:
                until = now + _PATIENCE
            elif now >= until:
                raise
            else:
                time.sleep(_PAUSE)
            lost = until - now < _PATIENCE / 2  # nothing else has helped
            _get(member.keeper.sweep.remote(copies=True, lost=lost))


def brought(job: str, node: str, handle: bytes, token: Any) -> Block:
    """This node's copy of a Block of another node: one for all who read the same name here.

    Raises:
        RayError, RuntimeError: nobody has its bytes any more.
    """
    store, key = here().store, keeper.copy_key(node, token)
    with contextlib.suppress(KeyError, FlagstoneError):
        return store.block(key)
    raw, descr, shape, order = _fetch(job, node, handle, key)
    array: Any = np.frombuffer(raw, np.uint8).view(np.lib.format.descr_to_dtype(descr))
    block = put(array.reshape(shape, order=order))
    with contextlib.suppress(KeyError, FlagstoneError):
        store.replace(key, block, if_version=0)
        return store.block(key)
    return block  # without room, or a keeper: the reader alone has it


def _fetch(job: str, node: str, handle: bytes, key: str) -> Any:
    """What the keeper of another node says of a Block there; if it is lost, what some keeper says
    of its copy.
    """
    try:
        return _get(_get(keeper.keeper_of(job, node)).fetch.remote(handle))
    except RayError:
        for other in _get(keeper.find_first(job).everyone.remote()):
            with contextlib.suppress(RayError):
                said = _get(other.fetch_copy.remote(key))
                if said is not None:
                    return said
        raise


def _get(ref: Any) -> Any:
    """`ray.get`, also where Ray would warn a coroutine: what is asked for here comes at once."""
    with _unwarned():
        return ray.get(ref)


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    before = ray_worker.blocking_get_inside_async_warned
    ray_worker.blocking_get_inside_async_warned = True
    try:
        yield
    finally:
        ray_worker.blocking_get_inside_async_warned = before


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
