"""Store: objects found by name, in any process, without a lock on the way."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import threading
import time
from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from flagstone._core import Block, Link, StoreBase
from flagstone.attach import CREATE_NEW, OPEN_EXISTING, Locator, attach, how_to_open, locate
from flagstone.dumped import Dumped, dumped, load
from flagstone.errors import Closed, StoreMismatch
from flagstone.evicting import Evicting, own_group
from flagstone.facts import StoreInfo
from flagstone.format import form_of, order_of
from flagstone.group import Group, group_id, insist, look, open_group
from flagstone.memory import in_steps
from flagstone.names import named, object_name
from flagstone.observe import store_info, stores_of
from flagstone.opened import Opened
from flagstone.sizes import FOREVER, Size, many, parse_seconds, to_nanoseconds, until
from flagstone.states import STORE_EVICTS, STORE_OWNS
from flagstone.values import array_of
from flagstone.watch import Changes

if TYPE_CHECKING:
    import asyncio

    from flagstone._core import Format

__all__ = ["Store", "StoreInfo", "stores_of"]

Key = str | bytes
_Mine: TypeAlias = tuple[int, "Store", bool, Key, "asyncio.Task[Any] | None"]


_BLOCK: Final = 0
_OBJECT: Final = 2
_ANY: Final = FOREVER
_BYTE: Final = np.dtype(np.uint8)
_SLICE: Final = 1.0
_making = threading.local()
"""`here` is a list of what this thread is making, in any store, and for which of its tasks."""


class _Version(int):
    """What `store.version` is: the store's version, and, called with a key, that key's."""

    _store: Store

    def __call__(self, key: Key) -> int:
        """The version of a key's value.

        Raises:
            KeyError: there is no such key.
        """
        found = self._store._version(key)
        if not found:
            raise KeyError(key)
        return found


class Store(Opened, Evicting, StoreBase, MutableMapping[Key, Any]):
    """A mapping from `str` or `bytes` to what was put, for every process of the arena.

    Made by `Arena.store()`, or by unpickling. A store holds its values: they live until they are
    replaced, deleted or evicted, or the store, its group or its arena ends. No death of a process
    ends it but that of the last one that has its group open, or a store in it, if the group is not
    lasting. Looking a key up takes no lock and waits for nobody; it gives the old value or the new
    one, and whoever has a value keeps its bytes. `"a"` and `b"a"` are two keys. A pickle holds
    nothing, and may be loaded any number of times. Safe to use from any thread and, after a fork,
    in the child.
    """

    __slots__ = ("__weakref__", "_hand", "_name", "_seen", "_watch")

    _hand: int  # where popitem() goes on
    _name: str
    _seen: int
    _watch: Changes | None

    # ---- what is in a value

    def _packed(self, value: Any) -> tuple[Block, int]:
        """An object for this value, and what kind it is."""
        if (done := self._copy_of(value)) is not None:
            return done, _BLOCK
        if type(value) is Block and value._parts[0] is self._attachment():
            return value, _BLOCK
        try:
            source = value if type(value) is np.ndarray else array_of(value)
        except TypeError:
            return self._pickled(value).place(self._alloc), _OBJECT
        block = self._alloc(*_room_for(source))
        block.array[...] = source
        return block, _BLOCK

    async def _apacked(self, value: Any) -> tuple[Block, int]:
        """`_packed` for a coroutine: the loop goes on while it waits for memory."""
        if type(value) is Block and value._parts[0] is self._attachment():
            return value, _BLOCK
        try:
            source = value if type(value) is np.ndarray else array_of(value)
        except TypeError:
            return await self._pickled(value).aplace(self._aalloc), _OBJECT
        block = await self._aalloc(*_room_for(source))
        block.array[...] = source
        return block, _BLOCK

    def _pickled(self, value: Any) -> Dumped:
        what = dumped(value)
        if what.tickets is None:
            return what
        what.discard()
        raise TypeError(
            f"{named('store', self._name, self._attachment().path)} cannot hold a Block, group,"
            " channel or topic inside another object: its pickle is good for one load. Put a Block"
            " under a key of its own, or its .array into the object, or its weak() while you keep"
            " the Block"
        )

    def _value(self, found: tuple[Block, int, int]) -> Any:
        block, kind, _ = found
        return load(block, None) if kind == _OBJECT else block.array

    # ---- the mapping

    def __getitem__(self, key: Key) -> Any:
        found = self._get(key)
        if found is None:
            raise KeyError(key)
        return self._value(found)

    def get(self, key: Key, default: Any = None) -> Any:
        """What was put under a key, as `store[key]` gives it: an array that looks at the object's
        bytes, or the object, loaded; `default` where there is no such key.

        Raises:
            TypeError: the key is neither `str` nor `bytes`.
            Closed: the store was destroyed, or left here.
            Exception: whatever loading the object raises.
        """
        found = self._get(key)
        return default if found is None else self._value(found)

    def __setitem__(self, key: Key, value: Any) -> None:
        self.put(key, value)

    def put(self, key: Key, value: Any, *, ttl: float | None = None) -> int:
        """Put a value under a key, in the place of what was there.

        Args:
            key: at most 255 bytes, `str` ones as UTF-8.
            value: an array or buffer, which is copied; a Block of this arena, which the store then
                holds as it is (one that `Arena.put` made is copied); or any object that can be
                pickled, with its large buffers beside the pickle, so that they are not copied
                when it is looked up.
            ttl: seconds after which the key is gone; None is never.

        Returns:
            The key's version.

        Raises:
            ValueError, TypeError: the key is too long, or neither `str` nor `bytes`.
            TypeError: a Block is inside the object: its pickle would be good for one load.
            ArenaFull, GroupLimitExceeded: no room for it, and nothing to evict.
            Closed: the store was destroyed, or left here.
            ReadOnly: attached with `readonly=True`.
        """
        version = self._put_if(key, value, _ANY, ttl)
        assert version is not None  # whatever was there
        return version

    def _put_if(self, key: Key, value: Any, if_version: int, ttl: float | None) -> int | None:
        block, kind = self._packed(value)
        return self._put(key, block, kind, _ttl(ttl), if_version)

    def replace(
        self, key: Key, value: Any, *, if_version: int | None = None, ttl: float | None = None
    ) -> int | None:
        """Put another value under a key that is there.

        Args:
            key, value, ttl: as `put`.
            if_version: only if the key's value still has this version; 0 is no value.

        Returns:
            The new version; None if the key had another version than `if_version`.

        Raises:
            KeyError: there is no such key, and no `if_version`.
            ValueError, TypeError: `if_version` is no version.
            Others: as `put`.
        """
        if if_version is not None:
            return self._put_if(key, value, _checked(if_version), ttl)
        block, kind = self._packed(value)
        while version := self._version(key):
            done = self._put(key, block, kind, _ttl(ttl), version)
            if done is not None:
                return done
        raise KeyError(key)

    def __delitem__(self, key: Key) -> None:
        if not self._remove(key, _ANY):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Key]:
        """The keys, as they were when this was called."""
        return iter([key for key, _, _ in self._list()])

    def items(self) -> ItemsView[Key, Any]:
        """Keys and values; those that go meanwhile are left out."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """The values; those that go meanwhile are left out."""
        return _Values(self)

    def pop(self, key: Key, *default: Any) -> Any:
        """Remove a key, and return what it had.

        Args:
            key: as in `get`.
            default: one value at most, returned where there is no such key.

        Raises:
            KeyError: there is no such key, and no default.
            ReadOnly, Closed: as `put`.
        """
        if len(default) > 1:
            raise TypeError("pop() takes a key and one default")
        while (found := self._get(key)) is not None:
            if self._remove(key, found[2]):
                return self._value(found)
        if default:
            return default[0]
        raise KeyError(key)

    def popitem(self) -> tuple[Key, Any]:
        """Remove some key, and return it with what it had; `KeyError` if there is none."""
        while (at := self._key_from(self._hand)) is not None:
            key, self._hand = at
            found = self._get(key)
            if found is not None and self._remove(key, found[2]):
                return key, self._value(found)
        raise KeyError("the store is empty")

    def setdefault(self, key: Key, default: Any = None) -> Any:
        """What the key has; if nothing, put `default` there first. Errors as `put`."""
        while (found := self._get(key)) is None:
            self._put_if(key, default, 0, None)
        return self._value(found)

    def clear(self) -> None:
        """Remove every key that is there now. Errors as `put`."""
        for key in self:
            self._remove(key, _ANY)

    # ---- making

    def get_or_put(
        self,
        key: Key,
        make: Callable[[], Any],
        *,
        wait: float | None = None,
        ttl: float | None = None,
    ) -> Any:
        """What the key has; if nothing, one process makes it, and the others wait for it.

        Args:
            key: as `put`.
            make: called without arguments in the one process; if that is killed, or `make` raises,
                another one takes over. It must not ask for the same key.
            wait: seconds to wait for another process; None is for ever, as is `math.inf`.
            ttl: as `put`.

        Raises:
            TimeoutError: another process, or another thread, was still making it.
            RuntimeError: `make` itself asks for it, which would wait for itself.
            Others: what `make` raises, and as `put`.
        """
        ends = until(wait, "wait")
        while (found := self._get(key)) is None:
            version = self._changes()
            claim = self._claim(key)
            if claim is None:
                if self._version(key):
                    continue
                # For any task of this thread: none of them goes on while this one waits.
                if any(one[:-1] == self._mine(key)[:-1] for one in self._made_here()):
                    raise _asks_for_itself(key)
                if not self._wait_for(version, ends):
                    raise TimeoutError(self._still_made(key))
                continue
            here, mine = self._made_here(), self._mine(key)
            here.append(mine)
            try:
                block, kind = self._packed(make())
                self._publish(claim, block, kind, _ttl(ttl))
            finally:
                here.remove(mine)
                claim.give_up()
        return self._value(found)

    async def aget_or_put(
        self,
        key: Key,
        make: Callable[[], Any],
        *,
        wait: float | None = None,
        ttl: float | None = None,
    ) -> Any:
        """`get_or_put()` for a coroutine: the event loop goes on while another process makes the
        value, or has a lock that is needed. Cancelling it, also while `make` is awaited, puts
        nothing and leaves the key to others; what was put before that stays.

        Args:
            key, ttl: as in `get_or_put`.
            make: a function, or a coroutine function, whose result is awaited. A plain one runs in
                the loop's thread, and holds the loop up; what takes long is
                `lambda: asyncio.to_thread(make)`. It must not ask for the same key.
            wait: seconds to wait while another process, or another coroutine of this one, makes
                it; None is for ever, as is `math.inf`.

        Raises:
            TimeoutError: another one was still making it.
            RuntimeError: `make` itself asks for it, which would wait for itself. (Another task or
                thread that `make` starts and waits for is not found out.)
            Others: what `make` raises, and as `put`.
        """
        import asyncio  # for who awaits; a program without it imports none

        ends = until(wait, "wait")
        attachment = self._attachment()
        mine = self._mine(key, asyncio.current_task())
        while (found := self._get(key)) is None:
            version = self._changes()
            claim = await in_steps(attachment, functools.partial(self._claim, key))
            if claim is None:
                if self._version(key):
                    continue
                if mine in self._made_here():
                    raise _asks_for_itself(key)
                if not await self._await_change(version, ends):
                    raise TimeoutError(self._still_made(key))
                continue
            here = self._made_here()
            here.append(mine)
            try:
                value = make()
                if hasattr(value, "__await__"):
                    value = await value
                block, kind = await self._apacked(value)
                publish = functools.partial(self._publish, claim, block, kind, _ttl(ttl))
                await in_steps(attachment, publish)
            finally:
                here.remove(mine)
                # Also where a helper thread is about to publish: the core does one or the other.
                claim.give_up()
        return self._value(found)

    def _made_here(self) -> list[_Mine]:
        here: list[_Mine] | None = getattr(_making, "here", None)
        if here is None:
            here = _making.here = []
        return here

    def _mine(self, key: Key, task: asyncio.Task[Any] | None = None) -> _Mine:
        # With the pid, because a child that was forked by make() makes nothing itself.
        return os.getpid(), self, isinstance(key, bytes), key, task

    def _still_made(self, key: Key) -> str:
        where = named("store", self._name, self._attachment().path)
        return (
            f"another process, or another thread of this one, was still making {key!r} of {where}"
        )

    # ---- versions

    @property
    def version(self) -> _Version:
        """Counts the store's changes: as an `int`, to poll. `store.version(key)` is the version of
        a key's value: another one after each change of it.
        """
        version = _Version(self._changes())
        version._store = self
        return version

    def _wait_for(self, version: int, ends: float | None) -> bool:
        while True:
            left = _SLICE if ends is None else ends - time.monotonic()
            if left <= 0:
                return False
            if self._sleep(version, to_nanoseconds(min(left, _SLICE))):
                return True
            if ends is None or left > _SLICE:
                return True  # look again: who makes it may have died

    async def _await_change(self, version: int, ends: float | None) -> bool:
        """`_wait_for` for a coroutine."""
        if self._watch is None:
            self._watch = Changes(self)
        soon = time.monotonic() + _SLICE
        if ends is not None and ends <= soon:
            return await self._watch.ready(ends, version)
        await self._watch.ready(soon, version)
        return True  # look again: who makes it may have died

    def wait(self, key: Key, timeout: float | None = None) -> bool:
        """Wait until there is such a key.

        Args:
            key: as in `get`.
            timeout: seconds; None is for ever.

        Returns:
            Whether there is; if not, the time was over.

        Raises:
            ValueError, TypeError: no such key or time.
            Closed: the store was destroyed, or left here.
        """
        ends = until(timeout, "timeout")
        self._check_key(key)
        while True:
            version = self._changes()
            if self._version(key):
                return True
            if not self._wait_for(version, ends):
                return False

    async def await_key(self, key: Key, timeout: float | None = None) -> bool:
        """`wait()` for a coroutine, with its arguments, result and errors."""
        ends = until(timeout, "timeout")
        self._check_key(key)
        while True:
            version = self._changes()
            if self._version(key):
                return True
            if not await self._await_change(version, ends):
                return False

    def changes(self, timeout: float | None = None) -> int:
        """Wait until the store has changed since this object was asked last (or made).

        Args:
            timeout: seconds; None is for ever.

        Returns:
            By how much its version has grown; 0 if it has not in time.

        Raises:
            ValueError, TypeError: no such time.
            Closed: the store was destroyed, or left here.
        """
        ends = until(timeout, "timeout")
        while (now := self._changes()) == self._seen:
            if not self._wait_for(now, ends):
                return 0
        since, self._seen = self._seen, now
        return now - since

    async def achanges(self, timeout: float | None = None) -> int:
        """`changes()` for a coroutine, with its arguments, result and errors. Cancelling it counts
        nothing as seen. Of several who wait at this object, one is told of a change.
        """
        ends = until(timeout, "timeout")
        while (now := self._changes()) == self._seen:
            if not await self._await_change(now, ends):
                return 0
        since, self._seen = self._seen, now
        return now - since

    # ---- what it is

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._name

    @property
    def group(self) -> Group:
        """What its values are charged to."""
        return look(self._link_of(), self._group_id)

    @property
    def evict(self) -> str | None:
        """Whether it makes room by itself: "lru", or None."""
        return "lru" if self._evicts else None

    @property
    def info(self) -> StoreInfo:
        """A `StoreInfo` of how it is now. Looks at every key."""
        return store_info(self._attachment(), self._info())

    def destroy(self) -> None:
        """End the store now, for everybody: its name is free, and what only it held is released.
        Again is fine.

        Raises:
            Closed: it was left here.
            ReadOnly: attached with `readonly=True`.
        """
        group = self.group
        super().destroy()
        with contextlib.suppress(Closed):  # it has ended, and the store with it
            if group.name == own_group(self._name):
                group.destroy()

    def leave(self) -> None:
        """Let go of the store here; it goes on. Again is fine."""
        super().leave()
        if self._watch is not None:
            self._watch.stop()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_store, (locate(self._attachment()), self._name)

    def __repr__(self) -> str:
        try:
            return f"<Store {self._name!r}, {many(len(self), 'key')}>"
        except Closed:
            return f"<Store {self._name!r}, left>"


class _Items(ItemsView[Key, Any]):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        for key in self._store:
            found = self._store._get(key)
            if found is not None:
                yield key, self._store._value(found)


class _Values(ValuesView[Any]):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[Any]:
        for _, value in _Items(self._store):
            yield value


def _asks_for_itself(key: Key) -> RuntimeError:
    return RuntimeError(f"make() of {key!r} asks for {key!r}, and would wait for itself")


def _checked(version: int) -> int:
    number = operator.index(version)
    if not 0 <= number < _ANY:
        raise ValueError(f"if_version is a version or 0, not {version!r}")
    return number


def _room_for(source: np.ndarray[Any, Any]) -> tuple[int, Format | None]:
    """The bytes, and the Format, of an array's object."""
    if source.ndim == 1 and source.dtype is _BYTE:  # as of a Block without a cache
        return source.size, None
    form = form_of(source.dtype, source.shape, order_of(source, "K"))
    return form.nbytes, form


