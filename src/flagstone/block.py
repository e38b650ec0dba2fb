"""Block and Handle: what is policy about them. The classes themselves are in the binding, for
speed.
"""

from __future__ import annotations

import contextlib
import copyreg
import functools
import html
from typing import Any

import numpy as np

from flagstone import _core, hashes
from flagstone._core import Attachment, Block, Format, GroupCache, Handle, Link
from flagstone.arriving import carried
from flagstone.attach import Locator, attach, closed, locate
from flagstone.cache import (
    Cache,
    CacheParts,
    aalloc,
    alloc_many,
    alloc_slowly,
    cache_of,
    format_of,
    load_cache,
    parts_of,
    repr_bound,
)
from flagstone.dumped import dumped
from flagstone.dumped import load as load_dumped
from flagstone.errors import Closed, FlagstoneError
from flagstone.facts import Holder
from flagstone.format import dtype_text, form_of, format_text, order_of, parse_format, sealed_form
from flagstone.group import Group, load_group, look
from flagstone.memory import aallocate, allocate, once_more
from flagstone.names import arena_name, called, named, shown, text
from flagstone.notices import tell_of_lock, tell_of_waiting
from flagstone.part import item, make_part
from flagstone.sizes import format_size, parse_seconds
from flagstone.states import CACHE_SIZE_CLASS
from flagstone.tables import Encoded, encode, is_table, table_of
from flagstone.values import array_of
from flagstone.weak import make_weak

__all__ = ["Block", "Handle"]


