"""A worker: a process, or one of its threads, that does everything at random with one arena."""

import collections
import contextlib
import ctypes
import functools
import gc
import math
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback

import numpy as np
import numpy.random  # what NumPy imports late, a child forked meanwhile would wait for, for ever

import flagstone
from tests.soak.pattern import Held, Wrong, pattern, verify, verify_typed
from tests.soak.shared import BOARD, PIPES

MIB = 1 << 20
KEEP = 40  # what a worker holds at most
DROPPED_AFTER = 1.0  # seconds in flight, at least
GROUPS = ("a", "b", "c", "limited", "tight")
LIMITS = {"limited": 4 * MIB, "tight": MIB // 4}
CACHES = {
    "tiny": {"size": 24},
    "small": {"size": 64},
    "small too": {"size": 64},  # merges with the one before
    "page": {"size": 4096},
    "matrix": {"shape": (50, 100), "dtype": "f4"},
    "large": {"size": 300_000},  # allocated without the GIL
    "typed": {"size": 128, "typesafe_by_rcu": True},
    "ready": {"size": 256, "init": b"ready" * 20},
}
# What others may have done meanwhile, and what the tormentor's shortage causes.
SHORTAGE = (flagstone.ArenaFull, flagstone.GroupLimitExceeded)
ENDED = (flagstone.Closed, flagstone.StaleHandle, flagstone.CacheMismatch, flagstone.GroupMismatch)


class Worker:
    """One process's (or one of its threads') random doings."""

    def __init__(self, shared, name, number, seed, slot, readonly=False):
        self.shared = shared
        self.name = name
        self.number = number
        self.slot = slot
        self.random = random.Random(f"{seed}:{number}")
        self.readonly = readonly
        self.kept = []
        self.groups = []
        self.seen = collections.Counter()
        self.forked = False
        self.arena = None
        self.attach()

    def attach(self):
        self.arena = flagstone.open(self.name, create=False, readonly=self.readonly)

    # ---- one thing at random

    def step(self):
        names = READERS_DO if self.readonly else WORKERS_DO
        name = self.random.choices(*names)[0]
        self.seen[name] += 1
        try:
            getattr(self, name)()
        except (*SHORTAGE, *ENDED, flagstone.CacheBusy, TimeoutError) as error:
            self.seen[type(error).__name__] += 1
        self.shared.counters[self.slot] += 1

    def run(self, steps=math.inf):
        while steps > 0 and not self.shared.stop:
            self.step()
            steps -= 1

    def let_go(self):
        for held in self.kept:
            held.verify("at the end")
        self.kept.clear()
        self.groups.clear()

    def keep(self, held):
        self.kept.append(held)
        while len(self.kept) > KEEP:
            self.drop()

    def pick(self):
        return self.random.choice(self.kept) if self.kept else None

    def block(self):
        """A held Block, or None."""
        blocks = [held for held in self.kept if isinstance(held.thing, flagstone.Block)]
        return self.random.choice(blocks) if blocks else None

    # ---- objects

    def made(self, block):
        """Write the pattern into a new Block."""
        handle = bytes(block.handle)
        block.array.reshape(-1).view("u1")[:] = pattern(handle, block.nbytes)
        self.keep(Held(block, handle, block.nbytes, "made"))

    def came(self, block, when):
        """Keep a Block that came from elsewhere."""
        held = Held(block, bytes(block.handle), block.nbytes, when)
        held.verify(when)
        self.keep(held)

    def a_group(self):
        if not self.groups or self.random.random() < 0.3:
            return None
        return self.random.choice(self.groups)

    def a_cache(self):
        name = self.random.choice(list(CACHES))
        return self.arena.cache(name, **CACHES[name])

    def wait(self):
        return self.random.choice([None, None, None, 0.0, 0.01])

    def alloc(self):
        zero = self.random.random() < 0.2
        block = self.a_cache().alloc(self.a_group(), zero=zero, wait=self.wait())
        if zero and block.array.any():
            raise Wrong("zero=True gave bytes that are not zero")
        self.made(block)

    def alloc_bytes(self):
        nbytes = int(2 ** self.random.uniform(0, 21)) - 1
        self.made(self.arena.alloc(nbytes, group=self.a_group(), wait=self.wait()))

    def alloc_many(self):
        for block in self.a_cache().alloc_many(self.random.randrange(30), self.a_group()):
            self.made(block)

    def put(self):
        value = np.full((self.random.randrange(1, 200), 7), self.random.random())
        block = self.arena.put(value, group=self.a_group(), wait=self.wait())
        if not np.array_equal(block.array, value):
            raise Wrong("put() gave a Block with other content")
        self.made(block)

    def drop(self):
        if self.kept:
            held = self.kept.pop(self.random.randrange(len(self.kept)))
            held.verify("before its drop")

    def look(self):
        held = self.pick()
        if held:
            held.verify("held")

    def view(self):
        held = self.block()
        if held and held.nbytes:
            # The view alone keeps the bytes from now on.
            array = held.thing.array.reshape(-1).view("u1")
            held.thing = memoryview(array) if self.random.random() < 0.5 else array[:]
            held.history.append("a view")

    def free(self):
        held = self.block()
        if held:
            view = held.thing.array.reshape(-1).view("u1") if held.nbytes else b""
            handle = held.thing.handle
            held.thing.free()
            held.thing = view
            held.history.append("freed")
            with contextlib.suppress(*ENDED):
                self.arena.get(handle)
                raise Wrong(f"{held.handle.hex()} was freed, and is found by its handle")

    def holders(self):
        held = self.block()
        if held and os.getpid() not in [one.pid for one in held.thing.holders]:
            raise Wrong(f"holders of {held.handle.hex()} do not name who holds it")

    # ---- handing over

    def post(self):
        held = self.block()
        if held:
            self.shared.post(self.random.randrange(BOARD), held.handle)
            held.history.append("posted")

    def find(self):
        handle = self.shared.look(self.random.randrange(BOARD))
        if handle:
            self.came(self.arena.get(flagstone.Handle(handle)), "resolved")

    def send(self):
        chosen = [held for held in (self.block() for _ in range(3)) if held]
        things = [held.thing for held in chosen]
        if things:
            for held in chosen:
                held.history.append("sent")
            data = pickle.dumps(things[0] if self.random.random() < 0.7 else things)
            self.shared.send(self.random.randrange(PIPES), data)
            # Who drops at once leaves the message alone with the object.
            if self.random.random() < 0.5:
                self.kept = [held for held in self.kept if held.thing is not things[0]]

    def receive(self):
        data = self.shared.receive(self.random.randrange(PIPES))
        for _ in range(1 + (self.random.random() < 0.1)):
            if data:
                self.accept(pickle.loads(data))

    def accept(self, thing):
        if isinstance(thing, flagstone.Group):
            self.groups.append(thing)
        elif isinstance(thing, flagstone.Arena):
            if thing.path != self.arena.path:
                raise Wrong(f"{thing!r} came instead of {self.arena!r}")
        else:
            # However often one Block is in a pickle, it is one object: free() must end all of it.
            blocks = thing if isinstance(thing, list) else [thing]
            for block in {id(block): block for block in blocks}.values():
                self.came(block, "taken")

    def read_twice(self):
        """An old message, read again, takes nothing from a newer one of the same object."""
        block = self.a_cache().alloc()
        handle = bytes(block.handle)
        block.array.reshape(-1).view("u1")[:] = pattern(handle, block.nbytes)
        began = time.monotonic()
        old = pickle.dumps(block)
        found = [pickle.loads(old)]
        new = pickle.dumps(block)
        found.append(pickle.loads(old))
        del block
        found.clear()
        with contextlib.suppress(TimeoutError):
            self.arena.barrier(timeout=0.3)
        try:
            self.came(pickle.loads(new), "read after an old message")
        except flagstone.StaleHandle:
            if time.monotonic() - began < DROPPED_AFTER:  # else drop_in_flight() may have had it
                raise Wrong(f"the message of {handle.hex()} was lost") from None

    def send_group(self):
        if self.groups:
            thing = self.random.choice([*self.groups, self.arena])
            self.shared.send(self.random.randrange(PIPES), pickle.dumps(thing))

    def drop_in_flight(self):
        group = self.a_group() if self.random.random() < 0.3 else None
        self.arena.drop_in_flight(self.random.choice([DROPPED_AFTER, 3.0]), group)

    # ---- read-side sections

    def section(self):
        """Look without a reference at what was found inside a section: it must stay."""
        handle = self.shared.look(self.random.randrange(BOARD))
        with self.arena.read():
            if not handle:
                return
            block = self.arena.get(flagstone.Handle(handle))
            true, nbytes = bytes(block.handle), block.nbytes
            address = block.array.ctypes.data
            cache = block.cache.name
            del block
            self.pause()
            if nbytes:
                raw = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), "u1")
                if cache == "typed":  # reused at once, as objects of the same size
                    verify_typed(raw, true)
                else:
                    verify(raw, true, nbytes, "inside a section")

    def typed(self):
        """Slabs of objects that are reused at once stay what they are while a section looks on."""
        cache = self.arena.cache("typed", **CACHES["typed"])
        seen = {}
        with self.arena.read():
            blocks = cache.alloc_many(700)  # more slabs than a thread keeps for itself
            for block in blocks:
                handle = bytes(block.handle)
                block.array[:] = pattern(handle, block.nbytes)
                seen[handle] = block.array.ctypes.data
            del block
            blocks.clear()
            time.sleep(self.random.choice([0.001, 0.01]))
            for handle, address in list(seen.items())[:100]:
                verify_typed(
                    np.frombuffer((ctypes.c_uint8 * 128).from_address(address), "u1"), handle
                )

    def nested(self):
        with self.arena.read():
            with self.arena.read():
                held = self.pick()
                if held:
                    held.verify("inside sections")
            self.alloc()

    def pause(self):
        if self.random.random() < 0.3:
            time.sleep(self.random.random() * 0.003)

    def ages(self):
        """How old, in grace periods that had to wait for it, a section grows: not at all."""
        if "--ages" not in sys.argv:
            return
        attachment = self.arena._link.attachment
        # Stores to cold memory keep the section's own in the processor for as long as they take:
        # what its fence is for.
        cold = np.ones(1 << 22, "u1")
        where = np.random.default_rng(self.random.randrange(1 << 32)).integers(0, cold.size, 40)
        for turn in range(2000):
            cold[(where + 64 * turn) % cold.size] = turn & 255
            if age := attachment.section_age(2000):
                raise Wrong(f"{age} grace periods have passed a section by")

    def grace_periods(self):
        """Many at once, so that some begin just when a section does."""
        attachment = self.arena._link.attachment
        for _ in range(300):
            attachment.synchronize(1_000_000)

    def synchronize(self):
        self.arena.synchronize(timeout=0.2)

    def barrier(self):
        self.arena.barrier(timeout=0.2)

    # ---- groups and caches

    def open_group(self):
        name = self.random.choice([*GROUPS, None])
        limit = LIMITS.get(name)
        parents = [group for group in self.groups if name in (None, "c")]
        parent = self.random.choice([None, *parents])
        self.groups.append(self.arena.group(name, parent=parent, limit=limit))
        if len(self.groups) > 6:
            self.groups.pop(self.random.randrange(len(self.groups)))

    def close_group(self):
        if self.groups:
            self.groups.pop(self.random.randrange(len(self.groups))).close()

    def destroy_group(self):
        if self.groups:
            group = self.groups.pop(self.random.randrange(len(self.groups)))
            ticket = group.destroy()
            if self.random.random() < 0.1:
                ticket.wait(timeout=0.1)

    def many_groups(self):
        """A burst of short groups, as requests or jobs make them."""
        cache = self.a_cache()
        for _ in range(self.random.randrange(20)):
            with self.arena.group() as group:
                self.made(cache.alloc(group))
        while len(self.kept) > KEEP // 2:
            self.drop()

    def limit_group(self):
        if self.groups:
            group = self.random.choice(self.groups)
            limit = LIMITS.get(group.name)
            group.limit = self.random.choice([0, 65536, MIB])
            with contextlib.suppress(*SHORTAGE):
                self.made(self.a_cache().alloc(group))
            group.limit = limit

    def usage_group(self):
        if self.groups:
            group = self.random.choice(self.groups)
            limit = group.limit
            # Set to less meanwhile by others, or by us: only what no one ever changes is certain.
            if limit is not None and group.usage > group.peak:
                raise Wrong(f"{group!r} uses {group.usage}, more than its peak {group.peak}")

    def short_cache(self):
        name = f"short {self.random.randrange(3)}"
        cache = self.arena.cache(name, size=self.random.choice([40, 5000]), merge=False)
        with contextlib.suppress(*SHORTAGE):
            self.made(cache.alloc(self.a_group()))
        if self.random.random() < 0.5:
            cache.destroy()

    def shrink(self):
        if self.random.random() < 0.5:
            self.arena.shrink()
        else:
            self.a_cache().shrink()

    # ---- the arena

    def check(self):
        findings = self.arena.check()
        if findings:
            raise Wrong("check() in use: " + "; ".join(str(one) for one in findings[:10]))

    def snapshot(self):
        picture = self.arena.snapshot()
        if picture.used > picture.capacity:
            raise Wrong(f"{picture.used} bytes used of {picture.capacity}")
        repr([self.arena, *self.groups, *(held.thing for held in self.kept[:3])])

    def reopen(self):
        """Detach and attach: everything goes, also what is kept elsewhere."""
        if self.forked or threading.active_count() > 1:
            return
        self.let_go()
        self.arena.close()
        self.attach()

    def other(self):
        """An arena that comes and goes with whoever has it."""
        with flagstone.open(f"{self.name}-other-{self.random.randrange(2)}", capacity=MIB) as other:
            block = other.put(np.arange(50))
            self.pause()
            if block.array.sum() != 1225:
                raise Wrong("an object of the other arena has changed")
            del block

    def fork(self):
        """A child with all that this process has, for a while."""
        if self.forked:
            return
        number = self.random.randrange(1 << 30)
        end = self.random.choice(["exit", "close", "kill", "keep"])
        pid = os.fork()
        if pid:
            for held in self.kept:
                held.history.append(f"forked {pid}")
            return
        child(functools.partial(self.after_fork, number, end))

    def after_fork(self, number, end):
        self.forked = True
        self.random = random.Random(number)
        for held in self.kept:
            held.history.append(f"inherited by {os.getpid()}")
        if self.arena.closed:
            self.without_a_place()
            return
        for held in self.kept:
            held.verify("inherited")
        self.run(self.random.randrange(60))
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if end != "keep":
            self.let_go()
        if end == "close":
            self.arena.close()

    def without_a_place(self):
        """Nothing could be had for it at the fork: views made before keep their bytes, and there is
        no other way in.
        """
        for _ in range(self.random.randrange(60)):
            for held in self.kept:
                if isinstance(held.thing, flagstone.Block):
                    try:
                        held.verify("refused")
                    except flagstone.Closed:
                        continue
                    raise Wrong(f"a Block of a child without a place: {', '.join(held.history)}")
                held.verify("inherited without a place")
            time.sleep(0.005)


