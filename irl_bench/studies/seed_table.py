"""The table the project was founded to test: who corrects exposure bias, and who outperforms the
data?

    claimed          corrects exposure bias    outperforms its data
    SFT (BC)         No                        No
    inverse RL       Yes                       No
    RLHF             Yes                       Yes

Each is measured at equal demonstrations, over demonstrators of several qualities, by rules written
down before:

- corrects exposure bias. Yes: the horizon verdict is LINEAR or NO-REGRET, or regret at T_max
  (against the demonstrator) falls by 30 % or more against BC's, the interval of the fall above 0.
  No: QUADRATIC or SATURATED and no such fall. There is no fall where BC's own regret is not above 0
  (its interval's lower end): a clone as bad as its demonstrator has nothing to correct. NO-REGRET
  says that no regret is seen at some horizon of the window, not that nothing fails: read such a Yes
  with the score.
- outperforms its data, x = (J - J_best) / (J_expert - J_random) with J_best the return of the best
  of 64 rollouts of the demonstrator. Yes: the interval lies above 0, also after Holm's correction
  over the cells of the world's table, the p of J <= J_best below 0.025, as the interval's lower end
  leaves 2.5 %. No: its upper end is at most 0.02.
- everything else is Undetermined.

The decomposition asks how much of RLHF's gain over BC is repaired exposure bias: what DAgger and
GAIL recover of it at the same demonstrations, and what is left above the demonstrator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from irl_bench.plan import build as plans
from irl_bench.plan import presets as table
from irl_bench.plan import registry
from irl_bench.plan.build import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies.decomposition import split
from irl_bench.studies.demo_efficiency import spread
from irl_bench.studies.qualities import (
    QUALITIES,
    QUALITY_OF,
    ROLLOUTS,
    measured,
    option_of,
    paired,
    qualities_of,
)
from irl_bench.studies.study import FLAG_SEEN, Part, Study, mean, narrowed, shared

CLASSES: Mapping[str, str] = {
    "bc": "SFT",
    "gail": "inverse RL",
    "airl": "inverse RL",
    "rlhf": "RLHF",
    "rlhf_iterated": "RLHF",
}
CLAIMED: Mapping[str, tuple[str, str]] = {
    "SFT": ("No", "No"),
    "inverse RL": ("Yes", "No"),
    "RLHF": ("Yes", "Yes"),
}
COMPARED = (*CLASSES, "dagger")
CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "true_reward": ("ppo", {"init": "bc", "reward": "true"}),
    "constant_reward": ("ppo", {"init": "bc", "reward": "constant"}),
    "shuffled_labels": ("rlhf", {"shuffled": True}),
    "best_demos": ("bc", {"top": 0.1}),
}
"""Folder -> (algorithm, settings); `ppo` has RLHF's otherwise, but under the constant reward the
policy is held for half of the
rounds: a value that is still on its way from 0 to 1 / (1 - gamma) is higher where the policy is
  often, and going there again
