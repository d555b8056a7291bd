"""Bursts that only V2 has, such as an instance that restarts: how fast evidence may rise where a plan sits them out.

Time is cut into blocks as long as the plan's `burst_tolerance`. Within a block a stream's evidence counts up to a
limit, and goes into the next block with no more than that, so that it takes three blocks at least to reach its bar
(EVIDENCE 1.6). Less evidence is as valid as more: the recursion M = (M + w) e rises with M, so what is cut stays below
what it would have been.
"""

from __future__ import annotations

import numpy as np

from crossfade.core.evidence.ratio import Floats, log_mixture

BLOCKS = 3
NO_BAR = 1e9
"""Of rows that may rise at once."""


def next_block(
    harm: Floats, heights: Floats, limits: Floats, *, bars: Floats, spans: int
) -> tuple[Floats, Floats, Floats]:
    """Return a new block's M, heights and limits.

    harm: (rows, 13), M at the end of the block before. heights: (rows, 3), ln of the evidence at the start of that
    block and of the two before it, 0 at least. limits: (rows,), ln of what counted in it at most. bars: (rows,), ln of
    the evidence that is enough from a row alone. spans: how many blocks the tick that begins the new one is long.
    """
    shown = log_mixture(harm)
    cut = np.exp(np.minimum(limits - shown, 0.0, where=shown > limits, out=np.zeros_like(shown)))
    heights = np.column_stack([heights[:, 1:], np.maximum(np.minimum(shown, limits), 0.0)])
    steps = np.maximum(bars - heights.min(axis=1), 0.0) / BLOCKS
    return harm * cut[:, None], heights, heights[:, -1] + spans * steps
