"""The two-sample e-value for common events in several classes, where (R) would be loose by a factor of about 1 - p.

Source: Turner, Ly and Grünwald, "Generic e-variables for exact sequential k-sample tests that allow for optional
stopping", arXiv:2106.02693, whose 2x2 form is that of two classes. More classes see more: a shift of all answers moves
them between all classes at once, and one threshold alone sees two thirds of that at most.
"""

from __future__ import annotations

import numpy as np

from crossfade.core.evidence.ratio import Floats

MEMORY = 20_000.0
"""Requests after which V1's rate has half forgotten what it was."""
LEAST = 1e-5
"""Of the answers, in a class: what V1 was never seen to do is not held impossible."""


def log_e_classes(one: Floats, two: Floats, guess: Floats, tilts: Floats) -> Floats:
    """Return ln of ``prod_c (pa_c/pm_c)^x1_c (pb_c/pm_c)^x2_c``, shape (..., A), in nats.

    one, two: x1 and x2, answers of V1 and V2 by class in one tick, shape (..., C). guess: V1's probabilities pa as
    known before the tick, (..., C), adding up to 1. tilts: (A, C), positive and not falling along C: alternative a
    holds that pb is pa times tilts[a], scaled to 1. pm = (n1 pa + n2 pb) / (n1 + n2). 0 where one side has no answers.

    Null: in every tick V2's answers are, as a distribution over the classes, at or below V1's (stochastic order), which
    may be anything. pb/pm rises with the tilt, so along C, and so its mean is greatest where both distributions are the
    same q. There ``E e = (sum_c q_c pa_c/pm_c)^n1 (sum_c q_c pb_c/pm_c)^n2``, whose (n1 + n2)-th root is at most
    ``sum_c q_c (n1 pa_c + n2 pb_c) / (n pm_c) = 1`` (means: geometric <= arithmetic). A bad guess costs power, never
    validity.
    """
    n1, n2 = one.sum(axis=-1)[..., None, None], two.sum(axis=-1)[..., None, None]
    both = (n1 > 0) & (n2 > 0)
    pa = guess[..., None, :]
    pb = pa * tilts
    pb = pb / pb.sum(axis=-1, keepdims=True)
    pm = np.where(both, (n1 * pa + n2 * pb) / np.maximum(n1 + n2, 1), 1.0)
    value = one[..., None, :] * np.log(pa / pm) + two[..., None, :] * np.log(pb / pm)
    return np.asarray(np.where(both[..., 0], value.sum(axis=-1), 0.0))


def classes(above: Floats) -> Floats:
    """Return probabilities by class, (..., Q + 1), from those of lying above each of Q rising thresholds, (..., Q)."""
    edges = np.concatenate([np.ones((*above.shape[:-1], 1)), above, np.zeros((*above.shape[:-1], 1))], axis=-1)
    found = np.maximum(-np.diff(edges, axis=-1), LEAST)
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def remember(guess: Floats, answers: Floats, events: Floats) -> Floats:
    """Return V1's rate with one more tick in it (exponentially forgetting, weight n / (n + 20,000))."""
    weight = answers / (answers + MEMORY)
    seen = events / np.maximum(answers, 1)
    return np.asarray(np.clip(guess + weight * (seen - guess), 1e-4, 1 - 1e-4))
