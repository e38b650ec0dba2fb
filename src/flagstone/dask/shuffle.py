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
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from flagstone.dask.results import Settler

__all__ = ["settle_pieces"]

_DEEP: Final = 4
"""How deep arrays lie in a message: (partition, [(chunk, (place in it, array))])."""

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
    def _shard_partition(run: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = cut(run, *args, **kwargs)
        ours = _settlers.get(run.local_address)
        if ours is None:
            return pieces
        return {to: ours.settle(some, deep=_DEEP) for to, some in pieces.items()}

    ArrayRechunkRun._shard_partition = _shard_partition
    _forget_frames(ArrayRechunkRun)


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
