"""The two-state chain behind every verdict: a policy is on the demonstrations' distribution or off.

Each step leads on -> off with probability h and off -> on with probability rho; k = h + rho. Every
state off costs 1, and the chain starts on. The state after t steps is off with probability
(h / k) (1 - (1 - k)^t). Charging the state *before* each of T steps gives

    J(T) = (h / k) [T - (1 - (1 - k)^T) / k].

Charging the state *after* each step, as Brax does, gives J(T) + P(off at T) = J(T + 1). With
rho = 0 the chain is a cliff: J is quadratic until h T is about 1, then linear because every episode
has failed. With rho >> 1 / T it is linear because every episode recovers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from irl_bench.horizon.arrays import Floats

_SERIES_BELOW = 1.0
_SERIES_TERMS = 24  # the last term at kT = 1 is below 1 / 25!


def off_probability(t: ArrayLike, h: ArrayLike, rho: ArrayLike) -> Floats:
    """Probability of being off after t steps, (h / k) (1 - (1 - k)^t); h t in the limit k = 0.

    Args:
      t: number of steps.
      h: rate of leaving [1/step].
      rho: rate of coming back [1/step].

    Returns:
      float64, broadcast over all three.
    """
    steps, leaving, returning = _broadcast(t, h, rho)
    k = leaving + returning
    safe = np.where(k > 0, k, 1.0)
    return np.where(k > 0, leaving / safe * _one_less_power(safe, steps), leaving * steps)


def cost(T: ArrayLike, h: ArrayLike, rho: ArrayLike, *, after: bool = True) -> Floats:
    """Expected cost J(T), broadcast over T, h and rho.

    Args:
      T: horizon [steps]; a whole number if h + rho > 1, where the chain alternates.
      h: rate of leaving [1/step], in [0, 1].
      rho: rate of coming back [1/step], in [0, 1].
      after: charge the state that each step reaches (Brax's convention), not the one before it.

    Returns:
      float64 expected number of failures, accurate to rounding for small k T too.
    """
    steps, leaving, returning = _broadcast(T, h, rho)
    return leaving * unit_cost(steps + 1.0 if after else steps, leaving + returning)


def unit_cost(T: ArrayLike, k: ArrayLike) -> Floats:
    """J(T) / h where the state before each step is charged: [T - (1 - (1 - k)^T) / k] / k.

    Args:
      T: horizon [steps].
      k: h + rho [1/step]. At k = 0 the value is T (T - 1) / 2.

    Returns:
      float64, broadcast over both.
    """
    steps, rate = _broadcast(T, k)
    small = rate * steps < _SERIES_BELOW
    safe = np.where(small, 1.0, rate)
    direct = (steps - _one_less_power(safe, steps) / safe) / safe
    # [T - (1 - (1 - k)^T) / k] / k = sum_{j >= 2} C(T, j) (-k)^(j - 2). For small k T the quotient
    # cancels; the sum does not.
    term = steps * (steps - 1.0) / 2.0
    series = term.copy()
    for j in range(2, _SERIES_TERMS):
        term = term * (steps - j) / (j + 1.0) * -np.where(small, rate, 0.0)
        series = series + term
    return np.where(small, series, direct)


def local_exponent(x: ArrayLike) -> Floats:
    """Exponent d log J / d log T at x = k T in continuous time: x (1 - e^-x) / (x - 1 + e^-x).

    It is about 2 - x / 3 for small x and 1 + 1 / (x - 1) for large x. Returns float64[...].
    """
    x = np.asarray(x, float)
    small = x < _SERIES_BELOW
    safe = np.where(small, 1.0, x)
    direct = safe + np.expm1(-safe)
    # (x - 1 + e^-x) / x = sum_{j >= 2} (-1)^j x^(j - 1) / j!. Numerator and denominator are both
    # divided by x.
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
) -> Floats:
    """J(T) of a policy that can fail in the first step only: p sum_{t >= 1} (1 - rho)^(t - 1).

    At a fixed p the cost is linear, p T for rho = 0. If errors average eps per step, then p = eps T
    and J(T) = eps T². This case attains the bound of behavioural cloning (Ross and Bagnell 2010).

    Args:
      T: horizon [steps].
      p: probability that the first step fails.
      rho: rate of coming back [1/step].
      after: charge the state that each step reaches, not the one before it.

    Returns:
      float64 expected number of failures, broadcast over T, p and rho.
    """
    steps, failing, returning = _broadcast(T, p, rho)
    states = steps if after else np.maximum(steps - 1.0, 0.0)
    safe = np.where(returning > 0, returning, 1.0)
    return failing * np.where(returning > 0, _one_less_power(safe, states) / safe, states)


def _broadcast(*values: ArrayLike) -> tuple[Floats, ...]:
    return np.broadcast_arrays(*(np.asarray(value, float) for value in values))


def _one_less_power(k: Floats, t: Floats) -> Floats:
    """1 - (1 - k)^t for 0 < k <= 2 and t >= 0."""
    gentle = k < 0.5
    # Where k > 1 and t is not whole, the power is NaN; only the branch not taken computes it.
    with np.errstate(invalid="ignore"):
        steep = 1.0 - np.power(1.0 - k, t)
    return np.where(gentle, -np.expm1(t * np.log1p(-np.where(gentle, k, 0.0))), steep)
