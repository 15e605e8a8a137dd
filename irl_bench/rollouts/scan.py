"""The one way in which worlds are stepped through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from envs.core import State, World

Act = Callable[[State, Any, Any], tuple[jax.Array, Any]]
"""(state, memory, x) -> (action of the step, what `Record` needs beside it)."""
Record = Callable[[State, State, Any, Any], tuple[State, Any, Any]]
"""(before, after, memory, aside) -> (state to go on from, memory, what is stacked over time)."""


def scan(
    world: World,
    act: Act,
    record: Record,
    state: State,
    xs: Any,
    memory: Any = None,
    worlds: bool = False,
) -> tuple[tuple[State, Any], Any]:
    """Steps a world, or worlds side by side, once for each row of `xs`.

    Args:
      world: with its dials bound.
      act, record: called in every step.
      state: the first state; leaves [E, ...] with `worlds`.
      xs: leaves [L, ...], such as one key per step.
      memory: what is carried along beside the state: a recurrent policy's, or sums.
      worlds: whether `state` holds E worlds, which are stepped with `jax.vmap`.

    Returns:
      ((the last state, the last memory), what `record` returned, stacked [L, ...]).
    """
    advance = jax.vmap(world.step) if worlds else world.step

    def step(carry: tuple[State, Any], x: Any) -> tuple[tuple[State, Any], Any]:
        before, memory = carry
        action, aside = act(before, memory, x)
        after, memory, row = record(before, advance(before, action), memory, aside)
        return (after, memory), row

    return jax.lax.scan(step, (state, memory), xs)
