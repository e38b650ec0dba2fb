"""Read Markdown: where its links lead, the names of its headings, and its blocks of code."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

# What tests read and readers do not see.
AROUND = re.compile(r"^<!-- (?:before|after)\n.*?^-->\n\n?", re.MULTILINE | re.DOTALL)
_CODE = r"^```.*?^```$|`[^`\n]*`"
_LINK = re.compile(rf"{_CODE}|\]\(([^()\s]+)\)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(
    r"<!--.*?-->"
    r"|^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<fenced>.*?)^(?P=indent)```$"
    r"|(?:(?<=\n\n)|\A)(?P<indented>(?: {4}[^\n]*\n|\n(?=\n* {4}))+)",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of all links and pictures, those in code left out."""
    return [match[1] for match in _LINK.finditer(text) if match[1]]


def replaced(text: str, change: Callable[[str], str]) -> str:
    """Return the text with every link's target changed."""
    return _LINK.sub(lambda match: f"]({change(match[1])})" if match[1] else match[0], text)


def headings(text: str) -> set[str]:
    """Return the names by which a link finds the headings of a page."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(plain)
    }


class Block(NamedTuple):
    """A block of code of a page: the word behind its fence, None of an indented one; the text; and
    the line of the page in which it begins.
    """

    language: str | None
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of code of a page, without those that readers do not see."""
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["fenced"] is not None:
            yield Block(match["language"], match["fenced"], line)
        elif match["indented"] is not None:
            shown = re.sub(r"^ {4}", "", match["indented"], flags=re.MULTILINE)
            yield Block(None, shown, line)
