"""How much of RLHF's gain over SFT is repaired exposure bias, by the demonstrator's quality and the
reward's accuracy?

RLHF's gain over BC is compared with two other quantities. One is the gain of DAgger and of GAIL
over the same BC at the same demonstrations, which can only come from corrected exposure bias. The
other is RLHF's score above the demonstrator's, which imitation cannot reach. Fewer labels make the
reward less accurate.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.horizon import slopes
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.qualities import (
    QUALITY_OF,
    Point,
    measured,
    option_of,
    paired,
    qualities_of,
)
from irl_bench.studies.study import (
    FLAG_HIDDEN,
    Part,
    Result,
    Row,
    Study,
    count_axis,
    narrowed,
    with_intervals,
)

QUALITIES = {"smoke": ("50",), "default": ("50", "100")}
"""Qualities by budget; `full` compares all that the world has."""
LABELS = {
    "smoke": (50,),
    "default": (10, 30, 100, 300, 1000),
    "full": (10, 30, 100, 300, 1000, 3000),
}
"""Numbers of RLHF's labels by budget."""
OTHERS = ("bc", "dagger", "gail")
"""The algorithms that RLHF is compared with."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of `OTHERS` and one of RLHF per number of labels, in each world and at each
    quality of the demonstrator."""
    (count,) = demos
    sweeps = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))
        only = request.settings.get(env, {}).get("demonstrator")
        all_of = QUALITIES.get(request.budget) or qualities_of(env, "full")
        for quality in all_of if only is None else (QUALITY_OF[only],):
            chosen = {
                **request.settings,
                env: {**request.settings.get(env, {}), **option_of(quality)},
            }
            others = OTHERS[:1] if request.budget == "smoke" else OTHERS
            runs = [("others", others, {})]
            runs += [
                (str(labels), ("rlhf",), {"labels": labels}) for labels in LABELS[request.budget]
            ]
            for place, algos, changes in runs:
                settings = (
                    {**chosen, "rlhf": {**request.settings.get("rlhf", {}), **changes}}
                    if changes
                    else chosen
                )
                name = f"{env}/{quality}/{place}"
                changed = narrowed(
                    request,
                    algo=algos,
                    env=(env,),
                    mode=(mode,),
                    demos=count,
                    settings=settings,
                    out=str(out / name),
                )
                sweeps.append(Part(name, changed, report=False))
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the decomposition of RLHF's gain at each quality and number of labels."""
    points: list[Point] = []
    for name, data in reports.items():
        env, quality, place = name.split("/")
        points += measured(env, quality, place, data)
    rows: dict[str, list[Row]] = {}
    for env, quality in dict.fromkeys((p["env"], p["quality"]) for p in points):
        group = [p for p in points if (p["env"], p["quality"]) == (env, quality)]
        others = {p["algo"]: p for p in group if p["place"] == "others"}
        for point in (p for p in group if p["algo"] == "rlhf"):
            rows.setdefault(
                f"{env}: RLHF's gain over BC, in scores, mean over seeds [95 % interval]", []
            ).append(split(point, others))
    text = [
        "Score: (J - J_random) / (J_expert - J_random). Share repaired: the larger of DAgger's and "
        "GAIL's gain over RLHF's. Intervals: jackknife-t over seeds, differences paired by seed. "
        "With the expert's demonstrations no policy can be above the demonstrator, so the whole "
        "gain is repaired exposure bias by construction.",
        FLAG_HIDDEN,
    ]
    return {
        "title": "How much of RLHF's gain is repaired exposure bias?",
        "text": text,
        "tables": rows,
        "points": points,
    }


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws RLHF's score over labels beside the others' scores, a panel per world and quality."""
    points = result["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    figure = Figure(figsize=(7.0, 2.6 * ((len(panels) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours = series.colours([p["algo"] for p in points])
    for axis, (env, quality) in zip(axes, panels, strict=False):
        group = [p for p in points if (p["env"], p["quality"]) == (env, quality)]
        score_of = lambda p: (np.array(p["return"]) - p["random"]) / p["unit"]
        for p in (p for p in group if p["algo"] != "rlhf"):
            axis.axhline(score_of(p)[0], color=colours[p["algo"]], lw=1.2, label=p["algo"])
        rlhf = sorted((p for p in group if p["algo"] == "rlhf"), key=lambda p: p["labels"])
        with_intervals(
            axis,
            [p["labels"] for p in rlhf],
            [score_of(p) for p in rlhf],
            colours["rlhf"],
            "rlhf",
        )
        axis.axhline(
            (group[0]["demonstrator"] - group[0]["random"]) / group[0]["unit"],
            color="#444444",
            lw=0.7,
            ls=(0, (4, 3)),
        )
        count_axis(axis, (p["labels"] for p in rlhf))
        axis.set(
            xlabel="labels",
            ylabel="normalised score",
            title=f"{env}, demonstrator of {quality} % (dashed)",
        )
        axis.legend(loc="best", frameon=False, fontsize=7)
    return figure


def split(point: Point, others: Mapping[str, Point]) -> Row:
    """Decomposes RLHF's gain over BC at one quality; scores, paired by seed.

    Args:
      point: RLHF, one-shot or iterated.
      others: the points of BC and, if they ran, of DAgger and GAIL, by algorithm.

    Returns:
      A row with RLHF's gain over BC, the gains of DAgger and GAIL over BC, the share repaired, and
      RLHF's score above the demonstrator's. The share repaired is the larger of DAgger's and GAIL's
      gain divided by RLHF's; it is missing unless the interval of RLHF's gain lies above 0.
    """
    bc, dagger_point, gail_point = others["bc"], others.get("dagger"), others.get("gail")
    total, dagger, gail = (paired(p, bc) for p in (point, dagger_point, gail_point))
    gains = [
        (gain[0], imitator)
        for gain, imitator in ((dagger, dagger_point), (gail, gail_point))
        if gain and imitator is not None and np.isfinite(gain[0])
    ]
    share = (
        ratio(max(gains, key=lambda pair: pair[0])[1], point, bc)
        if gains and total and total[1] > 0
        else None
    )
    show = lambda values: spread(values) if values else tables.MISSING
    return {
        "quality": f"{point['quality']} %",
        "RLHF": point["algo"],
        "labels": point["labels"],
        "accuracy on fresh pairs": point["accuracy"],
        "gain over BC": show(total),
        "DAgger's": show(dagger),
        "GAIL's": show(gail),
        "share repaired": show(share),
        "above the mean demonstrator": spread(point["over_mean"]),
    }


def ratio(point: Point, other: Point, bc: Point) -> list[float]:
    """Returns [gain of `point` over BC / gain of `other` over BC, low, high] over the seeds that
    all three have."""
    shared = set(point["seed_ids"]) & set(other["seed_ids"]) & set(bc["seed_ids"])
    returns = np.array(
        [
            [p["returns"][p["seed_ids"].index(seed)] for p in (point, other, bc)]
            for seed in sorted(shared)
        ]
    )
    gains = returns[:, :2] - returns[:, 2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = slopes.jackknife_t(gains, lambda m: m[..., 0] / m[..., 1])
    return [float(x) for x in estimate]


STUDY = Study(
    name="decomposition",
    help="RLHF's gain over BC beside DAgger's and GAIL's, by the demonstrator's quality and the "
    "reward's accuracy",
    algo=(*OTHERS, "rlhf"),
    env=("lane_keep",),
    fixed=False,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 10, "demos": (96,), "episodes": 256},
        "full": {"seeds": 20, "demos": (96,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
)
