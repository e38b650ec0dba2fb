"""What a process pays for its Blocks when it starts another one."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from typing import Any

from benchmarks.harness import Bench, Measure
from benchmarks.peers import Peer, own_arena

SIZE = 64


def run(bench: Bench) -> None:
    count = 10_000 if bench.settings.quick else 200_000
    repeats = 3 if bench.settings.quick else 10
    with own_arena("4GiB") as arena:
        # As many objects in both, so that their page tables are as large.
        peers = {
            "bytearrays": Peer(_starter, arena, count, False),
            "Blocks": Peer(_starter, arena, count, True),
        }
        for peer in peers.values():
            peer.ask("ready")

        def ask(peer: Peer, how: str) -> Measure:
            return lambda: float(peer.ask(how, repeats))

        forks = bench.compare(
            f"fork() of a process with {count:,} objects",
            {f"with {name}": ask(peer, "fork") for name, peer in peers.items()},
            base="with bytearrays",
            unit="us",
            note="From fork() until the child, which ends at once, was waited for, one at a time:"
            " the last child's references are taken back in between. With Blocks, each of them is"
            " the child's as well: its entry is copied, its word becomes SHARED.",
        )
        others = bench.compare(
            f"subprocess.run() of a process with {count:,} objects",
            {f"with {name}": ask(peer, "subprocess") for name, peer in peers.items()},
            base="with bytearrays",
            unit="us",
        )
        for peer in peers.values():
            peer.end()
    more = forks.median("with Blocks") - forks.median("with bytearrays")
    bench.target("fork(), ns a live Block", more / count * 1000, 50)
    ratio = others.ratio("with Blocks", "with bytearrays")["median"]
    bench.target("subprocess.run(), in that without Blocks", ratio, 1.1)


def _starter(pipe: Any, arena: Any, count: int, blocks: bool) -> None:
    logging.getLogger("flagstone").setLevel(logging.ERROR)  # of those that died
    cache = arena.cache("object", size=SIZE)
    keep = cache.alloc_many(count) if blocks else [bytearray(SIZE) for _ in range(count)]
    while True:
        how, *repeats = pipe.recv()
        if how == "ready":
            pipe.send(len(keep))
            continue
        took = 0.0
        for _ in range(repeats[0]):
            arena.barrier()
            began = time.perf_counter()
            start(how)
            took += time.perf_counter() - began
        pipe.send(took / repeats[0] * 1e6)


def start(how: str) -> None:
    if how == "subprocess":
        subprocess.run(["true"], check=True)
        return
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
