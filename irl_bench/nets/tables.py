"""Policies that are a table of actions: one per time step and view.

A time-indexed policy shares nothing between time steps, so a longer episode brings it no further
labels at any step. For such policies the regret of behavioural cloning grows like T² also if it is
trained anew at every T (Foster, Block and Misra 2024, arXiv 2407.15007, compare both kinds).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World
from irl_bench.core.types import Demonstrations

WATCHED = 8
"""Steps over which `indexable` looks at observations."""


def indexable(world: World) -> bool:
    """Returns whether a table can index a world: its actions are discrete, and every observation of
    a short episode is one-hot."""
    if world.n_actions is None:
        return False
    n_actions = world.n_actions

    def observe(state: State, t: jax.Array) -> tuple[State, Any]:
        return world.step(state, t % n_actions), state.obs

    steps = jnp.arange(WATCHED, dtype=jnp.int32)
    _, seen = jax.lax.scan(observe, world.reset(jax.random.PRNGKey(0)), steps)
    return bool(np.all(np.max(seen, -1) == 1) and np.all(np.count_nonzero(seen, -1) == 1))


def fit(demos: Demonstrations, n_actions: int) -> jax.Array:
    """The most frequent action of the demonstrations at each time step in each view.

    Args:
      demos: N episodes of T steps with one-hot observations; steps with mask 0 do not count.
      n_actions: A.

    Returns:
      int32[T, O]; 0 where no demonstration was in that view at that time.
    """
    view = jnp.argmax(demos.observation, axis=-1)
    steps = jnp.broadcast_to(jnp.arange(view.shape[1]), view.shape)
    shape = (*demos.observation.shape[1:], n_actions)
    counts = jnp.zeros(shape, jnp.float32).at[steps, view, demos.action].add(demos.mask)
    return jnp.argmax(counts, axis=-1).astype(jnp.int32)


def act(
    table: jax.Array, t: jax.Array, observation: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The table's action.

    Args:
      table: int32[T, O].
      t: int32[], steps since the start of the episode. Beyond the table its last step counts.
      observation: float32[O], one-hot.
      key: not used.

    Returns:
      (action int32[], t + 1).
    """
    del key
    return table[jnp.minimum(t, table.shape[0] - 1), jnp.argmax(observation)], t + 1
