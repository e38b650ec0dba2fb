"""drawings [--check] - draw docs/drawings/*.toml, each as an SVG beside it.

A drawing has a `size`, a `title` (for those who cannot see it), boxes and arrows. Lengths are in
pixels. A box has `at` (x, y, width, height), `text` (its first line in bold), a `kind`, and a
`name` if arrows begin or end there; the text of an area is at its left, or, if `right`, there. An
arrow goes `from` one box `to` another one, at a side ("block.right", or with the place along it in
percent: "block.right.30"), and may have a `text`, `shift`ed (x, y) from the middle of the line, and
be `dashed`. Lines of `text` alone have `at`, too.
"""

import argparse
import sys
import tomllib
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "drawings"
LINE = 17
KINDS = {
    "area": ("#f6f7fa", "#8a93a6", ""),
    "thing": ("#ffffff", "#3b4252", ""),
    "memory": ("#dcebfb", "#2f6db3", ""),
    "group": ("#fbf3dc", "#b38a2f", ' stroke-dasharray="6 3"'),
    "process": ("#e4f4e4", "#3f8f4f", ""),
    "dead": ("#f7e0e0", "#b03a3a", ""),
}
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
height="{height}" role="img" font-family="sans-serif" font-size="13" fill="#1d2330">
<title>{title}</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" \
orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#3b4252"/></marker></defs>
<rect width="{width}" height="{height}" fill="#ffffff"/>
"""


def _words(x: float, y: float, lines: list[str], anchor: str, bold: bool) -> str:
    """Return lines of text, the first of them at y."""
    weights = [' font-weight="bold"' if bold and not n else "" for n in range(len(lines))]
    return "".join(
        f'<text x="{x:g}" y="{y + LINE * n:g}" text-anchor="{anchor}"{weight}>'
        f"{escape(line)}</text>\n"
        for n, (line, weight) in enumerate(zip(lines, weights, strict=True))
    )


def _box(box: dict[str, Any]) -> str:
    x, y, width, height = box["at"]
    kind = box.get("kind", "thing")
    fill, stroke, dashes = KINDS[kind]
    lines = box.get("text", "").splitlines()
    shape = (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.3"{dashes}/>\n'
    )
    if kind in ("area", "group"):  # Others lie in there, below its name.
        if box.get("right"):
            return shape + _words(x + width - 10, y + 20, lines, "end", bold=True)
        return shape + _words(x + 10, y + 20, lines, "start", bold=True)
    top = y + height / 2 - LINE * (len(lines) - 1) / 2 + 4.5
    return shape + _words(x + width / 2, top, lines, "middle", bold=len(lines) > 1)


def _end(boxes: dict[str, Any], place: str) -> tuple[float, float]:
    """Return where an arrow begins or ends."""
    name, side, *along = place.split(".")
    x, y, width, height = boxes[name]["at"]
    part = float(along[0]) / 100 if along else 0.5
    return {
        "left": (x, y + height * part),
        "right": (x + width, y + height * part),
        "top": (x + width * part, y),
        "bottom": (x + width * part, y + height),
    }[side]


def _arrow(boxes: dict[str, Any], arrow: dict[str, Any]) -> str:
    (x0, y0), (x1, y1) = _end(boxes, arrow["from"]), _end(boxes, arrow["to"])
    dashes = ' stroke-dasharray="5 4"' if arrow.get("dashed") else ""
    line = (
        f'<path d="M{x0:g} {y0:g}L{x1:g} {y1:g}" stroke="#3b4252" stroke-width="1.4" fill="none"'
        f'{dashes} marker-end="url(#tip)"/>\n'
    )
    lines = arrow.get("text", "").splitlines()
    right, down = arrow.get("shift", (0, 0))
    x, y = (x0 + x1) / 2 + right, (y0 + y1) / 2 + down
    if abs(x1 - x0) < abs(y1 - y0):  # Going down: beside it.
        return line + _words(x + 8, y + 4 - LINE * (len(lines) - 1) / 2, lines, "start", bold=False)
    return line + _words(x, y - 7 - LINE * (len(lines) - 1), lines, "middle", bold=False)


def draw(source: str) -> str:
    """Return the SVG of a drawing."""
    data = tomllib.loads(source)
    width, height = data["size"]
    boxes = {box["name"]: box for box in data.get("box", ()) if "name" in box}
    parts = [HEAD.format(width=width, height=height, title=escape(data["title"]))]
    parts += [_box(box) for box in data.get("box", ())]
    parts += [_arrow(boxes, arrow) for arrow in data.get("arrow", ())]
    for text in data.get("text", ()):
        x, y = text["at"]
        parts.append(_words(x, y, text["text"].splitlines(), "start", bold=False))
    return "".join(parts) + "</svg>\n"


def main() -> int:
    """Draw all, or say which are not as they are drawn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    old = []
    for source in sorted(FOLDER.glob("*.toml")):
        picture, target = draw(source.read_text()), source.with_suffix(".svg")
        if not target.exists() or target.read_text() != picture:
            old.append(target.name)
            if not options.check:
                target.write_text(picture)
    print(f"drawn: {', '.join(old)}" if old else "drawings: fine")
    return bool(old and options.check)


if __name__ == "__main__":
    sys.exit(main())
