"""Studies that turn a dial: BC at several values of it, and its slope beside that of a two-state
chain with the same rates.

All values are compared over the same horizons, from the start of the world's window to T_max. A
verdict's own window ends at 0.3 / h, so it would leave out every value at which episodes saturate,
and with them the place where the law ends.

The chain's prediction takes the two rates that were measured, h of leaving the demonstrations'
distribution and rho of coming back (`irl_bench.horizon.chain_model`). Where both slopes agree, the
two rates explain the exponent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from irl_bench.horizon import slopes
from irl_bench.horizon.window import SATURATION, saturates, settled_horizons
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series
from irl_bench.studies.drawing import with_intervals
from irl_bench.studies.measures import spread
from irl_bench.studies.study import OVER_HORIZONS, Part, Result, Row, Study, narrowed


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
    unit: str = "",
) -> Study:
    """Returns a study of BC over a dial.

    Args:
      name, help: as in `Study`.
      settings: (request, numbers of demonstrations, world) -> the points of its curves. Raises
        BadInput, in one line, for a world without the dial.
      title: heading of the page.
      text: what the dial is.
      unit: label of the x axis behind the dial's name.
    """

    def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
        points = {env: settings(request, demos, env) for env in request.env}
        return [_part(request, env, point, out) for env, curve in points.items() for point in curve]

    return Study(
        name=name,
        help=help,
        algo=("bc",),
        env=("chain", "lane_keep", "swing_up"),
        fixed=True,
        sizes={
            "smoke": {},
            "default": {"seeds": 20, **OVER_HORIZONS},
            "full": {"seeds": 40, **OVER_HORIZONS},
        },
        parts=parts,
        read=lambda reports: read(reports, title, text),
        draw=lambda result: draw(result, unit),
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
        },
        out=str(out / name),
    )
    return Part(name, changed, report=False)


def read(reports: Mapping[str, ReportData], title: str, text: str) -> Result:
    """Returns the slope of BC and that of the chain, at each value of each dial."""
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        env, dial, value = name.rsplit("/", 2)
        (curve,) = (c for c in data.curves if c.algo == "bc")
        (verdict,) = (v for v in data.verdicts if v["algo"] == "bc")
        grid = _horizons(data, env)
        fit = slopes.jackknife_t(curve.regret(grid), lambda J, grid=grid: slopes.slope(grid, J))
        slope, chain = [float(x) for x in fit], curve.chain_slope(grid)
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
                "difference": slope[0] - chain if known and chain is not None else None,
                "h T_max": h_T,
                "saturated": saturated,
                "h": h,
                "ρ": rho,
                "level": verdict["level"],
                "verdict": verdict["verdict"],
                "horizons": f"{grid[0]} to {grid[-1]}",
                "seeds": verdict["usable_seeds"],
            }
        )
    return {"title": title, "text": [text, *_TEXT], "tables": rows, "points": points}


def _horizons(data: ReportData, env: str) -> np.ndarray:
    """The horizons of every point in a world, int[H]: those asked for, or a grid to T_max."""
    asked = data.plan["analysis"]["horizons"]
    if not isinstance(asked, str):
        return np.array(asked)
    world = data.plan["worlds"][env]
    return settled_horizons(world["u"], world["latency"], world["horizon"])


_TEXT = (
    "All values of a dial are fitted over the same horizons: from 10 max(u, L), or T_max / 8 if "
    "that is shorter, to T_max, unless --horizons says otherwise. A verdict has its own window, "
    "which ends where h T is 0.3.",
    f"Saturated: h T_max is above {SATURATION:g}; hollow in the figure. So many episodes have "
    "failed by then that the slope bends towards 1, and the law of T² ends.",
    "The chain's: the slope, over the same horizons, of a two-state chain with the measured rates "
    "h of leaving and ρ of coming back. The interval is jackknife-t over seeds; the chain's slope "
    "has none.",
)


def draw(result: Mapping[str, Any], unit: str) -> Figure:
    """Draws measured slopes with their intervals and the chain's slopes over the dial, a panel per
    world and dial. Saturated points are hollow.

    Args:
      result: as `read` returns it, read back from JSON.
      unit: label of the x axis behind the dial's name.
    """
    points = result["points"]
    panels = list(dict.fromkeys((point["env"], point["dial"]) for point in points))
    columns = min(3, len(panels))
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
                    label="saturated",
                )
            axis.legend(loc="best", frameon=False, fontsize=6)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.axhline(1.0, color="#999999", lw=0.6, ls=":")
        axis.axhline(2.0, color="#999999", lw=0.6, ls=":")
        axis.set_ylim(0.7, 2.3)
        axis.set_title(env, fontsize=8)
        axis.set_xlabel(f"{dial.replace('_', ' ')}{unit}", fontsize=7)
        axis.tick_params(labelsize=6)
    axes[0].set_ylabel("slope of regret over T", fontsize=7)
    return figure
