"""The numbers behind the plots, shared by the printed figures and the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.ndimage

from irl_bench.core.quantities import REFERENCES
from irl_bench.horizon import Curves, slopes
from irl_bench.report.data import ReportData
from irl_bench.report.failures import Where

PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette; its colours stay distinct under the common colour-vision deficiencies.
BC and DAgger keep the first two in every report; other algorithms take the rest in the order of the
plan."""
GREY = "#7F7F7F"
"""Colour of the reference policies and of notes in a plot."""


@dataclasses.dataclass(frozen=True)
class Look:
    """How one algorithm is drawn in every plot."""

    colour: str
    """#RRGGBB."""
    marker: tuple[str, str]
    """For matplotlib and for plotly."""
    dash: tuple[str, str]
    """For matplotlib and for plotly."""


_MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One world in one mode: the learners that share a plot."""

    env: str
    """Name of the world."""
    mode: str
    """Name of the mode."""
    title: str
    """Of the plot."""
    curves: tuple[Curves, ...]
    """Learners first, then an untrained policy if it was measured. The expert is the zero of regret
    and is not drawn."""
    window: tuple[float, float] | None
    """(T_min, T_max) [steps]; None if the world has no window."""


def looks(data: ReportData) -> dict[str, Look]:
    """Algorithm -> its look, for all learners of a report and for the references."""
    result: dict[str, Look] = {}
    for name, index in _places(
        [curve.algo for curve in data.curves if curve.algo not in REFERENCES]
    ).items():
        result[name] = Look(PALETTE[index], _MARKERS[index], ("-", "solid"))
    for name in REFERENCES:
        result[name] = Look(GREY, ("x", "x"), (":", "dot"))
    return result


def colours(names: Iterable[str]) -> dict[str, str]:
    """Algorithm -> its colour #RRGGBB, as a report with these learners would choose it."""
    return {name: PALETTE[index] for name, index in _places(names).items()}


def _places(algos: Iterable[str]) -> dict[str, int]:
    """Algorithm -> its place in the palette."""
    names = list(dict.fromkeys(algos))
    names.sort(key=lambda name: ("bc", "dagger").index(name) if name in ("bc", "dagger") else 2)
    free = [
        i
        for i in range(len(PALETTE))
        if not (i == 0 and "bc" in names) and not (i == 1 and "dagger" in names)
    ]
    places: dict[str, int] = {}
    for name in names:
        index = {"bc": 0, "dagger": 1}.get(name)
        places[name] = (
            index if index is not None else free.pop(0) if free else len(places) % len(PALETTE)
        )
    return places


def mode_title(data: ReportData, env: str, mode: str) -> str:
    """The mode in words; a recoverable twin is marked as the control, where no T² is expected."""
    nominal = data.plan.get("worlds", {}).get(env, {}).get("nominal")
    return f"{mode} twin (control)" if "recoverable" in mode and mode != nominal else mode


def verdict_of(data: ReportData, curve: Curves) -> dict[str, Any]:
    """The verdict on a learner's curves, as `horizon.analyse` returns it; {} without one."""
    for verdict in data.verdicts:
        if (verdict["env"], verdict["algo"], verdict["mode"]) == (
            curve.env,
            curve.algo,
            curve.mode,
        ):
            return verdict
    return {}


def window_of(verdict: Mapping[str, Any]) -> tuple[float, float] | None:
    """(T_min, T_max) [steps] of a verdict's window; None if the window is unusable."""
    window = verdict.get("window") or {}
    low, high = window.get("low"), window.get("high")
    if window.get("reason") or low is None or high is None or not low < high:
        return None
    return float(low), float(high)


def panels(data: ReportData) -> list[Panel]:
    """One panel per world and mode, in the order of the plan; none for a mode without a learner."""
    order = {algo: i for i, algo in enumerate(looks(data))}
    result: list[Panel] = []
    for env, mode in dict.fromkeys((curve.env, curve.mode) for curve in data.curves):
        shown = [
            curve
            for curve in data.curves
            if (curve.env, curve.mode) == (env, mode) and curve.algo != "expert"
        ]
        if all(curve.algo in REFERENCES for curve in shown):
            continue
        shown.sort(key=lambda curve: order[curve.algo])
        windows = [
            window_of(verdict_of(data, curve)) for curve in shown if curve.algo not in REFERENCES
        ]
        window = next((window for window in windows if window), None)
        title = f"{env}, {mode_title(data, env, mode)}"
        result.append(Panel(env, mode, title, tuple(shown), window))
    return result


