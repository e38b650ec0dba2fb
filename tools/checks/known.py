"""What is known to be wrong, and is not mended yet: known.toml, which can only get shorter.

A key stands for as many findings as its number says. More of them are reported, and so is a key
that no finding needs any more.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from .tree import Finding

_HEAD = """\
# What tools/checks find and is not mended yet, by check: what, and how many times at most.
#
# An entry may become less or go, and lint says when one is not needed any more; a file that moves
# takes its entries along. No entry is added.
# `python -m tools.checks --lower` writes the numbers down that are true now.
"""


def load(path: Path) -> dict[str, dict[str, int]]:
    """The list, by check; empty without a file."""
    if not path.exists():
        return {}
    return tomllib.loads(path.read_text())


def save(path: Path, known: Mapping[str, Mapping[str, int]]) -> None:
    """Write the list."""
    text = _HEAD
    for check, entries in sorted(known.items()):
        if entries:
            text += f"\n[{check}]\n"
            text += "".join(f'"{key}" = {entries[key]}\n' for key in sorted(entries))
    path.write_text(text)


def lowered(entries: Mapping[str, int], findings: Iterable[Finding]) -> dict[str, int]:
    """The entries with the numbers that are true, where these are smaller."""
    found = Counter(finding.key for finding in findings)
    return {key: min(most, found[key]) for key, most in entries.items() if found[key]}


def unlisted(check: str, entries: Mapping[str, int], findings: Iterable[Finding]) -> list[str]:
    """What is to be reported: what the list does not cover, and entries that nothing needs."""
    findings = list(findings)
    found = Counter(finding.key for finding in findings)
    messages = []
    for finding in findings:
        most = entries.get(finding.key, 0) if finding.key else 0
        if not most:
            messages.append(str(finding))
        elif found[finding.key] > most:
            messages.append(f"{finding} (known.toml allows {most}, there are {found[finding.key]})")
    messages += [
        f"tools/checks/known.toml: [{check}] {key!r} is mended; take it from the list"
        for key in entries
        if not found[key]
    ]
    return messages
