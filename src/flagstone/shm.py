"""SharedMemory and ShareableList: the standard library's, on segments of an arena."""

from __future__ import annotations

import operator
import os
import struct
from collections.abc import Iterable
from multiprocessing import shared_memory as _standard
from typing import Any, ClassVar, Final

from flagstone import segment
from flagstone.descriptor import Descriptor
from flagstone.mapping import Mapping
from flagstone.segment import Segment

__all__ = ["ShareableList", "SharedMemory"]

_ENCODING: Final = "utf-8"

StandardMemory: Final[Any] = _standard.SharedMemory
StandardList: Final[Any] = _standard.ShareableList


class SharedMemory(StandardMemory):  # type: ignore[misc]
    """A segment of shared memory, found by name: as `multiprocessing.shared_memory.SharedMemory`.

    Args:
        name: of the segment, up to 255 bytes; None makes one up.
        create: make it, rather than open one that is there.
        size: bytes, exactly so many; all zero. Nothing but a number where one is opened.
        track: False keeps it until `unlink()`, whoever ends.

    Raises:
        FileExistsError, FileNotFoundError: there is one; there is none, or only dead processes
            had it.
        SegmentFull: no room (an `ArenaFull`, and an `OSError` with ENOSPC). All of its memory is
            there when this returns: writing to it never ends in a SIGBUS.
        ValueError: a size or name that makes no sense.

    Views keep the bytes for as long as they live, after `close()` and `unlink()`, too. Pickles by
    name. Safe to use from any thread, and in forked children.
    """

    __module__ = "flagstone.shared_memory"

    _segment: Segment | None = None
    _handle: bytes = b""
    _lasting: bool = False
    _size: int = 0
    _mapping: Mapping | None = None
    _track: bool = True
    _buf: memoryview | None = None
    _closed_fd: bool = False
    _name: str

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        size = operator.index(size)
        if size < 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            self._flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        self._track = track
        if name is None:
            found = self._new(size)
        else:
            self._name = "/" + name if self._prepend_leading_slash else name
            found = self._opened(size)
        self._segment = found
        self._handle = found.handle
        self._lasting = found.lasting
        self._size = found.block.nbytes
        self._buf = memoryview(found.block)
        self._closed_fd = False

    def _new(self, size: int) -> Segment:
        while True:
            # Looked up in the module at each call, for programs that replace it there.
            name = _standard._make_filename()  # type: ignore[attr-defined]
            try:
                found = segment.create(name, size, not self._track)
            except FileExistsError:
                continue
            self._name = name
            return found

    def _opened(self, size: int) -> Segment:
        while True:
            if not self._flags & os.O_EXCL:
                try:
                    return segment.find(self._name)
                except FileNotFoundError:
                    if not self._flags & os.O_CREAT:
                        raise
                    if not size:
                        raise ValueError("cannot mmap an empty file") from None
            try:
                return segment.create(self._name, size, not self._track)
            except FileExistsError:
                if self._flags & os.O_EXCL:
                    raise

    def __del__(self) -> None:
        """Does nothing: what keeps the memory is dropped with the object."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview | None:
        """The bytes, writable; None after `close()`."""
        return self._buf

    @property
    def name(self) -> str:
        """What others open it by."""
        name = self._name
        return name[1:] if self._prepend_leading_slash and name.startswith("/") else name

    @property
    def size(self) -> int:
        """The segment's bytes, as many as were asked for."""
        return self._size

    def close(self) -> None:
        """Let go of the segment in this object. Never raises; views of it stay, and keep it."""
        self._buf = None
        self._mapping = None
        self._segment = None

    def unlink(self) -> None:
        """Take its name away, for everybody. Its memory goes with the last who has it open.

        Raises:
            FileNotFoundError: it has none any more; also where another one has the name now.
        """
        if not segment.remove(segment.key_of(self._name), self._handle, self._lasting):
            raise FileNotFoundError(2, os.strerror(2), self.name)

    # ---- what programs use although it is nobody's business

    @property
    def _mmap(self) -> Mapping | None:
        if self._mapping is None and self._segment is not None and self._buf is not None:
            self._mapping = Mapping.of(self._segment.block)
        return self._mapping

    @_mmap.setter
    def _mmap(self, value: Mapping | None) -> None:
        # Programs set it to None so that close() does not raise, which it does not here.
        self._mapping = value

    @property
    def _fd(self) -> Descriptor | int:
        if self._segment is None or self._closed_fd:
            return -1
        return Descriptor(self._size)

    @_fd.setter
    def _fd(self, value: int) -> None:
        # -1: before __init__, so that close() leaves it alone, or after os.close().
        self._closed_fd = value == -1


