"""The contract between an algorithm and everything that runs it.

An algorithm is a handful of pure functions over one state, the way an optimiser is in optax. It
knows nothing of seeds, files, flags, devices or sweeps: the runner vmaps it over seeds and drives
its rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from irl_bench.core.types import Task

Params = Any
"""A pytree of arrays: what a policy or a learned reward is computed with."""
LearnerState = Any
"""A pytree of arrays: all that an algorithm carries from one round to the next."""


@dataclasses.dataclass(frozen=True)
class Consumes:
    """What one seed of an algorithm uses over all its rounds.

    Compare two scores only together with these budgets.
    """

    expert_queries: int = 0
    """Expert labels [state-action pairs], demonstrations included."""
    env_steps: int = 0
    """Environment steps taken by the learner while it trains; demonstrations and evaluation
    excluded."""
    preference_labels: int = 0
    """Pairwise comparisons."""
    interactive: bool = False
    """Whether the expert labels states that the learner itself visits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
    """What `make(spec, config)` returns, built with keywords.

    All functions are pure and jit-able; they consume the keys they are passed.

    Attributes:
      init: (key, task) -> state.
      update: (state, task) -> (state, metrics). One round; shapes are the same in every round, and
        metrics are a flat dict of scalars.
      policy: state -> params of the policy that is evaluated.
      act: (params, observation[O], key) -> action of one world, without a batch axis. None: the
        world's expert acts (`expert` only).
      rounds: how often `update` is called. A learner with 0 rounds gets no demonstrations.
      consumes: budgets over all rounds, per seed.
      carry: a pytree of arrays, with which a recurrent policy begins each episode; `act` is then
        (params, carry, observation[O], key) -> (action, carry). None: the policy has no memory.
      reward: state -> params of the learned reward; None if the algorithm learns no reward.
      reward_fn: (params of the reward, observation[..., O], action[..., A] or [...],
        next_observation[..., O]) -> reward of these steps, float32[...]. The stored params are
        enough to call it, so that one can train on the reward again.
      per_world: state -> the same tree with True in place of each leaf whose first axis is that of
        the training worlds, and False in place of the others. Its worlds can be spread over
        devices (`Spec.spread`), each of which then holds its share of those leaves and a copy of
        the others. None: the algorithm cannot do that.
    """

    init: Callable[[jax.Array, Task], LearnerState]
    update: Callable[[LearnerState, Task], tuple[LearnerState, dict[str, jax.Array]]]
    policy: Callable[[LearnerState], Params]
    act: Callable[..., Any] | None
    rounds: int
    consumes: Consumes
    reward: Callable[[LearnerState], Params] | None = None
    reward_fn: Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    carry: Any = None
    per_world: Callable[[LearnerState], Any] | None = None
