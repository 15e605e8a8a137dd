"""Studies that turn a dial: BC at several values of it, and its slope beside that of a two-state
chain with the same rates.

All values are compared over the same horizons, from the start of the world's window to T_max. A
verdict's own window ends at 0.3 / h, so it would leave out every value at which episodes saturate,
and with them the place where the law ends.

The chain's slope takes the two rates of the rollouts whose slope it stands beside, h of entering
failure and rho of coming back (`irl_bench.horizon.chain_model`). So it is no forecast. Where both
slopes agree, two constant rates are enough to describe the growth; where they do not, the rates
depend on more than whether one has failed. On `chain` they agree but for chance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from irl_bench.horizon import Curves, chain_model, slopes
from irl_bench.horizon.window import SATURATION, saturates
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series
from irl_bench.studies.drawing import round_ticks, shared_legend, with_intervals
from irl_bench.studies.measures import common_horizons, spread
from irl_bench.studies.study import OVER_HORIZONS, Part, Result, Row, Study, narrowed, refuse


@dataclasses.dataclass(frozen=True)
class Setting:
    """One point of a curve."""

    curve: str
    """The dial that is turned."""
    value: float
    """Its value."""
    dials: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Dials of the world."""
    demos: int | None = None
    """Number of demonstrations; None: the request's."""
    bc: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of BC that go with it."""

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.curve}/{self.value:g}"


def study(
    name: str,
    help: str,
    settings: Callable[[Request, tuple[int, ...], str], list[Setting]],
    title: str,
    text: str,
    units: Mapping[str, str],
) -> Study:
    """Returns a study of BC over a dial.

    Args:
      name, help: as in `Study`.
      settings: (request, numbers of demonstrations, world) -> the points of its curves. Raises
        BadInput, in one line, for a world without the dial. The study's parts do so if the request
        sets a dial that it turns.
      title: heading of the page.
      text: what the dial is.
      units: {dial: its unit}, for the label of the x axis; a dial without a unit is left out.
    """

    def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
        points = {env: settings(request, demos, env) for env in request.env}
        for env, curve in points.items():
            turned = {dial for point in curve for dial in point.dials}
            refuse(request, name, {registry.world(env).name: turned}, "turns it")
        return [_part(request, env, point, out) for env, curve in points.items() for point in curve]

    return Study(
        name=name,
        help=help,
        algo=("bc",),
        env=("chain", "lane_keep", "swing_up"),
        brief=("chain", "lane_keep"),
        fixed=True,
        sizes={
            "smoke": {},
            "default": {"seeds": 20, **OVER_HORIZONS},
            "full": {"seeds": 40, **OVER_HORIZONS},
        },
        parts=parts,
        read=lambda reports: read(reports, title, text),
        draw=lambda result: draw(result, units),
    )


def _part(request: Request, env: str, setting: Setting, out: Path) -> Part:
    """A sweep of BC in a world's nominal mode."""
    name, loaded = f"{env}/{setting.name}", registry.world(env)
    changed = narrowed(
        request,
        env=(env,),
        mode=(next(iter(loaded.world.modes)),),
        demos=request.demos if setting.demos is None else setting.demos,
        settings={
            **request.settings,
            loaded.name: {**request.settings.get(loaded.name, {}), **setting.dials},
            "bc": {**request.settings.get("bc", {}), **setting.bc},
        },
        out=str(out / name),
    )
    return Part(name, changed, report=False)


def read(reports: Mapping[str, ReportData], title: str, text: str) -> Result:
    """Returns the slope of BC, the chain's and their difference, at each value of each dial."""
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        env, dial, value = name.rsplit("/", 2)
        (curve,) = (c for c in data.curves if c.algo == "bc")
        (verdict,) = (v for v in data.verdicts if v["algo"] == "bc")
        grid = common_horizons(data, env)
        fit = slopes.jackknife_t(curve.regret(grid), lambda J, grid=grid: slopes.slope(grid, J))
        slope, chain = [float(x) for x in fit], curve.chain_slope(grid)
        apart = None if chain is None else less_chain(curve, grid)
        h, rho = curve.rates()
        h_T = None if h is None else h * float(grid[-1])
        saturated = h_T is not None and saturates(h_T)
        points.append(
            {
                "env": env,
                "dial": dial,
                "value": float(value),
                "slope": slope,
                "chain_slope": chain,
                "less_chain": apart,
                "hazard": h,
                "recovery": rho,
                "hazard_T_max": h_T,
                "saturated": saturated,
                "horizons": grid.tolist(),
                **{key: verdict[key] for key in ("level", "verdict", "reason")},
            }
        )
        known = math.isfinite(slope[0])
        rows.setdefault(f"{env}: BC by {dial.replace('_', ' ')}", []).append(
            {
                dial.replace("_", " "): float(value),
                "slope": spread(slope) if known else None,
                "the chain's": chain,
                "difference": spread(apart) if known and apart is not None else None,
                "h T_max": h_T,
                "above 0.3": saturated,
                "h": h,
                "ρ": rho,
                "level": verdict["level"],
                "verdict": verdict["verdict"],
                "horizons": f"{grid[0]} to {grid[-1]}",
                "seeds": verdict["usable_seeds"],
            }
        )
    return {
        "title": title,
        "text": [text, *_TEXT, *_without_slope(points)],
        "tables": rows,
        "points": points,
    }


