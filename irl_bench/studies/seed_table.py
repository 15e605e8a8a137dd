"""Which class of algorithms corrects exposure bias, and which outperforms its data?

    claimed          corrects exposure bias    outperforms its data
    SFT (BC)         No                        No
    inverse RL       Yes                       No
    RLHF             Yes                       Yes

The study tests these claims at equal demonstrations, over demonstrators of several qualities:

- "corrects exposure bias" looks at the fall of regret at T_max against BC. It is Yes if the
  intervals of the fall against BC and of the fall against a clone lie above 0, and the fall against
  BC is 30 % or more with a p-value below 0.025 after Holm's correction over the cells of the
  world's table. It is No if the interval of the fall lies below 30 %, and for BC itself if its
  verdict is QUADRATIC or SATURATED. Where BC shows no exposure bias there is nothing to correct,
  and no learner is asked: BC is surely less than 0.02 in score below its demonstrator, or its own
  verdict is LINEAR, RECOVERABLE or NO-REGRET. The horizon verdict and the fall at shorter horizons
  stand beside the answer.
- "outperforms its data" looks at x = (J - J_best) / (J_expert - J_random), with J_best the return
  of the best of 64 rollouts of the demonstrator, which are none of the demonstrations. It is Yes if
  the interval of x lies above 0 and the p-value of J <= J_best is below 0.025 after Holm's
  correction over the cells of the world's table. It is No if the upper end of the interval is at
  most 0.02. Where the expert earns all that can be earned, nobody can outperform its data.
- Everything else is Undetermined.

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

from irl_bench.plan import build, registry
from irl_bench.plan.presets import budget_of
from irl_bench.plan.request import Request
from irl_bench.report import ReportData, series, tables
from irl_bench.studies import iqm
from irl_bench.studies.decomposition import CAPPED, FAULTLESS, lost, split
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
from irl_bench.studies.significance import SIGNIFICANT, holm, is_small
from irl_bench.studies.study import (
    UNMASKED,
    Part,
    Result,
    Row,
    Study,
    learns_reward,
    narrowed,
    spread,
)

CLASSES: Mapping[str, str] = {
    "bc": "SFT",
    "clone": "SFT",
    "gail": "inverse RL",
    "gailfo": "inverse RL",
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
SEEN = "flag_seen"
"""The folder of the learners whose rewards see the failure flag."""
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
control, `more_demos`, is BC with additional demonstrations instead of RLHF's labels, a segment for
each label."""
PLACES = ("compared", SEEN, *CONTROLS, "more_demos")
"""The folders of a quality."""
ANSWERS = ("p_holm", "fall_p_holm", "corrects", "outperforms")
"""What `join` adds to points."""
TREATMENTS = {"last_policy_constant_reward": "last_policy"}
"""Control -> the place of its treatment; of the others it is `compared`."""
FALL = 0.3
"""A fall of regret by this share counts as corrected."""
EQUIVALENT = 0.02
"""A difference below this share of the expert's score counts as none."""
UNBIASED = ("LINEAR", "RECOVERABLE", "NO-REGRET")
"""Verdicts that show no exposure bias."""
NOTHING = "Nothing to correct"
"""The answer where BC shows no exposure bias."""
IMPOSSIBLE = "Impossible"
"""The answer where no score can be above the demonstrator's."""


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
            if registry.world(env).world.failure_flags:
                seen = [algo for algo in algos if learns_reward(algo)]
                sweeps.append(part(SEEN, seen, quality, dict.fromkeys(seen, UNMASKED)))
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


def exposure_bias(bc: Point) -> str:
    """Returns whether a point of BC shows exposure bias, by how far its score is below its
    demonstrator's.

    Returns:
      "Yes" if it is EQUIVALENT or more below, with the interval below 0, and its verdict is none of
      UNBIASED; NOTHING if the interval is within EQUIVALENT or the verdict is one of UNBIASED; else
      "Undetermined".
    """
    middle, low, high = bc["over_mean"]
    if bc["verdict"] in UNBIASED or low > -EQUIVALENT:
        return NOTHING
    return "Yes" if middle <= -EQUIVALENT and high < 0 else "Undetermined"


def corrects(
    verdict: str,
    fallen: Sequence[float] | None,
    adjusted: float | None,
    over_clone: Sequence[float] | None = None,
) -> str:
    """Applies the rule on exposure bias where BC shows it.

    Args:
      verdict: the horizon verdict, which decides for BC itself.
      fallen: the fall of regret against BC, as `qualities.fall` returns it; None for BC itself.
      adjusted: the p-value of no fall after Holm's correction; None without a fall.
      over_clone: the fall against the clone, NaN where the clone has no regret; None for BC and
        the clone.

    Returns:
      "Yes", "No" or "Undetermined".
    """
    if fallen is None:
        return "No" if verdict in ("QUADRATIC", "SATURATED") else "Undetermined"
    share, low, high = fallen
    less = low > 0 and (over_clone is None or over_clone[1] > 0)
    if less and share >= FALL and is_small(adjusted):
        return "Yes"
    return "No" if high < FALL else "Undetermined"


