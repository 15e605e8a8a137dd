"""Demonstrators of several qualities: which ones a world has, how good they are, and how good the
learners are that imitate them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from scipy import special

from irl_bench.core.quantities import REFERENCES
from irl_bench.horizon import Curves, slopes
from irl_bench.plan import registry
from irl_bench.plan.presets import ROBOTS
from irl_bench.report import ReportData, series, tables, training
from irl_bench.rollouts import evaluation
from irl_bench.studies import iqm, levels
from irl_bench.studies.measures import interval, returns_of, same_seeds

QUALITIES = ("25", "50", "75", "100")
"""Demonstrators, by their percentage of the expert's normalised score."""
QUALITY_OF = {"expert": "100", **{quality: quality for quality in QUALITIES}}
"""{value of the world's option `demonstrator`: quality}. A study runs no other quality where that
option is set."""
SHORTEST = 64
"""The shortest horizon at which the fall of regret is shown [steps]."""
ROLLOUTS = 64
"""Number of rollouts of the demonstrator among which the best is sought. They are none of the
demonstrations that learners see."""


_Returns = TypedDict("_Returns", {"return": list[float]})
"""A field whose name is a keyword of Python: the interval of `Point.returns`."""


class KeptUp(TypedDict, total=False):
    """What a demonstrator shows of itself, where demonstrations are shorter than rollouts. It may
    be better than what it does later, as on `lane_keep`, where cars gain speed."""

    kept_up: list[float]
    """[mean, best]: what ROLLOUTS rollouts would return if their first `demo_steps` steps were
    kept up."""
    demo_steps: int
    """Length of a demonstration [steps]."""


class Point(_Returns, KeptUp):
    """One learner at one quality of the demonstrator; JSON values. An interval is [middle, low,
    high] over seeds, of the interquartile mean (`iqm`), but of the mean for regret and its fall.
    Returns are sums over T_max steps."""

    env: str
    quality: str
    place: str
    """The last level of the part's name."""
    algo: str
    seed_ids: list[int]
    """The S usable seeds."""
    returns: list[float]
    """The return of each of them."""
    demonstrator: float
    """The demonstrator's mean return over the evaluation rollouts."""
    best: float
    """What a learner has to be above: the demonstrator's highest return in ROLLOUTS rollouts or,
    if that is higher, the best of `kept_up`."""
    best_rollout: float
    """That highest return. It is the `best` of results before 30 November 2026, which lack it."""
    random: float
    """The mean return of uniformly random actions."""
    unit: float
    """The expert's mean return minus `random`: the unit of scores."""
    over_best: list[float]
    """Interval of (return - best) / unit."""
    over_mean: list[float]
    """Interval of (return - demonstrator) / unit."""
    p: float
    """One-sided p of `over_best` being at most 0."""
    verdict: str
    slope: float | None
    slope_interval: list[float | None]
    """[low, high] of the slope."""
    hazard: float | None
    recovery: float | None
    regret: list[float]
    """Interval of regret at T_max [steps]."""
    fall: list[float] | None
    """Fall of regret at T_max against BC, as `fall` returns it."""
    fall_p: float | None
    """One-sided p of no fall against BC: the larger of that of the interquartile mean of the
    differences by seed and `no_fall`."""
    fall_clone: list[float] | None
    """Fall of regret at T_max against the clone that learners of a reward begin with: NaN if the
    clone has no regret, None without a clone."""
    falls: list[list[float]]
    """[T, fall at T, low, high] at a few horizons T up to T_max."""
    accuracy: float | None
    """Accuracy of the learned reward on fresh pairs of segments."""
    consumes: list[int]
    """[expert queries, environment steps] per seed."""
    labels: int
    """Pairwise comparisons per seed."""
    seeds: int
    """S."""
    device: NotRequired[str]
    """The kind of device that computed it; several are joined by +. Results of before 28 November
    2026 do not have it."""
    p_holm: NotRequired[float]
    """`p` after Holm's correction."""
    fall_p_holm: NotRequired[float]
    """`fall_p` after Holm's correction."""
    corrects: NotRequired[str]
    outperforms: NotRequired[str]


