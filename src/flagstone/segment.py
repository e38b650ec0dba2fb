"""Segments: memory that programs find by name, for `flagstone.shared_memory`.

All segments of a user lie in one arena. A store of it, *names*, says which object a name stands for
by a handle, which holds nothing. What holds the object is

 - each process that has the segment open: its references, as of any Block;
 - the *home* of the process that made it: a store in a group that this process keeps open. When
   it is killed, a batch closes the group, and with it ends the store and what it alone held;
 - after an orderly end of that process, the home of its family: of the first process of the
   program, which all processes that `multiprocessing` starts keep open, too. So a worker may make a
   segment, send its name, and end; the same holds for one that is ended by `terminate()`, as a
   pool's are.

A killed maker's name stays where it is until somebody looks for it, or looks through them all.

What is to outlive every process (`track=False`) lies in a lasting arena of its own, held by its
store alone, and the file goes with the last of them.

Whoever is killed between two steps of `create` leaves an object in its home, which ends, or a name
whose object is gone; in `remove`, an object without a name, which ends with its home.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flagstone import _core
from flagstone._core import Block, Handle
from flagstone.arena import Arena
from flagstone.arena import open as open_arena
from flagstone.arena import unlink as unlink_arena
from flagstone.block import alloc_bytes
from flagstone.errors import ArenaFull, Closed, FlagstoneError, StaleHandle
from flagstone.names import arena_path
from flagstone.sizes import FOREVER, exact_size, parse_size

if TYPE_CHECKING:
    from flagstone.group import Group
    from flagstone.store import Store

__all__ = ["Segment", "SegmentFull", "adopt", "create", "find", "remove", "remove_named"]

ARENA: Final = "FLAGSTONE_SHARED_MEMORY"
CAPACITY: Final = "FLAGSTONE_SHARED_MEMORY_CAPACITY"

_NAMES: Final = "names"
_ANY: Final = FOREVER
_ABSENT: Final = 0
_RECORD: Final = struct.Struct("=16s32sIiQ")
_LEAST: Final = 64 << 20
_MOST: Final = 16 << 40
_BATCH: Final = 5.0
"""Seconds for which a look waits for the burial of a maker that is dead."""
_LOOK_EVERY: Final = 256
"""How many segments are made before the names are looked through for those of the dead."""


class SegmentFull(OSError, ArenaFull):
    """No room for a segment: what `SharedMemory(create=True)` raises.

    An `ArenaFull`, which says who holds the memory, and an `OSError` with `errno.ENOSPC`, which is
    what programs catch that were written for the standard library's.
    """

    __module__ = "flagstone.shared_memory"


class _Owner(NamedTuple):
    """A process as the arena knows it; no other one is ever the same."""

    slot: int
    pid: int
    started: int


class _Home(NamedTuple):
    """What holds the segments that a process made."""

    name: str
    owner: _Owner
    store: Store
    group: Group


class Segment(NamedTuple):
    """An open segment."""

    block: Block
    handle: bytes
    lasting: bool


class _Place:
    """Where this process makes and finds segments: an arena, the store of names, and the homes.

    There is one for each process: a forked child begins a home of its own, and keeps its family's.
    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.path = self.lasting = ""
        self.arena: Arena | None = None
        self.names: Store | None = None
        self.own: _Home | None = None
        self.family: _Home | None = None
        self.joins: tuple[str, str, _Owner] | None = None  # the family that is to be joined
        self.homes: dict[str, Store] = {}
        self.made = 0
        self.ending = False
        self.dormant = False  # as if nobody had imported this module

    # ---- the arena

    def open(self) -> Arena:
        arena = self.arena
        if arena is not None and not arena.closed:
            return arena
        with self.lock:
            if self.arena is None or self.arena.closed:
                self._open()
            assert self.arena is not None
            return self.arena

    def _open(self) -> None:
        self.dormant = False
        self.own = self.family = None
        self.homes = {}
        self.path = arena_path(place())
        self.lasting = _lasting_path(self.path)
        arena = _opened(self.path, lasting=False)
        names = arena.store(_NAMES)
        self.arena, self.names = arena, names
        if self.joins is not None:
            self._join(*self.joins)
        self.look_through()

    def join(self, path: str, name: str, owner: _Owner) -> None:
        with self.lock:
            if self.family is not None and self.family.name == name:
                return
            self.joins = path, name, owner
            if self.arena is None or self.arena.closed:
                self.open()
            else:  # the main module was imported before, and has made something
                self._join(*self.joins)

    def _join(self, path: str, name: str, owner: _Owner) -> None:
        assert self.arena is not None
        if path != self.path:
            return
        with contextlib.suppress(FlagstoneError, OSError):  # its family has ended
            group = self.arena.group(name, create=False)
            self.family = _Home(name, owner, self.arena.store(name, create=False), group)
            if self.own is not None:
                self.hand_over_at_exit()

    def home(self) -> _Home:
        """This process's own."""
        self.open()
        own = self.own
        if own is not None:
            return own
        with self.lock:
            if self.own is None:
                self.own = self._new_home()
                if self.family is None:
                    self.family = self.own
                else:
                    self.hand_over_at_exit()
            return self.own

    def kin(self) -> _Home:
        """The family's, made if this is the first process of it."""
        self.open()
        with self.lock:
            if self.family is None:
                self.family = self.own = self._new_home()
            return self.family

    def _new_home(self) -> _Home:
        arena = self.open()
        name = f"segments-{os.urandom(8).hex()}"
        group = arena.group(name)
        store = arena.store(name, group=group)
        owner = next(_owner(one) for one in _core.processes(arena._link.attachment) if one["self"])
        self.homes[name] = store
        return _Home(name, owner, store, group)

    def home_of(self, name: str) -> Store | None:
        """Another process's home, if it is there."""
        store = self.homes.get(name)
        if store is None:
            with contextlib.suppress(FlagstoneError, OSError):
                store = self.open().store(name, create=False)
                if len(self.homes) > 64:
                    self.homes.clear()
                self.homes[name] = store
        return store

    # ---- names

    def keys(self) -> list[bytes]:
        """All of them, as they are now."""
        return [key for key in self.names or () if isinstance(key, bytes)]

    def record(self, key: bytes) -> tuple[bytes, str, _Owner, int] | None:
        """What a name stands for: handle, home, maker, and the version of all that."""
        if self.names is None:
            self.open()
            assert self.names is not None
        found = self.names._get(key)
        if found is None:
            return None
        handle, home, slot, pid, started = _RECORD.unpack_from(found[0])
        return handle, home.rstrip(b"\0").decode(), _Owner(slot, pid, started), found[2]

    def write(self, key: bytes, handle: bytes, home: _Home, version: int) -> bool:
        """Let a name stand for an object, unless it has another version."""
        arena = self.open()
        assert self.names is not None
        attachment = arena._link.attachment
        block = alloc_bytes(attachment, _RECORD.size, None, None, attachment.root_group)
        _RECORD.pack_into(block, 0, handle, home.name.encode(), *home.owner)
        return self.names._put(key, block, 0, 0, version) is not None

    def look(self, key: bytes) -> tuple[Block, bytes] | None:
        """The object of a name; None if there is none, or only the dead have it."""
        while (found := self.record(key)) is not None:
            handle, _, owner, version = found
            arena = self.open()
            if not self._lives(arena, owner):
                _bury(arena)
            try:
                return arena._link.attachment.resolve(Handle(handle)), handle
            except StaleHandle:
                assert self.names is not None
                self.names._remove(key, version)
        return None

    def _lives(self, arena: Arena, owner: _Owner) -> bool:
        if self.own is not None and self.own.owner == owner:
            return True
        return any(
            one["slot"] == owner.slot and one["alive"] and _owner(one) == owner
            for one in _core.processes(arena._link.attachment)
        )

    def look_through(self) -> None:
        """Remove the names whose objects are gone."""
        assert self.names is not None
        assert self.arena is not None
        attachment = self.arena._link.attachment
        for key in self.keys():
            found = self.record(key)
            if found is None:
                continue
            try:
                attachment.resolve(Handle(found[0]))
            except StaleHandle:
                self.names._remove(key, found[3])

    # ---- the end of a process

    def hand_over_at_exit(self) -> None:
        from multiprocessing import util

        self._at_exit()
        # A process that was forked forgets its finalizers once it begins, which may be after this.
        util.register_after_fork(self, _Place._at_exit)

    def _at_exit(self) -> None:
        if self.own is not None and self.own is not self.family:
            from multiprocessing import util

            util.Finalize(None, self.hand_over, exitpriority=-100)  # after its children have ended

    def hand_over(self) -> None:
        """Let the family hold what this process has made: it ends in order. Never raises."""
        with self.lock:
            own, family = self.own, self.family
            if own is None or family is None or own is family or self.ending:
                return
            self.ending = True
            with contextlib.suppress(FlagstoneError, OSError, MemoryError):
                self._move(own.name, own.store, family)

    def adopt(self, pid: int) -> None:
        """Let the family hold what another process has made, which is about to be ended."""
        if self.arena is None or self.arena.closed:
            return
        with contextlib.suppress(FlagstoneError, OSError, MemoryError):
            homes = {
                found[1]
                for key in self.keys()
                if (found := self.record(key)) and found[2].pid == pid
            }
            family = self.kin()
            for name in homes - {family.name}:
                store = self.home_of(name)
                if store is not None:
                    self._move(name, store, family)

    def _move(self, name: str, store: Store, family: _Home) -> None:
        for key in self.keys():
            found = self.record(key)
            if found is None or found[1] != name:
                continue
            handle, _, _, version = found
            block = store._get(handle)
            if block is None:
                continue
            family.store._put(handle, block[0], 0, 0, _ANY)
            if not self.write(key, handle, family, version):
                family.store._remove(handle, _ANY)


