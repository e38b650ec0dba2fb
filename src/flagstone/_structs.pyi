"""What the binding's functions of facts return: structs of the core's public headers, as dicts.

A `TypedDict` has the fields of its struct in their order; the comments in the headers say what they
mean. Text is bytes, up to a zero byte; `uuid` and `found` may have zeros in them, and are whole.
Sizes are bytes, and times are nanoseconds.

There is no such module when a program runs: it is for annotations alone.
"""

from typing import TypedDict

class _ArenaInfo(TypedDict):
    uuid: bytes
    path: bytes
    capacity: int
    used: int
    committed: int
    control: int
    created_at: int
    readonly: bool
    lasting: bool
    anonymous: bool
    unlinked: bool
    batches: int
    grace_periods: int
    released_objects: int
    released_bytes: int
    deaths: int
    batch_last_ns: int
    groups_waiting: int
    hold_wall_lock: bytes
    hold_cpu_lock: bytes
    hold_wall_ns: int
    hold_cpu_ns: int
    stalled_pid: int
    stalled_tid: int
    stalled_ns: int
    batch_pid: int
    batch_ns: int

class _CacheInfo(TypedDict):
    id: int
    name: bytes
    format: bytes
    format_bytes: int
    size: int
    align: int
    stride: int
    flags: int
    state: int
    merged_into: int
    aliases: int
    slabs: int
    objects: int
    allocated: int
    bytes: int
    children: int

class _GroupInfo(TypedDict):
    id: int
    parent: int
    name: bytes
    state: int
    released: bool
    flags: int
    children: int
    limit: int
    usage: int
    peak: int
    limit_hits: int
    failed: int
    reclaims: int
    messages_expire: int

class _Batch(TypedDict):
    number: int
    groups: int
    children: int
    objects: int
    bytes: int
    began: int
    duration: int
    grace_ns: int

class _ChildCounts(TypedDict):
    live: int
    deactivated: int
    queued: int
    releasing: int

class _Keeper(TypedDict):
    group: int
    pid: int
    command: bytes
    references: int
    bytes: int
    ended_ns: int
    for_children: bool

class _Use(TypedDict):
    slot: int
    cache: int
    group: int
    objects: int
    bytes: int

class _DebugInfo(TypedDict):
    oid: int
    cache: int
    group: int
    nbytes: int
    allocated: bool
    allocated_site: int
    freed_site: int
    pid: int
    freed_pid: int
    thread: int
    freed_thread: int
    allocated_at: int
    freed_at: int

class _Fault(TypedDict):
    uuid: bytes
    kind: int
    about: _DebugInfo
    offset: int
    count: int
    found_bytes: int
    found: bytes
    expected: int
    holders: list[int]
    finder: int
    found_at: int

class _Burial(TypedDict):
    number: int
    pid: int
    reaper: int
    uid: int
    command: bytes
    noticed_at: int
    finished_at: int
    objects: int
    bytes: int
    groups: int
    tended: bool

class _Process(TypedDict):
    slot: int
    pid: int
    uid: int
    alive: bool
    self: bool
    readonly: bool
    command: bytes
    arguments: bytes
    started: int
    references: int
    dropped: int
    bytes: int
    threads: int

class _Peek(TypedDict):
    uuid: bytes
    capacity: int
    used: int
    committed: int
    created_at: int
    processes: int
    lasting: bool
    orphan: bool

class _ChannelFacts(TypedDict):
    id: int
    group: int
    name: bytes
    state: int
    capacity: int
    inline_bytes: int
    flags: int
    waiting: int
    taken: int
    closed: bool
    bytes: int

class _SubscriberFacts(TypedDict):
    slow: int
    own: bool
    pid: int
    command: bytes
    lag: int
    lost: int
    holds: bool

class _LockOwner(TypedDict):
    owned: bool
    own: bool
    dead: bool
    pid: int
    command: bytes

class _StoreFacts(TypedDict):
    id: int
    group: int
    name: bytes
    state: int
    flags: int
    keys: int
    version: int
    bytes: int
    slots: int
