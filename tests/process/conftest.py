"""Fixtures of the tests with several processes."""

import pytest

import flagstone
from tests.conftest import _passed
from tests.process.lessons import assert_empty, crew, forget
from tests.process.support import Worker, attach


@pytest.fixture
def worker():
    """A process that has nothing of the arena yet."""
    with Worker() as worker:
        yield worker


@pytest.fixture
def other_worker():
    """One more."""
    with Worker() as worker:
        yield worker


@pytest.fixture
def four():
    """Processes that have nothing of the arena yet."""
    with crew(4) as workers:
        yield workers


@pytest.fixture
def eight():
    with crew(8) as workers:
        yield workers


@pytest.fixture
def arena(arena_name, request):
    """An arena that is opened after the workers have started: they have nothing of it."""
    for name in ("worker", "other_worker"):
        if name in request.fixturenames:
            request.getfixturevalue(name)
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena


@pytest.fixture
def empty_in_the_end(arena_name, request):
    """An arena that everything has to be given back to: caches, groups, children, memory."""
    workers = []
    for name in ("worker", "other_worker", "four", "eight"):
        if name in request.fixturenames:
            given = request.getfixturevalue(name)
            workers += given if isinstance(given, list) else [given]
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        for worker in workers:
            worker(attach, arena_name)
        yield arena
        if request.node.stash.get(_passed, False):
            for worker in workers:
                if worker.lives():
                    worker(forget)
            assert_empty(arena)
