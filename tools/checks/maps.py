"""The byte maps above the structs that lie in shared memory, compared with what the compiler makes.

A map is headed by the struct's name, at the start of a line of its comment. Then, row by row, the
offsets stand above the fields, each at the bar that opens its field, and at the end the struct's
size:

    struct thing
         0       8       12    16
         | state | owner | pad |

Fields that begin with "pad" and gaps are "pad". A map that ends in "..." leaves the rest out. Maps
of the bits of a word are headed by what they are of ("object word (64 bits, atomic)").
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import Finding, Known, Tree, parts_of

_HEADING = re.compile(r"^[ /*]*struct (\w+)$")
_BITS = re.compile(r"\(\d+ bits\b")
_OFFSETS = re.compile(r"^[ *]*(?:\d+ +)+\d+ *$")
_STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"(\w+)(?:\[[^]]*\])*\s*(?=[,;])")
_WIDTH = 100
_SMALL = 16  # bytes: a struct that needs no map


class Cell(NamedTuple):
    """A field's name and offset, as a map has it."""

    offset: int
    name: str


class Field(NamedTuple):
    """A field as the compiler places it."""

    name: str
    offset: int
    size: int


class Map(NamedTuple):
    """A map as it stands in a file."""

    struct: str
    line: int
    cells: list[Cell]
    end: int | None


class Struct(NamedTuple):
    """A struct as the compiler makes it."""

    fields: list[Field]
    size: int


LAYOUT = tuple(
    f"core/region/{name}.h"
    for name in ("layout", "descriptors", "processes", "rings", "stores", "forms", "records")
)


def check(tree: Tree, known: Known) -> Iterator[Finding]:
    """Maps that are wrong, and structs of the layout that have none."""
    del known
    for path in tree.core():
        maps: list[Map] = []
        for result in _maps(tree, path):
            if isinstance(result, Finding):
                yield result
            else:
                maps.append(result)
        shown = tree.shown(path)
        layout = shown in LAYOUT
        if not maps and not layout:
            continue
        structs = compiled(tree, path)
        for one in maps:
            struct = structs.get(one.struct)
            if struct is None:
                yield Finding(shown, one.line, f"a map of struct {one.struct}, which is not here")
            elif not _fits(one, struct):
                right = "\n".join(draw(one.struct, struct))
                yield Finding(shown, one.line, f"the map is wrong; the compiler says\n{right}")
        if layout:
            for name in structs.keys() - {one.struct for one in maps}:
                if structs[name].size <= _SMALL:
                    continue
                right = "\n".join(draw(name, structs[name]))
                yield Finding(shown, 0, f"struct {name} has no map; the compiler says\n{right}")


def _maps(tree: Tree, path: Path) -> Iterator[Map | Finding]:
    """The maps of a file, and what is no map and looks like one."""
    lines = parts_of(path).prose.splitlines()
    heading, bits = "", False
    last: Map | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        if match := _HEADING.match(line):
            if last:
                yield last
            heading, last = match[1], None
        row = bool(_OFFSETS.match(line)) and "|" in "".join(lines[number + 1 : number + 2])
        if not row:
            bits = bool(_BITS.search(line)) or (bits and not line.strip(" *"))
        elif not bits:
            cells, end, fault = _row(line, lines[number + 1])
            if not heading:
                yield Finding(tree.shown(path), number + 1, "a byte map without a heading")
            elif fault:
                yield Finding(tree.shown(path), number + 1, fault)
            elif last is None:
                last = Map(heading, number + 1, cells, end)
            else:
                last = Map(heading, last.line, last.cells + cells, end)
            number += 1
        if "*/" in lines[number] and heading:
            if last:
                yield last
            heading, last = "", None
        number += 1


def _row(above: str, below: str) -> tuple[list[Cell], int | None, str]:
    """The cells of a row, the offset behind the last, and what is wrong with it."""
    offsets = [(match.start(), int(match[0])) for match in re.finditer(r"\d+", above)]
    body = below.split("*/")[0].rstrip()
    bars = [position for position, c in enumerate(body) if c == "|"]
    if bars != [position for position, _ in offsets][: len(bars)] or len(bars) < len(offsets):
        return [], None, "each offset stands above its bar, and the last one above the last bar"
    names = [name.strip() for name in body[bars[0] + 1 :].split("|")]
    names = [name for name in names if name]
    cells = [Cell(offset, name) for (_, offset), name in zip(offsets, names, strict=False)]
    return cells, offsets[-1][1] if len(offsets) > len(cells) else None, ""


def _fits(one: Map, struct: Struct) -> bool:
    right = cells_of(struct)
    if one.cells and one.cells[-1].name == "...":
        return one.cells[:-1] == right[: len(one.cells) - 1]
    return one.cells == right and one.end == struct.size


def cells_of(struct: Struct) -> list[Cell]:
    """The cells that a map of the struct has; pads beside each other are one."""
    cells: list[Cell] = []
    end = 0
    for field in struct.fields:
        if field.offset > end and not (cells and cells[-1].name == "pad"):
            cells.append(Cell(end, "pad"))
        name = "pad" if field.name.startswith("pad") else field.name
        if not (name == "pad" and cells and cells[-1].name == "pad"):
            cells.append(Cell(field.offset, name))
        end = field.offset + field.size
    if end < struct.size and cells[-1].name != "pad":
        cells.append(Cell(end, "pad"))
    return cells


def draw(name: str, struct: Struct) -> list[str]:
    """The lines of the map."""
    lines = [f" * struct {name}"]
    above, below = " *      ", " *      "
    for cell in cells_of(struct):
        width = max(len(cell.name) + 3, len(str(cell.offset)) + 1)
        if len(below) + width + len(str(struct.size)) > _WIDTH:
            lines += [above + str(cell.offset), below + "|"]
            above, below = " *      ", " *      "
        above += str(cell.offset).ljust(width)
        below += f"| {cell.name}".ljust(width)
    return [*lines, above + str(struct.size), below + "|"]


def compiled(tree: Tree, path: Path) -> dict[str, Struct]:
    """The structs that the header defines, as the compiler lays them out."""
    code = parts_of(path).code
    names = {
        match[1]: [name for name in _FIELD.findall(match[2]) if not name.isdigit()]
        for match in _STRUCT.finditer(code)
    }
    probe = [f'#include "{path.relative_to(tree.root / "core")}"', "#include <stdio.h>"]
    probe.append("int main(void)\n{")
    for struct, fields in names.items():
        for field in fields:
            of = f"offsetof(struct {struct}, {field})"
            size = f"sizeof((struct {struct} *)0)->{field}"
            probe.append(f'    printf("{struct} {field} %zu %zu\\n", {of}, {size});')
        probe.append(f'    printf("{struct} - %zu 0\\n", sizeof(struct {struct}));')
    probe.append("    return 0;\n}\n")
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text("\n".join(probe))
        includes = (f"-I{tree.root / 'core'}", f"-I{tree.root / 'core/include'}")
        compiler = os.environ.get("CC", "cc").split()
        command = [*compiler, "-std=gnu11", *includes, str(source), "-o", str(program)]
        subprocess.run(command, check=True)
        answer = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    structs: dict[str, Struct] = {}
    fields_of: dict[str, list[Field]] = {}
    for line in answer.splitlines():
        struct, field, offset, size = line.split()
        if field == "-":
            structs[struct] = Struct(fields_of.get(struct, []), int(offset))
        else:
            fields_of.setdefault(struct, []).append(Field(field, int(offset), int(size)))
    return structs