_place = _Place()


def place() -> str:
    """Name or path of the arena that segments lie in."""
    return os.environ.get(ARENA) or f"shared_memory-{os.getuid()}"


def _lasting_path(path: str) -> str:
    return f"{path}-lasting"


def _owner(process: Any) -> _Owner:
    return _Owner(process["slot"], process["pid"], process["started"])


def _capacity(folder: str) -> int:
    text = os.environ.get(CAPACITY)
    if text:
        return parse_size(text, CAPACITY)
    # All that the file system may ever have room for: a bound, which costs nothing by itself.
    system = os.statvfs(folder)
    return min(max(system.f_blocks * system.f_frsize, _LEAST), _MOST)


def _opened(path: str, lasting: bool) -> Arena:
    with contextlib.suppress(FileNotFoundError):
        return open_arena(path, create=False)
    capacity = _capacity(os.path.dirname(path))
    while True:
        try:
            return open_arena(path, capacity=capacity, lasting=lasting)
        except ValueError:  # made meanwhile, with less
            return open_arena(path, lasting=lasting)
        except (OSError, MemoryError):
            # Less address space (ulimit -v), or smaller files (ulimit -f), than the file needs.
            if capacity <= _LEAST or os.environ.get(CAPACITY):
                raise
            capacity = max(capacity // 4, _LEAST)


def _bury(arena: Arena) -> None:
    """Have what only the dead held released: their references with the first batch, and with the
    second what their homes held.
    """
    with contextlib.suppress(RuntimeError, TimeoutError, FlagstoneError):
        arena.barrier(_BATCH)
        arena.barrier(_BATCH)


def key_of(name: str) -> bytes:
    """The key that a name is found by.

    Raises:
        OSError: it is none that the standard library takes.
        ValueError: it has a zero byte in it.
    """
    raw = name.encode("utf-8", "surrogateescape").lstrip(b"/")
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    if not raw or b"/" in raw:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    if len(raw) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    return raw


def _exists(name: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


# ---- making, finding, removing


def create(name: str, size: int, lasting: bool) -> Segment:
    """A segment of `size` bytes, all zero, that nobody else has.

    Raises:
        FileExistsError: there is one of this name.
        SegmentFull: no room.
    """
    key = key_of(name)
    try:
        home = _place.home()
        # Looked for before the memory is made. One that comes meanwhile is found when this one gets
        # its name.
        if _place.names is not None and key in _place.names and _place.look(key) is not None:
            raise _exists(name)
        make = _create_lasting if lasting else _create
        return make(name, key, size, home)
    except ArenaFull as error:
        if isinstance(error, SegmentFull):
            raise
        raise SegmentFull(errno.ENOSPC, str(error)) from None


def _create(name: str, key: bytes, size: int, home: _Home) -> Segment:
    arena = _place.open()
    block = _zeroed(arena, size)
    handle = bytes(block.handle)
    home.store._put(handle, block, 0, 0, _ANY)
    while not _place.write(key, handle, home, _ABSENT):
        if _place.look(key) is not None:
            home.store._remove(handle, _ANY)
            raise _exists(name)
    # Who makes a lasting one has a name here first, so one of both sees the other.
    if _find_lasting(key) is not None:
        remove(key, handle, False)
        raise _exists(name)
    _place.made += 1
    if _place.made % _LOOK_EVERY == 0:
        _place.look_through()
    return Segment(block, handle, False)


def find(name: str) -> Segment:
    """The segment of this name.

    Raises:
        FileNotFoundError: there is none, or who made it is dead and nobody has it open.
    """
    key = key_of(name)
    found = _place.look(key)
    if found is not None:
        return Segment(*found, False)
    block = _find_lasting(key)
    if block is not None:
        return Segment(block, bytes(block.handle), True)
    hint = ""
    if os.path.exists(os.path.join(b"/dev/shm", key)):
        hint = " as a segment of Flagstone's; the standard library has one of this name"
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT) + hint, name)


