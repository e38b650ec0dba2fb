"""Extra: what is said where a package is missing that only an extra of Flagstone installs."""

from __future__ import annotations

from types import TracebackType

__all__ = ["Extra", "needs"]


def needs(what: str, package: str, extra: str) -> str:
    """What is missing, and how to get it."""
    return f'{what} needs {package}: pip install "flagstone[{extra}]"'


class Extra:
    """A context manager for the import of a package that an extra installs: a
    `ModuleNotFoundError` in it says which one to install.

    Args:
        what: needs it, for people; package: its name; extra: which one has it.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        self._says = needs(what, package, extra)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise ModuleNotFoundError(self._says, name=error.name) from error
