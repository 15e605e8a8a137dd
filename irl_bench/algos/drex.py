"""D-REX: more action noise makes a clone worse, so the noise level ranks its rollouts and no
teacher is needed.

Two rollouts of the clone form a pair if their probabilities of a random action differ by at least
`margin`; the one with less noise wins. A reward of the state is fitted to snippets of such pairs
and maximised with PPO. It may extrapolate beyond the best rollout.
                                                              Brown et al. 2020 (arXiv 1907.03976)
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import ranked, trainer
from irl_bench.preferences.reward_model import Comparisons, Segments


@dataclasses.dataclass(frozen=True)
class Config(ranked.Config):
    """Settings of D-REX."""

    margin: float = setting(0.3, "least difference of noise within a pair", low=0.0, high=0.9)
    reference_kl: float = setting(
        0.2,
        "beta: reward is lowered by this times log(pi / pi_ref); the reference is the clone",
        low=0.0,
        high=100.0,
    )


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of D-REX.

    Raises:
      BadInput: `pool_worlds` does not fit the levels of noise, or settings contradict each other.
    """
    pool = ranked.Pool(spec, config)
    gap = pool.noise[None, :] - pool.noise[:, None]
    better, worse = (jnp.asarray(x) for x in np.nonzero(gap >= max(config.margin, 1e-3) - 1e-6))

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        pool_key, pair_key, at_key = jax.random.split(key, 3)
        segments, _ = pool(learner.draw(state.policy, state.policy.reference), task.dials, pool_key)
        chosen = jax.random.randint(pair_key, (config.pairs,), 0, len(better))
        order = pool.order(key)
        first, second = pool.snippets(order[better[chosen]], order[worse[chosen]], at_key)
        ones = jnp.ones(config.pairs)
        return segments, Comparisons(first, second, ones, ones)

    def fresh(state: trainer.State, task: Task, key: jax.Array) -> Segments:
        return pool(learner.draw(state.policy, state.policy.reference), task.dials, key)[0]

    learner = trainer.Trainer(
        spec, config, ask, fresh, config.pairs, pool.segments, pool.worlds * config.pool_steps
    )
    return learner.learner(Consumes())
