"""How much of RLHF's gain over SFT is repaired exposure bias? Over the demonstrator's quality and
the reward's accuracy.

RLHF's gain over BC is set beside what DAgger and GAIL gain over the same BC at the same
demonstrations, which is nothing but exposure bias corrected, and beside what RLHF has above the
demonstrator, which neither of them can have. The reward is made less accurate by fewer labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.horizon import slopes
from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.qualities import QUALITY_OF, measured, option_of, paired, qualities_of
from irl_bench.studies.study import FLAG_SEEN, Part, Study, count_axis, narrowed, with_intervals

QUALITIES = {"smoke": ("50",), "default": ("50", "100")}
"""By budget; `full` has all of the world's."""
LABELS = {
    "smoke": (50,),
    "default": (10, 30, 100, 300, 1000),
    "full": (10, 30, 100, 300, 1000, 3000),
}
OTHERS = ("bc", "dagger", "gail")


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    found = []
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
            wanted = [("others", others, {})]
            wanted += [
                (str(labels), ("rlhf",), {"labels": labels}) for labels in LABELS[request.budget]
            ]
            for place, algos, own in wanted:
                settings = (
                    {**chosen, "rlhf": {**request.settings.get("rlhf", {}), **own}}
                    if own
                    else chosen
                )
                name = f"{env}/{quality}/{place}"
                asked = narrowed(
                    request,
                    algo=algos,
                    env=(env,),
                    mode=(mode,),
                    demos=count,
                    settings=settings,
                    out=str(out / name),
                )
                found.append(Part(name, asked, report=False))
    return found


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    points: list[dict[str, Any]] = []
    for name, data in found.items():
        points += measured(*name.split("/"), data)  # type: ignore[arg-type]
    rows: dict[str, list[dict[str, Any]]] = {}
    for env, quality in dict.fromkeys((p["env"], p["quality"]) for p in points):
        own = [p for p in points if (p["env"], p["quality"]) == (env, quality)]
        others = {p["algo"]: p for p in own if p["place"] == "others"}
        for point in (p for p in own if p["algo"] == "rlhf"):
            rows.setdefault(
                f"{env}: RLHF's gain over BC, in scores, mean over seeds [95 % interval]", []
            ).append(split(point, others))
    text = [
        "Score: (J - J_random) / (J_expert - J_random). Share repaired: the larger of DAgger's and "
        "GAIL's gain over RLHF's. "
        "Intervals: jackknife-t over seeds, differences paired by seed. From the expert's data "
        "nothing can be above the "
        "demonstrator, so that there all of a gain is repaired exposure bias by construction.",
        FLAG_SEEN,
    ]
    return {
        "title": "How much of RLHF's gain is repaired exposure bias?",
        "text": text,
        "tables": rows,
        "points": points,
    }


def draw(found: Mapping[str, Any]) -> Figure:
    points = found["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    figure = Figure(figsize=(7.0, 2.6 * ((len(panels) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(panels) + 1) // 2, 2, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours = series.colours([p["algo"] for p in points])
    for axis, (env, quality) in zip(axes, panels, strict=False):
        own = [p for p in points if (p["env"], p["quality"]) == (env, quality)]
        score_of = lambda p: (np.array(p["return"]) - p["random"]) / p["unit"]
        for p in (p for p in own if p["algo"] != "rlhf"):
            axis.axhline(score_of(p)[0], color=colours[p["algo"]], lw=1.2, label=p["algo"])
        asked = sorted((p for p in own if p["algo"] == "rlhf"), key=lambda p: p["labels"])
        with_intervals(
            axis,
            [p["labels"] for p in asked],
            [score_of(p) for p in asked],
            colours["rlhf"],
            "rlhf",
        )
        axis.axhline(
            (own[0]["demonstrator"] - own[0]["random"]) / own[0]["unit"],
            color="#444444",
            lw=0.7,
            ls=(0, (4, 3)),
        )
        count_axis(axis, (p["labels"] for p in asked))
        axis.set(
            xlabel="labels",
            ylabel="normalised score",
            title=f"{env}, demonstrator of {quality} % (dashed)",
        )
        axis.legend(loc="best", frameon=False, fontsize=7)
    return figure


def split(point: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """RLHF's gain over BC, what DAgger and GAIL gain over BC, and what RLHF has above the
    demonstrator; in scores, paired.

    The share repaired is the larger of DAgger's and GAIL's gain over RLHF's, where that is above 0
    for certain.
    """
    bc, dagger_, gail_ = others["bc"], others.get("dagger"), others.get("gail")
    total, dagger, gail = (paired(one, bc) for one in (point, dagger_, gail_))
    gains = [
        (found[0], other)
        for found, other in ((dagger, dagger_), (gail, gail_))
        if found and np.isfinite(found[0])
    ]
    share = (
        ratio(max(gains, key=lambda one: one[0])[1], point, bc)
        if gains and total and total[1] > 0
        else None
    )
    show = lambda values: spread(values) if values else tables.MISSING
    return {
        "quality": f"{point['quality']} %",
        "RLHF": point["algo"],
        "labels": point["labels"],
        "accuracy kept back": point["accuracy"],
        "gain over BC": show(total),
        "DAgger's": show(dagger),
        "GAIL's": show(gail),
        "share repaired": show(share),
        "above the mean demonstrator": spread(point["over_mean"]),
    }


def ratio(
    one: Mapping[str, Any] | None, other: Mapping[str, Any], bc: Mapping[str, Any]
) -> list[float]:
    """[gain over BC of one / that of another, low, high] over the seeds that all three have."""
    assert one is not None
    shared = set(one["seed_ids"]) & set(other["seed_ids"]) & set(bc["seed_ids"])
    found = np.array(
        [
            [p["returns"][p["seed_ids"].index(seed)] for p in (one, other, bc)]
            for seed in sorted(shared)
        ]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = slopes.jackknife_t(found[:, :2] - found[:, 2:], lambda m: m[..., 0] / m[..., 1])
    return [float(x) for x in found]


STUDY = Study(
    name="decomposition",
    help="RLHF's gain over BC beside DAgger's and GAIL's, over the demonstrator's quality and the "
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
