"""Several real processes against a plain Python model of the arena: same answers, no byte differs.

The model knows who holds what. Where the arena may answer in two ways (a handle of an object that
nobody holds any more, before a batch has come by), both are accepted and the model follows.
"""

import itertools
import multiprocessing
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import flagstone
from tests.model import worker

pytestmark = pytest.mark.timeout(900)  # for hangs; on a busy machine the run takes minutes

SPAWN = multiprocessing.get_context("forkserver")
WORKERS = 3
serial = itertools.count()


@dataclass
class Object:
    """What the model knows of an object."""

    data: bytes
    group: str | None
    handle: bytes = b""
    holders: set[tuple[int, int]] = field(default_factory=set)  # (worker, key)
    messages: int = 0  # in flight
    freed: bool = False
    gone: bool = False  # nobody held it when a barrier was passed

    @property
    def held(self) -> bool:
        return bool(self.holders) or self.messages > 0


@dataclass
class Message:
    """A pickle, which may be read any number of times."""

    data: bytes
    of: Object
    taken: bool = False


class Machine(RuleBasedStateMachine):
    """The rules: what processes do."""

    def __init__(self) -> None:
        super().__init__()
        self.name = f"fst-test-model-{multiprocessing.current_process().pid}-{next(serial)}"
        self.arena = flagstone.open(self.name, capacity="256MiB", create=True)
        self.keys = itertools.count()
        self.objects: list[Object] = []
        self.messages: list[Message] = []
        self.groups: dict[str, flagstone.Group] = {}
        self.ended: set[str] = set()
        self.pipes = []
        self.processes = []
        for index in range(WORKERS):
            self._start(index)

    def _start(self, index: int) -> None:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=worker.main, args=(self.name, theirs))
        process.start()
        theirs.close()
        assert ours.recv() == "ready"
        self.pipes[index:] = [ours, *self.pipes[index + 1 :]]
        self.processes[index:] = [process, *self.processes[index + 1 :]]

    def _do(self, index: int, *command: object) -> object:
        self.pipes[index].send(command)
        return self.pipes[index].recv()

    def _pick(self, data: st.DataObject, what: list, label: str):
        return what[data.draw(st.integers(0, len(what) - 1), label=label)]

    def _held(self) -> list[tuple[Object, tuple[int, int]]]:
        return [(each, holder) for each in self.objects for holder in sorted(each.holders)]

    def _arrived(
        self, index: int, key: int, of: Object, got: object, must: bool, may: bool
    ) -> None:
        """A worker got a Block, or None; `must` and `may` say what is right."""
        assert got is not None or not must
        assert got is None or may
        if got is not None:
            assert got == of.data
            of.holders.add((index, key))

    # ---- rules

    @rule(
        index=st.integers(0, WORKERS - 1),
        nbytes=st.sampled_from([1, 8, 256, 256, 256, 1000, 5000, 70_000, 300_000]),
        value=st.integers(0, 255),
        data=st.data(),
    )
    def alloc(self, index, nbytes, value, data):
        names = [None, *sorted(set(self.groups) - self.ended)]
        made = Object(bytes([value]) * nbytes, self._pick(data, names, "group"))
        key = next(self.keys)
        made.handle = self._do(index, "alloc", key, nbytes, made.group, value)
        made.holders.add((index, key))
        self.objects.append(made)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def read(self, data):
        of, (index, key) = self._pick(data, self._held(), "object")
        assert self._do(index, "read", key) == of.data

    @precondition(lambda self: self._held())
    @rule(data=st.data(), value=st.integers(0, 255))
    def write(self, data, value):
        of, (index, key) = self._pick(data, self._held(), "object")
        self._do(index, "write", key, value)
        of.data = bytes([value]) * len(of.data)

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def drop(self, data):
        of, (index, key) = self._pick(data, self._held(), "object")
        self._do(index, "drop", key)
        of.holders.remove((index, key))

    @precondition(lambda self: any(not each.freed for each, _ in self._held()))
    @rule(data=st.data())
    def free(self, data):
        held = [(each, holder) for each, holder in self._held() if not each.freed]
        of, (index, key) = self._pick(data, held, "object")
        self._do(index, "free", key)
        of.holders.remove((index, key))
        of.freed = True

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def send(self, data):
        of, (index, key) = self._pick(data, self._held(), "object")
        message = Message(self._do(index, "send", key), of)
        self.messages.append(message)
        if of.group in self.ended:
            message.taken = True  # nothing of a destroyed group goes in flight
        else:
            of.messages += 1

    @precondition(lambda self: self.messages)
    @rule(index=st.integers(0, WORKERS - 1), data=st.data())
    def take(self, index, data):
        message = self._pick(data, self.messages, "message")
        of, key = message.of, next(self.keys)
        got = self._do(index, "take", key, message.data)
        alive = of.group not in self.ended
        must = alive and (not message.taken or (of.held and not of.freed))
        may = alive and (not message.taken or (not of.freed and not of.gone))
        if not message.taken:
            message.taken = True
            of.messages -= 1
        self._arrived(index, key, of, got, must, may)

    @precondition(lambda self: self.objects)
    @rule(index=st.integers(0, WORKERS - 1), data=st.data())
    def resolve(self, index, data):
        of, key = self._pick(data, self.objects, "object"), next(self.keys)
        got = self._do(index, "resolve", key, of.handle)
        alive = of.group not in self.ended and not of.freed
        self._arrived(index, key, of, got, alive and of.held, alive and not of.gone)

    @rule()
    def group(self):
        if len(set(self.groups) - self.ended) < 3:
            name = f"group-{len(self.groups)}"
            self.groups[name] = self.arena.group(name)

    @precondition(lambda self: set(self.groups) - self.ended)
    @rule(data=st.data())
    def destroy(self, data):
        name = self._pick(data, sorted(set(self.groups) - self.ended), "group")
        self.groups[name].destroy()
        self.ended.add(name)
        for message in self.messages:
            if message.of.group == name and not message.taken:
                message.taken = True
                message.of.messages -= 1

    @rule(index=st.integers(0, WORKERS - 1))
    def kill(self, index):
        self.processes[index].kill()
        self.processes[index].join()
        self.pipes[index].close()
        for each in self.objects:
            each.holders = {holder for holder in each.holders if holder[0] != index}
        self._start(index)

    @rule(index=st.integers(0, WORKERS - 1))
    def barrier(self, index):
        self._do(index, "barrier")
        for each in self.objects:
            each.gone = each.gone or not each.held

    @invariant()
    def is_sound(self):
        assert self.arena.check() == []

    def teardown(self):
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()
            pipe.close()
            process.close()
        for name in set(self.groups) - self.ended:
            self.groups[name].destroy()
        self.groups.clear()
        self.arena.drop_in_flight()
        self.arena.barrier(60)
        assert self.arena.used == 0
        assert self.arena.in_flight() == []
        assert [each.name for each in self.arena.groups if each.name != "root"] == []
        self.arena.close()


TestArena = Machine.TestCase
TestArena.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
