"""What the tests of commands share."""

import pytest

import flagstone


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena
