"""P2P rechunks: pieces lie in the arena from the moment they are cut, so that neighbours look at
them. Dask keeps the pieces of a message until its receiver has answered, as a name needs.

A run that failed, because a worker was killed, is closed with pieces in the frames of its
exception, and Dask's event loop keeps it for as long as it likes: in the context of a timer that
was cancelled. So the frames are cleared.

Pieces smaller than 64 KiB are pickled many at a time by Dask itself, and those of tables always:
they go as bytes.
"""

from __future__ import annotations

import functools
import traceback
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

if TYPE_CHECKING:
    from flagstone.dask.results import Settler

__all__ = ["settle_pieces"]

_settlers: WeakValueDictionary[str, Settler] = WeakValueDictionary()


def settle_pieces(address: str, settler: Settler) -> None:
    """Let a worker of this process settle the pieces of the arrays that it rechunks."""
    _settlers[address] = settler
    try:
        from distributed.shuffle._rechunk import ArrayRechunkRun
    except ImportError:
        return  # another release of Dask: pieces go as bytes
    cut = getattr(ArrayRechunkRun, "_shard_partition", None)
    if cut is None or hasattr(cut, "__wrapped__"):
        return

    @functools.wraps(cut)
    def _shard_partition(run: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        ours = _settlers.get(run.local_address)
        if ours is None:
            return cut(run, data, *args, **kwargs)
        if type(data) is np.ndarray:
            data = data.view(_Whole)
            data.settler = ours
        pieces = cut(run, data, *args, **kwargs)
        return {to: _plain(some) for to, some in pieces.items()}

    ArrayRechunkRun._shard_partition = _shard_partition
    _forget_frames(ArrayRechunkRun)


class _Whole(np.ndarray[Any, np.dtype[Any]]):
    """A chunk whose pieces are cut into the arena."""

    settler: Settler

    def __getitem__(self, index: Any) -> Any:
        cut = self.view(np.ndarray)[index]
        piece = self.settler.copied(cut) if type(cut) is np.ndarray else None
        if piece is None:
            return cut  # Dask copies it
        marked = piece.view(_Piece)
        marked.piece = piece
        return marked


class _Piece(np.ndarray[Any, np.dtype[Any]]):
    """A piece that lies in the arena. Dask copies what is a view of something larger, lest that be
    kept; this one has a Block for itself.
    """

    base = None
    piece: Any


def _plain(value: Any) -> Any:
    """The same with arrays of no kind of ours."""
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is _Piece:
        return value.__dict__.get("piece", value.view(np.ndarray))
    return value


def _forget_frames(kind: Any) -> None:
    close = getattr(kind, "close", None)
    if close is None:
        return

    @functools.wraps(close)
    async def and_forget(run: Any) -> None:
        try:
            await close(run)
        finally:
            buffers = (getattr(run, name, None) for name in ("_comm_buffer", "_disk_buffer"))
            for one in (run, *buffers):
                error = getattr(one, "_exception", None)
                if error is not None:
                    traceback.clear_frames(error.__traceback__)

    kind.close = and_forget
