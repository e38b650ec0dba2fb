"""A memory cgroup at its limit is an exception that says so, and never a SIGKILL."""

import contextlib
import os
import subprocess
import sys
import textwrap

import pytest

MIB = 1 << 20
LIMIT = 128 * MIB


class MemoryCgroup:
    """A cgroup of the test's own, v1 or v2."""

    def __init__(self, name):
        self.first_version = os.path.isdir("/sys/fs/cgroup/memory")
        self.folder = os.path.join("/sys/fs/cgroup", "memory" * self.first_version, name)
        os.mkdir(self.folder)

    def write(self, name, value):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write(str(value))

    def limit(self, nbytes):
        self.write("memory.limit_in_bytes" if self.first_version else "memory.max", nbytes)

    def below(self):
        """One in it, without a limit of its own."""
        inner = os.path.join(self.folder, "inner")
        os.mkdir(inner)
        return inner

    def remove(self):
        for folder in [os.path.join(self.folder, "inner"), self.folder]:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)


@pytest.fixture
def cgroup(arena_name):
    try:
        made = MemoryCgroup(arena_name)
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        try:
            made.limit(LIMIT)
        except OSError as error:
            pytest.skip(f"no memory cgroup can be limited here: {error}")
        yield made
    finally:
        made.remove()


def run_in(folder, source, *arguments):
    """A Python program in the cgroup; what it prints."""
    join = f"import os\nopen({folder + '/cgroup.procs'!r}, 'w').write(str(os.getpid()))\n"
    result = subprocess.run(
        [sys.executable, "-c", join + textwrap.dedent(source), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


FILL = """
    import sys
    import flagstone

    arena = flagstone.open(sys.argv[1], capacity="1GiB")
    size = int(sys.argv[2])
    blocks = []
    try:
        while True:
            block = arena.alloc(size)
            block.array[:] = 1
            blocks.append(block)
    except flagstone.ArenaFull as error:
        print(len(blocks) * size >> 20)
        print(error)
    del block
    del blocks[-10:]
    arena.barrier()
    arena.alloc(size)
"""


@pytest.mark.root
@pytest.mark.parametrize("nbytes", [8 * MIB, 100_000, 4000])
def test_is_arena_full(cgroup, arena_name, nbytes):
    got, error = run_in(cgroup.folder, FILL, arena_name, nbytes).split("\n", 1)
    assert 24 <= int(got) < LIMIT // MIB
    assert f"{os.path.basename(cgroup.folder)}, whose limit of 128 MiB has" in error
    assert "tmpfs" in error


@pytest.mark.root
def test_of_a_cgroup_above(cgroup, arena_name):
    """As a container's, with one for each service in it."""
    _, error = run_in(cgroup.below(), FILL, arena_name, 8 * MIB).split("\n", 1)
    assert f"{os.path.basename(cgroup.folder)}, whose limit of 128 MiB has" in error


@pytest.mark.root
def test_cached_files_are_room(cgroup, arena_name, tmp_path):
    """Who has read large files has as much room as who has not."""
    large = tmp_path / "large"
    with open(large, "wb") as file:
        for _ in range(110):
            file.write(bytes(MIB))
    with open(large, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    read = f"""
    file = open({str(large)!r}, "rb")
    while file.read(1 << 20):
        pass
    """
    got, _ = run_in(
        cgroup.folder, textwrap.dedent(read) + textwrap.dedent(FILL), arena_name, MIB
    ).split("\n", 1)
    assert int(got) >= 24


@pytest.mark.root
def test_a_message_says_so_too(cgroup, arena_name):
    said = run_in(
        cgroup.folder,
        """
        import contextlib, pickle, sys
        import flagstone

        arena = flagstone.open(sys.argv[1], capacity="1GiB")
        message = arena.alloc(100)
        blocks = []
        for size in (1 << 20, 4096):
            with contextlib.suppress(flagstone.ArenaFull):
                while True:
                    blocks.append(arena.alloc(size))
        try:
            for _ in range(100_000):
                pickle.dumps(message)
        except flagstone.ArenaFull as error:
            print(error)
        """,
        arena_name,
    )
    assert f"{os.path.basename(cgroup.folder)}, whose limit of 128 MiB has" in said
    assert "has no room for more in-flight entries" in said