looks like an advantage. A fifth, `more_demos`, is BC with RLHF's labels spent on demonstrations:
a segment each."""
FALL = 0.3
"""A fall of regret by this share counts as corrected."""
EQUIVALENT = 0.02
"""An advantage below this share of the expert's counts as none."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    (count,) = demos
    algos = {"smoke": ("bc", "rlhf"), "default": COMPARED, "full": COMPARED}[request.budget]
    found = []
    for env in request.env:

        def one(
            place: str,
            algos: Sequence[str],
            quality: str,
            env: str = env,
            demos: int = count,
            **own: Any,
        ) -> Part:
            place = f"{env}/{quality}/{place}"
            settings = {
                **request.settings,
                env: {**request.settings.get(env, {}), **option_of(quality)},
            }
            for algo, values in own.items():
                usual = shared("rlhf", "ppo", request, env) if algo == "ppo" else {}
                if values.get("reward") == "constant":
                    values = {**values, "policy_delay": usual["rounds"] // 2}
                settings[algo] = {**usual, **settings.get(algo, {}), **values}
            mode = next(iter(registry.world(env).world.modes))
            asked = narrowed(
                request,
                algo=tuple(algos),
                env=(env,),
                mode=(mode,),
                demos=demos,
                settings=settings,
                out=str(out / place),
            )
            return Part(place, asked)

        qualities = qualities_of(env, request.budget)
        controlled = {"smoke": (), "default": ("50",), "full": QUALITIES}[request.budget]
        only = request.settings.get(env, {}).get("demonstrator")
        if only is not None:
            qualities, controlled = (QUALITY_OF[only],), (QUALITY_OF[only],) if controlled else ()
        for quality in qualities:
            found.append(one("compared", algos, quality))
        for quality in (quality for quality in controlled if quality in qualities):
            for name, (algo, values) in CONTROLS.items():
                found.append(one(name, (algo,), quality, **{algo: values}))
            found.append(one("more_demos", ("bc",), quality, demos=_richer(request, env, count)))
    return found


def _richer(request: Request, env: str, demos: int) -> int:
    """Demonstrations that hold as many more steps as RLHF's labels would buy at a segment each."""
    rlhf = plans.resolved(registry.algorithm("rlhf"), request, env)
    steps = request.demo_steps or table.budget_of(env, request.budget)["demo_steps"]
    return demos + -(-rlhf["labels"] * rlhf["segment"] // steps)


def corrects(verdict: str, fallen: Sequence[float] | None) -> str:
    """Yes, No or Undetermined by the rule on exposure bias; `fallen` as `fall` returns it, None
    for BC itself."""
    falls = fallen is not None and fallen[0] >= FALL and fallen[1] > 0
    if verdict in ("LINEAR", "NO-REGRET") or falls:
        return "Yes"
    return "No" if verdict in ("QUADRATIC", "SATURATED") else "Undetermined"


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979); NaN stays and counts."""
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
    """Yes, No or Undetermined by the rule on the data; `gain` is [x, low, high], `adjusted` its
    p after Holm's correction."""
    _, low, high = gain
    if low > 0 and adjusted < 0.025:
        return "Yes"
    return "No" if high <= EQUIVALENT else "Undetermined"


def read(found: Mapping[str, ReportData]) -> dict[str, Any]:
    points: list[dict[str, Any]] = []
    for name, data in found.items():
        points += measured(*name.split("/"), data)  # type: ignore[arg-type]
    rows: dict[str, list[dict[str, Any]]] = {}
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
        "J: return over T_max steps. Demonstrations are equal within a quality; labels and steps "
        "beside each score. Score: "
        "(J - J_random) / (J_expert - J_random). Above the best (mean): (J - J_best (J_mean)) / "
        "(J_expert - J_random), of the "
        f"best of {ROLLOUTS} rollouts (all evaluation rollouts) of the demonstrator. Intervals: "
        "jackknife-t over seeds, paired "
        "where two are compared.",
        "No regret at some horizon (NO-REGRET) counts as exposure bias corrected, though longer "
        "horizons may have failures. "
        "From the expert's data nothing can be above the demonstrator: by construction all of a "
        "gain is repaired exposure "
        "bias.",
        FLAG_SEEN,
        *_agreement(points),
    ]
    return {
        "title": "Who corrects exposure bias, and who outperforms the data?",
        "text": text,
        "tables": rows,
        "points": points,
    }


def _verdict_row(point: Mapping[str, Any]) -> dict[str, Any]:
    kind = CLASSES[point["algo"]]
    claimed = CLAIMED[kind]
    return {
        "quality": f"{point['quality']} %",
        "class": kind,
        "algorithm": point["algo"],
        "corrects exposure bias": point["corrects"],
        "claimed ": claimed[0],
        "outperforms its data": point["outperforms"],
        "claimed": claimed[1],
        "score": spread(_score(point)),
        "verdict": point["verdict"],
    }


