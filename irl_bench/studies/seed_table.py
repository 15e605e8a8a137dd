"""Which class of algorithms corrects exposure bias, and which outperforms its data?

The study tests what is claimed of SFT, inverse RL and RLHF (`claims`) at equal demonstrations, over
demonstrators of several qualities.

What a learned reward may see decides much: in `lane_keep` the true reward is the failure flag. So
every learner of a reward is run twice, without the flag (`hidden`, which counts) and with it
(`seen`), and the controls are those learners with another reward and all else equal. RLHF keeps the
clone that it begins with if no policy earns more of the learned reward less its KL term, so under
a constant reward it would return the clone whatever happened. Its constant reward is therefore
compared with RLHF that returns its last policy.

The decomposition compares RLHF's gain over BC with the gains of DAgger and GAIL at the same
demonstrations, which come from repaired exposure bias, and with RLHF's score above the
demonstrator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from irl_bench.core.settings import BadInput
from irl_bench.plan import build, registry
from irl_bench.plan.presets import budget_of
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies import claims, iqm
from irl_bench.studies.claims import ANSWERS, CLAIMED, CLASSES, SEEN
from irl_bench.studies.decomposition import CAPPED, FAULTLESS, lost, split
from irl_bench.studies.drawing import forest_rows
from irl_bench.studies.failure_flag import UNMASKED, check_arms, learns_reward
from irl_bench.studies.measures import spread
from irl_bench.studies.qualities import (
    QUALITIES,
    QUALITY_OF,
    ROLLOUTS,
    Point,
    kept_up,
    measured,
    option_of,
    paired,
    qualities_of,
)
from irl_bench.studies.study import Part, Result, Row, Study, narrowed

COMPARED = (*CLASSES, "dagger")
"""The algorithms that are compared at equal demonstrations."""
CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "true_reward": ("rlhf", {"control": "true_reward"}),
    "last_policy": ("rlhf", {"keep": "last"}),
    "last_policy_constant_reward": ("rlhf", {"keep": "last", "control": "constant_reward"}),
    "constant_reward_gail": ("gail", {"control": "constant_reward"}),
    "constant_reward_airl": ("airl", {"control": "constant_reward"}),
    "shuffled_labels": ("rlhf", {"shuffled": True}),
    "shuffled_labels_iterated": ("rlhf_iterated", {"shuffled": True}),
    "best_demos": ("bc", {"top": 0.1}),
}
"""Control's folder -> (algorithm, settings); all other settings are the treatment's. A further
control, `more_demos`, is BC, and the clone that RLHF starts from, with additional demonstrations
instead of RLHF's labels, a segment for each label."""
PLACES = ("compared", SEEN, *CONTROLS, "more_demos")
"""The folders of a quality."""
TREATMENTS = {"last_policy_constant_reward": "last_policy"}
"""Control -> the place of its treatment; of the others it is `compared`."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns, for each world and quality, a sweep of the compared algorithms and sweeps of the
    controls. The budget `smoke` has one sweep, with the flag hidden."""
    (count,) = demos
    check_arms(request, "seed_table", STUDY.algo)
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
                settings[algo] = {**settings.get(algo, {}), **values}
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
        controlled = {"smoke": (), "default": ("50", "100"), "full": QUALITIES}[request.budget]
        only = request.settings.get(env, {}).get("demonstrator")
        if only is not None:
            qualities, controlled = (QUALITY_OF[only],), (QUALITY_OF[only],) if controlled else ()
        for quality in qualities:
            sweeps.append(part("compared", algos, quality, {}))
            if registry.world(env).world.failure_flags and request.budget != "smoke":
                seen = [algo for algo in algos if learns_reward(algo)]
                sweeps.append(part(SEEN, seen, quality, dict.fromkeys(seen, UNMASKED)))
        for quality in (quality for quality in controlled if quality in qualities):
            for name, (algo, values) in CONTROLS.items():
                sweeps.append(part(name, (algo,), quality, {algo: values}))
            richer = _richer(request, env, count)
            sweeps.append(part("more_demos", ("bc", "clone"), quality, {}, demos=richer))
    return sweeps


