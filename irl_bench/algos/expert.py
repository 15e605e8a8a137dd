"""The world's own expert: the reference that regret is measured against. Nothing is learned."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task


def make(spec: Spec, config: None = None) -> Learner:
    def init(key: jax.Array, task: Task) -> jax.Array:
        return jnp.zeros(())

    def update(state: jax.Array, task: Task) -> tuple[jax.Array, dict[str, jax.Array]]:
        return state, {}

    return Learner(
        init=init,
        update=update,
        policy=lambda state: state,
        act=None,
        rounds=0,
        consumes=Consumes(),
    )
