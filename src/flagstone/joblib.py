"""joblib's backend "flagstone": arguments and results of `Parallel` go through an arena.

    import flagstone.joblib

    with joblib.parallel_config("flagstone", arena=arena):
        joblib.Parallel(n_jobs=4)(joblib.delayed(work)(volume, z) for z in range(100))

It is joblib's own "loky" backend, whose workers, batches and errors it keeps. A call is pickled by
protocol 5, as `flagstone.share()` does it: what is large goes into one Block, and a view of a Block
travels as a view. A large array that many calls are given is copied once, as joblib's own memmap
is, but into the arena.

Arguments put nothing in flight: this process keeps their Blocks until the answer has come, and the
call names them, so that a worker that is killed, a call that is run again or is never run leaves
nothing. Results are messages of a group of the `Parallel` call's own; what is still in flight when
it ends was lost, and is dropped.

Importing this module registers the backend. Needs joblib (`pip install "flagstone[joblib]"`).
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import tempfile
import threading
import weakref
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from flagstone.extra import Extra

with Extra("flagstone.joblib", "joblib", "joblib"):
    import joblib
import numpy as np
from joblib._memmapping_reducer import _get_backing_memmap, reduce_array_memmap_backward
from joblib._parallel_backends import LokyBackend
from joblib.externals.loky.backend.reduction import _dispatch_table, get_loky_pickler

from flagstone._core import Attachment, Block
from flagstone.arena import open as open_arena
from flagstone.attach import Locator, attach, locate
from flagstone.block import alloc_bytes
from flagstone.errors import Closed, FlagstoneError
from flagstone.group import group_id
from flagstone.part import base_of
from flagstone.sharing import (
    Collector,
    Message,
    end_message_group,
    load_message,
    message_group,
    plainly,
    reduce_array,
    through_arena,
)
from flagstone.sizes import Size, parse_seconds, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstone.arena import Arena
    from flagstone.group import Group
    from flagstone.weak import WeakBlock

__all__ = ["FlagstoneBackend"]


class FlagstoneBackend(LokyBackend):
    """What `parallel_config("flagstone", ...)` and `parallel_backend` make.

    Args:
        arena: through which; it needs a name, for workers are new processes. None is one of this
            process's own, of 1 GiB, which ends with it.
        group: what calls and results are charged to: a group for each `Parallel` below this one
            (None: below the arena itself).
        threshold: bytes from which on a buffer goes through the arena.
        wait: seconds to wait for memory; what finds none goes through the pipe, as pickles do.
        options: joblib's, as for "loky" (`inner_max_num_threads`, `idle_worker_timeout`).

    `Parallel(max_nbytes=, mmap_mode=)` mean what they mean for joblib: arrays larger than that are
    copied once, however many calls have them as an argument, and are read-only over there ("r") or
    shared ("r+"); with "c" or None each call has a copy of its own.
    """

    def __init__(
        self,
        *positional: Any,
        arena: Arena | None = None,
        group: Group | None = None,
        threshold: Size = "64KiB",
        wait: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*positional, **options)
        self._arena = arena
        self._under = group
        self._threshold = parse_size(threshold, "threshold")
        self._wait = wait
        self._call: _Parallel | None = None
        parse_seconds(wait, "wait")
        if arena is not None and arena.name is None and arena.path is None:
            raise ValueError(
                "joblib's workers are new processes, which cannot have an anonymous arena:"
                " flagstone.open(name)"
            )

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Begin a `Parallel` call: workers, and a group."""
        # With a folder that is named, joblib makes none in /dev/shm, for memmaps that never come.
        options["temp_folder"] = options.get("temp_folder") or tempfile.gettempdir()
        number: int = super().configure(n_jobs, parallel, **options)
        if self._call is None:
            arena = self._arena or _own_arena()
            self._call = _Parallel(
                arena,
                self._under,
                self._threshold,
                self._wait,
                options.get("max_nbytes"),
                options.get("mmap_mode"),
            )
        return number

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Send a batch of calls to a worker."""
        assert self._call is not None
        call = _Call(func, self._call)
        future = super().submit(call, callback)
        future.add_done_callback(call.done)
        return future

    def terminate(self) -> None:
        """End the `Parallel` call: all answers are there, or will never come."""
        super().terminate()
        call, self._call = self._call, None
        if call is not None:
            call.end()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers; with them their answers are lost."""
        super().abort_everything(ensure_ready)
        if self._call is not None:
            self._call.drop_lost()


