"""The transport that everyone starts with: the bytes themselves are pickled."""

from __future__ import annotations

import hashlib
from typing import Any

from flagstone.demo.files import Source
from flagstone.demo.transport import Endpoint, Transport


class PickledBytes(Transport):
    """Nothing to prepare and nothing to clean up, but every byte is copied several times."""

    label = "pickled bytes"

    def endpoint(self, role: str) -> Endpoint:
        """The half of a reader, and of a hasher."""
        return _Endpoint()


class _Endpoint(Endpoint):
    def store(self, source: Source, place: Any) -> bytearray:
        content = bytearray(source.size)
        source.read_into(content)
        return content

    def digest(self, stored: bytearray) -> bytes:
        return hashlib.sha256(stored).digest()