def _ttl(ttl: float | None) -> int:
    if ttl is None:
        return 0
    return max(1, to_nanoseconds(parse_seconds(ttl, "ttl")))


def open_store(
    link: Link,
    name: str,
    limit: Size | None,
    evict: str | None,
    group: Group | None,
    create: bool | None,
) -> Store:
    """What `Arena.store` does."""
    if evict not in (None, "lru"):
        raise ValueError(f'evict must be None or "lru", not {evict!r}')
    raw = object_name(name, "store")
    how = how_to_open(create)
    flags = (STORE_EVICTS if evict else 0) | (STORE_OWNS if limit is not None else 0)
    own = None if limit is None else _own_group(link, name, raw, limit, group, how)
    home = group_id(link, link.attachment, own or group)
    store = _opened(link, name, raw, flags, home, how)
    _insist(store, limit, evict, group)
    return store


def _own_group(
    link: Link, name: str, raw: bytes, limit: Size, group: Group | None, how: int
) -> Group | None:
    """The group of a store with a limit; None: the store is there without one, or is not to be
    made.
    """
    parent = group
    try:
        there = _opened(link, name, raw, 0, group_id(link, link.attachment, None), OPEN_EXISTING)
    except FileNotFoundError:
        if how == OPEN_EXISTING:
            return None
    else:
        with there:
            if how == CREATE_NEW or there.group.name != own_group(name):
                return None
            parent = there.group.parent
    return open_group(link, own_group(name), parent, limit, True, None, how_to_open(None), None)


