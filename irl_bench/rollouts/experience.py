"""Rollouts that a learner trains on: many worlds side by side, restarted from fresh states, with
the true next observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State, World


@struct.dataclass
class Transition:
    """One step, or [L, E] of them: L steps of E worlds."""

    observation: jax.Array
    """float32[..., O]."""
    raw: jax.Array
    """The action before it is squashed, float32[..., A]; in a discrete world int32[...], the
    action itself."""
    action: jax.Array
    """float32[..., A] in [-1, 1], or int32[...]."""
    log_prob: jax.Array
    """float32[...]: log pi(a|s) when it was drawn."""
    next_observation: jax.Array
    """float32[..., O]: what the step led to, also where the world was restarted after it."""
    reward: jax.Array
    """float32[...]: the world's own reward."""
    cost: jax.Array
    """float32[...] in {0, 1}: whether the state reached is a failure."""
    graded_cost: jax.Array
    """float32[...] in [0, 1]."""
    truncation: jax.Array
    """float32[...]: 1 where the episode was cut, for its length or by `linger`; what would have
    followed still counts."""
    termination: jax.Array
    """float32[...]: 1 where the world itself ended the episode; nothing follows."""


@struct.dataclass
class Worlds:
    """E worlds under way."""

    state: State
    """Leaves [E, ...]."""
    age: jax.Array
    """int32[E]: steps since the last restart; more where `linger` has shortened what is left."""


def begin(world: World, key: jax.Array, count: int, episode_steps: int) -> Worlds:
    """`count` fresh worlds of random age, so that their episodes do not all end in the same
    step; `key` is consumed."""
    reset_key, age_key = jax.random.split(key)
    state = jax.vmap(world.reset)(jax.random.split(reset_key, count))
    return Worlds(state, jax.random.randint(age_key, (count,), 0, episode_steps))


def unroll(
    world: World,
    act: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    worlds: Worlds,
    key: jax.Array,
    length: int,
    episode_steps: int,
    terminate: bool,
    linger: int = 1_000_000,
) -> tuple[Worlds, Transition]:
    """`length` steps of all worlds; `key` is consumed.

    A restart takes its state from a bank of one fresh start per world, made once per call: a reset
    at every step would cost as much as the step. A world that ends twice within one call starts the
    second time from the same state.

    Args:
      world: with its dials bound.
      act: (observations[E, O], key) -> (actions, raw actions, log-probabilities).
      worlds: E of them.
      length: L.
      episode_steps: the age [steps] at which an episode is cut.
      terminate: whether the world's `done` ends an episode. If not, the world goes on.
      linger: steps that an episode goes on at most after a first `done` that does not end it.

    Returns:
      The worlds L steps later, and [L, E] transitions.
    """
    bank_key, key = jax.random.split(key)
    count = worlds.age.shape[0]
    bank = jax.vmap(world.reset)(jax.random.split(bank_key, count))

    def step(worlds: Worlds, key: jax.Array) -> tuple[Worlds, Transition]:
        action, raw, log_prob = act(worlds.state.obs, key)
        after = jax.vmap(world.step)(worlds.state, action)
        age = worlds.age + 1
        done = after.done > 0.0 if terminate else jnp.zeros(count, bool)
        if not terminate and linger < episode_steps:
            age = jnp.where(after.done > 0.0, jnp.maximum(age, episode_steps - linger), age)
        cut = ~done & (age >= episode_steps)
        ended = done | cut

        def pick(fresh: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(ended.reshape(count, *[1] * (old.ndim - 1)), fresh, old)

        zero = jnp.zeros(count)
        transition = Transition(
            observation=worlds.state.obs,
            raw=raw,
            action=action,
            log_prob=log_prob,
            next_observation=after.obs,
            reward=after.reward,
            cost=after.metrics.get("cost", zero),
            graded_cost=after.metrics.get("graded_cost", zero),
            truncation=cut.astype(jnp.float32),
            termination=done.astype(jnp.float32),
        )
        return Worlds(jax.tree.map(pick, bank, after), jnp.where(ended, 0, age)), transition

    # Learning must not be fused into the rollout: XLA then recomputes parts of it for every
    # minibatch.
    worlds, transitions = jax.lax.scan(step, worlds, jax.random.split(key, length))
    return jax.lax.optimization_barrier((worlds, transitions))


def flat(transitions: Any) -> Any:
    """[L, E, ...] leaves as rows [L * E, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
