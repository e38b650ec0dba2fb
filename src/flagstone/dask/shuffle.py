"""P2P rechunks: pieces lie in the arena from the moment they are cut, so that neighbours look at
them. Dask keeps the pieces of a message until its receiver has answered, as a name needs.

Pieces smaller than 64 KiB are pickled many at a time by Dask itself, and those of tables always:
they go as bytes.
"""

from __future__ import annotations

import functools
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
