"""PyTorch's tensors over Blocks, and DataLoaders whose batches are Blocks. Programs of their own:
for torch has threads of its own.
"""

import signal
import subprocess
import sys

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import METHODS, PATIENCE

torch = pytest.importorskip("torch")
pytest.importorskip("flagstone.torch")

BEGIN = """
import collections, gc, multiprocessing, os, signal, sys, time, warnings
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info
import flagstone, flagstone.torch

torch.set_num_threads(1)
Pair = collections.namedtuple("Pair", "left right")

class Images(Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, i):
        return {
            "image": torch.full((3, 40, 40), float(i)),
            "half": torch.full((5,), i, dtype=torch.bfloat16),
            "label": i,
            "pair": Pair(np.full((4, 2), i), (float(i), str(i), [np.float32(i), True])),
        }

class Bad(Images):
    def __getitem__(self, i):
        if i == 9:
            raise ZeroDivisionError
        return super().__getitem__(i)

class Deadly(Images):
    def __getitem__(self, i):
        if i == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)

class Patricide(Images):
    # The other worker works already: torch's workers remember their parent when they begin, and one
    # that began after its parent's death would wait for ever, with any collate function.
    def __init__(self):
        self.other_works = multiprocessing.Event()
    def __getitem__(self, i):
        if i == 4:
            self.other_works.set()
        if i == 9:
            self.other_works.wait()
            os.kill(os.getppid(), signal.SIGKILL)
        return super().__getitem__(i)

class Stream(IterableDataset):
    def __iter__(self):
        for i in range(get_worker_info().id, 24, get_worker_info().num_workers):
            yield torch.full((100,), float(i))

def tensors(batch):
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, dict):
        for one in batch.values():
            yield from tensors(one)
    elif isinstance(batch, (list, tuple)):
        for one in batch:
            yield from tensors(one)

def inside(tensor):
    try:
        flagstone.block_of(tensor.view(torch.uint8) if tensor.dtype == torch.bfloat16 else tensor)
    except LookupError:
        return False
    return True

def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and all(map(same, one, other))
    return one == other

def loader(data, **options):
    collate = flagstone.torch.Collate(arena, options.pop("group", None))
    return DataLoader(data, 4, collate_fn=collate, **{"num_workers": 2, **options})

def nothing_left():
    gc.collect()
    assert arena.in_flight() == [], arena.in_flight()
    arena.barrier()
    arena.shrink()
    assert arena.used == 0, arena.groups
    assert arena.check() == []

"""


def run(arena_name, body, status=0, capacity="256MiB", begin=""):
    source = BEGIN + begin + "def main():\n    global arena\n"
    source += f"    arena = flagstone.open({arena_name!r}, capacity={capacity!r})\n"
    source += "".join(f"    {line}\n" for line in body.strip().splitlines())
    source += "\nif __name__ == '__main__':\n    main()\n    print('done')\n"
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert ran.returncode == status, ran.stderr
    assert status or ran.stdout == "done\n"


# ---- tensors


