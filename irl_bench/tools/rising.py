"""Measures whether an expert gets up. DAgger's bound of O(T eps) assumes that the expert recovers
from the learner's errors.

The expert acts in every episode, which starts fallen. It has got up if none of the last `still`
steps is a failure.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from envs.core import State, World
from irl_bench.rollouts.scan import scan


def measure(
    world: World, seed: int = 0, states: int = 500, steps: int = 1000, still: int = 50
) -> dict[str, Any]:
    """Measures in how many episodes the expert gets up, and how soon.

    Args:
      world: has an expert and starts fallen.
      seed: of the episodes.
      states: number of episodes. Those whose first step is no failure did not start fallen and are
        left out.
      steps: length of an episode.
      still: steps at its end that must be free of failures.

    Returns:
      "fallen", the episodes that started fallen; "up", those that got up; "interval", the 95 %
      interval of their share (Wilson 1927), None without fallen episodes; and "steps", the 10, 50
      and 90 % quantiles of the steps that it took, None if no episode got up.
    """

    @jax.jit
    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, act_key = jax.random.split(key)
        started = jax.vmap(world.reset)(jax.random.split(start_key, states))

        def expert(now: State, last: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            keys = jax.random.split(jax.random.fold_in(act_key, t), states)
            return jax.vmap(world.expert)(now, keys), t

        def failure(
            before: State, after: State, last: jax.Array, t: jax.Array
        ) -> tuple[State, jax.Array, jax.Array]:
            failed = ~(after.metrics["cost"] <= 0)  # broken physics, NaN, has not got up
            return after, jnp.where(failed, t + 1, last), failed

        (_, last), failed = scan(
            world,
            expert,
            failure,
            started,
            jnp.arange(steps),
            memory=jnp.zeros(states, jnp.int32),
            worlds=True,
        )
        return failed[0], last

    fell, last = map(np.asarray, run(jax.random.PRNGKey(seed)))
    took = last[fell]
    up = took[took <= steps - still]
    interval = (
        stats.binomtest(len(up), len(took)).proportion_ci(method="wilson") if len(took) else None
    )
    return {
        "fallen": len(took),
        "up": len(up),
        "interval": [float(interval.low), float(interval.high)] if interval else None,
        "steps": np.percentile(up, (10, 50, 90)).tolist() if len(up) else None,
    }
