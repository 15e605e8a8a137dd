"""Finite worlds whose dynamics are a table: a grid with terrain and a coarse lane. Inverse RL has
an exact answer on them.

Observation: one-hot of the state. The reward is linear in a few features of the state reached, and
  the demonstrator is optimal
in the maximum-entropy sense: pi(a|s) is proportional to exp Q(s, a), with

    Q(s, a) = sum_s' P(s'|s, a) [r(s') + gamma V(s')],   V(s) = log sum_a exp Q(s, a)
                                            Ziebart 2010; Gleave and Toyer 2022 (arXiv 2203.11409)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State, World, dial

__all__ = ["DISCOUNT", "CoarseLane", "Grid", "Tabular", "occupancy", "soft_values"]

DISCOUNT = 0.9
"""gamma of the demonstrator."""
ITERATIONS = 300
"""Of soft value iteration: gamma^300 < 2e-14."""


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
    place: jax.Array
    """int32[]: the state."""
    policy: jax.Array
    """float32[S, A]: log pi of the demonstrator, the same in every world; made at reset."""
    key: jax.Array


class Tabular(World):
    """A world given by tables; subclasses fill them in.

    Attributes:
      moves: int[S, A], where each action leads.
      stray: int[S, B], where a slip leads, with equal chances.
      features: float[S, F] of the state reached.
      weights: float[F]: the reward is features @ weights.
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
        return len(self.moves)

    @property
    def action_size(self) -> int:
        return self.moves.shape[1]

    def transitions(self) -> jax.Array:
        """P(s'|s, a), float32[S, A, S]."""
        states = len(self.moves)
        meant = np.eye(states, dtype=np.float32)[self.moves]
        chance = np.eye(states, dtype=np.float32)[self.stray].mean(1)
        return jnp.asarray((1.0 - self.dials.slip) * meant + self.dials.slip * chance[:, None])

    def rewards(self) -> jax.Array:
        """r(s) of the state reached, float32[S]."""
        return jnp.asarray(self.features @ self.weights, jnp.float32)

    def reset(self, rng: jax.Array) -> State:
        key, draw = jax.random.split(rng)
        place = jax.random.categorical(draw, jnp.log(jnp.asarray(self.start, jnp.float32))).astype(
            jnp.int32
        )
        q, v = soft_values(self.transitions(), self.rewards())
        return self._state(TabularState(place, q - v[:, None], key))

    def step(self, state: State, action: jax.Array) -> State:
        inner: TabularState = state.pipeline_state  # type: ignore[assignment]
        key, draw = jax.random.split(inner.key)
        chances = self.transitions()[inner.place, action]
        place = jax.random.categorical(draw, jnp.log(chances)).astype(jnp.int32)
        return self._state(inner.replace(place=place, key=key))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """A sample of the soft-optimal policy; `key` is consumed."""
        inner: TabularState = state.pipeline_state  # type: ignore[assignment]
        return jax.random.categorical(key, inner.policy[inner.place]).astype(jnp.int32)

    def _state(self, inner: TabularState) -> State:
        cost = jnp.asarray(self.failed, jnp.float32)[inner.place]
        observation = jax.nn.one_hot(inner.place, len(self.moves))
        return State(
            inner,
            observation,
            self.rewards()[inner.place],
            jnp.zeros(()),
            {"cost": cost, "graded_cost": cost},
        )


def soft_values(
    transitions: jax.Array, reward: jax.Array, discount: float = DISCOUNT
) -> tuple[jax.Array, jax.Array]:
    """(Q float32[S, A], V float32[S]) of maximum-entropy optimality for a reward float32[S] of
    the state reached."""

    def backup(v: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.nn.logsumexp(transitions @ (reward + discount * v), 1), None

    v, _ = jax.lax.scan(backup, jnp.zeros(len(reward)), None, length=ITERATIONS)
    q = transitions @ (reward + discount * v)
    return q, jax.nn.logsumexp(q, 1)


def occupancy(
    transitions: jax.Array, policy: jax.Array, start: jax.Array, discount: float = DISCOUNT
) -> jax.Array:
    """(1 - gamma) sum_t gamma^t P(s_t = s | pi), t >= 0, float32[S]: where a policy float32[S,
    A] is, discounted."""
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
    """A walk on a 6 x 6 grid: staying and four moves. Mud fails, gravel is unpleasant, the goal
    pays for each step there."""

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
    return (np.clip(offset, -4, 4) + 4) * 3 + np.clip(heading, -1, 1) + 1


class CoarseLane(Tabular):
    """Lane keeping in 27 states: offset -4..4 and heading -1..1; an action turns, chance drifts.
    Beyond 2 the lane is left."""

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