def less_chain(curve: Curves, grid: np.ndarray) -> list[float]:
    """Returns the slope of regret less that of the chain with the measured rates, [value, low,
    high], by a jackknife-t interval over the seeds of both.

    Args:
      curve: with failures and with steps in failure.
      grid: int[H], the horizons [steps].
    """
    counts = [
        np.asarray(count, float)[curve.usable]
        for count in (curve.on_to_off, curve.on_steps, curve.off_to_on, curve.off_steps)
    ]
    values = np.concatenate([curve.regret(grid), np.stack(counts, axis=1)], axis=1)

    def statistic(mean: np.ndarray) -> np.ndarray:
        left, on, back, off = (mean[..., len(grid) + k, None] for k in range(4))
        with np.errstate(invalid="ignore", divide="ignore"):
            chain = chain_model.cost(grid, left / on, back / off)
        return slopes.slope(grid, mean[..., : len(grid)]) - slopes.slope(grid, chain)

    return [float(x) for x in slopes.jackknife_t(values, statistic)]


def _without_slope(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence on the points that have no slope; [] if all have one."""
    absent = [
        f"{point['env']} at {point['dial'].replace('_', ' ')} = {point['value']:g}"
        for point in points
        if not math.isfinite(point["slope"][0])
    ]
    why = "No slope, since the regret is not above 0 throughout"
    return [f"{why}: {', '.join(absent)}."] if absent else []


_TEXT = (
    "All values of a dial are fitted over the same horizons: from 10 max(u, L), or T_max / 8 if "
    "that is shorter, to T_max, unless --horizons says otherwise. A verdict has its own window, "
    "which ends where h T is 0.3.",
    f"Above {SATURATION:g}: h T_max is; hollow in the figure. Where failures also last, so many "
    "episodes have failed by then that the slope bends towards 1, and the law of T² ends.",
    "The chain's: the slope, over the same horizons, of the cost of a two-state chain with the "
    "rates h of entering failure and ρ of coming back of the same rollouts. It is no forecast: it "
    "says whether two constant rates describe the growth. Difference: slope less the chain's. "
    "Intervals are jackknife-t over seeds.",
)


def draw(result: Mapping[str, Any], units: Mapping[str, str]) -> Figure:
    """Draws measured slopes with their intervals and the chain's slopes over the dial, a panel per
    world and dial. Points at which h T_max is above 0.3 are hollow.

    Args:
      result: as `read` returns it, read back from JSON.
      units: {dial: its unit}.
    """
    points = result["points"]
    panels = list(dict.fromkeys((point["env"], point["dial"]) for point in points))
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.4, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    colours = series.colours(["bc", "chain"])
    for axis, (env, dial) in zip(axes, panels, strict=False):
        group = sorted(
            (p for p in points if (p["env"], p["dial"]) == (env, dial)), key=lambda p: p["value"]
        )
        found = [p for p in group if p["slope"][0] is not None]
        if found:
            x = [p["value"] for p in found]
            with_intervals(axis, x, [p["slope"] for p in found], colours["bc"], "BC, measured")
            chain = np.array([p["chain_slope"] for p in found], float)
            axis.plot(x, chain, "--", color=colours["chain"], marker="x", ms=4, label="the chain")
            hollow = [(p["value"], p["slope"][0]) for p in found if p["saturated"]]
            if hollow:
                axis.plot(
                    *zip(*hollow, strict=True),
                    "o",
                    color=colours["bc"],
                    mfc="white",
                    ms=4,
                    zorder=3,
                    label=f"h T_max > {SATURATION:g}",
                )
        least = min((p["value"] for p in group if p["value"] > 0), default=1.0)
        zero = group[0]["value"] == 0
        if zero:
            axis.set_xscale("symlog", linthresh=least, linscale=0.5)
        else:
            axis.set_xscale("log")
        ticks = round_ticks(least, group[-1]["value"], slack=1.1)
        axis.xaxis.set_major_locator(FixedLocator([0.0, *ticks] if zero else ticks))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.axhline(1.0, color="#999999", lw=0.6, ls=":")
        axis.axhline(2.0, color="#999999", lw=0.6, ls=":")
        ends = np.array([p["slope"] for p in found], float)
        axis.set_ylim(
            min(0.7, np.nanmin(ends, initial=0.7) - 0.05),
            max(2.3, np.nanmax(ends, initial=2.3) + 0.05),
        )
        axis.set_title(env, fontsize=8)
        unit = f" [{units[dial]}]" if dial in units else ""
        axis.set_xlabel(f"{dial.replace('_', ' ')}{unit}", fontsize=7)
        axis.tick_params(labelsize=6)
    axes[0].set_ylabel("slope of regret over T", fontsize=7)
    shared_legend(figure, 3)
    return figure
