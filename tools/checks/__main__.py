"""checks [--root FOLDER] [--lower] [CHECK...] - check the tree, print what is wrong.

Without names, all of them. --lower takes what is mended from the list of what is known.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import (
    atomics,
    circles,
    fields,
    header,
    known,
    layers,
    lengths,
    litmus,
    maps,
    signposts,
    sources,
    words,
)
from .tree import Finding, Known, Tree

Check = Callable[[Tree, Known], Iterable[Finding]]

CHECKS: dict[str, Check] = {
    "layers": layers.check,
    "sources": sources.check,
    "circles": circles.check,
    "atomics": atomics.check,
    "litmus": litmus.check,
    "header": header.check,
    "fields": fields.check,
    "maps": maps.check,
    "signposts": signposts.check,
    "lengths": lengths.check,
    "words": words.check,
}


def main(arguments: list[str]) -> int:
    """Run the checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--lower", action="store_true")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    options = parser.parse_args(arguments)
    unknown = set(options.checks) - set(CHECKS)
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    tree = Tree(options.root.resolve())
    listing = tree.root / "tools" / "checks" / "known.toml"
    entries = known.load(listing)
    wrong = 0
    for name in options.checks or CHECKS:
        findings = list(CHECKS[name](tree, entries.get(name, {}).keys()))
        if options.lower:
            entries[name] = known.lowered(entries.get(name, {}), findings)
        messages = known.unlisted(name, entries.get(name, {}), findings)
        wrong += len(messages)
        print("\n".join(messages) or f"{name}: fine")
    if options.lower:
        known.save(listing, entries)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
