"""What Dask sends: what lies in an arena that both ends have goes as a name, all else as ever.

A name holds nothing: Dask repeats, cancels and loses messages. It is sent only where the sender
keeps the Block until the receiver has answered: in a request, whose caller waits for the answer,
and in what `get_data` gives, which waits for an "OK". Whoever opens a connection says in the
handshake that it connects, whoever accepts it that it listens; both say the arena's uuid. Neither
address nor host tells whether two processes have the same memory: a container has its own.

A name that leads nowhere is the end of its sender, so it is told to Dask as a lost connection, and
Dask asks somebody else or computes again.

An array that NumPy has allocated in the arena, and that is no result but a part of an object, is
its owner's, who may go on writing it, and so may whoever gets the object. It goes as a name as
well, and its receiver makes a copy while the sender keeps it.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
import sys
import threading
from collections import ChainMap
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle
import distributed.protocol.numpy
import distributed.protocol.pickle as dask_pickle
import numpy as np
from distributed import Worker
from distributed.comm.core import CommClosedError
from distributed.protocol.serialize import (
    dask_deserialize,
    dask_serialize,
    families,
    pickle_dumps,
    pickle_loads,
    register_serialization_family,
)
from distributed.utils import ensure_memoryview

from flagstone._core import Allocator, Block, Handle
from flagstone.arena import open as open_arena
from flagstone.errors import Closed, FlagstoneError, StaleHandle
from flagstone.format import descr_of, order_of
from flagstone.part import Part, address_of, base_of, block_of, bytes_of, view_of
from flagstone.sharing import can_be_sent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstone.arena import Arena
    from flagstone.dask.settings import Settings

__all__ = [
    "CONNECTS",
    "LISTENS",
    "TABLES",
    "add",
    "add_allocator",
    "by_value",
    "collected",
    "handshake",
    "remove",
    "sending",
]

CONNECTS: Final = "connects"
LISTENS: Final = "listens"
TABLES: Final = ("pandas", "pyarrow")
_UUID: Final = "flagstone"
_END: Final = "flagstone-end"

sending: ContextVar[bool] = ContextVar("flagstone_sending", default=False)
"""Whether the answer that is being written is kept until it was received."""

by_value: ContextVar[bool] = ContextVar("flagstone_by_value", default=False)
"""Whether Blocks are being pickled as their bytes: for the disk, and for other hosts."""


class _Known:
    """An arena that this process has for Dask, and for how many of its members."""

    def __init__(self, arena: Arena, settings: Settings) -> None:
        self.arena = arena
        self.attachment = arena._link.attachment
        self.uuid = arena.uuid
        self.threshold = settings.threshold
        self.writable = settings.writable
        self.members = 0
        self.allocators: list[Allocator] = []  # of the workers here

    def is_own_data(self, block: Block) -> bool:
        """Whether the Block is the data of an array of this process that owns it."""
        return any(one.find(block._address) is not None for one in self.allocators)


_lock = threading.Lock()
_known: dict[str, _Known] = {}


def add(arena: Arena, settings: Settings) -> str:
    """A member of a cluster in this process has this arena now: its uuid, as it is said."""
    uuid = arena.uuid
    with _lock:
        known = _known.get(uuid)
        if known is None or not known.attachment.usable:
            _known[uuid] = known = _Known(arena, settings)
        known.members += 1
    return uuid


def add_allocator(uuid: str, allocator: Allocator) -> None:
    """A member that was added runs tasks, for whose arrays NumPy allocates by this one."""
    with _lock:
        _known[uuid].allocators.append(allocator)


def remove(uuid: str, allocator: Allocator | None) -> None:
    """Note that a member with this arena, and maybe an allocator, has ended; the last one lets go
    of the arena.
    """
    with _lock:
        known = _known.get(uuid)
        if known is not None:
            if allocator in known.allocators:
                known.allocators.remove(allocator)
            known.members -= 1
            if known.members <= 0:
                del _known[uuid]


def handshake(uuid: str, end: str) -> dict[str, str]:
    """What an end of a connection says about itself."""
    return {_UUID: uuid, _END: end}


def _between(context: Mapping[str, Any] | None) -> _Known | None:
    """The arena of both ends, where the sender keeps what it sends until it was received."""
    if not context:
        return None
    uuid = context.get("recipient", _NOTHING).get(_UUID)
    if uuid is None:
        return None
    sender = context.get("sender", _NOTHING)
    if sender.get(_UUID) != uuid:
        return None
    if sender.get(_END) != CONNECTS and not sending.get():
        return None
    known = _known.get(uuid)
    return known if known is not None and known.attachment.usable else None


_NOTHING: Final[dict[str, Any]] = {}


def _own(block: Block, known: _Known) -> bool:
    return can_be_sent(block) and block._parts[0] is known.attachment


def _take(uuid: str, handle: bytes) -> tuple[Block, _Known]:
    """The Block of a name that has arrived."""
    known = _known.get(uuid)
    if known is None:
        raise CommClosedError("the arena that this came from is closed here")
    try:
        return known.attachment.resolve(Handle(handle)), known
    except (StaleHandle, Closed) as error:
        raise CommClosedError(f"its sender has ended, and with it what it sent: {error}") from None


# ---- arrays

_array_dumps = distributed.protocol.numpy.serialize_numpy_ndarray
_array_loads = distributed.protocol.numpy.deserialize_numpy_ndarray


def _dumps_array(array: Any, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    known = _between(context)
    if known is not None and array.nbytes >= known.threshold:
        header = _name_of_array(array, known)
        if header is not None:
            return header, []
    header, frames = _array_dumps(array, context)
    if not array.flags.writeable and "writeable" in header and base_of(array) is not None:
        header["writeable"] = [True]  # it refuses writes because others look at it: not over there
    return header, frames


def _name_of_array(array: Any, known: _Known) -> dict[str, Any] | None:
    if array.dtype.kind not in "biufcmMSUV" or array.dtype.hasobject or not array.nbytes:
        return None
    if type(array) is not np.ndarray and type(array) is not Part:
        return None
    block = base_of(array)
    if block is None or not _own(block, known):
        return None
    return {
        "flagstone": (known.uuid, bytes(block.handle)),
        "offset": address_of(array) - block._address,
        "dtype": _dtype_out(array.dtype),
        "shape": array.shape,
        "strides": array.strides,
        "writeable": array.flags.writeable,
        "part": type(array) is Part,
    }


def _dtype_out(dtype: np.dtype[Any]) -> Any:
    return dtype.str if dtype.kind != "V" else pickle.dumps(dtype)


def _loads_array(header: dict[str, Any], frames: list[Any]) -> Any:
    name = header.get("flagstone")
    if name is None:
        return _array_loads(header, frames)
    block, known = _take(*name)
    said = header["dtype"]
    dtype = np.dtype(said) if isinstance(said, str) else pickle.loads(said)
    array: Any = view_of(block, header["offset"], dtype, header["shape"], header["strides"])
    if not (known.writable and header["writeable"]):
        array.flags.writeable = False
    return array.view(Part) if header["part"] else array


# ---- Blocks


def _dumps_block(block: Block, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    known = _between(context)
    if known is not None and _own(block, known):
        return {"flagstone": (known.uuid, bytes(block.handle))}, []
    array = block.array
    raw = bytes_of(block)
    dtype, order = pickle.dumps(descr_of(array.dtype)), order_of(array, "K")
    header = {"dtype": dtype, "shape": array.shape, "order": order}
    return header, [raw.data] if raw.nbytes else []


def _loads_block(header: dict[str, Any], frames: list[Any]) -> Block:
    name = header.get("flagstone")
    if name is not None:
        return _take(*name)[0]
    raw = frames[0] if frames else b""
    return _block_from(raw, pickle.loads(header["dtype"]), header["shape"], header["order"])


def _block_from(raw: Any, descr: Any, shape: Any, order: Any) -> Block:
    """A Block that came as bytes, in an arena of this process."""
    dtype = np.lib.format.descr_to_dtype(descr)
    array: Any = np.frombuffer(ensure_memoryview(raw), np.uint8).view(dtype)
    return _home().put(array.reshape(tuple(shape), order=order))


_foreign: list[Arena] = []


def _home() -> Arena:
    """Where Blocks of other hosts lie here: in Dask's arena, or an anonymous one."""
    with _lock:
        for known in _known.values():
            if known.attachment.usable:
                return known.arena
        if not _foreign or _foreign[0].closed:
            _foreign[:] = [open_arena()]
        return _foreign[0]