def _richer(request: Request, env: str, demos: int) -> int:
    """Returns `demos` plus the number of demonstrations that hold a segment's steps for each of
    RLHF's labels."""
    rlhf = build.resolved(registry.algorithm("rlhf"), request, env)
    steps = request.demo_steps or budget_of(env, request.budget).demo_steps
    return demos + -(-rlhf["labels"] * rlhf["segment"] // steps)


def measure(reports: Mapping[str, ReportData]) -> list[Point]:
    """Returns the numbers of every learner in every world and quality."""
    points: list[Point] = []
    for name, data in reports.items():
        env, quality, place = name.split("/")
        if any(curve.algo == "expert" for curve in data.curves):  # else it is not finished
            starts = reports.get(f"{env}/{quality}/compared")
            points += measured(env, quality, place, data, starts)
    return points


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the verdicts of every world and quality, and the numbers that they rest on."""
    return join(measure(reports))


def _bar(points: Sequence[Point]) -> str:
    """What else a learner has to be above."""
    if any("best_rollout" in point for point in points):
        return (
            "Where demonstrations are shorter than T_max and better, the best is that of their "
            "steps kept up."
        )
    return "Measured before 30 November 2026: the best is that rollout, and no more."


def join(points: Sequence[Point], parts: Iterable[str] = ()) -> Result:
    """Returns what `read` does, and what is missing of `parts`, from the points of any parts.

    The first of several points of one learner counts. What earlier answers added to points is made
    anew.

    Raises:
      BadInput: some points are of the time when the bar was the best rollout alone; one line.
    """
    if len({"best_rollout" in point for point in points}) > 1:
        raise BadInput(
            "--stored: its bar is the best rollout alone, as it was before 30 November 2026, and "
            "the folder's is not; nearest: the study's command, which measures it again"
        )
    first: dict[tuple[str, ...], Point] = {}
    for point in points:
        bare = {key: value for key, value in point.items() if key not in ANSWERS}
        if point["fall_clone"] is not None:  # JSON has no NaN
            bare["fall_clone"] = [np.nan if x is None else x for x in point["fall_clone"]]
        first.setdefault(_cell(point), cast(Point, bare))
    points = sorted(first.values(), key=_place)
    rows: dict[str, list[Row]] = {}
    for env in dict.fromkeys(point["env"] for point in points):
        family = [point for point in points if point["env"] == env]
        cells = claims.answer(family)
        hidden = [point for point in cells if point["place"] == "compared"]
        seen = {(p["quality"], p["algo"]): p for p in cells if p["place"] == SEEN}
        rows[f"{env}: Yes, No or Undetermined"] = [
            _verdict_row(point, seen.get((point["quality"], point["algo"]))) for point in hidden
        ]
        rows[f"{env}: what they rest on, IQM over seeds [interval]"] = [
            _figures_row(p) for p in family
        ]
        rows[f"{env}: learners less their controls, in scores [interval]"] = controlled(family)
        rows[f"{env}: fall of regret against BC by horizon"] = _fall_rows(claims.biased(family))
        rows[f"{env}: how much of RLHF's gain over BC is repaired exposure bias"] = decomposition(
            family
        )
        rows[f"{env}: iterated less one-shot RLHF at equal labels, in scores [interval]"] = again(
            family
        )
    text = [
        "J: return over T_max steps. All algorithms have the same demonstrations within a quality; "
        "labels and steps stand beside each score. Score: (J - J_random) / (J_expert - J_random). "
        "Above the best (mean): (J - J_best (J_mean)) / (J_expert - J_random), with the best of "
        f"{ROLLOUTS} rollouts (the mean of all evaluation rollouts) of the demonstrator, which are "
        f"none of the demonstrations. {_bar(points)} "
        "Scores and differences of scores: interquartile mean over seeds and its percentile "
        f"bootstrap at {iqm.LEVEL:g}, {iqm.COVERAGE} (simulated for values and for their paired "
        f"differences); with fewer than {iqm.LEAST} seeds no question is answered. Differences are "
        "paired by seed. A seed is lost if its "
        f"score is below {iqm.LOST:g} of its demonstrator's; counts are those with the flag hidden "
        "/ seen. Regret and its fall: mean and "
        "jackknife-t, which covers less than 95 % where a few seeds hold most of the regret. "
        "Holm's correction runs over the cells of a world, with the flag hidden and seen. Accuracy "
        "is that on rollouts of the policy with which a reward was last fitted: one-shot's clone, "
        "iterated's trained policy.",
        "Flag hidden: the learned reward does not see the entries of the observation that show a "
        "failure. Flag seen: it does. The policy sees them either way. The answers are those of "
        "the hidden flag.",
        *[CAPPED for p in points[:1] if p["env"] in FAULTLESS],
        *kept_up(points),
        *_missing(points, parts),
        *claims.sentences(points),
        *claims.agreement(points),
    ]
    return {
        "title": "Who corrects exposure bias, and who outperforms the data?",
        "text": text,
        "tables": {heading: table for heading, table in rows.items() if table},
        "points": points,
    }


def _cell(point: Point) -> tuple[str, str, str, str]:
    """Returns (world, quality, place, algorithm)."""
    return point["env"], point["quality"], point["place"], point["algo"]


def _place(point: Point) -> tuple[Any, ...]:
    """Returns what orders points as a study runs them."""
    env, quality, place, algo = _cell(point)
    return env, float(quality), PLACES.index(place), (*COMPARED, algo).index(algo)


def _missing(points: Sequence[Point], parts: Iterable[str]) -> list[str]:
    """Returns a sentence on the parts of which there is nothing, and one on the learners that other
    qualities of their world have."""
    there = {_cell(point) for point in points}
    begun = {"/".join(cell[:3]) for cell in there}
    lines = [f"Not run: {', '.join(absent)}." for absent in [sorted({*parts} - begun)] if absent]
    learners = {(env, place): set[str]() for env, _, place, _ in there}
    for env, _, place, algo in there:
        learners[env, place].add(algo)
    absent = [
        f"{algo} in {env}/{quality}/{place}"
        for env, quality, place in sorted({cell[:3] for cell in there})
        for algo in sorted(learners[env, place])
        if (env, quality, place, algo) not in there
    ]
    return [*lines, f"Not run: {', '.join(absent)}."] if absent else lines


def controlled(family: Sequence[Point]) -> list[Row]:
    """Returns how much a learner scores above each of its controls, paired by seed."""
    found = {(p["quality"], p["place"], p["algo"]): p for p in family}
    rows = []
    for (quality, place, algo), control in found.items():
        learner = found.get((quality, TREATMENTS.get(place, "compared"), algo))
        if place in CONTROLS and learner:
            gain = paired(learner, control)
            rows.append(
                {
                    "quality": f"{quality} %",
                    "learner": _name(learner),
                    "control": _name(control),
                    "learner less control": spread(gain) if gain else tables.MISSING,
                }
            )
    return rows


def _verdict_row(point: Point, seen: Point | None) -> Row:
    """Returns the verdicts of one cell, and of the same cell with the flag seen, beside the
    claims."""
    kind = CLASSES[point["algo"]]
    claimed = CLAIMED[kind]
    return {
        "quality": f"{point['quality']} %",
        "class": kind,
        "algorithm": point["algo"],
        "corrects exposure bias": point.get("corrects"),
        "claimed to correct": claimed[0],
        "outperforms its data": point.get("outperforms"),
        "claimed to outperform": claimed[1],
        "score, flag hidden": spread(_score(point)),
        "flag seen": spread(_score(seen)) if seen else tables.MISSING,
        "lost seeds": f"{lost(point)}" + (f" / {lost(seen)}" if seen else ""),
        "verdict": point["verdict"],
    }


def _fall_rows(family: Sequence[Point]) -> list[Row]:
    """Returns the fall of regret against BC at a few horizons, a row per learner that has one."""
    rows: list[Row] = []
    for point in family:
        if point["falls"]:
            row: Row = {
                "quality": f"{point['quality']} %",
                "algorithm": _name(point),
            }
            row |= {f"T = {T}": _percent(fell) for T, *fell in point["falls"]}
            rows.append(row)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, tables.MISSING) for key in keys} for row in rows]


def _percent(fell: Sequence[float]) -> str:
    """Returns [share, low, high] as text, in percent. Results stored before 29 November 2026 have
    the share alone."""
    share, *ends = (f"{100 * value:.0f}" for value in fell)
    return f"{share} % [{', '.join(ends)}]" if ends else f"{share} %"


def _name(point: Point) -> str:
    """Returns the name of a learner, with its part if that is not the comparison itself."""
    if point["place"] == "compared":
        return point["algo"]
    words = point["place"].split("_")  # some controls' places name the algorithm
    place = " ".join(word for word in words if word not in point["algo"].split("_"))
    return f"{point['algo']} ({place})"


def _score(point: Point) -> list[float]:
    """Returns [IQM, low, high] of the normalised score."""
    return iqm.interval((np.array(point["returns"]) - point["random"]) / point["unit"])


def _figures_row(point: Point) -> Row:
    """Returns the numbers that the verdicts of one point rest on."""
    show = lambda values: spread(values) if values else tables.MISSING
    return {
        "quality": f"{point['quality']} %",
        "algorithm": _name(point),
        "score": spread(_score(point)),
        "above the best": spread(point["over_best"]),
        "p (Holm)": point.get("p_holm"),
        "lost seeds": lost(point),
        "above the mean": spread(point["over_mean"]),
        "regret": spread(point["regret"]),
        "fall against BC": show(point["fall"]),
        "fall against the clone": show(point["fall_clone"]),
        "slope": point["slope"],
        "h": point["hazard"],
        "ρ": point["recovery"],
        "expert queries": point["consumes"][0],
        "env steps": point["consumes"][1],
        "labels": point["labels"],
        "seeds": point["seeds"],
        "device": point.get("device"),
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
    Both take the same labels, environment steps and gradient steps."""
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


def draw(result: Mapping[str, Any]) -> Figure:
    """Draws a forest plot per world and quality: the score of each seed and the interval of their
    interquartile mean, beside the demonstrator's score."""
    points = result["points"]
    panels = list(dict.fromkeys((p["env"], p["quality"]) for p in points))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    most = max(sum((p["env"], p["quality"]) == panel for p in points) for panel in panels)
    height = max(2.4, 0.6 + 0.17 * most)
    figure = Figure(figsize=(3.9 * columns, height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (env, quality) in zip(axes, panels, strict=False):
        group = [p for p in points if (p["env"], p["quality"]) == (env, quality)][::-1]
        colours = series.colours([p["algo"] for p in points])
        for y, p in enumerate(group):
            each = (np.array(p["returns"]) - p["random"]) / p["unit"]
            middle, low, high = np.array(iqm.interval(each), float)
            axis.plot(each, [y] * len(each), ".", color="#999999", ms=2.5)
            axis.plot([low, high], [y, y], color=colours[p["algo"]], lw=1.5)
            axis.plot([middle], [y], "o", color=colours[p["algo"]], ms=4)
        first = group[0]
        for value, style in ((first["demonstrator"], (0, (4, 3))), (first["best"], (0, (1, 1)))):
            axis.axvline(
                (value - first["random"]) / first["unit"], color="#444444", lw=0.7, ls=style
            )
        forest_rows(axis, [_name(p) for p in group])
        axis.tick_params(labelsize=7)
        axis.set_title(f"{env}, demonstrator of {quality} %", fontsize=8)
        axis.set_xlabel("score (dashed: demonstrator, dotted: its best)", fontsize=7)
    return figure


STUDY = Study(
    name="seed_table",
    help="SFT, inverse RL and RLHF over demonstrators of 25 to 100 %: which corrects exposure "
    "bias, which outperforms its data?",
    algo=COMPARED,
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
    measure=measure,
    join=join,
)
