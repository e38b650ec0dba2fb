"""Dask with its workers' results in an arena, in programs of their own: real clusters over TCP."""

import pytest

pytest.importorskip("distributed")

from tests.process.dask_support import run


def test_every_way_between_processes(arena_name):
    run(
        arena_name,
        """
import pandas as pd, pyarrow as pa
from distributed import Queue, Variable

one = client.submit(make, 200_000, 3, workers=a)
assert client.submit(look, one, workers=b).result() == (True, False, 600_000.0)
# Not one byte was copied: both have the same object.
assert len({client.submit(handle, one, workers=w, pure=False).result() for w in (a, b)}) == 1
# A client that has the arena is told where it is, and by way of the scheduler gets bytes.
assert look(client.gather(one, direct=True)) == (True, False, 600_000.0)
assert look(one.result()) == (False, True, 600_000.0)

def shapes():
    whole = np.arange(400_000.0).reshape(400, 1000)
    record = np.zeros(50_000, dtype=[("x", "f8"), ("y", "i4")])
    record["y"] = np.arange(50_000)
    return {
        "c": whole, "f": np.asfortranarray(whole), "t": whole.T, "cut": whole[::2, ::3],
        "back": whole[::-1], "record": record, "when": np.arange(50_000).astype("M8[s]"),
        "small": np.arange(5), "text": np.array(["a" * 50] * 5000), "none": np.empty((0, 5)),
        "wide": np.broadcast_to(np.arange(100.0), (1000, 100)), "objects": np.array([{}, 1]),
        "masked": np.ma.masked_equal(np.arange(50_000), 7), "scalar": np.float64(3),
    }
def same(found):
    for name, expected in shapes().items():
        assert found[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(found[name], expected, name)
        assert type(found[name]) is type(expected), name
    return sorted(name for name, one in found.items() if inside(one))
many = client.submit(shapes, workers=a)
expected = ["back", "c", "cut", "f", "record", "t", "text", "when"]
assert client.submit(same, many, workers=b).result() == expected
assert same(client.gather(many, direct=True)) == expected
assert same(many.result()) == []

# Tables, and whatever hands over its buffers.
def frame():
    return pd.DataFrame({"x": np.arange(100_000.0), "n": np.arange(100_000)})
def table():
    return pa.table({"x": np.arange(100_000.0)})
def columns(found):
    return float(found["x"].to_numpy().sum()), inside(found["x"].to_numpy())
for make_one in (frame, table):
    future = client.submit(make_one, workers=a)
    assert client.submit(columns, future, workers=b).result() == (4999950000.0, True)
    assert columns(client.gather(future, direct=True)) == (4999950000.0, True)
    assert columns(future.result())[0] == 4999950000.0
    del future

# What a client scatters: as a name where it lies in the arena and goes straight to a worker.
block = arena.put(np.ones(200_000))
there, = client.scatter([block.array], direct=True, workers=[a])
assert client.submit(handle, there, workers=b).result() == bytes(block.handle)
other, = client.scatter([np.ones(200_000)], direct=False, workers=[a])
assert client.submit(look, other, workers=b).result() == (True, False, 200_000.0)
assert client.submit(look, np.ones(200_000)).result()[2] == 200_000.0   # an argument: bytes

# Queue and Variable carry futures.
queue, variable = Queue("q"), Variable("v")
queue.put(one); variable.set(one)
assert client.submit(look, queue.get(), workers=b, pure=False).result()[0]
assert client.submit(look, variable.get(), workers=b, pure=False).result()[0]
variable.delete()

# An actor's arguments are names; what it answers is nobody's any more, and goes as bytes.
class Keeper:
    def take(self, array):
        self.array = array
        return look(array)
    def give(self):
        return self.array
keeper = client.submit(Keeper, actor=True, workers=a).result()
def ask(keeper, array):
    return keeper.take(array).result(), look(keeper.give().result())
assert client.submit(ask, keeper, there, workers=b).result() == (
    (True, False, 200_000.0), (False, True, 200_000.0))
del keeper, one, many, there, other, block, queue, variable
""",
    )


