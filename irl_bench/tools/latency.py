"""Measures a world's latency L, the steps from a wrong action to the failure that it causes. The
horizons of a verdict must be at least ten times as long.

The world's expert acts first, then a burst of uniformly random actions, then the expert again. The
time to failure comes from episodes that fail within `watched` steps of the first random action;
episodes that failed before it do not count.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World
from irl_bench.rollouts.scan import scan

BURSTS = (1, 2, 4, 8, 16, 32)
"""Numbers of random actions in a burst."""
WATCHED = 500
"""How long a fall is waited for [steps]."""


def measure(
    world: World, seed: int = 0, episodes: int = 128, before: int = 250, watched: int = WATCHED
) -> list[dict[str, Any]]:
    """Measures how many episodes fail after a burst, and how soon.

    Args:
      world: has an expert and continuous actions.
      seed: of the episodes.
      episodes: number of episodes per burst length.
      before: steps of the expert before the burst.
      watched: steps from the first random action on.

    Returns:
      A row per burst length: "burst"; "episodes", those without a failure before it; "failed", the
      share of these that fail; and "steps", the 10, 50 and 90 % quantiles of the steps until they
      do, or None if none fails.
    """

    @jax.jit
    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, act_key, random_key = jax.random.split(key, 3)
        count = episodes * len(BURSTS)
        burst = jnp.repeat(jnp.asarray(BURSTS), episodes)
        states = jax.vmap(world.reset)(jax.random.split(start_key, count))

        def expert(states: State, t: jax.Array) -> jax.Array:
            return jax.vmap(world.expert)(
                states, jax.random.split(jax.random.fold_in(act_key, t), count)
            )

        (states, _), _ = scan(
            world,
            lambda states, memory, t: (expert(states, t), None),
            lambda before, after, memory, aside: (after, memory, None),
            states,
            jnp.arange(before),
            worlds=True,
        )
        sound = states.metrics["cost"] == 0

        def disturbed(states: State, first: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            key = jax.random.fold_in(random_key, t)
            drawn = jax.random.uniform(key, (count, world.action_size), minval=-1.0, maxval=1.0)
            return jnp.where((t < burst)[:, None], drawn, expert(states, before + t)), t

        def failure(
            before: State, after: State, first: jax.Array, t: jax.Array
        ) -> tuple[State, jax.Array, None]:
            failed = ~(after.metrics["cost"] <= 0)  # broken physics, NaN, is a failure too
            return after, jnp.where((first == 0) & failed, t + 1, first), None

        (_, first), _ = scan(
            world,
            disturbed,
            failure,
            states,
            jnp.arange(watched),
            memory=jnp.zeros(count, jnp.int32),
            worlds=True,
        )
        return sound.reshape(len(BURSTS), -1), first.reshape(len(BURSTS), -1)

    sound, first = map(np.asarray, run(jax.random.PRNGKey(seed)))
    rows = []
    for burst, ok, steps in zip(BURSTS, sound, first, strict=True):
        failed = steps[ok & (steps > 0)]
        quantiles = np.percentile(failed, (10, 50, 90)).tolist() if len(failed) else None
        rows.append(
            {
                "burst": burst,
                "episodes": int(ok.sum()),
                "failed": len(failed) / max(1, int(ok.sum())),
                "steps": quantiles,
            }
        )
    return rows
