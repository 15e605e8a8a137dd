"""How does the score grow with the number of comparisons, by teacher and by query strategy?

`rlhf_iterated` runs at each number of labels: with the oracle under each query strategy, and with
each teacher under uniform queries. All runs share seeds, demonstrations and evaluation episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.preferences.queries import QUERIES
from irl_bench.preferences.teachers import TEACHERS
from irl_bench.report import ReportData, series, training
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import (
    Part,
    Result,
    Row,
    Study,
    count_axis,
    interval,
    narrowed,
    scores,
    with_intervals,
)

LABELS: Mapping[str, tuple[int, ...]] = {
    "smoke": (50,),
    "default": (50, 150, 500, 1500),
    "full": (50, 150, 500, 1500, 4500),
}
"""Numbers of labels by budget."""
ALGO = "rlhf_iterated"
"""The algorithm that the study runs."""


def asked(budget: str) -> list[tuple[str, str]]:
    """Returns the (teacher, query strategy) of every line of the study."""
    lines = [("oracle", kind) for kind in QUERIES] + [
        (name, "uniform") for name in TEACHERS if name != "oracle"
    ]
    return lines[:2] if budget == "smoke" else lines


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep for each world, number of labels, teacher and query strategy."""
    (count,) = demos
    sweeps = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))
        for labels in LABELS[request.budget]:
            for teacher, queries in asked(request.budget):
                place = f"{env}/{labels}/{teacher}-{queries}"
                settings = {
                    **request.settings.get(ALGO, {}),
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
                    settings={**request.settings, ALGO: settings},
                )
                sweeps.append(Part(place, changed, report=False))
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns score and accuracy of the reward at each number of labels."""
    points: list[Row] = []
    rows: dict[str, list[Row]] = {}
    for name, data in reports.items():
        env, labels, line = name.split("/")
        teacher, queries = line.split("-")
        (curve,) = (c for c in data.curves if c.algo == ALGO)
        score = scores(data, env, ALGO, curve.mode)
        assert score is not None
        accuracy = training.metric(data, curve, "reward_accuracy")
        answered = training.metric(data, curve, "answered")
        last = lambda metric: float(np.mean(metric[1][:, -1])) if metric else None
        point = {
            "env": env,
            "labels": int(labels),
            "teacher": teacher,
            "queries": queries,
            "score": interval(score),
            "scores": score.tolist(),
            "accuracy": last(accuracy),
            "answered": last(answered),
        }
        points.append(point)
        rows.setdefault(f"{env}: {ALGO}, mean over seeds [95 % interval]", []).append(
            {
                "labels": point["labels"],
                "teacher": teacher,
                "queries": queries,
                "score": spread(point["score"]),
                "worst seed": float(score.min()),
                "accuracy on fresh pairs": point["accuracy"],
                "answered": point["answered"],
                "env steps": curve.consumes[1],
                "seeds": len(score),
            }
        )
    text = [
        "Score: 1 is the expert, 0 a random policy. Labels: comparisons that the teacher was asked "
        "for; answered: those that it did not skip."
    ]
    return {"title": "Score over labels", "text": text, "tables": rows, "points": points}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws score over labels, by query strategy and by teacher, a row per world."""
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
            fixed = "oracle" if held == "teacher" else "uniform"
            shown = [p for p in points if p["env"] == env and p[held] == fixed]
            names = list(dict.fromkeys(p[key] for p in shown))
            colours = series.colours(names)
            for name in names:
                chosen = sorted((p for p in shown if p[key] == name), key=lambda p: p["labels"])
                labels, values = ([p[field] for p in chosen] for field in ("labels", "score"))
                with_intervals(axis, labels, values, colours[name], name)
            axis.axhline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
            count_axis(axis, (p["labels"] for p in shown))
            axis.set(xlabel="labels", ylabel="normalised score", title=f"{env}: {title}")
            axis.legend(loc="best", frameon=False, fontsize=7)
    return figure


STUDY = Study(
    name="label_efficiency",
    help="score of iterated RLHF over the number of labels, by teacher and by query strategy",
    algo=(ALGO,),
    env=("lane_keep",),
    fixed=False,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 10, "demos": (64,), "episodes": 256},
        "full": {"seeds": 20, "demos": (64,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
)
