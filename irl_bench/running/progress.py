"""The progress of one cell: its counts so far, and the rows that are stored at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from irl_bench.core.cell import CellSpec
from irl_bench.core.learner import Consumes
from irl_bench.core.quantities import COUNTS, CURVES, TOLERANCES, eps_expert, eps_own
from irl_bench.storage import untrusted


@dataclasses.dataclass
class Failure:
    """A seed whose training or evaluation gave a number that is not finite."""

    seed: int
    """The seed."""
    round: int
    """The first round with such a number; 0: before the first round."""
    quantity: str
    """The first metric that was not finite; `params` or `cost` if every metric was."""


def costs_are_finite(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns bool[S]: whether all costs of a seed are finite. Otherwise the seed counts as failed.

    Args:
      sums: `cost` and `graded_cost`, float64[S, T].
    """
    return np.asarray(np.isfinite(sums["cost"] + sums["graded_cost"]).all(axis=1))


def quantities(sums: Mapping[str, np.ndarray], horizon: int) -> dict[str, np.ndarray]:
    """Returns the stored quantities of an evaluation, {name: float64[S] or float64[S, T]}.

    Args:
      sums: sums over episodes; the leading axis is the seed.
      horizon: T_max [steps] of an episode.
    """
    episodes = sums["episodes"][:, None]
    values = {
        "cost": np.cumsum(sums["cost"], axis=1) / episodes,
        "graded_cost": np.cumsum(sums["graded_cost"], axis=1) / episodes,
        "departed": np.cumsum(sums["departed"], axis=1) / episodes,
    }
    values |= {name: sums[name] for name in ("expected_cost", "reward_map") if name in sums}
    values |= {name: sums[name] for name in COUNTS}
    values["return"] = sums["reward"] / sums["episodes"]
    expert_steps, own_steps = np.maximum(sums["expert_steps"], 1), sums["episodes"] * horizon
    for index, tolerance in enumerate(TOLERANCES):
        values[eps_expert(tolerance)] = sums["expert_errors"][:, index] / expert_steps
        values[eps_own(tolerance)] = sums["own_errors"][:, index] / own_steps
    return values


