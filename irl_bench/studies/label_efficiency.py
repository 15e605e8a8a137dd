"""Score over the number of comparisons: who answers, and which pairs are asked about.

`rlhf_iterated` at each number of labels: the oracle under each strategy of asking, and each teacher
where pairs are drawn uniformly. Seeds, demonstrations and evaluation episodes are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.preferences.queries import QUERIES
from irl_bench.preferences.teachers import TEACHERS
from irl_bench.report import ReportData, series, training
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.study import Part, Study, count_axis, mean, narrowed, scores, with_intervals

LABELS: Mapping[str, tuple[int, ...]] = {
    "smoke": (50,),
    "default": (50, 150, 500, 1500),
    "full": (50, 150, 500, 1500, 4500),
}
ALGO = "rlhf_iterated"


def asked(budget: str) -> list[tuple[str, str]]:
    """(teacher, queries) of every line of the study."""
    lines = [("oracle", kind) for kind in QUERIES] + [
        (name, "uniform") for name in TEACHERS if name != "oracle"
    ]
    return lines[:2] if budget == "smoke" else lines


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    found = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))
        for labels in LABELS[request.budget]:
            for teacher, queries in asked(request.budget):
                place = f"{env}/{labels}/{teacher}-{queries}"
                own = {
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
                    settings={**request.settings, ALGO: own},
                )
                found.append(Part(place, changed, report=False))
    return found


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    points, rows = [], {}
    for name, data in found.items():
        env, labels, line = name.split("/")
        teacher, queries = line.split("-")
        (curve,) = (c for c in data.curves if c.algo == ALGO)
        score = scores(data, env, ALGO, curve.mode)
        assert score is not None
        accuracy = training.metric(data, curve, "reward_accuracy")
        answered = training.metric(data, curve, "answered")
        last = lambda found: float(np.mean(found[1][:, -1])) if found else None
        point = {
            "env": env,
            "labels": int(labels),
            "teacher": teacher,
            "queries": queries,
            "score": mean(score),
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
                "accuracy kept back": point["accuracy"],
                "answered": point["answered"],
                "env steps": curve.consumes[1],
                "seeds": len(score),
            }
        )
    text = [
        "Score: 1 is the expert, 0 a random policy. Labels are comparisons asked for; answered: "
        "those that were not skipped."
    ]
    return {"title": "Score over labels", "text": text, "tables": rows, "points": points}


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
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
            here = [p for p in points if p["env"] == env and p[held] == fixed]
            names = list(dict.fromkeys(p[key] for p in here))
            colours = series.colours(names)
            for name in names:
                own = sorted((p for p in here if p[key] == name), key=lambda p: p["labels"])
                with_intervals(
                    axis, [p["labels"] for p in own], [p["score"] for p in own], colours[name], name
                )
            axis.axhline(1.0, color="#444444", lw=0.7, ls=(0, (4, 3)))
            count_axis(axis, (p["labels"] for p in here))
            axis.set(xlabel="labels", ylabel="normalised score", title=f"{env}: {title}")
            axis.legend(loc="best", frameon=False, fontsize=7)
    return figure


STUDY = Study(
    name="label_efficiency",
    help="score of iterated RLHF over the number of labels, by teacher and by which pairs are "
    "asked about",
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