def test_pieces_of_a_rechunk_are_names(arena_name):
    """Of arrays. Small ones, and those of tables, are bytes that Dask has made."""
    run(
        arena_name,
        """
import dask.array, dask.dataframe, pandas as pd
def watch(dask_worker):
    from distributed.shuffle._rechunk import ArrayRechunkRun
    receive = ArrayRechunkRun._receive
    seen = dask_worker.seen = []
    async def spy(run, data):
        found = [piece for _, pieces in data for _, (_, piece) in pieces]
        assert {type(piece) for piece in found} == {np.ndarray}, found
        seen.extend(map(inside, found))
        return await receive(run, data)
    ArrayRechunkRun._receive = spy
def seen(dask_worker):
    found, dask_worker.seen[:] = set(dask_worker.seen), []
    return found
client.run(watch)
for disk in (True, False):
    def where(dask_worker):
        dask.config.set({"distributed.p2p.storage.disk": disk})
    client.run(where)
    for side, expected in ((800, {True}), (100, {False})):
        with dask.config.set({"array.rechunk.method": "p2p",
                              "distributed.p2p.storage.disk": disk}):
            x = dask.array.arange(side * side, chunks=side * side // 4).reshape(side, side)
            x = (x + disk).rechunk((side // 4, side)).rechunk((side, side // 4))
            assert int(x[1].sum().compute()) == sum(range(side, 2 * side)) + side * disk
        found = set.union(*client.run(seen).values())
        assert found == expected, (disk, side, found)
with dask.config.set({"dataframe.shuffle.method": "p2p"}):
    frame = pd.DataFrame({"key": np.arange(100_000) % 97, "value": np.ones(100_000)})
    made = dask.dataframe.from_pandas(frame, npartitions=4).shuffle("key")
    assert int(made.groupby("key").value.sum().sum().compute()) == 100_000
    del made
del x
""",
        quiet=False,
    )


