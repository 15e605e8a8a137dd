"""Exponents on a finite grid of horizons, with intervals over seeds.

Points of one cumulative curve are correlated, so ordinary standard errors of the regression mean
nothing; a percentile bootstrap over 5 to 16 seeds covers 0.84 to 0.91 for a nominal 0.95. Every
interval here is a jackknife-t over seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

POINTS = 7
"""Horizons in a grid, at least."""
LEVEL = 0.95


def log_spaced(low: int, high: int, points: int = POINTS) -> np.ndarray:
    """int[>= points]: distinct horizons from low to high, evenly spaced in log T up to rounding;
    fewer if there are no more."""
    for count in range(points, 64 * points):
        grid = np.unique(np.round(np.geomspace(low, high, count)).astype(int))
        if len(grid) >= min(points, high - low + 1):
            return grid
    return np.arange(low, high + 1)


def slope(T: np.ndarray, J: np.ndarray) -> np.ndarray:
    """float[...]: least-squares slope of log J on log T, for J float[..., K] > 0; NaN where some J
    is not positive.

    The exact exponent of a closed form is this same fit, applied to it on the same grid.
    """
    x = np.log(np.asarray(T, float))
    x = x - x.mean()
    return _log(J) @ (x / (x @ x))


def local_slopes(T: np.ndarray, J: np.ndarray) -> np.ndarray:
    """float[..., K - 1]: d log J / d log T between neighbouring horizons."""
    return np.diff(_log(J), axis=-1) / np.diff(np.log(np.asarray(T, float)))


def slope_rise(T: np.ndarray, J: np.ndarray) -> np.ndarray:
    """float[...]: slope over the upper half of the grid minus that over the lower half; an odd
    grid's middle is in both."""
    half = (len(T) + 1) // 2
    return slope(T[-half:], J[..., -half:]) - slope(T[:half], J[..., :half])


def jackknife_t(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic of the mean over seeds with its jackknife-t interval.

    With theta_(i) the statistic without seed i, se² = (S - 1) / S sum_i (theta_(i) - mean
    theta_(.))², and the interval is theta -+ t_{S-1} se. For the mean itself that is Student's
    interval.

    Args:
      values: float[S, ...], one row per seed.
      statistic: maps the mean over seeds [...], or a stack of such means [S, ...], to the statistic
        (or a stack of it).
      level: coverage.

    Returns:
      (estimate, low, high); low and high are NaN with fewer than two seeds.
    """
    seeds = len(values)
    if seeds == 0:
        nothing = np.full(np.shape(statistic(np.ones(values.shape[1:]))), np.nan)
        return nothing, nothing, nothing
    estimate = np.asarray(statistic(values.mean(axis=0)))
    if seeds == 1:
        return estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    without = np.asarray(statistic((values.sum(axis=0) - values) / (seeds - 1)))
    error = np.sqrt((seeds - 1) / seeds * np.sum((without - without.mean(axis=0)) ** 2, axis=0))
    width = stats.t.ppf(0.5 + level / 2, seeds - 1) * error
    return estimate, estimate - width, estimate + width


def _log(J: np.ndarray) -> np.ndarray:
    J = np.asarray(J, float)
    return np.log(np.where(J > 0, J, np.nan))
