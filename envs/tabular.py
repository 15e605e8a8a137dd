"""Finite worlds whose dynamics are tables: a grid with terrain and a coarse lane. Inverse RL can be
solved exactly on them.

The observation is one-hot of the state. The reward is linear in a few features of the state
reached. The demonstrator is optimal in the maximum-entropy sense: pi(a|s) is proportional to
exp Q(s, a), with

    Q(s, a) = sum_s' P(s'|s, a) [r(s') + gamma V(s')],   V(s) = log sum_a exp Q(s, a)
                                            Ziebart 2010; Gleave and Toyer 2022 (arXiv 2203.11409)
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State, World, dial

__all__ = ["DISCOUNT", "CoarseLane", "Grid", "Tabular", "occupancy", "soft_values"]

DISCOUNT = 0.9
"""gamma, the demonstrator's discount factor."""
ITERATIONS = 300
"""Iterations of soft value iteration: gamma^300 < 2e-14."""


@struct.dataclass
class TabularDials:
    """The dials of a tabular world."""

    slip: float = dial(
        0.1,
        "probability that a step goes where chance has it, not where the action says",
        low=0.0,
        high=1.0,
    )


@struct.dataclass
class TabularState:
    """The inner state of a tabular world."""

    place: jax.Array
    """int32[]: index of the state."""
    policy: jax.Array
    """float32[S, A]: the demonstrator's log pi(a|s), computed at reset from the world's dials."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Tabular(World):
    """A world of S states and A actions that is given by tables; subclasses fill them in.

    Attributes:
      moves: int[S, A], the state that each action leads to.
      stray: int[S, B], the states that a slip leads to, with equal probability.
      features: float[S, F], features of each state.
      weights: float[F]; the reward of reaching a state is features @ weights.
      start: float[S], probabilities of the first state.
      failed: bool[S], the states of cost 1.
    """

    horizon = 256
    moves: np.ndarray
    stray: np.ndarray
    features: np.ndarray
    weights: np.ndarray
    start: np.ndarray
    failed: np.ndarray

    def __init__(self, **dials: float):
        self.dials = TabularDials(**dials)
        self.n_actions = self.moves.shape[1]

    @property
    def observation_size(self) -> int:
        """S, the number of states."""
        return len(self.moves)

    @property
    def action_size(self) -> int:
        """A, the number of actions."""
        return self.moves.shape[1]

    def transitions(self) -> jax.Array:
        """Returns P(s'|s, a), float32[S, A, S], under the bound dials."""
        states = len(self.moves)
        meant = np.eye(states, dtype=np.float32)[self.moves]
        chance = np.eye(states, dtype=np.float32)[self.stray].mean(1)
        return jnp.asarray((1.0 - self.dials.slip) * meant + self.dials.slip * chance[:, None])

    def rewards(self) -> jax.Array:
        """Returns r(s), the reward of reaching each state, float32[S]."""
        return jnp.asarray(self.features @ self.weights, jnp.float32)

    def reset(self, rng: jax.Array) -> State:
        """Returns a start drawn from `start`; rng, uint32[2], is consumed."""
        key, draw = jax.random.split(rng)
        place = jax.random.categorical(draw, jnp.log(jnp.asarray(self.start, jnp.float32))).astype(
            jnp.int32
        )
        q, v = soft_values(self.transitions(), self.rewards())
        return self._state(TabularState(place, q - v[:, None], key))

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is int32[] in 0..A-1."""
        inner = cast(TabularState, state.pipeline_state)
        key, draw = jax.random.split(inner.key)
        chances = self.transitions()[inner.place, action]
        place = jax.random.categorical(draw, jnp.log(chances)).astype(jnp.int32)
        return self._state(TabularState(place, inner.policy, key))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Draws an action, int32[], from the soft-optimal policy; `key` is consumed."""
        inner = cast(TabularState, state.pipeline_state)
        return jax.random.categorical(key, inner.policy[inner.place]).astype(jnp.int32)

    def _state(self, inner: TabularState) -> State:
        """Returns the state of the world with observation, reward and costs."""
        cost = jnp.asarray(self.failed, jnp.float32)[inner.place]
        observation = jax.nn.one_hot(inner.place, len(self.moves))
        return State(
            cast(Any, inner),  # Brax annotates the states of its own physics alone
            observation,
            self.rewards()[inner.place],
            jnp.zeros(()),
            {"cost": cost, "graded_cost": cost},
        )


def soft_values(
    transitions: jax.Array, reward: jax.Array, discount: float = DISCOUNT
) -> tuple[jax.Array, jax.Array]:
    """Solves a tabular world by soft value iteration.

    Args:
      transitions: float32[S, A, S], P(s'|s, a).
      reward: float32[S], the reward of reaching each state.
      discount: gamma.

    Returns:
      Q float32[S, A] and V float32[S] of the maximum-entropy optimal policy exp(Q - V).
    """

    def backup(v: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.nn.logsumexp(transitions @ (reward + discount * v), 1), None

    v, _ = jax.lax.scan(backup, jnp.zeros(len(reward)), None, length=ITERATIONS)
    q = transitions @ (reward + discount * v)
    return q, jax.nn.logsumexp(q, 1)


def occupancy(
    transitions: jax.Array, policy: jax.Array, start: jax.Array, discount: float = DISCOUNT
) -> jax.Array:
    """Returns the discounted occupancy of a policy, (1 - gamma) sum_t gamma^t P(s_t = s | pi).

    Args:
      transitions: float32[S, A, S], P(s'|s, a).
      policy: float32[S, A], pi(a|s).
      start: float32[S], probabilities of the first state.
      discount: gamma.

    Returns:
      float32[S], which sums to 1.
    """
    chain = jnp.einsum("sa,sat->st", policy, transitions)
    return (1.0 - discount) * jnp.linalg.solve(jnp.eye(len(start)) - discount * chain.T, start)


TERRAIN = "..m..G", ".g.m..", ".gm...", "...gg.", ".m.mg.", "......"
"""The grid from above: plain, mud, gravel, goal."""
_ground = np.array([".mgG".index(cell) for cell in "".join(TERRAIN)])
_row, _column = np.divmod(np.arange(36), 6)
_walks = [
    np.clip(_row + y, 0, 5) * 6 + np.clip(_column + x, 0, 5)
    for y, x in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
]


class Grid(Tabular):
    """A walk on a 6 x 6 grid by staying and four moves. Mud is a failure, gravel costs reward, and
    the goal pays reward at every step."""

    name = "grid"
    moves = np.stack(_walks, 1)
    stray = moves
    features = np.eye(4)[_ground]
    weights = np.array([0.0, -2.0, -0.5, 1.0])
    start = (_ground == 0) / np.sum(_ground == 0)
    failed = _ground == 1


_offset, _heading = (
    x.ravel() for x in np.meshgrid(np.arange(-4, 5), np.arange(-1, 2), indexing="ij")
)


def _lane_state(offset: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Returns the indices, int[S], of the states of offsets and headings."""
    return (np.clip(offset, -4, 4) + 4) * 3 + np.clip(heading, -1, 1) + 1


class CoarseLane(Tabular):
    """Lane keeping in 27 states: offset -4..4 times heading -1..1. Actions turn the car, chance
    moves it sideways, and offsets beyond 2 are failures."""

    name = "coarse_lane"
    moves = np.stack(
        [
            _lane_state(_offset + np.clip(_heading + turn, -1, 1), _heading + turn)
            for turn in (-1, 0, 1)
        ],
        1,
    )
    stray = np.stack([_lane_state(_offset + drift, _heading) for drift in (-1, 1)], 1)
    features = np.eye(5)[np.abs(_offset)]
    weights = np.array([0.5, 0.2, -0.3, -2.0, -2.0])
    start = (_offset == 0) / np.sum(_offset == 0)
    failed = np.abs(_offset) > 2
