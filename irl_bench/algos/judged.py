"""Compares a learned reward with the true one on new rollouts of the world's expert. It learns
nothing.

The expert should be better than the one from which the reward was learned. In rollout r of R its
action is replaced by a uniformly random one with a probability that rises linearly with r from 0 to
`noise`, so that the returns differ widely. Round r reports the true and the learned return of
rollout r.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State as WorldState
from irl_bench.core.handover import Part, donor_of
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import trainer
from irl_bench.rollouts.scan import observation_of, scan


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the comparison of two rewards."""

    rollouts: int = setting(
        128,
        "R, rollouts over the horizon, with one round for each",
        unit="rounds",
        low=2,
        high=65536,
    )
    noise: float = setting(
        1.0, "probability of a random action in the last rollout", low=0.0, high=1.0
    )


class State(struct.PyTreeNode):
    """The returns of all rollouts."""

    true: jax.Array
    """float32[R]: return of each rollout by the world's reward."""
    learned: jax.Array
    """float32[R]: return of each rollout by the learned reward."""
    round: jax.Array
    """int32[]: rounds done."""


def takes(config: Config) -> tuple[Part, ...]:
    """The parts of an earlier run that are needed: its reward."""
    return ("reward",)


def make(spec: Spec, config: Config) -> Learner:
    """Returns a learner that makes all rollouts at its start and reports one in each round.

    Raises:
      BadInput: there is no donor.
    """
    reward_fn = donor_of(spec).reward_fn
    assert reward_fn is not None
    chance = jnp.linspace(0.0, config.noise, config.rollouts)

    def init(key: jax.Array, task: Task) -> State:
        world = spec.world.bind(task.dials)
        reset_key, key = jax.random.split(key)
        start = jax.vmap(world.begin)(jax.random.split(reset_key, config.rollouts))
        assert task.given is not None
        params = task.given.reward

        def act(states: WorldState, _: None, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            expert_key, noise_key = jax.random.split(key)
            chosen = jax.vmap(world.expert)(states, jax.random.split(expert_key, config.rollouts))
            action = trainer.replaced(spec, chosen, chance, noise_key)
            return action, action

        def record(before: WorldState, after: WorldState, _: None, action: jax.Array) -> Any:
            learned = reward_fn(params, observation_of(before), action, observation_of(after))
            return after, None, (after.reward, learned)

        keys = jax.random.split(key, spec.horizon)
        _, (true, learned) = scan(world, act, record, start, keys, worlds=True)
        return State(jnp.sum(true, 0), jnp.sum(learned, 0), jnp.int32(0))

    def update(state: State, task: Task) -> tuple[State, dict[str, Any]]:
        now = state.round
        metrics = {
            "judged_true": state.true[now],
            "judged_learned": state.learned[now],
            "noise": chance[now],
        }
        return state.replace(round=now + 1), metrics

    queries = config.rollouts * spec.horizon
    return Learner(
        init=init,
        update=update,
        policy=lambda state: state.round,
        act=None,
        rounds=config.rollouts,
        consumes=Consumes(expert_queries=queries),
    )
