"""What a Block is to a hash: its content.

`joblib.hash` pickles a value by a pickler that is written in Python, to feed it to a digest. The
pickle of a Block is a message, which would differ each time and hold the object for good; so such a
pickler finds another way here, in the table that picklers written in Python copy. All others of
them, and those written in C, go on as ever.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from typing import Any

from flagstone._core import Block

__all__ = ["install"]


def install() -> None:
    """Tell picklers written in Python; joblib's, too, if it was there first."""
    getattr(pickle, "_Pickler").dispatch[Block] = _save  # noqa: B009
    joblib = sys.modules.get("joblib.hashing")
    if joblib is not None:
        joblib.Hasher.dispatch[Block] = _save


def _save(pickler: Any, block: Block) -> None:
    hashing = sys.modules.get("joblib.hashing")
    if hashing is not None and isinstance(pickler, hashing.Hasher):
        pickler.save(("flagstone.Block", block.array))
        return
    table = getattr(pickler, "dispatch_table", copyreg.dispatch_table)
    pickler.save_reduce(*table[Block](block), obj=block)
