"""What a Block is to a hash: its content.

`joblib.hash` pickles a value by a pickler that is written in Python, and feeds the pickle to a
digest. The pickle of a Block is a message, which would differ each time and hold the object for
good. So this module puts a function of its own into the table of `pickle._Pickler`, which picklers
written in Python copy: for joblib's it pickles the content, for all others the message, as before.
Picklers written in C do not look there.
"""

from __future__ import annotations

import copyreg
import pickle
from typing import Any

from flagstone._core import Block
from flagstone.modules import imported

__all__ = ["install"]


def install() -> None:
    """Put the function into the table, and into joblib's copy of it if that was made before."""
    getattr(pickle, "_Pickler").dispatch[Block] = _save  # noqa: B009
    joblib = imported("joblib.hashing")
    if joblib is not None:
        joblib.Hasher.dispatch[Block] = _save


def _save(pickler: Any, block: Block) -> None:
    """Pickle a Block, for a pickler that is written in Python."""
    hashing = imported("joblib.hashing")
    if hashing is not None and isinstance(pickler, hashing.Hasher):
        pickler.save(("flagstone.Block", block.array))
        return
    table = getattr(pickler, "dispatch_table", copyreg.dispatch_table)
    pickler.save_reduce(*table[Block](block), obj=block)