# ---- pickles: Blocks go in as names, large buffers stay where they are


class _Pickles(threading.local):
    def __init__(self) -> None:
        self.blocks: list[Block] | None = None
        self.straight = False


_pickles = _Pickles()


@contextlib.contextmanager
def collected() -> Iterator[list[Block]]:
    """The Blocks whose names this thread pickles meanwhile, for who keeps them."""
    before = _pickles.blocks
    found: list[Block] = []
    _pickles.blocks = found
    try:
        yield found
    finally:
        _pickles.blocks = before


def _reduce_block(block: Block) -> Any:
    if by_value.get():
        array = block.array
        raw = pickle.PickleBuffer(bytes_of(block).data)
        return _block_from, (raw, descr_of(array.dtype), array.shape, order_of(array, "K"))
    if _pickles.blocks is not None:
        _pickles.blocks.append(block)
    return (_get if _pickles.straight else _get_in_worker), (block.weak(),)


def _get(weak: Any) -> Any:
    """Unpickle what a worker has sent."""
    try:
        return weak.get()
    except (FlagstoneError, OSError) as error:
        raise CommClosedError(f"its sender has ended: {error}") from None


def _get_in_worker(weak: Any) -> Any:
    """Unpickle a part of a task: the Block where tasks are run, its name in a scheduler."""
    if not Worker._instances:
        return _Absent(weak, "this process runs no tasks")
    try:
        return weak.get()
    except (FlagstoneError, OSError) as error:
        return _Absent(weak, str(error))