def remove(key: bytes, handle: bytes, lasting: bool) -> bool:
    """Take a segment's name, and let whoever holds it for others let go; False if it has none."""
    if lasting:
        return _remove_lasting(key, handle)
    while (found := _place.record(key)) is not None and found[0] == handle:
        assert _place.names is not None
        if not _place.names._remove(key, found[3]):
            continue
        home = _place.home_of(found[1])
        if home is not None:
            with contextlib.suppress(Closed):
                home._remove(handle, _ANY)
        return True
    return False


def remove_named(name: str) -> bool:
    """`remove` whatever segment has this name; False if there is none."""
    key = key_of(name)
    found = _place.look(key)
    if found is not None:
        return remove(key, found[1], False)
    block = _find_lasting(key)
    return block is not None and _remove_lasting(key, bytes(block.handle))


def adopt(pid: int) -> None:
    """Hold what a process has made that is about to be ended by this one."""
    _place.adopt(pid)


def _zeroed(arena: Arena, size: int) -> Block:
    if size > arena.capacity:
        raise SegmentFull(
            errno.ENOSPC,
            f"a segment of {exact_size(size)}, in arena {arena.name!r} of"
            f" {exact_size(arena.capacity)}"
            f" ({CAPACITY}= sets it, for who makes the arena)",
        )
    attachment = arena._link.attachment
    block = alloc_bytes(attachment, size, None, None, attachment.root_group)
    block.array.fill(0)
    return block


