"""Every public way into the package, and how a test calls it: made from the classes themselves, so
that one which comes later is either a property, which is read, or has an entry, or is missed.
"""

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import operator
import os
import pickle
import re
import signal

import numpy as np

import flagstone

LARGE = 300_000  # bytes: pages of its own
SIZE = 5000  # of an object in a cache: few lie in a slab

# Said by Python, NumPy's or Cython's machinery, not by the package: `__release_buffer__` (3.12) is
# what a memoryview calls when it is released, and so is called, and measured, with `__buffer__`.
_NOT_OURS = {
    "__abstractmethods__",
    "__annotations__",
    "__class_getitem__",
    "__del__",
    "__dict__",
    "__doc__",
    "__final__",
    "__init__",
    "__module__",
    "__new__",
    "__orig_bases__",
    "__pyx_vtable__",
    "__reduce_cython__",
    "__release_buffer__",
    "__setstate__",
    "__setstate_cython__",
    "__slots__",
    "__static_attributes__",
    "__firstlineno__",
    "__weakref__",
}


def public_classes():
    """Those with methods of their own: neither exceptions nor plain facts."""
    for name in flagstone.__all__:
        value = getattr(flagstone, name)
        if not inspect.isclass(value) or issubclass(value, BaseException):
            continue
        if not dataclasses.is_dataclass(value) and not issubclass(value, tuple):
            yield value


def public_names():
    """ "Class.method" of each, "Class.property" and "Class.property=", and the functions."""
    found = []
    for value in map(functools.partial(getattr, flagstone), flagstone.__all__):
        if inspect.isroutine(value):
            found.append(value.__name__)
    for cls in public_classes():
        for part in cls.__mro__:
            if not part.__module__.startswith("flagstone"):
                continue
            for name, value in vars(part).items():
                if name in _NOT_OURS or (name.startswith("_") and not name.startswith("__")):
                    continue
                if value is None:  # says that there is none: `__contains__ = None`
                    continue
                found.append(f"{cls.__name__}.{name}")
                if isinstance(value, property) and value.fset is not None:
                    found.append(f"{cls.__name__}.{name}=")
    return sorted(set(found))


def is_read(key):
    """Whether it is a property, or the like, that is only read."""
    cls, _, name = key.partition(".")
    value = inspect.getattr_static(getattr(flagstone, cls), name, None) if name else None
    return value is not None and not callable(value) and not isinstance(value, staticmethod)


def time_of(key):
    """The argument by which the call is told how long it may wait, or None."""
    if key in ("Store.get_or_put", "Store.aget_or_put"):
        return None  # its wait is for who makes the value
    cls, _, name = key.partition(".")
    call = getattr(flagstone, cls)
    call = getattr(call, name, None) if name else call
    try:
        names = list(inspect.signature(call).parameters)
    except (TypeError, ValueError):  # Cython's say it in the first line of their text
        first = (getattr(call, "__doc__", None) or "").partition("\n")[0]
        names = re.findall(r"\b(?:wait|timeout)\b", first) if "(" in first else []
    return next((name for name in names if name in ("wait", "timeout")), None)


