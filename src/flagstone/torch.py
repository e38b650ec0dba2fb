"""PyTorch: tensors over Blocks, their way between processes, and batches of a DataLoader.

    import flagstone.torch

    loader = DataLoader(images, 64, num_workers=8, collate_fn=flagstone.torch.Collate(arena))

torch sends a tensor through a queue as a file of its own. A tensor that looks into a Block travels
as that Block once this module is imported: through torch's and `multiprocessing`'s queues, pipes
and pools, and from the workers of a DataLoader.

Importing it also makes `torch.asarray(block)`, which would take the bytes for float32, and
`default_collate([block, ...])` right. Needs torch (`pip install "flagstone[torch]"`).
"""

from __future__ import annotations

import functools
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from multiprocessing import util
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from flagstone.extra import Extra

with Extra("flagstone.torch", "torch", "torch"):
    import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import collate, default_collate_fn_map
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from flagstone._core import Block
from flagstone.attach import known
from flagstone.block import alloc_bytes
from flagstone.errors import FlagstoneError, ReadOnly
from flagstone.group import group_id, look
from flagstone.part import bytes_of
from flagstone.pinned import Pinned, arrived
from flagstone.sharing import can_be_sent, end_message_group, message_group
from flagstone.sizes import Size, parse_size

if TYPE_CHECKING:
    from flagstone.arena import Arena
    from flagstone.group import Group

__all__ = ["Collate", "Pinned", "empty", "from_block", "pin"]

# ---- tensors


def empty(
    arena: Arena,
    shape: int | Iterable[int],
    dtype: Any = None,
    *,
    group: Group | None = None,
    wait: float | None = None,
) -> Any:
    """A tensor over a new Block; its elements are whatever was there before.

    The Block lives for as long as the tensor, or any view of it, in any process. Safe to use from
    any thread.

    Args:
        arena: where it is to lie.
        shape: of the tensor.
        dtype: torch's; None is torch's default.
        group: what it is charged to; None is the arena itself.
        wait: seconds to wait for memory.

    Raises:
        ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Arena.alloc`.
    """
    size = torch.Size([shape] if isinstance(shape, int) else shape)
    kind = torch.get_default_dtype() if dtype is None else dtype
    block = arena.alloc(size.numel() * kind.itemsize, group=group, wait=wait)
    return _tensor_over(block, size, kind)


def from_block(block: Block) -> Any:
    """A tensor over a Block's array, of its dtype and shape, which keeps its bytes.

    Raises:
        TypeError: torch has no such dtype.
        ReadOnly: the arena is attached read-only, or the Block is a table, and torch has no tensors
            that refuse writes.
        Closed: the Block was freed.
    """
    if block.readonly:
        raise ReadOnly(
            "torch has no tensors that refuse writes, and this Block does (its arena is attached"
            " with readonly=True, or it is a table): torch.from_numpy(block.array.copy()) is a copy"
        )
    return torch.from_numpy(block.array)


def pin(arena: Arena, *, threshold: Size = "1MiB") -> Pinned:
    """Have large Blocks of an arena copied by a device from where they lie.

    From then on tensors over them that arrive in this process are registered with the CUDA runtime
    as they arrive, until they are dropped; `DataLoader(pin_memory=True)` then copies nothing. What
    is returned registers others when it is called with them, and ends all of it when it is closed.
    An arena as a whole is never pinned: its memory is committed as it is used, and given back.

    Args:
        arena: whose Blocks.
        threshold: bytes from which on a Block is registered when it arrives. Registering takes the
            driver a while, so the small ones are left to torch, which copies them.

    Raises:
        RuntimeError: there is no such device here; nothing is done.
        Closed: the arena is closed.
        TypeError, ValueError: no such threshold.
    """
    nbytes = parse_size(threshold, "threshold")
    arena._link.attachment  # noqa: B018 - it raises
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"there is no CUDA device in this process, so there is nothing to pin {arena!r} for"
        )
    return Pinned(arena, nbytes, _pinned_tensor)


def _pinned_tensor(pinned: Pinned, what: Any) -> Any:
    if isinstance(what, Block):
        what = from_block(what)
    block = _block_under(what) if isinstance(what, torch.Tensor) else None
    if block is None or not pinned.covers(block):
        raise LookupError(f"this is no plain tensor in a Block of the arena of {pinned!r}")
    offset = what.data_ptr() - block._address
    raw = pinned.register(block)
    return _tensor_at(raw, offset, what.dtype, tuple(what.shape), what.stride())


