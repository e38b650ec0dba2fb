"""GroupBase: what a cache knows of a group.

It lies below both, because a cache binds itself to groups, and a group lists its caches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstone._core import GroupCache

if TYPE_CHECKING:
    from flagstone._core import Format, GroupRef, Link


class GroupBase:
    """The part of a `Group` that keeps a `GroupCache` for each cache that was bound to it."""

    __slots__ = ("_bound", "_id", "_link", "_ref")

    def __init__(self, link: Link, ident: int, ref: GroupRef | None) -> None:
        self._link = link
        self._id = ident
        self._ref = ref
        self._bound: dict[int, GroupCache] | None = None

    def _bind(self, link: Link, cache: int, size: int, form: Format | None) -> GroupCache:
        known = self._bound
        if known is None:
            known = self._bound = {}
        bound = known.get(cache)
        if bound is None:
            if link.uuid != self._link.uuid:
                raise ValueError(f"{self!r} belongs to another arena")
            bound = GroupCache(self._link, self._ref, form, size, cache, self._id)
            if len(known) >= 256:  # caches come and go, a group may last
                known.clear()
            known[cache] = bound
        return bound
