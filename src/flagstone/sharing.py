"""`flagstone.share()`: what this process sends by `multiprocessing` carries its large buffers
through an arena.

A message is pickled by protocol 5, which hands large buffers over instead of copying them into the
pickle (PEP 574). Those that lie in an arena already are sent as they are; the others, and the rest
of the pickle if that is large too, are copied into one Block, once the pickle has succeeded. What
goes through the pipe is the small rest and the Block's own pickle. Whoever receives it needs
nothing but this package: the message is an ordinary pickle, whose loading ends in `load_message`.

`ForkingPickler.dumps` is what Queue, SimpleQueue, Pipe, Pool, ProcessPoolExecutor and Manager call
for each object that they send, so it is what is replaced.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from flagstone._core import Block, Ticket, dumped_by, take_back
from flagstone.closing import Closing
from flagstone.errors import FlagstoneError
from flagstone.group import look
from flagstone.part import address_of, base_of, bytes_of
from flagstone.sizes import Size, parse_seconds, parse_size

if TYPE_CHECKING:
    from flagstone.arena import Arena
    from flagstone.group import Group

__all__ = [
    "Collector",
    "Message",
    "ShareStats",
    "Sharing",
    "can_be_sent",
    "end_message_group",
    "load_message",
    "message_group",
    "plainly",
    "reduce_array",
    "share",
    "through_arena",
]

_ALIGN: Final = 64
_LOST: Final = 600.0
"""Seconds after which a message of `message_group` is dropped that nobody took, where all who could
tell were killed.
"""
_CONFIG: Final = "flagstone.share"
_PLAIN_KINDS: Final = frozenset("biufcSU")
"""Of dtypes whose arrays have the buffer protocol, whoever defined them."""
_WITH_GIL: Final = 256 << 10
"""Bytes up to which a copy keeps the GIL: to give it up, by way of NumPy, takes longer."""


@dataclass(frozen=True)
class ShareStats:
    """What this process has sent since `share()`; `flagstone.share.stats`."""

    messages: int
    """Messages with at least one buffer in an arena."""
    bytes: int
    """Bytes copied into arenas for them, once each."""
    buffers: int
    """Buffers that were copied."""
    in_place: int
    """Buffers that lay in an arena and were sent as they are."""
    plain: int
    """Messages that had large buffers and went through the pipe all the same."""
    reasons: dict[str, int]
    """Why, by the name of the error: `ArenaFull`, `GroupLimitExceeded`, `ReadOnly`, `Closed`."""


class _Counts:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.messages = self.bytes = self.buffers = self.in_place = self.plain = 0
        self.reasons: dict[str, int] = {}

    def sent(self, nbytes: int, buffers: int, in_place: int) -> None:
        with self.lock:
            self.messages += 1
            self.bytes += nbytes
            self.buffers += buffers
            self.in_place += in_place

    def fell_back(self, error: BaseException) -> None:
        with self.lock:
            self.plain += 1
            name = type(error).__name__
            self.reasons[name] = self.reasons.get(name, 0) + 1

    def read(self) -> ShareStats:
        with self.lock:
            return ShareStats(
                self.messages,
                self.bytes,
                self.buffers,
                self.in_place,
                self.plain,
                dict(self.reasons),
            )


_counts = _Counts()


class Sharing(Closing):
    """What `share()` returns: in force from then on, until `close()` or the end of a `with` block.

    Several at once: the newest one is in force. What was sent goes on to be receivable after the
    end. Safe to use from any thread.
    """

    __slots__ = ("_arena", "_group", "_lock", "_made", "_pid", "_threshold", "_under", "_wait")

    def __init__(
        self, arena: Arena, made: bool, threshold: int, under: Group | None, wait: float | None
    ) -> None:
        self._arena = arena
        self._made = made  # by share() itself, so that it is closed with it
        self._threshold = threshold
        self._under = under
        self._wait = wait
        self._lock = threading.Lock()
        self._group: Group | None = None
        self._pid = 0

    @property
    def arena(self) -> Arena:
        """The arena through which buffers are sent."""
        return self._arena

    @property
    def group(self) -> Group:
        """What this process sends is charged to: a group of its own below the one that `share()`
        was given. It is closed when the process ends, or with this; destroying it, or the group
        above, ends what was sent and never received.
        """
        pid = os.getpid()
        with self._lock:
            if self._group is None or self._pid != pid:
                name = f"share-{pid}-{os.urandom(4).hex()}"
                self._group = self._arena.group(name, parent=self._under)
                self._pid = pid
            return self._group

    def close(self) -> None:
        """Send as before from now on. An arena that `share()` made is closed. Again is fine."""
        _end(self)
        with self._lock, contextlib.suppress(FlagstoneError):
            if self._group is not None and self._pid == os.getpid():
                self._group.close()
            self._group = None
            if self._made:
                self._arena.close()

    def __repr__(self) -> str:
        return f"<Sharing through {self._arena!r}>"

    def __reduce__(self) -> Any:
        """For a process being started: there it is in force as well, if the arena is there.

        Where it is in force already, its pickle is that one.

        It is told the group by its id: a group's pickle is a message in flight, and stayed there
        where the process is killed while it starts.
        """
        try:
            what = pickle.dumps(self._arena, pickle.HIGHEST_PROTOCOL)
        except FlagstoneError:
            return _share_too, (None, None, 0, None)
        ident = None if self._under is None else self._under._id
        return _share_too, (what, ident, self._threshold, self._wait)

    def _alike(self) -> tuple[bytes, int | None, int, float | None]:
        under = None if self._under is None else self._under._id
        return self._arena._link.uuid, under, self._threshold, self._wait

    # ---- what a message becomes

    def dumps(self, obj: Any) -> Any:
        """The pickle of one message: `ForkingPickler.dumps` while this is in force."""
        collector = Collector(self._threshold)
        body, tickets = _pickle(obj, collector)
        if not collector.buffers and len(body) < self._threshold:
            return body
        try:
            try:
                message = through_arena(body, collector, self._alloc)
                pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            except (FlagstoneError, OSError) as error:
                message = plainly(body, collector, error)
                pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        except BaseException:  # interrupted, no memory of this process's own: nobody gets it
            take_back(tickets)
            raise
        message.count()
        return pickled

    def _alloc(self, nbytes: int) -> Block:
        return self._arena.alloc(nbytes, group=self.group, wait=self._wait)


def through_arena(body: Any, collector: Collector, alloc: Callable[[int], Block]) -> Message:
    """What a pickle and its buffers become: one new Block, and those that the buffers lie in.

    Args:
        body: the pickle without its buffers.
        collector: took the buffers.
        alloc: makes a Block of so many bytes, and raises what `Arena.alloc` raises.
    """
    blocks: list[Block] = []
    spans: list[tuple[int, int, int]] = []  # which Block, where, how many bytes
    copies: list[tuple[int, Any]] = []
    end = 0
    known: dict[int, int] = {}
    in_place = 0
    for buffer in collector.buffers:
        block = base_of(buffer)
        if block is not None and can_be_sent(block):
            at = known.setdefault(id(block), len(blocks) + 1)
            if at > len(blocks):
                blocks.append(block)
            spans.append((at, address_of(buffer) - block._address, buffer.nbytes))
            in_place += 1
            continue
        spans.append((0, end, buffer.nbytes))
        copies.append((end, buffer))
        end += -(-buffer.nbytes // _ALIGN) * _ALIGN
    rest: Any = bytes(body) if len(body) < collector.threshold else (end, len(body))
    if isinstance(rest, tuple):
        copies.append((end, body))
        end += len(body)
    own = None
    if copies:
        own = alloc(end)
        array = own.array
        target = array.data
        for at, buffer in copies:
            nbytes = len(buffer)
            if nbytes <= _WITH_GIL:
                target[at : at + nbytes] = buffer
            else:
                array[at : at + nbytes] = np.frombuffer(buffer, np.uint8)
    return Message((rest, own, blocks, spans), (end, len(copies), in_place))


def plainly(body: Any, collector: Collector, error: BaseException) -> Message:
    """The message that goes through the pipe, because of this error."""
    _counts.fell_back(error)
    buffers = [bytearray(one) for one in collector.buffers]
    return Message((bytes(body), None, [], buffers), None)


def message_group(arena: Arena, kind: str, under: Group | None) -> Group:
    """A group for what is sent on behalf of one call, loader or the like of this process."""
    name = f"{kind}-{os.getpid()}-{os.urandom(4).hex()}"
    return arena.group(name, parent=under, messages_expire=_LOST)


def end_message_group(arena: Arena, group: Group) -> None:
    """End a group of messages, when everybody has ended who could take one: those that were not
    taken are dropped, what was taken goes on. Never raises.
    """
    try:
        arena.drop_in_flight(group=group)
        group.close()
    except FlagstoneError:
        pass  # the group or the arena has ended, and with it all of this


class Message:
    """A message in its pickle: what its parts are is known to `load_message`."""

    __slots__ = ("_counted", "parts")

    def __init__(self, parts: tuple[Any, ...], counted: tuple[int, int, int] | None) -> None:
        self.parts = parts
        self._counted = counted

    def count(self) -> None:
        """Count it in `share.stats`; to be called once it is pickled."""
        if self._counted is not None:
            _counts.sent(*self._counted)

    def __reduce__(self) -> Any:
        return load_message, self.parts


def load_message(body: Any, own: Block | None, blocks: list[Block], spans: list[Any]) -> Any:
    """Unpickle a message.

    Args:
        body: the pickle without its buffers, or where in the message's own Block it lies.
        own: the Block that was made for the message.
        blocks: further Blocks, whose bytes lay in an arena already.
        spans: for each buffer its Block (0: the message's own), first byte and length; or, where it
            went through the pipe, the bytes themselves.
    """
    raw = [None if own is None else bytes_of(own), *map(bytes_of, blocks)]
    buffers = [
        raw[span[0]][span[1] : span[1] + span[2]] if isinstance(span, tuple) else span  # type: ignore[index]
        for span in spans
    ]
    if isinstance(body, tuple):
        at, length = body
        body = raw[0][at : at + length].data  # type: ignore[index]
    return pickle.loads(body, buffers=buffers)


class Collector:
    """Takes the large buffers of one pickle, in the order in which it refers to them."""

    __slots__ = ("buffers", "threshold")

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.buffers: list[memoryview] = []

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the buffer is to be written into the pickle: a `buffer_callback`."""
        raw = buffer.raw()
        if raw.nbytes < self.threshold and base_of(raw) is None:
            return True
        self.buffers.append(raw)
        return False


class _Pickler(pickle.Pickler):
    """A pickler of messages: as multiprocessing's ForkingPickler, and with `reduce_array` for
    arrays, unless somebody has registered another function with that.
    """

    def __init__(self, file: io.BytesIO, collector: Collector) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL, buffer_callback=collector)
        self.dispatch_table = {np.ndarray: reduce_array, **copyreg.dispatch_table, **_reducers}


