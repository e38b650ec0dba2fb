"""Ray with Blocks that travel as names, in programs of their own with real Ray processes."""

from pathlib import Path

import pytest

from tests.process.ray_support import run
from tools.pages import blocks

# Ray is larger than all else that the tests install, and starts slowly: `make soak` brings it.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _ray():
    pytest.importorskip("ray")


ONE_NODE = """
flagstone.ray.init(NAME, capacity="128MiB", _temp_dir=TEMPORARY, **NODE | RAY)
arena = flagstone.ray.arena()

@ray.remote(max_retries=3)
def make(count, value):
    block = flagstone.ray.empty(count, "f8")
    block.array[:] = value
    return block

@ray.remote
def look(block):
    return os.getpid(), bytes(block.handle), float(block.array.sum())

@ray.remote(max_restarts=0)
class Actor:
    def pid(self):
        return os.getpid()
    def make(self, value):
        block = flagstone.ray.put(np.full(50_000, float(value)))
        return {"blocks": [block], "name": "one"}
    def look(self, found):
        return bytes(found["blocks"][0].handle)
    def keep(self, block):
        self.block = block

@ray.remote
class Async:
    async def look(self, found):
        return bytes(found["blocks"][0].handle)
    async def make(self):
        return flagstone.ray.put(np.arange(3))
"""


def test_on_one_node(arena_name):
    _, errors = run(
        arena_name,
        ONE_NODE
        + """
# Results and arguments are the same object for everybody, as often as they are read.
one = make.remote(200_000, 3)
block = ray.get(one)
assert block.shape == (200_000,) and float(block.array.sum()) == 600_000
handle = bytes(block.handle)
for _ in range(3):
    assert bytes(ray.get(one).handle) == handle
    assert ray.get(look.remote(one))[1:] == ray.get(look.remote(block))[1:] == (handle, 600_000.0)
actor, coroutine = Actor.remote(), Async.remote()
inside = actor.make.remote(1)
handles = {ray.get(actor.look.remote(inside)), ray.get(coroutine.look.remote(inside)),
           bytes(ray.get(inside)["blocks"][0].handle)}
assert len(handles) == 1
assert ray.get(coroutine.make.remote()).array[2] == 2
put = ray.put(flagstone.ray.put(np.asfortranarray(np.ones((3, 4)))))
assert ray.get(put).array.flags.f_contiguous
assert arena.in_flight() == []

# What nobody can ask for any more ends; what is still asked for does not.
victim = Actor.remote()
ray.get(victim.keep.remote(block))
left = victim.make.remote(7)
ray.wait([left])
del block
for _ in range(50):
    assert ray.get(look.remote(one))[2] == 600_000
    del put
    put = ray.put(flagstone.ray.put(np.ones(10_000)))
os.kill(ray.get(victim.pid.remote()), signal.SIGKILL)
assert ray.get(left)["blocks"][0].array[0] == 7     # its maker is dead

# A task that is run again.
@ray.remote(max_retries=2)
def twice(block, mark):
    try:
        os.mkdir(mark)
    except FileExistsError:
        return float(block.array[0])
    os.kill(os.getpid(), signal.SIGKILL)
assert ray.get(twice.remote(one, TEMPORARY + "/mark")) == 3.0

# An actor that is started again: what its constructor was given has to be kept, as large arrays.
@ray.remote(max_restarts=1, max_task_retries=1)
class Again:
    def __init__(self, block):
        self.block = block
    def total(self):
        return float(self.block.array.sum()), os.getpid()
block = flagstone.ray.put(np.ones(50_000))
again = Again.remote(block)
total, pid = ray.get(again.total.remote())
os.kill(pid, signal.SIGKILL)
found = ray.get(again.total.remote())
assert found[0] == total == 50_000 and found[1] != pid
ray.kill(again)
del again, block

del one, put, left, inside
until(lambda: flagstone.ray.group().usage < 200_000)

# Short of memory it waits for what Ray is about to let go of.
for _ in range(20):
    made = make.remote(4_000_000, 1)
    ray.wait([made])
    del made
try:
    flagstone.ray.put(np.ones(40_000_000))
except flagstone.ArenaFull as error:
    assert NAME in str(error)
else:
    raise AssertionError

# The keeper is killed: what it held is gone and says so, and what comes is right.
lost = make.remote(1000, 5)
ray.wait([lost])
from flagstone.ray import member
os.kill(ray.get(member.here().keeper.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
try:
    until(lambda: ray.get(lost) is None)
except ray.exceptions.RaySystemError as error:
    assert "keeper of this node's arena has ended" in str(error), error
else:
    raise AssertionError
assert ray.get(look.remote(make.remote(1000, 6)))[2] == 6000

flagstone.ray.shutdown()
assert not [one for one in os.listdir("/dev/shm") if NAME in one], os.listdir("/dev/shm")
""",
    )
    assert "pid" not in errors, errors


