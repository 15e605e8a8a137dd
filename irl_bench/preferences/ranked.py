"""Rollouts of a clone made worse on purpose, and snippets of them paired: the data of T-REX and
D-REX.

In each rollout an action is replaced by a uniformly random one with a probability of its own, 0 to
0.95 in steps of 0.05 (Brown et al. 2020, arXiv 1907.03976, section 5 and appendix D). A pair holds
one snippet of either of two rollouts.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec
from irl_bench.preferences import trainer
from irl_bench.preferences.reward_model import Segments

LEVELS = np.arange(20) * 0.05
"""Probabilities of a random action."""


@dataclasses.dataclass(frozen=True)
class Config(trainer.Config):
    """Settings of learning from ranked rollouts."""

    segment: int = setting(50, "length of a snippet", unit="steps", low=1, high=10_000)
    pairs: int = setting(
        5000, "pairs of snippets that the reward is fitted to", low=10, high=10_000_000
    )
    reward_weight_decay: float = setting(
        1e-2, "decoupled weight decay on matrices", low=0.0, high=10.0
    )
    reference_kl: float = setting(
        0.0,
        "beta: reward is lowered by this times log(pi / pi_ref); the reference is the clone",
        low=0.0,
        high=100.0,
    )
    pool_worlds: int = setting(
        100, "rollouts, the same number at each of the 20 levels of noise", low=20, high=65520
    )


class Pool:
    """The rollouts' segments and which of them belong together; all shapes follow from the
    settings."""

    def __init__(self, spec: Spec, config: Config):
        self.spec, self.config = spec, config
        each, rest = divmod(config.pool_worlds, len(LEVELS))
        if rest:
            near = max(1, each) * len(LEVELS)
            raise BadInput(
                f"pool_worlds={config.pool_worlds} must be a multiple of {len(LEVELS)}; nearest: "
                f"pool_worlds={near}"
            )
        self.worlds = config.pool_worlds
        self.per_rollout = config.pool_steps // min(config.segment, config.pool_steps)
        self.noise = np.repeat(LEVELS, each).astype(np.float32)

    @property
    def segments(self) -> int:
        return self.worlds * self.per_rollout

    def __call__(self, act: Any, dials: Any, key: jax.Array) -> tuple[Segments, jax.Array]:
        """The segments of all rollouts and the rollouts' true returns float32[worlds]; `key` is
        consumed."""
        config = self.config
        lost = trainer.noisy(self.spec, act, jnp.asarray(self.noise))
        segments, batch = trainer.pool(
            self.spec, dials, lost, self.worlds, config.pool_steps, config.segment, key
        )
        return segments, jnp.sum(batch.reward, 0)

    def snippets(
        self, first: jax.Array, second: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """One random snippet of each of the rollouts int32[P] and int32[P], as indices of
        segments; `key` is consumed."""
        at = jax.random.randint(key, (2, len(first)), 0, self.per_rollout)
        return first * self.per_rollout + at[0], second * self.per_rollout + at[1]
