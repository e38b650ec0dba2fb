"""A recording as one page of HTML, by plotly.js (the extra `report`), which lies in the page: it
needs no network, follows the reader's choice of dark or light, and fits a phone.

The numbers lie in the page as JSON (`#facts`), as they were recorded; the charts are made of them.
"""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from flagstone.extra import Extra
from flagstone.picture import duration, number, printable, some
from flagstone.record import AGES
from flagstone.sizes import format_size, many

__all__ = ["figures", "page"]

_LINES: Final = 12
"""Curves of a chart; the rest is summed."""
OTHER: Final = "(other)"
_SITES: Final = 20
"""Allocation sites in the table."""
_NOWHERE: Final = "(not known)"
_ROOT: Final = {"color": "rgba(128, 128, 128, 0.35)"}
"""The colour of the box that holds all others. Without it the box would have the page's colour, and
what is in no other box would look like nothing.
"""


def page(head: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        head: the first line of a recording; lines: the others, one at least.

    Raises:
        ImportError: plotly is not installed.
    """
    with Extra("report", "plotly", "report"):
        from plotly.offline import get_plotlyjs
    charts = figures(lines)
    sections = "\n".join(
        f'<section><h2>{html.escape(one["title"])}</h2><div class="chart" id="{key}"></div>'
        f"<p>{html.escape(one['note'])}</p></section>"
        for key, one in charts.items()
    )
    last = lines[-1]
    spent = last["at"] - lines[0]["at"]
    facts = {
        "recorded": f"{_when(lines[0]['at'])}, {many(len(lines), 'look')} in {duration(spent)}",
        "capacity": format_size(head["capacity"]),
        "used at the end": format_size(last["used"]),
        "used at most": format_size(max(one["used"] for one in lines)),
        "committed at the end": format_size(last["committed"]),
        "in flight at the end": number(sum(last["ages"])),
    }
    table = "".join(
        f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in facts.items()
    )
    return (
        _PAGE.replace("@TITLE@", html.escape(printable(head["arena"])))
        .replace("@FACTS@", table)
        .replace("@SECTIONS@", sections)
        .replace("@SITES@", _table_of_sites(lines))
        .replace("@DEATHS@", _deaths(lines))
        .replace("@DATA@", _json({"head": head, "lines": lines}))
        .replace("@CHARTS@", _json({key: one["chart"] for key, one in charts.items()}))
        .replace("@PLOTLY@", get_plotlyjs())
    )


def _json(value: Any) -> str:
    # A name must not end the script that it stands in.
    return json.dumps(value).replace("<", "\\u003c")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _own(line: dict[str, Any]) -> dict[int, tuple[str, int, int | None]]:
    """What each group holds without those below it: name, bytes, parent."""
    rows = {one[0]: one for one in line["groups"]}
    below: dict[int, int] = {}
    for _, parent, _, usage, _ in line["groups"]:
        if parent in rows:
            below[parent] = below.get(parent, 0) + usage
    return {
        ident: (
            "(root)" if parent is None else printable(name) or f"#{ident & 0xFFFFFFFF}",
            max(0, usage - below.get(ident, 0)),
            parent if parent in rows else None,
        )
        for ident, parent, name, usage, _ in line["groups"]
    }


def _curves(times: list[str], looks: list[dict[str, float]]) -> list[dict[str, Any]]:
    """A stacked area for each of the largest names, and one of the rest. What was always empty has
    none.
    """
    most: dict[str, float] = {}
    for look in looks:
        for name, value in look.items():
            most[name] = max(most.get(name, 0), value)
    largest = sorted(filter(most.get, most), key=lambda name: -most[name])[:_LINES]
    curves = [(name, [look.get(name, 0) for look in looks]) for name in largest]
    if sum(map(bool, most.values())) > len(largest):
        rest = [sum(v for name, v in look.items() if name not in largest) for look in looks]
        curves.append((OTHER, rest))
    return [
        {"type": "scatter", "mode": "lines", "stackgroup": "all", "x": times, "y": y, "name": name}
        for name, y in curves
    ]


def figures(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each chart with its title, a note, and what plotly.js draws."""
    times = [datetime.fromtimestamp(one["at"], UTC).isoformat() for one in lines]
    groups, processes = [], []
    for line in lines:
        own: dict[str, float] = {}
        for name, usage, _ in _own(line).values():
            own[name] = own.get(name, 0) + usage
        groups.append(own)
        held: dict[str, float] = {}
        for pid, command, nbytes, _ in line["processes"]:
            held[f"{pid} {printable(command)}"] = nbytes
        processes.append(held)
    used: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": times, "name": "used"}
    used |= {"y": [one["used"] for one in lines], "line": {"dash": "dot"}}
    bounds = [f"up to {duration(limit)}" for limit in AGES] + [f"over {duration(AGES[-1])}"]
    batches = [one for line in lines for one in line["batches"]]
    began = [datetime.fromtimestamp(one[1], UTC).isoformat() for one in batches]
    bytes_axis = {"yaxis": {"title": {"text": "bytes"}, "tickformat": ".3s", "rangemode": "tozero"}}
    sites = _sites(lines)
    looks: list[dict[str, float]] = []
    for look in sites:
        at: dict[str, float] = {}
        for site in look:
            at[site.line] = at.get(site.line, 0) + site.nbytes
        looks.append(at)
    by_line = _curves(times, looks)
    for curve in by_line:
        curve["name"] = _called(curve["name"])
    remembered: dict[str, dict[str, Any]] = {
        "flames": {
            "title": "Allocation sites at the end, as a flame graph",
            "note": "Callers above whom they called, each as wide as the bytes that live.",
            "chart": {"data": [_flames(sites[-1])], "layout": {}},
        },
        "sites": {
            "title": "Living memory by the line that allocated it",
            "note": "Of caches that are debugged with U. What leaks grows.",
            "chart": {"data": by_line, "layout": bytes_axis},
        },
    }
    return (remembered if any(sites) else {}) | {
        "groups": {
            "title": "Usage by group",
            "note": "What each group holds without those below it; dotted: all that is used.",
            "chart": {"data": [*_curves(times, groups), used], "layout": bytes_axis},
        },
        "processes": {
            "title": "Held by process",
            "note": "Objects that a process refers to. What several use is in each of them.",
            "chart": {"data": _curves(times, processes), "layout": bytes_axis},
        },
        "treemap": {
            "title": "The arena at the end",
            "note": "Groups by what they hold, each inside its parent.",
            "chart": {"data": [_treemap(lines[-1])], "layout": {}},
        },
        "ages": {
            "title": "Messages in flight, by age",
            "note": "Pickled and not yet taken. Old ones may be lost.",
            "chart": {
                "data": [
                    {
                        "type": "bar",
                        "x": times,
                        "y": [one["ages"][i] for one in lines],
                        "name": name,
                    }
                    for i, name in enumerate(bounds)
                ],
                "layout": {
                    "barmode": "stack",
                    "yaxis": {"title": {"text": "messages"}, "rangemode": "tozero"},
                },
            },
        },
        "batches": {
            "title": "Batches",
            "note": f"{number(len(batches))} seen: at most 16 between two looks.",
            "chart": {
                "data": [
                    {
                        "type": "scatter",
                        "mode": "markers",
                        "x": began,
                        "y": [one[place] for one in batches],
                        "name": name,
                    }
                    for place, name in ((2, "took"), (3, "waited for readers"))
                ],
                "layout": {"yaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"}},
            },
        },
    }


