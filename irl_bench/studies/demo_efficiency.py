"""What an algorithm makes of N demonstrations: normalised score and regret over N, all algorithms
on the same demonstrations.

Each N is a whole sweep, so its folder also holds the horizon verdicts of all learners at equal
demonstrations. Seed by seed, algorithms share demonstrations and evaluation episodes, so ratios to
BC are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from irl_bench.horizon import slopes
from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies import aggregate
from irl_bench.studies.study import (
    Part,
    Study,
    count_axis,
    mean,
    narrowed,
    same_seeds,
    scores,
    with_intervals,
)


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    modes = tuple(dict.fromkeys(next(iter(registry.world(env).world.modes)) for env in request.env))
    return [
        Part(
            f"demos-{count}",
            narrowed(request, demos=count, mode=modes, out=str(out / f"demos-{count}")),
        )
        for count in sorted(demos)
    ]


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {}
    points: list[dict[str, Any]] = []
    for name, data in found.items():
        count = int(name.removeprefix("demos-"))
        bc = {c.env: c for c in data.curves if c.algo == "bc"}
        for curve in data.curves:
            nominal = data.plan["worlds"][curve.env]["nominal"]
            score = scores(data, curve.env, curve.algo, curve.mode)
            if curve.algo in series.REFERENCES or curve.mode != nominal or score is None:
                continue
            last = curve.T[-1:]
            regret = curve.regret(last)[:, 0]
            verdict = series.verdict_of(data, curve)
            score_mean, regret_mean = mean(score), mean(regret)
            beside = bc.get(curve.env) if curve.algo != "bc" else None
            ratio = paired_ratio(curve, beside, last) if beside else None
            gain = paired_gain(data, curve, beside) if beside else None
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
    for own in rows.values():
        own.sort(key=lambda row: row["demos"])
    text = [
        "Score: 1 is the expert, 0 a random policy, (G - G_0) / (G* - G_0) with G the mean return "
        "of an episode. Intervals: "
        "jackknife-t over seeds; differences from and ratios to BC are paired by seed, ratios on "
        "their logarithm.",
    ]
    means = together(points)
    if means:
        heading = (
            "Interquartile mean of the score over seeds and worlds [95 % stratified "
            "bootstrap interval]"
        )
        rows[heading] = [
            {**one, "IQM of the score": spread(one["IQM of the score"])} for one in means
        ]
    top = max(point["demos"] for point in points) if points else 0
    profiles = aggregate.profiles(by_algorithm(points, top)) if points else {}
    found_ = {"title": "Score over demonstrations", "text": text, "tables": rows, "points": points}
    return {
        **found_,
        "means": means,
        "profiles": {"demos": top, "thresholds": aggregate.THRESHOLDS.tolist(), "shares": profiles},
    }


def by_algorithm(points: list[dict[str, Any]], demos: int) -> dict[str, np.ndarray]:
    """{algorithm: scores float[S, W]} at a number of demonstrations, of algorithms run in all
    worlds; S is the fewest seeds."""
    own = [point for point in points if point["demos"] == demos]
    worlds = dict.fromkeys(point["env"] for point in own)
    found = {}
    for algo in dict.fromkeys(point["algo"] for point in own):
        columns = {point["env"]: point["scores"] for point in own if point["algo"] == algo}
        if columns.keys() == worlds.keys():
            seeds = min(map(len, columns.values()))
            found[algo] = np.array([columns[env][:seeds] for env in worlds]).T
    return found


def together(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Interquartile means over seeds and worlds with their intervals."""
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


def paired_ratio(curve: Any, bc: Any, last: np.ndarray) -> list[float] | None:
    """[ratio of mean regrets, low, high] over the seeds that both have; None where it has no
    logarithm."""
    here, there = same_seeds(curve, bc)
    pairs = np.stack([curve.regret(last)[here, 0], bc.regret(last)[there, 0]], axis=1)
    if not len(pairs) or not (pairs.mean(axis=0) > 0).all():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = slopes.jackknife_t(pairs, lambda mean: np.log(mean[..., 0] / mean[..., 1]))
    return [float(np.exp(x)) for x in estimate]


def paired_gain(data: ReportData, curve: Any, bc: Any) -> list[float] | None:
    """[mean difference of scores, low, high] over the seeds that both have."""
    mine, theirs = (scores(data, c.env, c.algo, c.mode) for c in (curve, bc))
    here, there = same_seeds(curve, bc)
    if mine is None or theirs is None or not len(here):
        return None
    return mean(mine[here] - theirs[there])


def spread(values: list[float]) -> str:
    """[value, low, high] as text."""
    return tables.interval(*values, lambda value: tables.number(value, 3))


LABELS = {"score": "normalised score", "regret": "regret at T_max [steps]"}


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    worlds = list(dict.fromkeys(point["env"] for point in points))
    names = list(dict.fromkeys(point["algo"] for point in points))
    colours = series.colours(names)
    counts = sorted({point["demos"] for point in points})
    figure = Figure(figsize=(7.0, 2.6 * (len(worlds) + 1)), layout="constrained")
    axes = figure.subplots(len(worlds) + 1, 2, squeeze=False)
    draw_together(axes[-1], found, names, colours)
    for line, env in zip(axes, worlds, strict=False):
        for axis, quantity in zip(line, LABELS, strict=True):
            for algo in names:
                own = sorted(
                    (p for p in points if (p["env"], p["algo"]) == (env, algo)),
                    key=lambda p: p["demos"],
                )
                if not own:
                    continue
                x = np.array([p["demos"] for p in own], float) * 1.06 ** (
                    names.index(algo) - (len(names) - 1) / 2
                )
                with_intervals(axis, x, [p[quantity] for p in own], colours[algo], algo)
                for place, p in zip(x, own, strict=True):
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
    axes: Any, found: Mapping[str, Any], names: list[str], colours: Mapping[str, str]
) -> None:
    """Interquartile means over demonstrations, and performance profiles at the most of them."""
    profiles = found["profiles"]
    for algo in names:
        own = [one for one in found["means"] if one["algorithm"] == algo]
        if own:
            x, (y, low, high) = (
                [one["demos"] for one in own],
                np.array([one["IQM of the score"] for one in own]).T,
            )
            axes[0].plot(x, y, color=colours[algo], marker="o", ms=3, lw=1.2)
            axes[0].fill_between(x, low, high, color=colours[algo], alpha=0.15, lw=0)
        if algo in profiles["shares"]:
            share, low, high = profiles["shares"][algo]
            axes[1].plot(profiles["thresholds"], share, color=colours[algo], lw=1.2, label=algo)
            axes[1].fill_between(
                profiles["thresholds"], low, high, color=colours[algo], alpha=0.15, lw=0
            )
    count_axis(axes[0], (one["demos"] for one in found["means"]))
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
