"""Cache: a named type of object."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

import numpy as np

from flagstone._core import Block, GroupCache, Link
from flagstone.attach import attach, locate
from flagstone.bound import GroupBase
from flagstone.debug import flags_of
from flagstone.errors import (
    CLOSED,
    ArenaCorrupted,
    ArenaFull,
    CacheMismatch,
    Closed,
    FlagstoneError,
)
from flagstone.facts import CacheStats
from flagstone.format import dtype_text, form_for, format_text, parse_format
from flagstone.memory import aallocate, allocate
from flagstone.names import called, named, object_name, text
from flagstone.observe import cache_flags, cache_stats
from flagstone.sizes import Size, exact_size, format_size, many, parse_seconds, parse_size
from flagstone.states import (
    CACHE_ALIAS,
    CACHE_ENDED,
    CACHE_LIVE,
    CACHE_NAMELESS,
    CACHE_NO_MERGE,
    CACHE_RETIRED,
    CACHE_SIZE_CLASS,
    CACHE_TYPESAFE_BY_RCU,
)
from flagstone.teardown import Teardown
from flagstone.values import array_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import DTypeLike

    from flagstone._core import Attachment, Format
    from flagstone._structs import _CacheInfo
    from flagstone.attach import Locator

__all__ = ["Cache", "GroupCache"]

_MAX_INIT = 2**32 - 1
CacheParts: TypeAlias = (
    "tuple[Locator, int, str, tuple[int, int, int, str], bytes | Literal[False] | None]"
)
"""What the pickle of a cache has."""
_TRAVELS = 64 << 10
"""Bytes of initial content that go into a pickle."""


class Cache:
    """A named type of object: its size, or dtype and shape, its alignment and its initial content.

    Made by `Arena.cache()`. It belongs to the arena and not to a process: another process opens it
    by its name and parameters, or unpickles it. Safe to use from any thread and, after a fork, in
    the child. Two Cache objects of one cache are equal. A pickle holds nothing, and may be loaded
    any number of times. What asks the arena about it raises `Closed` once it was destroyed.

    Compatible caches (same size, alignment, dtype and shape; no `init`, no `typesafe_by_rcu`, no
    `merge=False`) are merged, as the kernel merges its: the later one is an alias of the first, and
    they share slabs and statistics.
    """

    __slots__ = (
        "__weakref__",
        "_align",
        "_flags",
        "_format",
        "_id",
        "_init",
        "_link",
        "_name",
        "_nameless",
        "_root_bound",
        "_size",
    )

    def __init__(
        self, link: Link, ident: int, info: Mapping[str, Any], form: Format | None
    ) -> None:
        self._link = link
        self._id = ident
        self._name = text(info["name"])
        self._size: int = info["size"]
        self._align: int = info["align"]
        self._flags: int = info["flags"]
        self._format = form
        # For the pickle: the content that it was opened with, or None; False: not known, or long.
        self._init: bytes | Literal[False] | None = False
        self._root_bound: GroupCache | None = None
        # Whether this name was destroyed here, and the cache lives on by others.
        self._nameless = False

    def alloc(
        self, group: GroupBase | None = None, *, zero: bool = False, wait: float | None = None
    ) -> Block:
        """Allocate an object.

        Args:
            group: what it is charged to; None is the arena itself (the root group).
            zero: fill with zero bytes. Otherwise the content is what the last user left, or `init`
                in a cache that has one and has never been used there.
            wait: seconds to wait for memory; None reclaims what can be reclaimed now and does not
                wait, `math.inf` waits for ever. Either has Python's garbage collected once before
                it gives up or waits.

        Raises:
            ArenaFull: no memory in the arena.
            GroupLimitExceeded: the group, or an ancestor, is at its limit.
            Closed: the arena, the cache or the group has ended.
            ReadOnly: attached with `readonly=True`.
        """
        bound = self.bind(group)
        if wait is None and not zero:
            return bound.alloc()
        return bound.alloc(zero=zero, wait=wait)

    async def aalloc(
        self, group: GroupBase | None = None, *, zero: bool = False, wait: float | None = None
    ) -> Block:
        """`alloc` for a coroutine: the event loop goes on while it waits.

        Arguments and errors are those of `alloc`. Cancelling it, by `asyncio.timeout` for example,
        takes back everything; a helper thread of the loop's that is at work just then ends within
        a fraction of a second, so that it keeps no program from ending.
        """
        return await self.bind(group).aalloc(zero=zero, wait=wait)

    def alloc_many(self, n: SupportsIndex, group: GroupBase | None = None) -> list[Block]:
        """Allocate n objects at once: all, or an exception and none. Does not wait for memory.

        Args:
            n: how many, 0 or more.
            group: what they are charged to; None is the arena itself.

        Returns:
            A list of n Blocks.

        Raises:
            ValueError: n is negative.
            ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `alloc`.
        """
        return self.bind(group).alloc_many(n)

    def bind(self, group: GroupBase | None = None) -> GroupCache:
        """This cache for one group (None is the arena itself): the fastest way to allocate.

        Raises:
            TypeError, ValueError: it is no Group, or one of another arena.
            ArenaFull, GroupLimitExceeded: no room for what the arena notes about the two.
            Closed: the cache or the group has ended.
        """
        if self._nameless:
            raise self._gone()
        if group is None:
            bound = self._root_bound
            if bound is None:
                root = self._link.attachment.root_group
                bound = GroupCache(self._link, None, self._format, self._size, self._id, root)
                self._root_bound = bound
            return bound
        if not isinstance(group, GroupBase):
            raise TypeError(f"group must be a Group, not {type(group).__name__}")
        return group._bind(self._link, self._id, self._size, self._format)

    def destroy(self) -> Teardown:
        """End the cache: its name is free when this returns, its memory is given back in a batch.

        Of merged caches, only the name goes, and the others are not touched: neither their objects,
        nor those that were allocated by this name, which are theirs too. The last name ends them
        all. Waits for no reader or batch; a tenth of a second where a process is stopped in the
        middle of an allocation from it.

        Raises:
            CacheBusy: a live process or an in-flight reference uses objects of it. Nothing has
                changed; may be retried. (One that was replaced goes by itself with its last object:
                this says who has one.)
            Closed: it has ended before.
            ReadOnly: attached with `readonly=True`.
        """
        attachment = self._link.attachment
        try:
            held = attachment.cache_info(self._id)["bytes"]
        except Closed:
            held = 0
        try:
            self._nameless = attachment.cache_destroy(self._id)
        except Closed:
            raise self._gone() from None
        if self._nameless:
            return Teardown(self._link, "cache", self._id, self._name, 0, done=True)
        return Teardown(self._link, "cache", self._id, self._name, held)

    def shrink(self) -> int:
        """Give the cache's empty slabs back to the system, and return their bytes. Waits for no
        reader.
        """
        if self._info()["state"] == CACHE_RETIRED:
            return 0  # it keeps no empty slab
        return self._link.attachment.cache_shrink(self._id)

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes of an object."""
        return self._size

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of an object's array; None for bytes."""
        return None if self._format is None else self._format.shape

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of an object's elements; None for bytes."""
        return None if self._format is None else self._format.dtype

    @property
    def order(self) -> str | None:
        """The order of an object's array: "C", or "F" for Fortran; None for bytes."""
        return None if self._format is None else self._format.order

    @property
    def align(self) -> int:
        """The alignment in bytes, a power of two that divides every object's address."""
        return self._align

    @property
    def flags(self) -> frozenset[str]:
        """Those of "typesafe_by_rcu", "no_merge" and "size_class" that hold; and of "consistency",
        "red_zone", "poison" and "store_user" where it is debugged.
        """
        return cache_flags(self._flags)

    @property
    def merged_into(self) -> str | None:
        """Name of the compatible cache that this one is an alias of, or None."""
        while (merged := self._info()["merged_into"]) != self._id:
            with contextlib.suppress(Closed):  # destroyed meanwhile: another name speaks for it now
                return text(self._link.attachment.cache_look(merged)["name"])
        return None

    @property
    def aliases(self) -> list[str]:
        """Names of the caches that have been merged into this one."""
        if not self._info()["aliases"]:
            return []
        return [
            text(info["name"])
            for info in _infos(self._link.attachment)
            if info["merged_into"] == self._id and info["id"] != self._id
        ]

    @property
    def stats(self) -> CacheStats:
        """How full it is, over all groups. Counts its slabs, and may wait for their locks."""
        return cache_stats(self._info())

    def _info(self) -> _CacheInfo:
        info = self._link.attachment.cache_info(self._id)
        # The descriptor stays until a batch has released it; for users it has ended before.
        if info["state"] in (CACHE_ENDED, CACHE_NAMELESS):
            raise self._gone()
        return info

    def _gone(self) -> Closed:
        what = named("cache", self._name, self._link.attachment.path)
        return Closed(f"{what} was destroyed: open it again with arena.cache()")

    def __reduce__(self) -> tuple[Any, ...]:
        return load_cache, self._parts()

    def _parts(self) -> CacheParts:
        parameters = (self._size, self._align, self._flags, format_text(self._format))
        locator = locate(self._link.attachment)
        return locator, self._id, self._name, parameters, self._init

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cache):
            return NotImplemented
        return self._id == other._id and self._link.uuid == other._link.uuid

    def __hash__(self) -> int:
        return hash((self._id, self._link.uuid))

    def __repr__(self) -> str:
        what = (
            many(self._size, "byte")
            if self._format is None
            else f"{dtype_text(self._format.dtype)} {self._format.shape}, {format_size(self._size)}"
        )
        if self.order == "F":
            what += ", Fortran order"
        flags = "".join(f", {flag}" for flag in sorted(self.flags))
        return f"<Cache {self._name!r} of {what}{flags}>"


