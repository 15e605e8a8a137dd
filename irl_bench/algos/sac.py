"""Soft actor-critic on the world's own reward: a control, and a trainer of demonstrators where PPO
stops short.

The loop is `irl_bench.rl.sac`. The policy starts at random and sees no demonstration.
"""

from __future__ import annotations

import jax

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task
from irl_bench.rl import sac

Config = sac.Config


def make(spec: Spec, config: sac.Config) -> Learner:
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
