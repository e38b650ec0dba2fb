"""`python -m flagstone.run`: programs that know nothing of it."""

import os
import subprocess
import sys
import textwrap
import zipapp

import pytest

PROGRAM = '''
"""As it would be written for the standard library."""
import multiprocessing, os, subprocess, sys
from multiprocessing import shared_memory
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory


def write(name):
    assert SharedMemory.__module__ == "flagstone.shared_memory"
    other = SharedMemory(name=name)
    other.buf[0] += 1
    other.close()


if __name__ == "__main__":
    made = SharedMemory(create=True, size=100)
    assert not os.path.exists("/dev/shm/" + made.name)
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        process = context.Process(target=write, args=(made.name,))
        process.start()
        process.join()
        assert process.exitcode == 0, method
    look = """
import sys
from multiprocessing import managers, shared_memory
shared_memory.SharedMemory(sys.argv[1]).buf[0] += 1
"""
    subprocess.run([sys.executable, "-c", look, made.name], check=True)
    with SharedMemoryManager() as manager:
        assert list(manager.ShareableList(["a", 1])) == ["a", 1]
    print(made.buf[0], __name__, sys.argv[1:], sys.path[0])
    made.unlink()
'''


def run(arena_name, *arguments, folder=None, status=0, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "flagstone.run", "--arena", arena_name, *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == status, done.stderr
    return done


def started(code):
    """A program that has another Python run this code."""
    return f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_a_script(arena_name, folder):
    done = run(arena_name, folder / "program.py", "-x", "--arena", "y")
    assert done.stderr == ""
    assert done.stdout == f"4 __main__ ['-x', '--arena', 'y'] {folder}\n"


def test_a_module(arena_name, folder):
    done = run(arena_name, "-m", "program", "-c", folder=folder)
    assert done.stderr == ""
    assert done.stdout == f"4 __main__ ['-c'] {folder}\n"


def test_code(arena_name):
    done = run(arena_name, "-c", "import sys; print(sys.argv, __name__)", "a")
    assert done.stdout == "['-c', 'a'] __main__\n"


def test_an_archive(arena_name, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text("import sys; print(__name__, sys.argv[1:])")
    zipapp.create_archive(source, tmp_path / "program.pyz")
    for program in (tmp_path / "program.pyz", source):
        assert run(arena_name, program, "a").stdout == "__main__ ['a']\n"


def test_its_exit_and_its_errors(arena_name, tmp_path):
    assert run(arena_name, "-c", "raise SystemExit(3)", status=3).stderr == ""
    program = tmp_path / "program.py"
    program.write_text("1 / 0\n")
    assert "ZeroDivisionError" in run(arena_name, program, status=1).stderr


def test_wrong_usage(arena_name):
    assert "there is no program" in run(arena_name, status=2).stderr
    assert "capacity" in run(arena_name, "--capacity", "many", "-c", "1", status=2).stderr
    assert "--arena" in run(arena_name, "--help").stdout


def test_an_old_preload_of_a_fork_server(arena_name, tmp_path):
    """A module that the fork server imports for all of its children."""
    (tmp_path / "preloaded.py").write_text("from multiprocessing.shared_memory import SharedMemory")
    (tmp_path / "program.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing

            def look():
                import preloaded
                assert preloaded.SharedMemory.__module__ == "flagstone.shared_memory"

            if __name__ == "__main__":
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["preloaded"])
                process = context.Process(target=look)
                process.start()
                process.join()
                print(process.exitcode)
            """
        )
    )
    done = run(arena_name, tmp_path / "program.py", PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_where_a_warning_is_an_error(arena_name, tmp_path, method):
    """A fork server makes a home for segments before its first fork, and this arena's thread is
    none that Python warns of.
    """
    (tmp_path / "program.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from multiprocessing.shared_memory import SharedMemory

            def write(name):
                SharedMemory(name).buf[0] += 1

            if __name__ == "__main__":
                made = SharedMemory(create=True, size=10)
                context = multiprocessing.get_context(sys.argv[1])
                for _ in range(3):
                    process = context.Process(target=write, args=(made.name,))
                    process.start()
                    process.join()
                print(made.buf[0])
                made.unlink()
            """
        )
    )
    done = run(
        arena_name, tmp_path / "program.py", method, PYTHONWARNINGS="error::DeprecationWarning"
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.parametrize(
    "first",
    [
        "flagstone.shared_memory",
        "flagstone.managers",
        "flagstone.shm",
        "multiprocessing.managers",
        "multiprocessing.shared_memory",
    ],
)
def test_whatever_is_imported_first(arena_name, first):
    look = f"""
    import sys, {first}
    from multiprocessing import managers, shared_memory
    for one in (shared_memory.SharedMemory, managers.SharedMemoryManager):
        assert one.__module__.startswith("flagstone."), one
    """
    done = run(arena_name, "-c", started(textwrap.dedent(look)))
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_install_alone(arena_name, tmp_path, method):
    """Children import the main module, which imports the standard one, after it is in place."""
    (tmp_path / "preloaded.py").write_text("from multiprocessing.shared_memory import SharedMemory")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys

            if __name__ == "__main__":
                from flagstone.shared_memory import install
                install(sys.argv[1], capacity="16MiB")

            import preloaded
            from multiprocessing.shared_memory import SharedMemory

            def look(made):
                assert preloaded.SharedMemory is SharedMemory is type(made)
                made.buf[0] = 7

            if __name__ == "__main__":
                made = SharedMemory(create=True, size=10)
                multiprocessing.set_forkserver_preload(["preloaded"])
                context = multiprocessing.get_context(sys.argv[2])
                process = context.Process(target=look, args=(made,))
                process.start()
                process.join()
                print(process.exitcode, made.buf[0], type(made).__module__)
                made.unlink()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, program, arena_name, method],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("0 7 flagstone.shared_memory\n", "")