def _score(point: Mapping[str, Any]) -> list[float]:
    return mean((np.array(point["returns"]) - point["random"]) / point["unit"])


def _figures_row(point: Mapping[str, Any]) -> dict[str, Any]:
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


def decomposition(family: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`split` of RLHF, one-shot and iterated, at every quality."""
    rows = []
    for quality in dict.fromkeys(point["quality"] for point in family):
        own = {p["algo"]: p for p in family if p["quality"] == quality and p["place"] == "compared"}
        rows += [
            split(own[algo], own)
            for algo in ("rlhf", "rlhf_iterated")
            if "bc" in own and algo in own
        ]
    return rows


def again(family: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Iterated less one-shot RLHF at every quality, paired by seed; the iterated one's reward
    takes more gradient steps too."""
    rows = []
    for quality in dict.fromkeys(point["quality"] for point in family):
        own = {p["algo"]: p for p in family if p["quality"] == quality and p["place"] == "compared"}
        gain = paired(own.get("rlhf_iterated"), own["rlhf"]) if "rlhf" in own else None
        if gain:
            rows.append(
                {
                    "quality": f"{quality} %",
                    "iterated less one-shot": spread(gain),
                    "labels": own["rlhf"]["labels"],
                }
            )
    return rows


def _agreement(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence per world and class: what was measured against what was claimed."""
    lines = []
    for env in dict.fromkeys(point["env"] for point in points):
        for kind, claimed in CLAIMED.items():
            own = [
                p
                for p in points
                if p["env"] == env and p["place"] == "compared" and CLASSES.get(p["algo"]) == kind
            ]
            if not own:
                continue
            for question, claim in zip(("corrects", "outperforms"), claimed, strict=True):
                counts = {
                    word: sum(p[question] == word for p in own)
                    for word in ("Yes", "No", "Undetermined")
                }
                told = ", ".join(f"{word} in {count}" for word, count in counts.items() if count)
                what = (
                    "corrects exposure bias" if question == "corrects" else "outperforms its data"
                )
                lines.append(
                    f"{env}: {kind} {what}: claimed {claim}; measured {told} of {len(own)} cells."
                )
    return lines


def draw(found: Mapping[str, Any]) -> Figure:
    """A forest plot per world and quality: score of each seed and its mean's interval, beside
    the demonstrator's."""
    points = found["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(7.0, 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (env, quality) in zip(axes, panels, strict=False):
        own = [p for p in points if (p["env"], p["quality"]) == (env, quality)][::-1]
        colours = series.colours([p["algo"] for p in points])
        for y, p in enumerate(own):
            each = (np.array(p["returns"]) - p["random"]) / p["unit"]
            middle, low, high = np.array(mean(each), float)
            axis.plot(each, [y] * len(each), ".", color="#999999", ms=2.5)
            axis.plot([low, high], [y, y], color=colours[p["algo"]], lw=1.5)
            axis.plot([middle], [y], "o", color=colours[p["algo"]], ms=4)
        first = own[0]
        for value, style in ((first["demonstrator"], (0, (4, 3))), (first["best"], (0, (1, 1)))):
            axis.axvline(
                (value - first["random"]) / first["unit"], color="#444444", lw=0.7, ls=style
            )
        names = [
            p["algo"] if p["place"] == "compared" else p["place"].replace("_", " ") for p in own
        ]
        axis.set_yticks(range(len(own)), names)
        axis.set(
            title=f"{env}, demonstrator of {quality} %",
            xlabel="score (dashed: demonstrator, dotted: its best)",
        )
        axis.xaxis.label.set_size(7)
    return figure


STUDY = Study(
    name="seed_table",
    help="SFT, inverse RL and RLHF over demonstrators of 25 to 100 %: exposure bias corrected? "
    "data outperformed?",
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
