"""How well does each algorithm use N demonstrations? Normalised score and regret over N, with the
same demonstrations for all algorithms.

Each N is a whole sweep, so its folder also holds the horizon verdicts of all learners at equal
demonstrations. Algorithms with the same seed share demonstrations and evaluation episodes, so
differences from BC and ratios to it are paired.

BC holds out a tenth of the episodes, to stop early. The learners of a reward begin with a clone of
all episodes, so what they add is their gain over `clone`. In worlds with failure flags they run
twice: with the flag hidden from the reward, which counts, and with the flag seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irl_bench.core.quantities import REFERENCES
from irl_bench.horizon import Curves
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies import aggregate, iqm
from irl_bench.studies.drawing import (
    aside,
    count_axis,
    log_axis,
    shared_legend,
    with_intervals,
    with_seeds,
)
from irl_bench.studies.failure_flag import FLAG_HIDDEN, check_arms, flag_seen, learns_reward
from irl_bench.studies.measures import interval, paired_ratio, same_seeds, scores, spread
from irl_bench.studies.study import Part, Result, Row, Study, narrowed

SEEN = "flag_seen"
"""The folder of the learners whose rewards see the failure flag."""
MARK = " (flag seen)"
"""What their names end with in the tables."""
STARTS = ("bc", "clone")
"""The clones that all others are compared with."""


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
    """Returns, for each number of demonstrations, a sweep of all algorithms and worlds, and one of
    the learners of a reward with the failure flag seen, in the worlds that have one. The budget
    `smoke` runs the first learner of a reward alone, with the flag hidden."""
    check_arms(request, "demo_efficiency", request.algo)
    learners = tuple(algo for algo in request.algo if learns_reward(algo))
    if request.budget == "smoke":
        rest, learners = learners[1:], learners[:1]
        kept = tuple(algo for algo in request.algo if algo not in rest)
        request = narrowed(request, algo=kept)
    flagged = tuple(env for env in request.env if registry.world(env).world.failure_flags)
    sweeps = []
    for count in sorted(demos):
        name = f"demos-{count}"
        sweeps.append(_part(request, name, out, demos=count))
        if learners and flagged and request.budget != "smoke":
            seen = {"algo": learners, "env": flagged, "settings": flag_seen(request, learners)}
            sweeps.append(_part(request, f"{SEEN}/{name}", out, demos=count, **seen))
    return sweeps


def _part(request: Request, name: str, out: Path, **changes: Any) -> Part:
    """Returns a sweep in the nominal mode of its worlds."""
    worlds = changes.get("env", request.env)
    modes = tuple(dict.fromkeys(next(iter(registry.world(env).world.modes)) for env in worlds))
    return Part(name, narrowed(request, mode=modes, out=str(out / name), **changes))


def read(reports: Mapping[str, ReportData]) -> EfficiencyResult:
    """Returns scores and regrets of every learner in every world, over demonstrations."""
    rows: dict[str, list[Row]] = {}
    points: list[Row] = []
    for name, data in reports.items():
        seen = name.startswith(f"{SEEN}/")
        place = name.removeprefix(f"{SEEN}/")
        count = int(place.removeprefix("demos-"))
        # The clones do not see rewards, so those of the other part are also this one's.
        starts = {
            (curve.algo, curve.env): (curve, scores(reports[place], curve.env, curve.algo, mode))
            for curve in reports[place].curves
            if curve.algo in STARTS
            and curve.mode == (mode := reports[place].plan["worlds"][curve.env]["nominal"])
        }
        for curve in data.curves:
            nominal = data.plan["worlds"][curve.env]["nominal"]
            score = scores(data, curve.env, curve.algo, curve.mode)
            if curve.algo in REFERENCES or curve.mode != nominal or score is None:
                continue
            last = curve.T[-1:]
            regret = curve.regret(last)[:, 0]
            verdict = series.verdict_of(data, curve)
            score_iqm, regret_mean = iqm.interval(score), interval(regret)
            ratio, gains = None, dict.fromkeys(STARTS)
            for start in STARTS:
                other, other_score = starts.get((start, curve.env), (None, None))
                if start == curve.algo or other is None:
                    continue
                gains[start] = paired_gain(curve, score, other, other_score)
                if start == "bc":
                    ratio = paired_ratio(curve, other, last)
            points.append(
                {
                    "env": curve.env,
                    "algo": curve.algo + (MARK if seen else ""),
                    "demos": count,
                    "score": score_iqm,
                    "scores": score.tolist(),
                    "regret": regret_mean,
                    "regrets": regret.tolist(),
                    "ratio": ratio,
                    "gain": gains["bc"],
                    "gain_over_clone": gains["clone"],
                }
            )
            show = lambda values: spread(values) if values else tables.MISSING
            rows.setdefault(
                f"{curve.env}: at T = {int(last[0])} steps, scores: IQM over seeds [interval], "
                "regret: mean [interval]",
                [],
            ).append(
                {
                    "demos": count,
                    "algorithm": points[-1]["algo"],
                    "score": spread(score_iqm),
                    "above BC's": show(gains["bc"]),
                    "above the clone's": show(gains["clone"]),
                    "lost seeds": iqm.lost(score),
                    "worst seed": float(score.min()),
                    "regret": spread(regret_mean),
                    "regret / BC's": show(ratio),
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
        "and 0 for uniformly random actions.",
        f"{iqm.TEXT} {iqm.LOST_TEXT} Regret and its ratio to BC's: mean and jackknife-t, the ratio "
        "on its logarithm. Differences and ratios are paired by seed.",
        "BC holds out a tenth of the episodes. The clone does not: it is the policy that learners "
        "of a reward begin with, so what they add is the column above the clone's.",
        FLAG_HIDDEN,
    ]
    means = together(points)
    if means:
        heading = (
            f"Interquartile mean of the score over seeds and worlds [stratified bootstrap at "
            f"{iqm.LEVEL:g}]"
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


def paired_gain(
    curve: Curves, own: np.ndarray, other: Curves, theirs: np.ndarray | None
) -> list[float] | None:
    """Returns [IQM, low, high] of the differences of scores over the seeds that both have.

    Args:
      curve, own: a learner and the score of each of its usable seeds, float[S].
      other, theirs: those of the learner that it is compared with.

    Returns:
      None if a score is missing or no seed is shared.
    """
    in_curve, in_other = same_seeds(curve, other)
    if theirs is None or not len(in_curve):
        return None
    return iqm.interval(own[in_curve] - theirs[in_other])


LABELS = {"score": "normalised score", "regret": "regret at T_max [steps]"}
"""{quantity of a point: label of its axis}"""


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws score and regret over demonstrations, a row per world, and all worlds together: each
    seed, and intervals. Dashed: the flag seen."""
    points = result["points"]
    worlds = list(dict.fromkeys(point["env"] for point in points))
    names = list(dict.fromkeys(point["algo"] for point in points))
    colours, dashes = styles(names)
    counts = sorted({point["demos"] for point in points})
    figure = Figure(figsize=(7.0, 2.6 * (len(worlds) + 1)), layout="constrained")
    axes = figure.subplots(len(worlds) + 1, 2, squeeze=False)
    draw_together(axes[-1], result, names)
    for line, env in zip(axes, worlds, strict=False):
        for axis, quantity in zip(line, LABELS, strict=True):
            for algo in names:
                selected = sorted(
                    (p for p in points if (p["env"], p["algo"]) == (env, algo)),
                    key=lambda p: p["demos"],
                )
                if not selected:
                    continue
                x = aside((p["demos"] for p in selected), names.index(algo), len(names))
                values, colour = [p[quantity] for p in selected], colours[algo]
                with_intervals(axis, x, values, colour, algo, dashes[algo])
                with_seeds(axis, x, [p[f"{quantity}s"] for p in selected], colour)
            count_axis(axis, counts)
            axis.set(xlabel="demonstrations", ylabel=LABELS[quantity], title=env)
            if quantity == "score":
                axis.axhline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
            else:
                log_axis(axis.yaxis)
    shared_legend(figure, 4)
    return figure


