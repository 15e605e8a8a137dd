"""T-REX: a reward that explains a ranking of rollouts, and so may be extrapolated beyond the best
of them.

The rollouts are those of D-REX, a clone's with more and more noise, but here somebody ranks them by
their true return. A reward of the state is fitted to snippets of pairs of them, and PPO maximises
it.
                                                              Brown et al. 2019 (arXiv 1904.06387)
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import ranked, trainer
from irl_bench.preferences.reward_model import Comparisons, Segments


@dataclasses.dataclass(frozen=True)
class Config(ranked.Config):
    """Settings of T-REX."""


def make(spec: Spec, config: Config) -> Learner:
    pool = ranked.Pool(spec, config)

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        pool_key, pair_key, step_key, at_key = jax.random.split(key, 4)
        segments, total = pool(
            learner.draw(state.policy, state.policy.reference), task.dials, pool_key
        )
        one = jax.random.randint(pair_key, (config.pairs,), 0, pool.worlds)
        two = (one + jax.random.randint(step_key, (config.pairs,), 1, pool.worlds)) % pool.worlds
        first, second = pool.snippets(one, two, at_key)
        gap = total[one] - total[two]
        return segments, Comparisons(
            first, second, jnp.where(gap == 0, 0.5, gap > 0), jnp.ones(config.pairs)
        )

    learner = trainer.Trainer(
        spec, config, ask, config.pairs, pool.segments, pool.worlds * config.pool_steps
    )
    # A ranking of n takes about n log2 n comparisons, however many pairs are then read off it.
    return learner.learner(
        Consumes(preference_labels=pool.worlds * math.ceil(math.log2(pool.worlds)))
    )
