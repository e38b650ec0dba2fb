"""Keeper: an actor for each job and node, which holds what travels.

What a process sends is a name. The Block behind it has to live for as long as Ray may still hand
that name out: to many who read one ObjectRef, to a task that is run again, after the death of who
made it. Ray counts that already, for objects. So the keeper makes small objects, tokens, by
`ray.put`, and owns them. Each Block that is sent has a token nested in its pickle, and lies in the
keeper's store under the token's id; when the keeper's own count of references knows a token no
more, nobody can have the name any more, and the store lets go of the Block.

A Block of another node that was read here is copied once, and the copy lies in this keeper's store,
under the node and the token, for as long as the keeper over there knows the token. When that node
is lost, such copies are all that is left of what lay there, and readers everywhere ask for them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ray
from ray._private.worker import global_worker
from ray.exceptions import (
    ActorUnavailableError,
    ActorUnschedulableError,
    RayActorError,
    RayError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flagstone._core import Handle
from flagstone.errors import FlagstoneError
from flagstone.format import descr_of, order_of
from flagstone.part import bytes_of
from flagstone.ray.settings import read

if TYPE_CHECKING:
    from flagstone._core import Block
    from flagstone.arena import Arena
    from flagstone.group import Group
    from flagstone.sizes import Size
    from flagstone.store import Store

__all__ = ["Keeper", "Place", "copy_key", "find_first", "first", "keeper_of"]

_NAMESPACE: Final = "flagstone"
_SOONEST: Final = 0.01
_LATEST: Final = 0.16
"""Seconds between two looks at the tokens while something travels: soonest after one that found
something to let go of, for who sends a hundred MiB again and again finds the pages of before; twice
as long after each that found nothing.
"""
_ELSEWHERE: Final = 0.25
"""Seconds between two questions to another node which of its tokens are known still."""
_STEP: Final = 0.1
_MOST: Final = 1000


class Place(NamedTuple):
    """Where Blocks of a job lie on a node."""

    path: str
    uuid: str
    group: int
    store: str
    apart: bool
    """Whether the job goes on without this node: it is not the driver's."""


class Keeper:
    """The actor that holds what one job sends from one node. The node's environment says what was
    not given.

    Args:
        job: the job's id, in hex.
        apart: as in `Place`.
        arena, capacity, limit: as in `flagstone.ray.init`, for every node.
    """

    def __init__(
        self,
        job: str,
        apart: bool,
        arena: str | None,
        capacity: Size | None,
        limit: Size | None,
    ) -> None:
        self._job = job
        self._given = (arena, capacity, limit)
        self._others: dict[str, Any] = {}
        self._peers: dict[str, Any] = {}
        self._stores: dict[str, str] = {}
        self._lost: set[str] = set()
        self._asked = 0.0
        settings = read(arena, capacity, limit)
        self._arena = settings.open()
        self._arena._link.attachment.tended()  # Ray ends its workers by a signal, in good order
        node = ray.get_runtime_context().get_node_id()
        name = f"ray {job} {node[:8]}"
        self._group, self._store = _begin(self._arena, name, settings.limit)
        path = self._arena.path
        assert path is not None
        self._place = Place(path, self._arena.uuid, self._group._id, self._store.name, apart)
        self._sweeping = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flagstone keeper", daemon=True)
        self._thread.start()

    def place(self) -> Place:
        """Where Blocks lie here."""
        return self._place

    def tokens(self, number: int) -> tuple[str, list[Any]]:
        """The store that they are for, and so many new tokens. The keeper keeps none of them."""
        return self._place.store, [ray.put(None) for _ in range(number)]

    def fetch(self, handle: bytes) -> Any:
        """The bytes of a Block for another node, and its dtype, shape and order."""
        return _bytes(self._arena.get(Handle(handle)))

    def fetch_copy(self, key: str) -> Any:
        """The same of a copy that lies here; None: there is none."""
        try:
            return _bytes(self._store.block(key))
        except KeyError:
            return None

    def sweep(self, copies: bool = False, lost: bool = False) -> int:
        """Let go of what nobody can ask for any more; how many.

        Args:
            copies: also of copies that can be had again.
            lost: also of copies of what lay on lost nodes.
        """
        with self._sweeping:
            keys = [key for key in self._store if isinstance(key, bytes)]
            # The tokens are asked for after the keys, because each was there before its Block was
            # stored: one that is missing has gone.
            known = _known()
            gone: list[Any] = [key for key in keys if key not in known]
            if copies:
                for key, (node, _) in self._copies().items():
                    if lost or node not in self._lost:
                        gone.append(key)
            for key in gone:
                self._store.pop(key, None)
        return len(gone)

    def known(self, tokens: list[bytes]) -> tuple[str, list[bytes]]:
        """The store that this keeper's tokens are for, and which of these are known still."""
        now = _known()
        return self._place.store, [one for one in tokens if one in now]

    def everyone(self) -> list[Any]:
        """The job's keepers, those that have ended too. Only the one of the driver knows them."""
        return [ray.get_runtime_context().current_actor, *self._others.values()]

    def for_node(self, node: str) -> Any:
        """The keeper of a node of the job: made by this one, it ends with it."""
        context = ray.get_runtime_context()
        if node == context.get_node_id():
            return context.current_actor
        name = f"{_first_name(self._job)}-{node}"
        self._others[node] = _start(name, self._job, node, True, *self._given)
        return self._others[node]

    def end(self) -> None:
        """The job ends in order: nothing travels any more."""
        for other in self._others.values():
            try:
                ray.get(other.end.remote(), timeout=5)
            except ray.exceptions.RayError:
                pass  # its node is gone, and with it what it held
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._group.destroy()
            self._arena.close()

    def _watch(self) -> None:
        pause = _LATEST
        while not self._ended.wait(pause):
            gone = self.sweep() if len(self._store) else 0
            now = time.monotonic()
            if now - self._asked >= _ELSEWHERE:
                self._asked = now
                self._sweep_copies()
            pause = _SOONEST if gone else min(2 * pause, _LATEST)

    def _copies(self) -> dict[str, tuple[str, bytes]]:
        """The copies of what lies on other nodes: which node, and the token there."""
        found = {}
        for key in self._store:
            if isinstance(key, str):
                node, _, token = key.partition(" ")
                found[key] = node, token.encode()
        return found

    def _sweep_copies(self) -> None:
        """Let go of copies whose names nobody has any more, as the keepers over there say. What lay
        on a lost node stays: nobody is left who would know.
        """
        by_node: dict[str, dict[str, bytes]] = {}
        for key, (node, token) in self._copies().items():
            if node not in self._lost:
                by_node.setdefault(node, {})[key] = token
        for node, keys in by_node.items():
            try:
                said = self._ask(node, list(keys.values()))
            except ActorUnavailableError:
                continue
            except (RayActorError, ActorUnschedulableError):
                self._lost.add(node)
                continue
            except (RayError, ValueError):
                continue
            if said is None:
                return  # this one ends
            store, known = said
            if self._stores.setdefault(node, store) != store:
                self._lost.add(node)  # its keeper was killed, and began again knowing nothing
                continue
            for key in keys:
                if keys[key] not in known:
                    self._store.pop(key, None)

    def _ask(self, node: str, tokens: list[bytes]) -> Any:
        """`known` of the keeper of another node; None: this one ends meanwhile."""
        other = self._peers.get(node)
        if other is None:
            first = find_first(self._job)
            other = self._answer(first.for_node.remote(node))
            if other is None:
                return None
            self._peers[node] = other
        return self._answer(other.known.remote(tokens))

    def _answer(self, ref: Any) -> Any:
        while not self._ended.is_set():
            if ray.wait([ref], timeout=_STEP)[0]:
                return ray.get(ref)
        return None


