"""How well does each algorithm use N demonstrations? Normalised score and regret over N, with the
same demonstrations for all algorithms.

Each N is a whole sweep, so its folder also holds the horizon verdicts of all learners at equal
demonstrations. Algorithms with the same seed share demonstrations and evaluation episodes, so
ratios to BC are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from irl_bench.core.quantities import REFERENCES
from irl_bench.horizon import Curves, slopes
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies import aggregate
from irl_bench.studies.study import (
    Part,
    Result,
    Row,
    Study,
    count_axis,
    interval,
    narrowed,
    same_seeds,
    scores,
    with_intervals,
)


class Profiles(TypedDict):
    """Performance profiles at the largest number of demonstrations."""

    demos: int
    """That number."""
    thresholds: list[float]
    """The scores at which the profiles are read."""
    shares: dict[str, list[list[float]]]
    """{algorithm: [share, low, high]}, as `aggregate.profiles`."""


class EfficiencyResult(Result):
    """The result of this study."""

    means: list[Row]
    """Interquartile means over seeds and worlds."""
    profiles: Profiles


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of all algorithms and worlds for each number of demonstrations."""
    modes = tuple(dict.fromkeys(next(iter(registry.world(env).world.modes)) for env in request.env))
    return [
        Part(
            f"demos-{count}",
            narrowed(request, demos=count, mode=modes, out=str(out / f"demos-{count}")),
        )
        for count in sorted(demos)
    ]


def read(reports: Mapping[str, ReportData]) -> EfficiencyResult:
    """Returns scores and regrets of every learner in every world, over demonstrations."""
    rows: dict[str, list[Row]] = {}
    points: list[Row] = []
    for name, data in reports.items():
        count = int(name.removeprefix("demos-"))
        bc = {c.env: c for c in data.curves if c.algo == "bc"}
        for curve in data.curves:
            nominal = data.plan["worlds"][curve.env]["nominal"]
            score = scores(data, curve.env, curve.algo, curve.mode)
            if curve.algo in REFERENCES or curve.mode != nominal or score is None:
                continue
            last = curve.T[-1:]
            regret = curve.regret(last)[:, 0]
            verdict = series.verdict_of(data, curve)
            score_mean, regret_mean = interval(score), interval(regret)
            clone = bc.get(curve.env) if curve.algo != "bc" else None
            ratio = paired_ratio(curve, clone, last) if clone else None
            gain = paired_gain(data, curve, clone) if clone else None
            points.append(
                {
                    "env": curve.env,
                    "algo": curve.algo,
                    "demos": count,
                    "score": score_mean,
                    "scores": score.tolist(),
                    "regret": regret_mean,
                    "regrets": regret.tolist(),
                    "ratio": ratio,
                    "gain": gain,
                }
            )
            rows.setdefault(
                f"{curve.env}: at T = {int(last[0])} steps, mean over seeds [95 % interval]", []
            ).append(
                {
                    "demos": count,
                    "algorithm": curve.algo,
                    "score": spread(score_mean),
                    "above BC's": spread(gain) if gain else tables.MISSING,
                    "worst seed": float(score.min()),
                    "regret": spread(regret_mean),
                    "regret / BC's": spread(ratio) if ratio else tables.MISSING,
                    "collapsed": training.collapsed(data, curve),
                    "verdict": verdict.get("verdict", tables.MISSING),
                    "slope": verdict.get("slope"),
                    "h": verdict.get("hazard"),
                    "ρ": verdict.get("recovery"),
                    "seeds": len(score),
                    "expert queries": curve.consumes[0],
                    "labels": curve.labels,
                    "env steps": curve.consumes[1],
                }
            )
    for table in rows.values():
        table.sort(key=lambda row: row["demos"])
    text = [
        "Score: (G - G_0) / (G* - G_0), with G the mean return of an episode, is 1 for the expert "
        "and 0 for a random policy. Intervals: jackknife-t over seeds; differences from and ratios "
        "to BC are paired by seed, ratios on their logarithm.",
    ]
    means = together(points)
    if means:
        heading = (
            "Interquartile mean of the score over seeds and worlds [95 % stratified "
            "bootstrap interval]"
        )
        rows[heading] = [
            {**row, "IQM of the score": spread(row["IQM of the score"])} for row in means
        ]
    top = max(point["demos"] for point in points) if points else 0
    shares = aggregate.profiles(by_algorithm(points, top)) if points else {}
    return {
        "title": "Score over demonstrations",
        "text": text,
        "tables": rows,
        "points": points,
        "means": means,
        "profiles": {"demos": top, "thresholds": aggregate.THRESHOLDS.tolist(), "shares": shares},
    }


def by_algorithm(points: Sequence[Row], demos: int) -> dict[str, np.ndarray]:
    """Returns {algorithm: scores float[S, W]} at a number of demonstrations.

    Algorithms that did not run in all W worlds are left out. S is the smallest number of seeds of
    the algorithm in any world.
    """
    selected = [point for point in points if point["demos"] == demos]
    worlds = dict.fromkeys(point["env"] for point in selected)
    by_algo = {}
    for algo in dict.fromkeys(point["algo"] for point in selected):
        columns = {point["env"]: point["scores"] for point in selected if point["algo"] == algo}
        if columns.keys() == worlds.keys():
            seeds = min(map(len, columns.values()))
            by_algo[algo] = np.array([columns[env][:seeds] for env in worlds]).T
    return by_algo


