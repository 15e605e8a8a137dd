"""The numbers behind the plots, shared by the printed figures and the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from irl_bench.horizon import slopes
from irl_bench.report.data import ReportData

REFERENCES = ("expert", "untrained")
TOLERANCES = (0.05, 0.1, 0.2)

# Okabe and Ito's palette, which stays apart under the common colour-vision deficiencies. BC and
# DAgger keep their colours in every report; others take the rest in the order of the plan.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#7F7F7F"


@dataclasses.dataclass(frozen=True)
class Look:
    """How one algorithm is drawn everywhere: colour, matplotlib's and plotly's marker,
    matplotlib's and plotly's dash."""

    colour: str
    marker: tuple[str, str]
    dash: tuple[str, str]


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
    """One world in one mode, with the learners to be drawn over each other."""

    env: str
    mode: str
    title: str
    curves: tuple[Any, ...]
    """Learners first, then an untrained policy if there is one; the expert is the zero of regret
    and is not drawn."""
    window: tuple[float, float] | None


def looks(data: ReportData) -> dict[str, Look]:
    """algo -> Look."""
    found: dict[str, Look] = {}
    for name, index in _places(
        [curve.algo for curve in data.curves if curve.algo not in REFERENCES]
    ).items():
        found[name] = Look(PALETTE[index], _MARKERS[index], ("-", "solid"))
    for name in REFERENCES:
        found[name] = Look(GREY, ("x", "x"), (":", "dot"))
    return found


def colours(names: Iterable[str]) -> dict[str, str]:
    """algo -> colour, as in every report."""
    return {name: PALETTE[index] for name, index in _places(names).items()}


def _places(algos: Iterable[str]) -> dict[str, int]:
    """algo -> its place in the palette."""
    names = list(dict.fromkeys(algos))
    names.sort(key=lambda name: ("bc", "dagger").index(name) if name in ("bc", "dagger") else 2)
    free = [
        i
        for i in range(len(PALETTE))
        if not (i == 0 and "bc" in names) and not (i == 1 and "dagger" in names)
    ]
    found: dict[str, int] = {}
    for name in names:
        index = {"bc": 0, "dagger": 1}.get(name)
        found[name] = (
            index if index is not None else free.pop(0) if free else len(found) % len(PALETTE)
        )
    return found


def mode_title(data: ReportData, env: str, mode: str) -> str:
    """The mode in words; a recoverable twin is the control in which no T² is expected."""
    nominal = data.plan.get("worlds", {}).get(env, {}).get("nominal")
    return f"{mode} twin (control)" if "recoverable" in mode and mode != nominal else mode


def verdict_of(data: ReportData, curve: Any) -> dict[str, Any]:
    """The verdict of a curve, {} if it has none."""
    for verdict in data.verdicts:
        if (verdict["env"], verdict["algo"], verdict["mode"]) == (
            curve.env,
            curve.algo,
            curve.mode,
        ):
            return verdict
    return {}


def window_of(verdict: Mapping[str, Any]) -> tuple[float, float] | None:
    """(T_min, T_max) of a verdict's window; None if it is no use."""
    window = verdict.get("window") or {}
    low, high = window.get("low"), window.get("high")
    if window.get("reason") or low is None or high is None or not low < high:
        return None
    return float(low), float(high)


def panels(data: ReportData) -> list[Panel]:
    """Worlds and modes in the order of the plan; a mode without a learner has no panel."""
    order = {algo: i for i, algo in enumerate(looks(data))}
    found = []
    for env, mode in dict.fromkeys((curve.env, curve.mode) for curve in data.curves):
        here = [
            curve
            for curve in data.curves
            if (curve.env, curve.mode) == (env, mode) and curve.algo != "expert"
        ]
        if all(curve.algo in REFERENCES for curve in here):
            continue
        here.sort(key=lambda curve: order[curve.algo])
        windows = [
            window_of(verdict_of(data, curve)) for curve in here if curve.algo not in REFERENCES
        ]
        window = next((window for window in windows if window), None)
        found.append(Panel(env, mode, f"{env}, {mode_title(data, env, mode)}", tuple(here), window))
    return found


def thin(horizons: np.ndarray, points: int = 96) -> np.ndarray:
    """Indices of at most `points` horizons, evenly spaced in log T, both ends kept."""
    horizons = np.asarray(horizons, float)
    wanted = np.geomspace(horizons[0], horizons[-1], points)
    return np.unique(np.abs(np.log(horizons[None]) - np.log(wanted[:, None])).argmin(axis=1))


