"""Threads of one process that do everything at once on the same objects, for a while; `make soak`
for long. Where Python has no GIL they do run at once.

process/test_threads_everywhere.py has one public method at a time in eight threads. Here each of
them calls whatever chance says of some dozens.
"""

import faulthandler
import os
import random
import re
import sys
import threading
import time

import pytest

import flagstone
from flagstone.testing import assert_sound
from tests.process import calls
from tests.process.test_threads_everywhere import LATE, THREADS, forks

SECONDS = 60 * float(os.environ.get("MINUTES") or 10)
ROUND = 2.0  # seconds with the same objects, of an arena of their own
CALLS = 40  # what is called in a round
PATIENCE = 100.0  # seconds until a thread that has to end is taken for one that hangs

# Some wait for ever for what others have taken; process/test_threads_everywhere.py feeds them.
WAITS = re.compile(
    r"Store\.a?changes|(Channel|Subscription|Topic)\.(a?get|a?put|a?wait|__a?next__|__a?iter__|a?publish)\w*"
)

NAMES = [
    key
    for key in calls.public_names()
    if "." in key
    and not key.startswith("Sharing")  # one thread's
    and key not in ("Arena.close", "Arena.__exit__")
    and not WAITS.fullmatch(key)
]


def a_round(arena, chance, until):
    """Eight threads call what was chosen until then; how often, and what no caller expects."""
    world = calls.World(arena)
    ways, kept, made = [], [], []
    for key in chance.sample(NAMES, CALLS):
        way = world.prepare(key)
        kept.append(world.kept)
        made.append(world.made)
        if not forks(way):
            ways.append((key, way))
    seeds = [chance.random() for _ in range(THREADS)]
    gate = threading.Barrier(THREADS)
    counts, wrong = [0] * THREADS, []

    def one(me):
        choose = random.Random(seeds[me])
        gate.wait()
        while time.monotonic() < until and not wrong:
            key, way = choose.choice(ways)
            try:
                way()
            except LATE:
                pass
            except BaseException as error:
                wrong.append((key, error))
            counts[me] += 1

    threads = [threading.Thread(target=one, args=(me,), daemon=True) for me in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            faulthandler.dump_traceback(sys.__stderr__)
            raise AssertionError(f"a thread hangs; called were {[key for key, _ in ways]}")
    ways.clear()
    for world.kept, world.made in zip(kept, made, strict=True):
        world.clean()
    return sum(counts), wrong


@pytest.mark.soak
def test_threads_do_everything_at_once(arena_name):
    seed = int(os.environ.get("SEED") or time.time())
    print(f"SEED={seed}")
    chance = random.Random(seed)
    end = time.monotonic() + SECONDS
    number = called = 0
    while time.monotonic() < end:
        with flagstone.open(arena_name, capacity="256MiB") as arena:
            count, wrong = a_round(arena, chance, time.monotonic() + ROUND)
            called += count
            assert wrong == [], f"round {number}"
            arena.barrier()
            assert_sound(arena)
        number += 1
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"{called:,} calls in {number} rounds, {'with' if has_gil else 'without'} the GIL")