class _Absent:
    """A Block that is only passed on here, or whose name leads nowhere in this process."""

    def __init__(self, weak: Any, why: str) -> None:
        self._weak = weak
        self._why = why

    def __reduce__(self) -> Any:
        return _get_in_worker, (self._weak,)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._stale()

    def _stale(self) -> StaleHandle:
        return StaleHandle(f"this Block cannot be had here: {self._why}")

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise self._stale()

    # What Python and NumPy look up in the class. They would make something else of it.
    __getitem__ = __setitem__ = __len__ = __iter__ = __bool__ = __int__ = __float__ = _refuse
    __complex__ = __array__ = __dlpack__ = __dlpack_device__ = __arrow_c_stream__ = _refuse


class _Pickle:
    """Stands for the module `pickle` in Dask's module of pickling, and has a way for Blocks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(pickle, name)

    @staticmethod
    def dumps(obj: Any, protocol: int | None = None, **options: Any) -> bytes:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, protocol, **options)
        pickler.dispatch_table = _table
        pickler.dump(obj)
        return file.getvalue()


class _CloudPickler(cloudpickle.Pickler):
    dispatch_table: ClassVar[Any] = ChainMap(
        {Block: _reduce_block}, cloudpickle.Pickler.dispatch_table
    )


class _CloudPickle:
    """Stands for `cloudpickle` in the same place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(cloudpickle, name)

    @staticmethod
    def dumps(obj: Any, protocol: int | None = None, buffer_callback: Any = None) -> bytes:
        file = io.BytesIO()
        _CloudPickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(obj)
        return file.getvalue()


