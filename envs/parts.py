"""Many worlds, stepped in parts that fit a CPU's cache.

The step of a robot has thousands of intermediate arrays. For a thousand worlds side by side they
lie in main memory; for some dozens they stay in the cache of a core, and each core steps half as
many worlds again per second. An accelerator needs them all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Step: TypeAlias = Callable[[Any, Any, jax.Array], Any]
"""(dials, state, action) -> the state that follows."""


def in_parts(step: Step, size: int) -> Step:
    """Returns a step that computes the same under any number of nested `jax.vmap`, part by part on
    a CPU.

    All mapped axes are one axis of N worlds then. It is cut into the fewest equal parts of at most
    `size` worlds; the last part is filled up with copies of the last world. Where the dials are
    mapped too, as in a search over dials, all worlds are stepped at once. Cannot be differentiated
    in reverse.

    Args:
      step: of one world.
      size: most worlds of a part, at least 1.
    """
    step = jax.jit(step, inline=True)  # traced once for all that follows

    @jax.custom_batching.custom_vmap
    def one(dials: Any, state: Any, action: jax.Array) -> Any:
        return step(dials, state, action)

    def parts(dials: Any, states: Any, actions: jax.Array) -> Any:
        """Steps N worlds, leaves [N, ...]."""
        count = len(actions)
        number = -(-count // size)
        each = -(-count // number)

        def cut(x: jax.Array) -> jax.Array:
            copies = jnp.broadcast_to(x[-1:], (number * each - count, *x.shape[1:]))
            return jnp.concatenate([x, copies]).reshape(number, each, *x.shape[1:])

        def part(rows: Any) -> Any:
            return jax.vmap(step, (None, 0, 0))(dials, *rows)

        if number == 1:
            return part((states, actions))
        after = jax.lax.map(part, jax.tree.map(cut, (states, actions)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], after)

    many = jax.custom_batching.custom_vmap(parts)

    def mapped(*args: Any) -> tuple[Any, Any]:
        """A step of one world under `vmap`: one axis of worlds."""
        return _batched(step, many, *args)

    def merged(count: int, batched: Any, dials: Any, states: Any, actions: jax.Array) -> Any:
        """N worlds under a further `vmap`: the two axes become one."""

        def flat(dials: Any, states: Any, actions: jax.Array) -> Any:
            inner = actions.shape[1]
            rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (states, actions))
            after = many(dials, *rows)
            return jax.tree.map(lambda x: x.reshape(count, inner, *x.shape[1:]), after)

        return _batched(parts, flat, count, batched, dials, states, actions)

    one.def_vmap(mapped)
    many.def_vmap(merged)
    return one


def _batched(
    within: Step,
    rows: Step,
    count: int,
    batched: Any,
    dials: Any,
    state: Any,
    action: jax.Array,
) -> tuple[Any, Any]:
    """What a mapped step returns, and which of its leaves are mapped: all.

    Args:
      within: what is mapped, for mapped dials.
      rows: steps all of the mapped axis at once, for dials that are not.
      count: length of the mapped axis.
      batched: which leaves of the arguments are mapped.
      dials, state, action: the arguments.
    """

    def spread(here: bool, x: jax.Array) -> jax.Array:
        return x if here else jnp.broadcast_to(x, (count, *jnp.shape(x)))

    of_dials = any(jax.tree.leaves(batched[0]))
    states, actions = jax.tree.map(spread, tuple(batched[1:]), (state, action))
    if of_dials:
        each = jax.tree.map(spread, batched[0], dials)
        after = jax.vmap(within)(each, states, actions)
    else:
        after = rows(dials, states, actions)
    return after, jax.tree.map(lambda _: True, after)