def _pickle(obj: Any, collector: Collector) -> tuple[memoryview, list[Ticket] | None]:
    """The pickle of an object, without the buffers that the collector takes; and what is in flight
    with it. If it raises, that was taken back.
    """
    file = io.BytesIO()
    tickets = dumped_by(_Pickler(file, collector).dump, obj)
    return file.getbuffer(), tickets


def reduce_array(array: np.ndarray[Any, np.dtype[Any]]) -> Any:
    """How an array is pickled: a view of a Block as a view, whatever its strides."""
    if array.base is not None and array.size:
        block = base_of(array)
        if block is not None and not array.dtype.hasobject and can_be_sent(block):
            before, after = _extent(array)
            first = address_of(array) - block._address
            span = pickle.PickleBuffer(bytes_of(block)[first - before : first + after].data)
            return _view, (span, array.dtype, array.shape, array.strides, before)
    flags, dtype = array.flags, array.dtype
    if not flags.forc or not array.nbytes or dtype.hasobject:
        return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if flags.writeable and dtype.kind in _PLAIN_KINDS:
        # As NumPy's own pickle, whose way there and back leads through Python and takes three times
        # as long.
        what = array.shape, dtype, pickle.PickleBuffer(array)  # type: ignore[arg-type]
        return np.ndarray, what if flags.c_contiguous else (*what, 0, None, "F")
    if flags.writeable and dtype.kind not in "mM":
        return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    # NumPy's own pickle hands no buffers of dates over, and those of read-only arrays would be
    # read-only where they arrive.
    order: Literal["C", "F"] = "C" if flags.c_contiguous else "F"
    raw = array.reshape(-1, order=order).view(np.uint8)
    return _own, (pickle.PickleBuffer(raw.data), dtype, array.shape, order)


