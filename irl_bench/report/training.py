"""What happened in training: diagnostics by round, seeds that collapsed, and learned rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from irl_bench.horizon import Curves
from irl_bench.report import series
from irl_bench.report.data import ReportData
from irl_bench.report.series import Panel

DIAGNOSTICS = {
    "cost": "true cost per step",
    "true_return": "true return of an episode",
    "disc_accuracy_expert": "discriminator's accuracy on the expert",
    "disc_accuracy_policy": "discriminator's accuracy on the policy",
    "disc_loss": "discriminator's loss",
    "disc_penalty": "gradient penalty",
    "reward_mean": "learned reward, mean",
    "reward_std": "learned reward, spread",
    "reward_correlation": "correlation of the reward with minus the graded cost",
    "state_distance": "energy distance of states from the expert's",
    "entropy": "policy's entropy",
    "std": "policy's standard deviation",
    "proxy": "learned reward that is maximised, mean",
    "reward_accuracy": "accuracy of the learned reward on up to 1,000 fresh pairs of segments that "
    "it was not fitted to, labelled by the true return",
    "reward_accuracy_now": "accuracy of the learned reward on rollouts of the current policy",
    "reference_kl": "KL from the initial policy, per step",
    "probe_gold": "true return of a probe's rollout",
    "probe_proxy": "learned reward of a probe's rollout",
    "probe_proxy_start": "learned reward of the initial policy on a probe's rollout",
    "probe_kl": "KL from the initial policy, per rollout of a probe",
    "kept_round": "round of the policy that is kept (0: the initial policy)",
    "kl": "KL per update",
    "value_loss": "value's loss",
}
"""Metric of a round -> its name in the report, in the order shown."""

WINDOW = 5
"""Rounds over which costs are averaged before collapses are detected."""
FALL = 0.2
"""A seed has collapsed if its averaged cost per step ends more than this above its lowest."""


def metric(data: ReportData, curve: Curves, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A training metric of a learner, by round.

    Args:
      data: the report.
      curve: the learner's.
      name: of the metric, as the learner's `update` returns it.

    Returns:
      (rounds int[R], values float[S', R] of the usable seeds); None if the metric was not recorded
      or no seed is usable.
    """
    recorded = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get(f"train/{name}")
    if recorded is None or not curve.usable.any():
        return None
    return recorded[0], recorded[1][curve.usable]


def panels(data: ReportData) -> Iterator[tuple[Panel, list[tuple[Curves, np.ndarray, np.ndarray]]]]:
    """One panel per world, mode and diagnostic.

    Only learners that act while they train, and so have a training cost, have diagnostics.

    Yields:
      The panel, whose title names the diagnostic, and (curve, rounds int[R], values float[S', R])
      of each learner.
    """
    for panel in series.panels(data):
        actors = [curve for curve in series.learners(panel) if metric(data, curve, "cost")]
        for name, words in DIAGNOSTICS.items():
            drawn = [(curve, *values) for curve in actors if (values := metric(data, curve, name))]
            if drawn:
                yield (
                    dataclasses.replace(panel, title=f"{panel.title}: {words}", window=None),
                    drawn,
                )


def collapse_round(cost: np.ndarray) -> int | None:
    """The round at which a seed collapsed.

    Args:
      cost: float[R], the seed's cost per step by round.

    Returns:
      The last round, counted from 1, at which the averaged cost was within FALL of its lowest
      value so far; None if it still is, or if there are fewer than WINDOW rounds.
    """
    if len(cost) < WINDOW:
        return None
    smooth = np.convolve(cost, np.ones(WINDOW) / WINDOW, "valid")
    above = smooth - np.minimum.accumulate(smooth)
    if not above[-1] > FALL:
        return None
    return int(np.flatnonzero(above <= FALL)[-1]) + WINDOW


def collapsed(data: ReportData, curve: Curves) -> str:
    """The seeds of a learner that collapsed, as `seed (round n), ...`.

    Returns:
      "none" if no seed collapsed, and a dash for a learner without a training cost.
    """
    recorded = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("train/cost")
    if recorded is None:
        return "–"
    rounds = {
        seed: collapse_round(values) for seed, values in zip(curve.seeds, recorded[1], strict=True)
    }
    return (
        ", ".join(f"{seed} (round {at})" for seed, at in rounds.items() if at is not None) or "none"
    )


@dataclasses.dataclass(frozen=True)
class Map:
    """A quantity over the grid of states at which a world probes rewards."""

    title: str
    """Of the plot."""
    x: np.ndarray
    """float[X], increasing, in the unit that `x_name` gives."""
    y: np.ndarray
    """float[Y], increasing, in the unit that `y_name` gives."""
    values: np.ndarray
    """float[Y, X]; NaN where the world has no probe."""
    x_name: str
    """What x is, with its unit."""
    y_name: str
    """What y is, with its unit."""


def maps(data: ReportData) -> list[Map]:
    """For each world, minus its true graded cost, then the learned rewards.

    A learned reward is standardised seed by seed, then averaged over seeds.
    """
    result: list[Map] = []
    for env, world in data.plan.get("worlds", {}).items():
        probe = world.get("probe")
        learned = [(entry, values) for entry, values in data.maps.items() if entry[0] == env]
        if not probe or not learned:
            continue
        x, y = np.unique(probe["x"]), np.unique(probe["y"])
        place = np.searchsorted(y, probe["y"]) * len(x) + np.searchsorted(x, probe["x"])

        def lay(
            values: np.ndarray, x: np.ndarray = x, y: np.ndarray = y, place: np.ndarray = place
        ) -> np.ndarray:
            grid = np.full(len(x) * len(y), np.nan)
            grid[place] = values
            return grid.reshape(len(y), len(x))

        names = probe["x_name"], probe["y_name"]
        result.append(
            Map(
                f"{env}: minus the true graded cost",
                x,
                y,
                lay(-np.asarray(probe["cost"], float)),
                *names,
            )
        )
        for (_, algo, mode), values in learned:
            spread = values.std(axis=1, keepdims=True)
            scaled = (values - values.mean(axis=1, keepdims=True)) / np.where(
                spread > 0, spread, 1.0
            )
            title = f"{env}, {series.mode_title(data, env, mode)}: reward learned by {algo}"
            result.append(Map(title, x, y, lay(scaled.mean(axis=0)), *names))
    return result
