"""Fixtures of the tests with several processes."""

import pytest

from tests.process.support import Worker


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
