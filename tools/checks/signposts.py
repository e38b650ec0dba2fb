"""What a comment names has to be there: files, functions, constants.

A comment may name a file by the end of its path ("lock.h", "region/lock.h", "models/lock.pml"), a
function or constant of ours by its name, or several by what they begin with ("FST_PROCESS_*"). What
has "()" behind it is a function or method that is somewhere in the tree, or one of the kernel's.
Text for people (Markdown) is read in the same way, but for "()".
"""

import re
from collections.abc import Iterator
from pathlib import Path

from .tree import Finding, Known, Tree, matches, parts_of, text_of

_OURS = re.compile(r"\b(?:(?:fst|FST)_\w+|M_[A-Z0-9]+)")
_NAME = re.compile(_OURS.pattern + r"(\*|\.\.\.)?")
_FILE = re.compile(
    r"(?<![\w/.<-])(?:\.{2,3}/)*((?:[\w.-]+/)*[\w-]+\.(?:c|h|py|pyi|pyx|pxd|pml|md|build|bounds|supp))"
    r"(?![\w/]|\.\w)"
)
# The system's and the kernel's, and what tools write: text names them, and they are not here.
_ELSEWHERE = re.compile(r"^(?:sys|linux|mm|kernel|include/linux|Documentation)/|^pan\.c$")
_CALL = re.compile(r"(?<![\w.$])([A-Za-z_]\w*)\(\)")
_KERNEL = {"kmem_cache_destroy", "rcu_barrier"}
# NAME and NOUN stand for any.
_ANY = re.compile(r"\b(?:\w*_)?(?:NAME|NOUN)\b")


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Names in comments that lead nowhere."""
    del known
    files = tree.everything()
    ends = {path[i:] for path in files for i in _starts(path)}
    words, functions = _words(tree), _functions(tree)
    named = {*tree.all_c(), *tree.package(), *tree.models()}
    for path in _readable(tree):
        shown, prose = tree.shown(path), parts_of(path).prose
        for line, match in matches(_NAME, prose):
            name = match[0].removesuffix("*").removesuffix("...")
            begins = match[1] or name.endswith("_")
            if name in words or (begins and any(word.startswith(name) for word in words)):
                continue
            if _ANY.fullmatch(name):
                continue
            yield Finding(shown, line, f"there is no {match[0]}", f"{shown}: {match[0]}")
        for line, match in matches(_CALL, prose) if path in named else ():
            if match[1] not in functions:
                yield Finding(shown, line, f"there is no {match[0]}", f"{shown}: {match[0]}")
        for line, match in matches(_FILE, prose):
            name = match[1]
            if name in ends or _ELSEWHERE.match(name) or _ANY.search(name):
                continue
            yield Finding(shown, line, f"there is no file {name}", f"{shown}: {name}")


def _starts(path: str) -> Iterator[int]:
    yield 0
    yield from (i + 1 for i, c in enumerate(path) if c == "/")


def _readable(tree: Tree) -> list[Path]:
    return [
        *tree.all_c(),
        *tree.package(),
        *tree.models(),
        *tree.recipes(),
        *_tests(tree),
        *(
            path
            for folder in ("tests", "tools", "benchmarks", "examples")
            for path in tree.files(folder, ".pyi", ".c", ".h")
        ),
        *(
            path
            for folder in ("tools", "benchmarks", "examples")
            for path in tree.files(folder, ".py")
        ),
        *(tree.root / name for name in tree.everything() if name.endswith(".md")),
    ]


def _functions(tree: Tree) -> set[str]:
    """All words of code, and of its strings: functions and methods are among them."""
    python = [p for folder in ("tests", "tools", "benchmarks") for p in tree.files(folder, ".py")]
    return _KERNEL.union(
        *(
            re.findall(r"\w+", parts_of(path).live)
            for path in (*tree.all_c(), *tree.package(), *tree.models(), *python)
        )
    )


def _words(tree: Tree) -> set[str]:
    """All names of ours in code, in strings (the environment's), and in what builds and runs it."""
    found: set[str] = set()
    for path in (*tree.all_c(), *tree.files("models", ".pml")):
        found.update(_OURS.findall(parts_of(path).live))
    for path in tree.package():
        # The binding's C is in strings of several lines; but a comment makes no name.
        found.update(_OURS.findall(re.sub(r"#.*", "", text_of(path))))
    others = [tree.root / name for name in ("Makefile", "meson.build", "core/meson.build")]
    for path in (*others, *(tree.root / "tools").glob("*"), *_tests(tree)):
        if path.is_file():
            found.update(_OURS.findall(parts_of(path).live))
    return found


def _tests(tree: Tree) -> list[Path]:
    """Python's, but for those of these checks, which name what is not there."""
    return [path for path in tree.files("tests", ".py") if path.name != "test_checks.py"]