def copy_key(node: str, token: Any) -> str:
    """What a copy of a Block of another node is stored under."""
    return f"{node} {token.hex()}"


def _known() -> Any:
    """The objects that this process's count of references has, by id in hex."""
    return global_worker.core_worker.get_all_reference_counts()


def _bytes(block: Block) -> tuple[Any, Any, tuple[int, ...], str]:
    array = block.array
    return bytes_of(block), descr_of(array.dtype), array.shape, order_of(array, "K")


def _begin(arena: Arena, name: str, limit: int | None) -> tuple[Group, Store]:
    """A group and a store of this keeper's own. Who was killed, and began again as this one, alone
    knew which tokens its Blocks had: they end, though others still look at them.
    """
    for number in range(_MOST):
        own = f"{name} {number}"
        try:
            group = arena.group(own, limit=limit, create=True)
            return group, arena.store(own, group=group, create=True)
        except FileExistsError:
            with contextlib.suppress(FlagstoneError, FileNotFoundError):  # it ends just now
                arena.store(own, create=False).destroy()
            with contextlib.suppress(FlagstoneError, FileNotFoundError):
                arena.group(own, create=False).destroy()
    raise FileExistsError(f"{arena} has {_MOST} groups of keepers that ended")


def first(job: str, node: str, arena: str | None, capacity: Size | None, limit: Size | None) -> Any:
    """The keeper of the driver's node, made by the driver if there is none. It makes the others."""
    return _start(_first_name(job), job, node, False, arena, capacity, limit)


def find_first(job: str) -> Any:
    """The keeper of the driver's node. `ValueError` if there is none."""
    return ray.get_actor(_first_name(job), namespace=_NAMESPACE)


def keeper_of(job: str, node: str) -> Any:
    """A reference to the keeper of a node, which the driver's one starts.

    Raises:
        RuntimeError: the driver's node has none.
    """
    try:
        first = find_first(job)
    except ValueError:
        raise RuntimeError(
            "this job has no keeper of Blocks: call flagstone.ray.init() in the driver, or"
            " flagstone.ray.enable() where Ray runs already"
        ) from None
    return first.for_node.remote(node)


def _start(name: str, job: str, node: str, *given: Any) -> Any:
    options: dict[str, Any] = {
        "name": name,
        "namespace": _NAMESPACE,
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,  # who asks while it begins again waits
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }
    return ray.remote(Keeper).options(**options).remote(job, *given)


def _first_name(job: str) -> str:
    return f"flagstone-keeper-{job}"