def test_results_are_made_in_the_arena_and_settled_in_tasks(arena_name):
    """Not in the event loop, which has to answer the neighbours, and large ones without a copy."""
    run(
        arena_name,
        """
import threading
import dask.array.core
from distributed import get_worker
def watch(dask_worker):
    from flagstone.dask import results
    put = results.Settler._put
    seen = dask_worker.seen = []
    def spy(settler, array):
        seen.append((array.nbytes, threading.current_thread() is threading.main_thread()))
        return put(settler, array)
    results.Settler._put = spy
def seen(dask_worker):
    found, dask_worker.seen[:] = list(dask_worker.seen), []
    return found
client.run(watch)
one = client.submit(lambda: [make(20_000, 1), "x"], workers=a)
assert client.submit(lambda pair: inside(pair[0]), one, workers=b).result()
assert client.run(seen, workers=[a])[a] == [(160_000, False)]

# From 1 MiB on nothing is copied, whatever NumPy made it by; but zeros are, and what looks at a
# part of it, if it is less than half.
def made(n):
    whole = np.ones((n, n)) * 3
    return {"sum": whole + 1, "turned": whole.T, "most": whole[1:], "some": whole[:, : n // 3],
            "zeros": np.zeros((n, n)), "read": whole.astype(np.int64), "frozen": freeze(whole * 2)}
def freeze(array):
    array.flags.writeable = False
    return array
def found(many, n):
    expected = {"sum": 4, "turned": 3, "most": 3, "some": 3, "zeros": 0, "read": 3, "frozen": 6}
    assert {name: float(one.max()) for name, one in many.items()} == expected
    assert {name: float(one.min()) for name, one in many.items()} == expected
    assert many["turned"].flags.f_contiguous and many["most"].shape == (n - 1, n)
    return {inside(one) for one in many.values()}
for n in (300, 400):
    many = client.submit(made, n, workers=a)
    copied = client.submit(lambda _: None, many, workers=a).result()
    assert client.submit(found, many, n, workers=b).result() == {True}
    copied = [nbytes for nbytes, _ in client.run(seen, workers=[a])[a]]
    assert len(copied) == (7 if n == 300 else 2), copied
    del many

# A chunk of several is joined where it stays.
def joined(pieces):
    array = dask.array.core.concatenate3(pieces)
    assert (array == 1).all()
    return array
big = client.submit(lambda n: [[np.ones((n, n))] * 2] * 3, 300, workers=a)
whole = client.submit(joined, big, workers=a)
assert client.submit(lambda one: (inside(one), one.shape), whole, workers=b).result() == (
    True, (900, 600))
assert 4_320_000 not in [nbytes for nbytes, _ in client.run(seen, workers=[a])[a]]

# A part of an object is the object's, which a worker may write, and its neighbours then have
# another one. A table is looked at, as arrays are.
class Model:
    def __init__(self):
        self.coefs = [np.ones(300_000), np.ones(300_000)]
        self.coefs[1].flags.writeable = False
    def fit(self):
        self.coefs[0] += 1
        return self
    def look(self):
        return [look(one) for one in self.coefs]
model = client.submit(Model, workers=a)
fitted = client.submit(lambda one: one.fit(), model, workers=b)
assert client.submit(Model.look, fitted, workers=b).result() == [
    (False, True, 600_000.0), (True, False, 300_000.0)]
assert client.submit(Model.look, model, workers=a).result() == [
    (True, True, 300_000.0), (True, False, 300_000.0)]
def frame():
    import pandas as pd
    return pd.DataFrame({"x": np.arange(300_000.0), "y": np.ones(300_000)})
table = client.submit(frame, workers=a)
assert client.submit(lambda one: [inside(one[name].to_numpy()) for name in "xy"], table,
                     workers=b).result() == [True, True]
del model, fitted, table

# What a task leaves behind is an array as any other, also where another thread uses it later.
def leave():
    worker = get_worker()
    worker.left = np.arange(500_000.0)
    worker.pool = threading.Thread(target=lambda: setattr(worker, "beside", np.ones(500_000)))
    worker.pool.start()
    worker.pool.join()
def left(dask_worker):
    array = dask_worker.left
    array.resize(600_000, refcheck=False)
    found = float(array.sum()), inside(dask_worker.beside)
    del dask_worker.left, dask_worker.beside, dask_worker.pool
    return found
client.submit(leave, workers=a).result()
assert client.run(left, workers=[a])[a] == (124999750000.0, False)
del one, big, whole

# What looks at a small part of such an array does not keep all of it.
def usage(dask_worker):
    from flagstone.dask import member
    arena, group = member.group_of(dask_worker)
    arena.barrier()
    return group.usage
settle(lambda: client.run(usage, workers=[a])[a] == 0)
first = client.submit(lambda: frame().iloc[:100_000], workers=a)
wait(first)
settle(lambda: client.run(usage, workers=[a])[a] < 4_000_000)
assert client.submit(lambda one: float(one["x"].sum()), first, workers=b).result() == 4999950000.0
del first
""",
    )


def test_serializers_that_were_asked_for(arena_name):
    run(
        arena_name,
        """
class Thing:
    pass

def families_of_ours():
    from distributed.protocol.serialize import register_serialization_family
    def dumps(thing, context=None):
        if type(thing).__name__ != "Thing":
            raise NotImplementedError
        return {}, [b""]
    def loads(header, frames):
        return "by ours"
    register_serialization_family("ours", dumps, loads)

families_of_ours()
client.run(families_of_ours)
names = ["ours", "pickle"]
with Client(client.scheduler.address, serializers=names, deserializers=[*names, "dask"],
            set_as_default=False) as other:
    thing = other.submit(Thing, workers=a)
    assert other.gather(thing, direct=True) == "by ours"
    del thing
""",
    )


