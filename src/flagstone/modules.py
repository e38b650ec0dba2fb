"""Modules that the program may have imported."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["imported"]


def imported(name: str) -> Any:
    """The module, or None where nobody has imported it.

    `sys.modules.get` takes the dictionary's lock where Python has no GIL. Threads that meet there
    hand it on to one another, also while one of them forks, and the child waits for it for ever.
    """
    try:
        if name in sys.modules:
            return sys.modules[name]
    except KeyError:  # it went in between
        pass
    return None