def test_tensors_over_blocks(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        for shape, dtype in (
            ((2, 3), torch.float32),
            (5, torch.bfloat16),
            ((), torch.int64),
            ((4,), torch.bool),
            ((0, 3), torch.float64),
        ):
            tensor = flagstone.torch.empty(arena, shape, dtype)
            assert tensor.dtype == dtype
            assert tensor.shape == torch.zeros(shape).shape
            tensor.fill_(1)
            assert tensor.numel() == 0 or tensor.sum() == tensor.numel()
        assert flagstone.torch.empty(arena, 3).dtype == torch.get_default_dtype()
        block = arena.put(np.arange(6.0).reshape(2, 3))
        view = flagstone.torch.from_block(block)[1]
        view[0] = 9
        assert block.array[1, 0] == 9
        block.free()
        assert view.tolist() == [9, 4, 5]


def test_what_torch_makes_of_a_block(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        block = arena.put(np.arange(6.0).reshape(2, 3))
        for make in (torch.asarray, torch.as_tensor, torch.tensor, torch.from_dlpack):
            tensor = make(block)
            assert tensor.dtype == torch.float64
            assert tensor.tolist() == block.array.tolist()
        assert torch.asarray(block, dtype=torch.int32).dtype == torch.int32
        assert torch.asarray([1, 2]).tolist() == [1, 2]
        batch = torch.utils.data.default_collate([block, block])
        assert batch.tolist() == [block.array.tolist()] * 2
        batch = torch.utils.data.default_collate([(block[0], 1), (block[1], 2)])
        assert batch[0].tolist() == block.array.tolist()


def test_what_is_refused(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        arena.store("s")["a"] = np.ones(3)
        if not torch.cuda.is_available():
            with pytest.raises(RuntimeError, match="no CUDA device"):
                flagstone.torch.pin(arena)
        with pytest.raises(TypeError):
            flagstone.torch.from_block(arena.put(np.array(["a"])))
        with pytest.raises(flagstone.GroupLimitExceeded):
            flagstone.torch.empty(arena, 100_000, group=arena.group(limit="64KiB"))


def test_no_tensor_that_refuses_writes(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        arena.store("s")["a"] = np.ones(3)
        source = f"""
import flagstone, flagstone.torch
with flagstone.open({arena_name!r}, create=False, readonly=True) as arena:
    try:
        flagstone.torch.from_block(arena.store("s").block("a"))
    except flagstone.ReadOnly as error:
        assert "copy()" in str(error)
    else:
        raise AssertionError
"""
        ran = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=PATIENCE)
        assert ran.returncode == 0, ran.stderr


QUEUES = """
def echo(inbox, outbox):
    while (tensor := inbox.get()) is not None:
        found = inside(tensor)
        tensor += 1
        outbox.put((tensor, found))
        del tensor
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("module", ["multiprocessing", "torch.multiprocessing"])
def test_tensors_travel_as_blocks(arena_name, method, module, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        BEGIN
        + QUEUES
        + f"""
def main():
    global arena
    import {module} as mp
    context = mp.get_context({method!r})
    arena = flagstone.open({arena_name!r}, capacity="64MiB")
    inbox, outbox = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=echo, args=(inbox, outbox))
    process.start()
    whole = flagstone.torch.empty(arena, (4, 6), torch.float32).zero_()
    half = flagstone.torch.empty(arena, 8, torch.bfloat16).zero_()
    for tensor in (whole, whole[1:3], whole[:, ::2], whole.t(), whole[2, 3], half[2:]):
        before = tensor.clone()
        inbox.put(tensor)
        back, found = outbox.get()
        assert found and inside(back)
        assert back.data_ptr() == tensor.data_ptr() or back.stride() == tensor.stride()
        assert torch.equal(tensor, before + 1)     # written over there
        assert torch.equal(back, tensor)
    own = torch.zeros(3)
    inbox.put(own)
    back, found = outbox.get()
    assert not found and back.tolist() == [1, 1, 1]
    inbox.put(None)
    process.join()
    assert process.exitcode == 0
    del tensor, whole, half, back
    nothing_left()

if __name__ == "__main__":
    main()
"""
    )
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr


# ---- batches


@pytest.mark.parametrize("method", METHODS)
def test_batches_are_blocks(arena_name, method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        BEGIN
        + f"""
def main():
    global arena
    arena = flagstone.open({arena_name!r}, capacity="256MiB")
    images = Images()
    ours = loader(images, multiprocessing_context={method!r})
    kept = list(ours)
    assert len(kept) == 6
    for number, batch in enumerate(kept):
        assert same(batch, default_collate([images[4 * number + n] for n in range(4)]))
        assert all(map(inside, tensors(batch))), batch
    assert arena.in_flight() == []
    kept[0]["image"] += 1
    del batch, kept
    nothing_left()
    for batch in ours:      # again, and this time it is left
        break
    del batch
    nothing_left()

if __name__ == "__main__":
    main()
"""
    )
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr


def test_each_iterator_has_a_group(arena_name):
    run(
        arena_name,
        """
job = arena.group("job")
both = loader(Images(), group=job)
one, two = iter(both), iter(both)
first, second = next(one)["image"], next(two)["image"]
groups = {flagstone.block_of(tensor)[0].group.name for tensor in (first, second)}
assert len(groups) == 2 and {one.name for one in job.children} == groups
del one
second = next(two)["image"]
kept = first.clone()
del two
assert arena.in_flight() == []
assert torch.equal(first, kept)
del first, second, both
gc.collect()
job.destroy()
nothing_left()
""",
    )


def test_an_iterator_in_a_cycle(arena_name):
    run(
        arena_name,
        """
for _ in range(3):
    iterator = iter(loader(Images(), prefetch_factor=4))
    next(iterator)
    iterator.itself = iterator
    del iterator
    nothing_left()
""",
    )


def test_an_exception_in_a_worker(arena_name):
    run(
        arena_name,
        """
for _ in range(2):
    try:
        for batch in loader(Bad()):
            pass
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError
    del batch
    nothing_left()
""",
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_is_killed(arena_name, workers):
    run(
        arena_name,
        f"""
for _ in range(2):
    try:
        for batch in loader(Deadly(), num_workers={workers}):
            time.sleep(0.05)
    except RuntimeError as error:
        assert "worker" in str(error), error
    else:
        raise AssertionError
    batch = None
    nothing_left()
""",
    )


def test_persistent_workers(arena_name):
    run(
        arena_name,
        """
persistent = loader(Images(), persistent_workers=True)
for _ in range(2):
    assert sum(len(batch["label"]) for batch in persistent) == 24
for batch in persistent:
    break
for batch in persistent:
    pass
for batch in persistent:
    break
del batch, persistent
nothing_left()
""",
    )


def test_a_stream(arena_name):
    run(
        arena_name,
        """
for _ in range(2):
    found = sorted(float(row[0]) for batch in loader(Stream()) for row in batch)
    assert found == [float(n) for n in range(24)]
    nothing_left()
""",
    )


def test_without_workers_and_inside_of_another_function(arena_name):
    run(
        arena_name,
        """
assert all(all(map(inside, tensors(batch))) for batch in loader(Images(), num_workers=0))
collate = flagstone.torch.Collate(arena)
for batch in DataLoader(Images(), 4, num_workers=2, collate_fn=lambda samples: collate(samples)):
    assert all(map(inside, tensors(batch)))
for batch in DataLoader(Images(), 4, num_workers=2, collate_fn=lambda samples: collate(samples)):
    break
del batch
gc.collect()
nothing_left()
""",
    )


def test_no_room(arena_name):
    run(
        arena_name,
        """
small = arena.group("small", limit="64KiB")
images = Images()
for number, batch in enumerate(loader(images, group=small)):
    assert same(batch, default_collate([images[4 * number + n] for n in range(4)]))
    assert not inside(batch["image"])
del batch
gc.collect()
small.destroy()
nothing_left()
""",
    )


def test_the_program_is_killed(arena_name):
    with flagstone.open(arena_name, capacity="256MiB") as arena:
        body = "for batch in loader(Patricide()):\n    pass"
        run(arena_name, body, status=-signal.SIGKILL)
        wait_until(lambda: len(arena.processes) == 1, PATIENCE)
        assert all(one.group.startswith("loader-") for one in arena.in_flight())
        arena.drop_in_flight(sender="dead")
        arena.barrier()
        arena.shrink()
        assert arena.used == 0
