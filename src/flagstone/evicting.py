"""Evicting: how a store finds memory for a value, and room for it among its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from flagstone._core import Block
from flagstone.block import aalloc_bytes, alloc_bytes
from flagstone.errors import FULL, LIMIT
from flagstone.memory import RECLAIM, aallocate, allocate, in_steps, tightest
from flagstone.names import text

if TYPE_CHECKING:
    from flagstone._core import Attachment, Format

__all__ = ["Evicting", "own_group"]

_LARGE: Final = 16
"""What part of a limit is something large."""
_SHARE: Final = 64
"""What part of what it has a store evicts at a time, and `_LOT` at most."""
_LOT: Final = 1 << 20
_READERS: Final = 1.0
"""Seconds to wait for readers that are in the way of what was evicted."""


class Evicting:
    """The part of a Store that allocates. One with `evict="lru"` that is full lets go of what was
    not used for longest, some of it at a time.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _evicts: bool
        _group_id: int
        _name: str

        def _attachment(self) -> Attachment: ...
        def _evict(self, wait: float | None = None) -> int: ...
        def _info(self) -> Any: ...

    def _alloc(self, nbytes: int, form: Format | None = None) -> Block:
        attachment, group = self._attachment(), self._group_id
        if not self._evicts:
            return alloc_bytes(attachment, nbytes, form, None, group)
        got = attachment.alloc_bytes(group, nbytes, form)
        if isinstance(got, Block):
            return got
        attempt = _Attempt(attachment, group, nbytes, form)
        evicted = False
        while (block := allocate(attachment, attempt, None, group)) is None:
            # As long as a reader is in the way of what was evicted, more of it is no help.
            if attachment.in_section or (attachment.reclaim(group, RECLAIM) and evicted):
                return alloc_bytes(attachment, nbytes, form, _READERS, group)
            block = allocate(attachment, attempt, None, group)
            if block is not None:
                break
            if self._never_fits(nbytes, attempt.why) or not self._make_room(nbytes):
                return alloc_bytes(attachment, nbytes, form, None, group)
            evicted = True
        return block

    def _never_fits(self, nbytes: int, status: int) -> bool:
        """Whether there would be no room for it either if nothing else were in the store."""
        attachment = self._attachment()
        group = attachment.group_info(self._group_id)
        own = group["usage"]
        if status == LIMIT:
            _, most, used = tightest(attachment, self._group_id)
        else:
            arena = attachment.info()
            used, most = arena["used"], arena["capacity"]
        # In a group with other things the keys have to be gone through, which only something large
        # is worth.
        if nbytes > most // _LARGE and text(group["name"]) != own_group(self._name):
            own = min(own, self._info()["bytes"])
        return used - own + nbytes > most

    def _lot(self, nbytes: int) -> int:
        """How many bytes are evicted at a time: to reclaim them takes as long for many keys as for
        one.
        """
        usage: int = self._attachment().group_info(self._group_id)["usage"]
        return max(nbytes, min(usage // _SHARE, _LOT))

    def _make_room(self, nbytes: int) -> bool:
        freed, lot = 0, self._lot(nbytes)
        while freed < lot and (more := self._evict()):
            freed += more
        return freed > 0

    async def _aalloc(self, nbytes: int, form: Format | None = None) -> Block:
        """`_alloc` for a coroutine."""
        from asyncio import get_running_loop

        attachment, group = self._attachment(), self._group_id
        if not self._evicts:
            return await aalloc_bytes(attachment, nbytes, form, None, group)
        attempt = _Attempt(attachment, group, nbytes, form)
        reclaim = functools.partial(attachment.reclaim, group, RECLAIM)
        evicted = False
        while (block := await aallocate(attachment, attempt, None, group)) is None:
            if await get_running_loop().run_in_executor(None, reclaim) and evicted:
                return await aalloc_bytes(attachment, nbytes, form, _READERS, group)
            block = await aallocate(attachment, attempt, None, group)
            if block is not None:
                break
            if self._never_fits(nbytes, attempt.why) or not await self._amake_room(nbytes):
                return await aalloc_bytes(attachment, nbytes, form, None, group)
            evicted = True
        return block

    async def _amake_room(self, nbytes: int) -> bool:
        freed, lot = 0, self._lot(nbytes)
        while freed < lot and (more := await in_steps(self._attachment(), self._evict)):
            freed += more
        return freed > 0


class _Attempt:
    """An allocation that only locks are waited for (`allocate`): None, and the status in `why`,
    where there is no room.
    """

    __slots__ = ("_attachment", "_form", "_group", "_nbytes", "why")

    def __init__(
        self, attachment: Attachment, group: int, nbytes: int, form: Format | None
    ) -> None:
        self._attachment = attachment
        self._group = group
        self._nbytes = nbytes
        self._form = form
        self.why = 0

    def __call__(self, patience: int) -> Block | int | None:
        got = self._attachment.alloc_bytes(self._group, self._nbytes, self._form, patience)
        if got not in (FULL, LIMIT):
            return got
        self.why = got
        return None


def own_group(name: str) -> str:
    """The name of the group of a store with a limit."""
    return f"store {name}"