SEVERAL_NODES = """
cluster = Cluster()
def node(arena, resource, **options):
    return cluster.add_node(env_vars={"FLAGSTONE_RAY_ARENA": arena}, resources={resource: 99},
                            **NODE | options)
# Ray is to notice a killed node within two seconds, not half a minute.
noticing = dict(health_check_period_ms=500, health_check_failure_threshold=3)
head = node(NAME, "a", temp_dir=TEMPORARY, _system_config=noticing)
other = node(NAME + "-b", "b")
os.environ["FLAGSTONE_RAY_ARENA"] = NAME
os.environ["FLAGSTONE_RAY_CAPACITY"] = "64MiB"
flagstone.ray.init(capacity="64MiB", address=cluster.address, **RAY)
a, b, c = ({"resources": {name: 1}} for name in "abc")

@ray.remote(num_cpus=0)
def make(count, value):
    with open(f"{TEMPORARY}/made-{value}", "a") as file:
        file.write("x")
    block = flagstone.ray.empty((count, 2), "f4", order="F")
    block.array[:] = value
    return block

@ray.remote(num_cpus=0)
def look(block):
    array, path = block.array, flagstone.ray.arena().path
    return path, array.flags.f_contiguous, str(array.dtype), float(array.sum())

def end():
    flagstone.ray.shutdown()
    cluster.shutdown()
    flagstone.open(NAME + "-e", capacity="1MiB", create=True).close()  # removes what others left
    assert not [one for one in os.listdir("/dev/shm") if NAME in one], os.listdir("/dev/shm")
"""


def test_on_two_nodes(arena_name):
    run(
        arena_name,
        SEVERAL_NODES
        + """
one = make.options(**a).remote(1000, 2)
two = make.options(**b).remote(1000, 3)
for made, total in ((one, 4000.0), (two, 6000.0)):
    here = ray.get(look.options(**a).remote(made))
    there = ray.get(look.options(**b).remote(made))
    assert here[1:] == there[1:] == (True, "float32", total), (here, there)
    assert here[0].endswith(NAME) and there[0].endswith(NAME + "-b")
    assert float(ray.get(made).array.sum()) == total

# There, the copy is the same for all who read the same name, for as long as somebody has the name.
@ray.remote(num_cpus=0)
def whose(block):
    return bytes(block.handle)
assert len({ray.get(whose.options(**b).remote(one)) for _ in range(3)}) == 1
many = [make.options(**a).remote(100_000, 4) for _ in range(4)]
assert [ray.get(look.options(**b).remote(each))[3] for each in many] == [800_000] * 4
@ray.remote(num_cpus=0)
def usage():
    return flagstone.ray.group().usage
assert ray.get(usage.options(**b).remote()) > 3_000_000
del many
until(lambda: ray.get(usage.options(**b).remote()) < 200_000)
# Short of memory, copies go first: they can be had again.
large = make.options(**a).remote(4_000_000, 5)
assert ray.get(look.options(**b).remote(large))[3] == 40_000_000
more = make.options(**b).remote(6_000_000, 6)
assert ray.get(look.options(**b).remote(more))[3] == 72_000_000
del more
assert ray.get(look.options(**b).remote(large))[3] == 40_000_000
end()
""",
    )


