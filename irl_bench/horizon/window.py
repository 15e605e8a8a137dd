"""The window of a world: the horizons over which an exponent means something.

    max(10 u, 10 L) <= T <= 0.3 / h

Below the window, the consequences of an error have not played out. Above it, so many episodes have
failed that a quadratic looks linear. All learners and modes of a world share one window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from irl_bench.horizon.arrays import Integers
from irl_bench.horizon.curves import Curves
from irl_bench.horizon.slopes import POINTS, log_spaced

SETTLED = 10.0
"""Shortest horizon, in multiples of the recovery time u and of the latency L."""
SATURATION = 0.3
"""Largest h T in the window; it lowers the exponent by at most 0.1."""
RANGE = 8.0
"""Least ratio of the longest to the shortest horizon."""
_ROUNDING = 1.0 + 1e-9  # 0.3 / 0.001 is 300 horizons, whichever way it rounds


@dataclasses.dataclass(frozen=True)
class Window:
    """The window of one world, low <= T <= high, and the horizons to use in it."""

    low: int
    """Shortest horizon [steps]."""
    high: int
    """Longest horizon [steps]."""
    source: str
    """Where `high` comes from, in words."""
    reason: str | None
    """Why the window is unusable; None if it is usable."""
    horizons: tuple[int, ...] = ()
    """Horizons to fit over [steps], increasing; empty if the window is unusable."""
    dropped: tuple[int, ...] = ()
    """Requested horizons outside the window, or without stored costs [steps]."""


def find_window(
    curves: Iterable[Curves], world: Mapping[str, Any], horizons: str | Sequence[int] = "auto"
) -> Window:
    """The window of one world.

    Args:
      curves: everything measured in that world. The rate h is that of `bc` in the nominal mode,
        pooled over seeds.
      world: `u` [steps] (None: an error cannot be undone), `latency` [steps], `horizon` T_max
        [steps] and the name of the `nominal` mode.
      horizons: "auto" for a log-spaced grid, or horizons [steps] of which those in the window are
        used.

    Returns:
      The window. Its `reason` is set if it holds fewer than 7 horizons or spans less than 8x.
    """
    curves = list(curves)
    stored = min([int(world["horizon"]), *(int(curve.T[-1]) for curve in curves)])
    u, latency = float(world.get("u") or 0.0), float(world.get("latency") or 0.0)
    low = _lower_end(u, latency)
    high, source = _upper_end(curves, str(world["nominal"]), stored)
    automatic = isinstance(horizons, str)
    if not isinstance(horizons, str):
        requested = np.array(horizons, int)
    elif low <= high:
        requested = log_spaced(low, high)
    else:
        requested = np.array([], int)
    inside = (requested >= low) & (requested <= high)
    for curve in curves:
        inside &= np.isin(requested, curve.T)
    kept = tuple(int(T) for T in requested[inside])
    dropped = tuple(int(T) for T in requested[~inside])
    reason = _objection(low, high, kept, dropped, automatic)
    return Window(low, high, source, reason, () if reason else kept, dropped)


def settled_horizons(u: float | None, latency: float, longest: int) -> Integers:
    """Horizons from the start of the window to T_max, whether or not h T saturates.

    Args:
      u: recovery time [steps]; None: an error cannot be undone.
      latency: L [steps].
      longest: T_max [steps].

    Returns:
      int[>= 7], evenly spaced in log T. Where they would span less than 8x, they begin at T_max / 8
      instead.
    """
    return log_spaced(max(1, min(_lower_end(u or 0.0, latency), int(longest / RANGE))), longest)


def _lower_end(u: float, latency: float) -> int:
    """The shortest horizon [steps]."""
    return max(1, int(np.ceil(SETTLED * max(u, latency))))


def least_T_max(u: float | None, latency: float) -> int:
    """The shortest T_max [steps] at which a window can span 8x.

    Args:
      u: recovery time [steps]; None: an error cannot be undone.
      latency: L [steps].
    """
    return int(np.ceil(RANGE * _lower_end(u or 0.0, latency)))


def saturates(expected_failures: float) -> bool:
    """Whether h T, the expected number of failures, is above 0.3, rounding aside."""
    return expected_failures > SATURATION * _ROUNDING


def _upper_end(curves: list[Curves], nominal: str, stored: int) -> tuple[int, str]:
    """The longest horizon [steps], and where it comes from in words."""
    cloned = [curve for curve in curves if curve.algo == "bc" and curve.mode == nominal]
    if not cloned:
        return stored, f"T_max: no bc in mode {nominal} to take h from"
    hazard = cloned[0].rates()[0]
    if hazard is None:
        return stored, f"T_max: bc in mode {nominal} has no usable seed to take h from"
    if not saturates(hazard * stored):
        return stored, f"T_max: h = {hazard:.3g} of bc in mode {nominal} would allow more"
    high = int(np.floor(SATURATION / hazard * _ROUNDING))
    return high, f"0.3 / h with h = {hazard:.3g} of bc in mode {nominal}"


def _objection(
    low: int, high: int, kept: tuple[int, ...], dropped: tuple[int, ...], automatic: bool
) -> str | None:
    """Why the window is unusable; None if it is usable."""
    bounds = f"max(10 u, 10 L) = {low} <= T <= {high}"
    if high < low:
        return f"empty: {bounds} holds no horizon"
    if high < RANGE * low:
        return f"{bounds} spans {high / low:.3g}x, less than {RANGE:g}x"
    outside = (
        f" ({len(dropped)} of those asked for lie outside {bounds} or were not stored)"
        if dropped
        else ""
    )
    if len(kept) < POINTS:
        return f"{len(kept)} horizons, fewer than {POINTS}{outside or ': ' + bounds}"
    if not automatic and kept[-1] < RANGE * kept[0]:
        return (
            f"the horizons {kept[0]} to {kept[-1]} span {kept[-1] / kept[0]:.3g}x, less than "
            f"{RANGE:g}x{outside}"
        )
    return None
