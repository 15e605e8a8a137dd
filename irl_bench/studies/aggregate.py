"""Aggregates the scores of several worlds: interquartile means and performance profiles, with
stratified bootstrap intervals.

Source: Agarwal et al. 2021 (arXiv 2108.13264), by their package rliable. Seeds are resampled within
each world.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from irl_bench.studies.iqm import LEVEL

REPETITIONS = 2000
"""Number of bootstrap samples."""
THRESHOLDS = np.linspace(-0.2, 1.2, 57)
"""Scores at which a performance profile is read."""


@contextlib.contextmanager
def _fixed() -> Iterator[None]:
    """Seeds NumPy's global generator, from which rliable draws, and restores its state afterwards.

    Equal scores thus give equal intervals.
    """
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def iqm(scores: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Returns {name: [interquartile mean, low, high]}, at the level of `studies.iqm`.

    Args:
      scores: {name: float[S, W]}, of S seeds in W worlds.
    """
    from rliable import library, metrics

    arrays = {name: np.asarray(values, float) for name, values in scores.items()}
    with _fixed():
        means, ends = library.get_interval_estimates(
            arrays,
            lambda x: np.array([metrics.aggregate_iqm(x)]),
            reps=REPETITIONS,
            confidence_interval_size=LEVEL,
        )
    return {
        name: [float(means[name][0]), *(float(end[0]) for end in ends[name])] for name in arrays
    }


def profiles(scores: Mapping[str, np.ndarray]) -> dict[str, list[list[float]]]:
    """Returns {name: [share, low, high]}, a list of len(THRESHOLDS) numbers each: the share of runs
    whose score is above each threshold, with 95 % intervals.

    Args:
      scores: {name: float[S, W]}, of S seeds in W worlds.
    """
    from rliable import library

    arrays = {name: np.asarray(values, float) for name, values in scores.items()}
    with _fixed():
        shares, ends = library.create_performance_profile(arrays, THRESHOLDS, reps=REPETITIONS)
    return {
        name: [list(map(float, shares[name])), *(list(map(float, end)) for end in ends[name])]
        for name in arrays
    }
