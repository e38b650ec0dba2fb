"""Blocks that a device copies from where they lie. The two calls of the CUDA runtime, and waiting
for the devices, are a stand-in that checks what the runtime relies on: no device is needed.
Programs of their own: for torch has threads of its own.
"""

import pytest

from tests.process.test_torch import run

torch = pytest.importorskip("torch")
pytest.importorskip("flagstone.torch")

# Registered pages have to be mapped, whole and no other registration's; what lies in them is the
# same when the registration ends, which it would not be if the arena had given them back.
DEVICE = """
import ctypes, mmap, threading
from flagstone.testing import wait_until
from flagstone.torch import pin

class Runtime:
    def __init__(self):
        self.registered, self.refusals, self.calls = {}, [], []
        self.waits = 0
        self.ended = threading.Semaphore(0)

    def cudaHostRegister(self, begin, nbytes, flags):
        if self.refusals:
            return self.refusals.pop()
        assert flags == 1 and begin % mmap.PAGESIZE == 0 and nbytes % mmap.PAGESIZE == 0
        for other, (length, *_) in self.registered.items():
            if begin < other + length and other < begin + nbytes:
                return 712
        self.registered[begin] = nbytes, ctypes.string_at(begin, nbytes), self.waits
        self.calls.append("register")
        return 0

    def cudaHostUnregister(self, begin):
        if self.refusals:
            return self.refusals.pop()
        if begin not in self.registered:
            return 713
        nbytes, before, waits = self.registered.pop(begin)
        assert self.waits > waits  # others may have been registered since it waited
        assert ctypes.string_at(begin, nbytes) == before
        assert arena.closed or arena.used >= nbytes - mmap.PAGESIZE
        self.calls.append("unregister")
        self.ended.release()
        return 0

    def wait(self, device):
        self.waits += 1
        self.calls.append("wait")

    def is_pinned(self, tensor):
        at = tensor.data_ptr()
        registered = list(self.registered.items())  # at once: other threads register
        return any(begin <= at < begin + nbytes for begin, (nbytes, *_) in registered)

def device():
    runtime = Runtime()
    torch.cuda.is_available = lambda: True
    torch.cuda.cudart = lambda: runtime
    torch.cuda.device_count = lambda: 1
    torch.cuda.synchronize = runtime.wait
    return runtime

def arrives(tensor):
    import pickle
    from multiprocessing.reduction import ForkingPickler
    return pickle.loads(ForkingPickler.dumps(tensor))

def large(value=1.0):
    return flagstone.torch.empty(arena, (1 << 19,), torch.float32).fill_(value)

"""


def run_with_device(arena_name, body):
    run(arena_name, body, begin=DEVICE)


def test_what_arrives_is_registered_until_it_is_dropped(arena_name):
    run_with_device(
        arena_name,
        """
runtime = device()
with pin(arena) as pinned:
    tensor = large(7)
    assert not runtime.is_pinned(tensor)
    arrived = arrives(tensor[10:])
    again = arrives(tensor)
    small = arrives(flagstone.torch.empty(arena, 1000))
    assert runtime.is_pinned(arrived) and runtime.is_pinned(again) and not runtime.is_pinned(small)
    assert runtime.calls == ["register"] and pinned.nbytes == tensor.nbytes
    assert arrived.data_ptr() == tensor[10:].data_ptr() and arrived[0] == 7
    view = arrived.view(-1, 2)[3:]
    del tensor, arrived, again
    arena.shrink()
    assert runtime.registered                      # for a view of it lives
    assert not runtime.ended.acquire(timeout=0.1)
    del view
    assert runtime.ended.acquire(timeout=60)
    assert runtime.calls == ["register", "wait", "unregister"]
    arrived = arrives(large())                     # and again
    assert len(runtime.registered) == 1
assert runtime.registered == {} and pinned.nbytes == 0
assert arrived[0] == 1
assert not runtime.is_pinned(arrives(arrived))
assert threading.active_count() == 1
del arrived, small
nothing_left()

group = arena.group("all")                         # its pages stay, whoever else gives them up
with pin(arena) as pinned:
    tensor = flagstone.torch.empty(arena, 1 << 20, torch.uint8, group=group).fill_(5)
    arrived = arrives(tensor)
    flagstone.block_of(tensor)[0].free()
    group.destroy()
    del tensor
    arena.shrink()
    for _ in range(3):
        large(3)                                   # would take the memory
    assert int(arrived.min()) == 5
    del arrived
    assert runtime.ended.acquire(timeout=60)
nothing_left()
""",
    )


