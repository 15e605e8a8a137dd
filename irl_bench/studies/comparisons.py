"""Comparisons of two learners over the seeds that both have: how large is the difference of their
scores, and how large a difference could that many seeds show?

The power is that of the two-sided t-test of a mean difference of 0 at the level ALPHA / m, with m
comparisons in the table: that of Holm's first step, which the smallest p-value must pass. Under a
true difference its statistic follows the noncentral t distribution with S - 1 degrees of freedom
and noncentrality difference / (deviation / sqrt(S)). The deviation is that of the seeds'
differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize, stats

from irl_bench.studies import iqm

RELEVANT = 0.05
"""A difference of scores below this is of no interest."""
ALPHA = 0.05
"""The two-sided level of the tests of a table together."""
POWER = 0.8
"""The probability with which a detectable difference is seen."""
TEXT = (
    f"Detectable: the smallest difference that a paired t-test of as many seeds sees with "
    f"{100 * POWER:g} % power, from the deviation of the seeds' differences, at the corrected "
    f"level: {100 * ALPHA:g} % over the number of comparisons in the table, Holm's first step. "
    f"`better` and `worse`: the interval leaves 0 out, and the two-sided p-value is below "
    f"{ALPHA:g} after Holm's correction over the comparisons of the table. `no power`: there are "
    f"fewer than {iqm.LEAST} seeds, or half the interval or the detectable difference is above "
    f"{RELEVANT:g}, so the seeds cannot show a difference of {RELEVANT:g} at the corrected level. "
    f"`no difference above {RELEVANT:g}`: the interval lies within ±{RELEVANT:g}; this is not "
    "corrected for the number of comparisons. "
    f"`undetermined`: none of these."
)
"""What the columns of a table of comparisons mean."""


def differences(
    seeds: Sequence[int], scores: Sequence[float], others: Sequence[int], theirs: Sequence[float]
) -> np.ndarray:
    """Returns the differences of scores over the seeds that both learners have, float[S].

    Args:
      seeds, scores: the seeds of a learner and the score of each.
      others, theirs: those of the learner that it is compared with.
    """
    _, first, second = np.intersect1d(seeds, others, return_indices=True)
    return np.asarray(scores, float)[first] - np.asarray(theirs, float)[second]


def detectable(difference: np.ndarray, tests: int = 1) -> float:
    """Returns the smallest mean difference that a t-test of such seeds detects with POWER at the
    level ALPHA / tests; NaN with fewer than two seeds.

    Args:
      difference: float[S], whose deviation and number count.
      tests: number of comparisons in the table.
    """
    count = len(difference)
    if count < 2:
        return float("nan")
    df = count - 1
    limit = stats.t.isf(ALPHA / (2 * tests), df)

    def excess(shift: float) -> float:
        return float(stats.nct.sf(limit, df, shift)) - POWER  # the other tail is below 1e-4

    high = 1.0
    while excess(high) < 0:
        high *= 1.5
    shift: Any = optimize.brentq(excess, 0.0, high)  # SciPy's stubs: a tuple too
    return float(shift) * float(np.std(difference, ddof=1)) / float(np.sqrt(count))


def p_value(difference: np.ndarray) -> float:
    """Returns the two-sided p-value of the IQM of float[S] being 0: twice the smaller of the two
    one-sided ones (`iqm.p_at_most`); NaN with fewer than two seeds."""
    if len(difference) < 2:
        return float("nan")
    return min(1.0, 2 * min(iqm.p_at_most(difference), iqm.p_at_most(-difference)))


def answer(interval: Sequence[float], adjusted: float, smallest: float, seeds: int) -> str:
    """Returns what a comparison says.

    Args:
      interval: [difference, low, high].
      adjusted: its two-sided p-value after Holm's correction.
      smallest: the detectable difference at the corrected level.
      seeds: S.

    Returns:
      "better", "worse", "no power", "no difference above 0.05" or "undetermined"; with fewer than
      `iqm.LEAST` seeds "no power".
    """
    if seeds < iqm.LEAST:
        return "no power"
    _, low, high = interval
    if adjusted < ALPHA and low > 0:
        return "better"
    if adjusted < ALPHA and high < 0:
        return "worse"
    if not ((high - low) / 2 <= RELEVANT and smallest <= RELEVANT):  # NaN has no power either
        return "no power"
    if low >= -RELEVANT and high <= RELEVANT:
        return f"no difference above {RELEVANT:g}"
    return "undetermined"
