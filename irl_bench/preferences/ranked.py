"""Ranked rollouts for T-REX and D-REX: rollouts of the clone with increasing action noise, and
pairs of snippets cut from them.

Each rollout has its own probability, from 0 to 0.95 in steps of 0.05, with which an action is
replaced by a uniformly random one (Brown et al. 2020, arXiv 1907.03976, section 5 and appendix D).
A pair holds one snippet from each of two rollouts.
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
from irl_bench.rollouts.experience import Act

LEVELS = np.arange(20) * 0.05
"""Probabilities of a random action, float64[20]."""
SHUFFLE = 2**31 - 1
"""Number folded into a key for the random order; no split of the key gives the same."""


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
    shuffled: bool = setting(
        False, "rank the rollouts in a random order, which carries no information (a control)"
    )


class Pool:
    """The pool of noisy rollouts, whose shapes follow from the settings.

    Args:
      spec: the world and its sizes.
      config: the settings.

    Attributes:
      worlds: number of rollouts.
      per_rollout: segments that a rollout is cut into.
      noise: probability of a random action in each rollout, float32[worlds].

    Raises:
      BadInput: `pool_worlds` is not a multiple of the number of levels.
    """

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
        """Number of segments in all."""
        return self.worlds * self.per_rollout

    def __call__(self, act: Act, dials: Any, key: jax.Array) -> tuple[Segments, jax.Array]:
        """Rolls out a policy with noise.

        Args:
          act: as in `irl_bench.rollouts.experience.unroll`.
          dials: the world's.
          key: consumed.

        Returns:
          The segments, those of one rollout next to each other, and the rollouts' true returns
          float32[worlds].
        """
        config = self.config
        noisy_act = trainer.noisy(self.spec, act, jnp.asarray(self.noise))
        segments, batch = trainer.pool(
            self.spec, dials, noisy_act, self.worlds, config.pool_steps, config.segment, key
        )
        return segments, jnp.sum(batch.reward, 0)

    def order(self, key: jax.Array) -> jax.Array:
        """Whose place in the ranking each rollout takes, int32[worlds]: its own, or with `shuffled`
        that of a random one.

        Args:
          key: from which others may be split; not consumed.
        """
        own = jnp.arange(self.worlds)
        if not self.config.shuffled:
            return own
        return jax.random.permutation(jax.random.fold_in(key, SHUFFLE), own)

    def snippets(
        self, first: jax.Array, second: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """One random snippet of each rollout of P pairs.

        Args:
          first: first rollouts, int32[P].
          second: second rollouts, int32[P].
          key: consumed.

        Returns:
          Indices of segments, int32[P] each.
        """
        at = jax.random.randint(key, (2, len(first)), 0, self.per_rollout)
        return first * self.per_rollout + at[0], second * self.per_rollout + at[1]
