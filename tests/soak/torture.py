"""Torture: processes do everything at random with one arena, while a tormentor kills, stops and
starves them.

    python -m tests.soak.torture --seconds 60 --seed 7

Whoever allocates an object writes a pattern into it that follows from its handle, before anybody
else can know it, and nobody changes it afterwards. So whoever finds another pattern, through a
Block, a view, a pickle, a handle or inside a read-side section, has found memory that was recycled
under a reader. At the end everything is let go: the arena has to be sound and as empty as it was at
the start.

All decisions come from the seed: those of the tormentor from the seed itself, those of a worker
from the seed and its number. What the system's scheduler does with them, no seed can repeat.

The tormentor never attaches before the end, so that no stopped worker's lock can keep it from
waking that worker. A worker that makes no progress for too long is a failure, and its stack is
printed.
"""

import argparse
import contextlib
import gc
import json
import logging
import os
import pickle
import secrets
import sys
import time
from pathlib import Path

import flagstone
from flagstone.testing import assert_sound, wait_until
from tests.soak.pattern import Wrong
from tests.soak.shared import COUNTERS, PIPES
from tests.soak.tormentor import PATIENCE, Tormentor, become_subreaper
from tests.soak.worker import ENDED, MIB, Worker

# That somebody was killed is no news here; what is printed is a failure.
logging.getLogger("flagstone").addHandler(logging.NullHandler())


def empty(arena, shared):
    """Let go of everything, and see that nothing is left."""
    last = Worker(shared, arena.name, 10**6, "last", COUNTERS - 1)
    for number in range(PIPES):
        while data := shared.receive(number):
            with contextlib.suppress(*ENDED):
                last.accept(pickle.loads(data))
    last.let_go()
    last.arena.close()
    del last
    gc.collect()
    wait_until(lambda: len(arena.processes) == 1, PATIENCE, "the others have left")
    arena.barrier(timeout=PATIENCE)
    arena.drop_in_flight()
    for group in arena.groups:
        with contextlib.suppress(flagstone.Closed):
            group.destroy()
    for cache in arena.caches:
        cache.destroy()
    assert_sound(arena)
    arena.shrink()
    left = {
        "bytes used": arena.used,
        "groups": len(arena.groups),
        "caches": [cache.name for cache in arena.caches],
        "in flight": arena.in_flight(),
        "objects": [(one.name, one.stats.allocated) for one in arena.snapshot().caches],
        "processes": [one.pid for one in arena.snapshot().processes if one.pid != os.getpid()],
        "references": [one.references for one in arena.processes],
    }
    left["objects"] = [one for one in left["objects"] if one[1]]
    left["references"] = [one for one in left["references"] if one]
    if any(left.values()):
        raise Wrong("left at the end: " + "; ".join(f"{k}: {v}" for k, v in left.items() if v))


def torture(seconds, seed, workers=4, folder=None, capacity=24 * MIB):
    """Run it; a summary, or Wrong."""
    become_subreaper()
    # A name with a slash lies in that folder.
    # What was killed with another run of the same pid may still lie there.
    base = f"fst-torture-{os.getpid()}-{secrets.token_hex(4)}"
    name = base if folder is None else str(Path(folder) / base)
    with flagstone.open(name, capacity=capacity, create=True, lasting=True) as arena:
        uuid = arena._link.uuid
    before = time.monotonic()
    tormentor = Tormentor(name, seed, workers, folder)
    try:
        tormentor.torment(seconds)
        tormentor.finish()
        tormentor.clear()
        said = tormentor.said()
        if said:
            raise Wrong("a forked child failed, or something was printed")
        with flagstone.open(name, create=False) as arena:
            assert arena._link.uuid == uuid
            empty(arena, tormentor.shared)
            picture = arena.snapshot()
            info = arena._link.attachment.info()
    except BaseException:
        said = tormentor.said()
        sys.stderr.write(said)
        raise
    finally:
        tormentor.clear()
        flagstone.unlink(name)
        for number in range(2):
            with contextlib.suppress(FileNotFoundError, flagstone.FlagstoneError):
                flagstone.unlink(f"{name}-other-{number}")
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - before, 1),
        "workers": tormentor.started,
        "operations": int(tormentor.shared.counters.sum()),
        "batches": info["batches"],
        "grace periods": info["grace_periods"],
        "deaths": info["deaths"],
        "committed": picture.committed,
        **tormentor.done,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--ages", action="store_true", help="count grace periods that pass a section"
    )
    parser.add_argument("--folder", help="on a small tmpfs, which is then filled now and then")
    arguments = parser.parse_args()
    seed = time.time_ns() % 10**9 if arguments.seed is None else arguments.seed
    try:
        print(json.dumps(torture(arguments.seconds, seed, arguments.workers, arguments.folder)))
    except Wrong as error:
        again = f"python -m tests.soak.torture --seconds {arguments.seconds:g} --seed {seed}"
        sys.exit(f"{error}\nagain: {again} --workers {arguments.workers}")


if __name__ == "__main__":
    main()
