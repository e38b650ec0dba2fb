"""benchmarks/report.py: what the README says is what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import report

ROOT = Path(report.ROOT)


def test_the_readme_has_the_kills_that_were_counted():
    page = (ROOT / "README.md").read_text()
    record = json.loads((ROOT / "docs" / "benchmarks" / "channel.json").read_text())
    assert report.with_killed(page, record) == page, "python -m benchmarks --report-only"


def test_a_readme_without_its_place_is_refused():
    with pytest.raises(ValueError, match="killed: begin"):
        report.with_killed("no table", {"tables": []})
