"""The one loop that steps worlds through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import jax

from envs.core import State, World

Act = Callable[[State, Any, Any], tuple[jax.Array, Any]]
"""(state, memory, x) -> (action of the step, aside: whatever `Record` needs besides it)."""
Record = Callable[[State, State, Any, Any], tuple[State, Any, Any]]
"""(before, after, memory, aside) -> (state to go on from, memory, row to be stacked over time)."""


def observation_of(state: State) -> jax.Array:
    """A state's observation, float32[..., O]. Brax also allows a mapping; a `World` has one
    array."""
    return cast(jax.Array, state.obs)


def scan(
    world: World,
    act: Act,
    record: Record,
    state: State,
    xs: Any,
    memory: Any = None,
    worlds: bool = False,
) -> tuple[tuple[State, Any], Any]:
    """Steps one world, or E worlds side by side, once for each of the L rows of `xs`.

    Args:
      world: with its dials bound.
      act: chooses the action of a step.
      record: receives both ends of a step.
      state: the first state; leaves [E, ...] with `worlds`.
      xs: leaves [L, ...], such as one key per step.
      memory: carried from step to step beside the state: a recurrent policy's memory, or sums.
      worlds: whether `state` holds E worlds, which are stepped with `jax.vmap`.

    Returns:
      ((the last state, the last memory), the rows of `record` stacked [L, ...]).
    """
    advance = jax.vmap(world.advance) if worlds else world.advance

    def step(carry: tuple[State, Any], x: Any) -> tuple[tuple[State, Any], Any]:
        before, memory = carry
        action, aside = act(before, memory, x)
        after, memory, row = record(before, advance(before, action), memory, aside)
        return (after, memory), row

    return jax.lax.scan(step, (state, memory), xs)
