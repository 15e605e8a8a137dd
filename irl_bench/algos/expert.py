"""The world's own expert, against which regret is measured. It learns nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task


def make(spec: Spec, config: None = None) -> Learner:
    """Returns a learner with 0 rounds that lets the world's expert act."""

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
