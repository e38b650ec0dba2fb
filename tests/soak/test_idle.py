"""Memory that nobody uses goes back to the system by itself, a while later: not sooner where many
processes look for it.
"""

import os
import signal
import time

import pytest

import flagstone

PATIENCE = 120.0  # seconds until it should have gone long since
KEPT = 9.0  # seconds in which it is there still
MIB = 1 << 20


@pytest.mark.soak
@pytest.mark.parametrize("company", [0, 1, 8])
def test_memory_goes_back(arena_name, company):
    with flagstone.open(arena_name) as arena:
        children = []
        for _ in range(company):
            children.append(os.fork())
            if not children[-1]:
                time.sleep(children.index(0) * 0.5)
                arena.put(b"x" * MIB)  # dropped at once: so it looks for what nobody uses, too
                signal.pause()
        time.sleep(company)
        kept = arena.put(b"k" * (8 * MIB))
        many = [arena.put(bytes([n]) * MIB) for n in range(100)]
        assert arena.committed > 100 * MIB
        began = time.monotonic()
        del many
        arena.barrier()
        while arena.committed > 16 * MIB:
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.1)
        assert time.monotonic() - began > KEPT
        assert bytes(kept) == b"k" * (8 * MIB)
        assert arena.check() == []
        del kept
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
