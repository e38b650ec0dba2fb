"""What a way of moving a file's content from a reader to a hasher has to do.

A transport has two halves. The parent's half prepares for a file and cleans up after it; it never
touches content. The workers' half, an `Endpoint`, is pickled into each worker and does the moving.
Between them travels, through the parent and as the same bytes that the reader pickled: whatever
`store` returned.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from flagstone.demo.files import Source

SHARED_MEMORY_FOLDER = "/dev/shm"


class Endpoint:
    """A transport's half in a worker. Made in the parent, pickled, and attached in the worker."""

    def attach(self) -> None:
        """Get ready; called once in the worker."""

    def detach(self) -> None:
        """The worker is about to end."""

    def store(self, source: Source, place: Any) -> Any:
        """Take in a file's content; what is returned is pickled and travels to a hasher.

        Args:
            source: the open file.
            place: what `Transport.begin` returned for this file.
        """
        raise NotImplementedError

    def digest(self, stored: Any) -> bytes:
        """The SHA-256 of what `store` returned in a reader."""
        raise NotImplementedError


class Transport:
    """A transport's half in the parent."""

    label: ClassVar[str]
    """Its name in the summary."""

    def endpoint(self, role: str) -> Endpoint:
        """The half for a new worker, a "reader" or a "hasher"."""
        raise NotImplementedError

    def begin(self, index: int) -> Any:
        """Prepare for a file; returns what its reader needs to store it (pickled)."""
        return None

    def end(self, index: int) -> None:
        """The digest has arrived: nobody needs the content any more."""

    def lost(self, index: int) -> None:
        """A worker that had this file in hand was killed: clear away whatever there is of it."""

    def left_over(self) -> list[str]:
        """What is still there after everything has ended, for people; empty when all is well."""
        return []

    def clean_up(self) -> None:
        """Remove that; after an interruption, for example."""


def files_named(tag: str) -> list[str]:
    """Paths in /dev/shm whose name contains this tag."""
    try:
        names = os.listdir(SHARED_MEMORY_FOLDER)
    except OSError:
        return []
    return sorted(os.path.join(SHARED_MEMORY_FOLDER, name) for name in names if tag in name)
