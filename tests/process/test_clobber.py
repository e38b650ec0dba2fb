"""An arena whose file was overwritten raises FlagstoneErrors: nobody crashes or waits for ever.

Each case is a process of its own, forked by a program that has no arena open.
"""

import os

import pytest

from tests.process.support import program

CASES = 2000 if os.environ.get("FST_TEST_SOAK") else 300

SOURCE = """
import mmap, os, pickle, random, signal, sys
import numpy as np
import flagstone

name, cases, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def child(body):
    '''Run body in a forked process; how it ended.'''
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            body()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

reader, writer = os.pipe()

def populate():
    arena = flagstone.open(name, capacity="16MiB", lasting=True)
    cache = arena.cache("thing", size=100)
    arena.cache("same thing", size=100)
    shaped = arena.cache("shaped", shape=(3, 4), dtype="<f4")
    outer = arena.group("outer", limit="8MiB", lasting=True)
    inner = arena.group("inner", parent=outer, lasting=True)
    blocks = [cache.alloc(), cache.alloc(inner), shaped.alloc(inner), arena.put(b"x" * 70_000)]
    with arena.group("gone") as gone:
        cache.alloc(gone)
    arena.barrier(60)
    os.write(writer, pickle.dumps((arena.path, pickle.dumps(blocks))))

assert child(populate) == 0
path, message = pickle.loads(os.read(reader, 1 << 16))
file = os.open(path, os.O_RDWR)
size = os.fstat(file).st_size

def parts():
    at = 0
    while True:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(file, at, os.SEEK_HOLE)
        yield at, os.pread(file, end - at, at)
        at = end

saved = list(parts())
# The words of the control region that lie in a line which is in use.
words = []
for start, data in saved:
    lines = range(0, len(data) if start < size - (16 << 20) else 0, 64)
    used = [line for line in lines if any(data[line : line + 64])]
    words += [start + at for line in used for at in range(line, line + 64, 8)]

def clobber(at, value):
    with mmap.mmap(file, 4096, offset=at & ~4095) as page:
        page[at & 4095 : (at & 4095) + 8] = value

def use(arena, blocks):
    def attempt(call):
        try:
            return call()
        except (flagstone.FlagstoneError, TimeoutError):
            return None
    for block in blocks:
        attempt(lambda: bytes(block))
    attempt(arena.check)
    attempt(lambda: arena.snapshot())
    attempt(lambda: arena.slabinfo())
    for _ in range(3):
        try:
            cache = attempt(lambda: arena.cache("thing", size=100))
        except ValueError:  # it is another size's now
            cache = None
        group = attempt(lambda: arena.group("outer"))
        if cache and group:
            kept = [attempt(lambda: cache.alloc()) for _ in range(50)]
            kept += [attempt(lambda: cache.alloc(group)) for _ in range(5)]
            kept += [attempt(lambda: arena.alloc(nbytes)) for nbytes in (0, 8, 5000, 300_000)]
            for block in kept:
                if block is not None and block.nbytes:
                    memoryview(block).cast("B")[0] = 8
            block = next((block for block in kept if block is not None), None)
            attempt(lambda: pickle.loads(pickle.dumps(block)))
            attempt(lambda: block and arena.get(block.handle))
            del kept, block
        new = attempt(lambda: arena.group("new"))
        if new:
            attempt(new.destroy)
        attempt(lambda: arena.barrier(0.05))
        attempt(lambda: arena.shrink())
    attempt(lambda: arena.drop_in_flight())
    attempt(arena.close)

def case(at, value):
    def body():
        blocks, arena = [], None
        try:
            if when == "attached":
                arena = flagstone.open(name)
                blocks = pickle.loads(message)
            clobber(at, value)
            if arena is None:
                arena = flagstone.open(name)
                blocks = pickle.loads(message)
        except flagstone.FlagstoneError:
            if arena is None:
                return
        use(arena, blocks)
    return body

random.seed(int(os.environ.get("FST_TEST_SEED", "1")))
for number in range(cases):
    os.truncate(file, 0)
    os.truncate(file, size)
    for at, data in saved:
        os.pwrite(file, data, at)
    at = random.choice(words)
    old = int.from_bytes(os.pread(file, 8, at), "little")
    flipped = old ^ 1 << random.randrange(64)
    value = random.choice([random.getrandbits(64), flipped, 0, 2**64 - 1, old + 1])
    value = (value % 2**64).to_bytes(8, "little")
    ended = child(case(at, value))
    if ended:
        sys.exit(f"case {number}: {old:x} at {at:x} becomes {value.hex()}: status {ended:x}")
flagstone.unlink(name)
print("fine")
"""


@pytest.mark.parametrize("when", ["attached", "attaching"])
def test_words_at_random(arena_name, when):
    assert program(SOURCE, arena_name, CASES, when) == "fine\n"