class World:
    """What the calls need, in one process that has an arena: made anew for each call."""

    def __init__(self, arena):
        self.arena = arena
        self.cache = used_cache(arena)
        self.bound = self.cache.bind()
        self.number = 0
        self.kept, self.made, self.channels, self.stores = [], [], [], []

    def name(self):
        self.number += 1
        return f"new-{self.number}"

    def group(self, used=True):
        group = self.arena.group(self.name())
        self.made.append(group.destroy)
        if used:
            self.kept.append(self.cache.alloc(group))
        return group

    def block(self):
        block = self.cache.alloc()
        block.array[:8] = 1
        return block

    def channel(self, **options):
        options.setdefault("capacity", 16)
        channel = self.arena.channel(self.name(), **options)
        self.made.append(channel.leave)
        for item in range(3):
            channel.put(item)
        self.channels.append(channel)
        return channel

    def store(self):
        name = self.name()
        store = self.arena.store(name)
        self.made.append(lambda: self.arena.store(name).destroy())  # leaving it ends nothing
        for item in range(3):
            store[str(item)] = item
        self.stores.append(store)
        return store

    def ended_cache(self):
        cache = ended_cache(self.arena)
        self.made.append(functools.partial(_destroy, cache))
        cache.alloc()
        return cache

    def ticket(self):
        group = self.arena.group(self.name())
        self.cache.alloc(group)
        return group.destroy()

    def lock(self):
        lock = self.arena.lock(self.name())
        self.made.append(lock.destroy)
        return lock

    def held_lock(self):
        lock = self.lock()
        lock.acquire()
        return lock

    def topic(self):
        topic = self.arena.topic(self.name(), capacity=8)
        self.made.append(topic.leave)
        return topic

    def subscription(self):
        topic = self.topic()
        subscription = topic.subscribe()
        self.made.append(subscription.close)
        topic.publish(b"one")
        topic.publish(b"two")
        topic.close()
        return subscription

    def sharing(self):
        sharing = flagstone.share(self.arena)
        self.made.append(sharing.close)
        return sharing

    def sample(self, cls):
        """An object of the class."""
        return {
            "Arena": lambda: self.arena,
            "Block": self.block,
            "Cache": lambda: self.cache,
            "Channel": self.channel,
            "Delivery": lambda: self.channel(ack=True).get(),
            "Group": self.group,
            "GroupCache": lambda: self.bound,
            "Handle": lambda: self.block().handle,
            "Lock": self.lock,
            "Subscription": self.subscription,
            "Topic": self.topic,
            "Packed": lambda: flagstone.pack(self.arena, ["one", "two"]),
            "PackedArrays": lambda: flagstone.pack_arrays(
                self.arena, [np.arange(4), np.ones(2, int)]
            ),
            "Part": lambda: self.block()[2:7],
            "Sharing": self.sharing,
            "Store": self.store,
            "Teardown": self.ticket,
            "WeakBlock": lambda: self.kept.append(self.block()) or self.kept[-1].weak(),
        }[cls]()

    def prepare(self, key):
        """A function that makes the call; all it needs is there."""
        self.kept, self.made, self.channels, self.stores = [], [], [], []
        cls, _, name = key.partition(".")
        if key in CALLS:
            return CALLS[key](self)
        one = self.sample(cls)
        if name in _ALIKE:
            return functools.partial(_ALIKE[name], one)
        return functools.partial(getattr, one, name)

    def clean(self):
        """What was prepared goes."""
        for one in (self.kept, self.channels, self.stores):
            one.clear()
        while self.made:
            with contextlib.suppress(flagstone.Closed):  # it was left, or destroyed
                self.made.pop()()


def used_cache(arena):
    """The one that most calls are about."""
    return arena.cache("objects", size=SIZE, merge=False)


def ended_cache(arena):
    """The one whose destroy() is called, and held up."""
    return arena.cache("ended", size=SIZE, merge=False)


def _destroy(cache):
    try:
        cache.destroy()
    except flagstone.Closed:  # by the call
        pass


def _renewed(one):
    pickle.loads(pickle.dumps(one))


# Methods that are called in the same way whosever they are.
_ALIKE = {
    "__bool__": bool,
    "__bytes__": bytes,
    "__copy__": lambda one: one.__copy__(),
    "__deepcopy__": lambda one: one.__deepcopy__({}),
    "__enter__": lambda one: one.__enter__(),
    "__eq__": lambda one: one == one,
    "__ge__": lambda one: one >= one,
    "__gt__": lambda one: one > one,
    "__hash__": hash,
    "__le__": lambda one: one <= one,
    "__len__": len,
    "__lt__": lambda one: one < one,
    "__ne__": lambda one: one != one,
    "__reduce__": _renewed,
    "__reduce_ex__": _renewed,
    "__repr__": repr,
}


