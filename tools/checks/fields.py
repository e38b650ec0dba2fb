"""A field of a struct of the public header says the same in each place that repeats it.

The header has the truth. `_core.pxd` repeats the structs that the binding uses, field by field, and
`_structs.pyi` those that become a dict: a TypedDict has the name of its struct, without "info".
states.py repeats the numbers of states and flags. What becomes a dict is shown to the user: each of
its fields is read by name somewhere in the package, or by a dataclass of the dict's name that has
the same fields. mypy sees the rest: a field that is read is there, and of the type that is wanted.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import Finding, Known, Tree, line_at, parts_of, text_of

PXD = "src/flagstone/_core.pxd"
PYI = "src/flagstone/_structs.pyi"
STATES = "src/flagstone/states.py"
PACKAGE = "src/flagstone"

# Read by nobody, and why.
_UNSHOWN = {
    ("ArenaInfo", "path"): "the attachment has it",
    ("ArenaInfo", "anonymous"): "the attachment has it",
    ("CacheInfo", "format_bytes"): "the format itself is asked for",
    ("GroupInfo", "released"): "a Teardown asks without the rest",
    ("StoreFacts", "slots"): "of C programs: how full the index is",
}

_STRUCT = re.compile(r"^struct (fst_\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_PXD_STRUCT = re.compile(r"^    struct (fst_\w+):\n((?:(?:        .*)?\n)+)", re.MULTILINE)
_DICT = re.compile(r"^class _(\w+)\(TypedDict\):\n((?:    .*\n)+)", re.MULTILINE)
_DEFINE = re.compile(r"^#define (FST_\w+) +(\d+)u?\b", re.MULTILINE)
_VALUE = re.compile(r"^    (FST_\w+) = (\d+)u?,", re.MULTILINE)
_STATE = re.compile(r"^(\w+): Final = (\d+)$", re.MULTILINE)
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class Struct(NamedTuple):
    """Its fields, each with its type, and where it is."""

    path: Path
    line: int
    fields: list[tuple[str, str]]


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Structs and dicts whose fields are not those of the header."""
    del known
    headers = _headers(tree)
    dicts = {_struct(name): said for name, said in _pyi(tree.root / PYI).items()}
    for path, structs in ((PXD, _pxd(tree.root / PXD)), (PYI, dicts)):
        for name, said in structs.items():
            truth = headers.get(name) or headers.get(f"{name}_info")
            if truth is None:
                if path == PXD:
                    yield Finding(path, said.line, f"no public header has struct {name}")
                continue
            wanted = truth.fields
            if path == PYI:
                wanted = [(field, _python(kind)) for field, kind in wanted]
            yield from _differences(path, name, said, wanted)
    yield from _states(tree)
    yield from _unshown(tree)


def _unshown(tree: Tree) -> Iterator[Finding]:
    read: set[str] = set()
    classes: dict[str, list[str]] = {}
    for source in tree.files(PACKAGE, ".py"):
        for node in ast.walk(ast.parse(text_of(source))):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                read.add(str(node.slice.value))
            elif isinstance(node, ast.ClassDef):
                targets = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                classes[node.name] = [one.id for one in targets if isinstance(one, ast.Name)]
    for name, said in _pyi(tree.root / PYI).items():
        fields = [field for field, _ in said.fields]
        for field in fields if classes.get(name) != fields else ():
            if field not in read and (name, field) not in _UNSHOWN:
                yield Finding(PYI, said.line, f"nobody reads {name}'s {field}")


def _states(tree: Tree) -> Iterator[Finding]:
    values: dict[str, str] = {}
    for path in tree.files("core", ".h"):
        values.update(_DEFINE.findall(text_of(path)))
        values.update(_VALUE.findall(text_of(path)))
    path = tree.root / STATES
    text = text_of(path) if path.exists() else ""
    for match in _STATE.finditer(text):
        value = values.get(f"FST_{match[1]}", "nothing")
        if value != match[2]:
            line = line_at(text, match.start())
            yield Finding(STATES, line, f"{match[1]} is {value} in the core, not {match[2]}")


def _differences(
    path: str, name: str, said: Struct, wanted: list[tuple[str, str]]
) -> Iterator[Finding]:
    for field, kind in wanted:
        found = dict(said.fields).get(field)
        if found is None:
            yield Finding(path, said.line, f"{name} lacks {field}: {kind}")
        elif kind and found != kind:
            yield Finding(path, said.line, f"{name}.{field} is {kind}, not {found}")
    for field, _ in said.fields:
        if field not in dict(wanted):
            yield Finding(path, said.line, f"{name} has no {field}")
    if sorted(said.fields) == sorted(wanted) and said.fields != wanted:
        yield Finding(path, said.line, f"{name} has its fields in another order")


def _headers(tree: Tree) -> dict[str, Struct]:
    found = {}
    sizes: dict[str, str] = {}
    paths = tree.files("core/include", ".h")
    for path in paths:
        sizes.update(_DEFINE.findall(text_of(path)))
    for path in paths:
        code = parts_of(path).code
        for match in _STRUCT.finditer(code):
            body = re.sub(r"\bFST_\w+", lambda m: sizes.get(m[0], m[0]), match[2])
            found[match[1]] = Struct(path, line_at(code, match.start()), _fields(body, ";"))
    return found


def _pxd(path: Path) -> dict[str, Struct]:
    code = parts_of(path).code if path.exists() else ""
    return {
        match[1]: Struct(path, line_at(code, match.start()), _fields(match[2], "\n"))
        for match in _PXD_STRUCT.finditer(code)
    }


def _pyi(path: Path) -> dict[str, Struct]:
    code = parts_of(path).code if path.exists() else ""
    found = {}
    for match in _DICT.finditer(code):
        fields = re.findall(r"^    (\w+): (.+?) *$", match[2], re.MULTILINE)
        found[match[1]] = Struct(path, line_at(code, match.start()), fields)
    return found


def _struct(name: str) -> str:
    """Name of the struct of a class of Python."""
    return "fst_" + _WORD.sub("_", name).lower()


def _fields(body: str, end: str) -> list[tuple[str, str]]:
    """Name and type of each: "const char *name, *other" declares two."""
    found = []
    for declaration in body.split(end):
        match = re.match(r"\s*((?:const |enum |struct )*)(\w+)\s+(.+?)\s*$", declaration, re.DOTALL)
        if not match:
            continue
        kind = match[2].replace("fst_bool", "bool").replace("bint", "bool")
        for one in match[3].split(","):
            parts = re.match(r"\s*(\**)(\w+)((?:\[\w+\])*)", one)
            if parts:
                found.append((parts[2], f"{match[1]}{kind} {parts[1]}{parts[3]}".strip()))
    return [(name, re.sub(r"\b(?:enum|struct) ", "", kind)) for name, kind in found]


def _python(kind: str) -> str:
    """What Cython makes of it in a dict."""
    if re.fullmatch(r"u?int\d+_t", kind):
        return "int"
    if kind == "bool":
        return "bool"
    return "bytes" if re.fullmatch(r"(?:char|uint8_t) \[\d+\]", kind) else ""
