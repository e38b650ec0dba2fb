"""What a header declares, somebody uses; and somebody but the tests.

What only tests use is in core/include/flagstone_test.h. And what a header defines has our prefix,
so that no name in a file that includes it is taken for it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .tree import Finding, Known, Tree, matches, parts_of, text_of

FOR_TESTS = "flagstone_test.h"

_FUNCTION = re.compile(r"^[\w* ]*?\b(fst_\w+)\(", re.MULTILINE)
_DEFINED = re.compile(
    r"^(?:static inline [^(;]*?\b(\w+)\(|(?:struct|enum|union) (\w+) \{)", re.MULTILINE
)
_WORD = re.compile(r"\bfst_\w+")


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Functions that nobody uses, or nobody but the tests; and names without a prefix."""
    del known
    for path in tree.files("core", ".h"):
        for line, match in matches(_DEFINED, parts_of(path).code):
            name = match[1] or match[2]
            if not name.startswith("fst_"):
                yield Finding(tree.shown(path), line, f"{name}: a header's names begin with fst_")
    used = _renamed(tree)
    for user in _binding(tree):
        used.update(_WORD.findall(re.sub(r"#.*", "", text_of(user))))
    for user in (
        *tree.binding(),
        *tree.files("benchmarks", ".c", ".h"),
        *tree.files("examples", ".c", ".h"),
    ):
        used.update(_WORD.findall(parts_of(user).code))
    for user in tree.core():
        if user.parent.name != "include":
            used.update(_calls(user))
    tests = {
        word
        for user in (*tree.files("tests/core", ".c", ".h"), *tree.files("tests/fuzz", ".c", ".h"))
        for word in _WORD.findall(parts_of(user).code)
    }
    for path in tree.files("core", ".h"):
        if path.name == FOR_TESTS:
            continue
        for line, match in matches(_FUNCTION, parts_of(path).code):
            name = match[1]
            if name not in used:
                who = "only tests use it" if name in tests else "nobody uses it"
                yield Finding(tree.shown(path), line, f"{name}: {who}", name)


def _calls(path: Path) -> Iterator[str]:
    """Functions of ours that are used in this file, but for those where they are defined."""
    for line in parts_of(path).code.splitlines():
        defined = re.match(r"[A-Za-z][\w* ]*?\b(fst_\w+)\(", line)
        yield from (word for word in _WORD.findall(line) if not defined or word != defined[1])


def _renamed(tree: Tree) -> set[str]:
    """What the binding calls by a name of its own: `peek_file "fst_peek"`."""
    return {
        name
        for path in tree.files("src/flagstone", ".pxd")
        for own, name in re.findall(r'(\w+) "(fst_\w+)"', text_of(path))
        if any(re.search(rf"\b{own}\b", parts_of(user).code) for user in _binding(tree))
    }


def _binding(tree: Tree) -> list[Path]:
    return tree.files("src/flagstone", ".pyx", ".pxi")
