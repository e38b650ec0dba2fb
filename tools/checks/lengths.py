"""No file is longer, and no comment wider, than a reader can hold.

The width of code is the formatters' business (.clang-format, ruff), but for Cython, which has none,
and that of pages for people (Markdown) their editors'.
"""

from collections.abc import Iterator

from .tree import Finding, Known, Tree, parts_of, text_of

COLUMNS = 100
PYTHON = (".py", ".pyi")
CYTHON = (".pyx", ".pxi", ".pxd")
LINES = dict.fromkeys((".c", ".h"), 600) | dict.fromkeys((*PYTHON, *CYTHON), 700)


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Files and lines that are too long."""
    del known
    others = [
        path
        for folder in ("tests", "tools", "benchmarks", "examples")
        for path in tree.files(folder, *PYTHON, ".c", ".h")
    ]
    sources = {*tree.all_c(), *tree.package(), *others, *tree.models()}
    for path in sorted({*sources, *tree.recipes()}):
        shown = tree.shown(path)
        lines = text_of(path).splitlines()
        most = LINES.get(path.suffix, 0)
        if most and len(lines) > most:
            text = f"{len(lines)} lines, more than {most}: it is more than one thing"
            yield Finding(shown, 0, text, f"{shown} in length")
        wide = [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]
        if path.suffix not in CYTHON:
            code, _, prose = (part.splitlines() for part in parts_of(path))
            c = path.suffix in (".c", ".h", ".pml")  # whose formatter lets comments stand behind
            wide = [n for n in wide if prose[n - 1].strip() and (c or not code[n - 1].strip())]
        if wide:
            text = f"more than {COLUMNS} columns in lines {', '.join(map(str, wide))}"
            yield Finding(shown, 0, text, f"{shown} in width")
