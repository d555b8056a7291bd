"""Which streams carry a finding: e-BH (Wang and Ramdas, arXiv:2009.02824)."""

from __future__ import annotations

import math
from collections.abc import Mapping

REPORT_RATE = 0.10
"""Expected share of wrongly named streams among those named."""


def blamed(log_e: Mapping[str, float], rate: float = REPORT_RATE) -> tuple[str, ...]:
    """Return the streams to name in a report, strongest first.

    log_e: ln of each stream's evidence at one moment, by name; any dependence. Named are the k* strongest, with k*
    the greatest k whose k-th strongest has E >= m / (k rate), m = the number of streams.
    """
    order = sorted(log_e, key=lambda name: (-log_e[name], name))
    count = 0
    for rank, name in enumerate(order, start=1):
        if log_e[name] >= math.log(len(order) / (rank * rate)):
            count = rank
    return tuple(order[:count])
