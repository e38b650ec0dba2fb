"""What `import flagstone` gives, and what it leaves alone."""

import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flagstone

PUBLIC = {
    *("open", "arenas", "unlink", "__version__"),
    *("Arena", "ArenaInfo", "Cache", "GroupCache", "Group", "Block", "Handle", "Teardown"),
    *("ArenaSnapshot", "CacheInfo", "CacheStats", "GroupInfo", "GroupEvents", "ProcessInfo"),
    "Batch",
    "Burial",
    "ChildCounts",
    "Keeper",
    "LockHold",
    *("Channel", "ChannelInfo", "Delivery"),
    *("Store", "StoreInfo"),
    *("ChannelClosed", "ChannelEmpty", "ChannelFull", "ChannelMismatch"),
    *("Part", "Sender", "Fault", "Site", "WeakBlock", "block_of"),
    *("Packed", "PackedArrays", "pack", "pack_arrays"),
    *("ShareStats", "Sharing", "share"),
    *("Disconnected", "Lock", "LockInfo", "SubscriberInfo", "Subscription", "Topic", "TopicInfo"),
    *("InFlight", "Finding", "Holder", "FlagstoneError"),
    *("ArenaFull", "GroupLimitExceeded", "CacheBusy", "CacheMismatch", "GroupMismatch"),
    *("ReadOnly", "Closed", "StoreMismatch", "StaleHandle", "LayoutMismatch", "ArenaCorrupted"),
}


def test_all():
    assert set(flagstone.__all__) == PUBLIC
    assert all(hasattr(flagstone, name) for name in PUBLIC)
    assert flagstone.__all__ == sorted(flagstone.__all__)


def test_everything_public_is_explained():
    for name in PUBLIC - {"__version__"}:
        thing = getattr(flagstone, name)
        assert thing.__doc__, name
        if not isinstance(thing, type):
            continue
        for attribute in vars(thing):
            if not attribute.startswith("_"):
                # The attributes of a dataclass are explained in the class.
                explained = getattr(thing, attribute).__doc__ or f" {attribute}: " in thing.__doc__
                assert explained, f"{name}.{attribute}"


def test_version():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert flagstone.__version__ == project["version"]


IMPORT = """
import os
def seen():
    with open("/proc/self/maps") as maps:
        arenas = [line for line in maps if "flagstone" in line and ".so" not in line]
    return len(os.listdir("/proc/self/task")), os.listdir("/proc/self/fd"), arenas
import numpy
before = seen()
import flagstone
assert seen() == before, (before, seen())
import sys
used = {name.partition(".")[0] for name in sys.modules}
assert not used & {"rich", "multiprocessing", "asyncio", "concurrent"}, used
"""  # NumPy brings its own; what counts is what comes after it.


def test_importing_leaves_no_trace():
    subprocess.run([sys.executable, "-c", IMPORT], check=True)


@pytest.mark.root
def test_importing_leaves_no_file(own_shm):
    folder, alone = own_shm
    subprocess.run([*alone, sys.executable, "-c", IMPORT], check=True)
    assert list(folder.iterdir()) == []
    # An arena would be seen there.
    make = "import flagstone; flagstone.open('x', lasting=True).close()"
    subprocess.run([*alone, sys.executable, "-c", make], check=True)
    assert [path.name for path in folder.iterdir()] == ["flagstone.x"]


def test_room_is_left_for_the_thread_local_variables_of_others():
    """The C library keeps about 1,600 bytes for those of libraries that are loaded later and want
    them at a fixed place, as ours do, and PyTorch's OpenMP: who comes first must leave some.
    """
    data = Path(flagstone._core.__file__).read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, table + size * n) for n in range(count)]
    (length,) = [header[6] for header in headers if header[0] == 7]  # PT_TLS
    assert length <= 256
