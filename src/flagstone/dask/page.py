"""A page of the scheduler's dashboard: the arenas of all hosts, and who of the workers has what."""

from __future__ import annotations

import html
import json
from typing import Any

from distributed import Scheduler
from tornado.web import RequestHandler

from flagstone.sizes import format_size

__all__ = ["add_page"]

_STYLE = (
    "body{font:14px sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:right}"
    "td:first-child{text-align:left}"
)


def _found(scheduler: Scheduler) -> list[dict[str, Any]]:
    """What each worker's last heartbeat said, with its address."""
    rows = []
    for address, state in sorted(scheduler.workers.items()):
        said = state.metrics.get("flagstone")
        if said:
            rows.append({"worker": address, **said})
    return rows


class _Page(RequestHandler):
    def initialize(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def get(self, kind: str | None = None) -> None:
        rows = _found(self.scheduler)
        if kind:
            self.set_header("Content-Type", "application/json")
            self.write(json.dumps(rows))
            return
        self.set_header("Refresh", "2")
        self.write(_text(rows))


def _text(rows: list[dict[str, Any]]) -> str:
    parts = [f"<!doctype html><title>Flagstone</title><style>{_STYLE}</style><h1>Flagstone</h1>"]
    arenas: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        arenas.setdefault(row["uuid"], []).append(row)
    for members in arenas.values():
        first = members[0]
        name = html.escape(str(first["arena"]))
        used = f"{format_size(first['used'])} of {format_size(first['capacity'])} used"
        parts.append(f"<h2>arena {name}</h2><p>{used}</p><table>")
        parts.append("<tr><th>worker<th>usage<th>limit<th>peak<th>copied in<th>refused</tr>")
        for row in members:
            limit = "" if row["limit"] is None else format_size(row["limit"])
            refused = ", ".join(f"{count} {why}" for why, count in row["refused"].items())
            cells = (
                row["worker"],
                format_size(row["usage"]),
                limit,
                format_size(row["peak"]),
                format_size(row["stored"]),
                refused,
            )
            parts.append("<tr>" + "".join(f"<td>{html.escape(one)}" for one in cells) + "</tr>")
        parts.append("</table>")
    if not arenas:
        parts.append("<p>No worker has told of an arena yet.</p>")
    return "".join(parts)


def add_page(scheduler: Scheduler) -> None:
    """Add `/flagstone` and `/flagstone.json` to a scheduler's server for HTTP. Again: nothing."""
    application = getattr(scheduler, "http_application", None)
    if application is None or getattr(scheduler, "_flagstone_page", False):
        return
    scheduler._flagstone_page = True
    application.add_handlers(r".*", [(r"/flagstone(\.json)?", _Page, {"scheduler": scheduler})])