def open_cache(
    link: Link,
    name: str,
    size: Size | None,
    shape: int | Iterable[int] | None,
    dtype: DTypeLike | None,
    order: str,
    align: SupportsIndex | None,
    typesafe_by_rcu: bool,
    init: Any,
    merge: bool,
    replace: bool,
    debug: str | None,
) -> Cache:
    """What `Arena.cache` does: everything is checked before anything changes."""
    raw_name = object_name(name, "cache")
    form: Format | None = None
    if (size is None) != (shape is not None) or (shape is None) != (dtype is None):
        raise ValueError("a cache takes either size=, or shape= and dtype=")
    if size is not None:
        nbytes = parse_size(size, "size")
    elif shape is not None and dtype is not None:
        form = form_for(dtype, shape, order)
        nbytes = form.nbytes
        if nbytes == 0:
            raise ValueError(f"objects of {form.dtype!r} and shape {form.shape} have no bytes")
    content = None if init is None else _content(init, form)
    if content is not None and len(content) > min(nbytes, _MAX_INIT):
        raise ValueError(
            f"init has {exact_size(len(content))}, an object only {exact_size(nbytes)}"
        )
    flags = (CACHE_TYPESAFE_BY_RCU if typesafe_by_rcu else 0) | (0 if merge else CACHE_NO_MERGE)
    flags |= flags_of(link.attachment, name, debug)
    alignment = _alignment(align)
    return _open(
        link, raw_name, (nbytes, alignment, flags, format_text(form)), form, content, replace
    )