# ---- those that outlive every process


@contextlib.contextmanager
def _lasting_arena(create: bool) -> Iterator[Arena | None]:
    """The arena of those that last, as long as its file has its name; None: there is none.

    Its lock is held, so that nobody makes one in a file that is just being removed.
    """
    path = _lasting_path(arena_path(place()))
    while True:
        if not create and not os.path.exists(path):
            yield None
            return
        try:
            arena = _opened(path, lasting=True) if create else open_arena(path, create=False)
        except FileNotFoundError:
            continue
        with arena, arena.lock("names"):
            if not arena._link.attachment.info()["unlinked"]:
                yield arena
                return


def _create_lasting(name: str, key: bytes, size: int, home: _Home) -> Segment:
    # Its name in the other arena, with an object that stands for nothing, keeps others away.
    arena = _place.open()
    guard = arena.alloc(0)
    token = bytes(guard.handle)
    if not _place.write(key, token, home, _ABSENT):
        raise _exists(name)
    try:
        with _lasting_arena(True) as lasting:
            assert lasting is not None
            store = lasting.store(_NAMES)
            if key in store:
                raise _exists(name)
            try:
                block = _zeroed(lasting, size)
                store._put(key, block, 0, 0, _ANY)
            except BaseException:
                _remove_if_empty(lasting, store)
                raise
            return Segment(block, bytes(block.handle), True)
    finally:
        remove(key, token, False)


def _find_lasting(key: bytes) -> Block | None:
    if not os.access(_place.lasting, os.F_OK):
        return None
    with _lasting_arena(False) as arena:
        if arena is None:
            return None
        found = arena.store(_NAMES)._get(key)
        return None if found is None else found[0]


def _remove_lasting(key: bytes, handle: bytes) -> bool:
    with _lasting_arena(False) as arena:
        if arena is None:
            return False
        store = arena.store(_NAMES)
        found = store._get(key)
        if found is None or bytes(found[0].handle) != handle:
            return False
        store._remove(key, found[2])
        del found
        _remove_if_empty(arena, store)
        return True


def _remove_if_empty(arena: Arena, store: Store) -> None:
    if not len(store) and arena.path is not None:
        unlink_arena(arena.path)


# ---- processes


def _kin() -> _Home | None:
    return None if _place.dormant else _place.kin()


def family() -> tuple[str, str, _Owner] | None:
    """What a process being started joins: the arena, the home's name, whose it is."""
    home = _kin()
    return None if home is None else (_place.path, home.name, home.owner)


def join(where: str, path: str, name: str, owner: Any) -> None:
    """Make this process, which was just started, one of a family."""
    os.environ[ARENA] = where
    with contextlib.suppress(FlagstoneError, OSError, MemoryError):
        _place.join(path, name, _Owner(*owner))


def forget(*, imported: bool = True) -> None:
    """Let go of the arena, and of what this process has made: as if this module had just been
    imported, or had not. For tests.
    """
    global _place
    arena = _place.arena
    _place = _Place()
    _place.dormant = not imported
    if arena is not None:
        arena.close()


def _before_fork() -> None:
    # The family has to be there before its members are.
    with contextlib.suppress(FlagstoneError, OSError, MemoryError, ValueError):
        _kin()


def _after_fork_in_child() -> None:
    place = _place
    place.lock = threading.RLock()
    if place.own is not None:
        place.homes[place.own.name] = place.own.store
    place.own = None
    place.ending = False
    place.made = 0


os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