def outperforms(gain: Sequence[float], adjusted: float) -> str:
    """Applies the rule on outperforming the data.

    Args:
      gain: [x, low, high].
      adjusted: its p-value after Holm's correction.

    Returns:
      "Yes", "No" or "Undetermined".
    """
    _, low, high = gain
    if low > 0 and is_small(adjusted):
        return "Yes"
    return "No" if high <= EQUIVALENT else "Undetermined"


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns the verdicts of every world and quality, and the numbers that they rest on."""
    points: list[Point] = []
    for name, data in reports.items():
        env, quality, place = name.split("/")
        if any(curve.algo == "expert" for curve in data.curves):  # else it is not finished
            starts = reports.get(f"{env}/{quality}/compared")
            points += measured(env, quality, place, data, starts)
    return join(points)


def join(points: Sequence[Point], parts: Iterable[str] = ()) -> Result:
    """Returns what `read` does, and what is missing of `parts`, from the points of any parts.

    The first of several points of one learner counts. What earlier answers added to points is made
    anew.
    """
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
        cells = [
            point
            for point in family
            if point["algo"] in CLASSES and point["place"] in ("compared", SEEN)
        ]
        bias = {p["quality"]: exposure_bias(p) for p in cells if p["algo"] == "bc"}
        biased = [quality for quality, answer in bias.items() if answer == "Yes"]
        fallen = [p for p in cells if p["fall_p"] is not None and p["quality"] in biased]
        for point, adjusted in zip(fallen, holm([p["fall_p"] or 0.0 for p in fallen]), strict=True):
            point["fall_p_holm"] = adjusted
        able = [point for point in cells if not _at_ceiling(point)]
        for point, adjusted in zip(able, holm([point["p"] for point in able]), strict=True):
            point["p_holm"] = adjusted
        for point in cells:
            answer = bias.get(point["quality"], "Undetermined")
            point["corrects"] = (
                corrects(
                    point["verdict"],
                    point["fall"],
                    point.get("fall_p_holm"),
                    point["fall_clone"],
                )
                if answer == "Yes"
                else answer
            )
            point["outperforms"] = (
                IMPOSSIBLE
                if _at_ceiling(point)
                else outperforms(point["over_best"], point["p_holm"])  # pyright: ignore[reportTypedDictNotRequiredAccess] - set above
            )
        hidden = [point for point in cells if point["place"] == "compared"]
        seen = {(p["quality"], p["algo"]): p for p in cells if p["place"] == SEEN}
        rows[f"{env}: Yes, No or Undetermined"] = [
            _verdict_row(point, seen.get((point["quality"], point["algo"]))) for point in hidden
        ]
        rows[f"{env}: what they rest on, IQM over seeds [interval]"] = [
            _figures_row(p) for p in family
        ]
        rows[f"{env}: learners less their controls, in scores [interval]"] = controlled(family)
        rows[f"{env}: fall of regret against BC by horizon"] = _fall_rows(
            [point for point in family if point["quality"] in biased]
        )
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
        "none of the demonstrations. "
        "Scores and differences of scores: interquartile mean over seeds and its percentile "
        f"bootstrap at {iqm.LEVEL:g}, whose simulated coverage is at least 0.95 at 10 and 20 "
        "seeds, also where seeds are lost (simulated for values and for their paired differences); "
        "differences are paired by seed. A seed is lost if its "
        f"score is below {iqm.LOST:g} of its demonstrator's. Regret and its fall: mean and "
        "jackknife-t. Holm's correction runs over the cells of a world, with the flag hidden and "
        "seen. Accuracy is that on rollouts of the policy with which a reward was last fitted: one-"
        "shot's clone, iterated's trained policy.",
        "Flag hidden: the learned reward does not see the entries of the observation that show a "
        "failure. Flag seen: it does. The policy sees them either way. The answers are those of "
        "the hidden flag.",
        *[CAPPED for p in points[:1] if p["env"] in FAULTLESS],
        *_missing(points, parts),
        *_sentences(points),
        *_agreement(points),
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


def _at_ceiling(point: Point) -> bool:
    """Returns whether no score can be above the demonstrator's: it earns all that can be earned."""
    return point["env"] in FAULTLESS and point["quality"] == "100"


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
        "claimed ": claimed[0],
        "outperforms its data": point.get("outperforms"),
        "claimed": claimed[1],
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
            row |= {f"T = {T}": f"{100 * value:.0f} %" for T, value in point["falls"]}
            rows.append(row)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, tables.MISSING) for key in keys} for row in rows]


def _name(point: Point) -> str:
    """Returns the name of a learner, with its part if that is not the comparison itself."""
    if point["place"] == "compared":
        return point["algo"]
    words = point["place"].split("_")  # some controls' places name the algorithm
    place = " ".join(word for word in words if word not in point["algo"].split("_"))
    return f"{point['algo']} ({place})"


