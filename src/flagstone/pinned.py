"""Blocks whose pages a device copies from and to where they lie: `flagstone.torch.pin`.

The CUDA runtime registers a range of pages (`cudaHostRegister`), and from then on means these very
pages. An arena gives pages back, and the same address has other ones then. So what is registered is
a Block that is held: its pages are the arena's for as long. The order is registered, used, the
device done, unregistered, and only then the Block is given up.

Two calls of the runtime, and waiting for the devices, are all that is asked of torch here.
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import queue
import threading
import weakref
from collections.abc import Callable
from multiprocessing import util
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from flagstone.closing import Closing
from flagstone.errors import Closed
from flagstone.part import bytes_of
from flagstone.sizes import many

if TYPE_CHECKING:
    from flagstone._core import Block
    from flagstone.arena import Arena

__all__ = ["Pinned", "Refused", "arrived"]

_PORTABLE: Final = 1  # cudaHostRegisterPortable: for every device's context
_logger: Final = logging.getLogger("flagstone")


class Refused(RuntimeError):
    """These pages cannot be registered, though others might be."""


class _Range:
    """The pages of a Block that are registered, and the Block."""

    __slots__ = ("address", "begin", "end", "nbytes", "raw", "users")

    def __init__(self, block: Block) -> None:
        self.address = block._address
        self.nbytes = block.nbytes
        self.begin = self.address & -mmap.PAGESIZE
        self.end = -(-(self.address + self.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.raw = bytes_of(block)  # which holds the Block
        self.users = 0  # arrays that were given out, and have not been given up


class _Bytes:
    """What an array over a registered Block ends at, in place of the Block; its end is theirs."""

    __slots__ = ("__array_interface__", "_pinned", "_range")

    def __init__(self, pinned: Pinned, over: _Range) -> None:
        self._pinned = pinned
        self._range = over
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (over.nbytes,),
            "data": (over.address, False),
        }

    def __del__(self) -> None:
        self._pinned._drop(self._range)


class Pinned(Closing):
    """What `flagstone.torch.pin()` returns: in force until `close()`, or the end of a `with` block.

    While it is in force, a tensor over a large Block of the arena that arrives in this process (out
    of a queue, from a DataLoader's worker) is registered with the CUDA runtime: it is pinned, as
    torch calls it, `tensor.to("cuda", non_blocking=True)` copies from where it lies, and
    `pin_memory=True` of a DataLoader has nothing to copy. Calling it registers a tensor that is
    here already.

    A registered Block keeps its memory until the last such tensor, and every view of it, is
    dropped. Then a thread of this object waits until the devices have done what they were told,
    ends the registration and gives up the Block, in this order: a copy under way never reads what
    is somebody else's already.

    Safe to use from any thread. A forked child has none of it, as it has nothing of the device.
    """

    __slots__ = (
        *("_arena", "_closed", "_dropped", "_failure", "_finalizer", "_lock", "_pid", "_ranges"),
        *("_tensor_of", "_thread", "_threshold", "__weakref__"),
    )

    def __init__(
        self, arena: Arena, threshold: int, tensor_of: Callable[[Pinned, Any], Any]
    ) -> None:
        self._arena = arena
        self._threshold = threshold
        self._tensor_of = tensor_of
        self._pid = os.getpid()
        self._closed = False
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._ranges: dict[int, _Range] = {}  # by first byte
        # An array may end at any instant, in any thread that holds the lock, too: a put is
        # reentrant. None ends the thread.
        self._dropped: queue.SimpleQueue[_Range | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._give_up, name="flagstone-pin", daemon=True)
        self._thread.start()
        # Before the arena is left (-100), at the end of the program or of a child.
        self._finalizer = util.Finalize(None, self.close, exitpriority=-50)
        atexit.register(self.close)
        _pins.add(self)

    @property
    def nbytes(self) -> int:
        """The bytes of Blocks that are registered now."""
        if self._pid != os.getpid():
            return 0
        with self._lock:
            return sum(one.nbytes for one in self._ranges.values())

    @property
    def failure(self) -> str | None:
        """What the runtime said when it refused to register a Block that arrived, if it ever did.
        From then on what arrives is left to torch.
        """
        return self._failure

    def __call__(self, what: Any) -> Any:
        """A tensor of the same bytes as this tensor or Block, registered for as long as it, or any
        view of it, lives. The threshold does not count here.

        Raises:
            LookupError: it lies in no Block of the arena, or is no plain tensor (it requires
                gradients, say).
            ReadOnly: as `from_block`.
            RuntimeError: the runtime refused, or a page is shared with a Block that is registered;
                `tensor.pin_memory()` makes a copy.
            Closed: `close()` was called, the Block was freed, or the arena is closed.
        """
        return self._tensor_of(self, what)

    def close(self) -> None:
        """End every registration, once the devices have done what they were told. The tensors stay,
        in ordinary memory. Again is fine, and so is `arena.close()` before.
        """
        if self._pid != os.getpid():
            return
        _pins.discard(self)
        with self._lock:
            first, self._closed = not self._closed, True
        if not first:
            return
        atexit.unregister(self.close)
        self._finalizer.cancel()
        self._dropped.put(None)
        self._thread.join()
        self._drain()

    def __repr__(self) -> str:
        return f"<Pinned {self._arena!r}>"

    def covers(self, block: Block) -> bool:
        """Whether the Block is of this arena."""
        attachment: Any = block._parts[0]
        return attachment is self._arena._link.attachment

    def register(self, block: Block) -> Any:
        """An array of the Block's bytes whose pages are registered until it ends.

        Raises:
            Refused, RuntimeError, Closed: as calling it.
        """
        if self._pid != os.getpid():
            raise RuntimeError("a forked child has nothing of its parent's device")
        new = _Range(block)
        with self._lock:
            if self._closed:
                raise Closed(f"{self!r} was closed")
            known = self._ranges.get(new.begin)
            if known is None or known.address != new.address:
                for one in self._ranges.values():
                    if one.begin < new.end and new.begin < one.end:
                        raise Refused(
                            f"this Block of {many(new.nbytes, 'byte')} shares a page with one that"
                            " is registered: tensor.pin_memory() makes a copy"
                        )
                _register(new)
                known = self._ranges[new.begin] = new
            known.users += 1
        return np.asarray(_Bytes(self, known))

    def arrive(self, block: Block) -> Any:
        """The same of a Block that has just arrived; None: it is left to torch."""
        if block.nbytes < self._threshold or self._failure is not None:
            return None
        try:
            return self.register(block) if self.covers(block) else None
        except (Refused, Closed):
            return None
        except RuntimeError as error:
            self._failure = str(error)
            _logger.warning("%s; what arrives from now on is left to torch", error)
            return None

    # ---- the end

    def _drop(self, over: _Range) -> None:
        if self._pid == os.getpid():
            self._dropped.put(over)
            if self._closed:
                self._drain()

    def _drain(self) -> None:
        """Forget what was dropped after the end, so that its Blocks go."""
        try:
            while True:
                self._dropped.get_nowait()
        except queue.Empty:
            pass

    def _give_up(self) -> None:
        """The thread: what was dropped is unregistered, all that has come together."""
        going = True
        while going:
            dropped = [self._dropped.get()]
            while not self._dropped.empty():
                dropped.append(self._dropped.get())
            going = None not in dropped
            with self._lock:
                for one in dropped:
                    if one is not None:
                        one.users -= 1
                over = [one for one in self._ranges.values() if not one.users or not going]
            del dropped
            if over:
                self._unregister(over)
            one = None
            over.clear()

    def _unregister(self, over: list[_Range]) -> None:
        try:
            _wait_for_devices()
        except Exception as error:  # a device that failed: nothing of it is under way any more
            _logger.warning("waiting for the devices before pages are unregistered: %s", error)
        for one in over:
            with self._lock:
                if one.users and not self._closed:
                    continue  # it has arrived again meanwhile
                del self._ranges[one.begin]
                try:
                    _unregister(one)
                except Exception as error:
                    # The runtime still means these pages, so they stay the arena's.
                    _kept.append(one)
                    self._failure = str(error)
                    _logger.warning("%s; the Block is kept until this process ends", error)


_pins: weakref.WeakSet[Pinned] = weakref.WeakSet()
"""Those in force; the thread of each keeps it."""
_kept: list[_Range] = []


def arrived(block: Block) -> Any:
    """The bytes of a Block that has just arrived, registered where `pin()` is in force for its
    arena; None where not.
    """
    for one in tuple(_pins):
        raw = one.arrive(block)
        if raw is not None:
            return raw
    return None


def _register(over: _Range) -> None:
    nbytes = over.end - over.begin
    status = int(torch.cuda.cudart().cudaHostRegister(over.begin, nbytes, _PORTABLE))
    if status:
        raise RuntimeError(f"cudaHostRegister of {many(nbytes, 'byte')} failed with error {status}")


def _unregister(over: _Range) -> None:
    status = int(torch.cuda.cudart().cudaHostUnregister(over.begin))
    if status:
        raise RuntimeError(f"cudaHostUnregister failed with error {status}")


def _wait_for_devices() -> None:
    """Wait for all devices that this process uses; it has no context on another one."""
    used = getattr(torch._C, "_cuda_hasPrimaryContext", lambda _: True)
    for number in range(torch.cuda.device_count()):
        if used(number):
            torch.cuda.synchronize(number)


os.register_at_fork(after_in_child=_pins.clear)
