"""T-REX: a reward is fitted to a ranking of rollouts, so that it may extrapolate beyond the best of
them.

The rollouts are those of D-REX, a clone's with more and more noise, but here a teacher ranks them
by true return. A reward of the state is fitted to snippets of pairs of rollouts and maximised
with PPO.
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
    """Returns the learner of T-REX.

    Raises:
      BadInput: `pool_worlds` does not fit the levels of noise, or settings contradict each other.
    """
    pool = ranked.Pool(spec, config)

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        pool_key, pair_key, step_key, at_key = jax.random.split(key, 4)
        segments, total = pool(
            learner.draw(state.policy, state.policy.reference), task.dials, pool_key
        )
        first = jax.random.randint(pair_key, (config.pairs,), 0, pool.worlds)
        step = jax.random.randint(step_key, (config.pairs,), 1, pool.worlds)
        second = (first + step) % pool.worlds
        first_snippet, second_snippet = pool.snippets(first, second, at_key)
        total = total[pool.order(key)]
        gap = total[first] - total[second]
        return segments, Comparisons(
            first_snippet,
            second_snippet,
            jnp.where(gap == 0, 0.5, gap > 0),
            jnp.ones(config.pairs),
        )

    def fresh(state: trainer.State, task: Task, key: jax.Array) -> Segments:
        return pool(learner.draw(state.policy, state.policy.reference), task.dials, key)[0]

    learner = trainer.Trainer(
        spec, config, ask, fresh, config.pairs, pool.segments, pool.worlds * config.pool_steps
    )
    # A ranking of n rollouts takes about n log2 n comparisons, however many pairs are used.
    return learner.learner(
        Consumes(preference_labels=pool.worlds * math.ceil(math.log2(pool.worlds)))
    )
