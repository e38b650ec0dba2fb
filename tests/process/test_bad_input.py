"""Bad input is an exception: never a crash of the interpreter, never a hang, nothing harmed.

Each test is a program of its own, so that a crash is one test's failure.
"""

import textwrap

import pytest

from tests.process.support import program

PREPARE = """
import contextlib, ctypes, math, os, pickle, random, sys
import numpy as np
import flagstone

random.seed(1)
arena = flagstone.open(sys.argv[1], capacity="64MiB")
cache = arena.cache("thing", size=100)
shaped = arena.cache("shaped", shape=(3, 4), dtype="<f4")
group = arena.group("job", limit="8MiB")
blocks = [cache.alloc(), shaped.alloc(group), arena.put(b"x" * 70_000), arena.alloc(0)]
for block in blocks:
    memoryview(block).cast("B")[:] = b"s" * block.nbytes

def unharmed():
    for block in blocks:
        assert bytes(block) == b"s" * block.nbytes
    arena.drop_in_flight()
    arena.barrier(60)
    assert arena.check() == [], arena.check()
    assert sum(c.stats.allocated for c in arena.snapshot().caches) == len(blocks)
    assert len(arena.processes) == 1
    used = arena.used
    extra = [arena.alloc(1000) for _ in range(100)]
    del extra
    arena.barrier(60)
    assert arena.used == used

def mutated(data, among):
    '''The same with a few bytes changed, often to what others have there.'''
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(len(data))
        other = random.choice(among)
        match random.randrange(4):
            case 0:
                data[at] = random.randrange(256)
            case 1:
                data[at] ^= 1 << random.randrange(8)
            case 2:
                data[at] = other[at]
            case 3:
                data[at] = random.choice([0, 1, 127, 128, 255])
    return bytes(data)
"""

FINISH = """
unharmed()
print("unharmed")
"""


def run(source, name, **options):
    assert program(PREPARE + textwrap.dedent(source) + FINISH, name, **options) == "unharmed\n"


def test_handles_at_random(arena_name):
    run(
        """
        def look(data):
            try:
                found = arena.get(flagstone.Handle(data))
            except flagstone.StaleHandle:
                return 0
            # What is found is one of ours, whole.
            assert bytes(found) == b"s" * found.nbytes
            assert found.nbytes in {block.nbytes for block in blocks}
            return 1

        real = [bytes(block.handle) for block in blocks]
        assert sum(look(data) for data in real) == len(blocks)
        # A million: at random, at random with this arena's tag, and near to real ones.
        tag = real[0][5:8]
        for _ in range(20):
            noise = random.randbytes(16 * 35_000)
            for at in range(0, len(noise), 16):
                data = noise[at : at + 16]
                if at % 32:
                    data = data[:5] + tag + data[8:]
                assert look(data) == 0
        found = sum(look(mutated(random.choice(real), real)) for _ in range(300_000))
        assert 0 < found < 100_000
        gone = cache.alloc()
        stale = bytes(gone.handle)
        del gone
        assert look(stale) == 0
        for number in range(256):
            for at in range(16):
                look(stale[:at] + bytes([number]) + stale[at + 1 :])
        """,
        arena_name,
    )


def test_handles_of_the_wrong_kind(arena_name):
    run(
        """
        for bad in (b"", b"x" * 15, b"x" * 17, "x" * 16, 16, None, object(), [0] * 16, 1.5, True):
            try:
                flagstone.Handle(bad)
            except (TypeError, ValueError):
                pass
            else:
                sys.exit(f"Handle({bad!r})")
        for good in (bytearray(16), memoryview(bytes(16)), np.zeros(16, "u1")):
            flagstone.Handle(good)
        for bad in (None, bytes(blocks[0].handle), 0, "x", blocks[0], flagstone.Handle, [], 1j):
            try:
                arena.get(bad)
            except TypeError:
                continue
            sys.exit(f"get({bad!r})")
        """,
        arena_name,
    )


@pytest.mark.parametrize("what", ["block", "group"])
def test_messages_at_random(arena_name, what):
    run(
        f"""
        thing = blocks[0] if {what!r} == "block" else group
        """
        + """
        load, (ticket, locator, message, *rest) = thing.__reduce_ex__(2)
        others = [t.__reduce_ex__(2)[1][2] for t in [thing] * 20]
        arena.drop_in_flight()

        def take(message, locator=locator):
            try:
                found = load(ticket, locator, message, *rest)
            except (flagstone.FlagstoneError, ValueError, TypeError):
                return
            if what == "block":
                assert bytes(found) == b"s" * found.nbytes
            else:
                assert found.state == "live"
        what = "block" if thing is not group else "group"
        for size in range(len(message) + 20):
            take(message[:size] if size <= len(message) else message + b"x" * size)
        for number in range(20_000):
            take(mutated(message, others))
            take(random.randbytes(len(message)))
            if number % 1000 == 0:
                thing.__reduce_ex__(2)  # something for them to hit
        for bad in (None, 5, "text", [1], {}, 1.5, thing, locator):
            take(bad)
        uuid, path, descriptor = locator
        for bad in (b"", b"x" * 16, b"x" * 15, bytes(1000)):
            take(message, (bad, path, None))
            take(message, (bad, None, None))
            take(message, (bad, path + b"-not", None))
        """,
        arena_name,
    )


