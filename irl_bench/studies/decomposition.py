"""How much of RLHF's gain over SFT is repaired exposure bias, by the demonstrator's quality and the
reward's accuracy?

RLHF's gain over BC is compared with the gains of DAgger and of GAIL over the same BC at the same
demonstrations, which are mostly repaired exposure bias, and with RLHF's score above the
demonstrator's. Part of a gain over BC is that of the clone that RLHF and GAIL begin with, since BC
holds out a tenth of the demonstrations, so the gain over the clone stands beside it. Fewer labels
make the reward less accurate.

The decomposition is that of rewards from which the failure flag is hidden. RLHF and GAIL are also
run with the flag seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies import iqm
from irl_bench.studies.drawing import (
    aside,
    count_axis,
    shared_legend,
    with_intervals,
    with_seeds,
)
from irl_bench.studies.failure_flag import FLAG_HIDDEN, check_arms, flag_seen, learns_reward
from irl_bench.studies.measures import spread
from irl_bench.studies.qualities import (
    QUALITY_OF,
    Point,
    measured,
    option_of,
    paired,
    qualities_of,
)
from irl_bench.studies.study import Part, Result, Row, Study, narrowed, refuse

FAULTLESS = ("lane_keep", "chain")
"""Worlds whose expert earns all that can be earned."""
CAPPED = (
    "The expert earns all that can be earned, so with its demonstrations no score can be above "
    "that of the demonstrator, and the whole gain is repaired exposure bias by construction."
)
QUALITIES = {"smoke": ("50",), "default": ("50", "100")}
"""Qualities by budget; `full` compares all that the world has."""
LABELS = {
    "smoke": (50,),
    "default": (10, 30, 100, 300, 1000),
    "full": (10, 30, 100, 300, 1000, 3000),
}
"""Numbers of RLHF's labels by budget."""
OTHERS = ("bc", "clone", "dagger", "gail")
"""The algorithms that RLHF is compared with."""
SEEN = "flag_seen"
"""Suffix of the folders of learners whose rewards see the failure flag."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of `OTHERS` and one of RLHF per number of labels, in each world and at each
    quality of the demonstrator. The learners of a reward among them run again with the failure flag
    seen, but at the budget `smoke`."""
    (count,) = demos
    check_arms(request, "decomposition", STUDY.algo)
    refuse(request, "decomposition", {"rlhf": ("labels",)})
    sweeps = []
    for env in request.env:
        mode = next(iter(registry.world(env).world.modes))
        only = request.settings.get(env, {}).get("demonstrator")
        all_of = QUALITIES.get(request.budget) or qualities_of(env, "full")
        for quality in all_of if only is None else (QUALITY_OF[only],):
            chosen = dataclasses.replace(
                request,
                env=(env,),
                mode=(mode,),
                demos=count,
                settings={
                    **request.settings,
                    env: {**request.settings.get(env, {}), **option_of(quality)},
                },
            )
            others = OTHERS[:1] if request.budget == "smoke" else OTHERS
            runs = [("others", others, None)]
            runs += [(str(labels), ("rlhf",), labels) for labels in LABELS[request.budget]]
            for place, algos, labels in runs:
                learners = tuple(algo for algo in algos if learns_reward(algo))
                for suffix, names in (("", algos), (f"_{SEEN}", learners)):
                    flags = registry.world(env).world.failure_flags
                    if suffix and not (names and flags and request.budget != "smoke"):
                        continue
                    settings = flag_seen(chosen, names) if suffix else dict(chosen.settings)
                    if labels is not None:
                        settings["rlhf"] = {**settings.get("rlhf", {}), "labels": labels}
                    name = f"{env}/{quality}/{place}{suffix}"
                    changed = narrowed(chosen, algo=names, settings=settings, out=str(out / name))
                    sweeps.append(Part(name, changed, report=False))
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the decomposition of RLHF's gain at each quality and number of labels."""
    points: list[Point] = []
    for name, data in reports.items():
        env, quality, place = name.split("/")
        points += measured(env, quality, place, data)
    rows: dict[str, list[Row]] = {}
    for env in dict.fromkeys(p["env"] for p in points):
        hidden = [p for p in points if p["env"] == env and not _sees(p)]
        seen = {_key(p): p for p in points if p["env"] == env and _sees(p)}
        gains = rows.setdefault(
            f"{env}: RLHF's gain over BC, in scores, IQM over seeds [interval]", []
        )
        for quality in dict.fromkeys(p["quality"] for p in hidden):
            group = [p for p in hidden if p["quality"] == quality]
            others = {p["algo"]: p for p in group if p["place"] == "others"}
            for point in (p for p in group if p["algo"] == "rlhf"):
                row = split(point, others)
                first = ("quality", "RLHF", "labels", "accuracy on fresh pairs")
                gains.append(
                    {name: row[name] for name in first}
                    | both(point, seen.get(_key(point)))
                    | {name: value for name, value in row.items() if name not in first}
                )
        rows[f"{env}: scores, IQM over seeds [interval]"] = [
            {"quality": f"{p['quality']} %", "algorithm": p["algo"], "labels": p["labels"]}
            | both(p, seen.get(_key(p)))
            | {
                "worst seed": float(score_of(p).min()),
                "lost seeds": " / ".join(str(lost(one)) for one in (p, seen.get(_key(p))) if one),
                "seeds": p["seeds"],
            }
            for p in hidden
        ]
    text = [
        "Score: (J - J_random) / (J_expert - J_random), with J_random the return of uniformly "
        "random actions. DAgger's and GAIL's shares: their gain over BC by RLHF's, whose seeds are "
        "resampled together. A ratio has no simulated coverage. A seed is lost if its score is "
        f"below {iqm.LOST:g} of its demonstrator's; counts are those with the flag hidden / seen.",
        *[CAPPED for p in points[:1] if p["env"] in FAULTLESS],
        f"{iqm.TEXT} Differences are paired by seed.",
        f"{FLAG_HIDDEN} Gains and shares are those of the hidden flag.",
    ]
    return {
        "title": "How much of RLHF's gain is repaired exposure bias?",
        "text": text,
        "tables": rows,
        "points": points,
    }