def _content(init: Any, form: Format | None) -> bytes:
    """The bytes of initial content: an array's lie as in the objects."""
    if not isinstance(init, (np.ndarray, Block)):
        return memoryview(init).tobytes()
    array = array_of(init, "init=")
    like = form is not None and (array.dtype, array.shape) == (form.dtype, form.shape)
    return array.tobytes("F" if like and form is not None and form.order == "F" else "C")


def _open(
    link: Link,
    name: bytes,
    parameters: tuple[int, int, int, str],
    form: Format | None,
    init: bytes | None = None,
    replace: bool = False,
) -> Cache:
    attachment = link.attachment
    size, align, flags, description = parameters

    def mismatch(ident: int, said: str) -> CacheMismatch:
        return _mismatch(attachment, ident, said, size, form)

    while True:
        ident = attachment.cache_open(
            name, size, align, flags, description.encode(), init or None, replace, mismatch
        )
        with contextlib.suppress(Closed):  # destroyed and released meanwhile: it is made anew
            cache = Cache(link, ident, attachment.cache_look(ident), form)
            cache._init = init if init is None or len(init) <= _TRAVELS else False
            return cache


def _mismatch(
    attachment: Attachment, ident: int, said: str, size: int, form: Format | None
) -> CacheMismatch:
    try:
        there = attachment.cache_look(ident)
        have = _what(there["size"], parse_format(text(there["format"])))
    except (Closed, ArenaCorrupted):  # it has gone meanwhile, or cannot be read
        return CacheMismatch(said)
    want = _what(size, form)
    if have != want:  # otherwise it is the alignment, or the like: the core says which
        said = f"cache {text(there['name'])!r} exists with {have}, not {want}"
    return CacheMismatch(
        f"{said} (arena {called(attachment.path)}). Open it with the parameters that it has, or"
        " take another name, or pass replace=True: then the name is the new"
        " cache's, and the old one goes with its last object"
    )


