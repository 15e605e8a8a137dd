"""Rollouts that a learner trains on: many worlds side by side, each restarted when its episode
ends.

Every transition holds the true next observation, also where the world was restarted after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State, World
from irl_bench.rollouts.scan import observation_of, scan


class ActionSample(NamedTuple):
    """Actions drawn from a policy; the leading axes are those of the observations."""

    action: jax.Array
    """float32[..., A] in [-1, 1]; int32[...] in a discrete world."""
    raw: jax.Array
    """float32[..., A]: the action before the tanh; the action itself in a discrete world."""
    log_prob: jax.Array
    """float32[...]: log pi(a|s) of `action`."""


Act: TypeAlias = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]
"""(observation float32[E, O], key) -> `ActionSample`, or a plain triple of the same arrays."""


class Transition(struct.PyTreeNode):
    """One step of one world, or [L, E] of them: L steps of E worlds."""

    observation: jax.Array
    """float32[..., O]."""
    raw: jax.Array
    """float32[..., A]: the action before the tanh; the action itself, int32[...], in a discrete
    world."""
    action: jax.Array
    """float32[..., A] in [-1, 1]; int32[...] in a discrete world."""
    log_prob: jax.Array
    """float32[...]: log pi(a|s) under the policy that drew the action."""
    next_observation: jax.Array
    """float32[..., O]: the observation that the step led to, also before a restart."""
    reward: jax.Array
    """float32[...]: the world's own reward."""
    cost: jax.Array
    """float32[...] in {0, 1}: whether the state reached is a failure."""
    graded_cost: jax.Array
    """float32[...] in [0, 1]."""
    truncation: jax.Array
    """float32[...]: 1 where the episode was cut, for its length or by `linger`. Rewards after the
    cut still count, through the value of the next state."""
    termination: jax.Array
    """float32[...]: 1 where the world itself ended the episode. No reward follows."""


class Worlds(struct.PyTreeNode):
    """E worlds in the middle of their episodes."""

    state: State
    """Leaves [E, ...]."""
    age: jax.Array
    """int32[E]: steps since the last restart; larger where `linger` has shortened the episode."""


def begin(world: World, key: jax.Array, count: int, episode_steps: int) -> Worlds:
    """Fresh worlds of random age, so that their episodes do not all end at the same step.

    Args:
      world: with its dials bound.
      key: consumed.
      count: number of worlds E.
      episode_steps: ages are uniform in [0, episode_steps) [steps].
    """
    reset_key, age_key = jax.random.split(key)
    state = jax.vmap(world.begin)(jax.random.split(reset_key, count))
    return Worlds(state, jax.random.randint(age_key, (count,), 0, episode_steps))


def unroll(
    world: World,
    act: Act,
    worlds: Worlds,
    key: jax.Array,
    length: int,
    episode_steps: int,
    terminate: bool,
    linger: int = 1_000_000,
) -> tuple[Worlds, Transition]:
    """Steps all worlds `length` times.

    A restarted world takes its state from a bank that holds one fresh start per world and is made
    once per call: a reset at every step would cost as much as the step. A world that ends twice
    within one call therefore restarts from the same state both times.

    Args:
      world: with its dials bound.
      act: (observations float32[E, O], key) -> `ActionSample` of E actions.
      worlds: E of them.
      key: consumed.
      length: L.
      episode_steps: the age [steps] at which an episode is cut.
      terminate: whether the world's `done` ends an episode. If not, the world goes on.
      linger: most steps that an episode continues after its first `done`, where `done` does not
        end it.

    Returns:
      The worlds L steps later, and [L, E] transitions.
    """
    bank_key, key = jax.random.split(key)
    count = worlds.age.shape[0]
    bank = jax.vmap(world.begin)(jax.random.split(bank_key, count))

    def sampled(state: State, age: jax.Array, key: jax.Array) -> tuple[jax.Array, ActionSample]:
        sample = ActionSample(*act(observation_of(state), key))
        return sample.action, sample

    def record(
        before: State, after: State, age: jax.Array, sample: ActionSample
    ) -> tuple[State, jax.Array, Transition]:
        age = age + 1
        done = after.done > 0.0 if terminate else jnp.zeros(count, bool)
        if not terminate and linger < episode_steps:
            age = jnp.where(after.done > 0.0, jnp.maximum(age, episode_steps - linger), age)
        cut = ~done & (age >= episode_steps)
        ended = done | cut

        def pick(fresh: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(ended.reshape(count, *[1] * (old.ndim - 1)), fresh, old)

        zero = jnp.zeros(count)
        transition = Transition(
            observation=observation_of(before),
            raw=sample.raw,
            action=sample.action,
            log_prob=sample.log_prob,
            next_observation=observation_of(after),
            reward=after.reward,
            cost=after.metrics.get("cost", zero),
            graded_cost=after.metrics.get("graded_cost", zero),
            truncation=cut.astype(jnp.float32),
            termination=done.astype(jnp.float32),
        )
        return jax.tree.map(pick, bank, after), jnp.where(ended, 0, age), transition

    # The barrier keeps learning out of the rollout's fusion. Without it XLA recomputes parts of
    # the rollout for every minibatch.
    keys = jax.random.split(key, length)
    (state, age), transitions = scan(
        world, sampled, record, worlds.state, keys, worlds.age, worlds=True
    )
    return jax.lax.optimization_barrier((Worlds(state, age), transitions))


def flat(transitions: Any) -> Any:
    """[L, E, ...] leaves of a tree as rows [L * E, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
