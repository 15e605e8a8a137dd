"""A policy with random weights. Its level is the baseline: the slope of a learner that is no better
than this policy means nothing."""

from __future__ import annotations

from typing import Any

import jax

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy


def make(spec: Spec, config: None = None) -> Learner:
    """Returns a learner with 0 rounds whose policy has random weights."""
    policy = Policy(spec, (64, 64))

    def init(key: jax.Array, task: Task) -> Any:
        return policy.init(key)

    def update(state: Any, task: Task) -> tuple[Any, dict[str, jax.Array]]:
        return state, {}

    def act(params: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
        return policy.mode(params, observation)

    return Learner(
        init=init, update=update, policy=lambda state: state, act=act, rounds=0, consumes=Consumes()
    )
