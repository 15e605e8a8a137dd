"""What repairs a clone when no expert can be asked?

Each remedy is one setting of BC or of its demonstrations, and each has an effect that theory
predicts:

- chunks of actions: no loss of horizon on a plant that is stable by itself, harm on one that is not
  (Zhang et al. 2025, arXiv 2507.09061);
- noise on what the expert executes in every second demonstration, with clean labels: the clone sees
  states beside the expert's (Simchowitz et al. 2025, arXiv 2503.09722);
- an average of the weights: less noise of gradient steps, which a closed loop amplifies (Block et
  al. 2023, arXiv 2310.11428);
- the expert's derivatives: the clone answers small deviations as the expert does (Pfrommer et al.
  2022, arXiv 2205.14812), where the expert is a function of the observation.

- DART: noise of the clone's own kind while demonstrating, fitted anew as the clone improves (Laskey
  et al. 2017, arXiv 1703.09327).

Plain BC and DAgger, which asks, stand beside them with the same labels and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from irl_bench.core.settings import BadInput
from irl_bench.horizon import Curves
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series
from irl_bench.studies.demo_efficiency import paired_ratio, spread
from irl_bench.studies.study import Part, Result, Row, Study, interval, narrowed

PLAIN = "plain"
"""BC without a remedy, with which the others are compared."""
REMEDIES: Mapping[str, tuple[str, Mapping[str, Any], float]] = {
    PLAIN: ("none", {}, 0.0),
    "chunk": ("chunks of 4 actions", {"chunk": 4}, 0.0),
    "noise": ("noise 0.05 while demonstrating", {}, 0.05),
    "ema": ("average of the weights", {"ema": 0.999}, 0.0),
    "tasil": ("the expert's derivatives", {"tasil": 1.0, "keep_constant": True}, 0.0),
}
"""Folder -> (name, settings of BC, noise on executed actions)."""
OTHERS = {"dart": "DART", "dagger": "DAgger, which asks"}
"""Algorithms that stand beside the remedies: folder -> name."""
STRENGTHS = ("chunk", "ema", "tasil")
"""The settings of BC that are remedies."""
SYSTEMS = ("unstable", "stable")
"""The systems of `plant`, which are compared."""
SMOKE = (PLAIN, "chunk")
"""The remedies of the smallest budget."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of BC for each world and remedy, and one of DART and DAgger for each world.

    Raises:
      BadInput: a world of discrete actions; one line.
    """
    sweeps = []
    for env in request.env:
        world = registry.world(env).world
        if world.n_actions is not None:
            raise BadInput(
                f"--env={env}: remedies are for continuous actions; nearest: --env=plant,lane_keep"
            )
        asked = request.settings.get(env, {}).get("system")
        systems: Sequence[str] = (
            (asked,) if asked else SYSTEMS if "system" in world.options else ("",)
        )
        for system in systems:
            options = {"system": system} if system else {}
            place = f"{env}-{system}" if system else env
            for name, (_, settings, noise) in REMEDIES.items():
                if name == "tasil" and not world.expert_reads_observations:
                    continue
                if request.budget == "smoke" and name not in SMOKE:
                    continue
                part = _part(request, env, options, "bc", out / place / name, settings)
                if demos:
                    part = narrowed(part, demos=demos[0])
                strength = (request.demo_noise or noise) if noise else 0.0
                part = narrowed(part, demo_noise=strength)
                sweeps.append(Part(f"{place}/{name}", part, report=False))
            for algo in OTHERS if request.budget != "smoke" else ():
                part = _part(request, env, options, algo, out / place / algo, {})
                part = narrowed(part, demo_noise=0.0)
                sweeps.append(Part(f"{place}/{algo}", part, report=False))
    return sweeps


def _part(
    request: Request,
    env: str,
    options: Mapping[str, str],
    algo: str,
    out: Path,
    settings: Mapping[str, Any],
) -> Request:
    """The request of one sweep. A remedy's setting on the command line is its strength where it is
    applied, and has no effect elsewhere."""
    given = request.settings.get(algo, {})
    own = {name: value for name, value in given.items() if name not in STRENGTHS}
    own |= {name: given.get(name, value) for name, value in settings.items()}
    mode = next(iter(registry.world(env).world.modes))
    return narrowed(
        request,
        algo=(algo,),
        env=(env,),
        mode=(mode,),
        settings={
            **request.settings,
            env: {**options, **request.settings.get(env, {})},
            algo: own,
        },
        out=str(out),
    )


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns slope, level and rates of every remedy, and its regret against plain BC's."""
    plain: dict[str, Curves] = {}
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        world, remedy = name.rsplit("/", 1)
        algo = remedy if remedy in OTHERS else "bc"
        (curve,) = (c for c in data.curves if c.algo == algo)
        (found,) = (v for v in data.verdicts if v["algo"] == algo)
        if remedy == PLAIN:
            plain[world] = curve
        last = curve.T[-1:]
        J = interval(curve.regret(last)[:, 0])
        ratio = (
            None
            if remedy == PLAIN or world not in plain
            else paired_ratio(curve, plain[world], last)
        )
        title = REMEDIES[remedy][0] if remedy in REMEDIES else OTHERS[remedy]
        point = {
            "world": world,
            "remedy": title,
            "T": int(last[0]),
            "J": J,
            "ratio": ratio,
            "slope": [found["slope"], found["ci_low"], found["ci_high"]],
            **{key: found[key] for key in ("hazard", "recovery", "level", "verdict")},
        }
        points.append(point)
        rows.setdefault(f"{world}: at T = {int(last[0])} steps", []).append(
            {
                "remedy": title,
                "regret": spread(J),
                "regret / plain BC's": spread(ratio) if ratio else None,
                "slope": spread(point["slope"]) if found["slope"] is not None else None,
                "verdict": found["verdict"],
                "h": found["hazard"],
                "ρ": found["recovery"],
                "seeds": found["usable_seeds"],
            }
        )
    text = [
        "Regret: mean over seeds and its jackknife-t interval of 95 %. Ratios are paired by seed, "
        "with the interval of their logarithm. All have the same number of labels.",
        "A remedy changes what a policy is, so the window of each row is its own: it ends where "
        "that policy fails too often.",
    ]
    return {"title": "Repair without asking", "text": text, "tables": rows, "points": points}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws the regret of each remedy with its interval, a panel per world."""
    points = result["points"]
    worlds = list(dict.fromkeys(point["world"] for point in points))
    figure = Figure(figsize=(3.5 * len(worlds), 2.6), layout="constrained")
    axes = figure.subplots(1, len(worlds), squeeze=False)[0]
    colours = series.colours(["bc", "dagger"])
    for axis, world in zip(axes, worlds, strict=True):
        group = [point for point in points if point["world"] == world][::-1]
        for y, point in enumerate(group):
            middle, low, high = np.array(point["J"], float)
            colour = colours["dagger" if point["remedy"].startswith("DAgger") else "bc"]
            axis.plot([low, high], [y, y], color=colour, lw=1.5)
            axis.plot([middle], [y], "o", color=colour, ms=4)
        axis.set_yticks(range(len(group)), [point["remedy"] for point in group], fontsize=6)
        axis.set_xscale("symlog", linthresh=max(1e-3, min(abs(p["J"][0]) for p in group) or 1e-3))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_xlabel(f"regret at T = {group[0]['T']} [steps]", fontsize=7)
        axis.set_title(world, fontsize=8)
    return figure


STUDY = Study(
    name="remedies",
    help="chunks, noise while demonstrating, averaged weights and the expert's derivatives beside "
    "plain BC and DAgger",
    algo=("bc", "dart", "dagger"),
    env=("plant", "lane_keep", "swing_up"),
    fixed=True,
    sizes={"smoke": {"seeds": 2}, "default": {"seeds": 20}, "full": {"seeds": 40}},
    parts=parts,
    read=read,
    draw=draw,
)