def _what(size: int, form: Format | None) -> str:
    if form is None:
        return f"objects of {exact_size(size)}"
    order = " in Fortran order" if form.order == "F" else ""
    return f"arrays of {form.dtype} {form.shape}{order}, {exact_size(size)}"


def load_cache(
    locator: Locator,
    ident: int,
    name: str,
    parameters: tuple[int, int, int, str],
    init: bytes | Literal[False] | None,
) -> Cache:
    """Unpickle: the cache that it was while that is there, then the one of its name."""
    link = Link(attach(locator))
    form = parse_format(parameters[3])
    with contextlib.suppress(Closed):
        info = link.attachment.cache_look(ident)
        if info["state"] != CACHE_ENDED:
            cache = Cache(link, ident, info, form)
            cache._init = init
            return cache
    if init is False:
        raise Closed(f"{named('cache', name, link.attachment.path)} was destroyed: open it again")
    return _open(link, object_name(name, "cache"), parameters, form, init)


def _alignment(align: SupportsIndex | None) -> int:
    if align is None:
        return 0
    try:
        value = operator.index(align)
    except TypeError:
        raise TypeError(f"align must be an integer, not {type(align).__name__}") from None
    if isinstance(align, bool) or value < 1 or value & (value - 1) or value >= 2**63:
        raise ValueError(f"align must be a power of two, not {align!r}")
    return value


def cache_of(link: Link, ident: int) -> Cache:
    """The Cache with this id; of merged ones whose first name was destroyed, the next."""
    attachment = link.attachment
    while (info := attachment.cache_look(ident))["state"] == CACHE_NAMELESS:
        with contextlib.suppress(Closed):  # destroyed meanwhile: another name speaks for it now
            info = attachment.cache_look(info["merged_into"])
            break
    return Cache(link, info["id"], info, _remember(attachment, info))


def parts_of(cache: Cache) -> CacheParts:
    """The arguments of `load_cache` that give this cache to another process.

    Raises:
        Closed: it was destroyed.
    """
    if cache._link.attachment.cache_look(cache._id)["state"] == CACHE_ENDED:
        raise cache._gone()
    return cache._parts()