def mean_regret(curve: Any, horizons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean over seeds, low, high) of regret, each [K]; jackknife-t on log regret, NaN where
    that is not defined."""
    estimate, low, high = slopes.jackknife_t(curve.regret(horizons), _log)
    return np.exp(estimate), np.exp(low), np.exp(high)


def local_slopes(
    curve: Any, first: float, points: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Exponent of the mean regret over the octave around each T: (T, slope, low, high), with
    jackknife-t intervals over seeds.

    Args:
      curve: horizon.Curves.
      first: the smallest horizon that counts.
      points: how many T are asked for; fewer where the grid of horizons is coarse.
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
    """Per-seed rate per step; NaN (missing, not zero) for a seed that never took such a step."""
    events, steps = np.asarray(events, float), np.asarray(steps, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(steps > 0, events / steps, np.nan)


def learners(panel: Panel) -> list[Any]:
    """The panel's curves without the references."""
    return [curve for curve in panel.curves if curve.algo not in REFERENCES]


def error_rates(curve: Any) -> tuple[np.ndarray, np.ndarray]:
    """[S', 3] error rates on the expert's and on the learner's own states at TOLERANCES;
    incomplete rows are left out."""
    found = []
    for values in (curve.eps_expert, curve.eps_own):
        seeds = np.empty((0, 3)) if values is None else np.asarray(values, float)[curve.usable]
        found.append(seeds[np.isfinite(seeds).all(axis=1)])
    return found[0], found[1]


def hazard_recovery(curve: Any) -> np.ndarray:
    """[2, S'] the rates h and rho of every seed that did not fail."""
    keep = curve.usable
    return np.stack(
        [
            rates(curve.on_to_off, curve.on_steps)[keep],
            rates(curve.off_to_on, curve.off_steps)[keep],
        ]
    )


@dataclasses.dataclass(frozen=True)
class Rail:
    """A log axis over whole decades [floor, top]; if `zero`, the lowest decade is where exact
    zeros are put."""

    floor: float
    top: float
    zero: bool

    @classmethod
    def of(cls, values: list[np.ndarray]) -> Rail:
        """The axis on which all these values fit; [1e-6, 1] if there is none."""
        every = np.concatenate([np.ravel(part) for part in values]) if values else np.array([])
        positive, zero = every[every > 0], bool((every == 0).any())
        if not positive.size:
            return cls(1e-6, 1.0, zero)
        floor = math.floor(math.log10(positive.min())) - zero
        return cls(10.0**floor, 10.0 ** max(math.ceil(math.log10(positive.max())), floor + 1), zero)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where the values are drawn; NaN stays NaN."""
        values = np.asarray(values, float)
        return np.where(values == 0, self.floor, values)

    def ticks(self) -> np.ndarray:
        return 10.0 ** np.arange(round(math.log10(self.floor)), round(math.log10(self.top)) + 1)

    def limits(self) -> tuple[float, float]:
        return self.floor / (1.6 if self.zero else 1.0), self.top


def power_of_ten(value: float) -> str:
    """10⁻³ for 0.001, and plain numbers from 0.1 to 1000."""
    if 0.05 < value < 2000:
        return f"{value:g}"
    return "10" + str(round(math.log10(value))).translate(
        str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    )


def horizon_range(panel: Panel) -> tuple[float, float]:
    """The horizons that are drawn: up to T_max, from four octaves below the window (it settles
    there), else from the first."""
    first, last = float(panel.curves[0].T[0]), float(panel.curves[0].T[-1])
    return (max(first, panel.window[0] / 16), last) if panel.window else (first, last)


def guide(
    panel: Panel, means: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, float] | None:
    """Where the guide lines T and T² start: (T[2], regret at T[0]), midway between the learners
    at the window's lower end, and below a learner that stands alone."""
    found = []
    low, high = panel.window or (math.sqrt(np.prod(horizon_range(panel))), horizon_range(panel)[1])
    for horizons, mean in means:
        good = np.isfinite(mean) & (mean > 0)
        if good.any():
            found.append(np.interp(math.log(low), np.log(horizons[good]), np.log(mean[good])))
    if not found:
        return None
    return np.array([low, high]), float(np.exp(np.mean(found))) * (0.5 if len(found) == 1 else 1.0)


def headline(verdict: Mapping[str, Any]) -> str:
    """A learner's verdict and slope in one short line."""
    if not verdict:
        return "no verdict"
    mixed = " (mixed)" if verdict.get("mixed") else ""
    slope, low, high = (verdict.get(key) for key in ("slope", "ci_low", "ci_high"))
    if slope is None or not math.isfinite(slope):
        return f"{verdict['verdict']}{mixed}"
    if low is None or high is None:
        return f"{verdict['verdict']}{mixed}, slope {slope:.2f}"
    return f"{verdict['verdict']}{mixed}, slope {slope:.2f} [{low:.2f}, {high:.2f}]"