def test_calling_it(arena_name):
    run_with_device(
        arena_name,
        """
runtime = device()
with pin(arena, threshold="1GiB") as pinned, flagstone.open(None, capacity="16MiB") as other:
    kept = large()
    assert not runtime.is_pinned(arrives(kept))
    mine = pinned(kept[4:])
    assert runtime.is_pinned(mine) and mine.data_ptr() == kept[4:].data_ptr()
    block = arena.put(np.ones((2, 3, 50_000)))
    from_block = pinned(block)
    assert runtime.is_pinned(from_block) and from_block.shape == (2, 3, 50_000)
    wanted = torch.ones(4, requires_grad=True)
    elsewhere = flagstone.torch.empty(other, 100_000)
    for wrong in (torch.ones(4), wanted, elsewhere, "no tensor", np.ones(4)):
        try:
            pinned(wrong)
        except LookupError as error:
            assert "Pinned" in str(error)
        else:
            raise AssertionError(wrong)
    cache = arena.cache("shared pages", size=100)
    one, two = cache.alloc(), cache.alloc()
    first = pinned(one)
    try:
        pinned(two)
    except RuntimeError as error:
        assert "shares a page" in str(error) and "pin_memory" in str(error)
    else:
        raise AssertionError
    runtime.refusals.append(2)
    try:
        pinned(large())
    except RuntimeError as error:
        assert "error 2" in str(error)
    else:
        raise AssertionError
    assert pinned.failure is None
try:
    pinned(kept)
except flagstone.Closed:
    pass
else:
    raise AssertionError
assert runtime.registered == {}
pinned.close()
del kept, mine, block, from_block, one, two, first, cache
""",
    )


def test_a_runtime_that_refuses(arena_name):
    run_with_device(
        arena_name,
        """
import logging
told = []
class Told(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())
logging.getLogger("flagstone").addHandler(Told())

runtime = device()
with pin(arena) as pinned:
    runtime.refusals.append(801)
    arrived = arrives(large(3))
    assert arrived[0] == 3 and runtime.registered == {}
    assert "801" in pinned.failure and len(told) == 1 and "left to torch" in told[0]
    assert arrives(large(4))[0] == 4 and len(told) == 1
del arrived
nothing_left()

with pin(arena) as pinned:                         # and one that goes on to mean the pages
    arrived = arrives(large(3))
    runtime.refusals.append(4)
    del arrived
    wait_until(lambda: pinned.failure is not None, 60)
    assert len(told) == 2 and "kept" in told[1]
    arena.shrink()
    assert arena.used >= 1 << 21                   # so they are kept
""",
    )


def test_forks_and_ends(arena_name):
    run_with_device(
        arena_name,
        """
runtime = device()
pinned = pin(arena)
arrived = arrives(large(3))

def child():
    global arrived
    assert pinned.nbytes == 0
    assert arrives(arrived)[0] == 3
    try:
        pinned(arrived)
    except RuntimeError as error:
        assert "forked" in str(error)
    else:
        raise AssertionError
    del arrived
    pinned.close()
    assert runtime.calls == ["register"]

process = multiprocessing.get_context("fork").Process(target=child)
globals().update(pinned=pinned, runtime=runtime, arrived=arrived)
process.start()
process.join()
assert process.exitcode == 0
assert len(runtime.registered) == 1
arena.close()
pinned.close()
assert runtime.registered == {} and arrived[0] == 3
""",
    )


def test_the_end_of_the_program(arena_name):
    run_with_device(
        arena_name,
        """
import atexit
runtime = device()
atexit.register(lambda: print("registered" if runtime.registered else "done"))
atexit.register(sys.stdout.flush)
globals().update(arrived=arrives(large(3)))
pin(arena)
globals().update(arrived=arrives(large(3)))
assert runtime.registered
sys.exit()
""",
    )


def test_a_loader_has_nothing_to_copy(arena_name):
    run_with_device(
        arena_name,
        """
runtime = device()
copied = []

def pin_memory(tensor, device=None):
    if runtime.is_pinned(tensor):
        return tensor
    copied.append(tensor.nbytes)
    return tensor.clone()

torch.Tensor.pin_memory = pin_memory
torch.accelerator.is_available = lambda: True
torch.accelerator.current_accelerator = lambda *_: torch.device("cuda")
torch.accelerator.current_device_index = lambda: 0
torch.accelerator.set_device_index = lambda index: None
with pin(arena, threshold="64KiB") as pinned:
    count = 0
    for batch in loader(Images(), pin_memory=True):
        assert runtime.is_pinned(batch["image"]) and inside(batch["image"])
        assert batch["image"][1, 0, 0, 0] == batch["label"][1]
        count += 1
    assert count == 6
    assert max(copied) < 64 << 10
    for batch in loader(Images(), pin_memory=True):
        break
    del batch
assert runtime.registered == {}
assert runtime.calls.count("register") == runtime.calls.count("unregister") >= 7
nothing_left()
""",
    )


def test_at_once_from_many_threads(arena_name):
    run_with_device(
        arena_name,
        """
runtime = device()
sys.setswitchinterval(1e-5)
kept = [large(n) for n in range(4)]
wrong = []
def work(seed):
    for n in range(60):
        which = (n + seed) % 4
        arrived = arrives(kept[which])
        if not runtime.is_pinned(arrived) or arrived[5] != which:
            wrong.append(which)
with pin(arena) as pinned:
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and pinned.failure is None
assert runtime.registered == {}
del kept
nothing_left()
""",
    )
