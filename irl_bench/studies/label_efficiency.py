"""How does the score grow with the number of comparisons, by teacher and by query strategy?

`rlhf_iterated` runs at each number of labels: with the oracle under each query strategy, and with
each teacher under uniform queries. All runs share seeds, demonstrations and evaluation episodes, so
a query strategy and a teacher are compared with the oracle under uniform queries seed by seed.

The failure flag is hidden from all these rewards. The oracle under uniform queries is also run with
the flag seen; the other lines are not, since that would double the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.preferences.queries import QUERIES
from irl_bench.preferences.teachers import TEACHERS
from irl_bench.report import ReportData, series, tables, training
from irl_bench.studies import comparisons, iqm
from irl_bench.studies.drawing import (
    aside,
    count_axis,
    legend_below,
    with_intervals,
    with_seeds,
)
from irl_bench.studies.failure_flag import FLAG_HIDDEN, check_arms, flag_seen
from irl_bench.studies.measures import scores, spread
from irl_bench.studies.significance import holm
from irl_bench.studies.study import Part, Result, Row, Study, narrowed, refuse

LABELS: Mapping[str, tuple[int, ...]] = {
    "smoke": (50,),
    "default": (50, 150, 500, 1500),
    "full": (50, 150, 500, 1500, 4500),
}
"""Numbers of labels by budget."""
ALGO = "rlhf_iterated"
"""The algorithm that the study runs."""
BASE = ("oracle", "uniform")
"""The teacher and the query strategy that all others are compared with."""
BASE_AT = {"teacher": 0, "queries": 1}
"""Place of a column's value in `BASE`."""
SEEN = "flag_seen"
"""Suffix of the folder of `BASE` with the failure flag seen."""
FRESH = (
    "Fresh pairs: segments of new rollouts of the policy with which the reward was last fitted, "
    "with random actions among its own. That policy is the clone for one-shot RLHF and a trained "
    "one for iterated RLHF, so their accuracies are of different tests."
)
"""What the accuracy of a reward is measured on."""


def asked(budget: str) -> list[tuple[str, str]]:
    """Returns the (teacher, query strategy) of every line of the study."""
    lines = [("oracle", kind) for kind in QUERIES] + [
        (name, "uniform") for name in TEACHERS if name != "oracle"
    ]
    return lines[:1] if budget == "smoke" else lines


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep for each world, number of labels, teacher and query strategy, and for each
    number of labels one of `BASE` with the failure flag seen, but at the budget `smoke`."""
    (count,) = demos
    check_arms(request, "label_efficiency", [ALGO])
    refuse(request, "label_efficiency", {ALGO: ("labels", "teacher", "queries")})
    sweeps = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))
        lines = [(*line, False) for line in asked(request.budget)]
        if request.budget != "smoke" and registry.world(env).world.failure_flags:
            lines.append((*BASE, True))
        for labels in LABELS[request.budget]:
            for teacher, queries, seen in lines:
                place = f"{env}/{labels}/{teacher}-{queries}" + (f"-{SEEN}" if seen else "")
                settings = flag_seen(request, [ALGO]) if seen else dict(request.settings)
                settings[ALGO] = {
                    **settings.get(ALGO, {}),
                    "labels": labels,
                    "teacher": teacher,
                    "queries": queries,
                }
                changed = narrowed(
                    request,
                    algo=(ALGO,),
                    env=(env,),
                    mode=(mode,),
                    demos=count,
                    out=str(out / place),
                    settings=settings,
                )
                sweeps.append(Part(place, changed, report=False))
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns score and accuracy of the reward at each number of labels, and the comparisons with
    `BASE`."""
    points = [_point(name, data) for name, data in reports.items()]
    rows: dict[str, list[Row]] = {}
    for env in dict.fromkeys(point["env"] for point in points):
        group = [point for point in points if point["env"] == env]
        seen = {_line(point): point for point in group if point["flag_seen"]}
        rows[f"{env}: {ALGO}, IQM over seeds [interval]"] = [
            _row(point, seen.get(_line(point))) for point in group if not point["flag_seen"]
        ]
        for what, column in (("query strategies", "queries"), ("teachers", "teacher")):
            table = against(group, column)
            if table:
                rows[f"{env}: {what} against {BASE[BASE_AT[column]]}, scores paired by seed"] = (
                    table
                )
    text = [
        "Score: 1 is the expert, 0 uniformly random actions. Labels: comparisons that the teacher "
        "was asked for; answered: those that it did not skip. Accuracy and answered: means over "
        "seeds.",
        f"{iqm.TEXT} {iqm.LOST_TEXT} Counts are those with the flag hidden / seen.",
        comparisons.TEXT,
        FRESH,
        f"{FLAG_HIDDEN} Only the {BASE[0]} with {BASE[1]} queries is run that way too.",
    ]
    return {"title": "Score over labels", "text": text, "tables": rows, "points": points}


