"""For a Python that a program under `flagstone.run` starts: its shared memory, too, lies in the
arena.

Nothing of Flagstone is imported before the program imports `multiprocessing.shared_memory`. What
another `sitecustomize` would have done is done first.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
# Those that are replaced, and those that replace them. Each imports some of those before it.
_WANTED = (
    "multiprocessing.shared_memory",
    "flagstone.shm",
    "multiprocessing.managers",
    "flagstone.managers",
    "flagstone.shared_memory",
)


class _Installing:
    """A loader that, having loaded a module, puts Flagstone's in place of the standard ones."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        later = _WANTED[_WANTED.index(module.__name__) + 1 :]
        if any(name in sys.modules for name in later):
            return  # that one imports this one, and is not whole yet
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        try:
            from flagstone.shared_memory import install
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "flagstone":
                raise
            return  # this Python has no Flagstone: its shared memory is the standard one
        install()


class _Finder:
    """Finds the modules as always, and has them loaded by `_Installing`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _WANTED:
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Installing(spec.loader)
        return spec


def _others() -> None:
    """The `sitecustomize` that this one hides, if there is one."""
    paths = [path for path in sys.path if os.path.abspath(path) != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_finder = _Finder()
_others()
if _WANTED[0] not in sys.modules:
    sys.meta_path.insert(0, _finder)