def styles(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns {name: colour} and {name: dash}. A learner has one colour whether its reward sees the
    flag or not."""
    colours = series.colours([name.removesuffix(MARK) for name in names])
    return (
        {name: colours[name.removesuffix(MARK)] for name in names},
        {name: "--" if name.endswith(MARK) else "-" for name in names},
    )


def draw_together(axes: Sequence[Axes], result: Mapping[str, Any], names: list[str]) -> None:
    """Draws interquartile means over demonstrations, and performance profiles at the largest number
    of them, on two axes."""
    profiles = result["profiles"]
    colours, dashes = styles(names)
    for algo in names:
        means = [row for row in result["means"] if row["algorithm"] == algo]
        if means:
            x = [row["demos"] for row in means]
            y, low, high = np.array([row["IQM of the score"] for row in means]).T
            axes[0].plot(x, y, dashes[algo], color=colours[algo], marker="o", ms=3, lw=1.2)
            axes[0].fill_between(x, low, high, color=colours[algo], alpha=0.15, lw=0)
        if algo in profiles["shares"]:
            share, low, high = profiles["shares"][algo]
            axes[1].plot(
                profiles["thresholds"], share, dashes[algo], color=colours[algo], lw=1.2, label=algo
            )
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
    algo=("bc", "clone", "dagger", "gail", "airl"),
    env=("lane_keep",),
    fixed=False,
    sizes={
        "smoke": {"demos": (8,)},
        "default": {"seeds": 20, "demos": (1, 4, 16, 64)},
        "full": {"seeds": 20, "demos": (1, 4, 16, 64, 256)},
    },
    parts=parts,
    read=read,
    draw=draw,
)