class ShareableList(StandardList):  # type: ignore[misc]
    """A list of a fixed length in a segment: as `multiprocessing.shared_memory.ShareableList`.

    Args:
        sequence: int (64 bits), float, bool, str, bytes and None. An item may be replaced by
            another one that has room where it lies.
        name: of the segment; of one that is there, if `sequence` is None.

    Unlike the standard one, it has room for text by its bytes, not its characters, and keeps zero
    bytes at the end of text and bytes (cpython#145261).
    """

    __module__ = "flagstone.shared_memory"

    shm: SharedMemory
    _list_len: int
    _allocated_offsets: list[int]

    # The standard ones end with the last byte that is not zero. Those that are zero at the end
    # have codes of their own, and a packing format that says how long they are.
    _EXACT: ClassVar[dict[type, int]] = {str: 4, bytes: 5}
    _back_transforms_mapping: ClassVar[dict[int, Any]] = {
        **StandardList._back_transforms_mapping,
        4: lambda value: value.decode(_ENCODING),
        5: lambda value: value,
    }

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            self._list_len = len(self)
            self._allocated_offsets = list(
                struct.unpack_from(self._format_size_metainfo, self._bytes, 8)
            )
            return
        items = list(sequence or ())
        rooms = [self._room(item) for item in items]
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for room in rooms:
            self._allocated_offsets.append(self._allocated_offsets[-1] + room)
        size = struct.calcsize(
            "q"
            + self._format_size_metainfo
            + f"{self._allocated_offsets[-1]}s"
            + self._format_packing_metainfo
            + self._format_back_transform_codes
        )
        self.shm = SharedMemory(name, create=True, size=size)
        struct.pack_into(
            "q" + self._format_size_metainfo,
            self._bytes,
            0,
            self._list_len,
            *self._allocated_offsets,
        )
        for position, (item, room) in enumerate(zip(items, rooms, strict=True)):
            self._write(position, item, room)

    @property
    def _bytes(self) -> memoryview:
        if self.shm.buf is None:
            raise ValueError("the segment of this ShareableList was closed")
        return self.shm.buf

    def _room(self, item: Any) -> int:
        if not isinstance(item, (str, bytes)):
            if type(item) not in self._types_mapping:
                raise KeyError(type(item))
            return int(self._alignment)
        # What the standard one has, which is more than the length; and for text that is longer in
        # bytes, as much as these need.
        room = self._alignment * (len(item) // self._alignment + 1)
        length = len(item.encode(_ENCODING)) if isinstance(item, str) else 0
        return int(max(room, -(-length // self._alignment) * self._alignment))

    def _write(self, position: int, value: Any, room: int) -> None:
        """Write an item, its format and its code, where there are `room` bytes."""
        if isinstance(value, (str, bytes)):
            raw: Any = value.encode(_ENCODING) if isinstance(value, str) else value
            if len(raw) > room:
                raise ValueError("bytes/str item exceeds available storage")
            kind = str if isinstance(value, str) else bytes
            exact = raw.endswith(b"\0")
            form = f"{len(raw) if exact else room}s"
            code = self._EXACT[kind] if exact else self._extract_recreation_code(value)
        else:
            raw, form = value, self._types_mapping[type(value)]
            code = self._extract_recreation_code(value)
        at = self._offset_data_start + self._allocated_offsets[position]
        struct.pack_into(form, self._bytes, at, raw)
        where = self._offset_packing_formats + position * 8
        struct.pack_into("8s", self._bytes, where, form.encode())
        struct.pack_into("b", self._bytes, self._offset_back_transform_codes + position, code)

    def __setitem__(self, position: int, value: Any) -> None:
        position = position if position >= 0 else position + self._list_len
        if not 0 <= position < self._list_len:
            raise IndexError("assignment index out of range")
        offsets = self._allocated_offsets
        self._write(position, value, offsets[position + 1] - offsets[position])

    def __len__(self) -> int:
        length: int = struct.unpack_from("q", self._bytes, 0)[0]
        return length