def has_entry(key):
    return key in CALLS or is_read(key) or key.partition(".")[2] in _ALIKE


def _awaited(call):
    """A coroutine function as a function."""

    def run(*arguments, **options):
        async def main():
            return await call(*arguments, **options)

        return asyncio.run(main())

    return run


def in_child(function):
    """A function that runs another one in a forked child, which has to end well."""

    def run():
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(50)
            status = 1
            try:
                function()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return run


def _opened(world):
    name = world.name()
    call = functools.partial(world.arena.cache, name, size=96, merge=False, init=bytes(96))
    world.made.append(lambda: call().destroy())
    return call


def _group_opened(world):
    name = world.name()
    world.made.append(lambda: world.arena.group(name).destroy())
    return functools.partial(world.arena.group, name, limit="8MiB")


def _channel_opened(world):
    name = world.name()

    def open_and_leave():
        world.arena.channel(name, capacity=4).leave()

    return open_and_leave


def _read(world):
    def section():
        with world.arena.read():
            pass

    return section


def _raises(error, function, *arguments):
    def run():
        try:
            function(*arguments)
        except error:
            return
        raise AssertionError("it raised nothing")

    return run


def _in_flight(world):
    world.kept.append(pickle.dumps(world.block()))


def _dropped(world):
    _in_flight(world)
    return world.arena.drop_in_flight


def _exit(one):
    return functools.partial(one.__exit__, None, None, None)


def _array(world):
    return np.arange(40_000.0)


def _put_own(world):
    return functools.partial(world.channel().put, world.block())


def _resolved(world):
    block = world.block()
    world.kept.append(block)
    return functools.partial(world.arena.get, block.handle)


def _all_of(world):
    channel = world.channel()
    channel.close()

    async def main():
        return [item async for item in channel]

    return lambda: asyncio.run(main())


def _loop(world):
    channel = world.channel()
    channel.close()
    return functools.partial(list, channel)


def _next(world):
    return _awaited(world.channel().__anext__)


def _locked(world):
    name = world.name()

    def open_and_leave():
        world.arena.lock(name).destroy()

    return open_and_leave


def _topic_opened(world):
    name = world.name()

    def open_and_leave():
        world.arena.topic(name, capacity=4).leave()

    return open_and_leave


def _acquired(lock):
    def acquire():
        lock.acquire()
        lock.release()

    return acquire


def _aacquired(lock):
    async def acquire(**options):
        if await lock.aacquire(**options):
            lock.release()

    return acquire


def _aentered(lock):
    async def enter():
        async with lock:
            pass

    return enter


def _entered(lock):
    def enter():
        with lock:
            pass

    return enter


def _latest(topic):
    topic.publish(b"x")
    return topic.latest


def _subscribed(topic):
    def subscribe():
        topic.subscribe().close()

    return subscribe


def _each(subscription):
    async def main():
        return [item async for item in subscription]

    return lambda: asyncio.run(main())


def _share(world):
    def share():
        flagstone.share(world.arena).close()

    return share


def _sent(world):
    sharing = world.sharing()

    def send():
        pickle.loads(sharing.dumps(np.zeros(40_000)))

    return send


def _limit(world):
    return functools.partial(setattr, world.group(), "limit", "9MiB")


def _listed(view):
    return list(view)


def _weak(world):
    block = world.block()
    world.kept.append(block)
    return block.weak().get


def _awaited_ticket(world):
    ticket = world.ticket()

    async def main():
        async with asyncio.timeout(20):
            await ticket

    return lambda: asyncio.run(main())