def _tensor_over(block: Block, size: Any, dtype: Any) -> Any:
    if not block.nbytes:
        return torch.empty(size, dtype=dtype)
    return torch.from_numpy(bytes_of(block)).view(dtype).view(size)


# ---- between processes


def _reduce_tensor(tensor: Any) -> Any:
    block = _block_under(tensor)
    if block is None:
        return reduce_tensor(tensor)
    offset = tensor.data_ptr() - block._address
    return _load_tensor, (block, offset, tensor.dtype, tuple(tensor.shape), tensor.stride())


def _load_tensor(
    block: Block, offset: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Any:
    """Unpickle. torch refuses what would reach beyond the Block."""
    raw = arrived(block)
    return _tensor_at(bytes_of(block) if raw is None else raw, offset, dtype, shape, strides)


def _tensor_at(
    raw: Any, offset: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Any:
    storage = torch.from_numpy(raw[offset:]).untyped_storage()
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)


def _block_under(tensor: Any) -> Block | None:
    """The Block of a plain tensor that looks into one."""
    if (
        type(tensor) is not torch.Tensor
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
        or tensor.requires_grad
        or tensor.is_conj()
        or tensor.is_neg()
        or not tensor.numel()
    ):
        return None
    address = tensor.data_ptr()
    for attachment in known():
        if attachment.usable:
            block = attachment.hold_at(address)
            if block is not None:
                return block if can_be_sent(block) else None
    return None


# ---- batches


class Collate:
    """A DataLoader's `collate_fn` whose batches lie in an arena, and travel as Blocks.

    As torch's `default_collate`: dicts, tuples, lists and named tuples of tensors, arrays and
    numbers, nested as they like. Each tensor of a batch is a Block. Where there is no room the
    tensor is torch's own, in a file, as by default.

    Each iterator over a loader has a group of its own. When it ends (to its end, by `break`, by an
    exception, with its workers killed) what nobody has taken is dropped; batches that were taken
    stay for as long as somebody has them. Persistent workers go with their loader.

    Args:
        arena: where batches lie; under spawn and forkserver it needs a name only if other programs
            are to find it.
        group: iterators' groups are below this one; None is the arena itself.
        wait: seconds for which a worker waits for memory, before torch's way.
    """

    def __init__(
        self, arena: Arena, group: Group | None = None, *, wait: float | None = None
    ) -> None:
        self._arena = arena
        self._under = group
        self._wait = wait
        self._iterators: weakref.WeakKeyDictionary[Any, Group] = weakref.WeakKeyDictionary()
        self._group: int | None = None  # of the iterator whose workers are being started
        self._own: Group | None = None
        self._pid = 0
        _collates.add(self)

    def __call__(self, batch: Any) -> Any:
        """The samples as one batch."""
        return collate(batch, collate_fn_map=self._functions())

    def __repr__(self) -> str:
        return f"<Collate into {self._arena!r}>"

    def __reduce__(self) -> Any:
        # A worker that is being started is told its iterator's group by id, which needs no message.
        if _begin_iterator() is self:
            return _load_collate, (self._arena, None, self._wait, self._group)
        return _load_collate, (self._arena, self._under, self._wait, None)

    def begin(self, iterator: Any) -> None:
        """Give an iterator a group of its own, if it has none: it is starting its workers."""
        group = self._iterators.get(iterator)
        if group is None:
            group = message_group(self._arena, "loader", self._under)
            self._iterators[iterator] = group
            _ends[id(group)] = self._arena, group, os.getpid()
            iterator._flagstone_end = _End(id(group))
        self._group = group_id(self._arena._link, self._arena._link.attachment, group)

    def _functions(self) -> dict[Any, Any]:
        functions = dict(default_collate_fn_map)
        functions[torch.Tensor] = self._stack
        for kind, function in default_collate_fn_map.items():
            if kind in (int, float) or isinstance(kind, tuple):  # numbers, NumPy's too
                functions[kind] = functools.partial(self._numbers, function)
        return functions

    def _empty(self, size: Any, dtype: Any) -> Any:
        link = self._arena._link
        nbytes = size.numel() * dtype.itemsize
        block = alloc_bytes(link.attachment, nbytes, None, self._wait, self._charged(), link)
        return _tensor_over(block, size, dtype)

    def _charged(self) -> int:
        """The group of this process's batches."""
        arena = self._arena
        attachment = arena._link.attachment
        if get_worker_info() is None:
            return group_id(arena._link, attachment, self._under)
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if self._group is None:  # it came here inside of something else
                self._own = message_group(arena, "loader", self._under)
                self._group = group_id(arena._link, attachment, self._own)
            # This comes after queues are flushed (-5), and before the arena is left (-100).
            ends = (arena, self._group, self._own)
            util.Finalize(None, _worker_ends, ends, exitpriority=-50)
        assert self._group is not None
        return self._group

    def _stack(self, batch: Any, *, collate_fn_map: Any = None) -> Any:
        first = batch[0]
        plain = all(
            type(one) is torch.Tensor
            and one.layout == torch.strided
            and one.device.type == "cpu"
            and not one.is_nested
            and not one.requires_grad
            and one.shape == first.shape
            and one.dtype == first.dtype
            for one in batch
        )
        if plain:
            try:
                out = self._empty(torch.Size((len(batch), *first.shape)), first.dtype)
                return torch.stack(batch, 0, out=out)
            except FlagstoneError:
                pass  # no room: in torch's own way
        return default_collate_fn_map[torch.Tensor](batch, collate_fn_map=collate_fn_map)

    def _numbers(
        self, function: Callable[..., Any], batch: Any, *, collate_fn_map: Any = None
    ) -> Any:
        tensor = function(batch, collate_fn_map=collate_fn_map)
        try:
            return self._empty(tensor.shape, tensor.dtype).copy_(tensor)
        except FlagstoneError:
            return tensor


_collates: weakref.WeakSet[Collate] = weakref.WeakSet()
"""Those of this process: a fork looks for an iterator only where there is one."""


def _load_collate(
    arena: Arena, under: Group | None, wait: float | None, group: int | None
) -> Collate:
    loaded = Collate(arena, under, wait=wait)
    loaded._group = group
    return loaded


def _begin_iterator() -> Collate | None:
    """The Collate of the loader's iterator that is starting a worker in this thread, if any.

    torch tells nobody that an iterator begins, but it is there on the stack, and keeps the Collate.
    """
    frame: Any = sys._getframe(1)
    for _ in range(32):
        if frame is None:
            return None
        iterator = frame.f_locals.get("self") if frame.f_code.co_name == "__init__" else None
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            found = getattr(iterator, "_collate_fn", None)
            if isinstance(found, Collate):
                found.begin(iterator)
                return found
            return None
        frame = frame.f_back
    return None


def _before_fork() -> None:
    if _collates:
        try:
            _begin_iterator()
        except FlagstoneError:
            pass  # its workers make groups of their own, or find no room


_ends: dict[int, tuple[Arena, Group, int]] = {}


class _End(int):
    """Kept by an iterator, and by nobody else: the end of its group comes when it goes.

    An iterator that is garbage in a cycle hears of it after whoever waits for its end by a weak
    reference, and its workers send until it has. So this is no object that is collected (it has no
    attributes): it goes with the iterator's, after `__del__`, which ends the workers.
    """

    __slots__ = ()

    def __del__(self) -> None:
        arena, group, pid = _ends.pop(int(self))
        if pid == os.getpid():
            end_message_group(arena, group)


def _worker_ends(arena: Arena, group: int, own: Group | None) -> None:
    """A worker ends in order: what it has sent was taken, or never will be.

    The thread of its queue may be sending still. What comes after this is dropped at the end of the
    iterator; of a group of the worker's own, nothing is in flight once that is destroyed.
    """
    try:
        if own is not None:
            own.destroy()
            return
        charged = look(arena._link, group)
        arena.drop_in_flight(group=charged, sender=os.getpid())
        arena.drop_in_flight(group=charged, sender="dead")
    except FlagstoneError:
        pass


# ---- what torch is told


def _collate_blocks(batch: Any, *, collate_fn_map: Any = None) -> Any:
    tensors = [torch.as_tensor(block.array) for block in batch]
    return collate(tensors, collate_fn_map=collate_fn_map)


_asarray = torch.asarray


@functools.wraps(_asarray)
def _asarray_of(obj: Any, *args: Any, **options: Any) -> Any:
    return _asarray(obj.array if isinstance(obj, Block) else obj, *args, **options)


torch.asarray = _asarray_of
default_collate_fn_map[Block] = _collate_blocks
ForkingPickler.register(torch.Tensor, _reduce_tensor)
os.register_at_fork(before=_before_fork)