def _point(name: str, data: ReportData) -> Row:
    """Returns the numbers of one part; JSON values."""
    env, labels, line = name.split("/")
    teacher, queries, *rest = line.split("-")
    (curve,) = (c for c in data.curves if c.algo == ALGO)
    score = scores(data, env, ALGO, curve.mode)
    assert score is not None
    accuracy = training.metric(data, curve, "reward_accuracy")
    answered = training.metric(data, curve, "answered")
    last = lambda metric: float(np.mean(metric[1][:, -1])) if metric else None
    return {
        "env": env,
        "labels": int(labels),
        "teacher": teacher,
        "queries": queries,
        "flag_seen": rest == [SEEN],
        "score": iqm.interval(score),
        "seeds": np.asarray(curve.seeds)[curve.usable].tolist(),
        "scores": score.tolist(),
        "accuracy": last(accuracy),
        "answered": last(answered),
        "env_steps": curve.consumes[1],
    }


def _line(point: Row) -> tuple[int, str, str]:
    """Returns what a point has in common with the one whose reward sees the flag."""
    return point["labels"], point["teacher"], point["queries"]


def _row(point: Row, seen: Row | None) -> Row:
    """Returns the row of a point, with the score of the one whose reward sees the flag."""
    lost = [str(iqm.lost(p["scores"])) for p in (point, seen) if p]
    return {
        "labels": point["labels"],
        "teacher": point["teacher"],
        "queries": point["queries"],
        "score, flag hidden": spread(point["score"]),
        "flag seen": spread(seen["score"]) if seen else tables.MISSING,
        "lost seeds": " / ".join(lost),
        "worst seed": float(np.min(point["scores"])),
        "accuracy on fresh pairs": point["accuracy"],
        "answered": point["answered"],
        "env steps": point["env_steps"],
        "seeds": len(point["scores"]),
    }


def against(group: Sequence[Row], column: str) -> list[Row]:
    """Compares query strategies (teachers) with that of `BASE`, at each number of labels.

    Args:
      group: the points of one world.
      column: "queries" or "teacher", what differs from `BASE`.

    Returns:
      A row per comparison. Holm's correction, and the level of the detectable difference, are for
      all of them.
    """
    hidden = {_line(point): point for point in group if not point["flag_seen"]}
    compared = [
        (
            point,
            base,
            comparisons.differences(point["seeds"], point["scores"], base["seeds"], base["scores"]),
        )
        for point in hidden.values()
        if point[column] != BASE[BASE_AT[column]]
        and (base := hidden.get((point["labels"], *BASE))) is not None
        and all(point[key] == BASE[at] for key, at in BASE_AT.items() if key != column)
    ]
    adjusted = holm([comparisons.p_value(difference) for *_, difference in compared])
    rows: list[Row] = []
    for (point, _, difference), p in zip(compared, adjusted, strict=True):
        estimate = iqm.interval(difference)
        smallest = comparisons.detectable(difference, len(compared))
        rows.append(
            {
                "labels": point["labels"],
                column: point[column],
                f"less {BASE[BASE_AT[column]]}": spread(estimate),
                "p (Holm)": p,
                "detectable": smallest,
                "answer": comparisons.answer(estimate, p, smallest, len(difference)),
                "seeds": len(difference),
            }
        )
    return rows


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws score over labels, by query strategy and by teacher, a row per world: each seed, and
    the intervals of their interquartile means. Dashed: the flag seen."""
    points = result["points"]
    worlds = list(dict.fromkeys(point["env"] for point in points))
    figure = Figure(figsize=(7.0, 2.6 * len(worlds)), layout="constrained")
    axes = figure.subplots(len(worlds), 2, squeeze=False, sharey="row")
    for line, env in zip(axes, worlds, strict=True):
        for axis, title, key, held in zip(
            line,
            ("the oracle, by query", "uniform queries, by teacher"),
            ("queries", "teacher"),
            ("teacher", "queries"),
            strict=True,
        ):
            shown = [p for p in points if p["env"] == env and p[held] == BASE[BASE_AT[held]]]
            lines = list(dict.fromkeys((p[key], p["flag_seen"]) for p in shown))
            colours = series.colours([name for name, _ in lines])
            for index, (name, seen) in enumerate(lines):
                chosen = sorted(
                    (p for p in shown if (p[key], p["flag_seen"]) == (name, seen)),
                    key=lambda p: p["labels"],
                )
                x = aside((p["labels"] for p in chosen), index, len(lines))
                label = f"{name} (flag seen)" if seen else name
                values = [p["score"] for p in chosen]
                with_intervals(axis, x, values, colours[name], label, "--" if seen else "-")
                with_seeds(axis, x, [p["scores"] for p in chosen], colours[name])
            axis.axhline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
            count_axis(axis, (p["labels"] for p in shown))
            axis.set(xlabel="labels", ylabel="normalised score", title=f"{env}: {title}")
            legend_below(axis)
    return figure


STUDY = Study(
    name="label_efficiency",
    help="score of iterated RLHF over the number of labels, by teacher and by query strategy",
    algo=(ALGO,),
    env=("lane_keep",),
    fixed=True,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 20, "demos": (64,), "episodes": 256},
        "full": {"seeds": 20, "demos": (64,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
)
