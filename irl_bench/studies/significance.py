"""One-sided tests that belong together: Holm's correction, and what counts as evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIGNIFICANT = 0.025
"""One-sided p-values below this count, after Holm's correction."""


def is_small(p: float | None) -> bool:
    """Returns whether a one-sided p-value counts as evidence."""
    return p is not None and p < SIGNIFICANT


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm's step-down adjusted p-values (Holm 1979). NaN remains and counts as a test."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    running = 0.0
    for rank, index in enumerate(order):
        running = (
            max(running, min(1.0, (len(values) - rank) * values[index]))
            if values[index] == values[index]
            else np.nan
        )
        adjusted[index] = running
    return adjusted.tolist()