def _view(
    buffer: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], where: int
) -> np.ndarray[Any, np.dtype[Any]]:
    return np.ndarray(shape, dtype, buffer, where, strides)


def _own(
    buffer: Any, dtype: Any, shape: tuple[int, ...], order: Literal["C", "F"]
) -> np.ndarray[Any, np.dtype[Any]]:
    """A writable array, whatever its original was: these bytes came for it alone."""
    if isinstance(buffer, memoryview):  # a read-only look at them
        buffer = buffer.obj
    if isinstance(buffer, bytes):
        buffer = bytearray(buffer)
    array: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(buffer, np.uint8).view(dtype)
    return array.reshape(shape, order=order)


def _extent(array: np.ndarray[Any, np.dtype[Any]]) -> tuple[int, int]:
    """The bytes that an array reaches into memory: before its first element (where strides are
    negative), and from there to the end of the last.
    """
    steps = [stride * (n - 1) for n, stride in zip(array.shape, array.strides, strict=True)]
    before = -sum(step for step in steps if step < 0)
    return before, sum(step for step in steps if step > 0) + array.itemsize


def can_be_sent(block: Block) -> bool:
    """Whether this process can put the Block into a message: not where its arena is read-only, or
    did not come along over a fork.
    """
    attachment = block._parts[0]
    return attachment.usable and not attachment.readonly


