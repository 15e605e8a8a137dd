"""The arrays that travel between worlds, learners and the runner. Shapes stand beside each
field."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import struct

from envs.core import World


@struct.dataclass
class Demonstrations:
    """Expert rollouts; N episodes of at most T steps, O observation values, A action values."""

    observation: jax.Array
    """float32[N, T, O]: what the expert saw before each action."""
    action: jax.Array | None
    """float32[N, T, A] in [-1, 1], or int32[N, T] in a discrete world; None where only
    observations were recorded."""
    mask: jax.Array
    """float32[N, T]: 1 where the step counts, 0 past an episode's length."""
    reward: jax.Array | None = None
    """float32[N, T]: what the world paid; for controls that pick demonstrations by it. None
    where it was not recorded."""


@struct.dataclass
class Task:
    """All that a learner is given as data. Its leaves never cause a recompilation."""

    demonstrations: Demonstrations
    """The labelled steps the learner may train on (and split for early stopping)."""
    dials: Any
    """The world's dials; a learner that interacts uses `spec.world.bind(task.dials)`."""
    given: Any = None
    """Params of a policy or reward that an earlier run has learned, for an algorithm that is
    handed one."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """All that is static: shapes and the world's class. A change here is a new compilation."""

    world: World
    horizon: int
    """T_max [steps] of the evaluation rollouts."""
    demos: int
    """N, demonstration episodes."""
    demo_steps: int
    """Length of a demonstration [steps], of the longest one where they differ."""
    given: Any = None
    """`irl_bench.storage.artifacts.Learned`: which algorithm made what `Task.given` holds, and
    with which settings."""

    lengths: tuple[int, ...] = ()
    """Length of each demonstration of a file [steps]; empty where all are `demo_steps` long."""

    def labels(self, demos: int | None = None) -> int:
        """Steps that all demonstrations, or the first `demos` of them, hold: what the expert was
        asked for."""
        count = self.demos if demos is None else demos
        return sum(self.lengths[:count]) if self.lengths else count * self.demo_steps

    @property
    def observation_size(self) -> int:
        return int(self.world.observation_size)  # type: ignore[arg-type]

    @property
    def action_size(self) -> int:
        return self.world.action_size

    @property
    def n_actions(self) -> int | None:
        return self.world.n_actions
