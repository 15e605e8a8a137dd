"""The horizons over which an exponent means something: one window per world, for every learner and
mode there.

    max(10 u, 10 L) <= T <= 0.3 / h

Below it, an error's consequences have not played out; above it, so many episodes have failed that a
quadratic looks linear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from irl_bench.horizon.curves import Curves
from irl_bench.horizon.slopes import POINTS, log_spaced

SETTLED = 10.0
"""Shortest horizon, in units of the recovery time u and of the latency L."""
SATURATION = 0.3
"""Largest h T: costs at most 0.1 of exponent."""
RANGE = 8.0
"""Least ratio of the longest to the shortest horizon."""
_ROUNDING = 1.0 + 1e-9  # 0.3 / 0.001 is 300 horizons, whichever way it rounds


@dataclasses.dataclass(frozen=True)
class Window:
    """low <= T <= high [steps]. `reason` says why it is no use, None if it is; then `horizons`
    is empty."""

    low: int
    high: int
    source: str
    reason: str | None
    horizons: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    """Horizons asked for that lie outside."""


def find_window(
    curves: Iterable[Curves], world: Mapping[str, Any], horizons: str | Sequence[int] = "auto"
) -> Window:
    """The window of one world.

    Args:
      curves: everything measured in that world; h comes from `bc` in the nominal mode, pooled over
        seeds.
      world: `u` [steps] (None: an error cannot be undone), `latency` [steps], `horizon` T_max
        [steps], `nominal` mode.
      horizons: "auto" for a log-spaced grid, or horizons of one's own, which are held to the same
        window.

    Returns:
      A window whose `reason` is set if it holds fewer than 7 horizons or spans less than 8x.
    """
    curves = list(curves)
    stored = min([int(world["horizon"]), *(int(curve.T[-1]) for curve in curves)])
    u, latency = float(world.get("u") or 0.0), float(world.get("latency") or 0.0)
    low = max(1, int(np.ceil(SETTLED * max(u, latency))))
    high, source = _upper_end(curves, str(world["nominal"]), stored)
    automatic = isinstance(horizons, str)
    asked = np.array((log_spaced(low, high) if low <= high else []) if automatic else horizons, int)
    inside = (asked >= low) & (asked <= high)
    for curve in curves:
        inside &= np.isin(asked, curve.T)
    kept, dropped = tuple(int(T) for T in asked[inside]), tuple(int(T) for T in asked[~inside])
    reason = _objection(low, high, kept, dropped, automatic)
    return Window(low, high, source, reason, () if reason else kept, dropped)


def saturates(expected_failures: float) -> bool:
    """Whether h T is above 0.3, rounding aside."""
    return expected_failures > SATURATION * _ROUNDING


def _upper_end(curves: list[Curves], nominal: str, stored: int) -> tuple[int, str]:
    cloned = [curve for curve in curves if curve.algo == "bc" and curve.mode == nominal]
    if not cloned:
        return stored, f"T_max: no bc in mode {nominal} to take h from"
    hazard = cloned[0].rates()[0]
    if hazard is None:
        return stored, f"T_max: bc in mode {nominal} has no usable seed to take h from"
    if not saturates(hazard * stored):
        return stored, f"T_max: h = {hazard:.3g} of bc in mode {nominal} would allow more"
    return int(
        np.floor(SATURATION / hazard * _ROUNDING)
    ), f"0.3 / h with h = {hazard:.3g} of bc in mode {nominal}"


def _objection(
    low: int, high: int, kept: tuple[int, ...], dropped: tuple[int, ...], automatic: bool
) -> str | None:
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
