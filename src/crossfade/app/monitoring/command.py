"""`crossfade export alerts` and `crossfade export grafana`."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfade.app.monitoring.alerts import alerts_of
from crossfade.app.monitoring.grafana import dashboard_of
from crossfade.app.planfile import load_plan
from crossfade.errors import UsageError

_MAKE = {"alerts": alerts_of, "grafana": dashboard_of}


def run_monitoring(what: str, plan: Path, output: Path | None) -> None:
    """Write `alerts` or `grafana` of a plan to a file or to standard output; raises PlanError or UsageError."""
    made = _MAKE[what](load_plan(plan))
    if output is None:
        sys.stdout.buffer.write(made)
        return
    try:
        output.write_bytes(made)
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}") from None
