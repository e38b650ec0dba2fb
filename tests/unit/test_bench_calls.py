"""benchmarks/bench_calls.py: no public call is left out, and none is named that is not there."""

from benchmarks import bench_calls
from tests.process import calls


def test_every_public_call_has_a_floor():
    """A new one is either a property, which is read, or is named there, or is missed here."""
    missing = [key for key in bench_calls.every_call() if bench_calls.floor_of(key) is None]
    assert missing == [], "say in bench_calls.py how it is measured, and beside what"


def test_a_call_that_nobody_named_is_missed():
    assert bench_calls.floor_of("Arena.no_such_method") is None


def test_every_name_is_a_call():
    known = {*calls.public_names(), *calls.CALLS}  # some are missing in older Pythons
    assert bench_calls.named() <= known


def test_one_is_called_in_one_way():
    assert not bench_calls._LOOPS.keys() & bench_calls._ONCE_FLOOR.keys()