def _sees(point: Mapping[str, Any]) -> bool:
    """Returns whether the rewards of a point's part see the failure flag."""
    return point["place"].endswith(SEEN)


def _key(point: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns what a point has in common with the one whose reward sees the flag."""
    return point["quality"], point["place"].removesuffix(f"_{SEEN}"), point["algo"]


def score_of(point: Mapping[str, Any]) -> np.ndarray:
    """Returns the normalised score of each seed, float[S]."""
    return (np.array(point["returns"]) - point["random"]) / point["unit"]


def lost(point: Mapping[str, Any]) -> int:
    """Returns how many seeds score less than the share `iqm.LOST` of their demonstrator's score."""
    demonstrator = (point["demonstrator"] - point["random"]) / point["unit"]
    return iqm.lost(score_of(point) / demonstrator)


def both(point: Point, seen: Point | None) -> Row:
    """Returns the columns of the score with the flag hidden and, if it was run, with it seen."""
    return {
        "score, flag hidden": spread(iqm.interval(score_of(point))),
        "flag seen": spread(iqm.interval(score_of(seen))) if seen else tables.MISSING,
    }


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws RLHF's score over labels beside the others' scores, a panel per world and quality: each
    seed, and the intervals of their interquartile means. The others' seeds stand at the left.
    Dashed: the flag seen."""
    points = result["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    columns = max(1, min(2, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(3.5 * columns, 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    colours = series.colours([p["algo"] for p in points])
    for axis, (env, quality) in zip(axes, panels, strict=False):
        group = [p for p in points if (p["env"], p["quality"]) == (env, quality)]
        counts = sorted({p["labels"] for p in group if p["algo"] == "rlhf"})
        others = [p for p in group if p["algo"] != "rlhf"]
        for index, p in enumerate(others):
            each, colour = score_of(p), colours[p["algo"]]
            dash, label = ("--", f"{p['algo']} (flag seen)") if _sees(p) else ("-", p["algo"])
            axis.axhline(iqm.interval(each)[0], color=colour, lw=1.2, ls=dash, label=label)
            with_seeds(axis, [counts[0] * 0.6 ** (1 + index / 4)], [each.tolist()], colour)
        sights = sorted({_sees(p) for p in group if p["algo"] == "rlhf"})
        for index, seen in enumerate(sights):
            rlhf = sorted(
                (p for p in group if p["algo"] == "rlhf" and _sees(p) == seen),
                key=lambda p: p["labels"],
            )
            x = aside((p["labels"] for p in rlhf), index, len(sights))
            values = [iqm.interval(score_of(p)) for p in rlhf]
            label = "rlhf (flag seen)" if seen else "rlhf"
            with_intervals(axis, x, values, colours["rlhf"], label, "--" if seen else "-")
            with_seeds(axis, x, [score_of(p).tolist() for p in rlhf], colours["rlhf"])
        axis.axhline(
            (group[0]["demonstrator"] - group[0]["random"]) / group[0]["unit"],
            color="#444444",
            lw=0.7,
            ls=(0, (1, 1)),
        )
        count_axis(axis, counts)
        axis.set(
            xlabel="labels",
            ylabel="normalised score",
            title=f"{env}, demonstrator of {quality} % (dotted)",
        )
    shared_legend(figure, 2 * columns)
    return figure


def split(point: Point, others: Mapping[str, Point]) -> Row:
    """Decomposes RLHF's gain over BC at one quality; scores, paired by seed.

    Args:
      point: RLHF, one-shot or iterated.
      others: the points of BC and, if they ran, of the clone, DAgger and GAIL, by algorithm.

    Returns:
      A row with RLHF's gain over BC and over the clone, the gains of DAgger and GAIL over BC, their
      shares of RLHF's, and RLHF's score above the demonstrator's. The shares are missing unless the
      interval of RLHF's gain lies above 0.
    """
    bc, imitators = others["bc"], {name: others.get(name) for name in ("dagger", "gail")}
    total = paired(point, bc)
    over_clone = paired(point, others["clone"]) if "clone" in others else None
    gains = {name: paired(imitator, bc) for name, imitator in imitators.items()}
    shares = {
        name: ratio(imitator, point, bc) if imitator and total and total[1] > 0 else None
        for name, imitator in imitators.items()
    }
    show = lambda values: spread(values) if values else tables.MISSING
    return {
        "quality": f"{point['quality']} %",
        "RLHF": point["algo"],
        "labels": point["labels"],
        "accuracy on fresh pairs": point["accuracy"],
        "gain over BC": show(total),
        "over the clone": show(over_clone),
        "DAgger's": show(gains["dagger"]),
        "GAIL's": show(gains["gail"]),
        "DAgger's share": show(shares["dagger"]),
        "GAIL's share": show(shares["gail"]),
        "above the mean demonstrator": spread(point["over_mean"]),
    }


def ratio(point: Point, other: Point, bc: Point) -> list[float]:
    """Returns [IQM of the gain of `point` over BC / that of `other`, low, high] over the seeds that
    all three have."""
    shared = set(point["seed_ids"]) & set(other["seed_ids"]) & set(bc["seed_ids"])
    returns = np.array(
        [
            [p["returns"][p["seed_ids"].index(seed)] for p in (point, other, bc)]
            for seed in sorted(shared)
        ]
    )
    gains = returns[:, :2] - returns[:, 2:]
    return iqm.ratio(gains[:, 0], gains[:, 1])


STUDY = Study(
    name="decomposition",
    help="RLHF's gain over BC beside DAgger's and GAIL's, by the demonstrator's quality and the "
    "reward's accuracy",
    algo=(*OTHERS, "rlhf"),
    env=("lane_keep",),
    fixed=True,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 20, "demos": (96,), "episodes": 256},
        "full": {"seeds": 20, "demos": (96,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
)
