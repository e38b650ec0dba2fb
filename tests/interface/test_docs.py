"""What the documents promise about themselves: every Python program in them runs, every link leads
somewhere, and each caveat has a way out.

A block of a page that is no whole program has the rest in comments around it, which readers do not
see: `<!-- before` and `<!-- after`, lines of Python up to `-->`.
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import missing
from tools.pages import headings, links

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
ALL_PAGES = sorted(
    [*PAGES]
    + [
        page
        for name in ("benchmarks", "core", "examples", "models", "tests")
        for page in ROOT.joinpath(name).rglob("*.md")
    ]
)
_BLOCK = re.compile(
    r"(?:^<!-- before\n(?P<before>.*?)^-->\n\n)?"
    r"^```python\n(?P<shown>.*?)^```\n"
    r"(?:\n<!-- after\n(?P<after>.*?)^-->\n)?",
    re.MULTILINE | re.DOTALL,
)


def programs():
    for page in PAGES:
        for number, match in enumerate(_BLOCK.finditer(page.read_text())):
            text = "".join(part or "" for part in match.group("before", "shown", "after"))
            if page.name == "ray.md":  # tests/process/test_ray.py runs it: Ray starts slowly
                continue
            yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


def test_each_caveat_has_a_fix():
    paragraphs = re.split(r"\n(?=\*\*)", (DOCS / "caveats.md").read_text())[1:]
    assert len(paragraphs) > 20
    assert [one.partition("**.")[0] for one in paragraphs if "*Fix:*" not in one] == []


def test_every_block_of_python_is_a_program():
    """None is missed by how it is written, and none is left out."""
    for page in PAGES:
        text = page.read_text()
        found = list(_BLOCK.finditer(text))
        assert len(found) == len(re.findall(r"^\s*```\s*(?:py|python|pycon)\b", text, re.MULTILINE))
        around = sum((one["before"] is not None) + (one["after"] is not None) for one in found)
        assert around == len(re.findall(r"^<!-- (?:before|after)", text, re.MULTILINE)), page


@pytest.mark.root
@pytest.mark.parametrize("program", list(programs()))
def test_a_program_of_a_page_runs(program, own_shm, tmp_path):
    """In a /dev/shm of its own: its arena has a plain name, as a reader's would."""
    for package in ("torch", "pyarrow", "polars", "pandas", "joblib"):
        used = re.search(rf"^(?:import|from) (?:flagstone\.)?{package}\b", program, re.MULTILINE)
        if used and find_spec(package) is None:
            missing(f"no {package} is installed")
    if "flagstone.metrics" in program and find_spec("prometheus_client") is None:
        missing("no prometheus-client is installed")
    folder, alone = own_shm
    path = tmp_path / "program.py"
    path.write_text(program)
    command = [*alone, sys.executable, "-W", "error", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, part = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.relative_to(ROOT)}: {target}"
        if part:
            assert part in headings(found.read_text()), f"{page.relative_to(ROOT)}: {target}"
