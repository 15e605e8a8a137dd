"""Policy and world to trajectories: one scan over time inside, vmapped over episodes; costs are
reduced before they leave jit.

Every function takes a world whose dials are already bound (`world.bind(dials)`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State, World, soundness
from irl_bench.core.quantities import TOLERANCES
from irl_bench.core.types import Demonstrations
from irl_bench.rollouts.scan import scan

Act = Callable[..., Any]
"""`Learner.act`: (params, observation, key) -> action or, of a recurrent policy, (params, carry,
observation, key) -> (action, carry)."""

DRAWS = 64
"""Keys under which a policy must cost the same to have a closed form. Two would miss one that
draws an action now and then; a policy without use for its key is evaluated once all the same."""


@struct.dataclass
class Evaluation:
    """Sums over the episodes of one block; `cost` and `graded_cost` are per step, not
    cumulative."""

    cost: jax.Array
    """float32[T]: episodes in failure after step t."""
    graded_cost: jax.Array
    """float32[T]."""
    on_steps: jax.Array
    """float32: steps taken from a state without failure."""
    on_to_off: jax.Array
    """float32: those that led into failure."""
    off_steps: jax.Array
    """float32: steps taken from a failed state."""
    off_to_on: jax.Array
    """float32: those that led out of it."""
    own_errors: jax.Array
    """float32[3]: steps at which the action was off by more than each tolerance, the expert
    asked at the policy's states."""
    reward: jax.Array
    """float32: all rewards of all steps."""
    episodes: jax.Array
    """float32: episodes summed over."""


def wrong(world: World, action: jax.Array, expert: jax.Array) -> jax.Array:
    """float32[3]: whether `action` misses the expert's by more than each of TOLERANCES (in a
    discrete world: at all)."""
    if world.n_actions is not None:
        return jnp.broadcast_to(action != expert, (len(TOLERANCES),)).astype(jnp.float32)
    gap = jnp.max(jnp.abs(action - expert))
    return (~(gap <= jnp.asarray(TOLERANCES))).astype(jnp.float32)  # NaN is an error too


def _valid(world: World, action: jax.Array) -> jax.Array:
    """The action as floats; NaN for one that does not exist in a discrete world, which passes
    for some other one there."""
    if world.n_actions is None:
        return action
    return jnp.where((action >= 0) & (action < world.n_actions), 0.0, jnp.nan)


def with_carry(
    act: Act, carry: Any
) -> Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]:
    """(params, carry, observation, key) -> (action, carry) of any policy; one without a carry
    hands on what it was given."""
    if carry is not None:
        return act
    return lambda params, held, observation, key: (act(params, observation, key), held)


@struct.dataclass
class Recording:
    """Demonstrations with all that a file of them may hold."""

    demonstrations: Demonstrations
    last: jax.Array
    """float32[N, O]: the observation after the last step."""


def collect(world: World, key: jax.Array, episodes: int, steps: int) -> Demonstrations:
    """`episodes` rollouts of the world's expert over `steps` steps, each from a fresh reset;
    `key` is consumed."""
    return rollouts(world, key, episodes, steps).demonstrations


