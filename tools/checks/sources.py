"""Check that every source file is listed in its meson.build, so that no wheel lacks a module."""

from collections.abc import Iterator

from .tree import Finding, Known, Tree, text_of

# Folder, patterns, and what its meson.build leaves out of a name.
LISTS: list[tuple[str, tuple[str, ...], str]] = [
    ("core", ("*.c",), ""),
    ("src/flagstone", ("*.py", "*.pyi", "py.typed"), ""),
    ("tests/core", ("test_*.c",), "test_"),
    ("tests/fuzz", ("fuzz_*.c",), "fuzz_"),
]


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Files that the meson.build of their folder does not quote."""
    del known
    for folder, patterns, prefix in LISTS:
        base = tree.root / folder
        if not base.exists():
            continue
        listing = text_of(base / "meson.build")
        for path in sorted(path for pattern in patterns for path in base.rglob(pattern)):
            name = path.stem.removeprefix(prefix) if prefix else str(path.relative_to(base))
            if f"'{name}'" not in listing:
                yield Finding(tree.shown(path), 0, f"not listed in {folder}/meson.build")
