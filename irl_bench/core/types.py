"""The arrays that travel between worlds, learners and the runner."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import struct

from envs.core import World
from irl_bench.core.handover import Donor, Given


@struct.dataclass
class Demonstrations:
    """Expert rollouts: N episodes of at most T steps, O observation values, A action values."""

    observation: jax.Array
    """float32[N, T, O]: what the expert saw before each action."""
    action: jax.Array | None
    """float32[N, T, A] in [-1, 1], or int32[N, T] in a discrete world; None where only observations
    were recorded."""
    mask: jax.Array
    """float32[N, T]: 1 where the step counts, 0 past an episode's length."""
    reward: jax.Array | None = None
    """float32[N, T]: the world's reward, for controls that pick demonstrations by it; None where it
    was not recorded."""


@struct.dataclass
class Task:
    """The data of a learner. Its leaves never cause a recompilation."""

    demonstrations: Demonstrations
    """The labelled steps that the learner may train on (and split for early stopping)."""
    dials: Any
    """The world's dials; a learner that interacts uses `spec.world.bind(task.dials)`."""
    given: Given | None = None
    """What an earlier run hands on, for an algorithm whose module has `takes`."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything static: shapes and the world's class. A change here is a new compilation."""

    world: World
    horizon: int
    """T_max [steps] of the evaluation rollouts."""
    demos: int
    """N, demonstration episodes."""
    demo_steps: int
    """Length of a demonstration [steps]; of the longest one where they differ."""
    donor: Donor | None = None
    """Where `Task.given` comes from."""
    lengths: tuple[int, ...] = ()
    """Length of each demonstration of a file [steps]; empty where all are `demo_steps` long."""

    def labels(self, demos: int | None = None) -> int:
        """Steps [state-action pairs] that the first `demos` demonstrations hold; None: all."""
        count = self.demos if demos is None else demos
        return sum(self.lengths[:count]) if self.lengths else count * self.demo_steps

    @property
    def observation_size(self) -> int:
        """O, entries of an observation."""
        return int(self.world.observation_size)  # type: ignore[arg-type]

    @property
    def action_size(self) -> int:
        """A, entries of a continuous action."""
        return self.world.action_size

    @property
    def n_actions(self) -> int | None:
        """Number of actions of a discrete world, None of a continuous one."""
        return self.world.n_actions
