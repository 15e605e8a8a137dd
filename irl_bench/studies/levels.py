"""The zero of all scores: what uniformly random actions earn in a world.

It is a constant of the world, its dials and the horizon, measured on the same RANDOM_ROLLOUTS
episodes everywhere, so scores of different tables have one zero. A network with random weights
would be another zero: it plays one action nearly everywhere, and how bad that is depends on the
world and the seed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax

from irl_bench.plan import registry
from irl_bench.rollouts.evaluation import evaluate

RANDOM_ROLLOUTS = 256
"""Number of rollouts of uniformly random actions."""


def random_return(env: str, steps: int, record: Mapping[str, Any], mode: str) -> float:
    """Measures the mean return of uniformly random actions.

    Args:
      env: the world.
      steps: length of a rollout.
      record: the world's record in the plan, for its dials and options.
      mode: of the world.
    """
    values = {**record["dials"], **record["options"]}
    return _random_return(env, steps, tuple(sorted(values.items())), mode)


@functools.cache
def _random_return(env: str, steps: int, values: tuple[tuple[str, Any], ...], mode: str) -> float:
    """Returns `random_return` for a world with some dials and options."""
    world = registry.world(env, dict(values)).world

    def act(params: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
        del params, observation
        return world.random_action(key)

    @jax.jit
    def run(dials: Any, key: jax.Array) -> jax.Array:
        return evaluate(world.bind(dials), act, (), key, RANDOM_ROLLOUTS, steps).reward

    total = run(world.dials_for(mode), jax.random.PRNGKey(0))
    return float(total) / RANDOM_ROLLOUTS
