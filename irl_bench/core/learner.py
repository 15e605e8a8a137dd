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
LearnerState = Any


@dataclasses.dataclass(frozen=True)
class Consumes:
    """What one seed of an algorithm uses up over all its rounds. Scores are compared at stated
    budgets."""

    expert_queries: int = 0
    """Expert labels [state-action pairs], demonstrations included."""
    env_steps: int = 0
    """Environment steps taken by the learner while it trains; demonstrations and evaluation
    excluded."""
    preference_labels: int = 0
    """Pairwise comparisons."""
    interactive: bool = False
    """Whether the expert is asked about states that the learner itself visits."""


@dataclasses.dataclass(frozen=True)
class Learner:
    """What `make(spec, config)` returns. All functions are pure and jit-able; keys passed in are
    consumed.

    Attributes:
      init: (key, task) -> state.
      update: (state, task) -> (state, metrics); one round, the same shapes every time, metrics a
        flat dict of scalars.
      policy: state -> params of the policy that is evaluated.
      act: (params, observation[O], key) -> action of one world (no batch axis); None: the world's
        expert acts (`expert` only).
      rounds: number of calls of `update` that make up the training. With 0, `init` gets a task
        without demonstrations.
      consumes: budgets over all rounds, per seed.
      carry: what a recurrent policy begins each episode with, a pytree of arrays; `act` is then
        (params, carry, observation[O], key) -> (action, carry). None: the policy remembers nothing.
      reward: state -> params of the reward it has learned; None for an algorithm that learns none.
      judge: (those params, observation[..., O], action[..., A] or [...], next_observation[..., O])
        -> the learned reward of such steps, float32[...]. What is stored of a finished cell is
        enough to call it: one can train on it again.
    """

    init: Callable[[jax.Array, Task], LearnerState]
    update: Callable[[LearnerState, Task], tuple[LearnerState, dict[str, jax.Array]]]
    policy: Callable[[LearnerState], Params]
    act: Callable[..., Any] | None
    rounds: int
    consumes: Consumes
    reward: Callable[[LearnerState], Params] | None = None
    judge: Callable[[Params, jax.Array, jax.Array, jax.Array], jax.Array] | None = None
    carry: Any = None
