"""What this process is attached to: opening, finding again by uuid, leaving when the process ends.

A process has one attachment to an arena however often it opens it. Pickles carry a *locator* (uuid,
path, descriptor), from which the receiving process finds the attachment it has, or makes one. An
attachment made for a pickle is *adopted*: kept, so that a consumer which takes and drops one Block
after another does not attach and detach each time, until

 - the process ends, or an `Arena` of the same arena is closed here, or
 - another arena is adopted, and nothing here uses this one and no other process has it, or it is
   the oldest of too many.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import Any, Final

from flagstone import _core, garbage
from flagstone._core import Attachment
from flagstone.errors import ArenaFull, Closed, FlagstoneError, StaleHandle
from flagstone.memory import give_back
from flagstone.modules import imported
from flagstone.names import called, shown
from flagstone.notices import tell
from flagstone.sizes import format_size

__all__ = ["Locator", "attach", "forget", "fork_generation", "known", "locate", "open_attachment"]

Locator = tuple[bytes, bytes | None, Any]
"""uuid; path, or None for an anonymous arena; a descriptor for a process being started, or None.

The path is bytes: what text stands for them is each process's own (its locale).
"""

OPEN_OR_CREATE: Final = 0
CREATE_NEW: Final = 1
OPEN_EXISTING: Final = 2


def how_to_open(create: bool | None) -> int:
    """The core's word for `create`: None opens or creates, True must not exist, False must."""
    if create is None:
        return OPEN_OR_CREATE
    return CREATE_NEW if create else OPEN_EXISTING


_MOST_ADOPTED: Final = 32

# Reentrant: a collection may run while it is held, and a destructor of the user's may open an
# arena.
_lock = threading.RLock()
_known: weakref.WeakValueDictionary[bytes, Attachment] = weakref.WeakValueDictionary()
_adopted: dict[bytes, Attachment] = {}
_generation = 0
_exit_registered = False
_finalizer_pid = 0


def fork_generation() -> int:
    """How many forks lie between this process and the one that imported this module."""
    return _generation


def open_attachment(
    path: bytes | None,
    *,
    capacity: int = 0,
    create: int = OPEN_OR_CREATE,
    readonly: bool = False,
    lasting: bool = False,
    huge_pages: bool = False,
    mode: int = 0o600,
    debug: int = 0,
) -> Attachment:
    """Attach to the arena at `path` (None: a new anonymous one), or create it."""
    _leave_at_the_end()
    attachment = _remember(
        _opened(path, capacity, create, readonly, lasting, huge_pages, mode, debug)
    )
    tell(attachment)
    return attachment


def locate(attachment: Attachment) -> Locator:
    """How another process finds this arena. For an anonymous one there is a descriptor in it while
    a process is being started, and nothing otherwise.
    """
    return attachment.locator or (attachment.uuid, None, _descriptor_for_child(attachment))


def attach(locator: Locator, *, readonly: bool = False) -> Attachment:
    """The attachment of this process to the located arena, made if there is none.

    Raises:
        StaleHandle: the arena is gone.
        Closed: it is anonymous, and did not come along over the fork.
        FlagstoneError: it is anonymous and has not come to this process.
    """
    uuid, path, descriptor = locator
    attachment = _known.get(uuid)
    if attachment is not None and attachment.usable:
        return attachment
    if attachment is not None and path is None and descriptor is None:
        attachment.require_usable()
    with _lock:
        _leave_at_the_end()
        attachment = Attachment.find(uuid)
        if attachment is not None and attachment.usable:
            return _remember(attachment)
        return _adopt(_remember(_attach_anew(uuid, path, descriptor, readonly)))


def known() -> list[Attachment]:
    """The attachments that this process has now."""
    with _lock:
        return list(_known.values())


def forget(uuid: bytes) -> None:
    """Let go of an attachment that was adopted; of others, nothing happens."""
    with _lock:
        attachment = _adopted.pop(uuid, None)
    del attachment  # outside the lock: detaching may wait


def _attach_anew(uuid: bytes, path: bytes | None, descriptor: Any, readonly: bool) -> Attachment:
    if descriptor is not None:
        fd = descriptor.detach()
        try:
            return Attachment.open_fd(fd, readonly)
        finally:
            os.close(fd)
    if path is None:
        raise FlagstoneError(
            "this comes from an anonymous arena that this process does not have: give the arena"
            " a name, or pass it to the process as an argument when starting it (of a pool:"
            " initargs). A pool whose worker ends of this says BrokenProcessPool, or waits for ever"
        )
    try:
        attachment = _opened(path, 0, OPEN_EXISTING, readonly, False, False, 0o600, 0)
    except FileNotFoundError:
        raise StaleHandle(
            f"the arena {_shown(path)} no longer exists, or never did here: it is in the memory of"
            f" one machine, and in a container only as far as that has the same {_folder(path)}"
        ) from None
    if attachment.uuid != uuid:
        raise StaleHandle(
            f"the arena that was {_shown(path)} no longer exists, or is another machine's or"
            " container's; here another one has its name"
        )
    return attachment


