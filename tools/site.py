"""MkDocs' hooks for docs/: what is beside docs/ and linked from a page becomes a page, too.

The pages are read in the repository as well as on the site, so a link leads to the file, wherever
it lies. Here it leads to `tree/`, where Markdown is a page as it is, and a program is shown.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

from tools.pages import AROUND, links, replaced

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]


def _inside(folder: Path, target: str) -> Path | None:
    """Return the file of the repository that a page in this folder means, if it means one."""
    name = target.partition("#")[0]
    if not name or re.match(r"[a-z]+:", target):
        return None
    path = Path(os.path.normpath(folder / name))
    if path.is_dir():
        path /= "README.md"
    return path if path.is_relative_to(ROOT) and path.is_file() else None


def _place(path: Path) -> str:
    """Return where the site has this file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"tree/{name}" if path.suffix == ".md" else f"tree/{name}.md"


def _shown(path: Path) -> str:
    """Return a page that shows this file."""
    language = {".py": "python", ".c": "c", ".h": "c", ".toml": "toml"}.get(path.suffix, "text")
    name = path.relative_to(ROOT).as_posix()
    return f"# {path.name}\n\n`{name}`\n\n~~~~~~{language}\n{path.read_text()}\n~~~~~~\n"


_origin: dict[str, Path] = {}

# What says nothing to a reader of the reference: the classes of the package that another one is
# made of, and how a name came to be in its class.
_NOISE = re.compile(
    r'<p class="doc doc-class-bases">.*?</p>'
    r'|<small class="doc doc-label doc-label-(?:builtin|instance-attribute'
    r'|module-attribute|dataclass)">.*?</small>',
    re.DOTALL,
)
# But which `except` takes an error is for its reader.
_TELLS = re.compile(r"Error|Exception")


def on_page_content(html: str, /, *, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Leave out what is noise, and a table of contents that has next to nothing to list."""
    del config, files
    if page.file.src_uri.startswith("reference/"):
        html = _NOISE.sub(lambda found: found[0] if _TELLS.search(found[0]) else "", html)
    if sum(len(heading.children) for heading in page.toc) < 3:
        page.meta["hide"] = ["toc"]
    return html


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add what pages link to, and what these link to."""
    waiting = []
    for file in files.documentation_pages():
        _origin[file.src_uri] = ROOT / "docs" / file.src_uri
        waiting.append(_origin[file.src_uri])
    while waiting:
        page = waiting.pop()
        for target in links(page.read_text()):
            path = _inside(page.parent, target)
            if path is None or path.is_relative_to(ROOT / "docs") or _place(path) in _origin:
                continue
            place = _origin[_place(path)] = path
            is_page = path.suffix == ".md"
            content = path.read_text() if is_page else _shown(path)
            files.append(File.generated(config, _place(place), content=content))
            if is_page:
                waiting.append(path)
    return files


def on_page_markdown(
    markdown: str, /, *, page: "Page", config: "MkDocsConfig", files: "Files"
) -> str:
    """Let links lead to where the site has what they name, and leave out what only tests read."""
    del config, files
    here = _origin[page.file.src_uri]
    if here.suffix != ".md":
        return markdown
    start = os.path.dirname(page.file.src_uri)

    def moved(target: str) -> str:
        path = _inside(here.parent, target)
        if path is None:
            return target
        _, mark, part = target.partition("#")
        return os.path.relpath(_place(path), start or ".") + mark + part

    return replaced(AROUND.sub("", markdown), moved)