class _Parallel:
    """A `Parallel` call in its own process: a group, and arrays that several calls are given."""

    def __init__(
        self,
        arena: Arena,
        under: Group | None,
        threshold: int,
        wait: float | None,
        max_nbytes: int | None,
        mmap_mode: str | None,
    ) -> None:
        self.arena = arena
        self.threshold = threshold
        self.wait = wait
        self.group = message_group(arena, "joblib", under)
        self._once = max_nbytes if mmap_mode in ("r", "r+", "w+") else None
        self._readonly = mmap_mode == "r"
        self._arrays: dict[int, tuple[Any, Block]] = {}
        self.where = _Where(
            locate(arena._link.attachment),
            group_id(arena._link, arena._link.attachment, self.group),
            threshold,
            wait,
        )

    def alloc(self, nbytes: int) -> Block:
        """A Block for a message, charged to the call's group."""
        return self.arena.alloc(nbytes, group=self.group, wait=self.wait)

    def reduce_array(self, array: Any) -> Any:
        """Pickle an array as `share()` does; one that many calls are given is copied once only."""
        if (
            self._once is not None
            and array.nbytes > self._once
            and not array.dtype.hasobject
            and base_of(array) is None
            and _get_backing_memmap(array) is None
        ):
            try:
                return _look, (self._copy_of(array), self._readonly)
            except (FlagstoneError, OSError, TypeError):
                pass  # no room, or a dtype of its own: in the way of all others
        return _reduce_array(array)

    def _copy_of(self, array: Any) -> Block:
        key = id(array)
        found = self._arrays.get(key)
        if found is not None and found[0]() is array:
            return found[1]
        block = self.arena.put(array, group=self.group, wait=self.wait)
        arrays = self._arrays
        # The entry goes with the array, so before another one can have its id.
        self._arrays[key] = weakref.ref(array, lambda _: arrays.pop(key, None)), block
        return block

    def drop_lost(self) -> None:
        """Drop results that nobody can be waiting for any more."""
        self.arena.drop_in_flight(group=self.group)

    def end(self) -> None:
        """Results that were taken go on."""
        self._arrays.clear()
        end_message_group(self.arena, self.group)


class _Call:
    """A batch of calls on its way to a worker: what is pickled, and what is kept meanwhile."""

    def __init__(self, function: Any, parallel: _Parallel) -> None:
        self._function = function
        self._parallel = parallel
        self._kept: list[Block] = []

    def done(self, future: Any) -> None:
        """The answer has come, or will never come."""
        self._kept.clear()

    def __reduce__(self) -> Any:
        parallel = self._parallel
        kept: list[Block] = []

        def named(block: Block) -> Any:
            kept.append(block)
            return _get, (block.weak(),)

        collector = Collector(parallel.threshold)
        reducers = {np.ndarray: parallel.reduce_array, Block: named}
        body = _pickle(self._function, collector, reducers)
        message = None
        if collector.buffers or len(body) >= parallel.threshold:
            try:
                message = through_arena(body, collector, parallel.alloc)
            except (FlagstoneError, OSError) as error:
                message = plainly(body, collector, error)
        if message is None:
            rest, own, blocks, spans = bytes(body), None, [], []
        else:
            rest, own, blocks, spans = message.parts
            kept.extend(blocks if own is None else [own, *blocks])
            message.count()
        self._kept = kept
        weak = None if own is None else own.weak()
        return _load_call, (rest, weak, [one.weak() for one in blocks], spans, parallel.where)


