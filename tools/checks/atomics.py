"""Atomic operations are named by their ordering in core/platform/atomics.h, and nowhere else.

Of the core and its binding, which is what is shipped. Tests and benchmarks coordinate their own
processes, in words that are no arena's, as they like.
"""

import re
from collections.abc import Iterator

from .tree import Finding, Known, Tree, matches, text_of

HOME = "core/platform/atomics.h"

_RAW = re.compile(r"\b(?:__atomic|__sync)_\w+|\b_Atomic\b|<stdatomic\.h>")


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Compilers' own atomic operations outside of their home."""
    del known
    for path in (
        *tree.core(),
        *tree.binding(),
        *tree.files("src/flagstone", ".pyx", ".pxi", ".pxd"),
    ):
        shown = tree.shown(path)
        if shown == HOME:
            continue
        for line, match in matches(_RAW, text_of(path)):
            yield Finding(shown, line, f"{match[0]} belongs in {HOME}", shown)
