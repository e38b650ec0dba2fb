"""What the documents promise about themselves: examples run, and each caveat has a way out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = re.findall(
    r"^```python\n(.*?)^```", (DOCS / "quickstart.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_each_caveat_has_a_fix():
    paragraphs = re.split(r"\n(?=\*\*)", (DOCS / "caveats.md").read_text())[1:]
    assert len(paragraphs) > 20
    assert [one.partition("**.")[0] for one in paragraphs if "*Fix:*" not in one] == []


@pytest.mark.root
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_quickstart_runs(number, own_shm, tmp_path):
    """In a /dev/shm of its own: its arena has a plain name, as a reader's would."""
    folder, alone = own_shm
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[number])
    command = [*alone, sys.executable, "-W", "error", str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout
    assert list(folder.iterdir()) == []
