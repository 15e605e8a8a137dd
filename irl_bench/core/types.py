"""Data types that worlds, learners and the runner exchange."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import struct

from envs.core import World
from irl_bench.core.handover import Donor, Given
from irl_bench.core.spread import WHOLE, Spread


@struct.dataclass  # pyright: ignore[reportUnknownMemberType] - flax leaves **kwargs untyped
class Demonstrations:
    """Expert rollouts: N episodes of at most T steps, O observation values, A action values."""

    observation: jax.Array
    """float32[N, T, O]: what the expert saw before each action."""
    action: jax.Array | None
    """float32[N, T, A] in [-1, 1], or int32[N, T] in a discrete world; None if only observations
    were recorded."""
    mask: jax.Array
    """float32[N, T]: 1 where the step counts, 0 past an episode's length."""
    reward: jax.Array | None = None
    """float32[N, T]: the world's reward, for controls that select demonstrations by it; None if it
    was not recorded."""


@struct.dataclass  # pyright: ignore[reportUnknownMemberType] - flax leaves **kwargs untyped
class Task:
    """A learner's data. New values of its leaves never cause a recompilation."""

    demonstrations: Demonstrations
    """The labelled steps that the learner may train on (and split for early stopping)."""
    dials: Any
    """The world's dials. A learner that interacts with it uses `spec.world.bind(task.dials)`."""
    given: Given | None = None
    """Arrays from an earlier run, for an algorithm whose module has `takes`."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """Static data of a learner: sizes, the world's class and the donor. A change requires a new
    compilation."""

    world: World
    """The world. Its dials are placeholders: a task brings the values that count."""
    horizon: int
    """T_max [steps] of the evaluation rollouts."""
    demos: int
    """N, demonstration episodes."""
    demo_steps: int
    """Length of a demonstration [steps]; of the longest one if they differ."""
    donor: Donor | None = None
    """Where `Task.given` comes from."""
    lengths: tuple[int, ...] = ()
    """Length of each demonstration of a file [steps]; empty if all are `demo_steps` long."""
    clean: bool = False
    """Whether only episodes without a failure are demonstrated."""
    spread: Spread = WHOLE
    """Over how many devices the learner's training worlds are spread."""

    def labels(self, demos: int | None = None) -> int:
        """Returns the number of steps [state-action pairs] in the first `demos` demonstrations;
        None: in all of them."""
        count = self.demos if demos is None else demos
        return sum(self.lengths[:count]) if self.lengths else count * self.demo_steps

    @property
    def observation_size(self) -> int:
        """O, the number of entries of an observation."""
        return int(self.world.observation_size)  # type: ignore[arg-type]

    @property
    def action_size(self) -> int:
        """A, the number of entries of a continuous action."""
        return self.world.action_size

    @property
    def n_actions(self) -> int | None:
        """The number of actions of a discrete world; None in a continuous one."""
        return self.world.n_actions
