"""Limits of the process that are in the way: an error that names them, and never a signal."""

import pytest

from tests.process.support import program

SOURCE = """
import resource, sys, flagstone
resource.setrlimit(resource.RLIMIT_{limit}, ({value}, {value}))
for name in sys.argv[1], None:
    try:
        flagstone.open(name, capacity="16MiB").close()
    except OSError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("limit", "value", "named"), [("AS", 4 << 30, "ulimit -v"), ("FSIZE", 1 << 20, "ulimit -f")]
)
def test_the_limit_is_named(arena_name, limit, value, named):
    lines = program(SOURCE.format(limit=limit, value=value), arena_name).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert named in line
