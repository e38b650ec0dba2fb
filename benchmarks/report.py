"""The report: a page and plots from the JSON of the parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, show

INTRODUCTION = """# Benchmarks

Written by `make bench`, which measures everything again; `make bench ONLY=alloc` does one part.
[benchmarks/README.md](../../benchmarks/README.md) says how it is measured and what the numbers
mean. All samples are in the JSON files beside this page.
"""

# One for each name that is met, in this order; ours is the first.
COLOURS = ("#c1440e", "#4a6d8c", "#7a9e7e", "#b9a44c", "#8a6f9e", "#5f5f5f", "#9c6644", "#3d8e8e")


# The table of the README that is made from the samples, between two comments of this name.
KILLED = "killed"


def write_report(folder: Path, parts: Sequence[str]) -> None:
    """Write README.md and the plots from whatever parts have been measured."""
    records = [
        json.loads((folder / f"{part}.json").read_text())
        for part in parts
        if (folder / f"{part}.json").exists()
    ]
    page = [INTRODUCTION, *summary(records)]
    for record in records:
        page += part_of_page(record, draw(folder, record))
    (folder / "README.md").write_text("\n".join(page).rstrip() + "\n")
    print(f"wrote {folder / 'README.md'}")
    channel = folder / "channel.json"
    if folder.resolve() == ROOT / "docs" / "benchmarks" and channel.exists():
        page = ROOT / "README.md"
        page.write_text(with_killed(page.read_text(), json.loads(channel.read_text())))


def with_killed(page: str, record: dict[str, Any]) -> str:
    """The README with the SIGKILLs that transports survive, and what a message costs there."""
    begin, end = (f"<!-- {KILLED}: {which} -->" for which in ("begin", "end"))
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    if not rest:
        raise ValueError(f"the README has no {begin}")
    return "".join((before, begin, "\n\n", *killed_table(record), "\n", end, after))


def killed_table(record: dict[str, Any]) -> list[str]:
    tables = {table["title"]: table for table in record["tables"]}
    one_way = {row["name"]: row["median"] for row in tables["24 bytes to another process"]["rows"]}
    lines = [
        "| | of a consumer | of a producer | 24 bytes to another process |\n",
        "|---|---:|---:|---:|\n",
    ]
    for name, *cells in tables["SIGKILLs until it stalls"]["rows"]:
        cost = f"{one_way[name] / 1000:.1f} us" if name in one_way else ""
        bold = f"**{name}**" if name.startswith("flagstone") else name
        lines.append(f"| {bold} | {' | '.join(cells)} | {cost} |\n")
    return lines


def summary(records: list[dict[str, Any]]) -> list[str]:
    lines = ["## Targets", "", "| part | target | bound | measured | |", "|---|---|---:|---:|---|"]
    for record in records:
        for one in record["targets"]:
            sign = "≥" if one["least"] else "≤"
            verdict = "met" if one["met"] else f"**missed**, {missed(one)}"
            bound = f"{sign} {show(one['bound'])}"
            lines.append(
                f"| {record['part']} | {one['what']} | {bound} | {show(one['measured'])}"
                f" | {verdict} |"
            )
    left_out = [
        f"- {record['part']}: {one['peer']}: {one['reason']}"
        for record in records
        for one in record["skipped"]
    ]
    return [
        *lines,
        "",
        *(["Left out, because it could not run:", "", *left_out, ""] if left_out else []),
    ]


def missed(one: dict[str, Any]) -> str:
    if not one["bound"] or not one["measured"]:
        return "by all"
    factor = one["measured"] / one["bound"]
    return f"by {1 / factor if one['least'] else factor:.2f}x"


def part_of_page(record: dict[str, Any], plots: dict[str, str]) -> list[str]:
    machine = record["machine"]
    settings = record["settings"]
    how = f"{settings['rounds']} rounds" + (", quick: only to try the programs" * settings["quick"])
    lines = [
        f"## {record['part']}",
        "",
        f"{record['date']}, commit {record['commit'] or 'unknown'}; {machine['processor']},"
        f" {machine['cores']} cores, {machine['memory']}, {machine['system']}, Python"
        f" {machine['python']}; load at its end {machine['load']}; {how}, {record['seconds']} s.",
        "",
    ]
    for table in record["tables"]:
        lines += [f"### {table['title']}", ""]
        lines += {"compare": compare, "rows": rows, "series": series}[table["kind"]](table)
        lines += [table["note"], ""] if table["note"] else []
        if table["title"] in plots:
            lines += [f"![{table['title']}]({plots[table['title']]})", ""]
    return lines


def compare(table: dict[str, Any]) -> list[str]:
    lines = [
        f"| | {table['unit']}, median (quartiles) | in {table['base']} (quartiles) |",
        "|---|---:|---:|",
    ]
    for row in table["rows"]:
        ratio = row["ratio"]
        lines.append(
            f"| {row['name']} | {show(row['median'])} ({show(row['low'])} to {show(row['high'])})"
            f" | {show(ratio['median'])} ({show(ratio['low'])} to {show(ratio['high'])}) |"
        )
    return [*lines, ""]


def rows(table: dict[str, Any]) -> list[str]:
    lines = ["| " + " | ".join(table["columns"]) + " |", "|" + "---|" * len(table["columns"])]
    lines += ["| " + " | ".join(map(show, row)) + " |" for row in table["rows"]]
    return [*lines, ""]


def series(table: dict[str, Any]) -> list[str]:
    names = list(table["lines"])
    lines = [f"| {table['x']} | " + " | ".join(f"{name}, {table['y']}" for name in names) + " |"]
    lines.append("|" + "---:|" * (1 + len(names)))
    for points in zip(*table["lines"].values(), strict=True):
        values = " | ".join(show(float(y)) for _, y in points)
        lines.append(f"| {show(int(points[0][0]))} | {values} |")
    return [*lines, ""]


# ---- plots


def draw(folder: Path, record: dict[str, Any]) -> dict[str, str]:
    """Draw the tables that a picture helps; file names by title. None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plots: matplotlib is not installed")
        return {}
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "flagstone", "font.size": 9})
    from matplotlib import pyplot

    found = {}
    for number, table in enumerate(record["tables"]):
        if table["kind"] == "rows" or (table["kind"] == "compare" and len(table["rows"]) < 3):
            continue
        figure, axes = pyplot.subplots(figsize=(6.4, 2.8), layout="constrained")
        (bars if table["kind"] == "compare" else curves)(axes, table)
        axes.set_title(f"{record['part']}: {table['title']}", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        name = f"{record['part']}-{number}.svg"
        figure.savefig(folder / name, metadata={"Date": None})
        pyplot.close(figure)
        found[table["title"]] = name
    return found


def bars(axes: Any, table: dict[str, Any]) -> None:
    names = [row["name"] for row in table["rows"]][::-1]
    values = [row["median"] for row in table["rows"]][::-1]
    errors = [
        [row["median"] - row["low"] for row in table["rows"]][::-1],
        [row["high"] - row["median"] for row in table["rows"]][::-1],
    ]
    colours = [COLOURS[0] if "flagstone" in name else COLOURS[1] for name in names]
    axes.barh(names, values, xerr=errors, color=colours, height=0.65, error_kw={"lw": 0.8})
    if max(values) > 30 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(f"{table['unit']}, less is better")


def curves(axes: Any, table: dict[str, Any]) -> None:
    for colour, (name, points) in zip(COLOURS, table["lines"].items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(table["x"])
    axes.set_ylabel(table["y"])
    axes.legend(frameon=False)