def test_blocks_are_arguments_and_results(arena_name):
    run(
        arena_name,
        """
from dask.tokenize import tokenize
block = arena.put(np.arange(100_000.0))
assert tokenize(block) == tokenize(block) == tokenize(arena.get(block.handle))
assert tokenize(block) != tokenize(arena.put(np.arange(100_000.0)))

def total(block):
    return float(block.array.sum())
def whose(block):
    return bytes(block.handle)
for _ in range(5):
    assert client.submit(total, block, pure=False).result() == 4999950000.0
    assert client.submit(lambda: total(block), pure=False).result() == 4999950000.0
assert client.gather(client.map(total, [block] * 4, pure=False)) == [4999950000.0] * 4
assert arena.in_flight() == []
# Nobody but the client keeps it, for as long as it wants the answer.
later = client.submit(total, arena.put(np.ones(100_000)), workers=a)
assert later.result() == 100_000.0
# A name whose Block has gone says so, in whatever way it is used.
from flagstone.dask import wire
class Gone:
    weak = arena.put(np.ones(100_000)).weak()
    def __reduce__(self):
        return wire._get_in_worker, (self.weak,)
def use(block):
    for how in (lambda x: x.array, lambda x: x[0], len, np.asarray, np.sum, np.from_dlpack, list,
                float, int, complex, bool, lambda x: x.part(0)):
        try:
            how(block)
        except flagstone.StaleHandle as error:
            assert "cannot be had here" in str(error)
        else:
            raise AssertionError(how)
    return True
assert client.submit(use, Gone(), pure=False).result()
# Cancelled, and run again.
def slow(block):
    time.sleep(1)
waiting = [client.submit(slow, block, pure=False) for _ in range(4)]
client.cancel(waiting, force=True)
del waiting
def fails_once(block, path):
    if not os.path.exists(path):
        open(path, "w").close()
        raise RuntimeError("once")
    return total(block)
path = os.path.join(os.getcwd(), "once")
assert client.submit(fails_once, block, path, retries=2).result() == 4999950000.0
assert arena.in_flight() == []

# A task that submits tasks: its worker's client keeps what it gives them.
def slow_total(block):
    time.sleep(0.3)
    return total(block)
def by_client():
    later = distributed.get_client().submit(slow_total, there().put(np.ones(100_000)), pure=False)
    distributed.secede()
    return later.result()
def by_worker_client():
    with distributed.worker_client() as mine:
        one = mine.submit(slow_total, there().put(np.ones(100_000)), pure=False)
        array = mine.submit(make, 200_000, 7, workers=b)
        return one.result(), look(mine.gather(array))
assert client.submit(by_client, workers=a).result() == 100_000.0
assert client.submit(by_worker_client, workers=a).result() == (
    100_000.0, (True, False, 1_400_000.0))

# Blocks as results and as parts of results; nested ones too.
def give():
    return there().put(np.arange(100_000.0))
made = client.submit(give, workers=a)
assert len({client.submit(whose, made, workers=w, pure=False).result() for w in (a, b)}) == 1
direct = client.gather(made, direct=True)
assert type(direct) is flagstone.Block and direct.array[7] == 7
copied = made.result()    # by way of the scheduler: its bytes, in a Block of the client's
assert type(copied) is flagstone.Block and copied.handle != direct.handle
assert (copied.array == direct.array).all()
both = client.submit(lambda one: {"list": [one, one.part(slice(10, 90_000))]}, made, workers=a)
assert client.submit(lambda d: float(d["list"][1][0]), both, workers=b).result() == 10.0
nested = client.gather(both, direct=True)["list"]
assert nested[0].handle == direct.handle and nested[1][0] == 10
assert arena.in_flight() == []
del block, later, made, direct, copied, both, nested
""",
        quiet=False,
    )