CALLS = {
    "arenas": lambda w: functools.partial(flagstone.arenas, os.path.dirname(w.arena.path)),
    "block_of": lambda w: functools.partial(flagstone.block_of, w.block().array),
    "open": lambda w: functools.partial(flagstone.open, w.arena.path),
    "pack": lambda w: functools.partial(flagstone.pack, w.arena, range(100)),
    "pack_arrays": lambda w: functools.partial(flagstone.pack_arrays, w.arena, [_array(w)]),
    "share": _share,
    "unlink": lambda w: functools.partial(flagstone.unlink, w.arena.path + "-other"),
    "Arena.__exit__": lambda w: in_child(_exit(w.arena)),
    "Arena.aalloc": lambda w: _awaited(functools.partial(w.arena.aalloc, LARGE)),
    "Arena.adump": lambda w: _awaited(functools.partial(w.arena.adump, [_array(w)])),
    "Arena.aempty": lambda w: _awaited(functools.partial(w.arena.aempty, 40_000)),
    "Arena.aempty_like": lambda w: _awaited(functools.partial(w.arena.aempty_like, _array(w))),
    "Arena.alloc": lambda w: functools.partial(w.arena.alloc, LARGE),
    "Arena.aput": lambda w: _awaited(functools.partial(w.arena.aput, _array(w))),
    "Arena.azeros": lambda w: _awaited(functools.partial(w.arena.azeros, 40_000)),
    "Arena.barrier": lambda w: w.arena.barrier,
    "Arena.cache": _opened,
    "Arena.channel": _channel_opened,
    "Arena.check": lambda w: w.arena.check,
    "Arena.close": lambda w: in_child(w.arena.close),
    "Arena.dump": lambda w: functools.partial(w.arena.dump, [_array(w)]),
    "Arena.drop_in_flight": _dropped,
    "Arena.empty": lambda w: functools.partial(w.arena.empty, 40_000),
    "Arena.empty_like": lambda w: functools.partial(w.arena.empty_like, _array(w)),
    "Arena.get": _resolved,
    "Arena.group": _group_opened,
    "Arena.in_flight": lambda w: w.arena.in_flight,
    "Arena.put": lambda w: functools.partial(w.arena.put, _array(w)),
    "Arena.read": _read,
    "Arena.shrink": lambda w: w.arena.shrink,
    "Arena.store": lambda w: functools.partial(w.arena.store, w.name()),
    "Arena.slabinfo": lambda w: w.arena.slabinfo,
    "Arena.snapshot": lambda w: w.arena.snapshot,
    "Arena.synchronize": lambda w: w.arena.synchronize,
    "Block.__array__": lambda w: functools.partial(np.asarray, w.block()),
    "Block.__arrow_c_stream__": lambda w: _raises(TypeError, w.block().__arrow_c_stream__),
    "Block.__buffer__": lambda w: functools.partial(memoryview, w.block()),
    "Block.__dask_tokenize__": lambda w: w.block().__dask_tokenize__,
    **{
        f"Block.__{number.__name__}__": lambda w, number=number: _raises(
            TypeError, number, w.block()
        )
        for number in (int, float, complex)  # of several elements
    },
    "Block.__iter__": lambda w: functools.partial(list, w.block()),
    "Block.__delitem__": lambda w: _raises(NotImplementedError, operator.delitem, w.block(), 0),
    "Block.__dlpack__": lambda w: functools.partial(np.from_dlpack, w.block()),
    "Block.__dlpack_device__": lambda w: w.block().__dlpack_device__,
    "Block.__getitem__": lambda w: functools.partial(operator.getitem, w.block(), slice(2, 5)),
    "Block.__setitem__": lambda w: functools.partial(operator.setitem, w.block(), 1, 7),
    "Block.free": lambda w: w.block().free,
    "Block.load": lambda w: _raises(TypeError, w.block().load),
    "Block.part": lambda w: functools.partial(w.block().part, slice(2, 5)),
    "Block.table": lambda w: _raises(TypeError, getattr, w.block(), "table"),
    "Block.weak": lambda w: w.block().weak,
    "Cache.aalloc": lambda w: _awaited(w.cache.aalloc),
    "Cache.alloc": lambda w: w.cache.alloc,
    "Cache.alloc_many": lambda w: functools.partial(w.cache.alloc_many, 60),
    "Cache.bind": lambda w: functools.partial(w.cache.bind, w.group(used=False)),
    "Cache.destroy": lambda w: functools.partial(_destroy, w.ended_cache()),
    "Cache.shrink": lambda w: w.cache.shrink,
    "Channel.__aiter__": _all_of,
    "Channel.__anext__": _next,
    "Channel.__exit__": lambda w: _exit(w.channel()),
    "Channel.__iter__": _loop,
    "Channel.__next__": lambda w: functools.partial(next, w.channel()),
    "Channel.aget": lambda w: _awaited(w.channel().aget),
    "Channel.aget_many": lambda w: _awaited(functools.partial(w.channel().aget_many, 2)),
    "Channel.aput_many": lambda w: _awaited(
        functools.partial(w.channel().aput_many, [b"x", [b"y"]])
    ),
    "Channel.aput": lambda w: _awaited(functools.partial(w.channel().aput, b"x")),
    "Channel.close": lambda w: w.channel().close,
    "Channel.destroy": lambda w: w.channel().destroy,
    "Channel.empty": lambda w: w.channel().empty,
    "Channel.fileno": lambda w: w.channel().fileno,
    "Channel.full": lambda w: w.channel().full,
    "Channel.get": lambda w: w.channel().get,
    "Channel.get_many": lambda w: functools.partial(w.channel().get_many, 2),
    "Channel.get_nowait": lambda w: w.channel().get_nowait,
    "Channel.leave": lambda w: w.channel().leave,
    "Channel.put": _put_own,
    "Channel.put_many": lambda w: functools.partial(w.channel().put_many, [b"x", b"y"]),
    "Channel.put_nowait": lambda w: functools.partial(w.channel().put_nowait, b"x"),
    "Channel.qsize": lambda w: w.channel().qsize,
    "Delivery.__exit__": lambda w: _exit(w.sample("Delivery")),
    "Delivery.__reduce__": lambda w: _raises(TypeError, pickle.dumps, w.sample("Delivery")),
    "Delivery.done": lambda w: w.sample("Delivery").done,
    "Group.__exit__": lambda w: _exit(w.group()),
    "Group.close": lambda w: w.group().close,
    "Group.destroy": lambda w: w.group().destroy,
    "Group.limit=": _limit,
    "GroupCache.aalloc": lambda w: _awaited(w.bound.aalloc),
    "GroupCache.alloc": lambda w: w.bound.alloc,
    "GroupCache.alloc_many": lambda w: functools.partial(w.bound.alloc_many, 60),
    "Arena.lock": _locked,
    "Arena.topic": _topic_opened,
    "Arena.zeros": lambda w: functools.partial(w.arena.zeros, 40_000),
    "Lock.__aenter__": lambda w: _awaited(_aentered(w.lock())),
    "Lock.__aexit__": lambda w: _awaited(
        functools.partial(w.held_lock().__aexit__, None, None, None)
    ),
    "Lock.aacquire": lambda w: _awaited(_aacquired(w.lock())),
    "Lock.__enter__": lambda w: _entered(w.lock()),
    "Lock.__exit__": lambda w: _exit(w.held_lock()),
    "Lock.acquire": lambda w: _acquired(w.lock()),
    "Lock.destroy": lambda w: w.lock().destroy,
    "Lock.leave": lambda w: w.lock().leave,
    "Lock.locked": lambda w: w.lock().locked,
    "Lock.release": lambda w: w.held_lock().release,
    "Subscription.__aiter__": lambda w: _each(w.subscription()),
    "Subscription.__anext__": lambda w: _awaited(w.subscription().__anext__),
    "Subscription.__exit__": lambda w: _exit(w.subscription()),
    "Subscription.__iter__": lambda w: functools.partial(iter, w.subscription()),
    "Subscription.__next__": lambda w: functools.partial(next, w.subscription()),
    "Subscription.__reduce__": lambda w: _raises(TypeError, pickle.dumps, w.subscription()),
    "Subscription.aget": lambda w: _awaited(w.subscription().aget),
    "Subscription.close": lambda w: w.subscription().close,
    "Subscription.fileno": lambda w: w.subscription().fileno,
    "Subscription.latest": lambda w: w.subscription().latest,
    "Subscription.get": lambda w: w.subscription().get,
    "Topic.__exit__": lambda w: _exit(w.topic()),
    "Topic.apublish": lambda w: _awaited(functools.partial(w.topic().apublish, b"x")),
    "Topic.close": lambda w: w.topic().close,
    "Topic.destroy": lambda w: w.topic().destroy,
    "Topic.latest": lambda w: _latest(w.topic()),
    "Topic.leave": lambda w: w.topic().leave,
    "Topic.publish": lambda w: functools.partial(w.topic().publish, b"x"),
    "Topic.subscribe": lambda w: _subscribed(w.topic()),
    "Packed.__getitem__": lambda w: functools.partial(operator.getitem, w.sample("Packed"), 1),
    "Packed.__iter__": lambda w: functools.partial(list, w.sample("Packed")),
    "PackedArrays.__getitem__": lambda w: functools.partial(
        operator.getitem, w.sample("PackedArrays"), 1
    ),
    "PackedArrays.__iter__": lambda w: functools.partial(list, w.sample("PackedArrays")),
    "Part.__array_ufunc__": lambda w: functools.partial(np.add, w.block()[2:5], 1),
    "Part.__array_wrap__": lambda w: functools.partial(w.block()[2:5].__array_wrap__, np.ones(3)),
    "Sharing.__exit__": lambda w: _exit(w.sharing()),
    "Sharing.close": lambda w: w.sharing().close,
    "Sharing.dumps": _sent,
    "Store.__contains__": lambda w: functools.partial(operator.contains, w.store(), "1"),
    "Store.__iter__": lambda w: functools.partial(_listed, w.store()),
    "Store.__delitem__": lambda w: functools.partial(operator.delitem, w.store(), "1"),
    "Store.__getitem__": lambda w: functools.partial(operator.getitem, w.store(), "1"),
    "Store.__exit__": lambda w: _exit(w.store()),
    "Store.__setitem__": lambda w: functools.partial(operator.setitem, w.store(), "1", _array(w)),
    "Store.block": lambda w: functools.partial(w.store().block, "1"),
    "Store.achanges": lambda w: _awaited(w.store().achanges),
    "Store.aget_or_put": lambda w: _awaited(functools.partial(w.store().aget_or_put, "new", dict)),
    "Store.await_key": lambda w: _awaited(functools.partial(w.store().await_key, "1")),
    "Store.changes": lambda w: w.store().changes,
    "Store.clear": lambda w: w.store().clear,
    "Store.destroy": lambda w: w.store().destroy,
    "Store.get": lambda w: functools.partial(w.store().get, "1"),
    "Store.get_or_put": lambda w: functools.partial(w.store().get_or_put, "new", dict),
    "Store.items": lambda w: functools.partial(_listed, w.store().items()),
    "Store.keys": lambda w: functools.partial(_listed, w.store().keys()),
    "Store.leave": lambda w: w.store().leave,
    "Store.pop": lambda w: functools.partial(w.store().pop, "1"),
    "Store.popitem": lambda w: w.store().popitem,
    "Store.put": lambda w: functools.partial(w.store().put, "1", _array(w)),
    "Store.replace": lambda w: functools.partial(w.store().replace, "1", _array(w)),
    "Store.setdefault": lambda w: functools.partial(w.store().setdefault, "new", _array(w)),
    "Store.update": lambda w: functools.partial(w.store().update, {"1": _array(w)}),
    "Store.values": lambda w: functools.partial(_listed, w.store().values()),
    "Store.wait": lambda w: functools.partial(w.store().wait, "1"),
    "Teardown.__await__": _awaited_ticket,
    "Teardown.__reduce__": lambda w: _raises(TypeError, pickle.dumps, w.ticket()),
    "Teardown.wait": lambda w: w.ticket().wait,
    "WeakBlock.get": _weak,
}