def qualities_of(env: str, budget: str) -> tuple[str, ...]:
    """Returns the qualities of a world's demonstrators that a study compares.

    Robots take long, so only the half-good demonstrator and the expert run on them below the budget
    `full`.
    """
    candidates = {
        "smoke": ("50",),
        "default": ("50", "100") if env in ROBOTS else QUALITIES,
        "full": QUALITIES,
    }[budget]
    ships = lambda quality: registry.world(env, option_of(quality)).world.has_expert
    return tuple(quality for quality in candidates if ships(quality))


def option_of(quality: str) -> dict[str, str]:
    """Returns the world's option {"demonstrator": value} for a quality."""
    return {"demonstrator": "expert" if quality == "100" else quality}


def shown(env: str, quality: str, steps: int, record: Mapping[str, Any]) -> tuple[float, float]:
    """Measures a demonstrator on ROLLOUTS rollouts, always the same ones.

    Args:
      env: the world.
      quality: of the demonstrator.
      steps: length of a rollout.
      record: the world's record in the plan, for its dials and options.

    Returns:
      (mean, highest) return.
    """
    values = {**record["dials"], **record["options"], **option_of(quality)}
    return _rollouts(env, steps, tuple(sorted(values.items())))


def _kept_up(env: str, quality: str, steps: int, record: Mapping[str, Any]) -> KeptUp:
    """Returns what points have of demonstrations that are shorter than rollouts."""
    short = int(record.get("demo_steps", steps))
    if short >= steps:
        return {}
    factor = steps / short
    return {
        "kept_up": [factor * total for total in shown(env, quality, short, record)],
        "demo_steps": short,
    }


