"""Calls that go on and on, and what they leave in the interpreter: a reference too many is memory
that never ends, one too few is memory that ends under its users.

    PYTHONMALLOC=debug python -m tests.process.refcounts ARENA

Prints what grew, a line each. What was freed too early is found by Python itself, whose allocator
fills it and looks at it in this mode: by a fatal error, or a segmentation fault.
"""

import contextlib
import functools
import gc
import pickle
import sys
import threading

import numpy as np

import flagstone
from tests.process import calls

WARM = 4  # rounds until what is kept for the next call is there
ROUNDS = 16
GOES = 40  # so often in a row does something grow that is never freed; what threads keep does not
THREADS = 8
TURNS = 150

# The first are made in a child: a round would be a fork. A Sharing is in force once it is loaded.
LEFT_OUT = {"Arena.close", "Arena.__exit__", "Sharing.__reduce__", "Sharing.__reduce_ex__"}


def lasting(*owners):
    """What is there before, during and after: these, what they hold, and the classes."""
    found = {id(one): one for one in (*owners, *calls.public_classes(), np.ndarray, np.dtype("u1"))}
    # A Link is no container to the collector: what it holds is asked for.
    for depth in range(3):
        for one in list(found.values()):
            held = gc.get_referents(one) if not isinstance(one, type) else []
            if hasattr(one, "attachment"):
                held.append(one.attachment)
            found |= {id(part): part for part in held if "flagstone" in type(part).__module__}
    return list(found.values())


def counts(watched):
    """Of references to each; what only waits for the collector is gone before."""
    gc.collect()
    return [sys.getrefcount(one) for one in watched]


def blocks():
    """The allocated pieces of Python's memory."""
    gc.collect()
    return sys.getallocatedblocks()


def named(one):
    return one.__name__ if isinstance(one, type) else type(one).__name__


def grown(watched, call):
    """What changes each time that this is called: words for it."""
    was, had = counts(watched), blocks()
    for _ in range(ROUNDS):
        call()
    have, now = blocks(), counts(watched)
    said = [
        f"{named(one)}: {after - before:+} references"
        for one, before, after in zip(watched, was, now, strict=True)
        if abs(after - before) >= ROUNDS
    ]
    if have - had >= ROUNDS:
        said.append(f"{have - had:+} blocks of memory")
    return said


def each_method(arena):
    """Every public method, again and again."""
    world = calls.World(arena)
    watched = lasting(arena, world.cache, world.bound)

    def once(key):
        way = world.prepare(key)
        with contextlib.suppress(flagstone.FlagstoneError):
            way()
        del way
        world.clean()

    for key in calls.public_names():
        if key in LEFT_OUT:
            continue
        call = functools.partial(once, key)
        for _ in range(WARM):
            call()
        for _ in range(GOES):
            if not (said := grown(watched, call)):
                break
        else:
            print(f"{key}: {', '.join(said)} in {ROUNDS} calls")


class Shared:
    """What eight threads use at once."""

    def __init__(self, arena):
        self.arena = arena
        self.cache = arena.cache("shared", size=256)
        self.group = arena.group("shared")
        self.bound = self.cache.bind(self.group)
        self.block = arena.put(np.arange(100.0))
        self.weak = self.block.weak()
        self.channel = arena.channel("shared", capacity=4 * THREADS)
        self.topic = arena.topic("shared", capacity=4 * THREADS)
        self.store = arena.store("shared")
        self.lock = arena.lock("shared")
        self.store["block"] = self.block
        self.slots = [None] * THREADS

    def turn(self, number):
        block = self.block
        # Used at once: the same Block.
        array = block.array
        assert array[99] == 99
        assert flagstone.block_of(array)[0].handle == block.handle
        with memoryview(block) as view:
            assert view.nbytes == 800
        assert block.part(slice(2, 5))[0] == 2
        assert self.weak.get() is not None
        assert self.arena.get(block.handle).handle == block.handle
        assert pickle.loads(pickle.dumps(block)).handle == block.handle
        hash(block)
        repr(block)
        # Made by one thread, dropped by another, whenever that comes.
        for made in (self.bound.alloc(), self.cache.alloc(self.group), self.arena.alloc(64)):
            made.array[:8] = number
            self.slots[number], self.slots[number - 1] = made, None
        self.bound.alloc_many(3)
        self.bound.alloc().free()
        self.channel.put(block, keep=True)
        self.channel.put({"number": number})
        self.channel.get()
        self.channel.get()
        self.store[str(number % 3)] = block
        assert self.store.get("block")[99] == 99
        self.store.get(str((number + 1) % 3))
        with self.lock:
            pass
        with self.arena.read():
            pass
        with self.arena.group(f"own-{number}") as own:
            self.cache.alloc(own)

    def clear(self):
        self.slots = [None] * THREADS
        while not self.channel.empty():
            self.channel.get()
        self.store.clear()
        self.store["block"] = self.block


def eight_threads(arena):
    """The same objects, in eight threads at once; as many references afterwards as before."""
    shared = Shared(arena)
    raised = []

    def one(gate, number, turns):
        gate.wait()
        try:
            for _ in range(turns):
                shared.turn(number)
        except BaseException as error:
            raised.append(error)

    def run(turns):
        gate = threading.Barrier(THREADS)
        threads = [
            threading.Thread(target=one, args=(gate, number, turns)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared.clear()
        if raised:
            raise raised[0]

    watched = lasting(*(value for name, value in vars(shared).items() if name != "slots"))
    run(10)
    was, had = counts(watched), blocks()
    run(TURNS)
    have, now = blocks(), counts(watched)
    for one, before, after in zip(watched, was, now, strict=True):
        if before != after:
            print(f"{named(one)}: {after - before:+} references after {THREADS} threads")
    if have - had >= THREADS * TURNS:
        print(f"{have - had:+} blocks of memory after {THREADS} threads")


def main():
    sys.setswitchinterval(1e-5)  # with a GIL, threads are cut wherever that can be
    with flagstone.open(sys.argv[1], capacity="256MiB") as arena:
        gc.freeze()  # what was there before need not be looked at each time
        eight_threads(arena)
        each_method(arena)
        assert arena.check() == []
    print("done")


if __name__ == "__main__":
    main()