class CellProgress:
    """Progress of one cell with W seeds and M metrics. The last metric is 0 while the params are
    finite, else NaN.

    Attributes:
      spec, key: the cell and its key.
      rounds: rounds of training in all.
      metrics: names of the M metrics.
      consumes: what one seed uses over all rounds.
      round: rounds of training done.
      block, eps_block: blocks of the final evaluation and of the held-out expert rollouts that are
        in `sums`.
      levels: {round: float64[W]}, mean cost per step of the evaluations while training.
      sums: float64 sums over episodes; the leading axis is the seed.
      resumed: the round and blocks of the checkpoint from which the cell resumed; None without
        one.
    """

    def __init__(
        self, spec: CellSpec, key: str, rounds: int, metrics: tuple[str, ...], consumes: Consumes
    ):
        self.spec, self.key, self.rounds, self.metrics, self.consumes = (
            spec,
            key,
            rounds,
            metrics,
            consumes,
        )
        self.round = self.block = self.eps_block = 0
        self.levels: dict[int, np.ndarray] = {}
        self.sums: dict[str, np.ndarray] = {}
        self.resumed: dict[str, int] | None = None
        self._history: list[np.ndarray] = []

    # Progress.

    @property
    def serial(self) -> int:
        """A number that grows with the progress; the serial number of a checkpoint."""
        return self.round + len(self.levels) + self.block + self.eps_block

    @property
    def trained(self) -> bool:
        """Whether all rounds are done."""
        return self.round >= self.rounds

    @property
    def evaluated(self) -> bool:
        """Whether all blocks of the final evaluation are done."""
        return self.block * self.spec.block >= self.spec.episodes

    @property
    def done(self) -> bool:
        """Whether everything is computed."""
        return (
            self.trained
            and self.evaluated
            and self.eps_block * self.spec.eps_block >= self.spec.eps_episodes
        )

    @property
    def fraction(self) -> float:
        """Share of the rounds and blocks that are done, in [0, 1]; for display."""
        blocks = (
            self.spec.episodes // self.spec.block + self.spec.eps_episodes // self.spec.eps_block
        )
        return (self.round + self.block + self.eps_block) / (self.rounds + blocks)

    def rounds_ahead(self, most: int) -> int:
        """Returns how many rounds to do now: at most `most`, and never past an evaluation."""
        ahead = min(most, self.rounds - self.round)
        return (
            min(ahead, self.spec.eval_every - self.round % self.spec.eval_every)
            if self.spec.eval_every
            else ahead
        )

    @property
    def level_due(self) -> bool:
        """Whether an evaluation while training is due after this round."""
        every = self.spec.eval_every
        return (
            bool(every)
            and self.round > 0
            and self.round % every == 0
            and self.round not in self.levels
        )

    def add_rounds(self, rows: np.ndarray) -> None:
        """Adds k further rounds with their metrics float32[k, W, M]."""
        self.round += len(rows)
        self._history.append(rows)

    def add_level(self, sums: Mapping[str, np.ndarray]) -> None:
        """Adds an evaluation while training: `cost` [W, T], `episodes` [W] and `broken` [W]."""
        cost = np.asarray(sums["cost"], np.float64).sum(axis=1)
        level = cost / (np.asarray(sums["episodes"], np.float64) * self.spec.horizon)
        self.levels[self.round] = np.where(sums["broken"] > 0, np.nan, level)

    def add(self, sums: Mapping[str, np.ndarray]) -> None:
        """Adds the sums of one block; the leading axis is the seed."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + np.asarray(value, np.float64)

    @property
    def history(self) -> np.ndarray:
        """Metrics of the rounds so far, float32[round, W, M]."""
        if len(self._history) != 1:
            empty = np.zeros((0, self.spec.width, len(self.metrics)), np.float32)
            self._history = [np.concatenate([empty, *self._history])]
        return self._history[0]

    # Checkpoints.

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns everything but the learner's state: arrays by name, and JSON values."""
        arrays = {
            "history": self.history,
            **{f"sums.{name}": value for name, value in self.sums.items()},
        }
        arrays |= {f"level.{at}": value for at, value in self.levels.items()}
        return arrays, {
            "key": self.key,
            "round": self.round,
            "block": self.block,
            "eps_block": self.eps_block,
        }

    def check_arrays(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Raises ValueError, in one line, if `to_arrays` of this cell has not returned this."""
        if facts.get("key") != self.key:
            raise ValueError(f"it belongs to cell {untrusted.shown(facts.get('key'))}")
        counts = ("round", "block", "eps_block")
        absent = [name for name in counts if not isinstance(facts.get(name), int)]
        if absent or "history" not in arrays:
            raise ValueError(f"it has no {(*absent, 'history')[0]}")
        shape = (facts["round"], self.spec.width, len(self.metrics))
        if arrays["history"].shape != shape:
            raise ValueError(f"its history has the shape {arrays['history'].shape}, not {shape}")

    def take_arrays(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Restores what `to_arrays` returned. Raises ValueError, as `check_arrays`, for anything
        else."""
        self.check_arrays(arrays, facts)
        self.resumed = {name: int(facts[name]) for name in ("round", "block", "eps_block")}
        self.round, self.block, self.eps_block = self.resumed.values()
        self._history = [arrays["history"]]
        self.sums = {
            name.removeprefix("sums."): value
            for name, value in arrays.items()
            if name.startswith("sums.")
        }
        levels = {
            int(name.removeprefix("level.")): value
            for name, value in arrays.items()
            if name.startswith("level.")
        }
        self.levels = dict(sorted(levels.items()))

    # Results.

    def failures(self) -> list[Failure]:
        """Returns the failed seeds, each with its first bad quantity."""
        failures: list[Failure] = []
        bad = ~np.isfinite(self.history)
        finite = (
            costs_are_finite(self.sums) if "cost" in self.sums else np.ones(self.spec.width, bool)
        )
        broken = self.sums.get("broken", np.zeros(self.spec.width))
        for index, seed in enumerate(self.spec.seeds):
            if bad[:, index].any():
                row = int(np.argmax(bad[:, index].any(axis=1)))
                failures.append(
                    Failure(seed, row + 1, self.metrics[int(np.argmax(bad[row, index]))])
                )
            elif broken[index] > 0:
                failures.append(Failure(seed, self.round, self.metrics[-1]))
            elif not finite[index]:
                failures.append(Failure(seed, self.round, "cost"))
        return failures

    def manifest(self, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the manifest of the cell's file without its spec and key; JSON values."""
        return {
            "fingerprint": dict(fingerprint),
            "rounds": self.rounds,
            "consumes": dataclasses.asdict(self.consumes),
            "failures": [dataclasses.asdict(failure) for failure in self.failures()],
        }

    def rows(self) -> dict[str, np.ndarray]:
        """Returns the columns seed, round, T, quantity and value of the finished cell. The final
        quantities of a failed seed are NaN."""
        width, sums = self.spec.width, self.sums
        failures = {failure.seed: failure.round for failure in self.failures()}
        failed = np.array([seed in failures for seed in self.spec.seeds])
        table = _Rows(self.spec.seeds)

        for name, values in zip(self.metrics[:-1], np.moveaxis(self.history, 2, 0), strict=False):
            table.add(
                f"train/{name}", np.arange(1, self.round + 1), np.zeros(1), values[:, :, None]
            )
        for at, level in self.levels.items():
            table.add("level", np.array([at]), np.array([self.spec.horizon]), level[None, :, None])

        def final(quantity: str, values: np.ndarray, horizons: np.ndarray | None = None) -> None:
            values = np.where(failed[:, None], np.nan, values.reshape(width, -1))
            table.add(
                quantity,
                np.array([self.rounds]),
                np.zeros(1) if horizons is None else horizons,
                values[None],
            )

        steps = np.arange(1, self.spec.horizon + 1)
        for name, values in quantities(sums, self.spec.horizon).items():
            if name in CURVES:
                final(name, values, steps)
            elif name == "reward_map":  # `T` counts the world's probe observations
                final(name, values, np.arange(values.shape[1]))
            else:
                final(name, values)
        if "departures" in self.metrics:
            final(
                "departures",
                self.history[:, :, self.metrics.index("departures")].astype(np.float64).sum(axis=0),
            )

        ends = np.array([failures.get(seed, -1) for seed in self.spec.seeds])
        table.add(
            "failed", np.array([self.rounds]), np.zeros(1), failed.astype(np.float64)[None, :, None]
        )
        table.add(
            "failed_round",
            np.array([self.rounds]),
            np.zeros(1),
            ends.astype(np.float64)[None, :, None],
        )
        return table.columns()


class _Rows:
    """Collects arrays [rounds, seeds, horizons] as rows, seed by seed within a round."""

    def __init__(self, seeds: range):
        self._seeds = np.asarray(seeds)
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(
        self, quantity: str, rounds: np.ndarray, horizons: np.ndarray, values: np.ndarray
    ) -> None:
        """Adds a quantity, values [rounds, seeds, horizons]."""
        at, seed, horizon = np.meshgrid(rounds, self._seeds, horizons, indexing="ij")
        name = np.full(values.size, quantity, dtype=object)
        self._parts.append((seed.ravel(), at.ravel(), horizon.ravel(), name, values.ravel()))

    def columns(self) -> dict[str, np.ndarray]:
        """The rows so far as columns."""
        seed, at, horizon, name, value = (
            np.concatenate(parts) for parts in zip(*self._parts, strict=True)
        )
        integers = {"seed": seed, "round": at, "T": horizon}
        return {
            **{k: v.astype(np.int32) for k, v in integers.items()},
            "quantity": name,
            "value": value.astype(np.float64),
        }
