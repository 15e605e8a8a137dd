"""What is claimed of SFT, inverse RL and RLHF, and the rules by which a table of learners answers.

    claimed          corrects exposure bias    outperforms its data
    SFT (BC)         No                        No
    inverse RL       Yes                       No
    RLHF             Yes                       Yes

- "corrects exposure bias" looks at the fall of regret at T_max against BC. It is Yes if the
  intervals of the fall against BC and of the fall against a clone lie above 0, and the fall against
  BC is 30 % or more with a p-value below 0.025 after Holm's correction over the cells of the
  world's table. It is No if the interval of the fall lies below 30 %, and for BC itself if its
  verdict is QUADRATIC or SATURATED. Where BC shows no exposure bias there is nothing to correct,
  and no learner is asked: BC is surely less than 0.02 in score below its demonstrator, or its own
  verdict is LINEAR, RECOVERABLE or NO-REGRET. The horizon verdict and the fall at shorter horizons
  stand beside the answer.
- "outperforms its data" looks at x = (J - J_best) / (J_expert - J_random), with J_best the return
  of the best of 64 rollouts of the demonstrator, which are none of the demonstrations. Where
  demonstrations are shorter than T_max, J_best is no less than what the best of these rollouts
  would return if its first steps, as many as a demonstration has, were kept up. It is Yes if
  the interval of x lies above 0 and the p-value of J <= J_best is below 0.025 after Holm's
  correction over the cells of the world's table. It is No if the upper end of the interval is at
  most 0.02. Where the expert earns all that can be earned, nobody can outperform its data.
- Everything else is Undetermined, and so is all that rests on fewer than 10 seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from irl_bench.studies import iqm
from irl_bench.studies.decomposition import FAULTLESS
from irl_bench.studies.measures import spread
from irl_bench.studies.qualities import ROLLOUTS, Point
from irl_bench.studies.significance import SIGNIFICANT, holm, is_small

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
SEEN = "flag_seen"
"""The place of learners whose rewards see the failure flag."""
ANSWERS = ("p_holm", "fall_p_holm", "corrects", "outperforms")
"""What `answer` adds to points."""
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


def _bias(points: Sequence[Point]) -> dict[str, str]:
    """Returns {quality: whether BC shows exposure bias there}."""
    return {
        p["quality"]: exposure_bias(p)
        for p in points
        if p["algo"] == "bc" and p["place"] == "compared"
    }


def biased(points: Sequence[Point]) -> list[Point]:
    """Returns the points at qualities at which BC shows exposure bias."""
    bias = _bias(points)
    return [point for point in points if bias.get(point["quality"]) == "Yes"]


def answer(family: Sequence[Point]) -> list[Point]:
    """Adds ANSWERS to the points of one world.

    Args:
      family: the points, controls among them.

    Returns:
      Those that have answers: the compared learners, with the flag hidden and seen.
    """
    cells = [
        point
        for point in family
        if point["algo"] in CLASSES and point["place"] in ("compared", SEEN)
    ]
    bias = _bias(cells)
    fallen = [p for p in cells if p["fall_p"] is not None and bias.get(p["quality"]) == "Yes"]
    for point, adjusted in zip(fallen, holm([p["fall_p"] or 0.0 for p in fallen]), strict=True):
        point["fall_p_holm"] = adjusted
    able = [point for point in cells if not at_ceiling(point)]
    for point, adjusted in zip(able, holm([point["p"] for point in able]), strict=True):
        point["p_holm"] = adjusted
    for point in cells:
        if point["seeds"] < iqm.LEAST:
            point["corrects"] = "Undetermined"
            point["outperforms"] = IMPOSSIBLE if at_ceiling(point) else "Undetermined"
            continue
        shown = bias.get(point["quality"], "Undetermined")
        point["corrects"] = (
            corrects(
                point["verdict"],
                point["fall"],
                point.get("fall_p_holm"),
                point["fall_clone"],
            )
            if shown == "Yes"
            else shown
        )
        point["outperforms"] = (
            IMPOSSIBLE if at_ceiling(point) else outperforms(point["over_best"], point["p_holm"])  # pyright: ignore[reportTypedDictNotRequiredAccess] - set above
        )
    return cells


def at_ceiling(point: Point) -> bool:
    """Returns whether no score can be above the demonstrator's: it earns all that can be earned."""
    return point["env"] in FAULTLESS and point["quality"] == "100"


def sentences(points: Sequence[Point]) -> list[str]:
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
        bar = f"the best of {ROLLOUTS} rollouts of its demonstrator"
        if p["best"] > p.get("best_rollout", p["best"]):
            bar = "what the best of its demonstrator's first steps would score if they were kept up"
        lines.append(
            f"{where} outperforms its data: {p.get('outperforms')}. Its score is "
            f"{_distance(p['over_best'])} {bar}"
            + _corrected(p.get("p_holm"))
            + f". {_would_change(p, 'outperforms')}"
        )
    return lines


def _distance(values: Sequence[float]) -> str:
    """Returns how far an interval's middle is above or below something, in words."""
    middle, low, high = values
    if middle < 0:
        middle, low, high = -middle, -high, -low
    ends = f" [{low:.3f}, {high:.3f}]" if np.isfinite(low + high) else ""
    return f"{middle:.3f}{ends} {'below' if values[0] < 0 else 'above'}"


def _corrected(p: float | None) -> str:
    """Returns a p-value in parentheses; nothing without one, as with a single seed."""
    return f" (p = {p:.2g} after correction)" if p is not None and np.isfinite(p) else ""


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
    if answer == "Undetermined" and point["seeds"] < iqm.LEAST:
        return f"{iqm.LEAST} seeds are needed for an answer, and it has {point['seeds']}."
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


def agreement(points: Sequence[Point]) -> list[str]:
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