def _treemap(line: dict[str, Any]) -> dict[str, Any]:
    # What is empty, with all below it, has no area: but a parent of it would be drawn as one.
    full = {one[0] for one in line["groups"] if one[3] or one[1] is None}
    own = {ident: one for ident, one in _own(line).items() if ident in full}
    return {
        "type": "treemap",
        "ids": [str(ident) for ident in own],
        "labels": [name for name, _, _ in own.values()],
        "parents": ["" if parent is None else str(parent) for _, _, parent in own.values()],
        # Not "total": what a parent holds itself counts beside its children.
        "branchvalues": "remainder",
        "values": [usage for _, usage, _ in own.values()],
        "texttemplate": "%{label}<br>%{value:.3s}B",
        "root": _ROOT,
    }


class _Site(NamedTuple):
    stack: tuple[str, ...]
    objects: int
    nbytes: int
    oldest: float
    pids: list[int]
    caches: list[str]
    holders: tuple[list[int], ...] = ()  # a recording from before has none

    @property
    def line(self) -> str:
        """The innermost one: where it happened."""
        return self.stack[0]


def _sites(lines: list[dict[str, Any]]) -> list[list[_Site]]:
    """What each look found, the most bytes first. A recording from before sites has none."""
    texts: list[str] = []
    found = []
    for line in lines:
        texts += line.get("places", [])
        look = []
        for place, *rest in line.get("sites", []):
            stack = (texts[place] or _NOWHERE).split("\n")
            look.append(_Site(tuple(map(printable, stack)), *rest))
        found.append(look)
    return found