# What is done, and how often in proportion.
WORKERS_DO = tuple(
    zip(
        *{
            "alloc": 20,
            "alloc_bytes": 8,
            "alloc_many": 4,
            "put": 4,
            "drop": 25,
            "look": 8,
            "view": 5,
            "free": 3,
            "holders": 1,
            "post": 12,
            "find": 20,
            "send": 14,
            "receive": 20,
            "read_twice": 2,
            "send_group": 2,
            "drop_in_flight": 1,
            "section": 8,
            "typed": 0.5,
            "nested": 2,
            "ages": 2,
            "grace_periods": 1,
            "synchronize": 1,
            "barrier": 2,
            "open_group": 6,
            "close_group": 1,
            "destroy_group": 3,
            "many_groups": 1,
            "limit_group": 0.5,
            "usage_group": 1,
            "short_cache": 2,
            "shrink": 1,
            "check": 0.2,
            "snapshot": 0.2,
            "reopen": 0.3,
            "other": 0.5,
            "fork": 0.5,
        }.items(),
        strict=True,
    )
)
READERS_DO = tuple(
    zip(
        *{
            "find": 20,
            "receive": 20,
            "section": 20,
            "drop": 30,
            "look": 10,
            "view": 5,
            "ages": 4,
            "synchronize": 1,
            "snapshot": 0.2,
            "check": 0.2,
            "reopen": 0.5,
        }.items(),
        strict=True,
    )
)


def child(function):
    """Run a function as the rest of this process, which ends without Python's own end."""
    status = 1
    try:
        function()
        gc.collect()
        flagstone._core.leave_all()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def work(shared, name, number, seed, slot):
    """A worker process, from its start to its end."""
    decide = random.Random(f"{seed}:{number}:kind")
    worker = Worker(shared, name, number, seed, slot, readonly=decide.random() < 0.12)
    second = None
    if not worker.readonly and decide.random() < 0.3:
        helper = Worker(shared, name, number + 0.5, seed, slot)
        helper.forked = True  # only the main thread forks
        errors = []

        def run():
            try:
                helper.run()
                helper.let_go()
            except BaseException:
                errors.append(traceback.format_exc())
                shared.counters[slot] = 0

        second = threading.Thread(target=run, daemon=True)
        second.start()
    worker.run()
    worker.let_go()
    if second is not None:
        second.join()
        if errors:
            raise Wrong(errors[0])
    if decide.random() < 0.5:
        worker.arena.close()
