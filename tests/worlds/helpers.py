"""What the tests of the algorithms share: a small continuous world, and training outside the
runner."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.chain import CORRECT, OFF_VIEW, RECOVER, SITUATIONS
from envs.core import State, World, dial
from irl_bench.core.types import Spec, Task
from irl_bench.rollouts.evaluation import collect


@struct.dataclass
class LineDials:
    gust: float = dial(0.3, "size of the wind, which nothing else depends on", low=0.0, high=1.0)


@struct.dataclass
class LineState:
    x: jax.Array
    wind: jax.Array
    key: jax.Array


class Line(World):
    """A point to be kept within 1 of the origin. Observation: place, wind and a constant; the first
    action moves it.

    The expert holds the point where the wind cannot take it beyond 0.6. The graded cost is the
    wind's alone: it shows which random numbers an episode was made of, whoever drives.
    """

    name = "line"
    modes = {"nominal": {}}  # noqa: RUF012 as in `World`
    horizon = 16

    def __init__(self):
        self.dials = LineDials()

    @property
    def observation_size(self) -> int:
        return 3

    @property
    def action_size(self) -> int:
        return 2

    def _state(self, line: LineState) -> State:
        cost = (jnp.abs(line.x) > 1.0).astype(jnp.float32)
        obs = jnp.stack([line.x, line.wind, jnp.float32(0.25)])
        return State(
            line, obs, -cost, jnp.float32(0), {"cost": cost, "graded_cost": jnp.abs(line.wind)}
        )

    def _wind(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, minval=-1.0, maxval=1.0) * self.dials.gust

    def reset(self, rng: jax.Array) -> State:
        key, place, wind = jax.random.split(rng, 3)
        x = jax.random.uniform(place, minval=-0.3, maxval=0.3)
        return self._state(LineState(x, self._wind(wind), key))

    def step(self, state: State, action: jax.Array) -> State:
        line = state.pipeline_state
        key, draw = jax.random.split(line.key)
        x = jnp.clip(line.x + 0.5 * action[0] + line.wind, -2.0, 2.0)
        return self._state(LineState(x, self._wind(draw), key))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        del key
        return line_expert(state.obs)


def line_expert(obs: jax.Array) -> jax.Array:
    """The expert of `Line` at an observation."""
    return jnp.stack([jnp.tanh(-obs[0] - obs[1]), jnp.tanh(obs[0])])


def chain_expert(observation: np.ndarray) -> np.ndarray:
    """int[...]: the right action of `Chain` at one-hot observations [..., 65]."""
    return np.append(CORRECT, RECOVER)[np.argmax(observation, -1)]


def demonstrate(spec: Spec, dials, key: jax.Array) -> Task:
    return Task(collect(spec.world.bind(dials), key, spec.demos, spec.demo_steps), dials)


def train(learner, key: jax.Array, task: Task):
    """(final state, metrics [rounds])."""
    return jax.lax.scan(
        lambda s, _: learner.update(s, task), learner.init(key, task), None, length=learner.rounds
    )


def chain_actions(learner, params) -> np.ndarray:
    """int[65]: what a policy plays in each situation of the chain, then off it."""
    act = jax.vmap(learner.act, (None, 0, None))
    return np.asarray(act(params, jnp.eye(SITUATIONS + 1), jax.random.PRNGKey(0)))


def seen(task: Task) -> np.ndarray:
    """bool[65]: the chain's views that a task's demonstrations hold."""
    observation = np.asarray(task.demonstrations.observation)
    views = observation.reshape(-1, SITUATIONS + 1).any(0)
    assert not views[OFF_VIEW]
    return views


class Windy(Line):
    """`Line` with its reward a bit finer, so that segments hardly ever tie, and a demonstrator
    that lets it drift."""

    name = "windy"

    def _state(self, line):
        state = super()._state(line)
        return state.replace(reward=-jnp.abs(line.x))

    def expert(self, state, key):
        del key
        return jnp.stack([-0.2 * jnp.tanh(state.obs[0]), jnp.float32(0)])
