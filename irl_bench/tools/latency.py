"""Measures a world's latency L, the steps from a wrong action to the failure that it causes. The
horizons of a verdict must be at least ten times as long.

The world's expert acts first, then a burst of uniformly random actions, then the expert again. All
bursts disturb the same episodes. A burst of no actions shows how many fail in any case; episodes
that failed before the burst do not count.

Steps are counted from the last random action. A failure that comes before it counts from the first
one, which is the longest that its cause can lie back. After a single random action the two are the
same. So L is read from the shortest burst that makes enough episodes fail: `latency`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World
from irl_bench.rollouts.scan import scan

BURSTS = (0, 1, 2, 4, 8, 16, 32)
"""Numbers of random actions in a burst."""
EPISODES = 512
"""With 128 the median of a robot's L rested on twenty falls or fewer."""
BEFORE = 250
"""Steps of the expert before a burst, at least. A robot that runs has to have settled first."""
WATCHED = 500
"""How long a failure is waited for, from the first random action on [steps]."""
ENOUGH = 0.1
"""Share of the episodes that a burst must make fail, beyond those that fail without it."""


def measure(
    world: World,
    seed: int = 0,
    episodes: int = EPISODES,
    before: int = BEFORE,
    watched: int = WATCHED,
) -> list[dict[str, Any]]:
    """Measures how many episodes fail after a burst, and how soon.

    Args:
      world: has an expert and continuous actions.
      seed: of the episodes.
      episodes: number of episodes, which are the same for every burst.
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
        states = jax.vmap(world.reset)(jax.random.split(start_key, episodes))

        def expert(states: State, t: jax.Array) -> jax.Array:
            return jax.vmap(world.expert)(
                states, jax.random.split(jax.random.fold_in(act_key, t), episodes)
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

        # The bursts lie side by side: first all episodes with the first of them, and so on.
        count = episodes * len(BURSTS)
        burst = jnp.repeat(jnp.asarray(BURSTS), episodes)
        repeated = lambda x: jnp.tile(x, (len(BURSTS),) + (1,) * (x.ndim - 1))

        def disturbed(states: State, first: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
            drawn = jax.random.uniform(
                jax.random.fold_in(random_key, t),
                (episodes, world.action_size),
                minval=-1.0,
                maxval=1.0,
            )
            keys = jax.random.split(jax.random.fold_in(act_key, before + t), episodes)
            usual = jax.vmap(world.expert)(states, repeated(keys))
            return jnp.where((t < burst)[:, None], repeated(drawn), usual), t

        def failure(
            before: State, after: State, first: jax.Array, t: jax.Array
        ) -> tuple[State, jax.Array, None]:
            failed = ~(after.metrics["cost"] <= 0)  # broken physics, NaN, is a failure too
            return after, jnp.where((first == 0) & failed, t + 1, first), None

        (_, first), _ = scan(
            world,
            disturbed,
            failure,
            jax.tree.map(repeated, states),
            jnp.arange(watched),
            memory=jnp.zeros(count, jnp.int32),
            worlds=True,
        )
        since = jnp.where(first >= burst, first - jnp.maximum(burst - 1, 0), first)
        return sound, jnp.where(first > 0, since, 0).reshape(len(BURSTS), -1)

    sound, steps = map(np.asarray, run(jax.random.PRNGKey(seed)))
    rows = []
    for burst, since in zip(BURSTS, steps, strict=True):
        failed = since[sound & (since > 0)]
        quantiles = np.percentile(failed, (10, 50, 90)).tolist() if len(failed) else None
        rows.append(
            {
                "burst": burst,
                "episodes": int(sound.sum()),
                "failed": len(failed) / max(1, int(sound.sum())),
                "steps": quantiles,
            }
        )
    return rows


def latency(rows: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """Returns L [steps] and the burst that it is read from: the median, rounded up, of the shortest
    burst that makes at least ENOUGH of the episodes fail; None if none does.

    Args:
      rows: as `measure` returns them.
    """
    anyway = rows[0]["failed"]
    for row in rows[1:]:
        if row["failed"] - anyway >= ENOUGH:
            return math.ceil(row["steps"][1]), row["burst"]
    return None