def together(points: Sequence[Row]) -> list[Row]:
    """Returns the interquartile mean over seeds and worlds, with its interval, of each algorithm at
    each number of demonstrations."""
    lines = []
    for demos in sorted({point["demos"] for point in points}):
        scores = by_algorithm(points, demos)
        for algo, value in aggregate.iqm(scores).items():
            seeds, worlds = scores[algo].shape
            lines.append(
                {
                    "demos": demos,
                    "algorithm": algo,
                    "IQM of the score": value,
                    "worlds": worlds,
                    "seeds": seeds,
                }
            )
    return lines


def paired_ratio(curve: Curves, bc: Curves, last: np.ndarray) -> list[float] | None:
    """Compares mean regrets over the seeds that both curves have.

    Args:
      curve, bc: the learner and the clone.
      last: int[1], the horizon [steps].

    Returns:
      [ratio, low, high], by a jackknife-t interval on the logarithm; None if a mean regret is not
      positive or no seed is shared.
    """
    in_curve, in_bc = same_seeds(curve, bc)
    pairs = np.stack([curve.regret(last)[in_curve, 0], bc.regret(last)[in_bc, 0]], axis=1)
    if not len(pairs) or not (pairs.mean(axis=0) > 0).all():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = slopes.jackknife_t(pairs, lambda mean: np.log(mean[..., 0] / mean[..., 1]))
    return [float(np.exp(x)) for x in estimate]


def paired_gain(data: ReportData, curve: Curves, bc: Curves) -> list[float] | None:
    """Returns [mean difference of scores, low, high] over the seeds that both curves have; None if
    a score is missing or no seed is shared."""
    curve_scores, bc_scores = (scores(data, c.env, c.algo, c.mode) for c in (curve, bc))
    in_curve, in_bc = same_seeds(curve, bc)
    if curve_scores is None or bc_scores is None or not len(in_curve):
        return None
    return interval(curve_scores[in_curve] - bc_scores[in_bc])


def spread(values: Sequence[float]) -> str:
    """Returns [value, low, high] as text, with three significant digits."""
    middle, low, high = values
    return tables.interval(middle, low, high, lambda value: tables.number(value, 3))


LABELS = {"score": "normalised score", "regret": "regret at T_max [steps]"}
"""{quantity of a point: label of its axis}"""


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws score and regret over demonstrations, a row per world, and all worlds together."""
    points = result["points"]
    worlds = list(dict.fromkeys(point["env"] for point in points))
    names = list(dict.fromkeys(point["algo"] for point in points))
    colours = series.colours(names)
    counts = sorted({point["demos"] for point in points})
    figure = Figure(figsize=(7.0, 2.6 * (len(worlds) + 1)), layout="constrained")
    axes = figure.subplots(len(worlds) + 1, 2, squeeze=False)
    draw_together(axes[-1], result, names, colours)
    for line, env in zip(axes, worlds, strict=False):
        for axis, quantity in zip(line, LABELS, strict=True):
            for algo in names:
                selected = sorted(
                    (p for p in points if (p["env"], p["algo"]) == (env, algo)),
                    key=lambda p: p["demos"],
                )
                if not selected:
                    continue
                x = np.array([p["demos"] for p in selected], float) * 1.06 ** (
                    names.index(algo) - (len(names) - 1) / 2
                )
                with_intervals(axis, x, [p[quantity] for p in selected], colours[algo], algo)
                for place, p in zip(x, selected, strict=True):
                    seeds = p[f"{quantity}s"]
                    axis.plot(
                        [place] * len(seeds), seeds, ".", color=colours[algo], ms=2, alpha=0.4
                    )
            count_axis(axis, counts)
            axis.set(xlabel="demonstrations", ylabel=LABELS[quantity], title=env)
            if quantity == "score":
                axis.axhline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
                axis.legend(loc="best", frameon=False)
            else:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: series.power_of_ten(v)))
                axis.yaxis.set_minor_locator(NullLocator())
    return figure


def draw_together(
    axes: Sequence[Axes], result: Mapping[str, Any], names: list[str], colours: Mapping[str, str]
) -> None:
    """Draws interquartile means over demonstrations, and performance profiles at the largest number
    of them, on two axes."""
    profiles = result["profiles"]
    for algo in names:
        means = [row for row in result["means"] if row["algorithm"] == algo]
        if means:
            x = [row["demos"] for row in means]
            y, low, high = np.array([row["IQM of the score"] for row in means]).T
            axes[0].plot(x, y, color=colours[algo], marker="o", ms=3, lw=1.2)
            axes[0].fill_between(x, low, high, color=colours[algo], alpha=0.15, lw=0)
        if algo in profiles["shares"]:
            share, low, high = profiles["shares"][algo]
            axes[1].plot(profiles["thresholds"], share, color=colours[algo], lw=1.2, label=algo)
            axes[1].fill_between(
                profiles["thresholds"], low, high, color=colours[algo], alpha=0.15, lw=0
            )
    count_axis(axes[0], (row["demos"] for row in result["means"]))
    axes[0].set(xlabel="demonstrations", ylabel="IQM of the score", title="all worlds")
    axes[1].set(
        xlabel="score τ",
        ylabel="share of runs above τ",
        title=f"{profiles['demos']} demonstrations",
        ylim=(-0.02, 1.02),
    )


STUDY = Study(
    name="demo_efficiency",
    help="score and regret over the number of demonstrations (--demos=1,4,16,64), with verdicts at "
    "each number",
    algo=("bc", "dagger", "gail", "airl"),
    env=("lane_keep",),
    fixed=False,
    sizes={
        "smoke": {"demos": (2, 8)},
        "default": {"seeds": 10, "demos": (1, 4, 16, 64)},
        "full": {"seeds": 20, "demos": (1, 4, 16, 64, 256)},
    },
    parts=parts,
    read=read,
    draw=draw,
)