def test_memory_is_counted_once_and_spilled(arena_name):
    run(
        arena_name,
        """
def in_arena(dask_worker):
    # What is counted beside the process's own memory, in the same moment, or nearly.
    with open("/proc/self/status") as file:
        sizes = dict(line.split(":") for line in file if line.startswith("Rss"))
    own = sum(int(sizes[name].split()[0]) << 10 for name in ("RssAnon", "RssFile"))
    return dask_worker.monitor.get_process_memory() - own
def usage():
    return {one.name.partition("dask ")[2]: one.usage for one in arena.groups}
big = client.submit(make, 5_000_000, 1, workers=a)    # 40 MB
assert client.submit(look, big, workers=b).result() == (True, False, 5e6)
assert usage()[a] >= 40_000_000 and usage()[b] < 1_000_000
counted = client.run(in_arena)
assert counted[a] > 38_000_000 and counted[b] < 20_000_000, counted   # b has looked at all of it
# More than the worker's memory: the oldest go to disk, and come back.
more = [client.submit(make, 2_500_000, n, workers=a) for n in range(16)]   # 320 MB
wait(more)
def on_disk(dask_worker):
    return len(dask_worker.data.disk), dask_worker.data.settler.refused
spilled, refused = client.run(on_disk)[a]
assert spilled > 3 and not refused, (spilled, refused)
assert usage()[a] < 300 << 20
for n, one in enumerate(more):
    assert client.submit(look, one, workers=b, pure=False).result()[2] == 2_500_000.0 * n
# A Block goes to disk as its bytes, and comes back as a Block.
assert client.submit(lambda: 1, workers=a).result() == 1
def again(dask_worker):
    from flagstone import Block
    data = dask_worker.data
    arena, group = __import__("flagstone.dask.member").dask.member.group_of(dask_worker)
    block = arena.put(np.arange(1000.0), group=group)
    data["block"] = block
    old = bytes(block.handle)
    del block
    data.inner.fast.evict("block")
    assert "block" in data.disk
    found = data["block"]
    assert type(found) is Block and (found.array == np.arange(1000.0)).all()
    del data["block"]
    return True
assert client.run(again)[a]
del big, more, one
""",
        quiet=False,
        memory="300MiB",
    )


def test_a_nanny_kills_for_what_is_the_workers(arena_name):
    run(
        arena_name,
        """
def pids():
    return client.run(os.getpid)
def sizes(dask_worker):
    import psutil
    return psutil.Process().memory_info().rss
before = pids()
mine = [client.submit(make, 5_000_000, n, workers=b) for n in range(4)]      # 160 MB
theirs = [client.submit(make, 5_000_000, 20 + n, workers=a) for n in range(3)]    # 120 MB
looked = [client.submit(lambda x: (x, float(x.sum()))[0], one, workers=b) for one in theirs]
wait([*mine, *looked])
# What b looks at is a's; and when a has dropped it, b's again, for nobody else uses it.
found = client.run(sizes)
assert found[b] > 310_000_000, found
del theirs
more = [client.submit(make, 5_000_000, 10 + n, workers=a) for n in range(4)]
wait(more)
found = client.run(sizes)
assert found[a] > 310_000_000, found
time.sleep(2)       # a nanny looks every 0.1 seconds
assert pids() == before
assert [float(one[0]) for one in client.gather(more, direct=True)] == [10, 11, 12, 13]
del mine, looked, more
def hoard(dask_worker):
    dask_worker.hoard = np.ones(40_000_000)
    time.sleep(60)
try:
    client.run(hoard, workers=[b])
except OSError:
    pass       # the connection was lost with the worker
client.wait_for_workers(2)
assert set(before.values()) - set(pids().values()) == {before[b]}
""",
        quiet=False,
        memory="300MiB",
        config={
            "distributed.worker.memory.terminate": 0.95,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.target": False,
        },
    )


