"""Several real processes against a plain Python model of the arena, with everything that can end:
objects, messages, groups, caches, processes. Same answers, no byte ever differs, and at the end the
memory is where it was at the start.

The test itself never attaches: each step is a command to a worker, and a worker that is killed is
replaced by a fork that has nothing. Where the arena may answer in two ways (the handle of an object
that nobody holds any more, before a batch came by) the model takes both, and follows.
"""

import copy
import gc
import itertools
import os
import pickle
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

import flagstone
from tests.process.support import PATIENCE, Worker, forked, kept

WORKERS = 3
LIMIT = 256 * 1024
EXAMPLES = int(os.environ.get("FLAGSTONE_TEST_EXAMPLES", "60"))
PICK = st.integers(0, 1_000_000)  # of what there is: what is drawn depends on no answer
SEED = int(os.environ.get("FLAGSTONE_TEST_SEED", "4"))


# ---- what the workers do: the answer, or the name of the exception


def attach(name):
    kept.update(arena=flagstone.open(name, capacity="64MiB"), things={}, groups={}, caches={})


def answer(function):
    try:
        return function()
    except flagstone.FlagstoneError as error:
        return type(error).__name__


def keep_filled(key, thing, content):
    kept["things"][key] = thing
    if content is not None:
        memoryview(thing).cast("B")[:] = content
    return bytes(thing.handle)


def alloc(key, cache, group, content):
    owner = kept["groups"].get(group)

    def make():
        if cache is None:
            return kept["arena"].alloc(len(content), group=owner)
        return kept["caches"][cache].alloc(owner)

    return answer(lambda: keep_filled(key, make(), content))


def read(key):
    return bytes(kept["things"][key])


def write(key, content):
    memoryview(kept["things"][key]).cast("B")[:] = content


def drop(key):
    del kept["things"][key]


def free(key):
    kept["things"].pop(key).free()


def view(key, kind):
    thing = kept["things"][key]
    kept["things"][key] = thing.array if kind == "array" else memoryview(thing)[:]


def deep_copy(key, fresh):
    return answer(lambda: keep_filled(fresh, copy.deepcopy(kept["things"][key]), None))


def send(key):
    return pickle.dumps(kept["things"][key])


def take(key, message):
    return answer(lambda: keep_filled(key, pickle.loads(message), None)) and arrived(key)


def resolve(key, handle):
    handle = flagstone.Handle(handle)
    return answer(lambda: keep_filled(key, kept["arena"].get(handle), None)) and arrived(key)


def arrived(key):
    return bytes(kept["things"][key]) if key in kept["things"] else None


def fork_and_look():
    """A child finds everything that its parent has, and lets go of it by ending."""
    expected = {key: bytes(thing) for key, thing in kept["things"].items()}

    def child():
        for key, thing in list(kept["things"].items()):
            assert bytes(thing) == expected[key]
            del kept["things"][key], thing

    with forked(child):
        pass


def open_group(name, limit):
    kept["groups"][name] = kept["arena"].group(name, limit=limit)


def leave_group(name):
    del kept["groups"][name]


def close_group(name):
    kept["groups"][name].close()


def destroy_group(name):
    kept["groups"].pop(name).destroy()


def group_facts(name):
    group = kept["groups"][name]
    return group.state, group.usage, group.peak


def open_cache(name, size):
    kept["caches"][name] = kept["arena"].cache(name, size=size, merge=False)


def destroy_cache(name):
    return answer(lambda: kept["caches"][name].destroy() and "done")


def in_flight():
    return len([one for one in kept["arena"].in_flight() if not one.is_group])


def drop_in_flight():
    return kept["arena"].drop_in_flight()


def barrier():
    arena = kept["arena"]
    arena.barrier(PATIENCE)
    return [str(finding) for finding in arena.check()]


def used():
    """Bytes, and who has them."""
    found = kept["arena"].snapshot()
    if found.used:
        return found
    return 0


def let_go():
    kept["things"].clear()
    kept["groups"].clear()
    kept["caches"].clear()
    gc.collect()


# ---- the model