def test_truncated_pickles(arena_name):
    run(
        """
        for thing in (blocks[0], blocks[1], blocks[2], arena, group, blocks[0].handle):
            for protocol in (0, 2, 5):
                data = pickle.dumps(thing, protocol)
                for size in range(len(data)):
                    try:
                        pickle.loads(data[:size])
                    except Exception:
                        continue
                    sys.exit(f"{size} bytes of {len(data)} are enough")
                pickle.loads(data)
        """,
        arena_name,
    )


def test_pickles_of_dead_and_other_arenas(arena_name):
    run(
        """
        dead = []
        for number in range(20):
            with flagstone.open(f"{sys.argv[1]}-{number % 2}") as other:
                dead.append(pickle.dumps([other.put(b"y"), other.put(np.arange(3))]))
                dead.append(pickle.dumps(other.put(b"z")))
                with other.group("job") as job:
                    dead.append(pickle.dumps(job))
                dead.append(pickle.dumps(other))
        other = flagstone.open(f"{sys.argv[1]}-0")
        for data in dead * 3:
            try:
                pickle.loads(data)
            except flagstone.FlagstoneError:
                continue
            sys.exit("found something that is gone")
        anonymous = flagstone.open()
        lost = pickle.dumps([anonymous, anonymous.put(b"y")])
        anonymous.close()
        anonymous = None
        for _ in range(3):
            try:
                pickle.loads(lost)
            except flagstone.FlagstoneError:
                continue
            sys.exit("found something that is gone")
        # A Block, Group or Handle of one arena given to another.
        with other:
            theirs, job = other.put(b"y"), other.group("job")
            calls = [
                lambda: cache.alloc(job),
                lambda: cache.alloc_many(3, job),
                lambda: cache.bind(job),
                lambda: arena.alloc(5, group=job),
                lambda: arena.put(b"", group=job),
                lambda: arena.group("child", parent=job),
                lambda: arena.drop_in_flight(0, job),
                lambda: arena.get(theirs.handle),
            ]
            for call in calls:
                try:
                    call()
                except (ValueError, LookupError):
                    continue
                sys.exit("two arenas are mixed up")
            del theirs, job
        """,
        arena_name,
    )


# Called with one bad value after the other; each must raise something, or make sense of it.
CALLS = {
    "open": "flagstone.open(bad, capacity='1MiB').close()",
    "open: capacity": "flagstone.open(capacity=bad).close()",
    "open: mode": "flagstone.open(mode=bad, capacity='1MiB').close()",
    "open: create": "flagstone.open(sys.argv[1], create=bad).close()",
    "unlink": "flagstone.unlink(bad)",
    "arenas": "flagstone.arenas(bad) if not isinstance(bad, (int, type(None))) else None",
    "cache: name": "arena.cache(bad, size=10).destroy()",
    "cache: size": "arena.cache('a', size=bad).destroy()",
    "cache: shape": "arena.cache('a', shape=bad, dtype='u1').destroy()",
    "cache: shape of two": "arena.cache('a', shape=(2, bad), dtype='u1').destroy()",
    "cache: dtype": "arena.cache('a', shape=2, dtype=bad).destroy()",
    "cache: align": "arena.cache('a', size=10, align=bad).destroy()",
    "cache: init": "arena.cache('a', size=10, init=bad).destroy()",
    "group: name": "arena.group(bad).destroy()",
    "group: parent": "arena.group('a', parent=bad).destroy()",
    "group: limit": "arena.group('a', limit=bad).destroy()",
    "group.limit": "setattr(arena.group('b'), 'limit', bad)",
    "alloc": "arena.alloc(bad)",
    "alloc: group": "arena.alloc(10, group=bad)",
    "alloc: wait": "arena.alloc('60MiB', wait=bad if bad != math.inf and bad != 5 else 0)",
    "put": "arena.put(bad)",
    "get": "arena.get(bad)",
    "in_flight": "arena.in_flight(bad)",
    "drop_in_flight": "arena.drop_in_flight(bad)",
    "drop_in_flight: group": "arena.drop_in_flight(0, bad)",
    "barrier": "arena.barrier(bad)",
    "synchronize": "arena.synchronize(bad)",
    "cache.alloc": "cache.alloc(bad)",
    "cache.alloc: zero": "cache.alloc(zero=bad)",
    "cache.alloc: wait": "cache.alloc(wait=bad)",
    "cache.alloc_many": "cache.alloc_many(bad)",
    "cache.alloc_many: group": "cache.alloc_many(1, bad)",
    "cache.bind": "cache.bind(bad)",
    "bind.alloc_many": "cache.bind().alloc_many(bad)",
    "teardown.wait": "arena.group().destroy().wait(bad)",
    "buffer": "memoryview(blocks[0])[bad]",
    "array": "blocks[1].array[bad]",
    "array protocol": "np.errstate(all='ignore')(np.asarray)(blocks[1], dtype=bad)",
    "dlpack": "blocks[1].__dlpack__(stream=bad)",
    "dlpack: version": "blocks[1].__dlpack__(max_version=bad)",
    "dlpack: device": "blocks[1].__dlpack__(dl_device=bad, copy=bad)",
    "handle": "flagstone.Handle(bad)",
    "compare": "[one == bad for one in (arena, cache, group, blocks[0].handle, blocks[0])]",
    "order": "blocks[0].handle < bad",
}


