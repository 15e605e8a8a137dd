"""Which class of algorithms corrects exposure bias, and which outperforms its data?

    claimed          corrects exposure bias    outperforms its data
    SFT (BC)         No                        No
    inverse RL       Yes                       No
    RLHF             Yes                       Yes

The study tests these claims at equal demonstrations, over demonstrators of several qualities, by
rules fixed before the measurement:

- "corrects exposure bias" is Yes if the horizon verdict is LINEAR or NO-REGRET, or if regret at
  T_max (against the demonstrator) falls by 30 % or more against BC's, with the interval of the fall
  above 0. It is No if the verdict is QUADRATIC or SATURATED and there is no such fall. Unless the
  interval of BC's own regret lies above 0 there is no fall: a clone as good as its demonstrator has
  nothing to correct. NO-REGRET means that no regret is seen at some horizon of the window, not that
  nothing fails, so such a Yes has to be read together with the score.
- "outperforms its data" looks at x = (J - J_best) / (J_expert - J_random), with J_best the return
  of the best of 64 rollouts of the demonstrator. It is Yes if the interval of x lies above 0 and
  the p-value of J <= J_best is below 0.025 after Holm's correction over the cells of the world's
  table. It is No if the upper end of the interval is at most 0.02.
- Everything else is Undetermined.

The decomposition compares RLHF's gain over BC with the gains of DAgger and GAIL at the same
demonstrations, which come from repaired exposure bias, and with RLHF's score above the
demonstrator's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import build, registry
from irl_bench.plan.presets import budget_of
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.decomposition import split
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.qualities import (
    QUALITIES,
    QUALITY_OF,
    ROLLOUTS,
    Point,
    measured,
    option_of,
    paired,
    qualities_of,
)
from irl_bench.studies.study import FLAG_SEEN, Part, Result, Row, Study, interval, narrowed, shared

CLASSES: Mapping[str, str] = {
    "bc": "SFT",
    "gail": "inverse RL",
    "airl": "inverse RL",
    "rlhf": "RLHF",
    "rlhf_iterated": "RLHF",
}
"""Algorithm -> the class of the claim."""
CLAIMED: Mapping[str, tuple[str, str]] = {
    "SFT": ("No", "No"),
    "inverse RL": ("Yes", "No"),
    "RLHF": ("Yes", "Yes"),
}
"""Class -> (corrects exposure bias, outperforms its data), as claimed."""
COMPARED = (*CLASSES, "dagger")
"""The algorithms that are compared at equal demonstrations."""
CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "true_reward": ("ppo", {"init": "bc", "reward": "true"}),
    "constant_reward": ("ppo", {"init": "bc", "reward": "constant"}),
    "shuffled_labels": ("rlhf", {"shuffled": True}),
    "best_demos": ("bc", {"top": 0.1}),
}
"""Control's folder -> (algorithm, settings); the other settings of `ppo` are RLHF's.

