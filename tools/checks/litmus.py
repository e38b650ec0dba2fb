"""Every PAIR label of the core has a litmus test, and the tests say what the code does."""

from collections.abc import Iterator

from .. import litmus
from .tree import Finding, Known, Tree


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Where models/litmus and the core say different things."""
    del known
    for sentence in litmus.drift(tree.root):
        yield Finding("models/litmus", 0, sentence, sentence)
