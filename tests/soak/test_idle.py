"""Memory that nobody uses goes back to the system by itself, a while later."""

import os
import signal
import time

import pytest

import flagstone

PATIENCE = 120.0  # seconds until it should have gone long since
MIB = 1 << 20


@pytest.mark.soak
@pytest.mark.parametrize("company", [False, True])
def test_memory_goes_back(arena_name, company):
    with flagstone.open(arena_name) as arena:
        child = os.fork() if company else None
        if child == 0:
            signal.pause()
        kept = arena.put(b"k" * (8 * MIB))
        many = [arena.put(bytes([n]) * MIB) for n in range(100)]
        assert arena.committed > 100 * MIB
        del many
        arena.barrier()
        until = time.monotonic() + PATIENCE
        while arena.committed > 16 * MIB:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert bytes(kept) == b"k" * (8 * MIB)
        assert arena.check() == []
        del kept
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
