"""What the rollout looked like over time, for the charts: recent points close together, old ones further apart.

A display, not evidence: nothing decides by it, and losing its file loses pictures only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson

from crossfade.engine.controller import Controller

log = logging.getLogger("crossfade.trend")

MOST = 1600
"""Points kept; when there are more, the older half is thinned to every second one."""
APART_S = 20.0
"""Plan seconds between two points at least."""


class Trend:
    """Points of one rollout, in memory and, where there is a path, as JSON lines in a file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.points: list[dict[str, Any]] = self._load()

    def _load(self) -> list[dict[str, Any]]:
        points = []
        try:
            lines = [] if self._path is None else self._path.read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                point = orjson.loads(line)
                points.append({"at": float(point["at"]), **point})
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                continue  # half a line, from a crash
        return points

    def due(self, at: float) -> bool:
        """Tell whether a moment is far enough from the last one that was added."""
        return not self.points or not 0 <= at - self.points[-1]["at"] < APART_S

    def note(self, controller: Controller, at: float, weight: float) -> bool:
        """Add the present moment; tell whether it was far enough from the last one."""
        if not self.due(at):
            return False
        self.points.append(_point(controller, at, weight))
        full = len(self.points) > MOST
        if full:
            self.points = thinned(self.points)
        try:
            if self._path is not None:
                self._keep(self._path, anew=full)
        except OSError as error:
            log.warning("the trend can't be kept: %s", error)
        return True

    def _keep(self, path: Path, *, anew: bool) -> None:
        if not anew:
            with path.open("ab") as file:
                file.write(orjson.dumps(self.points[-1]) + b"\n")
            return
        fresh = path.with_suffix(".new")
        fresh.write_bytes(b"".join(orjson.dumps(point) + b"\n" for point in self.points))
        fresh.replace(path)


def thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points with every second one of the older half left out."""
    half = len(points) // 2
    return points[:half:2] + points[half:]


def _point(controller: Controller, at: float, weight: float) -> dict[str, Any]:
    seen = controller.seen
    return {
        "at": at,
        "phase": controller.rollout.phase,
        "weight": weight,
        "seen": seen.weight_seen,
        "metrics": {
            name: [_short(value) for value in (r.v1, r.v2, r.ratio_low, r.ratio, r.ratio_high)]
            for name, r in seen.readings.items()
        },
        "breakers": {name: b.open_since is not None for name, b in seen.breakers.items() if b.last_seen is not None},
    }


def _short(value: float | None) -> float | None:
    """Return four digits: charts show no more; what isn't finite is left out."""
    if value is None or value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - nan
        return None
    return float(f"{value:.4g}")
