"""Every public method of every public class beside its floor.

The list is made from the classes (tests/process/calls.py), so that none can be forgotten: a
property is read, `_LOOPS` has what a loop may call, and whatever cannot be called again and again
on the same object is in `_ONCE`, called once on each of several.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import operator
import os
import pickle
import queue
import shutil
import statistics
import tempfile
import threading
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import flagstone
from benchmarks.harness import Bench, Measure, spread
from benchmarks.peers import empty_method
from tests.process import calls

LARGE = calls.LARGE
WORST = 30  # of the second table
SMALL = bytes(16)
KEY = "1"  # that a store of World has


class Empty:
    """Does nothing, in Python."""

    @property
    def value(self) -> int:
        return 1


async def nothing() -> None:
    pass


def _floors(arena: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """What the least is that such a call could take: a statement, and its names."""
    memory, target = np.ones(40_000), np.empty(40_000)
    three, simple, table = (bytes(24), bytes(24), bytes(8)), queue.SimpleQueue(), {KEY: SMALL}
    return {
        "an empty method": ("f()", {"f": empty_method(arena)}),
        "an empty property": ("e.value", {"e": Empty()}),
        "bytearray": ("f(b)", {"f": bytearray, "b": SMALL}),
        "memcpy of 320,000 bytes": ("f(a, b)", {"f": np.copyto, "a": target, "b": memory}),
        "np.frombuffer": ("f(b)", {"f": np.frombuffer, "b": bytes(64)}),
        "dict lookup": ("d[k]", {"d": table, "k": KEY}),
        "dict store": ("d[k] = v", {"d": table, "k": KEY, "v": SMALL}),
        "a list of three": ("list(d)", {"d": (1, 2, 3)}),
        "a list of 60 bytearrays": ("[f(16) for _ in r]", {"f": bytearray, "r": range(60)}),
        "repr of a str": ("repr(s)", {"s": "name"}),
        "hash of a str": ("hash(s)", {"s": "name"}),
        "== of bytes": ("a == b", {"a": bytes(24), "b": bytes(25)}),
        "a pickle of three bytes": (
            "loads(dumps(t))",
            {"loads": pickle.loads, "dumps": pickle.dumps, "t": three},
        ),
        "queue.SimpleQueue": ("q.put(b); q.get()", {"q": simple, "b": SMALL}),
        "threading.Lock": ("k.acquire(); k.release()", {"k": threading.Lock()}),
        "asyncio.run": ("run(f())", {"run": asyncio.run, "f": nothing}),
        "fork": ("f()", {"f": calls.in_child(lambda: None)}),
        "os.stat": ("f(p)", {"f": os.stat, "p": arena.path}),
    }


# What a loop may call: (statement, the names in it, the floor). `w` is a World of calls.py.
_LOOPS: dict[str, tuple[str, Callable[[Any], dict[str, Any]], str]] = {
    "Arena.alloc": ("f(100)", lambda w: {"f": w.arena.alloc}, "an empty method"),
    "Arena.empty": ("f(100)", lambda w: {"f": w.arena.empty}, "an empty method"),
    "Arena.put": ("f(b)", lambda w: {"f": w.arena.put, "b": SMALL}, "bytearray"),
    "Arena.dump": ("f(b)", lambda w: {"f": w.arena.dump, "b": [1]}, "a pickle of three bytes"),
    "Arena.get": (
        "f(h)",
        lambda w: {"f": w.arena.get, "h": _kept(w, w.block()).handle},
        "an empty method",
    ),
    "Arena.read": ("with f(): pass", lambda w: {"f": w.arena.read}, "an empty method"),
    "Arena.zeros": ("f(100)", lambda w: {"f": w.arena.zeros}, "bytearray"),
    "Arena.empty_like": (
        "f(a)",
        lambda w: {"f": w.arena.empty_like, "a": np.zeros(64)},
        "bytearray",
    ),
    "Arena.cache": (
        "f('objects', size=5000, merge=False)",
        lambda w: {"f": w.arena.cache},
        "dict lookup",
    ),
    "Arena.group": ("f(n)", lambda w: {"f": w.arena.group, "n": w.group().name}, "dict lookup"),
    "Arena.channel": (
        "f(n, capacity=16)",
        lambda w: {"f": w.arena.channel, "n": w.channel().name},
        "dict lookup",
    ),
    "Arena.store": ("f(n)", lambda w: {"f": w.arena.store, "n": w.store().name}, "dict lookup"),
    "Arena.topic": (
        "f(n, capacity=8)",
        lambda w: {"f": w.arena.topic, "n": w.topic().name},
        "dict lookup",
    ),
    "Arena.lock": ("f(n)", lambda w: {"f": w.arena.lock, "n": w.lock().name}, "dict lookup"),
    "Block.__array__": (
        "f(b)",
        lambda w: {"f": np.asarray, "b": w.block()},
        "np.frombuffer",
    ),
    "Block.__buffer__": ("f(b)", lambda w: {"f": memoryview, "b": w.block()}, "np.frombuffer"),
    "Block.__dask_tokenize__": (
        "f()",
        lambda w: {"f": w.block().__dask_tokenize__},
        "an empty method",
    ),
    "Block.__dlpack__": ("f(b)", lambda w: {"f": np.from_dlpack, "b": w.block()}, "np.frombuffer"),
    "Block.__dlpack_device__": (
        "f()",
        lambda w: {"f": w.block().__dlpack_device__},
        "an empty method",
    ),
    "Block.__getitem__": ("b[2:5]", lambda w: {"b": w.block()}, "np.frombuffer"),
    "Block.__complex__": ("f(b)", lambda w: {"f": complex, "b": _number(w)}, "np.frombuffer"),
    "Block.__float__": ("f(b)", lambda w: {"f": float, "b": _number(w)}, "np.frombuffer"),
    "Block.__int__": ("f(b)", lambda w: {"f": int, "b": _number(w)}, "np.frombuffer"),
    "Block.__iter__": ("list(b)", lambda w: {"b": w.block()}, "a list of three"),
    "Block.__setitem__": ("b[1] = 7", lambda w: {"b": w.block()}, "dict store"),
    "Block.part": ("f(s)", lambda w: {"f": w.block().part, "s": slice(2, 5)}, "np.frombuffer"),
    "Block.weak": ("f()", lambda w: {"f": w.block().weak}, "an empty method"),
    "Cache.alloc": ("f()", lambda w: {"f": w.cache.alloc}, "an empty method"),
    "Cache.alloc_many": ("f(60)", lambda w: {"f": w.cache.alloc_many}, "a list of 60 bytearrays"),
    "Cache.bind": ("f()", lambda w: {"f": w.cache.bind}, "dict lookup"),
    "GroupCache.alloc": ("f()", lambda w: {"f": w.bound.alloc}, "an empty method"),
    "GroupCache.alloc_many": (
        "f(60)",
        lambda w: {"f": w.bound.alloc_many},
        "a list of 60 bytearrays",
    ),
    "Channel.put": ("c.put(b); c.get()", lambda w: _pair(w), "queue.SimpleQueue"),
    "Channel.get": ("c.put(b); c.get()", lambda w: _pair(w), "queue.SimpleQueue"),
    "Channel.put_nowait": (
        "c.put_nowait(b); c.get_nowait()",
        lambda w: _pair(w),
        "queue.SimpleQueue",
    ),
    "Channel.get_nowait": (
        "c.put_nowait(b); c.get_nowait()",
        lambda w: _pair(w),
        "queue.SimpleQueue",
    ),
    "Channel.put_many": ("c.put_many(m); c.get_many(3)", lambda w: _pair(w), "queue.SimpleQueue"),
    "Channel.get_many": ("c.put_many(m); c.get_many(3)", lambda w: _pair(w), "queue.SimpleQueue"),
    "Channel.empty": ("c.empty()", lambda w: {"c": w.channel()}, "an empty method"),
    "Channel.full": ("c.full()", lambda w: {"c": w.channel()}, "an empty method"),
    "Channel.qsize": ("c.qsize()", lambda w: {"c": w.channel()}, "an empty method"),
    "Lock.acquire": (
        "k.acquire(); k.release()",
        lambda w: {"k": w.lock()},
        "threading.Lock",
    ),
    "Lock.release": (
        "k.acquire(); k.release()",
        lambda w: {"k": w.lock()},
        "threading.Lock",
    ),
    "Lock.__enter__": ("with k: pass", lambda w: {"k": w.lock()}, "threading.Lock"),
    "Lock.__exit__": ("with k: pass", lambda w: {"k": w.lock()}, "threading.Lock"),
    "Lock.locked": ("k.locked()", lambda w: {"k": w.lock()}, "an empty method"),
    "Topic.publish": ("t.publish(b); s.get()", lambda w: _published(w), "queue.SimpleQueue"),
    "Topic.latest": ("t.latest()", lambda w: _published(w, 1), "dict lookup"),
    "Subscription.get": ("t.publish(b); s.get()", lambda w: _published(w), "queue.SimpleQueue"),
    "Subscription.latest": (
        "t.publish(b); s.latest()",
        lambda w: _published(w),
        "queue.SimpleQueue",
    ),
    "Packed.__getitem__": ("p[1]", lambda w: {"p": w.sample("Packed")}, "dict lookup"),
    "Packed.__iter__": ("list(p)", lambda w: {"p": w.sample("Packed")}, "a list of three"),
    "PackedArrays.__getitem__": (
        "p[1]",
        lambda w: {"p": w.sample("PackedArrays")},
        "np.frombuffer",
    ),
    "PackedArrays.__iter__": (
        "list(p)",
        lambda w: {"p": w.sample("PackedArrays")},
        "a list of three",
    ),
    "Part.__array_ufunc__": (
        "f(p, 1)",
        lambda w: {"f": np.add, "p": w.block()[2:5]},
        "np.frombuffer",
    ),
    "Part.__array_wrap__": (
        "f(a)",
        lambda w: {"f": w.block()[2:5].__array_wrap__, "a": np.ones(3)},
        "an empty method",
    ),
    "Store.__contains__": ("k in s", lambda w: _keyed(w), "dict lookup"),
    "Store.__getitem__": ("s[k]", lambda w: _keyed(w), "dict lookup"),
    "Store.__setitem__": ("s[k] = b", lambda w: _keyed(w), "dict store"),
    "Store.block": ("s.block(k)", lambda w: _keyed(w), "dict lookup"),
    "Store.get": ("s.get(k)", lambda w: _keyed(w), "dict lookup"),
    "Store.get_or_put": ("s.get_or_put(k, dict)", lambda w: _keyed(w), "dict lookup"),
    "Store.put": ("s.put(k, b)", lambda w: _keyed(w), "dict store"),
    "Store.replace": ("s.replace(k, b)", lambda w: _keyed(w), "dict store"),
    "Store.setdefault": ("s.setdefault(k, b)", lambda w: _keyed(w), "dict lookup"),
    "Store.update": ("s.update(d)", lambda w: _keyed(w), "dict store"),
    "Store.pop": ("s[k] = b; s.pop(k)", lambda w: _keyed(w), "dict store"),
    "Store.__delitem__": ("s[k] = b; del s[k]", lambda w: _keyed(w), "dict store"),
    "Store.__iter__": ("list(s)", lambda w: {"s": w.store()}, "a list of three"),
    "Store.keys": ("list(s.keys())", lambda w: {"s": w.store()}, "a list of three"),
    "Store.values": ("list(s.values())", lambda w: {"s": w.store()}, "a list of three"),
    "Store.items": ("list(s.items())", lambda w: {"s": w.store()}, "a list of three"),
    "Store.wait": ("s.wait(k)", lambda w: _keyed(w), "dict lookup"),
    "WeakBlock.get": ("f()", lambda w: {"f": _kept(w, w.block()).weak().get}, "an empty method"),
    "block_of": (
        "f(a)",
        lambda w: {"f": flagstone.block_of, "a": _kept(w, w.block()).array},
        "an empty method",
    ),
}

# Called once on each of several objects that were made before: floor, and whose.
_ONCE: dict[str, tuple[str, ...]] = {
    "memcpy of 320,000 bytes": ("Sharing.dumps", "pack", "pack_arrays"),
    "asyncio.run": (
        *("Arena.aalloc", "Arena.adump", "Arena.aempty", "Arena.aempty_like"),
        *("Arena.aput", "Arena.azeros"),
        *("Cache.aalloc", "GroupCache.aalloc"),
        *("Channel.__aiter__", "Channel.__anext__", "Channel.aget", "Channel.aput"),
        *("Channel.aget_many", "Channel.aput_many"),
        *("Lock.__aenter__", "Lock.__aexit__", "Lock.aacquire"),
        *("Store.achanges", "Store.aget_or_put", "Store.await_key"),
        *("Subscription.__aiter__", "Subscription.__anext__", "Subscription.aget"),
        *("Teardown.__await__", "Topic.apublish"),
    ),
    "fork": ("Arena.__exit__", "Arena.close"),
    "os.stat": ("arenas", "open", "unlink"),
    "an empty method": (
        *("Arena.barrier", "Arena.check", "Arena.drop_in_flight", "Arena.in_flight"),
        *("Arena.shrink", "Arena.slabinfo", "Arena.snapshot", "Arena.synchronize"),
        *("Block.__arrow_c_stream__", "Block.__delitem__", "Block.free", "Block.load"),
        *("Block.table", "Cache.destroy", "Cache.shrink"),
        *("Channel.__iter__", "Channel.__next__", "Subscription.__iter__", "Subscription.__next__"),
        *("Channel.__exit__", "Channel.close", "Channel.destroy", "Channel.fileno"),
        *("Channel.leave", "Delivery.__exit__", "Delivery.__reduce__", "Delivery.done"),
        *("Group.__exit__", "Group.close", "Group.destroy", "Group.limit="),
        *("Lock.destroy", "Lock.leave"),
        *("Sharing.__exit__", "Sharing.close", "share"),
        *("Store.__exit__", "Store.changes", "Store.clear", "Store.destroy", "Store.leave"),
        "Store.popitem",
        *("Subscription.__exit__", "Subscription.__reduce__", "Subscription.close"),
        "Teardown.__reduce__",
        *("Subscription.fileno", "Teardown.wait", "Topic.__exit__", "Topic.close"),
        *("Topic.destroy", "Topic.leave", "Topic.subscribe"),
    ),
}
_ONCE_FLOOR = {key: floor for floor, keys in _ONCE.items() for key in keys}

# Methods that are called alike whosever they are: how, and the floor.
_ALIKE = {
    "__bool__": ("bool(one)", "an empty method"),
    "__bytes__": ("bytes(one)", "an empty method"),
    "__copy__": ("one.__copy__()", "an empty method"),
    "__deepcopy__": ("one.__deepcopy__({})", "bytearray"),
    "__enter__": ("one.__enter__()", "an empty method"),
    "__eq__": ("one == one", "== of bytes"),
    "__ge__": ("one >= one", "== of bytes"),
    "__gt__": ("one > one", "== of bytes"),
    "__hash__": ("hash(one)", "hash of a str"),
    "__le__": ("one <= one", "== of bytes"),
    "__len__": ("len(one)", "an empty method"),
    "__lt__": ("one < one", "== of bytes"),
    "__ne__": ("one != one", "== of bytes"),
    "__reduce__": ("loads(dumps(one))", "a pickle of three bytes"),
    "__reduce_ex__": ("loads(dumps(one))", "a pickle of three bytes"),
    "__repr__": ("repr(one)", "repr of a str"),
}


def floor_of(key: str) -> str | None:
    """What a call is measured beside; None: nobody has said how it is measured."""
    if key in _LOOPS:
        return _LOOPS[key][2]
    if key in _ONCE_FLOOR:
        return _ONCE_FLOOR[key]
    if calls.is_read(key):
        return "an empty property"
    return _ALIKE.get(key.partition(".")[2], (None, None))[1]


def named() -> set[str]:
    """The calls that are named here."""
    return {*_LOOPS, *_ONCE_FLOOR}


def every_call() -> list[str]:
    """Those that the classes have of their own, and those of a base of Python's that are named:
    `Block.__buffer__` came with Python 3.12.
    """
    return sorted({*calls.public_names(), *filter(_is_there, calls.CALLS)})


def _is_there(key: str) -> bool:
    try:
        operator.attrgetter(key.rstrip("="))(flagstone)
    except AttributeError:
        return False
    return True


def _kept(world: Any, block: Any) -> Any:
    world.kept.append(block)
    return block


def _number(world: Any) -> Any:
    return world.arena.put(np.array(7))


def _pair(world: Any) -> dict[str, Any]:
    channel = world.channel()
    channel.get_many(3)
    return {"c": channel, "b": SMALL, "m": [SMALL] * 3}


def _published(world: Any, messages: int = 0) -> dict[str, Any]:
    topic = world.topic()
    subscription = topic.subscribe(slow="drop")
    world.made.append(subscription.close)
    for _ in range(messages):
        topic.publish(SMALL)
    return {"t": topic, "s": subscription, "b": SMALL}


def _keyed(world: Any) -> dict[str, Any]:
    store = world.store()
    store[KEY] = SMALL
    return {"s": store, "k": KEY, "b": SMALL, "d": {KEY: SMALL}}


class _World(calls.World):
    """One for many calls: what one needs stays until the round is over."""

    def __init__(self, arena: Any) -> None:
        super().__init__(arena)
        self.kept: list[Any] = []
        self.made: list[Callable[[], Any]] = []

    def prepared(self, key: str) -> Callable[[], Any]:
        """As `prepare`, without forgetting what was prepared before."""
        kept, made = self.kept, self.made
        call: Callable[[], Any] = self.prepare(key)
        self.kept, self.made = kept + self.kept, made + self.made
        return call


# ---- measuring


def run(bench: Bench) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fst-bench-", dir="/dev/shm"))
    try:
        with flagstone.open(folder / "calls", capacity="256MiB", create=True) as arena:
            _all(bench, arena)
            _pickles(bench, arena)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pickles(bench: Bench, arena: Any) -> None:
    """What of a Block's pickle is pickle's own: it names a callable, and every class does that."""
    names = {"loads": pickle.loads, "dumps": pickle.dumps}
    objects = {
        "three bytes": (bytes(20), bytes(3), bytes(30)),
        "a range": range(3),
        "a cache's Block": arena.cache("pickled", size=100).alloc(),
        "a put Block": arena.put(SMALL),
    }
    samples = bench.compare(
        "a pickle, and its load",
        {
            name: bench.statement("loads(dumps(one))", one=one, **names)
            for name, one in objects.items()
        },
        base="three bytes",
        note="A range of Python's own is pickled as a name and its arguments, as a Block is; the"
        " name is looked up, and imported, by each dump and by each load.",
    )
    for name in ("a cache's Block", "a put Block"):
        ratio = samples.ratio(name, "a range")["median"]
        bench.target(f"pickle and load of {name}, in that of a range", ratio, 1.5)


def _all(bench: Bench, arena: Any) -> None:
    world = _World(arena)
    floors = {name: _timer(bench, code, names) for name, (code, names) in _floors(arena).items()}
    keys = every_call()
    measures = {key: _measure(bench, world, key) for key in keys}
    taken: dict[str, list[float]] = {key: [] for key in keys}
    beside: dict[str, list[float]] = {key: [] for key in keys}
    gc.collect()
    gc.disable()
    try:
        for number in range(bench.settings.rounds):
            at = number * len(keys) // bench.settings.rounds
            for key in keys[at:] + keys[:at]:
                taken[key].append(measures[key]())
                beside[key].append(floors[floor_of(key) or ""]())
    finally:
        gc.enable()
        world.clean()
    _report(bench, taken, beside)


def _timer(bench: Bench, code: str, names: dict[str, Any]) -> Measure:
    """Nanoseconds of one run of a statement, about a third of a usual sample."""
    timer = timeit.Timer(code, globals=names)
    timer.timeit(1)
    count, took = 1, 0.0
    while (took := timer.timeit(count)) < 0.0005 and count < 1 << 20:
        count *= 4
    count = max(1, round(count * bench.settings.sample / 3 / max(took, 1e-9)))
    return lambda: timer.timeit(count) / count * 1e9


def _measure(bench: Bench, world: _World, key: str) -> Measure:
    if key in _LOOPS:
        code, names, _ = _LOOPS[key]
        return _timer(bench, code, names(world))
    if key in _ONCE_FLOOR:
        return functools.partial(_once, world, key, 2 if bench.settings.quick else 5)
    cls, _, name = key.partition(".")
    code = f"one.{name}" if calls.is_read(key) else _ALIKE[name][0]
    one = world.sample(cls)
    return _timer(bench, code, {"one": one, "loads": pickle.loads, "dumps": pickle.dumps})


def _once(world: _World, key: str, count: int) -> float:
    """Nanoseconds of a call that changes what it is called on: the median of some."""
    kept, made, world.kept, world.made = world.kept, world.made, [], []
    samples = []
    try:
        for call in [world.prepared(key) for _ in range(count)]:
            began = time.perf_counter_ns()
            call()
            samples.append(time.perf_counter_ns() - began)
            del call
    finally:
        world.clean()
        world.kept, world.made = kept, made
    return float(statistics.median(samples))


# ---- the report


def _report(bench: Bench, taken: dict[str, list[float]], beside: dict[str, list[float]]) -> None:
    rows = []
    for key, samples in taken.items():
        ratios = spread(list(map(operator.truediv, samples, beside[key])))
        own = spread(samples)
        how = "once" if key in _ONCE_FLOOR else _LOOPS[key][0] if key in _LOOPS else ""
        rows.append(
            [key, how, own["median"], own["low"], own["high"], floor_of(key), *ratios.values()]
        )
    columns = ["call", "as", "ns", "low", "high", "floor", "times it", "low", "high"]
    loops = sorted((row for row in rows if row[1] != "once"), key=lambda row: -row[6])
    bench.table(
        f"the {WORST} farthest from their floors, of those that a loop may call",
        columns,
        loops[:WORST],
        note="Medians, and quartiles as low and high: of nanoseconds, and of the ratios of call and"
        " floor in each round. The loop's share is in every figure.",
    )
    bench.table(
        "every public call",
        columns,
        rows,
        note='"once": it changes what it is called on, so that it is called once on each of several'
        " that were made before, cold, with the clock's share.",
    )
    bench.tables[-1]["samples"] = {"calls": taken, "floors": beside}
    _targets(bench, taken, beside)


def _targets(bench: Bench, taken: dict[str, list[float]], beside: dict[str, list[float]]) -> None:
    def ratio(key: str, base: list[float]) -> float:
        return statistics.median(map(operator.truediv, taken[key], base))

    bound = taken["GroupCache.alloc"]
    bench.target("arena.alloc(100), in GroupCache.alloc", ratio("Arena.alloc", bound), 1.5)
    bench.target("arena.put(16 bytes), in GroupCache.alloc", ratio("Arena.put", bound), 6)
    got = taken["Arena.get"]
    bench.target("store.block, in arena.get", ratio("Store.block", got), 1.2)
    pickled = ratio("Block.__reduce__", beside["Block.__reduce__"])
    bench.target("pickle and load of a Block, in that of three bytes", pickled, 2)
    replaced = statistics.median(taken["Store.__setitem__"])
    bench.target("store[key] = 16 bytes, replaced, ns", replaced, 3000)
