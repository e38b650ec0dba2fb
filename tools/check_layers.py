"""Check that the code includes and imports only downwards.

Both tables go from the lowest layer to the highest. A file may use its own layer and those below.
An entry is a folder or a file without its suffix; the longest entry that fits a file counts.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

C_LAYERS = [
    ["include"],
    ["platform"],
    ["region"],
    ["crash"],
    ["rcu"],
    ["refs"],
    ["alloc"],
    ["reclaim"],
    ["observe"],
    ["arena"],
]

PYTHON_LAYERS = [
    ["errors", "cgroup", "names", "sizes"],
    ["notices"],
    ["_core"],
    ["format", "rcu"],
    ["attach", "bound", "memory", "snapshot", "teardown"],
    ["cache"],
    ["group"],
    ["part", "weak"],
    ["block"],
    ["arena"],
    ["__init__"],
    ["testing", "demo"],
    ["cli"],
    ["__main__"],
]


def layer_of(name: str, layers: list[list[str]]) -> int | None:
    """Return the layer's number, or None if no entry fits."""
    best: tuple[int, int] | None = None
    for number, entries in enumerate(layers):
        for entry in entries:
            if name == entry or name.startswith(entry + "/"):
                best = max(best or (0, 0), (len(entry), number))
    return best[1] if best else None


def includes(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name (relative to core/, no suffix) of every header of ours."""
    core = ROOT / "core"
    for number, line in enumerate(path.read_text().splitlines(), 1):
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


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and module (relative to flagstone, / between parts) of our imports.

    What stands under `if TYPE_CHECKING:` is for annotations only, and does not count.
    """
    package = ROOT / "src" / "flagstone"

    def module(parts: list[str]) -> str:
        return "/".join(parts) or "__init__"

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text())):
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


def main() -> int:
    """Check both trees, print what is wrong."""
    messages = []
    core, package = ROOT / "core", ROOT / "src" / "flagstone"
    for base, layers, uses, files in (
        (core, C_LAYERS, includes, [*core.rglob("*.[ch]")]),
        (package, PYTHON_LAYERS, imports, [*package.rglob("*.py"), *package.rglob("*.pyi")]),
    ):
        for path in sorted(files):
            name = str(path.relative_to(base).with_suffix(""))
            shown = path.relative_to(ROOT)
            own = layer_of(name, layers)
            if own is None:
                messages.append(f"{shown}: in no layer; add it to tools/check_layers.py")
                continue
            for line, used in uses(path):
                other = layer_of(used, layers)
                if other is None:
                    messages.append(f"{shown}:{line}: {used} is in no layer")
                elif other > own:
                    messages.append(f"{shown}:{line}: uses {used}, which is a higher layer")
    print("\n".join(messages) or "layers: fine")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
