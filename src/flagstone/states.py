"""The core's numbers, by name: states of descriptors, and flags.

Each is FST_ and its name in the core, and `make lint` compares the values.
"""

from __future__ import annotations

from typing import Final

CACHE_LIVE: Final = 1
CACHE_ENDED: Final = 3
CACHE_ALIAS: Final = 4
CACHE_NAMELESS: Final = 5
CACHE_RETIRED: Final = 6

CACHE_TYPESAFE_BY_RCU: Final = 1
CACHE_NO_MERGE: Final = 2
CACHE_SIZE_CLASS: Final = 4
CACHE_CONSISTENCY: Final = 16
CACHE_RED_ZONE: Final = 32
CACHE_POISON: Final = 64
CACHE_STORE_USER: Final = 128

GROUP_LIVE: Final = 1
GROUP_CLOSED: Final = 2
GROUP_DESTROYED: Final = 3

GROUP_LASTING: Final = 1
GROUP_CGROUP: Final = 2

CHANNEL_LIVE: Final = 1

CHANNEL_ACK: Final = 1
CHANNEL_LASTING: Final = 2
CHANNEL_TOPIC: Final = 4
CHANNEL_LOCK: Final = 8
CHANNEL_ANY_CAPACITY: Final = 16
CHANNEL_ANY_INLINE: Final = 32

STORE_LIVE: Final = 1

STORE_EVICTS: Final = 1
STORE_OWNS: Final = 2
