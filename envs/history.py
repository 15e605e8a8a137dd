"""What a policy sees of the past: several frames, the action that led to the observation, or no
velocities, which only frames can then tell.

A policy that sees its last action may learn to repeat it: in demonstrations the next action is
mostly like the last one (de Haan et al. 2019, arXiv 1905.11979; Wen et al. 2020, arXiv 2010.14876).
The options of `envs.HISTORY` make such a twin of a world. `envs.build` wraps the world if one of
them differs from its default.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import State, World
from envs.names import HISTORY


class History(World):
    """A world that shows more of the past, or less of the present.

    The observation holds the latest frames, the newest first, then the last action. A frame is the
    world's own observation, without its velocities if those are hidden. Before an episode's first
    step all frames are the first one, and the last action is 0. Everything else is the world's own;
    its state is `state.pipeline_state`.

    Args:
      world: with continuous actions.
      frames: number of frames, one of `envs.HISTORY`.
      last_action: "visible" appends the action that led to the observation, as it was asked for,
        clipped to [-1, 1]: before the world's delay and noise.
      velocities: "hidden" takes the entries `world.velocities` out of each frame.
    """

    options: ClassVar = HISTORY

    def __init__(
        self,
        world: World,
        frames: str = "1",
        last_action: str = "hidden",
        velocities: str = "visible",
    ):
        self.inner, self.dials = world, world.dials
        self.count, self.shows_action = int(frames), last_action == "visible"
        hidden = world.velocities if velocities == "hidden" else ()
        self.entries = np.setdiff1d(np.arange(world.observation_size), hidden)
        self.chosen = {
            **world.chosen,
            "frames": frames,
            "last_action": last_action,
            "velocities": velocities,
        }
        # A class variable of all other worlds.
        self.options = world.options  # pyright: ignore[reportAttributeAccessIssue]
        self.files = world.files  # pyright: ignore[reportAttributeAccessIssue]
        self.name, self.modes, self.source = world.name, world.modes, world.source
        self.fixed = world.fixed
        self.horizon, self.latency = world.horizon, world.latency
        self.recovery_steps, self.n_actions = world.recovery_steps, world.n_actions
        size = len(self.entries)
        flags = [int(i) for i in np.flatnonzero(np.isin(self.entries, world.failure_flags))]
        self.failure_flags = tuple(k * size + flag for k in range(self.count) for flag in flags)
        ends = [*range(size, self.count * size + 1, size), self.observation_size]
        groups = (tuple(range(*ends[i : i + 2])) for i in range(len(ends) - 1))
        self.past = tuple(group for group in groups if group)
        self.last_action = tuple(range(self.count * size, self.observation_size))
        kept = {int(entry): i for i, entry in enumerate(self.entries)}
        self.velocities = tuple(kept[i] for i in world.velocities if i in kept)

    def bind(self, dials: Any) -> History:
        """Returns a copy of this world with other dials."""
        bound = cast(History, super().bind(dials))
        bound.inner = self.inner.bind(dials)
        return bound

    @property
    def unwrapped(self) -> World:
        """The world within."""
        return self.inner

    @property
    def backend(self) -> str:
        """Name of the physics."""
        return self.inner.backend

    @property
    def has_expert(self) -> bool:
        """Whether the world within has an expert."""
        return self.inner.has_expert

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return self.count * len(self.entries) + self.shows_action * self.action_size

    @property
    def action_size(self) -> int:
        """A, of the world within."""
        return self.inner.action_size

    def reset(self, rng: jax.Array) -> State:
        """Returns the world's start, in all frames; rng, uint32[2], is consumed."""
        inner = self.inner.reset(rng)
        frames = jnp.tile(self._frame(inner), (self.count, 1))
        return self._state(inner, frames, jnp.zeros(self.action_size))

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[A], clipped to [-1, 1]."""
        inner = self.inner.step(cast(State, state.pipeline_state), action)
        frames = jnp.concatenate([self._frame(inner)[None], state.info["frames"][:-1]])
        return self._state(inner, frames, jnp.clip(action, -1.0, 1.0))

    def _frame(self, inner: State) -> jax.Array:
        """Returns a frame of a state of the world within, float32[F]."""
        return cast(jax.Array, inner.obs)[self.entries]

    def _state(self, inner: State, frames: jax.Array, action: jax.Array) -> State:
        """Returns the state with some frames, float32[count, F], and last action, float32[A]."""
        parts = [frames.ravel(), *([action] if self.shows_action else [])]
        return State(
            cast(Any, inner),
            jnp.concatenate(parts),
            inner.reward,
            inner.done,
            inner.metrics,
            {"frames": frames},
        )

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action of the expert of the world within, which sees that world's state."""
        return self.inner.expert(cast(State, state.pipeline_state), key)

    @property
    def expert_reads_observations(self) -> bool:
        """Whether the newest frame holds all that the expert reads."""
        whole = len(self.entries) == self.inner.observation_size
        return whole and self.inner.expert_reads_observations

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns the expert's action, float32[A], at an observation, float32[O]."""
        return self.inner.expert_at(observation[: len(self.entries)])

    def picture(self, state: State) -> dict[str, jax.Array] | None:
        """Returns the picture of the world within, as `World.picture`."""
        return self.inner.picture(cast(State, state.pipeline_state))

    def whereabouts(self, state: State) -> dict[str, jax.Array] | None:
        """Returns where the state within is, as `World.whereabouts`."""
        return self.inner.whereabouts(cast(State, state.pipeline_state))
