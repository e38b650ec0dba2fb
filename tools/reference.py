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


def _called(module: griffe.Module) -> None:
    """Show an object that is there to be called as the function that it is to its user."""
    for name, there in list(module.members.items()):
        if not (isinstance(there, griffe.Attribute) and isinstance(there.value, griffe.ExprCall)):
            continue
        made = module.members.get(str(there.value.function))
        call = made.members.get("__call__") if isinstance(made, griffe.Class) else None
        if isinstance(call, griffe.Function) and call.docstring:
            shown = griffe.Function(
                name,
                lineno=call.lineno,
                endlineno=call.endlineno,
                parameters=griffe.Parameters(*list(call.parameters)[1:]),  # without self
                returns=call.returns,
                parent=module,
            )
            shown.docstring = griffe.Docstring(call.docstring.value, parent=shown)
            module.set_member(name, shown)


class Signatures(griffe.Extension):
    """Puts the stub's parameters where inspection has found none."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Do it for the module that is compiled, and look through the others."""
        for module in pkg.modules.values():
            if not module.is_alias:
                _called(module)
        core = pkg.members.get("_core")
        if isinstance(core, griffe.Module):
            _give(core, griffe.visit("_core", filepath=STUB, code=STUB.read_text(), parent=pkg))