class _Where:
    """Where a worker puts its results."""

    __slots__ = ("_locator", "_wait", "group", "threshold")

    def __init__(self, locator: Locator, group: int, threshold: int, wait: float | None) -> None:
        self._locator = locator
        self.group = group
        self.threshold = threshold
        self._wait = wait

    def alloc(self, nbytes: int) -> Block:
        """A Block for a message; `Closed` where the `Parallel` call has ended."""
        return alloc_bytes(self.attachment(), nbytes, None, self._wait, self.group)

    def attachment(self) -> Attachment:
        """The worker's attachment to the arena."""
        return attach(self._locator)

    def __reduce__(self) -> Any:
        return _Where, (self._locator, self.group, self.threshold, self._wait)


class _Loaded:
    """A batch of calls in the worker."""

    __slots__ = ("_function", "_where")

    def __init__(self, function: Any, where: _Where) -> None:
        self._function = function
        self._where = where

    def __call__(self) -> Any:
        return _Result(self._function(), self._where)


class _Result:
    """Results on their way back: what is pickled; what arrives is the results themselves."""

    __slots__ = ("_value", "_where")

    def __init__(self, value: Any, where: _Where) -> None:
        self._value = value
        self._where = where

    def __reduce__(self) -> Any:
        where = self._where
        collector = Collector(where.threshold)
        body = _pickle(self._value, collector, {np.ndarray: _reduce_array})
        if not collector.buffers and len(body) < where.threshold:
            return pickle.loads, (bytes(body),)
        message: Message
        try:
            message = through_arena(body, collector, where.alloc)
        except Closed:
            # The Parallel call is over, or its process was killed: nobody reads the pipe, and a
            # worker that filled it would stand there for ever. Its end is all that is sent.
            raise
        except (FlagstoneError, OSError) as error:
            message = plainly(body, collector, error)
        message.count()
        return load_message, message.parts


def _load_call(
    rest: Any, own: WeakBlock | None, blocks: list[WeakBlock], spans: list[Any], where: _Where
) -> _Loaded:
    strong = None if own is None else own.get()
    return _Loaded(load_message(rest, strong, [one.get() for one in blocks], spans), where)


def _get(weak: WeakBlock) -> Block:
    return weak.get()


def _look(block: Block, readonly: bool) -> Any:
    """The array of an argument that many calls have."""
    array = block.array
    if readonly:
        array.flags.writeable = False
    return array


def _reduce_array(array: Any) -> Any:
    # What lies in a file that was mapped is mapped over there, as joblib does it.
    if isinstance(_get_backing_memmap(array), np.memmap):
        return reduce_array_memmap_backward(array)
    return reduce_array(array)


def _pickle(obj: Any, collector: Collector, reducers: dict[type, Callable[[Any], Any]]) -> Any:
    """What joblib's own pickler makes of it, without what the collector takes."""
    base = get_loky_pickler()._loky_pickler_cls
    before = getattr(base, "dispatch_table", copyreg.dispatch_table)
    if not hasattr(before, "keys"):  # the plain pickler's has no value in the class
        before = copyreg.dispatch_table
    ours: dict[Any, Any] = {**reducers, np.memmap: _reduce_array}
    table = ChainMap(ours, _dispatch_table, before)
    file = io.BytesIO()
    pickler = base.__new__(base)
    pickler.dispatch_table = table  # where the C pickler looks for it, once, in what follows
    pickler.__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=collector)
    try:
        pickler.dump(obj)
    finally:
        # It would keep what it has seen, for as long as a traceback keeps it.
        pickler.clear_memo()
    return file.getbuffer()


_lock = threading.Lock()
_own: tuple[int, Arena] | None = None


def _own_arena() -> Arena:
    """The arena of this process for calls that were given none."""
    global _own
    pid = os.getpid()
    with _lock:
        if _own is None or _own[0] != pid or _own[1].closed:
            _own = pid, open_arena(f"joblib-{pid}-{os.urandom(6).hex()}")
        return _own[1]


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
joblib.register_parallel_backend("flagstone", FlagstoneBackend)