@dataclass
class Group:
    """A group, by its name, which is never used again."""

    name: str
    limited: bool
    openers: set[int]
    state: str = "live"  # "orphaned": nobody has it, and no batch has looked since


@dataclass
class Object:
    """An object that was allocated at some time."""

    content: bytes
    cache: str | None
    group: Group | None
    handle: bytes
    holders: dict[int, bool]  # key: is it a Block, or only a view
    in_flight: int = 0
    freed: bool = False
    gone: bool = False  # nobody had it when a barrier was passed

    @property
    def ended(self):
        return self.group is not None and self.group.state == "destroyed"

    @property
    def used(self):
        return bool(self.holders) or self.in_flight > 0


@dataclass
class Message:
    """A pickle; it can be read any number of times, and takes a reference the first time."""

    data: bytes
    of: Object
    taken: bool


class Machine(RuleBasedStateMachine):
    """The steps, each with what it must answer."""

    def __init__(self):
        super().__init__()
        self.workers = []
        self.objects = []
        self.messages = []
        self.groups = {}
        self.caches = {}  # size by name
        self.owner = {}  # number of the worker that has it, by key
        self.numbers = itertools.count(1)

    @initialize()
    def start(self):
        self.name = f"fst-test-model-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        for index in range(WORKERS):
            self.workers.append(Worker())
            self.workers[index](attach, self.name)

    # ---- choosing

    def one_of(self, pick, things):
        return things[pick % len(things)]

    def some_key(self, pick, *, blocks=False, whole=False):
        """A key, with its worker and its object: of a Block if so, and one that can be freed."""
        return self.one_of(pick, self.keys(blocks, whole))

    def keys(self, blocks=False, whole=False):
        return [
            (key, self.workers[self.owner[key]], one)
            for one in self.objects
            for key, is_block in one.holders.items()
            if (is_block or not blocks) and not (whole and (one.freed or one.ended))
        ]

    def content(self, nbytes):
        number = next(self.numbers)
        return (number.to_bytes(8, "little") * (nbytes // 8 + 1))[:nbytes]

    # ---- objects

    @rule(
        pick=PICK,
        index=st.integers(0, WORKERS - 1),
        nbytes=st.sampled_from([0, 1, 100, 5000, 30_000, 300_000]),
    )
    def alloc(self, pick, index, nbytes):
        cache = self.one_of(pick, [None, *sorted(self.caches)])
        groups = [g for g in self.groups.values() if index in g.openers]
        group = self.one_of(pick // 101, [None, *groups])
        content = self.content(nbytes if cache is None else self.caches[cache])
        key = next(self.numbers)
        if cache is not None:
            self.workers[index](open_cache, cache, self.caches[cache])
        handle = self.workers[index](alloc, key, cache, group and group.name, content)
        if group is not None and group.state != "live":
            assert handle == "Closed"
            return
        if group is not None and group.limited and handle == "GroupLimitExceeded":
            return
        assert len(handle) == 16
        assert handle not in {one.handle for one in self.objects}
        self.owner[key] = index
        self.objects.append(Object(content, cache, group, handle, {key: True}))

    @rule(pick=PICK)
    def read(self, pick):
        if not (self.keys()):
            return
        key, worker, one = self.some_key(pick)
        assert worker(read, key) == one.content

    @rule(pick=PICK)
    def write(self, pick):
        if not (self.keys()):
            return
        key, worker, one = self.some_key(pick)
        one.content = self.content(len(one.content))
        worker(write, key, one.content)

    @rule(pick=PICK)
    def drop(self, pick):
        if not (self.keys()):
            return
        key, worker, one = self.some_key(pick)
        worker(drop, key)
        del one.holders[key]

    @rule(pick=PICK)
    def free(self, pick):
        if not (self.keys(blocks=True, whole=True)):
            return
        key, worker, one = self.some_key(pick, blocks=True, whole=True)
        worker(free, key)
        del one.holders[key]
        one.freed = True

    @rule(pick=PICK, kind=st.sampled_from(["array", "memoryview"]))
    def view(self, pick, kind):
        if not (self.keys(blocks=True)):
            return
        key, worker, one = self.some_key(pick, blocks=True)
        worker(view, key, kind)
        one.holders[key] = False

    @rule(pick=PICK)
    def deep_copy(self, pick):
        if not (self.keys(blocks=True, whole=True)):
            return
        key, worker, one = self.some_key(pick, blocks=True, whole=True)
        fresh = next(self.numbers)
        handle = worker(deep_copy, key, fresh)
        if one.group is not None and one.group.state != "live":
            assert handle == "Closed" or one.group.state == "orphaned"
        if handle == "Closed" or (handle == "GroupLimitExceeded" and one.group.limited):
            return
        self.owner[fresh] = self.owner[key]
        self.objects.append(Object(one.content, one.cache, one.group, handle, {fresh: True}))
        assert worker(read, fresh) == one.content

    # ---- messages and handles

    @rule(pick=PICK)
    def send(self, pick):
        if not (self.keys(blocks=True)):
            return
        key, worker, one = self.some_key(pick, blocks=True)
        # Of what has ended nothing goes in flight; the message is a handle, and stale.
        self.messages.append(Message(worker(send, key), one, taken=one.ended))
        one.in_flight += not one.ended

    def arrives(self, index, key, one, got, must, may):
        if got is None:
            assert not must
            return
        assert may
        assert got == one.content
        self.owner[key] = index
        one.holders[key] = True

    @rule(pick=PICK, index=st.integers(0, WORKERS - 1))
    def take(self, pick, index):
        if not (self.messages):
            return
        message, key = self.one_of(pick, self.messages), next(self.numbers)
        one = message.of
        got = self.workers[index](take, key, message.data)
        reference = not message.taken and not one.ended
        whole = not one.freed and not one.ended
        if not message.taken:
            message.taken = True
            one.in_flight -= 1
            self.arrives(index, key, one, got, reference, reference)
        else:
            self.arrives(index, key, one, got, whole and one.used, whole and not one.gone)

    @rule(pick=PICK, index=st.integers(0, WORKERS - 1))
    def resolve(self, pick, index):
        if not (self.objects):
            return
        one, key = self.one_of(pick, self.objects), next(self.numbers)
        got = self.workers[index](resolve, key, one.handle)
        whole = not one.freed and not one.ended
        self.arrives(index, key, one, got, whole and one.used, whole and not one.gone)

    @rule(index=st.integers(0, WORKERS - 1))
    def look_in_flight(self, index):
        assert self.workers[index](in_flight) == sum(one.in_flight for one in self.objects)

    @rule(index=st.integers(0, WORKERS - 1))
    def drop_in_flight(self, index):
        expected = sum(one.in_flight for one in self.objects)
        assert self.workers[index](drop_in_flight) == expected
        for message in self.messages:
            if not message.taken:
                message.taken = True
                message.of.in_flight -= 1

    # ---- groups and caches

    @rule(index=st.integers(0, WORKERS - 1), limited=st.booleans())
    def new_group(self, index, limited):
        if not (sum(g.state == "live" for g in self.groups.values()) < 3):
            return
        name = f"group-{next(self.numbers)}"
        self.workers[index](open_group, name, LIMIT if limited else None)
        self.groups[name] = Group(name, limited, {index})

    def opened(self):
        return [g for g in self.groups.values() if g.openers]

    @rule(pick=PICK, index=st.integers(0, WORKERS - 1))
    def join_group(self, pick, index):
        if not (any(g.state == "live" for g in self.opened())):
            return
        group = self.one_of(pick, [g for g in self.opened() if g.state == "live"])
        self.workers[index](open_group, group.name, None)
        group.openers.add(index)

    def an_opener(self, pick):
        group = self.one_of(pick, self.opened())
        return group, self.one_of(pick // 101, sorted(group.openers))

    @rule(pick=PICK)
    def leave_group(self, pick):
        if not (self.opened()):
            return
        group, index = self.an_opener(pick)
        self.workers[index](leave_group, group.name)
        self.left_by(group, index)

    def left_by(self, group, index):
        group.openers.discard(index)
        if not group.openers and group.state == "live":
            group.state = "orphaned"

    @rule(pick=PICK)
    def close_group(self, pick):
        if not (self.opened()):
            return
        group, index = self.an_opener(pick)
        if group.state != "destroyed":
            self.workers[index](close_group, group.name)
            group.state = "closed"

    @rule(pick=PICK)
    def destroy_group(self, pick):
        if not (any(g.state != "destroyed" for g in self.opened())):
            return
        group = self.one_of(pick, [g for g in self.opened() if g.state != "destroyed"])
        index = self.one_of(pick // 101, sorted(group.openers))
        self.workers[index](destroy_group, group.name)
        group.openers.discard(index)
        group.state = "destroyed"
        for message in self.messages:
            if message.of.group is group and not message.taken:
                message.taken = True
                message.of.in_flight -= 1

    @rule(pick=PICK)
    def look_at_a_group(self, pick):
        if not (any(g.state == "live" for g in self.opened())):
            return
        group = self.one_of(pick, [g for g in self.opened() if g.state == "live"])
        index = self.one_of(pick // 101, sorted(group.openers))
        state, usage, peak = self.workers[index](group_facts, group.name)
        mine = [len(one.content) for one in self.objects if one.group is group and one.used]
        assert state == "live"
        assert sum(mine) <= usage <= peak
        if group.limited:
            assert peak <= LIMIT

    @rule(index=st.integers(0, WORKERS - 1), size=st.sampled_from([8, 100, 4000, 70_000]))
    def new_cache(self, index, size):
        if not (len(self.caches) < 3):
            return
        # Names are used again, at once.
        name = next(n for n in ("red", "green", "blue") if n not in self.caches)
        self.workers[index](open_cache, name, size)
        self.caches[name] = size

    @rule(pick=PICK, index=st.integers(0, WORKERS - 1))
    def destroy_cache(self, pick, index):
        if not (self.caches):
            return
        name = self.one_of(pick, sorted(self.caches))
        mine = [one for one in self.objects if one.cache == name and not one.gone]
        self.workers[index](open_cache, name, self.caches[name])
        result = self.workers[index](destroy_cache, name)
        if any(one.used for one in mine):
            assert result == "CacheBusy"
            return
        assert result == "done"
        del self.caches[name]
        for one in mine:
            one.gone = True

    # ---- processes

    @rule(index=st.integers(0, WORKERS - 1))
    def kill(self, index):
        self.workers[index].kill()
        self.forget_worker(index)
        self.workers[index] = Worker()
        self.workers[index](attach, self.name)

    @rule(index=st.integers(0, WORKERS - 1))
    def let_all_go(self, index):
        self.workers[index](let_go)
        self.forget_worker(index)

    def forget_worker(self, index):
        for one in self.objects:
            for key in [key for key in one.holders if self.owner[key] == index]:
                del one.holders[key]
        for group in self.groups.values():
            self.left_by(group, index)

    @rule(index=st.integers(0, WORKERS - 1))
    def fork(self, index):
        self.workers[index](fork_and_look)

    @rule(index=st.integers(0, WORKERS - 1))
    def barrier(self, index):
        assert self.workers[index](barrier) == []
        for one in self.objects:
            one.gone = one.gone or not one.used
        for group in self.groups.values():
            if group.state == "orphaned":
                group.state = "closed"
        if not any(one.used for one in self.objects):
            assert self.workers[index](used) == 0

    def teardown(self):
        try:
            if self.workers:
                for worker in self.workers:
                    worker(let_go)
                last = self.workers[-1]
                last(drop_in_flight)
                assert last(barrier) == []
                assert last(used) == 0
                for worker in self.workers:
                    worker.end()
                assert not os.path.exists(f"/dev/shm/flagstone.{self.name}")
        finally:
            for worker in self.workers:
                worker.close()


@pytest.mark.timeout(900)  # for hangs
def test_any_order_of_endings():
    run_state_machine_as_test(
        seed(SEED)(Machine),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            database=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