def test_a_node_is_lost(arena_name):
    """Ray runs again what made a Block that lay there, if no other node has it."""
    run(
        arena_name,
        SEVERAL_NODES
        + """
node(NAME + "-c", "c")
unread, read, read_here = (make.options(**b).remote(1000, value) for value in (1, 2, 3))
inside = make.options(**b).remote(1000, 4)
once = make.options(max_retries=0, **b).remote(1000, 5)
@ray.remote(num_cpus=0)
def double(block):
    return {"twice": [flagstone.ray.put(block.array * 2)], "itself": block}
doubled = double.options(**b).remote(inside)
ray.wait([unread, read, read_here, once, doubled], num_returns=5, fetch_local=False)
assert ray.get(look.options(**c).remote(read))[3] == 4000
assert float(ray.get(read_here).array.sum()) == 6000

# Ray has brought the name of this one here, and nobody has looked at it.
brought = make.options(**b).remote(1000, 6)
ray.wait([brought], fetch_local=True)
until(lambda: len(ray.experimental.get_object_locations([brought])[brought]["node_ids"]) == 2)

cluster.remove_node(other, allow_graceful=False)
node(NAME + "-d", "b")
for _ in range(2):
    for made, total in ((unread, 2000), (read, 4000), (read_here, 6000)):
        for where, path in ((a, NAME), (c, NAME + "-c"), (b, NAME + "-d")):
            found = ray.get(look.options(**where).remote(made))
            assert found[1:] == (True, "float32", total) and found[0].endswith(path), found
        assert float(ray.get(made).array.sum()) == total
found = ray.get(doubled)
assert float(found["twice"][0].array.sum()) == 16_000 and float(found["itself"].array.sum()) == 8000
del found
times = {value: os.path.getsize(f"{TEMPORARY}/made-{value}") for value in (1, 2, 3, 4, 5)}
assert times == {1: 2, 2: 1, 3: 1, 4: 2, 5: 1}, times
try:
    ray.get(once)
except ray.exceptions.ObjectLostError:
    pass      # as with any other result that may not be made again
else:
    raise AssertionError
try:
    ray.get(brought)
except ray.exceptions.RaySystemError as error:
    # Ray has no way to be told that what it has is worth nothing.
    assert "Fix: make it again, by a call of what made it" in str(error), error
else:
    raise AssertionError
assert float(ray.get(make.options(**b).remote(1000, 6)).array.sum()) == 12_000
end()
""",
    )


def test_nodes_are_lost_all_the_time(arena_name):
    run(
        arena_name,
        SEVERAL_NODES
        + """
import random

@ray.remote(num_cpus=0, max_retries=-1)
def more(block):
    time.sleep(0.05)
    return flagstone.ray.put(block.array + 1)

dice = random.Random(17)
for round in range(4):
    refs = [make.options(**b, max_retries=-1).remote(1000, value) for value in range(6)]
    for _ in range(4):
        refs = [more.options(**b).remote(one) for one in refs]
    time.sleep(dice.uniform(0, 0.8))
    new = node(f"{NAME}-{round}", "b")
    cluster.remove_node(other, allow_graceful=False)     # with what its tasks have made so far
    other = new
    for value, one in enumerate(refs):
        assert (ray.get(one).array == value + 4).all()
refs = one = None
until(lambda: flagstone.ray.group().usage < 200_000)
end()
""",
    )


def test_the_driver_is_killed(arena_name):
    said, _ = run(
        arena_name,
        ONE_NODE
        + """
blocks = ray.get([make.remote(1_000_000, value) for value in range(5)])
print("now", flush=True)
time.sleep(600)
""",
        killed=True,
    )
    assert said.startswith("now")
    # Ray ends its processes one after the other. A job that comes then finds room.
    run(
        arena_name,
        ONE_NODE
        + """
until(lambda: sum(one.alive for one in arena.processes) <= 3)
until(lambda: arena.used < 300_000)
flagstone.ray.shutdown()
assert not [one for one in os.listdir("/dev/shm") if NAME in one], os.listdir("/dev/shm")
""",
    )