def rollouts(
    world: World, key: jax.Array, episodes: int, steps: int, noise: jax.Array | None = None
) -> Recording:
    """As `collect`, with all that was seen.

    Args:
      noise: deviation of Gaussian noise with which actions are executed; they are recorded as they
        were meant. None, and in a discrete world: no noise.
    """

    def episode(key: jax.Array) -> tuple[State, Any]:
        reset_key, key = jax.random.split(key)

        def act(state: State, _: None, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            executed = action = world.expert(state, key)
            if noise is not None and world.n_actions is None:
                drawn = jax.random.normal(jax.random.fold_in(key, 1), action.shape)
                executed = jnp.clip(action + noise * drawn, -1.0, 1.0)
            return executed, action

        def record(before: State, after: State, _: None, action: jax.Array) -> Any:
            return after, None, (before.obs, action, after.reward)

        keys = jax.random.split(key, steps)
        (last, _), rows = scan(world, act, record, world.reset(reset_key), keys)
        return last, rows

    last, (observation, action, reward) = jax.vmap(episode)(jax.random.split(key, episodes))
    mask = jnp.ones((episodes, steps), jnp.float32)
    return Recording(
        Demonstrations(observation, action, mask, reward.astype(jnp.float32)), last.obs
    )


def record(world: World, seed: int, episodes: int, steps: int, noise: float = 0.0) -> Recording:
    """`rollouts` on the host, compiled; the same seed gives the same recording."""
    run = jax.jit(
        lambda key, dials, noise: rollouts(world.bind(dials), key, episodes, steps, noise)
    )
    return run(jax.random.PRNGKey(seed), jax.tree.map(jnp.float32, world.dials), jnp.float32(noise))


def evaluate(
    world: World,
    act: Act | None,
    params: Any,
    key: jax.Array,
    episodes: int,
    horizon: int,
    carry: Any = None,
) -> Evaluation:
    """Sums over `episodes` rollouts of `horizon` steps; act None lets the world's expert drive.
    `key` is consumed.

    Worlds draw from keys of their own, made at reset from `key`, so two policies under the same key
    meet the same episodes. `carry` is what a recurrent policy begins each episode with. An action,
    observation or reward that is not finite, and a discrete action that does not exist, make the
    costs NaN: whoever reads them marks the seed as failed.
    """
    reset_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(episodes))
    states = jax.vmap(world.reset)(reset_keys)
    acting = None if act is None else with_carry(act, carry)
    held = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *jnp.shape(x))), carry)

    def choose(state: State, held: Any, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        expert = world.expert(state, key)
        if acting is None:
            return expert, expert, held
        action, held = acting(params, held, state.obs, key)
        return action, expert, held

    def act_all(states: State, memory: Any, t: jax.Array) -> tuple[jax.Array, Any]:
        keys = jax.vmap(jax.random.fold_in, (0, None))(reset_keys, episodes + t)
        action, expert, held = jax.vmap(choose)(states, memory[0], keys)
        return action, (action, expert, held)

    def record(before: State, after: State, memory: Any, aside: Any) -> Any:
        counts, (action, expert, held) = memory[1], aside
        errors = jax.vmap(lambda a, e: wrong(world, a, e))(action, expert)
        sound = jax.vmap(lambda a, obs, reward: soundness(_valid(world, a), obs, reward))(
            action, after.obs, after.reward
        )
        before_off, after_off = before.metrics["cost"], after.metrics["cost"] + sound
        counted = jnp.stack(
            [
                jnp.sum(1 - before_off),
                jnp.sum((1 - before_off) * after_off),
                jnp.sum(before_off),
                jnp.sum(before_off * (1 - after_off)),
                *jnp.sum(errors, 0),
                jnp.sum(after.reward),
            ]
        )
        row = (jnp.sum(after_off), jnp.sum(after.metrics["graded_cost"] + sound))
        return after, (held, counts + counted), row

    memory = (held, jnp.zeros(5 + len(TOLERANCES)))
    (_, (_, counts)), (cost, graded) = scan(
        world, act_all, record, states, jnp.arange(horizon), memory, worlds=True
    )
    return Evaluation(cost, graded, *counts[:4], counts[4:-1], counts[-1], jnp.float32(episodes))


def expert_errors(
    world: World,
    act: Act | None,
    params: Any,
    key: jax.Array,
    episodes: int,
    steps: int,
    carry: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Errors of a policy on the expert's own states, on fresh rollouts of the expert; `key` is
    consumed.

    A recurrent policy begins each rollout with `carry` and sees every state of the expert's on the
    way.

    Returns:
      float32[3], the steps at which the policy is off by more than each of TOLERANCES, and float32,
      the steps looked at.
    """
    total = jnp.float32(episodes * steps)
    if act is None:
        return jnp.zeros(len(TOLERANCES)), total

    states = jax.vmap(world.reset)(
        jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(episodes))
    )

    acting = with_carry(act, carry)
    held = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *jnp.shape(x))), carry)

    def choose(state: State, held: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        expert = world.expert(state, key)
        action, held = acting(params, held, state.obs, key)
        return expert, (held, wrong(world, action, expert))

    def act_all(states: State, memory: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        return jax.vmap(choose)(states, memory[0], jax.random.split(key, episodes))

    def record(before: State, after: State, memory: Any, aside: Any) -> Any:
        held, errors = aside
        return after, (held, memory[1] + jnp.sum(errors, 0)), None

    keys = jax.random.split(jax.random.fold_in(key, episodes), steps)
    memory = (held, jnp.zeros(len(TOLERANCES)))
    (_, (_, errors)), _ = scan(world, act_all, record, states, keys, memory, worlds=True)
    return errors, total


def expected_cost(
    world: World, act: Act | None, params: Any, key: jax.Array, horizon: int, carry: Any = None
) -> jax.Array | None:
    """J(T) of a policy in closed form, float32[horizon]; `key` is consumed.

    None for the expert, for a recurrent policy and in a world without a closed form.

    NaN for a policy that draws its actions: `World.expected_cost` is for one that plays the same
    action at every visit.
    """
    if act is None or carry is not None:
        return None
    costs = jax.vmap(lambda k: world.expected_cost(lambda x: act(params, x, k), horizon))(
        jax.random.split(key, DRAWS)
    )
    return None if costs is None else jnp.where((costs == costs[0]).all(), costs[0], jnp.nan)
