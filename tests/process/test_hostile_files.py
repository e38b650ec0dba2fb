"""What lies where an arena should be: cut off, damaged, made up, another version's, no file at all.

Opening it is an error that says why, and leaves the file as it was. Each test is a program of its
own, so that a crash is one test's failure.
"""

import shutil
import textwrap

import pytest

from tests.process.support import program

PREPARE = """
import contextlib, os, random, shutil, socket, stat, struct, sys
from pathlib import Path
import flagstone
from flagstone.folder import gc

random.seed(3)
SUPERBLOCK = 4096  # its page; what stands in it is shorter
TABLES, TABLE, COUNT, CONSTANT = 72, 32, 32, 24
CHECKSUM = TABLES + TABLE * COUNT
FILES = (flagstone.LayoutMismatch, flagstone.ArenaCorrupted)

folder = Path("/dev/shm") / sys.argv[1]
folder.mkdir(mode=0o700)
good, path = folder / "good", folder / "arena"
with flagstone.open(good, capacity="4MiB", lasting=True) as arena:
    group = arena.group("job", lasting=True)
    block = arena.cache("thing", shape=(3, 4), dtype="<f4").alloc(group)
    del block
with good.open("rb") as file:
    FIRST = file.read(SUPERBLOCK)
SIZE = good.stat().st_size

def descriptors():
    return sorted(os.listdir("/proc/self/fd"))

before = descriptors()

def calls():
    '''All ways to come to the arena, by name.'''
    yield "open", lambda: flagstone.open(path)
    yield "attach", lambda: flagstone.open(path, create=False)
    yield "read", lambda: flagstone.open(path, create=False, readonly=True)

def refused(*errors, text="", unlink=True):
    '''Every way in fails, with one of these errors, and touches nothing.'''
    for name, call in calls():
        try:
            call()
        except errors as error:
            assert text in str(error) and str(path) in str(error), (name, error)
        else:
            sys.exit(f"{name} works")
    assert all(Path(info.path).name == "good" for info in flagstone.arenas(folder))
    gc(folder)
    assert descriptors() == before

def put(first, size=SIZE):
    '''A file with this superblock. The rest is a hole: it is not looked at.'''
    path.write_bytes(first)
    os.truncate(path, size)

def seal(first):
    '''The same with a checksum that is right.'''
    first = bytearray(first)
    h = 0xCBF29CE484222325
    constant = first[:TABLES]
    for k in range(COUNT):
        constant += first[TABLES + TABLE * k :][:CONSTANT]
    for byte in constant:
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    struct.pack_into("<Q", first, CHECKSUM, h)
    return bytes(first)

def patched(at, form, value):
    first = bytearray(FIRST)
    struct.pack_into(form, first, at, value)
    return bytes(first)

assert seal(FIRST) == FIRST, "the test does not know the checksum"
"""

FINISH = """
# The good one is as good as ever.
with flagstone.open(good, create=False) as arena:
    assert arena.check() == []
    assert "job" in [one.name for one in arena.groups]
shutil.rmtree(folder)
print("unharmed")
"""


@pytest.fixture(autouse=True)
def folder(arena_name):
    yield
    shutil.rmtree(f"/dev/shm/{arena_name}", ignore_errors=True)  # of a program that failed


def run(source, name):
    assert program(PREPARE + textwrap.dedent(source) + FINISH, name) == "unharmed\n"


def test_truncated_at_every_size(arena_name):
    run(
        """
        with path.open("wb") as copy, good.open("rb") as file:
            os.truncate(path, SIZE)
            copy.write(file.read(1 << 20))
        later = sorted((random.randrange(SUPERBLOCK + 1, SIZE) for _ in range(300)), reverse=True)
        for size in (SIZE - 1, *later, *range(SUPERBLOCK, -1, -1)):
            os.truncate(path, size)
            kept = path.open("rb").read(SUPERBLOCK)
            refused(*FILES)
            assert path.stat().st_size == size
            assert path.open("rb").read(SUPERBLOCK) == kept
        # It may have whole tables of references more, as after a process that came and was killed.
        for size in (SIZE + 1, SIZE + 4096, 2 * SIZE + 4096, 2**42):
            put(FIRST, size)
            refused(flagstone.ArenaCorrupted, text="long")
            assert path.stat().st_size == size
        """,
        arena_name,
    )


def test_every_bit_of_the_constant_part(arena_name):
    run(
        """
        for at in range(CHECKSUM + 8):
            if at >= TABLES and at < CHECKSUM and (at - TABLES) % TABLE >= CONSTANT:
                continue  # how much of a table there is memory for
            first = patched(at, "<B", FIRST[at] ^ 1 << random.randrange(8))
            put(first)
            refused(*FILES)
            assert path.open("rb").read(SUPERBLOCK) == first
        """,
        arena_name,
    )


def test_another_version_and_another_machine(arena_name):
    run(
        """
        version = struct.unpack_from("<I", FIRST, 32)[0]
        put(patched(8, "<Q", 1))  # the fingerprint
        refused(flagstone.LayoutMismatch, text=f"layout version {version}")
        other = bytearray(patched(32, "<I", version + 1))
        other[8:16] = bytes(8)
        put(seal(other))
        refused(flagstone.LayoutMismatch, text=f"layout version {version + 1}")
        swapped = b"".join(FIRST[at : at + 8][::-1] for at in range(0, SUPERBLOCK, 8))
        put(swapped)
        refused(flagstone.LayoutMismatch, text="byte order")
        for bit in range(64):
            put(patched(0, "<Q", struct.unpack("<Q", FIRST[:8])[0] ^ 1 << bit))
            refused(flagstone.LayoutMismatch, text="not a Flagstone arena")
        """,
        arena_name,
    )


