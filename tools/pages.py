"""Read Markdown: where its links lead, and the names of its headings."""

import re
from collections.abc import Callable

# What tests read and readers do not see.
AROUND = re.compile(r"^<!-- (?:before|after)\n.*?^-->\n\n?", re.MULTILINE | re.DOTALL)
_CODE = r"^```.*?^```$|`[^`\n]*`"
_LINK = re.compile(rf"{_CODE}|\]\(([^()\s]+)\)", re.MULTILINE | re.DOTALL)
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