Under the constant reward the policy does not change in the first half of the rounds. A value that
is still rising from 0 to 1 / (1 - gamma) is higher in states that the policy visits often, so that
returning to them looks like an advantage. A fifth control, `more_demos`, is BC with additional
demonstrations instead of RLHF's labels, a segment for each label."""
FALL = 0.3
"""A fall of regret by this share counts as corrected."""
EQUIVALENT = 0.02
"""An advantage below this share of the expert's counts as none."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns, for each world and quality, a sweep of the compared algorithms and sweeps of the
    controls."""
    (count,) = demos
    algos = {"smoke": ("bc", "rlhf"), "default": COMPARED, "full": COMPARED}[request.budget]
    sweeps = []
    for env in request.env:

        def part(
            place: str,
            algos: Sequence[str],
            quality: str,
            changes: Mapping[str, Mapping[str, Any]],
            env: str = env,
            demos: int = count,
        ) -> Part:
            """Returns a sweep; `changes` are settings by algorithm."""
            place = f"{env}/{quality}/{place}"
            settings = {
                **request.settings,
                env: {**request.settings.get(env, {}), **option_of(quality)},
            }
            for algo, values in changes.items():
                rlhf = shared("rlhf", "ppo", request, env) if algo == "ppo" else {}
                if values.get("reward") == "constant":
                    values = {**values, "policy_delay": rlhf["rounds"] // 2}
                settings[algo] = {**rlhf, **settings.get(algo, {}), **values}
            mode = next(iter(registry.world(env).world.modes))
            changed = narrowed(
                request,
                algo=tuple(algos),
                env=(env,),
                mode=(mode,),
                demos=demos,
                settings=settings,
                out=str(out / place),
            )
            return Part(place, changed)

        qualities = qualities_of(env, request.budget)
        controlled = {"smoke": (), "default": ("50",), "full": QUALITIES}[request.budget]
        only = request.settings.get(env, {}).get("demonstrator")
        if only is not None:
            qualities, controlled = (QUALITY_OF[only],), (QUALITY_OF[only],) if controlled else ()
        for quality in qualities:
            sweeps.append(part("compared", algos, quality, {}))
        for quality in (quality for quality in controlled if quality in qualities):
            for name, (algo, values) in CONTROLS.items():
                sweeps.append(part(name, (algo,), quality, {algo: values}))
            richer = _richer(request, env, count)
            sweeps.append(part("more_demos", ("bc",), quality, {}, demos=richer))
    return sweeps


def _richer(request: Request, env: str, demos: int) -> int:
    """Returns `demos` plus the number of demonstrations that hold a segment's steps for each of
    RLHF's labels."""
    rlhf = build.resolved(registry.algorithm("rlhf"), request, env)
    steps = request.demo_steps or budget_of(env, request.budget).demo_steps
    return demos + -(-rlhf["labels"] * rlhf["segment"] // steps)


def corrects(verdict: str, fallen: Sequence[float] | None) -> str:
    """Applies the rule on exposure bias.

    Args:
      verdict: the horizon verdict.
      fallen: the fall of regret against BC, as `qualities.fall` returns it; None for BC itself.

    Returns:
      "Yes", "No" or "Undetermined".
    """
    falls = fallen is not None and fallen[0] >= FALL and fallen[1] > 0
    if verdict in ("LINEAR", "NO-REGRET") or falls:
        return "Yes"
    return "No" if verdict in ("QUADRATIC", "SATURATED") else "Undetermined"


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm's step-down adjusted p-values (Holm 1979). NaN remains and counts as a test."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    adjusted = np.empty(len(values))
    running = 0.0
    for rank, index in enumerate(order):
        running = (
            max(running, min(1.0, (len(values) - rank) * values[index]))
            if values[index] == values[index]
            else np.nan
        )
        adjusted[index] = running
    return adjusted.tolist()


def outperforms(gain: Sequence[float], adjusted: float) -> str:
    """Applies the rule on outperforming the data.

    Args:
      gain: [x, low, high].
      adjusted: its p-value after Holm's correction.

    Returns:
      "Yes", "No" or "Undetermined".
    """
    _, low, high = gain
    if low > 0 and adjusted < 0.025:
        return "Yes"
    return "No" if high <= EQUIVALENT else "Undetermined"


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the verdicts of every world and quality, and the numbers that they rest on."""
    points: list[Point] = []
    for name, data in reports.items():
        env, quality, place = name.split("/")
        points += measured(env, quality, place, data)
    rows: dict[str, list[Row]] = {}
    for env in dict.fromkeys(point["env"] for point in points):
        family = [point for point in points if point["env"] == env]
        cells = [
            point for point in family if point["algo"] in CLASSES and point["place"] == "compared"
        ]
        for point, adjusted in zip(cells, holm([point["p"] for point in cells]), strict=True):
            point["p_holm"] = adjusted
            point["corrects"] = corrects(point["verdict"], point["fall"])
            point["outperforms"] = outperforms(point["over_best"], adjusted)
        rows[f"{env}: Yes, No or Undetermined"] = [_verdict_row(point) for point in cells]
        rows[f"{env}: what they rest on, mean over seeds [95 % interval]"] = [
            _figures_row(p) for p in family
        ]
        rows[f"{env}: how much of RLHF's gain over BC is repaired exposure bias"] = decomposition(
            family
        )
        rows[f"{env}: iterated less one-shot RLHF at equal labels, in scores [95 % interval]"] = (
            again(family)
        )
    text = [
        "J: return over T_max steps. All algorithms have the same demonstrations within a quality; "
        "labels and steps stand beside each score. Score: (J - J_random) / (J_expert - J_random). "
        "Above the best (mean): (J - J_best (J_mean)) / (J_expert - J_random), with the best of "
        f"{ROLLOUTS} rollouts (the mean of all evaluation rollouts) of the demonstrator. "
        "Intervals: jackknife-t over seeds, paired where two algorithms are compared.",
        "No regret at some horizon (NO-REGRET) counts as exposure bias corrected, though longer "
        "horizons may have failures. With the expert's demonstrations no policy can be above the "
        "demonstrator, so the whole gain is repaired exposure bias by construction.",
        FLAG_SEEN,
        *_agreement(points),
    ]
    return {
        "title": "Who corrects exposure bias, and who outperforms the data?",
        "text": text,
        "tables": rows,
        "points": points,
    }


def _verdict_row(point: Point) -> Row:
    """Returns the verdicts of one cell beside the claims."""
    kind = CLASSES[point["algo"]]
    claimed = CLAIMED[kind]
    return {
        "quality": f"{point['quality']} %",
        "class": kind,
        "algorithm": point["algo"],
        "corrects exposure bias": point.get("corrects"),
        "claimed ": claimed[0],
        "outperforms its data": point.get("outperforms"),
        "claimed": claimed[1],
        "score": spread(_score(point)),
        "verdict": point["verdict"],
    }


def _score(point: Point) -> list[float]:
    """Returns [mean, low, high] of the normalised score."""
    return interval((np.array(point["returns"]) - point["random"]) / point["unit"])


def _figures_row(point: Point) -> Row:
    """Returns the numbers that the verdicts of one point rest on."""
    show = lambda values: spread(values) if values else tables.MISSING
    return {
        "quality": f"{point['quality']} %",
        "algorithm": point["algo"]
        + ("" if point["place"] == "compared" else f" ({point['place'].replace('_', ' ')})"),
        "score": spread(_score(point)),
        "above the best": spread(point["over_best"]),
        "p (Holm)": point.get("p_holm"),
        "above the mean": spread(point["over_mean"]),
        "regret": spread(point["regret"]),
        "fall against BC": show(point["fall"]),
        "slope": point["slope"],
        "h": point["hazard"],
        "ρ": point["recovery"],
        "expert queries": point["consumes"][0],
        "env steps": point["consumes"][1],
        "labels": point["labels"],
        "seeds": point["seeds"],
    }


def _compared(family: Sequence[Point]) -> dict[str, dict[str, Point]]:
    """Returns {quality: {algorithm: its point among the compared ones}}."""
    qualities = dict.fromkeys(point["quality"] for point in family)
    return {
        quality: {
            p["algo"]: p for p in family if p["quality"] == quality and p["place"] == "compared"
        }
        for quality in qualities
    }


def decomposition(family: Sequence[Point]) -> list[Row]:
    """Returns `split` of RLHF, one-shot and iterated, at every quality."""
    return [
        split(points[algo], points)
        for points in _compared(family).values()
        for algo in ("rlhf", "rlhf_iterated")
        if "bc" in points and algo in points
    ]


def again(family: Sequence[Point]) -> list[Row]:
    """Returns the score of iterated minus that of one-shot RLHF at every quality, paired by seed.

    The reward of iterated RLHF takes more gradient steps, too.
    """
    rows = []
    for quality, points in _compared(family).items():
        gain = paired(points.get("rlhf_iterated"), points["rlhf"]) if "rlhf" in points else None
        if gain:
            rows.append(
                {
                    "quality": f"{quality} %",
                    "iterated less one-shot": spread(gain),
                    "labels": points["rlhf"]["labels"],
                }
            )
    return rows


def _agreement(points: Sequence[Point]) -> list[str]:
    """Returns a sentence per world, class and question: what was claimed and what was measured."""
    lines = []
    for env in dict.fromkeys(point["env"] for point in points):
        for kind, claimed in CLAIMED.items():
            cells = [
                p
                for p in points
                if p["env"] == env and p["place"] == "compared" and CLASSES.get(p["algo"]) == kind
            ]
            if not cells:
                continue
            for question, claim in zip(("corrects", "outperforms"), claimed, strict=True):
                counts = {
                    word: sum(p.get(question) == word for p in cells)
                    for word in ("Yes", "No", "Undetermined")
                }
                result = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
                what = (
                    "corrects exposure bias" if question == "corrects" else "outperforms its data"
                )
                lines.append(
                    f"{env}: {kind} {what}: claimed {claim}; measured {result} of {len(cells)} "
                    "cells."
                )
    return lines


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws a forest plot per world and quality: the score of each seed and the interval of their
    mean, beside the demonstrator's score."""
    points = result["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(7.0, 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (env, quality) in zip(axes, panels, strict=False):
        group = [p for p in points if (p["env"], p["quality"]) == (env, quality)][::-1]
        colours = series.colours([p["algo"] for p in points])
        for y, p in enumerate(group):
            each = (np.array(p["returns"]) - p["random"]) / p["unit"]
            middle, low, high = np.array(interval(each), float)
            axis.plot(each, [y] * len(each), ".", color="#999999", ms=2.5)
            axis.plot([low, high], [y, y], color=colours[p["algo"]], lw=1.5)
            axis.plot([middle], [y], "o", color=colours[p["algo"]], ms=4)
        first = group[0]
        for value, style in ((first["demonstrator"], (0, (4, 3))), (first["best"], (0, (1, 1)))):
            axis.axvline(
                (value - first["random"]) / first["unit"], color="#444444", lw=0.7, ls=style
            )
        names = [
            p["algo"] if p["place"] == "compared" else p["place"].replace("_", " ") for p in group
        ]
        axis.set_yticks(range(len(group)), names)
        axis.set(
            title=f"{env}, demonstrator of {quality} %",
            xlabel="score (dashed: demonstrator, dotted: its best)",
        )
        axis.xaxis.label.set_size(7)
    return figure


STUDY = Study(
    name="seed_table",
    help="SFT, inverse RL and RLHF over demonstrators of 25 to 100 %: which corrects exposure "
    "bias, which outperforms its data?",
    algo=(*COMPARED, "ppo"),
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
