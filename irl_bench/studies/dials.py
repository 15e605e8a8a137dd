"""What the studies `recoverability` and `hazard` have in common: BC under several values of a dial,
and its slope beside that of a two-state chain with the same rates.

The chain's prediction takes the two rates that were measured, h of leaving the demonstrations'
distribution and rho of coming back (`irl_bench.horizon.chain_model`). Where both slopes agree, the
two rates explain the exponent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import Part, Result, Row, narrowed, with_intervals


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


def parts(request: Request, env: str, settings: Sequence[Setting], out: Path) -> list[Part]:
    """Returns a sweep of BC in a world's nominal mode for each setting."""
    mode = next(iter(registry.world(env).world.modes))
    sweeps = []
    for setting in settings:
        name = f"{env}/{setting.name}"
        changed = narrowed(
            request,
            env=(env,),
            mode=(mode,),
            demos=request.demos if setting.demos is None else setting.demos,
            settings={
                **request.settings,
                env: {**request.settings.get(env, {}), **setting.dials},
            },
            out=str(out / name),
        )
        sweeps.append(Part(name, changed, report=False))
    return sweeps


def read(reports: Mapping[str, ReportData], title: str, text: Sequence[str]) -> Result:
    """Returns the slope of BC and that of the chain, at each value of each dial."""
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        env, curve, value = name.rsplit("/", 2)
        (found,) = (v for v in data.verdicts if v["algo"] == "bc")
        point = {
            "env": env,
            "dial": curve,
            "value": float(value),
            "slope": [found["slope"], found["ci_low"], found["ci_high"]],
            "chain_slope": found["chain_slope"],
            **{key: found[key] for key in ("hazard", "recovery", "level", "verdict", "horizons")},
            "reason": found["reason"],
        }
        points.append(point)
        slope, chain = found["slope"], found["chain_slope"]
        rows.setdefault(f"{env}: BC by {curve.replace('_', ' ')}", []).append(
            {
                curve.replace("_", " "): point["value"],
                "slope": None if slope is None else spread(point["slope"]),
                "the chain's": chain,
                "difference": None if slope is None or chain is None else slope - chain,
                "h": found["hazard"],
                "ρ": found["recovery"],
                "level": found["level"],
                "verdict": found["verdict"],
                "horizons": f"{found['horizons'][0]} to {found['horizons'][-1]}"
                if found["horizons"]
                else None,
                "seeds": found["usable_seeds"],
            }
        )
    return {"title": title, "text": [*text, _CHAIN], "tables": rows, "points": points}


_CHAIN = (
    "The chain's: the slope, over the same horizons, of a two-state chain with the measured rates "
    "h of leaving and ρ of coming back. The interval is jackknife-t over seeds; the chain's slope "
    "has none."
)


def draw(result: Mapping[str, Any], unit: str) -> Figure:
    """Draws measured slopes with their intervals and the chain's slopes over the dial, a panel per
    world and dial.

    Args:
      result: as `read` returns it.
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