def caches_of(link: Link) -> list[Cache]:
    """The live caches that somebody opened by name: no size classes."""
    attachment = link.attachment
    return [
        Cache(link, info["id"], info, _remember(attachment, info))
        for info in _infos(attachment)
        if info["state"] in (CACHE_LIVE, CACHE_ALIAS) and not info["flags"] & CACHE_SIZE_CLASS
    ]


def caches_in(link: Link, group: int) -> list[Cache]:
    """The caches that have objects of the group, size classes included."""
    found = []
    for ident in link.attachment.group_caches(group):
        with contextlib.suppress(Closed):  # released meanwhile
            found.append(cache_of(link, ident))
    return found


def format_of(attachment: Attachment, cache: int) -> Format | None:
    """The Format of a cache's objects, remembered for Blocks that arrive as handles."""
    return _remember(attachment, attachment.cache_look(cache))


def _remember(attachment: Attachment, info: _CacheInfo) -> Format | None:
    try:  # no id is given out twice, and no cache changes its format
        return attachment.formats[info["id"]]
    except KeyError:
        form = parse_format(text(info["format"]))
    if len(attachment.formats) >= 4096:  # caches come and go
        attachment.formats.clear()
    attachment.formats[info["id"]] = form
    return form


def alloc_slowly(bound: GroupCache, zero: bool, wait: float | None) -> Block:
    """What `GroupCache.alloc` does when it is told to wait, or found no memory at once."""
    parse_seconds(wait, "wait")
    return allocate(bound._attachment, _attempt_of(bound, zero), wait, bound._group_id)


async def aalloc(bound: GroupCache, zero: bool, wait: float | None) -> Block:
    """What `GroupCache.aalloc` does."""
    parse_seconds(wait, "wait")
    return await aallocate(bound._attachment, _attempt_of(bound, zero), wait, bound._group_id)


def _attempt_of(bound: GroupCache, zero: bool) -> Callable[[int], Block | int]:
    def attempt(patience: int) -> Block | int:
        got = bound._attempt(zero, patience)
        if isinstance(got, int) and got == CLOSED:
            # The child may have been released and its group and cache be alive; or it was not
            # opened yet.
            status = bound._reopen(patience)
            got = status or bound._attempt(zero, patience)
        return got

    return attempt


def alloc_many(bound: GroupCache, n: SupportsIndex) -> list[Block]:
    """What `GroupCache.alloc_many` does."""
    count = operator.index(n)
    if count < 0:
        raise ValueError(f"n must be at least 0, not {count}")
    attachment = bound._attachment
    # The size is the GroupCache's own: cache_info() would count every slab of the cache.
    size, capacity = bound._size, attachment.info()["capacity"]
    if count > capacity // size:
        raise ArenaFull(
            f"{many(count, 'object')} of {format_size(size)} {'is' if count == 1 else 'are'}"
            f" {format_size(count * size)}, more than the"
            f" capacity of arena {called(attachment.path)}, {format_size(capacity)}:"
            " ask for fewer, or open an arena with more capacity"
        )
    if count == 0:
        return []
    blocks: list[Block] = []

    def attempt(patience: int) -> list[Block] | int:
        got, status = bound._attempt_many(count - len(blocks), patience)
        if status == CLOSED:
            status = bound._reopen(patience)
            if status == 0:
                more, status = bound._attempt_many(count - len(blocks) - len(got), patience)
                got += more
        blocks.extend(got)
        return blocks if len(blocks) == count or status == 0 else status

    return allocate(attachment, attempt, None, bound._group_id)


def repr_bound(bound: GroupCache) -> str:
    """`repr` of a GroupCache, which never fails."""
    try:
        return f"<GroupCache of {bound.cache!r} for {bound.group!r}>"
    except FlagstoneError as error:
        return f"<GroupCache, {error}>"


def _infos(attachment: Attachment) -> list[_CacheInfo]:
    found = []
    for ident in attachment.cache_ids():
        try:
            found.append(attachment.cache_info(ident))
        except Closed:  # released meanwhile
            continue
    return found