def thin(horizons: np.ndarray, points: int = 96) -> np.ndarray:
    """Indices of horizons that are evenly spaced in log T.

    Args:
      horizons: [K] [steps], increasing.
      points: most indices.

    Returns:
      int[<= points], increasing, with both ends.
    """
    horizons = np.asarray(horizons, float)
    wanted = np.geomspace(horizons[0], horizons[-1], points)
    return np.unique(np.abs(np.log(horizons[None]) - np.log(wanted[:, None])).argmin(axis=1))


def mean_regret(curve: Curves, horizons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean regret over seeds with a jackknife-t interval of its logarithm.

    Args:
      curve: of one learner.
      horizons: [K] [steps], all of them in `curve.T`.

    Returns:
      (mean, low, high) [cost], float[K] each; NaN where the mean is not positive.
    """
    estimate, low, high = slopes.jackknife_t(curve.regret(horizons), _log)
    return np.exp(estimate), np.exp(low), np.exp(high)


def local_slopes(
    curve: Curves, first: float, points: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Exponent of the mean regret over the octave around each T, with its jackknife-t interval.

    Args:
      curve: of one learner.
      first: the smallest horizon that counts [steps].
      points: most T to return; fewer where the grid of horizons is coarse.

    Returns:
      (T [steps], slope, low, high), float[<= points] each.
    """
    horizons = np.asarray(curve.T)[np.asarray(curve.T) >= first]
    log_t = np.log(horizons)
    lower = thin(horizons, points) if len(horizons) else np.zeros(0, int)
    lower = lower[log_t[lower] + math.log(2.0) <= log_t[-1] + 1e-9] if len(horizons) else lower
    if not len(lower):
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)
    upper = np.abs(log_t[None] - log_t[lower, None] - math.log(2.0)).argmin(axis=1)
    lower, upper = lower[upper > lower], upper[upper > lower]
    estimate = slopes.jackknife_t(
        curve.regret(horizons),
        lambda mean: (
            (_log(mean[..., upper]) - _log(mean[..., lower])) / (log_t[upper] - log_t[lower])
        ),
    )
    return np.exp((log_t[upper] + log_t[lower]) / 2), *estimate


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.where(values > 0, values, np.nan))