def _sentences(points: Sequence[Point]) -> list[str]:
    """Returns two sentences per cell: what was measured, and what would change the answer."""
    lines: list[str] = []
    for p in points:
        if p["place"] != "compared" or p["algo"] not in CLASSES:
            continue
        where = f"{p['env']}, demonstrator of {p['quality']} %: {p['algo']}"
        lines.append(
            f"{where} corrects exposure bias: {p.get('corrects')}. Its verdict is {p['verdict']}, "
            f"and {_fall_in_words(points, p)}. {_would_change(p, 'corrects')}"
        )
        lines.append(
            f"{where} outperforms its data: {p.get('outperforms')}. Its score is "
            f"{_distance(p['over_best'])} that of its demonstrator's best of {ROLLOUTS} rollouts"
            + (f" (p = {p['p_holm']:.2g} after correction)" if "p_holm" in p else "")
            + f". {_would_change(p, 'outperforms')}"
        )
    return lines


def _distance(values: Sequence[float]) -> str:
    """Returns how far an interval's middle is above or below something, in words."""
    middle, low, high = values
    return f"{abs(middle):.3f} {'below' if middle < 0 else 'above'} [{low:+.3f}, {high:+.3f}]"


def _fall_in_words(points: Sequence[Point], point: Point) -> str:
    """Returns how a point's regret compares with BC's, in words."""
    fallen, over_clone = point["fall"], point["fall_clone"]
    if point.get("corrects") == NOTHING:
        place = point["env"], point["quality"], "compared", "bc"
        found = [p for p in points if (p["env"], p["quality"], p["place"], p["algo"]) == place]
        return f"BC's score is {_distance(found[0]['over_mean'])} its demonstrator's"
    if point["algo"] == "bc" or fallen is None:
        return "its regret is not compared with BC's"
    share = 100 * (1 - fallen[0])
    corrected = point.get("fall_p_holm")
    details = [f"fall {spread(fallen)}"]
    if corrected is not None:
        details.append(f"p = {corrected:.2g} after correction")
    if over_clone and np.isfinite(over_clone[0]):
        details.append(f"fall against the clone {spread(over_clone)}")
    return f"its regret at the longest horizon is {share:.0f} % of BC's ({'; '.join(details)})"


def _would_change(point: Point, question: str) -> str:
    """Returns a sentence on what would change an answer."""
    answer = str(point.get(question))
    if question == "corrects":
        return {
            NOTHING: "The answer would change if BC's score were surely "
            f"{EQUIVALENT:g} or more below its demonstrator's and its verdict none of "
            f"{', '.join(UNBIASED)}.",
            "Yes": "The answer would change with an interval of the fall that reaches 0, against "
            f"BC or the clone, with a fall below {100 * FALL:.0f} %, or with a p-value of "
            f"{SIGNIFICANT:g} or more.",
            "No": "The answer would change with an upper end of the fall of "
            f"{100 * FALL:.0f} % or more."
            if point["fall"] is not None
            else "The answer would change with another verdict of BC's own.",
        }.get(answer, "More seeds may decide: neither the rule for Yes nor that for No applies.")
    return {
        IMPOSSIBLE: "The expert earns all that can be earned there.",
        "Yes": "The answer would change with an interval that reaches 0, or with a p-value of "
        f"{SIGNIFICANT:g} or more.",
        "No": f"The answer would change with an upper end above {EQUIVALENT:g}.",
    }.get(answer, "More seeds may decide: neither the rule for Yes nor that for No applies.")


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


def _agreement(points: Sequence[Point]) -> list[str]:
    """Returns a sentence per world, algorithm and question: what is claimed of its class, and what
    was measured."""
    lines = []
    for env in dict.fromkeys(point["env"] for point in points):
        for algo, kind in CLASSES.items():
            cells = [
                p
                for p in points
                if p["env"] == env and p["place"] == "compared" and p["algo"] == algo
            ]
            if not cells:
                continue
            for question, claim in zip(("corrects", "outperforms"), CLAIMED[kind], strict=True):
                counts = {
                    word: [f"{p['quality']} %" for p in cells if p.get(question) == word]
                    for word in ("Yes", "No", "Undetermined", NOTHING, IMPOSSIBLE)
                }
                result = "; ".join(
                    f"{word} at {', '.join(where)}" for word, where in counts.items() if where
                )
                what = (
                    "corrects exposure bias" if question == "corrects" else "outperforms its data"
                )
                lines.append(f"{env}: {algo} ({kind}) {what}: claimed {claim}; measured {result}.")
    return lines


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
        names = [_name(p) for p in group]
        axis.set_yticks(range(len(group)), names)
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
    fixed=False,
    sizes={
        "smoke": {"demos": (8,), "seeds": 5},
        "default": {"seeds": 20, "demos": (96,), "episodes": 256},
        "full": {"seeds": 20, "demos": (96,), "episodes": 1024},
    },
    parts=parts,
    read=read,
    draw=draw,
    join=join,
)