def test_no_room_is_no_error(arena_name):
    run(
        arena_name,
        """
futures = [client.submit(make, 1_000_000, n, workers=a) for n in range(10)]   # 80 MB in 32
for n, one in enumerate(futures):
    assert client.submit(look, one, workers=b, pure=False).result()[2] == 1e6 * n
def refused(dask_worker):
    return dask_worker.data.settler.refused
found = client.run(refused)[a]
assert list(found) == ["ArenaFull"] and found["ArenaFull"] >= 6, found
def in_place():
    array = flagstone.dask.empty((100, 1000))
    array[:] = 7
    return array
assert client.submit(lambda x: (inside(x), float(x.sum())), client.submit(in_place), workers=b
                     ).result()[1] == 700_000.0
assert flagstone.dask.empty(3).shape == (3,)    # no task
del futures, one
""",
        capacity="32MiB",
    )


def test_a_killed_worker_leaves_nothing(arena_name):
    run(
        arena_name,
        """
import signal
def pid():
    return os.getpid()
mine = [client.submit(make, 1_000_000, n, workers=[a], allow_other_workers=True) for n in range(4)]
theirs = client.submit(lambda x: x, mine[0], workers=[b], allow_other_workers=True)
wait([*mine, theirs])
name = "dask " + a
assert any(one.name == name for one in arena.groups)
os.kill(client.submit(pid, workers=a).result(), signal.SIGKILL)
# What it had is computed again; what another one looks at is whole.
assert [float(x[0]) for x in client.gather(mine)] == [0, 1, 2, 3]
assert float(theirs.result().sum()) == 0
del mine, theirs
def gone():
    arena.barrier()
    return all(one.name != name for one in arena.groups) and not arena.in_flight()
settle(gone)
""",
        quiet=False,
    )


def test_a_plugin_for_a_cluster_that_runs(arena_name):
    run(
        arena_name,
        """
import urllib.request, json
one = client.submit(make, 200_000, 1, workers=a)
assert client.submit(look, one, workers=b).result() == (False, True, 200_000.0)
flagstone.dask.enable(client)
flagstone.dask.enable(client)      # again: nothing
client.cluster.scheduler_comm      # open connections stay as they are; new ones know
client.run(drop_connections)
two = client.submit(make, 200_000, 2, workers=a)
settle(lambda: client.submit(look, client.submit(make, 200_000, 2, workers=a, pure=False),
                             workers=b, pure=False).result()[0])
assert client.submit(look, one, workers=b, pure=False).result()[2] == 200_000.0
page = client.dashboard_link.replace("/status", "/flagstone")
settle(lambda: len(json.load(urllib.request.urlopen(page + ".json"))) == 2)
text = urllib.request.urlopen(page).read().decode()
assert a in text and b in text and "arena " + sys.argv[1] in text
del one, two
""",
        preload=False,
    )


def test_other_arenas_get_bytes(arena_name):
    run(
        arena_name,
        """
one = client.submit(make, 200_000, 3, workers=a)
assert client.submit(look, one, workers=b).result() == (True, True, 600_000.0)   # b's own copy
assert len({client.submit(handle, one, workers=w, pure=False).result() for w in (a, b)}) == 2
block = client.submit(lambda: there().put(np.ones(100_000)), workers=a)
assert client.submit(lambda x: (type(x).__name__, float(x.array.sum())), block, workers=b
                     ).result() == ("Block", 100_000.0)
del one, block
""",
        arenas=2,
    )


