"""Demonstrators of several qualities: which a world has, how good they are, and what learners
make of their demonstrations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from irl_bench.horizon import Curves, slopes
from irl_bench.plan import presets as table
from irl_bench.plan import registry
from irl_bench.report import ReportData, series, tables, training
from irl_bench.rollouts import evaluation
from irl_bench.studies.study import mean, same_seeds

QUALITIES = ("25", "50", "75", "100")
"""Demonstrators, by their percentage of the expert's normalised score."""
QUALITY_OF = {"expert": "100", **{quality: quality for quality in QUALITIES}}
"""By the world's option `demonstrator`; where that is given, no other is run."""
ROLLOUTS = 64
"""Of the demonstrator, the best of which is the best demonstration."""


def qualities_of(env: str, budget: str) -> tuple[str, ...]:
    """Of a world's demonstrators those that are compared: on robots, which take long, the half
    and the whole but for `full`."""
    few = {
        "smoke": ("50",),
        "default": ("50", "100") if env in table.ROBOTS else QUALITIES,
        "full": QUALITIES,
    }[budget]
    ship = lambda quality: registry.world(env, option_of(quality)).world.has_expert
    return tuple(quality for quality in few if ship(quality))


def option_of(quality: str) -> dict[str, str]:
    """The world's option for a quality."""
    return {"demonstrator": "expert" if quality == "100" else quality}


def shown(env: str, quality: str, steps: int, record: Mapping[str, Any]) -> tuple[float, float]:
    """(mean, highest) return of ROLLOUTS rollouts of a demonstrator over `steps` steps; always
    the same ones. `record`: the world's in the plan, whose dials and options hold."""
    values = {**record["dials"], **record["options"], **option_of(quality)}
    return _rollouts(env, steps, tuple(sorted(values.items())))


@functools.cache
def _rollouts(env: str, steps: int, values: tuple[tuple[str, Any], ...]) -> tuple[float, float]:
    world = registry.world(env, dict(values)).world
    world = world.bind(world.dials_for(next(iter(world.modes))))
    returns = np.sum(
        np.asarray(evaluation.record(world, 0, ROLLOUTS, steps).demonstrations.reward), 1
    )
    return float(np.mean(returns)), float(np.max(returns))


def fall(regret: np.ndarray, bc: np.ndarray) -> list[float] | None:
    """[1 - mean regret / BC's mean regret, low, high] of the same seeds; None where BC's is not
    above 0 for certain."""
    if len(bc) < 2 or not mean(bc)[1] > 0:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        found = slopes.jackknife_t(np.stack([regret, bc], 1), lambda m: 1.0 - m[..., 0] / m[..., 1])
    return [float(x) for x in found]


def above_zero(values: np.ndarray) -> float:
    """One-sided p of a mean at most 0, Student's t."""
    if len(values) < 2:
        return float("nan")
    if np.ptp(values) == 0:
        return 0.0 if values[0] > 0 else 1.0
    return float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)


def measured(env: str, quality: str, place: str, data: ReportData) -> list[dict[str, Any]]:
    """What the cells of one part say of each of its learners; JSON values."""
    curves: dict[str, Curves] = {c.algo: c for c in data.curves}
    demonstrator, untrained = curves["expert"], curves["untrained"]
    assert demonstrator.returns is not None and untrained.returns is not None
    steps, record = int(demonstrator.T[-1]), data.plan["worlds"][env]
    random = float(np.mean(untrained.returns[untrained.usable]))
    scale = shown(env, "100", steps, record)[0] - random
    best, typical = shown(env, quality, steps, record)[1], float(np.mean(demonstrator.returns))
    bc = curves.get("bc")
    found = []
    for algo, curve in curves.items():
        if algo in series.REFERENCES:
            continue
        assert curve.returns is not None
        returns, last = curve.returns[curve.usable], curve.T[-1:]
        verdict = series.verdict_of(data, curve)
        regret, fallen = curve.regret(last)[:, 0], None
        if bc is not None and algo != "bc":
            here, there = same_seeds(curve, bc)
            fallen = fall(regret[here], bc.regret(last)[there, 0])
        accuracy = training.metric(data, curve, "reward_accuracy")
        found.append(
            {
                "env": env,
                "quality": quality,
                "place": place,
                "algo": algo,
                "seed_ids": np.asarray(curve.seeds)[curve.usable].tolist(),
                "returns": returns.tolist(),
                "return": mean(returns),
                "demonstrator": typical,
                "best": best,
                "random": random,
                "unit": scale,
                "over_best": mean((returns - best) / scale),
                "over_mean": mean((returns - typical) / scale),
                "p": above_zero((returns - best) / scale),
                "verdict": verdict.get("verdict", tables.MISSING),
                "slope": verdict.get("slope"),
                "hazard": verdict.get("hazard"),
                "recovery": verdict.get("recovery"),
                "regret": mean(regret),
                "fall": fallen,
                "accuracy": float(np.mean(accuracy[1][:, -1])) if accuracy else None,
                "consumes": list(curve.consumes),
                "labels": curve.labels,
                "seeds": len(returns),
            }
        )
    return found


def paired(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> list[float] | None:
    """Mean difference of scores over the seeds that both have, with its interval."""
    if one is None:
        return None
    _, here, there = np.intersect1d(one["seed_ids"], other["seed_ids"], return_indices=True)
    return mean((np.array(one["returns"])[here] - np.array(other["returns"])[there]) / one["unit"])
