"""Worlds with a known answer for reinforcement learning."""

import jax
import jax.numpy as jnp
from brax.envs.base import State
from flax import struct

from envs.core import World, dial


@struct.dataclass
class Dials:
    pay: float = dial(1.0, "reward scale", low=-10, high=10)


class Known(World):
    """Observation float32[2]: one-hot of a state 0 or 1; costs are always 0 and the expert plays
    action 1."""

    horizon = 8
    n_actions = 2

    def __init__(self):
        self.dials = Dials()

    observation_size = 2
    action_size = 2

    def make(self, place, step, key, reward, done):
        observation = jax.nn.one_hot(place, 2)
        zero = jnp.zeros(())
        return State(
            (place, step, key), observation, reward, done, {"cost": zero, "graded_cost": zero}
        )

    def reset(self, rng):
        return self.make(jnp.int32(0), jnp.int32(0), rng, jnp.zeros(()), jnp.zeros(()))

    def expert(self, state, key):
        return jnp.int32(1)


class Bandit(Known):
    """Every episode is one step; arm a pays PAYS[a] on average, with unit noise."""

    name = "bandit"
    n_actions = action_size = 4
    PAYS = (0.2, 0.0, 1.0, -0.5)

    def step(self, state, action):
        key, draw = jax.random.split(state.pipeline_state[2])
        reward = jnp.asarray(self.PAYS)[action] + jax.random.normal(draw)
        return self.make(jnp.int32(0), jnp.int32(1), key, reward, jnp.ones(()))


class Constant(Known):
    """1 per step for ever: V = 1 / (1 - gamma), also where an episode is cut for its length."""

    name = "constant"
    ends = False

    def step(self, state, action):
        _, step, key = state.pipeline_state
        done = jnp.float32(self.ends and True) * (step + 1 >= 4)
        return self.make((step + 1) % 2, step + 1, key, self.dials.pay * jnp.ones(()), done)


class Short(Constant):
    """The same, but the world ends after four steps: V = 1, 1 + gamma, ... with the steps that
    are left."""

    name = "short"
    ends = True


class TwoStates(Known):
    """Action 1 goes to state 1 and action 0 to state 0. Being moved from 0 costs 1; every step that
    ends in 1 pays 1.

    From 0: staying is worth 0; moving -1 + 1 + gamma / (1 - gamma) > 0. So pi* is action 1, V(1) =
    1 / (1 - gamma) and V(0) = gamma V(1): the first gain comes one step later, which a myopic
    learner (gamma = 0) cannot tell from staying.
    """

    name = "two_states"

    def step(self, state, action):
        place, step, key = state.pipeline_state
        reward = (action == 1).astype(jnp.float32) - ((action == 1) & (place == 0))
        return self.make(action.astype(jnp.int32), step + 1, key, reward, jnp.zeros(()))