def _insist(store: Store, limit: Size | None, evict: str | None, group: Group | None) -> None:
    """Leave the store and raise, if it is there already and not what was asked for. None asks for
    what there is.
    """
    if limit is None and evict is None and group is None:
        return
    home = store.group
    owns = home.name == own_group(store.name)
    why = None
    if evict is not None and not store._evicts:
        why = "evicts nothing: open it without evict="
    elif limit is not None and not owns:
        why = "has no limit of its own: open it without limit="
    if why is not None:
        what = named("store", store.name, store._attachment().path)
        store.leave()
        raise StoreMismatch(f"{what} {why}, or take another name")
    if group is not None and group._id == home._id:
        return  # as `Store.group` says
    above = home.parent if owns else home
    insist(store, "store", store.name, group, (above or home)._id, StoreMismatch)


def _opened(link: Link, name: str, raw: bytes, flags: int, group: int, create: int) -> Store:
    store = Store.__new__(Store)
    store._name = name
    store._watch = None
    store._hand = 0
    store._open(link, raw, flags, group, create)
    store._seen = store._changes()
    return store


def _load_store(locator: Locator, name: str) -> Store:
    """Unpickle: opens what is there."""
    link = Link(attach(locator))
    raw = object_name(name, "store")
    return _opened(link, name, raw, 0, group_id(link, link.attachment, None), how_to_open(False))
