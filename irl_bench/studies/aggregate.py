"""Scores of several worlds in one figure: interquartile mean and performance profile with
stratified bootstrap intervals.

Agarwal et al. 2021 (arXiv 2108.13264), by their package rliable; seeds are resampled within each
world.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

REPETITIONS = 2000
"""Bootstrap samples."""
THRESHOLDS = np.linspace(-0.2, 1.2, 57)
"""Scores at which a performance profile is read."""


@contextlib.contextmanager
def _fixed() -> Iterator[None]:
    """rliable draws from NumPy's global generator; equal scores shall give equal intervals and
    leave no trace there."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def iqm(scores: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """{name: [interquartile mean, low, high]} of scores float[S, W] of S seeds in W worlds; 95 %
    intervals."""
    from rliable import library, metrics

    kept = {name: np.asarray(values, float) for name, values in scores.items()}
    with _fixed():
        found, ends = library.get_interval_estimates(
            kept, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=REPETITIONS
        )
    return {name: [float(found[name][0]), *(float(end[0]) for end in ends[name])] for name in kept}


def profiles(scores: Mapping[str, np.ndarray]) -> dict[str, list[list[float]]]:
    """{name: [share, low, high]} float[3][len(THRESHOLDS)]: the share of runs whose score is
    above each threshold."""
    from rliable import library

    kept = {name: np.asarray(values, float) for name, values in scores.items()}
    with _fixed():
        found, ends = library.create_performance_profile(kept, THRESHOLDS, reps=REPETITIONS)
    return {
        name: [list(map(float, found[name])), *(list(map(float, end)) for end in ends[name])]
        for name in kept
    }
