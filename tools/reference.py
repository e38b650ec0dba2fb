"""The reference's signatures of what is compiled, which no inspection finds: those of its stub.

The docstrings of compiled methods begin with a signature, without the types; the stub has them.
"""

import re
from pathlib import Path
from typing import Any

import griffe

STUB = Path(__file__).resolve().parents[1] / "src" / "flagstone" / "_core.pyi"


def _give(compiled: griffe.Class | griffe.Module, stub: griffe.Class | griffe.Module) -> None:
    for name, there in stub.members.items():
        here = compiled.members.get(name)
        if isinstance(here, griffe.Class) and isinstance(there, griffe.Class):
            _give(here, there)
        elif isinstance(here, griffe.Function) and isinstance(there, griffe.Function):
            here.parameters = there.parameters
            here.labels.discard("method descriptor")
            here.labels.discard("builtin")
            if here.docstring:
                here.docstring.value = re.sub(rf"^{name}\(.*\n+", "", here.docstring.value)


class Signatures(griffe.Extension):
    """Puts the stub's parameters where inspection has found none."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Do it for the module that is compiled."""
        core = pkg.members.get("_core")
        if isinstance(core, griffe.Module):
            _give(core, griffe.visit("_core", filepath=STUB, code=STUB.read_text(), parent=pkg))
