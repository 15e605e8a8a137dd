"""Rollouts that share their first state and the world's random numbers, so that only their actions
differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from envs.core import State, World
from irl_bench.rollouts.experience import Act, Transition, Worlds, unroll
from irl_bench.rollouts.scan import observation_of, scan


def shared(
    world: World,
    act: Act,
    starts: int,
    copies: int,
    warm: int,
    steps: int,
    key: jax.Array,
) -> Transition:
    """Several rollouts from each of several states, which `act` has reached.

    Args:
      world: with its dials bound.
      act: as in `irl_bench.rollouts.experience.unroll`.
      starts: number of first states.
      copies: rollouts from each.
      warm: each first state is reached by 0 to `warm` - 1 steps of `act` from a fresh reset
        [steps].
      steps: length of a rollout [steps].
      key: consumed.

    Returns:
      Transitions [starts, copies, steps].
    """
    *reach_keys, roll_key = jax.random.split(key, 4)
    state = reached(world, act, starts, warm, reach_keys)
    return alike(world, act, state, copies, steps, roll_key)


def reached(world: World, act: Act, starts: int, warm: int, keys: Sequence[jax.Array]) -> State:
    """States that `act` has reached.

    Args:
      world: with its dials bound.
      act: as in `irl_bench.rollouts.experience.unroll`.
      starts: number of states.
      warm: each state is reached by 0 to `warm` - 1 steps from a fresh reset [steps].
      keys: three, consumed.

    Returns:
      Leaves [starts, ...].
    """
    reset_key, age_key, warm_key = keys
    age = jax.random.randint(age_key, (starts,), 0, warm)

    def walk(state: Any, _: None, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        t, key = now
        return act(observation_of(state), key)[0], t

    def record(before: Any, after: Any, _: None, t: jax.Array) -> tuple[Any, None, None]:
        keep = lambda a, b: jnp.where((t < age).reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return jax.tree.map(keep, after, before), None, None

    start = jax.vmap(world.begin)(jax.random.split(reset_key, starts))
    now = (jnp.arange(warm), jax.random.split(warm_key, warm))
    (state, _), _ = scan(world, walk, record, start, now, worlds=True)
    return state


def alike(
    world: World, act: Act, state: State, copies: int, steps: int, key: jax.Array
) -> Transition:
    """Several rollouts from each of several states. The world's `done` ends none of them.

    Args:
      world: with its dials bound.
      act: as in `irl_bench.rollouts.experience.unroll`.
      state: the first states; leaves [starts, ...].
      copies: rollouts from each.
      steps: length of a rollout [steps].
      key: consumed.

    Returns:
      Transitions [starts, copies, steps].
    """
    starts = jnp.shape(observation_of(state))[0]
    repeated = jax.tree.map(lambda x: jnp.repeat(x, copies, 0), state)
    worlds = Worlds(repeated, jnp.zeros(copies * starts, jnp.int32))
    _, batch = unroll(world, act, worlds, key, steps, steps + 1, terminate=False)
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(starts, copies, steps, *x.shape[2:]), batch
    )
