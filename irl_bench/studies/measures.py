"""What studies measure on curves: scores, means with their intervals, and ratios paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irl_bench.horizon import Curves, slopes
from irl_bench.horizon.window import settled_horizons
from irl_bench.report import ReportData, tables
from irl_bench.studies import levels


def same_seeds(first: Curves, second: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places, int[S] and int[S], of the seeds that are usable in both curves among the
    usable seeds of the first and of the second."""
    ids = [np.asarray(curve.seeds)[curve.usable] for curve in (first, second)]
    _, in_first, in_second = np.intersect1d(ids[0], ids[1], return_indices=True)
    return in_first, in_second


def interval(values: np.ndarray) -> list[float]:
    """Returns [mean, low, high] of values float[S] of S seeds, with the jackknife-t interval of
    95 %, which for a mean is Student's."""
    return [float(x) for x in slopes.jackknife_t(values, lambda m: m)]


def spread(values: Sequence[float]) -> str:
    """Returns [value, low, high] as text, with three significant digits."""
    middle, low, high = values
    return tables.interval(middle, low, high, lambda value: tables.number(value, 3))


def common_horizons(data: ReportData, env: str) -> np.ndarray:
    """Returns the horizons of all learners of a world, int[H] [steps]: those asked for, or a grid
    from the start of its window to T_max, whether or not episodes saturate.

    A verdict has its own window, which ends where its policy fails too often.
    """
    asked = data.plan["analysis"]["horizons"]
    if not isinstance(asked, str):
        return np.array(asked)
    world: Mapping[str, Any] = data.plan["worlds"][env]
    return settled_horizons(world["u"], world["latency"], world["horizon"])


def paired_ratio(curve: Curves, other: Curves, last: np.ndarray) -> list[float] | None:
    """Compares mean regrets over the seeds that both curves have.

    Args:
      curve, other: a learner and the one that it is compared with.
      last: int[1], the horizon [steps].

    Returns:
      [ratio, low, high], by a jackknife-t interval on the logarithm; None if a mean regret is not
      positive or no seed is shared.
    """
    in_curve, in_other = same_seeds(curve, other)
    pairs = np.stack([curve.regret(last)[in_curve, 0], other.regret(last)[in_other, 0]], axis=1)
    if not len(pairs) or not (pairs.mean(axis=0) > 0).all():
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = slopes.jackknife_t(pairs, lambda mean: np.log(mean[..., 0] / mean[..., 1]))
    return [float(np.exp(x)) for x in estimate]


def scores(
    data: ReportData, env: str, algo: str, mode: str, of: ReportData | None = None
) -> np.ndarray | None:
    """Returns each usable seed's normalised score over the longest horizon,
    (G - G_0) / (G* - G_0).

    G is the seed's return, G* the expert's mean return in the same world and mode, and G_0 that of
    uniformly random actions there (`levels.random_return`). The score is 1 for the expert and 0
    for random actions.

    Args:
      data: holds the curves.
      env, algo, mode: select the curve.
      of: where the expert's curve is taken from, `data` by default. In a changed world the expert
        may fail, so its return there would not be a scale.

    Returns:
      float[S], None if the algorithm or the expert was not run.
    """
    curves, experts = (
        {(c.env, c.algo, c.mode): c for c in source.curves} for source in (data, of or data)
    )
    curve, expert = curves.get((env, algo, mode)), experts.get((env, "expert", mode))
    if curve is None or expert is None:
        return None
    worst = levels.random_return(env, int(curve.T[-1]), data.plan["worlds"][env], mode)
    best = float(np.mean(returns_of(expert)))
    return (returns_of(curve) - worst) / (best - worst)


def returns_of(curve: Curves) -> np.ndarray:
    """Returns the return of each usable seed, float[S], over the longest horizon."""
    assert curve.returns is not None, "every sweep records returns"
    return curve.returns[curve.usable]