def test_a_group_for_each_job(arena_name):
    """Of two jobs on one node, each is charged with its own, and gives it back as it ends."""
    run(
        arena_name,
        """
import subprocess
cluster = Cluster()
cluster.add_node(env_vars={"FLAGSTONE_RAY_ARENA": NAME}, temp_dir=TEMPORARY, **NODE)
os.environ |= {"FLAGSTONE_RAY_ARENA": NAME, "FLAGSTONE_RAY_CAPACITY": "64MiB"}
OTHER = '''
import sys, ray, numpy as np, flagstone.ray
flagstone.ray.init(address=sys.argv[1], include_dashboard=False, logging_level="ERROR",
                   log_to_driver=False)
kept = ray.put(flagstone.ray.put(np.ones(200_000)))
print(flagstone.ray.group().name, flush=True)
sys.stdin.readline()
flagstone.ray.shutdown()
'''
flagstone.ray.init(address=cluster.address, **RAY)
arena, mine = flagstone.ray.arena(), flagstone.ray.group().name
kept = ray.put(flagstone.ray.put(np.zeros(200_000)))
names = {mine}
for killed in (False, True):
    with subprocess.Popen([sys.executable, "-c", OTHER, cluster.address], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        theirs = other.stdout.readline().strip()
        used = {one.name: one.usage for one in arena.groups}
        assert set(used) == {mine, theirs} and min(used.values()) >= 1_600_000, used
        if killed:
            other.kill()
    until(lambda: [one.name for one in arena.groups] == [mine])
    names.add(theirs)
    assert not ray.get(kept).array.any()
assert len(names) == 3
flagstone.ray.shutdown()
cluster.shutdown()
assert not [one for one in os.listdir("/dev/shm") if NAME in one], os.listdir("/dev/shm")
""",
    )


def test_workers_are_killed_all_the_time(arena_name):
    _, errors = run(
        arena_name,
        ONE_NODE
        + """
import random, threading

@ray.remote(max_retries=-1)
def more(block):
    result = flagstone.ray.empty(block.shape)
    np.add(block.array, 1, out=result.array)
    time.sleep(0.02)
    return result

from flagstone.ray import member
keeper = ray.get(member.here().keeper.__ray_call__.remote(lambda self: os.getpid()))
over, killed = threading.Event(), []

def kill():
    dice = random.Random(7)
    while not over.wait(0.3):
        pids = [one.pid for one in arena.processes
                if one.alive and not one.is_self and one.pid != keeper]
        if pids:
            killed.append(dice.choice(pids))
            try:
                os.kill(killed[-1], signal.SIGKILL)
            except ProcessLookupError:
                pass

killer = threading.Thread(target=kill)
killer.start()
try:
    for round in range(4):
        refs = [make.options(max_retries=-1).remote(100_000, value) for value in range(8)]
        for _ in range(5):
            refs = [more.remote(one) for one in refs]
        for value, block in enumerate(ray.get(refs)):
            assert (block.array == value + 5).all(), (value, block.array[:3])
        del refs, block
finally:
    over.set()
    killer.join()
assert len(killed) > 5, killed
assert arena.in_flight() == []
until(lambda: flagstone.ray.group().usage < 200_000)
flagstone.ray.shutdown()
assert not [one for one in os.listdir("/dev/shm") if NAME in one], os.listdir("/dev/shm")
""",
    )
    assert "flagstone" not in errors, errors  # what Ray made good is no news


def test_the_program_of_the_page(arena_name):
    """As it stands there, but for what a node of a test has."""
    page = Path(__file__).parents[2] / "docs" / "guides" / "ray.md"
    (program,) = [one.text for one in blocks(page.read_text()) if one.language == "python"]
    begin = "flagstone.ray.init(num_cpus=4)"
    assert begin in program
    ours = 'flagstone.ray.init(NAME, capacity="128MiB", _temp_dir=TEMPORARY, **NODE | RAY)'
    output, _ = run(arena_name, program.replace(begin, ours, 1))
    assert output == "[0.0, 1.0, 2.0, 3.0]\n"


def test_without_a_driver_that_began():
    import flagstone.ray

    with pytest.raises(RuntimeError, match=r"flagstone\.ray\.init"):
        flagstone.ray.arena()
