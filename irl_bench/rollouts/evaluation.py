"""Evaluation rollouts: the costs and errors of a policy, and the expert's demonstrations.

Episodes run side by side, and costs are summed over them inside jit. Every function but `record`
takes a world whose dials are already bound (`world.bind(dials)`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from envs.core import State, World, soundness
from irl_bench.core.quantities import TOLERANCES
from irl_bench.core.shapes import checked
from irl_bench.core.types import Demonstrations
from irl_bench.rollouts.scan import observation_of, scan

Act = Callable[..., Any]
"""`Learner.act`: (params, observation, key) -> action; of a recurrent policy (params, carry,
observation, key) -> (action, carry)."""

DRAWS = 64
"""Number of keys under which a policy must have the same closed-form cost. Two keys would miss a
policy that draws an action only now and then."""


class Evaluation(struct.PyTreeNode):
    """Sums over the episodes of one block; `cost`, `graded_cost` and `departed` are per step, not
    cumulative."""

    cost: jax.Array
    """float32[T]: episodes in failure after step t."""
    graded_cost: jax.Array
    """float32[T]: sum of the graded costs after step t."""
    departed: jax.Array
    """float32[T]: episodes that step t led into failure."""
    on_steps: jax.Array
    """float32[]: steps taken from a state without failure."""
    on_to_off: jax.Array
    """float32[]: how many of the `on_steps` led into failure."""
    off_steps: jax.Array
    """float32[]: steps taken from a failed state."""
    off_to_on: jax.Array
    """float32[]: how many of the `off_steps` led out of failure."""
    own_errors: jax.Array
    """float32[3]: steps in the policy's own states at which its action differs from the expert's
    by more than each of TOLERANCES."""
    reward: jax.Array
    """float32[]: sum of all rewards."""
    episodes: jax.Array
    """float32[]: number of episodes."""


@checked
def wrong(world: World, action: Array, expert: Array) -> Float[Array, " tolerances"]:
    """Whether an action differs from the expert's by more than each of TOLERANCES.

    Args:
      world: says whether actions are discrete; a discrete action is wrong if it differs at all.
      action: float32[A] or int32[].
      expert: the expert's action, of the same shape.

    Returns:
      float32[3] of 0 and 1. An action that is NaN is wrong.
    """
    if world.n_actions is not None:
        return jnp.broadcast_to(action != expert, (len(TOLERANCES),)).astype(jnp.float32)
    gap = jnp.max(jnp.abs(action - expert))
    return (~(gap <= jnp.asarray(TOLERANCES))).astype(jnp.float32)  # NaN is an error too


def _valid(world: World, action: jax.Array) -> jax.Array:
    """An array that is finite if the action is valid.

    A discrete world treats an action that does not exist as another one. Here it becomes NaN.
    """
    if world.n_actions is None:
        return action
    return jnp.where((action >= 0) & (action < world.n_actions), 0.0, jnp.nan)


def with_carry(
    act: Act, carry: Any
) -> Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]:
    """Returns (params, carry, observation, key) -> (action, carry) for any policy.

    Args:
      act: the policy.
      carry: a recurrent policy's first carry; None: a policy without memory, which returns the
        carry that it gets.
    """
    if carry is not None:
        return act
    return lambda params, memory, observation, key: (act(params, observation, key), memory)


TRIES = 64
"""Most rollouts per demonstration in search of episodes without a failure."""
PORTIONS = 4
"""How many portions make up the demonstrations asked for. Clean episodes are rolled out portion by
portion: few enough to fill a processor, many enough that hardly any is rolled out in vain."""


class Recording(struct.PyTreeNode):
    """Demonstrations, with everything else that a file of them may hold."""

    demonstrations: Demonstrations
    """N episodes."""
    last: jax.Array
    """float32[N, O]: the observation after the last step."""
    failed: jax.Array
    """bool[N]: whether the episode holds a failure."""


@checked
def collect(
    world: World,
    key: jax.Array,
    episodes: int,
    steps: int,
    clean: bool = False,
    noise: float = 0.0,
) -> Demonstrations:
    """Demonstrations by the world's expert, each from a fresh start.

    Args:
      world: with its dials bound.
      key: consumed.
      episodes: N, number of rollouts.
      steps: T, length of each [steps].
      clean: as in `recorded`.
      noise: standard deviation of the noise on executed actions in every second episode. Labels
        are without it, and the other episodes are too (Zhang et al. 2025, arXiv 2507.09061).
    """
    deviation = noise * (jnp.arange(episodes) % 2) if noise else None
    return recorded(world, key, episodes, steps, deviation, clean).demonstrations


def recorded(
    world: World,
    key: jax.Array,
    episodes: int,
    steps: int,
    noise: jax.Array | None = None,
    clean: bool = False,
) -> Recording:
    """As `rollouts`; with `clean` only episodes without a failure are kept.

    Episodes are rolled out until N of them are clean, TRIES * N at most. What is missing then has
    the mask 0 and counts as failed. Without any failure the episodes are those of `rollouts`.
    """
    if not clean:
        return rollouts(world, key, episodes, steps, noise)
    portion = max(1, -(-episodes // PORTIONS))
    usual = jax.random.split(key, episodes)
    deviation = None if noise is None else jnp.broadcast_to(noise, (episodes,))

    def more(carry: tuple[jax.Array, jax.Array, Recording]) -> tuple[Any, Any, Recording]:
        tried, count, kept = carry
        number = tried + jnp.arange(portion)
        fresh_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
        keys = jnp.where((number < episodes)[:, None], usual[number % episodes], fresh_keys)
        # Every second try has noise. Such tries fail more often, so fewer of them are kept.
        drawn = None if deviation is None else deviation[number % episodes]
        fresh = _episodes(world, keys, steps, drawn)
        good = ~fresh.failed
        place = jnp.where(good, count + jnp.cumsum(good) - 1, episodes)
        put = lambda old, new: old.at[place].set(new, mode="drop")
        return tried + portion, count + jnp.sum(good), jax.tree.map(put, kept, fresh)

    shapes = jax.eval_shape(lambda: _episodes(world, usual, steps, deviation))
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    empty = empty.replace(failed=jnp.ones(episodes, bool))
    start = (jnp.int32(0), jnp.int32(0), empty)
    unfinished = lambda carry: (carry[1] < episodes) & (carry[0] < TRIES * episodes)
    return jax.lax.while_loop(unfinished, more, start)[2]


def rollouts(
    world: World, key: jax.Array, episodes: int, steps: int, noise: jax.Array | None = None
) -> Recording:
    """As `collect`, with the last observations and the failures.

    Args:
      world: with its dials bound.
      key: consumed.
      episodes: N, number of rollouts.
      steps: T, length of each [steps].
      noise: standard deviation of the Gaussian noise that is added to an action when it is
        executed, float32[] or float32[N]; the action is recorded without it. None: no noise. A
        discrete world ignores it.
    """
    deviation = None if noise is None else jnp.broadcast_to(noise, (episodes,))
    return _episodes(world, jax.random.split(key, episodes), steps, deviation)


def _episodes(world: World, keys: jax.Array, steps: int, noise: jax.Array | None) -> Recording:
    """One rollout of the expert per key.

    Args:
      world: with its dials bound.
      keys: uint32[N, 2], consumed.
      steps: length of each [steps].
      noise: float32[N], as in `rollouts`.
    """

    def episode(key: jax.Array, noise: jax.Array | None) -> tuple[State, Any]:
        reset_key, key = jax.random.split(key)

        def act(state: State, _: None, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            executed = action = world.expert(state, key)
            if noise is not None and world.n_actions is None:
                drawn = jax.random.normal(jax.random.fold_in(key, 1), action.shape)
                executed = jnp.clip(action + noise * drawn, -1.0, 1.0)
            return executed, action

        def record(before: State, after: State, _: None, action: jax.Array) -> Any:
            failed = ~(after.metrics["cost"] == 0.0)
            return after, None, (before.obs, action, after.reward, failed)

        keys = jax.random.split(key, steps)
        (last, _), rows = scan(world, act, record, world.begin(reset_key), keys)
        return last, rows

    last, (observation, action, reward, failed) = jax.vmap(episode)(keys, noise)
    mask = jnp.ones((len(keys), steps), jnp.float32)
    return Recording(
        Demonstrations(observation, action, mask, reward.astype(jnp.float32)),
        observation_of(last),
        failed.any(axis=1),
    )


def record(
    world: World, seed: int, episodes: int, steps: int, noise: float = 0.0, clean: bool = False
) -> Recording:
    """Compiles and runs `recorded` with the world's own dials.

    Args:
      world: the world.
      seed: of all random numbers.
      episodes: N, number of rollouts.
      steps: T, length of each [steps].
      noise: as in `rollouts`.
      clean: as in `recorded`.

    Returns:
      The recording. The same arguments give the same recording.
    """
    run = jax.jit(
        lambda key, dials, noise: recorded(world.bind(dials), key, episodes, steps, noise, clean)
    )
    return run(jax.random.PRNGKey(seed), jax.tree.map(jnp.float32, world.dials), jnp.float32(noise))


@checked
def evaluate(
    world: World,
    act: Act | None,
    params: Any,
    key: jax.Array,
    episodes: int,
    horizon: int,
    carry: Any = None,
) -> Evaluation:
    """Evaluates a policy on rollouts from fresh resets.

    A world draws from its own key, which it gets at reset. Two policies under the same `key`
    therefore meet the same episodes. The costs become NaN if an action, observation or reward is
    not finite or if a discrete action does not exist; the seed then counts as failed.

    Args:
      world: with its dials bound.
      act: the policy; None: the world's expert.
      params: of the policy.
      key: consumed.
      episodes: number of rollouts.
      horizon: T, length of each [steps].
      carry: what a recurrent policy begins each episode with; None: the policy has no memory.

    Returns:
      Sums over the episodes.
    """
    reset_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(episodes))
    states = jax.vmap(world.begin)(reset_keys)
    acting = None if act is None else with_carry(act, carry)
    carries = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *jnp.shape(x))), carry)

    def choose(state: State, carry: Any, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        expert = world.expert(state, key)
        if acting is None:
            return expert, expert, carry
        action, carry = acting(params, carry, observation_of(state), key)
        return action, expert, carry

    def act_all(states: State, memory: Any, t: jax.Array) -> tuple[jax.Array, Any]:
        keys = jax.vmap(jax.random.fold_in, (0, None))(reset_keys, episodes + t)
        action, expert, carries = jax.vmap(choose)(states, memory[0], keys)
        return action, (action, expert, carries)

    def record(before: State, after: State, memory: Any, aside: Any) -> Any:
        counts, (action, expert, carries) = memory[1], aside
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
        row = (
            jnp.sum(after_off),
            jnp.sum(after.metrics["graded_cost"] + sound),
            jnp.sum((1 - before_off) * after_off),
        )
        return after, (carries, counts + counted), row

    memory = (carries, jnp.zeros(5 + len(TOLERANCES)))
    (_, (_, counts)), (cost, graded, departed) = scan(
        world, act_all, record, states, jnp.arange(horizon), memory, worlds=True
    )
    on_steps, on_to_off, off_steps, off_to_on = counts[:4]
    return Evaluation(
        cost=cost,
        graded_cost=graded,
        departed=departed,
        on_steps=on_steps,
        on_to_off=on_to_off,
        off_steps=off_steps,
        off_to_on=off_to_on,
        own_errors=counts[4:-1],
        reward=counts[-1],
        episodes=jnp.float32(episodes),
    )


@checked
def expert_errors(
    world: World,
    act: Act | None,
    params: Any,
    key: jax.Array,
    episodes: int,
    steps: int,
    carry: Any = None,
    counted: jax.Array | None = None,
) -> tuple[Float[Array, " tolerances"], Float[Array, ""]]:
    """Errors of a policy in the states that the expert visits, on fresh rollouts of the expert.

    A recurrent policy observes every state of the rollout in turn.

    Args:
      world: with its dials bound.
      act: the policy; None: the world's expert, which makes no error.
      params: of the policy.
      key: consumed.
      episodes: number of rollouts.
      steps: length of each [steps].
      carry: what a recurrent policy begins each rollout with; None: the policy has no memory.
      counted: int[], the first steps of each rollout that are counted; None: all.

    Returns:
      float32[3], the counted steps at which the action differs from the expert's by more than each
      of TOLERANCES; and float32[], the number of all counted steps.
    """
    limit = jnp.int32(steps) if counted is None else jnp.minimum(jnp.int32(counted), steps)
    total = episodes * limit.astype(jnp.float32)
    if act is None:
        return jnp.zeros(len(TOLERANCES)), total

    states = jax.vmap(world.begin)(
        jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(episodes))
    )

    acting = with_carry(act, carry)
    carries = jax.tree.map(lambda x: jnp.broadcast_to(x, (episodes, *jnp.shape(x))), carry)

    def choose(state: State, carry: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        expert = world.expert(state, key)
        action, carry = acting(params, carry, observation_of(state), key)
        return expert, (carry, wrong(world, action, expert))

    def act_all(states: State, memory: Any, now: tuple[jax.Array, jax.Array]) -> Any:
        t, key = now
        action, (carries, errors) = jax.vmap(choose)(
            states, memory[0], jax.random.split(key, episodes)
        )
        return action, (carries, errors * (t < limit))

    def record(before: State, after: State, memory: Any, aside: Any) -> Any:
        carries, errors = aside
        return after, (carries, memory[1] + jnp.sum(errors, 0)), None

    now = (jnp.arange(steps), jax.random.split(jax.random.fold_in(key, episodes), steps))
    memory = (carries, jnp.zeros(len(TOLERANCES)))
    (_, (_, errors)), _ = scan(world, act_all, record, states, now, memory, worlds=True)
    return errors, total


@checked
def expected_cost(
    world: World, act: Act | None, params: Any, key: jax.Array, horizon: int, carry: Any = None
) -> Float[Array, " {horizon}"] | None:
    """J(T) of a policy in closed form, where the world has one.

    `World.expected_cost` assumes a policy that takes the same action at every visit of a state.

    Args:
      world: with its dials bound.
      act: the policy; None: the world's expert.
      params: of the policy.
      key: consumed.
      horizon: the longest T [steps].
      carry: what a recurrent policy begins with; None: the policy has no memory.

    Returns:
      float32[horizon], NaN for a policy that draws its actions. None for the expert, for a
      recurrent policy, after a burn-in and in a world without a closed form.
    """
    if act is None or carry is not None or world.burn_in:
        return None
    costs = jax.vmap(lambda k: world.expected_cost(lambda x: act(params, x, k), horizon))(
        jax.random.split(key, DRAWS)
    )
    return None if costs is None else jnp.where((costs == costs[0]).all(), costs[0], jnp.nan)
