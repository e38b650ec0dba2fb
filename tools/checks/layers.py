"""Check that the code includes, calls and imports only downwards.

Both tables go from the lowest layer to the highest. A file may use its own layer and those below.
An entry is a folder or a file without its suffix; the longest entry that fits a file counts.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import Finding, Known, Tree, matches, parts_of, text_of

C_LAYERS = [
    ["include"],
    ["platform"],
    ["region"],
    ["process"],
    ["rcu"],
    ["refs"],
    ["alloc"],
    ["channel"],
    ["store"],
    ["teardown"],
    ["reclaim"],
    ["observe"],
    ["arena"],
]

PYTHON_LAYERS = [
    ["bell", "errors", "cgroup", "extra", "garbage", "modules", "names", "sizes", "states"],
    ["_structs", "binding"],
    ["_core"],
    ["arriving", "closing", "facts", "folder", "format", "hashes", "looped", "notices", "opened"],
    ["bound", "picture", "rcu"],
    ["attach", "debug", "memory", "snapshot"],
    ["observe", "teardown"],
    ["part"],
    ["dumped", "tables", "values"],
    ["cache"],
    ["group"],
    ["weak"],
    ["watch"],
    ["block"],
    ["evicting", "letter"],
    ["channel", "lock", "objects", "store", "topic"],
    ["arena"],
    ["arrow", "descriptor", "host", "mapping", "packed", "pinned", "segment", "sharing"],
    ["shm"],
    ["managers"],
    ["shared_memory"],
    ["installed"],
    ["run", "site"],
    ["dask", "joblib", "ray", "torch"],
    ["__init__"],
    ["testing", "demo", "machine", "observer"],
    ["metrics", "record", "views"],
    ["report", "tui"],
    ["cli"],
    ["__main__"],
]


# What the binding's C may include.
FOR_BINDING = [["include", "binding", "platform/atomics"]]


def layer_of(name: str, layers: list[list[str]]) -> int | None:
    """Return the layer's number, or None if no entry fits."""
    best: tuple[int, int] | None = None
    for number, entries in enumerate(layers):
        for entry in entries:
            if name == entry or name.startswith(entry + "/"):
                best = max(best or (0, 0), (len(entry), number))
    return best[1] if best else None


