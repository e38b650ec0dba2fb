"""The site of docs/: it is built without a warning, asks nobody for anything, and is complete."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flagstone
from tests.conftest import missing
from tools.drawings import FOLDER, draw

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


class Seen(html.parser.HTMLParser):
    """What a page asks for by itself, where its links lead, and the names in it."""

    def __init__(self):
        super().__init__()
        self.asked, self.led, self.names = [], [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and values.get("src"):
            self.asked.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.asked.append(values["href"])
        if tag == "a" and values.get("href"):
            self.led.append(values["href"])
        self.names |= {values["id"]} if values.get("id") else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if subprocess.run([sys.executable, "-c", "import mkdocs, material"]).returncode:
        missing("no MkDocs is installed")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    pages = {}
    for path in folder.rglob("*.html"):
        pages[path] = Seen()
        pages[path].feed(path.read_text())
    return pages


def test_it_asks_no_other_host(site):
    for page, seen in site.items():
        for target in seen.asked:
            assert not re.match(r"(?:https?:)?//", target), (page.name, target)


def test_its_links_lead_somewhere(site):
    for page, seen in site.items():
        if page.name == "404.html":  # its links are for a server
            continue
        for target in seen.asked + seen.led:
            if re.match(r"[a-z]+:", target):
                continue
            name, _, part = target.partition("#")
            found = (page.parent / name).resolve() if name else page
            assert found.is_file(), (page.name, target)
            if part and part != "__skip" and not part.startswith("__"):
                assert part in site[found].names, (page.name, target)


def test_what_only_tests_read_is_not_shown(site):
    assert not [page for page in site if "<!-- before" in page.read_text()]


def test_every_public_name_is_in_the_reference(site):
    named = {
        name
        for page in REFERENCE.glob("*.md")
        for name in re.findall(r"^::: flagstone\.(\w+)$", page.read_text(), re.MULTILINE)
    }
    assert set(flagstone.__all__) - {"__version__"} <= named
    shown = set().union(*(seen.names for page, seen in site.items() if "reference" in page.parts))
    assert {f"flagstone.{name}" for name in named} <= shown
    assert {f"flagstone.{member}" for member in members()} <= shown


def test_every_name_of_the_reference_is_explained(site):
    """There is text below its signature, also where it is an object that is called, as `share`."""
    for page in site:
        if "reference" not in page.parts:
            continue
        for part in re.split(r'<h\d id="(?=flagstone)', page.read_text())[1:]:
            name, _, shown = part.partition('"')
            text = re.sub(r'class="doc-signature.*?</div>', "", shown, flags=re.DOTALL)
            assert re.search(r"<(?:p|table|ul)>", text.partition("</h")[2]), name


def test_what_is_returned_is_one_sentence_with_a_type(site):
    """Not a row for each of its lines, nor a sentence's beginning where the type stands."""
    found = 0
    for page in site:
        for table in re.findall(r">Returns:<.*?<tbody>(.*?)</tbody>", page.read_text(), re.DOTALL):
            found += 1
            (row,) = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
            kind = re.sub(r"<[^>]+>", "", row.partition("</td>")[0]).strip()
            assert " " not in kind.replace(" | ", "|").replace(", ", ","), (page.name, kind)
    assert found > 20


def test_compiled_methods_are_shown_with_their_parameters(site):
    """Inspection finds none: `get() -> Any`, below which stands what each parameter means."""
    for page in site:
        if "reference" not in page.parts:
            continue
        for part in page.read_text().split('class="doc doc-heading"')[1:]:
            signature = re.search(r"doc-signature.*?<code>(.*?)</code>", part, re.DOTALL)
            if signature and "Parameters:</span>" in part:
                text = re.sub(r"<[^>]+>|\s", "", signature[1])
                assert "()" not in text, (page.name, text)


def members():
    """Each public method and property with a docstring, also of the classes below a public one."""
    for name in flagstone.__all__:
        kind = getattr(flagstone, name)
        if not isinstance(kind, type) or issubclass(kind, tuple):
            continue  # the fields of tuples stand in the class's own docstring
        for base in kind.__mro__:
            for member, value in vars(base).items() if "flagstone" in base.__module__ else ():
                if not member.startswith("_") and value.__doc__ and hasattr(value, "__get__"):
                    yield f"{name}.{member}"


@pytest.mark.parametrize("source", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_drawing_is_what_its_text_says(source):
    """`make drawings` makes it so."""
    assert source.with_suffix(".svg").read_text() == draw(source.read_text())