def test_made_up_with_a_right_checksum(arena_name):
    run(
        """
        numbers = (0, 1, 4095, 4097, 2**20, 2**31, 2**32, 2**44, 2**63 - 4096, 2**63, 2**64 - 4096)
        for at in (40, 48, 56):  # capacity, size of the control region, offset of the data
            for number in numbers:
                put(seal(patched(at, "<Q", number)))
                refused(flagstone.ArenaCorrupted)
        for table in range(COUNT):
            for field, form in ((0, "<Q"), (8, "<Q"), (16, "<I")):
                at = TABLES + TABLE * table + field
                (old,) = struct.unpack_from(form, FIRST, at)
                for number in {0, 1, old + 1, old ^ 2, 2**31, 2**32 - 1} - {old}:
                    put(seal(patched(at, form, number)))
                    refused(flagstone.ArenaCorrupted)
            # More memory than the table has: not in the checksum. The entries' counts each process.
            if table != 2:
                put(patched(TABLES + TABLE * table + CONSTANT, "<Q", 2**60))
                refused(flagstone.ArenaCorrupted, text="claims more")
        """,
        arena_name,
    )


def test_files_of_random_bytes(arena_name):
    run(
        """
        magic = FIRST[:8]
        for number in range(300):
            size = random.choice([0, 1, 7, 8, 9, 100, SUPERBLOCK - 1, SUPERBLOCK, 50_000])
            content = random.randbytes(size)
            match number % 3:
                case 1:  # with our name on it
                    content = (magic + content)[: max(size, 8)]
                case 2:  # with our fingerprint, too
                    content = (FIRST[:16] + content)[: max(size, 16)]
            path.write_bytes(content)
            refused(*FILES)
            if number % 3 == 0 or len(content) < 8:
                # None of ours, perhaps somebody's: not ours to remove.
                with contextlib.suppress(*FILES):
                    flagstone.unlink(path)
            assert path.read_bytes() == content
        """,
        arena_name,
    )


def test_no_regular_file(arena_name):
    run(
        """
        def there():
            os.mkfifo(path)
            yield "fifo"
            path.unlink()
            path.mkdir()
            yield "folder"
            path.rmdir()
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
            yield "socket"
            path.unlink()
            for target in (good, path, folder / "nothing", "/dev/null", "/dev/zero", "/"):
                path.symlink_to(target)
                yield f"link to {target}"
                path.unlink()
            if os.geteuid() == 0:
                null, zero, loop = (stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 1, 5), (stat.S_IFBLK, 7, 0)
                for kind, major, minor in (null, zero, loop):
                    try:
                        os.mknod(path, kind | 0o600, os.makedev(major, minor))
                    except PermissionError:
                        continue  # in a container
                    yield "device"
                    path.unlink()

        for what in there():
            was = path.lstat()
            refused(PermissionError)
            try:
                flagstone.unlink(path)
            except PermissionError:
                pass
            else:
                sys.exit(f"a {what} was removed")
            now = path.lstat()
            assert (now.st_ino, now.st_mode) == (was.st_ino, was.st_mode)
        # A file where a folder should be, a folder that is not there, one that is on no tmpfs.
        path.write_bytes(b"x")
        for place, error in (
            (path / "arena", OSError),
            (folder / "none" / "arena", FileNotFoundError),
            ("/proc/arena", OSError),
            ("/etc/arena", OSError),
        ):
            for create in (None, True, False):
                try:
                    flagstone.open(place, create=create)
                except error:
                    continue
                sys.exit(f"{place} can be opened")
        assert path.read_bytes() == b"x"
        assert descriptors() == before
        """,
        arena_name,
    )


def test_no_permission(arena_name):
    run(
        """
        NOBODY = 65534
        root = os.geteuid() == 0

        def as_nobody(function):
            '''In a child, which is another user if this is root.'''
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    if root:
                        os.setgroups([])
                        os.setgid(NOBODY)
                        os.setuid(NOBODY)
                    function()
                    status = 0
                except BaseException as error:
                    print(repr(error), file=sys.stderr)
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        def no_way_in():
            global before
            before = descriptors()
            refused(PermissionError)

        put(FIRST)
        if root:
            folder.chmod(0o755)
            for mode in (0o600, 0o644, 0o666):  # root's: also where everybody may write
                path.chmod(mode)
                as_nobody(no_way_in)
            # Root itself does not take another user's file either: who made it may cut it off.
            os.chown(path, NOBODY, NOBODY)
            no_way_in()
            # Its owner may not read or write it.
            for mode in (0o000, 0o400, 0o200):
                path.chmod(mode)
                as_nobody(no_way_in)
            os.chown(path, 0, 0)
            path.chmod(0o600)
        else:
            path.chmod(0)
            as_nobody(no_way_in)
            path.chmod(0o600)
        assert path.open("rb").read(SUPERBLOCK) == FIRST

        def may_not_enter():
            for create in (None, True, False):
                for name in (path, folder / "new") if root else (folder / "new",):
                    try:
                        flagstone.open(name, create=create)
                    except PermissionError:
                        continue
                    except FileExistsError:
                        assert create and name == path
                        continue
                    except FileNotFoundError:
                        assert create is False and name != path
                        continue
                    raise SystemExit("opened or created where nobody may")

        for mode in (0o500, 0o700) if root else (0o500,):
            folder.chmod(mode)  # others may not enter, nobody but root may create
            as_nobody(may_not_enter)
        folder.chmod(0o700)
        """,
        arena_name,
    )
