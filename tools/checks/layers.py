"""Check that the code includes and imports only downwards.

Both tables go from the lowest layer to the highest. A file may use its own layer and those below.
An entry is a folder or a file without its suffix; the longest entry that fits a file counts.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import Finding, Known, Tree, text_of

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
    ["errors", "cgroup", "garbage", "names", "sizes", "states"],
    ["notices"],
    ["binding"],
    ["_core"],
    ["folder", "format", "hashes", "picture", "rcu"],
    ["attach", "bound", "memory", "observe", "snapshot", "teardown"],
    ["part"],
    ["dumped", "tables", "values"],
    ["cache"],
    ["group"],
    ["weak"],
    ["watch"],
    ["block"],
    ["letter"],
    ["channel", "lock", "objects", "store", "topic"],
    ["arena"],
    ["arrow", "mapping", "packed", "segment", "sharing"],
    ["shm"],
    ["managers"],
    ["shared_memory"],
    ["installed"],
    ["run", "site"],
    ["joblib", "torch"],
    ["__init__"],
    ["testing", "demo"],
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


def imports(tree: Tree, path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and module (relative to flagstone, / between parts) of our imports.

    What stands under `if TYPE_CHECKING:` is for annotations only, and does not count.
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
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
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
    """One of the two trees of sources: where it is, its layers, its files, what a file uses."""

    base: Path
    layers: list[list[str]]
    files: list[Path]
    uses: Callable[[Tree, Path], Iterator[tuple[int, str]]]

    def name(self, path: Path) -> str:
        """What others use this file by."""
        return str(path.relative_to(self.base).with_suffix(""))


def sides(tree: Tree) -> list[Side]:
    """Both of them."""
    package = [path for path in tree.package() if path.suffix != ".pxd"]
    return [
        Side(tree.root / "core", C_LAYERS, tree.core(), includes),
        Side(tree.root / "src" / "flagstone", PYTHON_LAYERS, package, imports),
    ]


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
            shown = tree.shown(path)
            own = layer_of(side.name(path), side.layers)
            if own is None:
                yield Finding(shown, 0, "in no layer; add it to tools/checks/layers.py")
                continue
            for line, used in side.uses(tree, path):
                other = layer_of(used, side.layers)
                if other is None:
                    yield Finding(shown, line, f"{used} is in no layer")
                elif other > own:
                    yield Finding(shown, line, f"uses {used}, which is a higher layer")
        for entry in (entry for layer in side.layers for entry in layer):
            if names and not any(layer_of(name, [[entry]]) == 0 for name in names):
                yield Finding("tools/checks/layers.py", 0, f"there is no {entry} any more")