# ---- what is in force

_lock = threading.RLock()
_active: list[Sharing] = []  # the last one is in force
_before: Any = None  # `ForkingPickler.dumps` as it was
_reducers: Mapping[type, Any] = {}
"""ForkingPickler's own table, so that what is registered later counts as well."""


def _begin(sharing: Sharing) -> None:
    global _before, _reducers
    from multiprocessing import current_process
    from multiprocessing.reduction import ForkingPickler

    _reducers = getattr(ForkingPickler, "_extra_reducers", {})

    with _lock:
        # Where somebody has put a function of his own over this one, it is there already.
        if _before is None:
            _before = ForkingPickler.__dict__["dumps"]
            setattr(ForkingPickler, "dumps", _ours)  # noqa: B010
        _active.append(sharing)
        _tell_children(current_process(), sharing)


def _end(sharing: Sharing) -> None:
    global _before
    from multiprocessing import current_process
    from multiprocessing.reduction import ForkingPickler

    with _lock:
        if sharing not in _active:
            return
        _active.remove(sharing)
        if not _active and ForkingPickler.__dict__["dumps"] is _ours:
            setattr(ForkingPickler, "dumps", _before)  # noqa: B010
            _before = None
        _tell_children(current_process(), _active[-1] if _active else None)


def _tell_children(process: Any, sharing: Sharing | None) -> None:
    """Let processes that are started from now on send in the same way.

    A forked one has it all. For one that is spawned, what `multiprocessing` hands down from process
    to process, as it does the authentication key, is pickled with it.
    """
    config = getattr(process, "_config", None)
    if isinstance(config, dict):
        if sharing is None:
            config.pop(_CONFIG, None)
        else:
            config[_CONFIG] = sharing


