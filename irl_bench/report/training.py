"""What training by reinforcement looked like: diagnostics by round, seeds that collapsed, and
the reward that was learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

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
    "reward_accuracy": "accuracy of the learned reward on comparisons kept back (their segments "
    "may be in others)",
    "reward_accuracy_now": "the same on the policy's own rollouts",
    "reference_kl": "KL from the policy it began with, per step",
    "kept_round": "round after which the policy was that is kept now (0: the one it began with)",
    "kl": "KL per update",
    "value_loss": "value's loss",
}
"""Metric of a round -> what it is, in the order shown."""

WINDOW = 5
"""Rounds over which costs are averaged before a collapse is looked for."""
FALL = 0.2
"""A seed has collapsed if its cost per step ends this far above the lowest it had."""


def metric(data: ReportData, curve: object, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(rounds int[R], values float[S', R]) of the usable seeds; None if there are none."""
    found = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get(f"train/{name}")  # type: ignore[attr-defined]
    if found is None or not curve.usable.any():  # type: ignore[attr-defined]
        return None
    return found[0], found[1][curve.usable]  # type: ignore[attr-defined]


def panels(data: ReportData) -> Iterator[tuple[Panel, list[tuple[object, np.ndarray, np.ndarray]]]]:
    """One panel per world, mode and diagnostic, which its title names: (panel, [(curve, rounds,
    values)]). Only of learners that have a training cost: those that drive while they learn."""
    for panel in series.panels(data):
        drivers = [curve for curve in series.learners(panel) if metric(data, curve, "cost")]
        for name, words in DIAGNOSTICS.items():
            found = [(curve, *values) for curve in drivers if (values := metric(data, curve, name))]
            if found:
                yield (
                    dataclasses.replace(panel, title=f"{panel.title}: {words}", window=None),
                    found,
                )


def collapse_round(cost: np.ndarray) -> int | None:
    """The last round (from 1) at which a seed's smoothed cost float[R] was within FALL of its
    lowest; None if it still is."""
    if len(cost) < WINDOW:
        return None
    smooth = np.convolve(cost, np.ones(WINDOW) / WINDOW, "valid")
    above = smooth - np.minimum.accumulate(smooth)
    if not above[-1] > FALL:
        return None
    return int(np.flatnonzero(above <= FALL)[-1]) + WINDOW


def collapsed(data: ReportData, curve: object) -> str:
    """`seed (round n), ...`, "none", or a dash for a learner without a training cost."""
    found = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("train/cost")  # type: ignore[attr-defined]
    if found is None:
        return "–"
    rounds = {
        seed: collapse_round(values) for seed, values in zip(curve.seeds, found[1], strict=True)
    }  # type: ignore[attr-defined]
    return (
        ", ".join(f"{seed} (round {at})" for seed, at in rounds.items() if at is not None) or "none"
    )


@dataclasses.dataclass(frozen=True)
class Map:
    """A quantity over a world's probe."""

    title: str
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    """float[Y, X]."""
    x_name: str
    y_name: str


def maps(data: ReportData) -> list[Map]:
    """Learned rewards, each seed's standardised and then averaged, beside minus the true graded
    cost, world by world."""
    found: list[Map] = []
    for env, world in data.plan.get("worlds", {}).items():
        probe = world.get("probe")
        here = [(entry, values) for entry, values in data.maps.items() if entry[0] == env]
        if not probe or not here:
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
        found.append(
            Map(
                f"{env}: minus the true graded cost",
                x,
                y,
                lay(-np.asarray(probe["cost"], float)),
                *names,
            )
        )
        for (_, algo, mode), values in here:
            spread = values.std(axis=1, keepdims=True)
            scaled = (values - values.mean(axis=1, keepdims=True)) / np.where(
                spread > 0, spread, 1.0
            )
            title = f"{env}, {series.mode_title(data, env, mode)}: reward learned by {algo}"
            found.append(Map(title, x, y, lay(scaled.mean(axis=0)), *names))
    return found