def _called(line: str) -> str:
    """A site's line in short: "grab (pipeline.py:31)" for "/srv/pipeline.py:31 in grab"."""
    where, _, function = line.rpartition(" in ")
    return f"{function} ({where.rpartition('/')[2]})" if where else line


def _flames(sites: list[_Site]) -> dict[str, Any]:
    """Calls as a tree, the outermost caller at its root; equal callers are one."""
    total: dict[tuple[str, ...], int] = {(): 0}
    for site in sites:
        path = tuple(reversed(site.stack))
        for depth in range(len(path) + 1):
            total[path[:depth]] = total.get(path[:depth], 0) + site.nbytes
    numbers = {path: str(number) for number, path in enumerate(total)}
    return {
        "type": "icicle",
        "ids": list(numbers.values()),
        "labels": [_called(path[-1]) if path else "all" for path in total],
        "parents": [numbers[path[:-1]] if path else "" for path in total],
        "branchvalues": "total",
        "values": list(total.values()),
        "hovertext": [path[-1] if path else "" for path in total],
        "hoverinfo": "text+value",
        "texttemplate": "%{label} %{value:.3s}B",
        "tiling": {"orientation": "v"},
        "pathbar": {"visible": False},
        "root": _ROOT,
    }


_SITE: Final = ("bytes", "grew", "allocated at", "objects", "oldest", "by pid", "held by", "caches")


def _table_of_sites(lines: list[dict[str, Any]]) -> str:
    every = _sites(lines)
    if not every[-1]:
        return (
            "<p>No cache remembers where its objects were allocated: start the program with"
            " <code>FLAGSTONE_DEBUG=U</code>.</p>"
        )
    first = {site.stack: site.nbytes for site in every[0]}
    rows = []
    for site in every[-1][:_SITES]:
        callers = "".join(f"<br>{html.escape(line)}" for line in site.stack[1:])
        where = html.escape(site.line)
        if callers:
            where = f"<details><summary>{where}</summary>called by{callers}</details>"
        grown = site.nbytes - first.get(site.stack, 0)
        pids = some(list(map(str, site.pids)))
        cells = [
            format_size(site.nbytes),
            ("-" if grown < 0 else "+") + format_size(abs(grown)) if grown else "",
            where,
            number(site.objects),
            duration(site.oldest),
            pids,
            some([f"{pid} ({number(objects)})" for pid, objects in site.holders]),
            html.escape(printable(", ".join(site.caches))),
        ]
        named = zip(_SITE, cells, strict=True)
        cells = [f"<td data-name='{name}'>{cell}</td>" for name, cell in named]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{name}</th>" for name in _SITE)
    more = len(every[-1]) - len(rows)
    rest = f"<p>and {number(more)} smaller ones</p>" if more else ""
    return f"<div class='wide'><table id='where'><tr>{head}</tr>{''.join(rows)}</table></div>{rest}"