def closed(uuid: bytes, path: str | None) -> Closed:
    """What to raise where `Arena.close()` was called before: says what keeps the process attached,
    if anything does.
    """
    name = shown(called(path))
    again = "" if path is None else "; to go on, open it again"
    left = Closed(f"the arena {name} is closed: close() was called{again}")
    try:
        attachment = Attachment.find(uuid)
        if attachment is None or not attachment.usable:
            return left
        (mine,) = [one for one in _core.processes(attachment) if one["self"]]
    except (FlagstoneError, ValueError):
        return left
    count, nbytes = mine["references"], format_size(mine["bytes"])
    keeps = "another Arena object of it"
    if count:
        noun = "object or group" if count == 1 else "objects and groups"
        keeps = f"{count} {noun} ({nbytes}) whose Blocks, views or Group objects still live"
    return Closed(
        f"the arena {name} is closed: close() was called on this Arena, or on the one that this was"
        f" made from. The process stays attached by {keeps}; to go on, open the arena again"
    )


def _folder(path: bytes) -> str:
    return _shown(os.path.dirname(path))


def _opened(path: bytes | None, *options: Any) -> Attachment:
    # Where the file system is full, garbage may hold what other arenas have of it.
    since = garbage.begun()
    try:
        return Attachment.open(path, *options)
    except ArenaFull:
        if not garbage.collect(since):
            raise
    for attachment in known():
        give_back(attachment)
    return Attachment.open(path, *options)


def _shown(path: bytes) -> str:
    return shown(os.fsdecode(path))


def _remember(attachment: Attachment) -> Attachment:
    # One Python object for one attachment, so that "nobody uses it" can be told by a weak
    # reference.
    with _lock:
        known = _known.get(attachment.uuid)
        if known is not None and known.address == attachment.address:
            return known
        _known[attachment.uuid] = attachment
        if _is_tended():
            attachment.tended()
        if os.environ.get("FLAGSTONE_TEARDOWN") == "sync":
            attachment.destroy_synchronously(True)
        return attachment


def _adopt(attachment: Attachment) -> Attachment:
    _adopted[attachment.uuid] = attachment
    for uuid, other in list(_adopted.items()):
        if uuid != attachment.uuid and (len(_adopted) > _MOST_ADOPTED or _only_here(other)):
            _let_go_if_unused(uuid, weakref.ref(other))
    return attachment


def _only_here(attachment: Attachment) -> bool:
    try:
        return not any(one["alive"] and not one["self"] for one in _core.processes(attachment))
    except FlagstoneError:
        return True


def _let_go_if_unused(uuid: bytes, reference: weakref.ref[Attachment]) -> None:
    _adopted.pop(uuid, None)
    used = reference()
    if used is not None:
        _adopted[uuid] = used


def _descriptor_for_child(attachment: Attachment) -> Any:
    context = imported("multiprocessing.context")
    popen = context.get_spawning_popen() if context is not None else None
    if popen is None:
        return None
    from multiprocessing import reduction

    # One for each arena and child: a descriptor may be listed only once for the new process.
    descriptors = popen.__dict__.setdefault("_flagstone_descriptors", {})
    if attachment.uuid not in descriptors:
        descriptors[attachment.uuid] = reduction.DupFd(attachment.fd())
    return descriptors[attachment.uuid]


def _leave_at_the_end() -> None:
    # Called when a process opens its first arena, and not at import, which is to leave no trace.
    global _exit_registered
    if _exit_registered:
        return
    _exit_registered = True
    atexit.register(_at_exit)
    _tie_to_multiprocessing()


def _at_exit() -> None:
    if _finalizer_pid != os.getpid():
        _core.leave_all()


def _tie_to_multiprocessing() -> None:
    # Children of multiprocessing end without atexit, but run its finalizers. And where it was
    # imported before the first arena was opened, its own exit handler would run after ours, and
    # flushes queues that may still have Blocks to pickle.
    util = imported("multiprocessing.util")
    if util is not None:
        util.register_after_fork(_finalize_with_multiprocessing, _call)
        _finalize_with_multiprocessing()


def _finalize_with_multiprocessing() -> None:
    global _finalizer_pid
    from multiprocessing import util

    # The lowest priority comes last; queues, which may still pickle Blocks, are flushed at -5.
    util.Finalize(None, _core.leave_all, exitpriority=-100)
    if _is_tended():
        for attachment in list(_known.values()):
            attachment.tended()
    _finalizer_pid = os.getpid()


def _is_tended() -> bool:
    """Whether this is a daemon of multiprocessing, such as a pool's worker: its parent ends it by a
    signal when all is well.
    """
    process = imported("multiprocessing.process")
    return process is not None and process.current_process().daemon


def _call(function: Any) -> None:
    function()


def _after_fork_in_child() -> None:
    global _lock, _generation
    _lock = threading.RLock()
    _generation += 1
    for attachment in list(_known.values()):
        attachment.told = attachment.burial_count  # those who died before are the parent's news
    if _exit_registered and _finalizer_pid == 0:
        # multiprocessing may have been imported after the arena was opened. What it registers now
        # is run, or dropped, by it.
        _tie_to_multiprocessing()


# Python counts threads between the fork and the parent's hooks, and warns if there are several.
os.register_at_fork(
    before=_core.fork_begin,
    after_in_parent=_core.fork_end,
    after_in_child=_after_fork_in_child,
)
