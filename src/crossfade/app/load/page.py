"""The report as one HTML page: no script, nothing from elsewhere; every text goes through the template's escaping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crossfade.app.load.report import HEAD, QUANTILES, cells, notes, rows
from crossfade.core.words import duration


def as_html(data: dict[str, Any]) -> str:
    """Return the page."""
    most = data["all"]["latency_ms"]["max"] or 1.0
    bars = [
        (name, [(q, one["latency_ms"][q], (one["latency_ms"][q] or 0.0) / most) for q in _names()])
        for name, one in [("all", data["all"]), *((one["version"], one) for one in data["versions"])]
        if one["latency_ms"]["max"] is not None
    ]
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    return page.render(
        data=data,
        lasted=duration(data["lasted_s"]),
        head=HEAD,
        rows=[(name, cells(one)) for name, one in rows(data)],
        bars=bars,
        notes=notes(data),
    )


def _names() -> list[str]:
    return [f"p{q * 100:g}".replace(".", "_") for q in QUANTILES]