def _deaths(lines: list[dict[str, Any]]) -> str:
    found = {one[0]: one for line in lines for one in line["deaths"]}  # the last word on each
    if not found:
        return "<p>Nobody died without leaving.</p>"
    rows = "".join(
        f"<tr><td>{_when(at)}</td><td>{pid}</td><td>{html.escape(printable(command))}</td>"
        f"<td>{number(objects)}</td><td>{format_size(nbytes)}</td>"
        f"<td>{'not yet' if took is None else duration(took)}</td></tr>"
        for _, at, pid, command, objects, nbytes, took in found.values()
    )
    names = ("noticed", "pid", "command", "objects", "bytes that came back", "after")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<div class='wide'><table id='died'><tr>{head}</tr>{rows}</table></div>"


_PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>@TITLE@ - flagstone report</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --line: #d0d7de; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --text: #e6e8eb; --line: #3a414a; } }
body { background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif;
  max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
.chart { width: 100%; height: 24rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
#where td { white-space: nowrap; }
#where [data-name="allocated at"], #where [data-name="caches"] { white-space: normal; }
@media (max-width: 40rem) { body { padding: .5rem; font-size: 15px; } .chart { height: 18rem; }
  th, td { padding-right: .5rem; } }
#where [data-name="allocated at"] { min-width: 11rem; overflow-wrap: anywhere; }
/* A phone is too narrow for eight columns: each site is a paragraph there. */
@media (max-width: 40rem) { #where, #where tbody { display: block; }
  #where tr { display: flex; flex-wrap: wrap; padding: .3rem 0; }
  #where tr { border-bottom: 1px solid var(--line); }
  #where tr:first-child { display: none; }
  #where td { border: 0; padding: 0 .9rem 0 0; }
  #where td:empty { display: none; }
  #where td::before { content: attr(data-name) " "; opacity: .65; }
  #where [data-name="allocated at"] { order: -1; width: 100%; padding: 0; }
  #where [data-name="allocated at"]::before { content: none; } }
</style></head><body>
<h1>@TITLE@</h1>
<table id="summary">@FACTS@</table>
<section><h2>The largest allocation sites</h2>@SITES@</section>
@SECTIONS@
<section><h2>Deaths</h2>@DEATHS@</section>
<script type="application/json" id="facts">@DATA@</script>
<script type="application/json" id="charts">@CHARTS@</script>
<script>
window.addEventListener("error", e => { document.body.dataset.error = e.message; });
</script>
<script>@PLOTLY@</script>
<script>
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
// Where nothing hovers they would lie over the curves for ever.
const buttons = matchMedia("(hover: hover)").matches ? "hover" : false;
function draw() {
  const text = dark.matches ? "#e6e8eb" : "#1b1f24", grid = dark.matches ? "#3a414a" : "#d0d7de";
  const axis = { gridcolor: grid, zerolinecolor: grid, automargin: true, tickangle: 0, nticks: 5 };
  const all = Object.entries(charts).map(([id, chart]) => Plotly.react(id, chart.data, {
    ...chart.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text }, showlegend: chart.data.length > 1,
    margin: chart.layout.yaxis ? { l: 48, r: 8, t: 8, b: 32 } : { l: 0, r: 0, t: 8, b: 8 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    uniformtext: { minsize: 9, mode: "hide" },
    xaxis: { ...axis }, yaxis: { ...axis, ...(chart.layout.yaxis || {}) },
  }, { responsive: true, displaylogo: false, displayModeBar: buttons }));
  Promise.all(all).then(() => {
    const root = document.documentElement, facts = document.body.dataset;
    facts.dark = dark.matches;
    facts.wide = `${root.scrollWidth} ${root.clientWidth}`;
    facts.drawn = all.length;
  });
}
dark.addEventListener("change", draw);
draw();
</script>
</body></html>
"""