def rates(events: Any, steps: Any) -> np.ndarray:
    """Rate per step of each seed.

    Args:
      events: [S] counts.
      steps: [S], the steps at which the event could happen.

    Returns:
      float[S] [1/step]; NaN, which means missing and not zero, for a seed without such a step.
    """
    events, steps = np.asarray(events, float), np.asarray(steps, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(steps > 0, events / steps, np.nan)


def learners(panel: Panel) -> list[Curves]:
    """The panel's curves without the references."""
    return [curve for curve in panel.curves if curve.algo not in REFERENCES]


PARTS = 12
"""Number of parts of an episode in which the rate of leaving is shown."""


def stepwise(panel: Panel) -> list[Curves]:
    """The panel's learners with a usable seed, recorded departures and a cost at every one of PARTS
    steps or more."""
    return [
        curve
        for curve in learners(panel)
        if curve.usable.any()
        and curve.departed is not None
        and PARTS <= len(curve.T) == int(curve.T[-1])
    ]


def error_rates(curve: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Error rates of each usable seed at each of TOLERANCES.

    Returns:
      float[S', 3] on the expert's states, and on the learner's own. Seeds without all three rates
      are left out.
    """
    on_expert, on_own = (
        _complete_rows(curve, rates) for rates in (curve.eps_expert, curve.eps_own)
    )
    return on_expert, on_own


def _complete_rows(curve: Curves, rates: np.ndarray) -> np.ndarray:
    rows = np.asarray(rates, float)[curve.usable]
    return rows[np.isfinite(rows).all(axis=1)]


def hazard_recovery(curve: Curves) -> np.ndarray:
    """float[2, S']: the rates h and rho [1/step] of every usable seed; NaN where one is missing."""
    keep = curve.usable
    return np.stack(
        [
            rates(curve.on_to_off, curve.on_steps)[keep],
            rates(curve.off_to_on, curve.off_steps)[keep],
        ]
    )


def quick_recovery(panel: Panel) -> float | None:
    """The rate rho [1/step] from which a learner comes back well within the shortest horizon of the
    panel's window, 10 / T_min; None without a window, or if no rate is that high."""
    rate = 10 / panel.window[0] if panel.window else math.inf
    return rate if rate <= 1.0 else None


def hazard_rails(panels: Sequence[Panel]) -> tuple[Rail, Rail]:
    """The axes of h and of rho that hold the rates of all learners and `quick_recovery`."""
    found = [hazard_recovery(curve) for panel in panels for curve in learners(panel)]
    lines = [rate for panel in panels if (rate := quick_recovery(panel)) is not None]
    return (
        Rail.of([rates[0] for rates in found]),
        Rail.of([*(rates[1] for rates in found), np.array(lines)]),
    )


def without_recovery(rates: np.ndarray) -> str:
    """How many seeds have no recovery rate, as an addition to a label; empty if none.

    Args:
      rates: [2, S'], as `hazard_recovery` returns them.
    """
    missing = int(np.isnan(rates).any(axis=0).sum())
    return f" ({missing} {'seeds have' if missing > 1 else 'seed has'} no ρ)" if missing else ""


@dataclasses.dataclass(frozen=True)
class Rail:
    """A log axis over whole decades that also has a place for exact zeros."""

    floor: float
    """Lower end, a power of ten."""
    top: float
    """Upper end, a power of ten."""
    zero: bool
    """Whether zeros occur. They are drawn at `floor`, one decade below the smallest value."""

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Rail:
        """The axis that holds all values; [1e-6, 1] without a positive one."""
        every = np.concatenate([np.ravel(part) for part in values]) if values else np.array([])
        positive, zero = every[every > 0], bool((every == 0).any())
        if not positive.size:
            return cls(1e-6, 1.0, zero)
        floor = math.floor(math.log10(positive.min())) - zero
        return cls(10.0**floor, 10.0 ** max(math.ceil(math.log10(positive.max())), floor + 1), zero)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Positions of values on the axis, of the same shape: zeros at `floor`; NaN stays NaN."""
        values = np.asarray(values, float)
        return np.where(values == 0, self.floor, values)

    def ticks(self) -> np.ndarray:
        """All powers of ten on the axis."""
        return 10.0 ** np.arange(round(math.log10(self.floor)), round(math.log10(self.top)) + 1)

    def limits(self) -> tuple[float, float]:
        """(low, high) of the axis, with room below zeros."""
        return self.floor / (1.6 if self.zero else 1.0), self.top


def hazard_over_time(curve: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rate of leaving in PARTS equal parts of an episode.

    Returns:
      (middle of each part [steps], h_t [1/step] and the ends of its jackknife-t interval);
      float[PARTS] each. A part in which nobody leaves has 0, and an interval needs two seeds.
    """
    edges = np.unique(np.linspace(0, int(curve.T[-1]), PARTS + 1).astype(int))
    left, on = curve.hazard_over_time(edges)
    count = len(edges) - 1

    def rate(mean: np.ndarray) -> np.ndarray:
        steps = mean[..., count:]
        return mean[..., :count] / np.where(steps > 0, steps, np.nan)

    middle, low, high = slopes.jackknife_t(np.concatenate([left, on], axis=1), rate)
    return (edges[:-1] + edges[1:]) / 2, middle, low, high


def power_of_ten(value: float) -> str:
    """A power of ten as text: 10⁻³ for 0.001, and plain numbers from 0.1 to 1000."""
    if 0.05 < value < 2000:
        return f"{value:g}"
    return "10" + str(round(math.log10(value))).translate(
        str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    )


def horizon_range(panel: Panel) -> tuple[float, float]:
    """The first and the last horizon that a panel shows [steps].

    The first is four octaves below the window, since regret settles there; without a window it is
    the first one stored.
    """
    first, last = float(panel.curves[0].T[0]), float(panel.curves[0].T[-1])
    return (max(first, panel.window[0] / 16), last) if panel.window else (first, last)


def guide(
    panel: Panel, means: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, float] | None:
    """Where the guide lines T and T² start and end.

    They start midway between the learners at the window's lower end, or below a single learner.

    Args:
      panel: the plot.
      means: (horizons [steps], mean regret) of each learner.

    Returns:
      (T float[2] of both ends, regret at the first); None if no regret is positive.
    """
    starts: list[float] = []
    low, high = panel.window or (math.sqrt(np.prod(horizon_range(panel))), horizon_range(panel)[1])
    for horizons, mean in means:
        good = np.isfinite(mean) & (mean > 0)
        if good.any():
            log_regret = np.interp(math.log(low), np.log(horizons[good]), np.log(mean[good]))
            starts.append(float(log_regret))
    if not starts:
        return None
    return np.array([low, high]), float(np.exp(np.mean(starts))) * (
        0.5 if len(starts) == 1 else 1.0
    )


def headline(verdict: Mapping[str, Any]) -> str:
    """A learner's verdict and slope in one short line, "no verdict" for {}."""
    if not verdict:
        return "no verdict"
    mixed = " (mixed)" if verdict.get("mixed") else ""
    slope, low, high = (verdict.get(key) for key in ("slope", "ci_low", "ci_high"))
    if slope is None or not math.isfinite(slope):
        return f"{verdict['verdict']}{mixed}"
    if low is None or high is None:
        return f"{verdict['verdict']}{mixed}, slope {slope:.2f}"
    return f"{verdict['verdict']}{mixed}, slope {slope:.2f} [{low:.2f}, {high:.2f}]"


WHERE = (
    "Colour: where a policy was a second before a failure began; lines hold half and 90 % of "
    "these places, if there are 20 or more. Grey: where it usually is. At most 1,000 places of "
    "each, from 256 episodes of one seed, the one whose regret is the median."
)
"""Caption of the places before failures."""
CELLS, SMOOTH, HELD, FEWEST = 48, 1.5, (0.5, 0.9), 20
"""Of a density: cells of an axis, its kernel's standard deviation [cells], shares of the places
that lines hold, and the fewest places that have one."""


def around(wheres: Sequence[Where]) -> list[tuple[float, float]]:
    """Returns the range of each axis, (low, high), that shows nearly all places of a world's
    policies."""
    rows = np.concatenate([rows for where in wheres for rows in (where.usual, where.before)])
    if not len(rows):
        return [(0.0, 1.0)] * 2
    low, high = np.quantile(rows, (0.002, 0.998), axis=0)
    margin = 0.05 * (high - low) + 1e-9
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


@dataclasses.dataclass(frozen=True)
class Density:
    """How densely places lie, on a grid."""

    x: np.ndarray
    """float[CELLS]: middles of the cells on the first axis."""
    y: np.ndarray
    """float[CELLS]: as x, on the second axis."""
    height: np.ndarray
    """float[CELLS, CELLS]: the smoothed density, of which the highest is 1; rows follow y."""
    levels: tuple[float, ...]
    """Of `height`, increasing: the shares `HELD` of the places lie in cells above."""


def density(where: Where, limits: Sequence[tuple[float, float]]) -> Density | None:
    """Returns how densely the places before failures lie; None if fewer than FEWEST are in range,
    or half of them in one cell.

    Args:
      where: of a policy.
      limits: the range of each axis, as of `around`.
    """
    counts, *edges = np.histogram2d(*where.before.T, bins=CELLS, range=limits)
    if counts.sum() < FEWEST:
        return None
    height = scipy.ndimage.gaussian_filter(counts.T, SMOOTH, mode="constant")
    height = np.round(height / height.max(), 4)  # as the page shows it
    x, y = ((edge[1:] + edge[:-1]) / 2 for edge in edges)
    held = np.repeat(height.ravel(), counts.T.astype(int).ravel())  # at each place
    levels = np.unique(np.quantile(held, 1.0 - np.array(HELD)))
    if levels[-1] == 1.0:  # nearly all places in one cell, which a line cannot surround
        return None
    return Density(x, y, height, tuple(levels.tolist()))