def test_a_rechunk_whose_worker_was_killed_keeps_no_pieces(arena_name):
    run(
        arena_name,
        """
import asyncio, signal
import dask.array
from distributed.shuffle._exceptions import P2PConsistencyError
def filled(block_info=None):
    return np.ones(block_info[None]["chunk-shape"])
def take_nothing(dask_worker):
    async def never(*args, **options):
        await asyncio.sleep(3600)
    dask_worker.handlers["shuffle_receive"] = never
    return os.getpid()
victim = client.run(take_nothing, workers=[b])[b]
def keep_runs(b, dask_worker):
    # Dask's event loop keeps one now and then, in the context of a timer that was cancelled.
    from distributed.shuffle._rechunk import ArrayRechunkRun
    begin, send = ArrayRechunkRun.__init__, ArrayRechunkRun.send
    dask_worker.kept_runs, dask_worker.sent_pieces = [], 0
    def __init__(run, *args, **options):
        begin(run, *args, **options)
        dask_worker.kept_runs.append(run)
    def and_count(run, address, shards):
        dask_worker.sent_pieces += address == b
        return send(run, address, shards)
    ArrayRechunkRun.__init__, ArrayRechunkRun.send = __init__, and_count
client.run(keep_runs, b, workers=[a])
def sent_pieces(dask_worker):
    return dask_worker.sent_pieces
x = dask.array.map_blocks(filled, chunks=((256,) * 8, (2048,)), dtype=float, meta=np.empty((0, 0)))
x = client.persist(x, workers=[a])
wait(x)
def compute():
    with dask.config.set({"array.rechunk.method": "p2p"}):
        return client.compute(x.rechunk((2048, 256)).sum())
found = compute()
settle(lambda: client.run(sent_pieces, workers=[a])[a])
os.kill(victim, signal.SIGKILL)
try:
    total = found.result()
except P2PConsistencyError:
    # Dask's own: its barrier came between the end of this run and the beginning of the next. As
    # long as somebody has a failed result, asking again gives the same one.
    found.release()
    found = compute()
    total = found.result()
assert float(total) == 2048.0 * 2048
def failed_runs(dask_worker):
    return sum(run._comm_buffer._exception is not None for run in dask_worker.kept_runs)
assert client.run(failed_runs, workers=[a])[a] >= 1
del found, x
client.wait_for_workers(2)
""",
        quiet=False,
        # Dask tries for so long to reach the worker that is dead.
        config={"distributed.comm.timeouts.connect": "10s"},
    )


@pytest.mark.soak  # Dask itself takes minutes over it where other tests run beside it
def test_storms_of_killed_workers(arena_name):
    run(
        arena_name,
        """
import random, signal, threading
import dask.array
from distributed.shuffle._exceptions import P2PConsistencyError
random.seed(7)
over = threading.Event()
killed = []
def kill_now_and_then():
    while not over.wait(random.uniform(0.2, 1.5)):
        # None that begins just now: its nanny would not start another one.
        pids = [one.process.pid for one in list(client.cluster.workers.values())
                if one.process and one.process.status == distributed.Status.running]
        pids = [pid for pid in pids if pid in {one.pid for one in arena.processes if one.alive}]
        if len(pids) >= 2:   # the other one has work to do meanwhile
            victim = random.choice(pids)
            try:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            except ProcessLookupError:
                pass
killer = threading.Thread(target=kill_now_and_then)
killer.start()
try:
    round = 0
    while len(killed) < KILLS or round < 4:
        round += 1
        with dask.config.set({"array.rechunk.method": ("tasks", "p2p")[round % 2]}):
            try:
                x = dask.array.arange(900 * 900, chunks=90_000).reshape(900, 900) + round
                x = x.rechunk((100, 900)).rechunk((900, 100))
                assert int((x.T + x).sum().compute()) == 2 * int(
                    (np.arange(900 * 900) + round).sum())
                padded = dask.array.map_overlap(lambda a: a * 2, x, depth=5, boundary="none")
                assert int(padded.sum().compute()) == 2 * int((np.arange(900 * 900) + round).sum())
                del x, padded
            except (P2PConsistencyError, RuntimeError) as error:
                # Dask's P2P does not survive a death in every moment: what asked asks again.
                if "shuffle" not in str(error) and "P2P" not in str(error):
                    raise
finally:
    over.set()
    killer.join()
print(len(killed), "killed", file=sys.stderr)
client.wait_for_workers(2)
""".replace("KILLS", "4"),
        quiet=False,
    )