@pytest.mark.parametrize("call", CALLS)
def test_wrong_types_and_sizes(arena_name, call):
    run(
        f"""
        def call(bad):
            {CALLS[call]}
        """
        + """
        class Liar:
            def __index__(self):
                return 2**70
        class Thrower:
            def __index__(self):
                raise ZeroDivisionError
            __float__ = __len__ = __fspath__ = __array__ = __index__
        bads = [
            None, True, False, 0, 1, 5, -1, -(2**31), 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63,
            2**63 - 4096, 2**64 - 1, 2**64, 2**70, -(2**63), -(2**63) - 1, 10**400, -0.0, 0.5,
            1e300, -1.5, math.nan, math.inf, -math.inf, 1j, "", "x", "5", "-5", "1e3", "nan",
            "9" * 400, "1KB", "8EiB", "16EiB", "1\\0", "\\0", "\\ud800", "a/b", "..", "/",
            "/nowhere/at/all", "/dev/null", "/dev/shm", "x" * 300, "x" * 100_000, b"", b"x",
            b"x" * 16, bytearray(5), memoryview(b"xyz"), (), (1,), (-1,), (2**62, 2**62), (2**63,),
            (0, 5), (1,) * 70, ("a",), [], [1, 2], [[]], {}, {1: 2}, set(), object(), int, Liar(),
            Thrower(), lambda: 1, ..., slice(None), range(3), np.zeros(3), np.zeros((0, 3)),
            np.array(5), np.array([object()]), np.float32("nan"), np.int64(-1),
            np.uint64(2**64 - 1), np.dtype("u1"), np.dtype("V0"), np.dtype("O"), "O", "u9",
            [("a", "O")], [("a", "u1"), ("a", "u1")], arena, cache, group, blocks[0],
            blocks[0].handle, flagstone, NotImplemented, type, math, sys,
        ]
        before = len(os.listdir("/proc/self/fd"))
        for bad in bads:
            try:
                call(bad)
            except SystemError:
                raise
            except Exception as error:
                assert str(error) or isinstance(error, (ZeroDivisionError, MemoryError)), bad
                error = None
        for one in arena.groups:
            if one != group:
                one.destroy()
        assert cache.alloc().nbytes == 100
        assert group.limit == 8 << 20
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        bad = bads = None
        """,
        arena_name,
    )


def test_everything_that_is_closed(arena_name):
    run(
        """
        import asyncio
        other = flagstone.open()
        gone = other.cache("a", shape=3, dtype="u1"), other.group("b"), other.put(b"x")
        bound, handle = gone[0].bind(gone[1]), gone[2].handle
        section, ticket = other.read(), other.group().destroy()
        gone[2].free()
        other.close()
        other.close()
        for thing in (other, *gone, bound, section, ticket, handle):
            assert repr(thing)
            for name in dir(type(thing)):
                if name.startswith("_") and name not in ("__enter__", "__array__", "__dlpack__"):
                    continue
                try:
                    value = getattr(thing, name)
                    got = value() if callable(value) else None
                    if asyncio.iscoroutine(got):
                        asyncio.run(got)
                except (flagstone.FlagstoneError, TypeError, ValueError, RuntimeError):
                    pass
        for use in (memoryview, bytes, pickle.dumps, np.asarray, copy_of := lambda b: b.array):
            try:
                use(gone[2])
            except (flagstone.Closed, TypeError, ValueError):
                continue
            sys.exit(f"{use} works on what is closed")
        """,
        arena_name,
    )


def test_sections_that_do_not_match(arena_name):
    run(
        """
        import threading
        section = arena.read()
        for call in (lambda: section.__exit__(None, None, None), section.__exit__):
            with contextlib.suppress(RuntimeError, TypeError, flagstone.FlagstoneError, ValueError):
                call()
        section.__enter__()
        other = []
        def leave_elsewhere():
            try:
                section.__exit__(None, None, None)
            except Exception as error:
                other.append(type(error))
        thread = threading.Thread(target=leave_elsewhere)
        thread.start()
        thread.join()
        with contextlib.suppress(RuntimeError, ValueError):
            section.__exit__(None, None, None)
        for _ in range(3):
            with contextlib.suppress(RuntimeError, ValueError):
                section.__exit__(None, None, None)
        arena.synchronize(60)
        """,
        arena_name,
    )