def kept_up(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each lesser demonstrator whose demonstrations are shorter than its
    rollouts. Points of earlier results have none."""
    lines: dict[tuple[str, str], str] = {}
    for p in points:
        if "kept_up" in p and "demo_steps" in p and p["quality"] != "100":
            values = (*p["kept_up"], p.get("best_rollout", p["best"]), p["best"])
            mean, best, rollout, bar = ((x - p["random"]) / p["unit"] for x in values)
            lines[p["env"], p["quality"]] = (
                f"{p['env']}, demonstrator of {p['quality']} %: its demonstrations are the first "
                f"{p['demo_steps']:,} steps. Kept up to T_max, they would score {mean:.2f} in the "
                f"mean and {best:.2f} in the best of {ROLLOUTS} rollouts; the best rollout scores "
                f"{rollout:.2f}. A learner has to be above {bar:.2f}."
            )
    return list(lines.values())


@functools.cache
def _rollouts(env: str, steps: int, values: tuple[tuple[str, Any], ...]) -> tuple[float, float]:
    """Returns `shown` for a world with some dials and options."""
    world = registry.world(env, dict(values)).world
    world = world.bind(world.dials_for(next(iter(world.modes))))
    returns = np.sum(
        np.asarray(evaluation.record(world, 0, ROLLOUTS, steps).demonstrations.reward), 1
    )
    return float(np.mean(returns)), float(np.max(returns))


def fall(regret: np.ndarray, bc: np.ndarray) -> list[float] | None:
    """Measures how much regret falls against BC.

    Args:
      regret: float[S], of the learner [steps].
      bc: float[S], of BC on the same seeds [steps].

    Returns:
      [1 - mean regret / BC's mean regret, low, high]; None unless the interval of BC's regret lies
      above 0.
    """
    if len(bc) < 2 or not interval(bc)[1] > 0:
        return None
    pairs = np.stack([regret, bc], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = slopes.jackknife_t(pairs, lambda m: 1.0 - m[..., 0] / m[..., 1])
    return [float(x) for x in estimate]


def no_fall(fallen: Sequence[float], seeds: int) -> float:
    """Returns the one-sided p-value of a fall being at most 0, by the t-test whose interval `fall`
    returns."""
    share, low, high = fallen
    error = (high - low) / 2 / special.stdtrit(seeds - 1, 0.5 + slopes.LEVEL / 2)
    if error == 0:
        return 0.0 if share > 0 else 1.0
    return float(special.stdtr(seeds - 1, -share / error))


def measured(
    env: str, quality: str, place: str, data: ReportData, starts: ReportData | None = None
) -> list[Point]:
    """Returns a point for each learner of one part.

    Args:
      env, quality, place: the levels of the part's name.
      data: the part's, with an expert (its demonstrator).
      starts: of the part that holds BC and the clone; `data` by default.
    """
    curves: dict[str, Curves] = {c.algo: c for c in data.curves}
    begun: dict[str, Curves] = {c.algo: c for c in (starts or data).curves}
    demonstrator = curves["expert"]
    assert demonstrator.returns is not None, "every sweep records returns"
    steps, record = int(demonstrator.T[-1]), data.plan["worlds"][env]
    random = levels.random_return(env, steps, record, demonstrator.mode)
    scale = shown(env, "100", steps, record)[0] - random
    rollout, typical = shown(env, quality, steps, record)[1], float(np.mean(demonstrator.returns))
    half = _kept_up(env, quality, steps, record)
    # Who outperforms its data is better than what it saw, not only than the driver that was seen.
    best = max(rollout, *half["kept_up"]) if "kept_up" in half else rollout
    bc, clone = begun.get("bc"), begun.get("clone")
    points: list[Point] = []
    for algo, curve in curves.items():
        if algo in REFERENCES:
            continue
        returns, last = returns_of(curve), curve.T[-1:]
        verdict = series.verdict_of(data, curve)
        regret, fallen, fall_p = curve.regret(last)[:, 0], None, None
        falls: list[list[float]] = []
        fall_clone = None
        if clone is not None and algo not in ("bc", "clone"):
            in_curve, in_clone = same_seeds(curve, clone)
            fall_clone = fall(regret[in_curve], clone.regret(last)[in_clone, 0]) or [np.nan] * 3
        if bc is not None and curve is not bc:
            in_curve, in_bc = same_seeds(curve, bc)
            fallen = fall(regret[in_curve], bc.regret(last)[in_bc, 0])
            if fallen is not None:
                pairs = regret[in_curve], bc.regret(last)[in_bc, 0]
                fall_p = max(iqm.p_at_most(pairs[1] - pairs[0]), no_fall(fallen, len(pairs[0])))
            T = np.unique(np.geomspace(min(SHORTEST, last[0]), last[0], 8).round().astype(int))
            mine, of_bc = (c.regret(T)[i] for c, i in ((curve, in_curve), (bc, in_bc)))
            falls = [
                [int(t), *fell]
                for index, t in enumerate(T)
                if (fell := fall(mine[:, index], of_bc[:, index])) is not None
            ]
        accuracy = training.metric(data, curve, "reward_accuracy")
        devices = {
            data.manifests[key]["fingerprint"]["device"] or "cpu"
            for entry in data.plan["entries"]
            if (entry["env"], entry["algo"], entry["mode"]) == (curve.env, algo, curve.mode)
            for key in entry["cells"]
        }
        points.append(
            {
                "env": env,
                "quality": quality,
                "place": place,
                "algo": algo,
                "seed_ids": np.asarray(curve.seeds)[curve.usable].tolist(),
                "returns": returns.tolist(),
                "return": iqm.interval(returns),
                "demonstrator": typical,
                "best": best,
                "best_rollout": rollout,
                **half,
                "random": random,
                "unit": scale,
                "over_best": iqm.interval((returns - best) / scale),
                "over_mean": iqm.interval((returns - typical) / scale),
                "p": iqm.p_at_most((returns - best) / scale),
                "verdict": verdict.get("verdict", tables.MISSING),
                "slope": verdict.get("slope"),
                "slope_interval": [verdict.get("ci_low"), verdict.get("ci_high")],
                "hazard": verdict.get("hazard"),
                "recovery": verdict.get("recovery"),
                "regret": interval(regret),
                "fall": fallen,
                "fall_p": fall_p,
                "fall_clone": fall_clone,
                "falls": falls,
                "accuracy": float(np.mean(accuracy[1][:, -1])) if accuracy else None,
                "consumes": list(curve.consumes),
                "labels": curve.labels,
                "seeds": len(returns),
                "device": " + ".join(sorted(devices)),
            }
        )
    return points


def paired(point: Point | None, other: Point) -> list[float] | None:
    """Returns [IQM, low, high] of the difference of scores, `point` minus `other`, over the seeds
    that both have; None if there is no `point`."""
    if point is None:
        return None
    _, first, second = np.intersect1d(point["seed_ids"], other["seed_ids"], return_indices=True)
    difference = np.array(point["returns"])[first] - np.array(other["returns"])[second]
    return iqm.interval(difference / point["unit"])