def includes(tree: Tree, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name (relative to core/, no suffix) of every header of ours."""
    core = tree.root / "core"
    for number, line in enumerate(text_of(path).splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"(.+)"', line)
        if not match:
            continue
        for folder in (path.parent, core / "include", core):
            header = (folder / match[1]).resolve()
            if header.is_relative_to(core) and header.exists():
                yield number, str(header.relative_to(core).with_suffix(""))
                break
        else:
            yield number, match[1]


def calls(sources: list[Path]) -> dict[Path, list[tuple[int, Path]]]:
    """For each file of C the lines where it names a function of another source, and which.

    A function whose address is taken counts as called, and one that a header's inline function
    calls is called by the header. A declaration is no call.
    """
    homes: dict[str, set[Path]] = {}
    for path in sources:
        if path.suffix == ".c":
            for match in _DEFINITION.finditer(_plain(path)):
                homes.setdefault(match[1], set()).add(path)
    found: dict[Path, list[tuple[int, Path]]] = {}
    for path in sources:
        code = _DECLARATION.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), _plain(path))
        found[path] = [
            (line, home)
            for line, match in matches(_FUNCTION, code)
            for home in sorted(homes.get(match[0], ()))
        ]
    return found


# In C without attributes: what begins in the first column, up to a body, or a semicolon.
_DEFINITION = re.compile(r"^(?!static\b)[A-Za-z][\w* ]*?\b(\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
_DECLARATION = re.compile(r"^[A-Za-z][\w* ]*?\b\w+\([^;{}]*\)\s*;", re.MULTILINE)
_FUNCTION = re.compile(r"(?<!struct )(?<!->)(?<!\.)\b[A-Za-z]\w*")
_ATTRIBUTE = re.compile(r"__attribute__\(\((?:[^()]|\([^()]*\))*\)\) *")


def _plain(path: Path) -> str:
    """A file's code without attributes, which may stand before what they are of."""
    return _ATTRIBUTE.sub("", parts_of(path).code)


def imports(tree: Tree, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and module (relative to flagstone, / between parts) of our imports.

    What stands under `if TYPE_CHECKING:` counts as well: who reads the file needs the other one.
    Only in the binding's stub it does not: that names classes of modules above, which they hand to
    the binding when they are imported.
    """
    package = tree.root / "src" / "flagstone"
    if path.suffix in (".pyx", ".pxi"):  # no Python: its imports are lines
        for number, line in enumerate(text_of(path).splitlines(), 1):
            match = re.match(r"\s*(?:from|import|cimport)\s+flagstone\.?([\w.]*)", line)
            if match:
                yield number, match[1].replace(".", "/") or "__init__"
            match = re.match(r'\s*include\s+"([\w/]+)\.pxi"', line)
            if match:
                yield number, match[1]
        return

    def module(parts: list[str]) -> str:
        return "/".join(parts) or "__init__"

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if path.suffix == ".pyi" and isinstance(child, ast.If):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "flagstone":
                    yield node.lineno, module(parts[1:])
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                here = list(path.relative_to(package).parts[:-1])
                parts = here[: len(here) - node.level + 1] + parts
            elif parts[:1] == ["flagstone"]:
                parts = parts[1:]
            else:
                continue
            for alias in node.names:
                inner = package.joinpath(*parts, alias.name)
                known = inner.is_dir() or any(
                    inner.with_suffix(suffix).exists() for suffix in (".py", ".pyi", ".pyx")
                )
                yield node.lineno, module([*parts, alias.name] if known else parts)


class Side(NamedTuple):
    """A tree of sources: where it is, its layers, its files, what a file uses by its own words, and
    whether a file of C uses what it calls, too.
    """

    base: Path
    layers: list[list[str]]
    files: list[Path]
    uses: Callable[[Tree, Path], Iterator[tuple[int, str]]]
    calls: bool = False

    def name(self, path: Path) -> str:
        """What others use this file by."""
        return str(path.relative_to(self.base).with_suffix(""))


def sides(tree: Tree) -> list[Side]:
    """The core and the package."""
    package = [path for path in tree.package() if path.suffix != ".pxd"]
    return [
        Side(tree.root / "core", C_LAYERS, tree.core(), includes, calls=True),
        Side(tree.root / "src" / "flagstone", PYTHON_LAYERS, package, imports),
    ]


def uses(tree: Tree, side: Side) -> Iterator[tuple[Path, int, str]]:
    """Each use of another file: who, in which line, and whom."""
    called = calls(side.files) if side.calls else {}
    for path in side.files:
        for line, used in side.uses(tree, path):
            yield path, line, used
        for line, home in called.get(path, ()):
            yield path, line, side.name(home)


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Uses of higher layers, files in no layer, layers without a file."""
    del known
    for path in tree.binding():
        for line, used in includes(tree, path):
            if layer_of(used.removesuffix(".h"), FOR_BINDING) is None:
                yield Finding(tree.shown(path), line, f"{used} is the core's own")
    for side in sides(tree):
        names = {side.name(path) for path in side.files}
        for path in side.files:
            if layer_of(side.name(path), side.layers) is None:
                text = "in no layer; add it to tools/checks/layers.py"
                yield Finding(tree.shown(path), 0, text)
        for path, line, used in uses(tree, side):
            shown = tree.shown(path)
            own, other = (layer_of(name, side.layers) for name in (side.name(path), used))
            if other is None:
                yield Finding(shown, line, f"{used} is in no layer")
            elif own is not None and other > own:
                yield Finding(shown, line, f"uses {used}, which is a higher layer")
        for entry in (entry for layer in side.layers for entry in layer):
            if names and not any(layer_of(name, [[entry]]) == 0 for name in names):
                yield Finding("tools/checks/layers.py", 0, f"there is no {entry} any more")
