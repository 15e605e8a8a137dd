"""Soft actor-critic on the world's own reward: a control, and a way to train demonstrators that PPO
cannot train well enough.

The loop is `irl_bench.rl.sac`. The policy starts at random and uses no demonstrations.
    Haarnoja et al. 2018 (arXiv 1812.05905)
"""

from __future__ import annotations

import jax

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task
from irl_bench.rl import sac

Config = sac.Config


def make(spec: Spec, config: sac.Config) -> Learner:
    """Returns the learner of SAC on the world's own reward.

    Raises:
      BadInput: a discrete world, or settings that contradict each other.
    """
    inner = sac.SAC(spec, config)

    def update(state: sac.State, task: Task) -> tuple[sac.State, dict[str, jax.Array]]:
        return inner.update(state, task.dials)

    return Learner(
        init=inner.init,
        update=update,
        policy=inner.params,
        act=inner.act,
        rounds=config.rounds,
        consumes=Consumes(env_steps=inner.env_steps),
    )
