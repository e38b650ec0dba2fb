"""Look an object up by its key in a store, and replace it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np

import flagstone
from benchmarks.bench_resolve import Lmdb, per_item
from benchmarks.harness import Bench
from benchmarks.peers import own_arena

FULL = 8 << 20
COUNTS = {"one": 1, "16,000": 16_000, "1,000,000": 1_000_000}


def run(bench: Bench) -> None:
    with flagstone.open(None, capacity="2GiB") as arena:
        counts = {**COUNTS, "1,000,000": 50_000} if bench.settings.quick else COUNTS
        stores = {name: fill(arena, name, count) for name, count in counts.items()}
        lookups(bench, arena, counts, stores)
        changes(bench, stores)
    with own_arena() as arena:
        makers(bench, arena)
        full(bench, arena)


def fill(arena: Any, name: str, count: int) -> Any:
    store = arena.store(f"keys {name}")
    for number in range(count):
        store[f"key-{number}"] = b"x" * 64
    return store


class Small(Lmdb):
    """Values of 64 bytes."""

    def fill(self, keys: list[bytes]) -> None:
        with self.environment.begin(write=True) as transaction:
            for key in keys:
                transaction.put(key, bytes(64))
        self.transaction = self.environment.begin(buffers=True)


def order(count: int) -> list[str]:
    """Up to 16,000 of its keys, all over it."""
    numbers = random.Random(1).sample(range(count), min(count, 16_000))
    return [f"key-{number}" for number in numbers]


def lookups(bench: Bench, arena: Any, counts: dict[str, int], stores: dict[str, Any]) -> None:
    one = stores["one"].block("key-0").handle
    variants = {"arena.get(handle)": bench.statement("get(h)", get=arena.get, h=one)}
    handles = [stores["16,000"].block(key).handle for key in order(16_000)]
    variants["arena.get, 16,000 in turn"] = per_item(bench, arena.get, handles)
    variants["block, one key"] = bench.statement("block(k)", block=stores["one"].block, k="key-0")
    for name in ("16,000", "1,000,000"):
        variants[f"block, of {name} in turn"] = per_item(
            bench, stores[name].block, order(counts[name])
        )
    variants["store[key], one key"] = bench.statement("store[k]", store=stores["one"], k="key-0")
    environments = []
    with bench.peer("LMDB"):
        for name in ("16,000", "1,000,000"):
            environment = Small()
            environment.fill([f"key-{number}".encode() for number in range(counts[name])])
            environments.append(environment)
            get = environment.transaction.get
            keys = [key.encode() for key in order(counts[name])]
            if name == "16,000":
                variants["LMDB, one key"] = bench.statement("get(k)", get=get, k=keys[0])
            variants[f"LMDB, of {name} in turn"] = per_item(bench, get, keys)
    found = bench.compare(
        "look up and drop",
        variants,
        note="Values of 64 bytes. LMDB: as a buffer, in a read transaction held open.",
    )
    ratio = found.ratio("block, one key", "arena.get(handle)")["median"]
    bench.target("one key, times arena.get(handle)", ratio, 1.2)
    ratio = found.ratio("block, of 1,000,000 in turn", "block, of 16,000 in turn")["median"]
    bench.target("1,000,000 keys, times 16,000", ratio, 2)
    for environment in environments:
        environment.close()


def changes(bench: Bench, stores: dict[str, Any]) -> None:
    value = np.zeros(64, "u1")
    variants = {
        f"store[key] = small array, of {name}": bench.statement(
            "store[k] = value", store=store, k="key-0", value=value
        )
        for name, store in stores.items()
    }
    found = bench.compare("replace", variants, note="64 bytes, copied into the arena.")
    bench.target("replaced, ns", found.median("store[key] = small array, of one"), 3000)


def makers(bench: Bench, arena: Any) -> None:
    store = arena.store("made")
    store["key"] = 1
    variants = {
        "get_or_put, there": bench.statement("make(k, dict)", make=store.get_or_put, k="key"),
        "key in store": bench.statement("k in store", store=store, k="key"),
        "store.version": bench.statement("store.version", store=store),
    }
    bench.compare("other calls", variants)


def full(bench: Bench, arena: Any) -> None:
    """What it costs a new value that others have to make room for it."""
    variants = {}
    for nbytes in (1_000, 10_000):
        value = np.zeros(nbytes, "u1")
        count = FULL // nbytes
        stores = {
            "another value of a key": arena.store(f"all {nbytes}"),
            "a new key, full": arena.store(f"full {nbytes}", limit=FULL, evict="lru"),
        }
        for what, store in stores.items():
            keys = itertools.cycle(map(str, range(count if what.startswith("another") else 10**6)))
            for _ in range(count):
                store[next(keys)] = value
            variants[f"{what}, {nbytes:,} bytes"] = bench.statement(
                "store[next(keys)] = value", store=store, keys=keys, value=value
            )
    bench.compare("put into a store that is full", variants, note='8 MiB of values; evict="lru".')
