"""The two-state chain that organises the question: on the demonstrations' distribution, or off it.

On -> off at rate h per step, off -> on at rate rho, k = h + rho, one unit of cost per state off,
start on. The state after t steps is off with probability (h / k) (1 - (1 - k)^t), so with the cost
of the state *before* each of T steps

    J(T) = (h / k) [T - (1 - (1 - k)^T) / k],

and with the cost of the state *after* each step, which is Brax's, J(T) + P(off at T) = J(T + 1).
rho = 0 is the cliff: quadratic until h T is about 1, then linear because everybody has failed. rho
>> 1 / T is linear because everybody comes back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_SERIES_BELOW = 1.0
_SERIES_TERMS = 24  # the last term at kT = 1 is below 1 / 25!


def off_probability(t: ArrayLike, h: ArrayLike, rho: ArrayLike) -> np.ndarray:
    """P(off after t steps) = (h / k) (1 - (1 - k)^t), broadcast over t, h and rho; h t in the
    limit k = 0."""
    t, h, rho = np.broadcast_arrays(*(np.asarray(value, float) for value in (t, h, rho)))
    k = h + rho
    safe = np.where(k > 0, k, 1.0)
    return np.where(k > 0, h / safe * _reached(safe, t), h * t)


def cost(T: ArrayLike, h: ArrayLike, rho: ArrayLike, *, after: bool = True) -> np.ndarray:
    """J(T), broadcast over T [steps], h and rho [1/step], both in [0, 1].

    Args:
      T: horizon, a whole number if h + rho > 1 (the chain then alternates).
      h: rate of leaving.
      rho: rate of coming back.
      after: count the state reached by each step (Brax), not the one before it.

    Returns:
      float64 expected number of failures, accurate to rounding for small k T too.
    """
    T, h, rho = np.broadcast_arrays(*(np.asarray(value, float) for value in (T, h, rho)))
    return h * unit_cost(T + 1.0 if after else T, h + rho)


def unit_cost(T: ArrayLike, k: ArrayLike) -> np.ndarray:
    """J(T) / h in the 'before' convention, [T - (1 - (1 - k)^T) / k] / k; T (T - 1) / 2 at k =
    0."""
    T, k = np.broadcast_arrays(np.asarray(T, float), np.asarray(k, float))
    small = k * T < _SERIES_BELOW
    safe = np.where(small, 1.0, k)
    direct = (T - _reached(safe, T) / safe) / safe
    # [T - (1 - (1 - k)^T) / k] / k = sum_{j >= 2} C(T, j) (-k)^(j - 2): the quotient cancels for
    # small k T, the sum does not.
    term = T * (T - 1.0) / 2.0
    series = term.copy()
    for j in range(2, _SERIES_TERMS):
        term = term * (T - j) / (j + 1.0) * -np.where(small, k, 0.0)
        series = series + term
    return np.where(small, series, direct)


def local_exponent(x: ArrayLike) -> np.ndarray:
    """alpha = d log J / d log T at x = k T, in continuous time: x (1 - e^-x) / (x - 1 + e^-x).

    2 - x / 3 for small x, 1 + 1 / (x - 1) for large.
    """
    x = np.asarray(x, float)
    small = x < _SERIES_BELOW
    safe = np.where(small, 1.0, x)
    direct = safe + np.expm1(-safe)
    # (x - 1 + e^-x) / x = sum_{j >= 2} (-1)^j x^(j - 1) / j!, and numerator and denominator are
    # both divided by x.
    reduced = np.where(small, x, 0.0)
    term = np.full_like(x, 0.5)
    series = term.copy()
    for j in range(3, _SERIES_TERMS):
        term = term * -reduced / j
        series = series + term
    ratio = np.where(reduced > 0, -np.expm1(-reduced) / np.where(reduced > 0, reduced, 1.0), 1.0)
    return np.where(small, ratio / series, -safe * np.expm1(-safe) / direct)


def front_loaded_cost(
    T: ArrayLike, p: ArrayLike, rho: ArrayLike = 0.0, *, after: bool = True
) -> np.ndarray:
    """J(T) if only the first step can go wrong, with probability p, and rho brings back: p sum_{t
    >= 1} (1 - rho)^(t - 1).

    At a fixed p it is linear, p T for rho = 0. With errors that average eps per step, p = eps T and
    J(T) = eps T²: the front-loaded case that attains the bound of behavioural cloning (Ross and
    Bagnell 2010).
    """
    T, p, rho = np.broadcast_arrays(*(np.asarray(value, float) for value in (T, p, rho)))
    states = T if after else np.maximum(T - 1.0, 0.0)
    safe = np.where(rho > 0, rho, 1.0)
    return p * np.where(rho > 0, _reached(safe, states) / safe, states)


def _reached(k: np.ndarray, t: np.ndarray) -> np.ndarray:
    """1 - (1 - k)^t for 0 < k <= 2 and t >= 0."""
    gentle = k < 0.5
    with np.errstate(
        invalid="ignore"
    ):  # a negative base with a T that is no integer, in the branch not taken
        steep = 1.0 - np.power(1.0 - k, t)
    return np.where(gentle, -np.expm1(t * np.log1p(-np.where(gentle, k, 0.0))), steep)
