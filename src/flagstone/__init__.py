"""Flagstone: shared memory for Python processes that cleans up after itself.

    arena = flagstone.open("video", capacity="4GiB")
    frames = arena.cache("frame", shape=(1080, 1920, 3), dtype="u1")
    frame = frames.alloc()
    frame.array[:] = image
    queue.put(frame)  # the handle travels, not the bytes

An *arena* is one shared mapping that processes attach to. It holds typed *caches* of objects; a
*Block* is an object and this process's reference to it, and the object lives until the last
reference in any live process is gone. *Groups* say what memory is charged to, with limits, and end
as a whole.

Importing this package makes no thread, file or segment.
"""

from flagstone._core import Block, GroupCache, Handle
from flagstone.arena import Arena, open, unlink
from flagstone.cache import Cache
from flagstone.channel import Channel, Delivery
from flagstone.errors import (
    ArenaCorrupted,
    ArenaFull,
    CacheBusy,
    CacheMismatch,
    ChannelClosed,
    ChannelEmpty,
    ChannelFull,
    ChannelMismatch,
    Closed,
    Disconnected,
    FlagstoneError,
    GroupLimitExceeded,
    GroupMismatch,
    LayoutMismatch,
    ReadOnly,
    StaleHandle,
    StoreMismatch,
)
from flagstone.facts import (
    Batch,
    Burial,
    CacheInfo,
    CacheStats,
    ChannelInfo,
    ChildCounts,
    Fault,
    Finding,
    GroupEvents,
    GroupInfo,
    Holder,
    InFlight,
    Keeper,
    LockHold,
    LockInfo,
    ProcessInfo,
    Sender,
    Site,
    StoreInfo,
    SubscriberInfo,
    TopicInfo,
)
from flagstone.folder import ArenaInfo, arenas
from flagstone.group import Group
from flagstone.lock import Lock
from flagstone.packed import Packed, PackedArrays, pack, pack_arrays
from flagstone.part import Part, block_of
from flagstone.sharing import ShareStats, Sharing, share
from flagstone.snapshot import ArenaSnapshot
from flagstone.store import Store
from flagstone.teardown import Teardown
from flagstone.topic import Subscription, Topic
from flagstone.weak import WeakBlock

__version__ = "0.1.0"

__all__ = [
    "Arena",
    "ArenaCorrupted",
    "ArenaFull",
    "ArenaInfo",
    "ArenaSnapshot",
    "Batch",
    "Block",
    "Burial",
    "Cache",
    "CacheBusy",
    "CacheInfo",
    "CacheMismatch",
    "CacheStats",
    "Channel",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "ChannelInfo",
    "ChannelMismatch",
    "ChildCounts",
    "Closed",
    "Delivery",
    "Disconnected",
    "Fault",
    "Finding",
    "FlagstoneError",
    "Group",
    "GroupCache",
    "GroupEvents",
    "GroupInfo",
    "GroupLimitExceeded",
    "GroupMismatch",
    "Handle",
    "Holder",
    "InFlight",
    "Keeper",
    "LayoutMismatch",
    "Lock",
    "LockHold",
    "LockInfo",
    "Packed",
    "PackedArrays",
    "Part",
    "ProcessInfo",
    "ReadOnly",
    "Sender",
    "ShareStats",
    "Sharing",
    "Site",
    "StaleHandle",
    "Store",
    "StoreInfo",
    "StoreMismatch",
    "SubscriberInfo",
    "Subscription",
    "Teardown",
    "Topic",
    "TopicInfo",
    "WeakBlock",
    "__version__",
    "arenas",
    "block_of",
    "open",
    "pack",
    "pack_arrays",
    "share",
    "unlink",
]
