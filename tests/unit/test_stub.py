"""The binding's stub says what is there: mypy believes it, and so do readers."""

import ast
import re
from pathlib import Path

import pytest

from flagstone import _core

SOURCES = Path(__file__).parents[2] / "src" / "flagstone"
STUB = ast.parse((SOURCES / "_core.pyi").read_text())
CLASSES = [node for node in STUB.body if isinstance(node, ast.ClassDef)]
BASETYPE = 1 << 10  # Py_TPFLAGS_BASETYPE: a class below it can be made


def test_what_it_names_is_there():
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert hasattr(_core, node.name), node.name


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_a_class(node):
    """Its members are there, and it is final if none can be made below it."""
    there = getattr(_core, node.name)
    for one in node.body:
        name = getattr(one, "name", None) or getattr(getattr(one, "target", None), "id", None)
        if name not in (None, "__buffer__"):  # which Python before 3.12 does not have
            assert hasattr(there, name), name
    final = "final" in [ast.unparse(one) for one in node.decorator_list]
    assert final == (not there.__flags__ & BASETYPE)


def test_what_can_be_assigned():
    """An attribute that is no property can be assigned: the binding declares it public."""
    text = "\n".join(path.read_text() for path in sorted(SOURCES.joinpath("binding").glob("*.pxi")))
    declared = {
        (part.partition("(")[0].partition(":")[0].strip(), name)
        for part in re.split(r"^cdef class ", text, flags=re.MULTILINE)[1:]
        for name in re.findall(r"^    cdef public \S+ (\w+)", part, re.MULTILINE)
    }
    said = {
        (node.name, one.target.id)
        for node in CLASSES
        for one in node.body
        if isinstance(one, ast.AnnAssign)
    }
    assert said == declared
    assert said
