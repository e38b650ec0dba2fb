"""Identifiers of the core keep to the words of docs/design/words.md."""

import re
from collections.abc import Iterator

from .tree import Finding, Known, Tree, matches, parts_of, text_of

GLOSSARY = "docs/design/words.md"

_IDENTIFIER = re.compile(r"\b[A-Za-z]\w*")
_ROW = re.compile(r"^\| *(\w+) *\|([^|]*)\|([^|]*)\| *$", re.MULTILINE)


def refused(tree: Tree) -> dict[str, tuple[str, set[str]]]:
    """Each refused word: what to say instead, and the identifiers that may have it."""
    path = tree.root / GLOSSARY
    if not path.exists():
        return {}
    table = text_of(path).partition("## Refused")[2]
    return {
        row[1]: (row[2].strip(), set(re.findall(r"`(\w+)`", row[3])))
        for row in _ROW.finditer(table)
        if row[1] != "word"
    }


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Identifiers with a refused word, each where it is met first; and rows that allow nothing."""
    del known
    words = refused(tree)
    met: set[str] = set()
    for path in tree.core():
        for line, match in matches(_IDENTIFIER, parts_of(path).code):
            name = match[0]
            if name in met:
                continue
            met.add(name)
            for part in set(name.lower().split("_")) & words.keys():
                instead, allowed = words[part]
                if name not in allowed:
                    text = f"{name}: {part!r} is refused; say {instead} ({GLOSSARY})"
                    yield Finding(tree.shown(path), line, text, name)
    for word, (_, allowed) in words.items():
        for name in sorted(allowed - met):
            yield Finding(GLOSSARY, 0, f"there is no {name} any more that may have {word!r}")