@pytest.mark.parametrize("where", ["shared_memory._posixshmem", "_posixshmem"])
def test_an_unlink_by_name(arena_name, where):
    code = f"""
import _posixshmem
from multiprocessing import shared_memory
unlink = {where}.shm_unlink
for name, arguments in (("ours", dict()), ("ours too", dict(track=False))):
    made = shared_memory.SharedMemory(name, create=True, size=10, **arguments)
    unlink("/" + name)
    for again in (made.unlink, lambda: unlink("/" + name)):
        try:
            again()
        except FileNotFoundError:
            print("gone")
"""
    done = run(arena_name, "-c", code)
    assert (done.stdout, done.stderr) == ("gone\n" * 4, "")


def test_a_look_whether_there_is_a_name(arena_name):
    """By the system's call, before one opens or makes it."""
    code = """
import mmap, os
from multiprocessing import shared_memory
import _posixshmem
made = shared_memory.SharedMemory("looked-for", create=True, size=12_345)
number = _posixshmem.shm_open("/looked-for", os.O_RDONLY, mode=0o600)
print(os.fstat(number).st_size)
try:
    mmap.mmap(number, 12_345, prot=mmap.PROT_READ)
except OSError as error:
    print(error.strerror)
os.close(number)
made.unlink()
for flags in (os.O_RDONLY, os.O_RDWR):
    try:
        _posixshmem.shm_open("/looked-for", flags)
    except FileNotFoundError:
        print("gone")
file = _posixshmem.shm_open(made.name + "-file", os.O_CREAT | os.O_RDWR, mode=0o600)
os.ftruncate(file, 5)
again = _posixshmem.shm_open(made.name + "-file", os.O_RDONLY)
print(os.fstat(again).st_size)
_posixshmem.shm_unlink(made.name + "-file")
"""
    done = run(arena_name, "-c", code.replace("looked-for", arena_name))
    assert (done.stdout, done.stderr) == ("12345\nBad file descriptor\ngone\ngone\n5\n", "")


def test_who_has_the_standard_one_still_does_not_find_and_remove_ours(arena_name):
    code = """
from multiprocessing.shared_memory import SharedMemory as Standard
from flagstone.shared_memory import SharedMemory, install
install()
made = SharedMemory("there", create=True, size=100)
try:
    Standard("there")
except FileNotFoundError:
    print("not found")
assert SharedMemory("there").size == 100
"""
    done = subprocess.run(
        [sys.executable, "-c", code.replace("there", arena_name)],
        env={**os.environ, "FLAGSTONE_SHARED_MEMORY": arena_name},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("not found\n", "")


def test_what_libraries_do_with_the_descriptor(arena_name):
    """They have all memory taken, and close what the mapping does not need."""
    code = """
import os
from multiprocessing import shared_memory
made = shared_memory.SharedMemory(create=True, size=10_000)
os.posix_fallocate(made._fd, 0, made.size)
for offset, length in ((0, 10_001), (-1, 5), (0, 0)):
    try:
        os.posix_fallocate(made._fd, offset, length)
    except OSError as error:
        print(error.errno)
os.close(made._fd)
made._fd = -1
assert made._fd == -1
assert shared_memory.SharedMemory(made.name)._fd > 2
made.buf[9_999] = 1
made.close()
made.unlink()
with open("/dev/shm/" + made.name, "w+b") as file:
    os.posix_fallocate(file.fileno(), 0, 5000)
    assert os.path.getsize(file.name) == 5000
    os.unlink(file.name)
reading, writing = os.pipe()
os.close(writing)
assert os.read(reading, 1) == b""
"""
    done = run(arena_name, "-c", code)
    assert (done.stdout, done.stderr) == ("27\n22\n22\n", "")


def test_another_sitecustomize_goes_on(arena_name, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.other_one = True")
    done = run(
        arena_name, "-c", started("import sys; print(sys.other_one)"), PYTHONPATH=str(tmp_path)
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_nothing_is_imported_before_it_is_needed(arena_name):
    look = "import sys; print('numpy' in sys.modules, 'flagstone' in sys.modules)"
    assert run(arena_name, "-c", started(look)).stdout == "False False\n"


@pytest.mark.parametrize(
    "module", ["multiprocessing.shared_memory", "multiprocessing.managers", "asyncio"]
)
def test_a_python_that_has_no_flagstone(arena_name, module):
    # The one that the tests' environment was made from: what is installed here, it does not have.
    code = f"import {module}; print('flagstone.shm' in __import__('sys').modules)"
    program = f"import subprocess; subprocess.run([{sys._base_executable!r}, '-c', {code!r}])"
    done = run(arena_name, "-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")
