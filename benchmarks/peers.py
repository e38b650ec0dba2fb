"""Small things that several parts need: names of their own, processes that answer, iceoryx2."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flagstone

_numbers = itertools.count(1)
_pipes: list[Any] = []
"""Our ends of the pipes to all Peers: a forked one must not keep them from being closed."""


def own_name() -> str:
    """A name in shared memory that nobody else has."""
    return f"fst-bench-{os.getpid()}-{next(_numbers)}"


@contextlib.contextmanager
def own_arena(capacity: str = "2GiB") -> Iterator[flagstone.Arena]:
    with flagstone.open(own_name(), capacity=capacity, create=True) as arena:
        yield arena


def empty_method(arena: Any) -> Callable[[], Any]:
    """A method of the same extension that does nothing but look at a flag: what any call costs."""
    method: Callable[[], Any] = arena._link.attachment.require_usable
    return method


class Peer:
    """A forked process that calls `function(pipe, *arguments)`. As a context manager it ends: its
    pipe is closed, and it is waited for.
    """

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        _pipes.append(self.pipe)
        self.process = context.Process(target=_serve, args=(function, theirs, arguments))
        self.process.start()
        theirs.close()

    def ask(self, *words: Any) -> Any:
        self.pipe.send(words)
        return self.pipe.recv()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        with contextlib.suppress(ValueError):
            _pipes.remove(self.pipe)
        self.pipe.close()
        self.process.join(30)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _serve(function: Callable[..., None], pipe: Any, arguments: tuple[Any]) -> None:
    while _pipes:
        _pipes.pop().close()
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        function(pipe, *arguments)


def stopped(pipe: Any) -> bool:
    """Whether the other side has asked for something, or is gone."""
    return bool(pipe.poll())


@contextlib.contextmanager
def without_leftovers(pattern: str) -> Iterator[None]:
    """Remove the files in /dev/shm that a peer leaves behind: those that were not there before."""
    folder = Path("/dev/shm")
    before = set(folder.glob(pattern))
    try:
        yield
    finally:
        for path in set(folder.glob(pattern)) - before:
            path.unlink(missing_ok=True)


def iceoryx2_publisher(nbytes: int) -> tuple[Any, Any]:
    """(module, publisher of byte slices); whatever is missing is an exception."""
    import ctypes

    import iceoryx2 as iox

    iox.set_log_level(iox.LogLevel.Error)
    node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
    service = (
        node.service_builder(iox.ServiceName.new(own_name()))
        .publish_subscribe(iox.Slice[ctypes.c_uint8])
        .open_or_create()
    )
    publisher = service.publisher_builder().initial_max_slice_len(nbytes).create()
    return iox, (node, service, publisher)