class _DaskPickler(dask_pickle._DaskPickler):
    """Dask's own pickler, which is its third, with a way for Blocks."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Block:
            return _reduce_block(obj)
        return super().reducer_override(obj)


_table: Any = ChainMap({Block: _reduce_block}, copyreg.dispatch_table)


def _dumps_pickle(obj: Any, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    known = _between(context)
    if known is None:
        if context is None or "recipient" not in context:
            return _own_bytes(*pickle_dumps(obj, context))
        token = by_value.set(True)
        try:
            return _own_bytes(*pickle_dumps(obj, context))
        finally:
            by_value.reset(token)
    frames: list[Any] = [b""]
    writeable: list[bool] = []
    places: list[Any] = []
    table = type(obj).__module__.partition(".")[0] in TABLES

    def beside(buffer: Any) -> None:
        view = memoryview(buffer)
        place = _place_of(view, known, table)
        places.append(place)
        writeable.append(not view.readonly)
        if place is None:
            frames.append(view)

    protocol = context.get("pickle-protocol")
    _pickles.straight = True
    try:
        frames[0] = dask_pickle.dumps(obj, buffer_callback=beside, protocol=protocol)
    finally:
        _pickles.straight = False
    header = {"serializer": "pickle", "writeable": tuple(writeable)}
    if any(places):
        header["flagstone"] = (known.uuid, tuple(places))
    return header, frames


def _own_bytes(header: dict[str, Any], frames: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """A pickle whose buffers go as bytes. Those that lie in an arena refuse writes because others
    look at them; copies of their bytes may be written where they arrive, and the header says so.
    """
    if not all(header["writeable"]):
        pairs = zip(header["writeable"], frames[1:], strict=True)
        header["writeable"] = tuple(one or base_of(frame) is not None for one, frame in pairs)
    return header, frames


def _place_of(view: memoryview, known: _Known, table: bool) -> tuple[bytes, int, int, bool] | None:
    """Where in the arena a buffer lies: handle, first byte, bytes; and whether the receiver is to
    make a copy. A table is looked at as arrays are.
    """
    if view.nbytes < known.threshold or not view.contiguous:
        return None
    try:
        block, offset = block_of(view)
    except (LookupError, TypeError):
        return None
    if not _own(block, known):
        return None
    copy = not (table or view.readonly) and known.is_own_data(block)
    return bytes(block.handle), offset, view.nbytes, copy


def _loads_pickle(header: dict[str, Any], frames: list[Any]) -> Any:
    name = header.get("flagstone")
    if name is None:
        return pickle_loads(header, frames)
    uuid, places = name
    came = iter(frames[1:])
    buffers: list[Any] = []
    for place, writeable in zip(places, header["writeable"], strict=True):
        if place is None:
            view = ensure_memoryview(next(came))
            if writeable and view.readonly:
                view = memoryview(bytearray(view))
            buffers.append(view if writeable else view.toreadonly())
            continue
        handle, offset, nbytes, copy = place
        block, known = _take(uuid, handle)
        raw = bytes_of(block)[offset : offset + nbytes]
        if copy:
            raw = raw.copy()
        elif not (known.writable and writeable):
            raw.flags.writeable = False
        buffers.append(raw)
    return dask_pickle.loads(frames[0], buffers=buffers)


# ---- tables of Arrow, for which Dask has a way of its own


def _register_tables() -> None:
    """Once there are some: Dask asks for it then."""
    import distributed.protocol.arrow as dask_arrow
    import pyarrow

    for kind, dumps, loads in (
        (pyarrow.Table, dask_arrow.serialize_table, dask_arrow.deserialize_table),
        (pyarrow.RecordBatch, dask_arrow.serialize_batch, dask_arrow.deserialize_batch),
    ):
        ours = _Table(dumps, loads)
        dask_serialize.register(kind, ours.dumps)
        dask_deserialize.register(kind, ours.loads)


class _Table:
    def __init__(self, dumps: Any, loads: Any) -> None:
        self._dumps = dumps
        self._loads = loads

    def dumps(self, table: Any, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
        if _between(context) is not None:
            header, frames = _dumps_pickle(table, context)
            if "flagstone" in header:
                return {"flagstone-pickle": header}, frames
        header, frames = self._dumps(table)
        return header, frames

    def loads(self, header: dict[str, Any], frames: list[Any]) -> Any:
        said = header.get("flagstone-pickle")
        return self._loads(header, frames) if said is None else _loads_pickle(said, frames)


def _install() -> None:
    dask_serialize.register(np.ndarray, _dumps_array)
    dask_deserialize.register(np.ndarray, _loads_array)
    dask_serialize.register(Block, _dumps_block)
    dask_deserialize.register(Block, _loads_block)
    register_serialization_family("pickle", _dumps_pickle, _loads_pickle)
    for registry in (dask_serialize, dask_deserialize):
        registry.register_lazy("pyarrow", _register_tables)
    if "pyarrow" in sys.modules:
        _register_tables()
    assert families["pickle"][2]  # it is told the context
    dask_pickle.pickle = _Pickle()
    dask_pickle.cloudpickle = _CloudPickle()
    dask_pickle._DaskPickler = _DaskPickler


_install()