def _dumps(cls: Any, obj: Any, protocol: int | None = None) -> Any:
    from multiprocessing.reduction import ForkingPickler

    # A pickler that is made of it has its own way, and who asks for a protocol gets that.
    if cls is ForkingPickler and protocol is None:
        try:
            sharing = _active[-1]
        except IndexError:
            pass
        else:
            return sharing.dumps(obj)
    before = _before
    if before is None:  # ended just now, while somebody called
        before = ForkingPickler.__dict__["dumps"]
    return before.__get__(None, cls)(obj, protocol)


_ours: Final = classmethod(_dumps)


def _share_too(
    what: bytes | None, ident: int | None, threshold: int, wait: float | None
) -> Sharing | None:
    if what is None:
        return None
    try:
        arena = pickle.loads(what)
        under = None
        if ident is not None:
            # From its own pickle it comes held.
            under = pickle.loads(pickle.dumps(look(arena._link, ident), pickle.HIGHEST_PROTOCOL))
    except FlagstoneError:
        return None  # ended meanwhile: no reason for a process not to start
    sharing = Sharing(arena, True, threshold, under, wait)
    with _lock:
        # A process that got it when it was started may be sent it again.
        for one in _active:
            if one._alike() == sharing._alike() and not one._arena.closed:
                return one
        _begin(sharing)
    return sharing


class _Share:
    """`flagstone.share`: a function, and what it counts."""

    __slots__ = ()

    def __call__(
        self,
        arena: Arena | None = None,
        *,
        threshold: Size = "64KiB",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Sharing:
        """Send large buffers through an arena, from now on, in everything `multiprocessing` sends.

        Queue, SimpleQueue, JoinableQueue, Pipe, Pool, ProcessPoolExecutor and Manager carry arrays,
        tables and bytes without copying them through a pipe: a message's buffers go into one Block,
        and arrive as (writable) arrays that look into it. Buffers that lie in an arena already
        are not copied: a view of a Block arrives as a view of the same bytes, and an array that was
        received so and is sent on is the same memory in all processes. Each message is good for one
        receiver, as a pipe's is.

        Receivers need this package, and nothing else. Processes that are started afterwards
        (fork, spawn, forkserver) send their results in the same way.

        Args:
            arena: through which; None opens one: an anonymous one where processes are forked and
                none is running yet, else one with a name of its own, which ends with its processes.
            threshold: bytes from which on a buffer, and the rest of a message, go through it.
            group: what is sent is charged to a group for each sending process, below this one
                (None: below the arena itself).
            wait: seconds to wait for memory; None takes what there is.

        Returns:
            What is in force until its `close()`, or the end of its `with` block; for ever where
            neither comes.

        A message whose buffers find no room (in the arena, below the limit of the group), or whose
        arena is open for reading only or closed by now, goes through the pipe as always:
        `flagstone.share.stats` counts it, with the reason.

        Safe to call from any thread; it is in force for all of them.

        Raises:
            ValueError, TypeError: no such threshold, or wait.
            ArenaFull, OSError: no arena can be opened, where none was given.
        """
        nbytes = parse_size(threshold, "threshold")
        parse_seconds(wait, "wait")
        made = arena is None
        if arena is None:
            arena = _own_arena()
        sharing = Sharing(arena, made, nbytes, group, wait)
        _begin(sharing)
        return sharing

    @property
    def stats(self) -> ShareStats:
        """What this process has sent so far."""
        return _counts.read()

    def __repr__(self) -> str:
        return "<function flagstone.share>"


share: Final = _Share()


def _own_arena() -> Arena:
    import multiprocessing

    from flagstone.arena import open as open_arena

    # Without asking for a context, which would settle what the program may still choose.
    chosen = multiprocessing.get_start_method(allow_none=True)
    method = chosen or multiprocessing.get_all_start_methods()[0]
    if method == "fork" and not multiprocessing.active_children():
        return open_arena()
    return open_arena(f"share-{os.getpid()}-{os.urandom(6).hex()}")


def _after_fork_in_child() -> None:
    global _lock, _counts
    _lock = threading.RLock()
    _counts = _Counts()
    for sharing in _active:
        sharing._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
