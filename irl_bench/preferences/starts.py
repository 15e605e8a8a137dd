"""Rollouts that begin in the same state with the same random numbers of the world, so that only
actions differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs.core import World
from irl_bench.rollouts.experience import Transition, Worlds, unroll
from irl_bench.rollouts.scan import scan


def shared(
    world: World,
    act: Callable[..., Any],
    starts: int,
    copies: int,
    warm: int,
    steps: int,
    key: jax.Array,
) -> Transition:
    """`copies` rollouts from each of `starts` states that `act` reaches within `warm` steps; `key`
    is consumed.

    Args:
      world: with its dials bound.
      act: as in `irl_bench.rollouts.experience.unroll`.

    Returns:
      Transitions [starts, copies, steps].
    """
    reset_key, age_key, warm_key, roll_key = jax.random.split(key, 4)
    age = jax.random.randint(age_key, (starts,), 0, warm)

    def walk(state: Any, _: None, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        t, key = now
        return act(state.obs, key)[0], t

    def record(before: Any, after: Any, _: None, t: jax.Array) -> tuple[Any, None, None]:
        keep = lambda a, b: jnp.where((t < age).reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return jax.tree.map(keep, after, before), None, None

    start = jax.vmap(world.reset)(jax.random.split(reset_key, starts))
    now = (jnp.arange(warm), jax.random.split(warm_key, warm))
    (state, _), _ = scan(world, walk, record, start, now, worlds=True)
    alike = jax.tree.map(lambda x: jnp.repeat(x, copies, 0), state)
    worlds = Worlds(alike, jnp.zeros(copies * starts, jnp.int32))
    _, batch = unroll(world, act, worlds, roll_key, steps, steps + 1, terminate=False)
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(starts, copies, steps, *x.shape[2:]), batch
    )
