"""What pages tell to type: each command of ours is there, with these options."""

import contextlib
import io
import re
import shlex
import tomllib

import pytest

from flagstone.cli import _parser
from flagstone.run import _parser as parser_of_run
from flagstone.run import _split
from tests.interface.test_docs import ALL_PAGES, PAGES, ROOT

# A line of a block, to where its comment, its description, or the shell's own part begins.
_LINE = re.compile(
    r"^(?: {4,})?(?:\$ |# )?((?:[A-Z_]+=\S+ )*(?:flagstone|make|python -m flagstone)\b.*)$"
)
_REST = re.compile(r"\s{2,}|\s#|\s?[|><&;]|\s\.\.\.")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$|((?:^(?: {4}.*)?\n)+)", re.MULTILINE | re.DOTALL)


def commands(program):
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text()):
            language, fenced, indented = match.groups()
            if language in ("python", "yaml", "toml", "json", "dockerfile"):
                continue
            for line in (fenced or indented).splitlines():
                found = _LINE.match(line)
                if found is None:
                    continue
                shown = _REST.split(found[1], maxsplit=1)[0]
                words = [one for one in shlex.split(shown) if not re.match("[A-Z_]+=", one)]
                if words and words[0] == program:
                    yield pytest.param(words[1:], id=f"{page.stem}: {shown}")


@pytest.mark.parametrize("words", list(commands("flagstone")))
def test_flagstone(words):
    """The command takes these arguments."""
    if words[0].endswith(","):  # several, described together
        words = [words[0].rstrip(","), "--help"]
    if any(one.startswith("[") for one in words):  # what may be left out
        words = [one for one in words if not one.startswith("[")]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            _parser().parse_args(words)
            status = 0
        except SystemExit as end:
            status = end.code
    assert status == 0, said.getvalue()


@pytest.mark.parametrize("words", list(commands("python")))
def test_python(words):
    """`python -m flagstone`, and `flagstone.run`, which leaves the program's own arguments."""
    assert words[0] == "-m"
    if words[1] == "flagstone":
        _parser().parse_args(words[2:])
    else:
        assert words[1] == "flagstone.run"
        parser_of_run().parse_args(_split(words[2:])[0])


@pytest.mark.parametrize("words", list(commands("make")))
def test_make(words):
    """The Makefile has the target."""
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [one for one in words if "=" not in one and one not in targets] == []


def test_extras():
    """What `pip install "flagstone[...]"` names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        there = tomllib.load(file)["project"]["optional-dependencies"]
    named = {
        one
        for page in ALL_PAGES
        for extras in re.findall(r"flagstone\[([a-z,]+)\]", page.read_text())
        for one in extras.split(",")
    }
    assert {"cli", "dask", "torch"} <= named <= set(there)