def alloc_bytes(
    attachment: Attachment,
    nbytes: int,
    form: Format | None,
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> Block:
    """An object of a size class, with these bytes, or those of the Format. Closing the link ends
    the wait.
    """
    if wait is None:
        got = attachment.alloc_bytes(group, nbytes, form)
        if isinstance(got, Block):
            return got
    attempt = functools.partial(attachment.alloc_bytes, group, nbytes, form)
    return allocate(attachment, attempt, wait, group, link)


async def aalloc_bytes(
    attachment: Attachment,
    nbytes: int,
    form: Format | None,
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> Block:
    """`alloc_bytes` for a coroutine."""
    attempt = functools.partial(attachment.alloc_bytes, group, nbytes, form)
    return await aallocate(attachment, attempt, wait, group, link)


def put(
    attachment: Attachment,
    value: Any,
    order: str,
    strings: str | None,
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> Block:
    """An object of a size class with a copy of an array's or buffer's content, dtype, shape and
    order; or with a table.
    """
    nbytes, form, source = _source_of(value, order, strings)
    return _filled(alloc_bytes(attachment, nbytes, form, wait, group, link), source)


async def aput(
    attachment: Attachment,
    value: Any,
    order: str,
    strings: str | None,
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> Block:
    """`put` for a coroutine: it waits for memory, and then copies in one go."""
    nbytes, form, source = _source_of(value, order, strings)
    return _filled(await aalloc_bytes(attachment, nbytes, form, wait, group, link), source)


def _source_of(value: Any, order: str, strings: str | None) -> tuple[int, Format | None, Any]:
    """What a value is copied from, and the bytes and the Format of what it is copied to."""
    if strings is not None or (type(value) is not np.ndarray and is_table(value)):
        table = encode(value, strings)
        return table.nbytes, sealed_form(table.nbytes), table
    source = array_of(value)
    form = form_of(source.dtype, source.shape, order_of(source, order))
    return form.nbytes, form, source


def _filled(block: Block, source: Any) -> Block:
    if isinstance(source, Encoded):
        block._fill(source)
    else:
        block.array[...] = source
    return block


def dump(
    attachment: Attachment, value: Any, wait: float | None, group: int, link: Link | None = None
) -> Block:
    """An object of a size class with the pickle of a value, and its buffers."""
    return dumped(value).place(lambda n: alloc_bytes(attachment, n, None, wait, group, link))


async def adump(
    attachment: Attachment, value: Any, wait: float | None, group: int, link: Link | None = None
) -> Block:
    """`dump` for a coroutine."""
    pickled = dumped(value)
    return await pickled.aplace(lambda n: aalloc_bytes(attachment, n, None, wait, group, link))


def _reduce(block: Block) -> tuple[Any, ...]:
    """The pickle of a Block whose arena is anonymous."""
    attachment, _ = block._parts
    locator = locate(attachment)
    message = block._share()
    return _load, (attachment.ticket(message), locator, message)


def _load(
    ticket: None = None,
    locator: Locator | None = None,
    message: bytes = b"",
) -> Block | None:
    """Unpickle a Block: attach, and take the reference that is in flight.

    The ticket is for the pickler (binding/ticket.h). In the pickle it is a call of this function
    without arguments, which returns None. It is the first argument, so that the pickler comes to it
    before anything that may fail.
    """
    if locator is None:
        return None
    return attach(locator).take(message)


def _reduce_bound(bound: GroupCache) -> tuple[Any, ...]:
    # What may fail is done before there is a message in flight.
    attachment = bound._attachment
    parts = parts_of(bound.cache)
    if bound._group_id == attachment.root_group:
        return _load_bound, (None, parts)
    locator = locate(attachment)
    message = attachment.group_share(bound._group_id)
    return _load_bound, (attachment.ticket(message), parts, locator, message)


def _load_bound(
    ticket: None,
    parts: CacheParts,
    locator: Locator | None = None,
    message: bytes | None = None,
) -> GroupCache:
    # The message is taken first, because it has to be, whatever has become of the cache.
    group = None if locator is None or message is None else load_group(None, locator, message)
    return load_cache(*parts).bind(group)


def _deepcopy(block: Block) -> Block:
    attachment, form = block._parts
    cache, group = block._owner()
    if attachment.cache_look(cache)["flags"] & CACHE_SIZE_CLASS:
        copy = alloc_bytes(attachment, block.nbytes, form, None, group)
    else:
        bound = GroupCache(Link(attachment), None, form, block.nbytes, cache, group)
        copy = bound.alloc()
    copy._copy_from(block)
    return copy


def _holders(attachment: Attachment, slots: list[int]) -> list[Holder]:
    processes = {one["slot"]: one for one in _core.processes(attachment)}
    return [
        Holder(processes[slot]["pid"], text(processes[slot]["command"]))
        for slot in slots
        if slot in processes
    ]


def _repr(block: Block, attachment: Attachment, form: Format | None) -> str:
    what = "" if form is None else f", {dtype_text(form.dtype)} {form.shape}"
    where = arena_name(attachment.path) or "anonymous"
    try:
        cache, group = block._owner()
        info = attachment.cache_look(cache)
        group_name = text(attachment.group_info(group)["name"])
    except FlagstoneError as error:
        return f"<Block of arena {where!r}, {error}>"
    kind = "" if info["flags"] & CACHE_SIZE_CLASS else f" of cache {text(info['name'])!r}"
    owner = "" if group == attachment.root_group else f", group {group_name or group!r}"
    return f"<Block{kind} in arena {where!r}{owner}, {format_size(block.nbytes)}{what}>"


def _owner_text(attachment: Attachment, cache: int, group: int) -> str:
    """Cache and group by name, as far as they have names and are there."""
    parts = []
    with contextlib.suppress(FlagstoneError):
        info = attachment.cache_look(cache)
        if not info["flags"] & CACHE_SIZE_CLASS:
            parts.append(f" of cache {text(info['name'])!r}")
    with contextlib.suppress(FlagstoneError):
        name = text(attachment.group_info(group)["name"])
        if group != attachment.root_group and name:
            parts.append(f" in group {name!r}")
    return ",".join(parts)


def _freed(
    attachment: Attachment | None, form: Format | None, nbytes: int, cache: int, group: int
) -> Closed:
    """What a Block raises after `free()`, and after a channel's `put()`."""
    if attachment is None:
        return Closed("this Block was never filled: Blocks are made by an arena or a cache")
    what = format_size(nbytes) if form is None else f"{form.dtype} {form.shape}"
    owner = _owner_text(attachment, cache, group)
    return Closed(
        f"this Block ({what}{owner}, arena {shown(called(attachment.path))}) was freed, or moved:"
        " free() ends the object for everyone, put() of a channel takes it from here unless"
        " keep=True; arrays that were made before keep its bytes"
    )


def _named(path: str | None, kind: str, name: str | None) -> str:
    return named(kind.lower(), name, path)


def _left(path: str | None, kind: str, name: str | None, subscription: bool = False) -> Closed:
    """What a channel, topic, lock or store raises after `leave()`, and a subscription after
    `close()`.
    """
    what = _named(path, kind, name)
    if subscription:
        return Closed(f"this subscription to {what} was closed: subscribe() again")
    return Closed(
        f"{what} is closed here: leave() or Arena.close() was called; open it again to go on"
    )


def _repr_html(block: Block, attachment: Attachment, form: Format | None) -> str:
    """What a notebook shows: the facts, and NumPy's short text of the content."""
    rows = [
        ("shape", str(block.shape)),
        ("dtype", str(block.dtype)),
        ("size", format_size(block.nbytes)),
        ("arena", arena_name(attachment.path) or "anonymous"),
    ]
    try:
        cache, group = block._owner()
        info = attachment.cache_look(cache)
        if not info["flags"] & CACHE_SIZE_CLASS:
            rows.append(("cache", text(info["name"])))
        if group != attachment.root_group:
            rows.append(("group", text(attachment.group_info(group)["name"]) or f"{group!r}"))
    except FlagstoneError as error:
        rows.append(("state", str(error)))
    with np.printoptions(threshold=100, edgeitems=2):
        content = str(block.array)
    facts = "".join(
        f'<tr><th style="text-align: left">{name}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<p>Block</p><table>{facts}</table><pre>{html.escape(content)}</pre>"


class Hooks:
    """What the binding leaves to Python: it calls these by name."""

    @staticmethod
    def alloc(bound: GroupCache, zero: bool, wait: float | None) -> Block:
        """An allocation that found no memory at once, or may wait."""
        return alloc_slowly(bound, zero, wait)

    @staticmethod
    def cache_of(attachment: Attachment, cache: int) -> Cache:
        """`Block.cache`."""
        return cache_of(Link(attachment), cache)

    @staticmethod
    def group_of(attachment: Attachment, group: int) -> Group:
        """`Block.group`."""
        return look(Link(attachment), group)

    aalloc = staticmethod(aalloc)
    alloc_many = staticmethod(alloc_many)
    carried = staticmethod(carried)
    closed = staticmethod(closed)
    deepcopy = staticmethod(_deepcopy)
    form_of = staticmethod(form_of)
    format_of = staticmethod(format_of)
    format_text = staticmethod(format_text)
    freed = staticmethod(_freed)
    group_type = Group
    held = staticmethod(tell_of_lock)
    holders_of = staticmethod(_holders)
    item = staticmethod(item)
    left = staticmethod(_left)
    load = staticmethod(_load)
    load_dumped = staticmethod(load_dumped)
    named = staticmethod(_named)
    once_more = staticmethod(once_more)
    parse_format = staticmethod(parse_format)
    parse_seconds = staticmethod(parse_seconds)
    part = staticmethod(make_part)
    reduce = staticmethod(_reduce)
    reduce_bound = staticmethod(_reduce_bound)
    repr_bound = staticmethod(repr_bound)
    repr_of = staticmethod(_repr)
    html_of = staticmethod(_repr_html)
    table_of = staticmethod(table_of)
    waiting = staticmethod(tell_of_waiting)
    weak = staticmethod(make_weak)


_core.install(Hooks)
copyreg.pickle(Block, _core.reduce_block)  # found sooner than __reduce__
hashes.install()
copyreg.pickle(_core.Ticket, _core.reduce_ticket)
