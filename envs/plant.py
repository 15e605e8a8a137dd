"""Two small linear plants with continuous actions, on which the error of a clone that does not
answer the offset grows like a power of its closed loop's pole.

The state x = (two loads, offset) and the action u of one entry follow

    x' = A x + B (u + g(x)) + w,       g(x) = AMPLITUDE sin(WAVE x_2),

        | a  0   c    |          | 0 |         a = LOAD_POLE, d = DRAG, b = PUSH,
    A = | 0  a   0    |,     B = | 0 |,        c = COUPLING[system],
        | d  0  -pole |          | b |         w: Gaussian, on the loads only by default.

The expert knows the plant. It cancels what the loads do to the offset and takes the offset to 0 in
one step (deadbeat):

    u* = K x - g(x),    K = (-d / b, 0, pole / b),    clipped to [-1, 1].

Its demonstrations hold the offset at 0, so they show two entries of K and nothing of the third. A
clone that drops what is constant in them has the loop A + B (K_1, K_2, 0), in which the offset's
own pole, -pole, is left: whatever its small errors put into the offset grows like pole^t. One that
keeps the offset has an arbitrary weight on it, and may fail sooner or not at all. Both hold in both
systems:

* `stable`: the offset pushes load 1 back (c = -4), and load 1 pushes the offset back (d). The open
  loop is stable, and so is the expert's. The clone cancels the load's help and puts nothing in its
  place, so its loop is unstable. A smooth Markov clone may lose C^T times its training error
  although both loops are stable (Simchowitz et al. 2025, arXiv:2503.09722). Chunks of actions leave
  the open loop to itself and do not lose it (Zhang et al. 2025, arXiv:2507.09061); here two actions
  are enough.
* `unstable`: c = 0, and the open loop has the pole too. For every learner without queries there are
  plants on which it loses exponentially (arXiv:2503.09722). Chunks do harm, because they delay
  every answer.

The demonstrations of both systems are the same numbers. A learner that visits offsets can tell them
apart. So can one whose demonstrations are spread, by noise on the executed actions or on the offset
(the dial `shake`): they hold the answer to an offset, and the error need not grow.

The pole is negative, so an offset changes its side at every step, as in a loop that corrects too
much. A slowly varying error of the clone then cancels itself from step to step instead of adding up
like a random walk, and the cost is exponential from the first steps on.

Failure: at each step an obstacle lies at a random distance from the path, and the plant fails if
the offset reaches it. The distance is bound sqrt(U) with U uniform in [0, 1), as of a random point
in a disc, so that

    P(failure | offset) = min(1, (offset / bound)²) = graded cost.

It stays failed until the offset is within KERB bound and meets no obstacle. The offset stops at
bound. The mean of offset² grows like pole^(2 t) whatever such a clone's errors are, so its J(T) is
about a (pole^(2 T) - 1) until most plants have failed. A hard bound (`sharpness` 64) asks for
P(|offset| > bound) instead, which depends on their distribution. A linear clone, whose errors are
bounded, then fails nowhere for a while and everywhere soon after.

EISS, the exponential incremental input-to-state stability of both papers, is
|x_t - x'_t| <= C rho^(t-1) |x_1 - x'_1| + C sum_k rho^(t-1-k) |u_k - u'_k|; here rho is a loop's
spectral radius and C = max_k |M^k| / rho^k in the 2-norm (`eiss`). Load 2 answers to nothing. For
load 1 and the offset at the default pole, 1.025:

| loop | stable | unstable |
|---|---|---|
| open | C = 4.61, rho = 0.921 | C = 1.02, rho = 1.025: not EISS |
| expert's | C = 4.12, rho = 0.9995 | C = 1, rho = 0.9995 |
| clone's, without an answer to the offset | C = 4.14, rho = 1.025 | C = 1, rho = 1.025 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import linalg

from envs.core import State, World, dial, soundness
from envs.names import nearest

__all__ = [
    "COUPLING",
    "INPUT",
    "Plant",
    "PlantDials",
    "PlantState",
    "closed_loop",
    "eiss",
    "gain",
    "open_loop",
    "stationary_covariance",
]

LOAD_POLE = 0.9995
"""a, the pole of both loads: they forget in about 2000 steps."""
DRAG = 0.05
"""d, offset per unit of load 1 and step."""
PUSH = 0.3
"""b, offset per unit of action and step."""
COUPLING: Mapping[str, float] = {"stable": -4.0, "unstable": 0.0}
"""c, load 1 per unit of offset and step, by system."""
AMPLITUDE, WAVE = 0.25, 1.2
"""g(x) = AMPLITUDE sin(WAVE x_2), what load 2 adds to the action."""
KERB = 0.5
"""A failed plant is up again within this share of the bound."""
LOAD_LIMIT = 20.0
"""The loads stop at this magnitude, 20 standard deviations at the default noise."""


@struct.dataclass
class PlantDials:
    """The dials of `Plant`."""

    pole: float = dial(
        1.025,
        "magnitude of the offset's own pole; the cost of a clone that does not answer the offset "
        "doubles about every 0.35 / log(pole) steps",
        low=0.0,
        high=1.09,
    )
    bound: float = dial(
        0.15, "offset at which the plant fails for sure, and at which it stops", low=0.02, high=10.0
    )
    sharpness: float = dial(
        2.0, "exponent s of the probability of failing, (|offset| / bound)^s", low=1.0, high=64.0
    )
    noise: float = dial(
        0.032, "standard deviation of the noise on each load, per step", low=0.001, high=0.064
    )
    shake: float = dial(
        0.0, "standard deviation of the noise on the offset, per step", low=0.0, high=0.1
    )
    reacquisition: float = dial(
        0.0,
        "probability per failed step of being put back to the offset 0",
        unit="1/step",
        low=0.0,
        high=1.0,
    )


@struct.dataclass
class PlantState:
    """The inner state of `Plant`."""

    x: jax.Array
    """float32[3]: load 1, load 2, offset."""
    off: jax.Array
    """bool[]: whether the plant has failed and is not up again."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Plant(World):
    """A linear plant, open-loop stable or unstable, whose clones may fail exponentially.

    The observation is float32[3], the state itself: load 1, load 2 and the offset. The action is
    float32[1] in [-1, 1]. Cost is 1 while the plant has failed, graded cost is (offset / bound)²,
    at most 1, and the reward is 1 - cost. `horizon` suits the default pole; another one needs a
    T_max of about 3 / log(pole).
    """

    name = "plant"
    horizon = 128
    recovery_steps = 1
    latency = 1
    options: ClassVar = {"system": ("stable", "unstable")}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }

    def __init__(self, system: str = "stable", **dials: float):
        _coupling(system)
        self.chosen = {"system": system}
        self.dials = PlantDials(**dials)

    @property
    def observation_size(self) -> int:
        """3, the loads and the offset."""
        return 3

    @property
    def action_size(self) -> int:
        """1, the push."""
        return 1

    def reset(self, rng: jax.Array) -> State:
        """Returns a start with the offset 0 and loads from their stationary distribution; rng,
        uint32[2], is consumed."""
        key, draw = jax.random.split(rng)
        loads = jax.random.normal(draw, (2,)) * self.dials.noise / np.sqrt(1.0 - LOAD_POLE**2)
        x = jnp.append(loads, 0.0)
        return self._state(PlantState(x, jnp.zeros((), bool), key), jnp.zeros(()), jnp.zeros(()))

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[1], clipped to [-1, 1]."""
        inner = cast(PlantState, state.pipeline_state)
        dials: PlantDials = self.dials
        key, noise_key, chance_key = jax.random.split(inner.key, 3)
        w = jax.random.normal(noise_key, (3,))
        distance, rescue = jax.random.uniform(chance_key, (2,))

        first, second, offset = inner.x
        u = jnp.clip(action[0], -1.0, 1.0)
        coupling = COUPLING[self.chosen["system"]]
        first = LOAD_POLE * first + coupling * offset + dials.noise * w[0]
        second = LOAD_POLE * second + dials.noise * w[1]
        offset = PUSH * (u + _drive(inner.x)) - dials.pole * offset + dials.shake * w[2]
        offset = jnp.clip(offset, -dials.bound, dials.bound)

        hit = distance < (jnp.abs(offset) / dials.bound) ** dials.sharpness
        off = hit | (inner.off & (jnp.abs(offset) > KERB * dials.bound))
        rescued = off & (rescue < dials.reacquisition)
        off = off & ~rescued
        offset = jnp.where(rescued, 0.0, offset)
        loads = jnp.clip(jnp.stack([first, second]), -LOAD_LIMIT, LOAD_LIMIT)
        reached = PlantState(jnp.append(loads, offset), off, key)
        return self._state(reached, 1.0 - off.astype(jnp.float32), soundness(reached.x, action))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns u* = clip(K x - g(x)), float32[1]; the key is not used."""
        del key
        return self.expert_at(cast(PlantState, state.pipeline_state).x)

    @property
    def expert_reads_observations(self) -> bool:
        """True: the observation is the state."""
        return True

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns u* at an observation, float32[3]."""
        x = observation
        return jnp.clip(self.dials.pole / PUSH * x[2] - _drive(x), -1.0, 1.0)[None]

    def _state(self, inner: PlantState, reward: jax.Array, sound: jax.Array) -> State:
        """Returns the state of the world with observation and costs, to which `sound` is added."""
        graded = jnp.minimum(1.0, (inner.x[2] / self.dials.bound) ** 2) + sound
        metrics = {"cost": inner.off.astype(jnp.float32) + sound, "graded_cost": graded}
        # Brax annotates the states of its own physics alone.
        return State(cast(Any, inner), inner.x, reward + sound, jnp.zeros(()), metrics)

    def probe(self) -> dict[str, Any]:
        """Returns a grid of offset against load 1, as `World.probe`, at load 2 = 0."""
        bound = float(self.dials.bound)
        offset, load = (
            x.ravel()
            for x in np.meshgrid(np.linspace(-bound, bound, 37), np.linspace(-3.0, 3.0, 13))
        )
        return {
            "observation": np.stack([load, np.zeros_like(load), offset], 1).astype(np.float32),
            "x": offset,
            "y": load,
            "x_name": "offset",
            "y_name": "load 1",
            "cost": np.minimum(1.0, (offset / bound) ** 2),
        }


def _drive(x: jax.Array) -> jax.Array:
    """Returns float32[], what the loads of x float32[3] add to the action: g(x) + (d / b) x_1."""
    return AMPLITUDE * jnp.sin(WAVE * x[1]) + DRAG / PUSH * x[0]


def _coupling(system: str) -> float:
    """Returns c of a system; raises ValueError, one line, if there is no such system."""
    if system not in COUPLING:
        raise ValueError(
            f"plant.system={system} must be one of {' | '.join(COUPLING)}; nearest: "
            f"{nearest(str(system), COUPLING)}"
        )
    return COUPLING[system]


INPUT = np.array([[0.0], [0.0], [PUSH]])
"""B, float64[3, 1]."""


def open_loop(system: str, pole: float = PlantDials.pole) -> np.ndarray:
    """Returns A, float64[3, 3], of x' = A x + B (u + g(x)) + w.

    Raises:
      ValueError: there is no such system; one line.
    """
    a, c = LOAD_POLE, _coupling(system)
    return np.array([[a, 0.0, c], [0.0, a, 0.0], [DRAG, 0.0, -pole]])


def gain(pole: float = PlantDials.pole) -> np.ndarray:
    """Returns K, float64[1, 3], of the expert's u* = K x - g(x); the same for both systems."""
    return np.array([[-DRAG / PUSH, 0.0, pole / PUSH]])


def closed_loop(system: str, pole: float = PlantDials.pole) -> np.ndarray:
    """Returns A + B K, float64[3, 3], the expert's loop where it does not saturate."""
    return open_loop(system, pole) + INPUT @ gain(pole)


def eiss(loop: np.ndarray, steps: int = 2000) -> tuple[float, float]:
    """Returns (C, rho) of a linear loop M: |M^k| <= C rho^k for k = 0..steps in the 2-norm, with
    its spectral radius rho.

    The loop is EISS with these constants if rho < 1 (arXiv:2503.09722, arXiv:2507.09061), and not
    at all if rho >= 1.

    Args:
      loop: float64[d, d], not defective.
      steps: largest power that is looked at.
    """
    rho = float(np.abs(np.linalg.eigvals(loop)).max())
    power, largest = np.eye(len(loop)), 1.0
    for _ in range(steps):
        power = power @ (loop / rho)
        largest = max(largest, float(np.linalg.norm(power, 2)))
    return largest, rho


def stationary_covariance(system: str, dials: PlantDials) -> np.ndarray:
    """Returns float64[3, 3], the covariance of x under the expert in the long run.

    It solves the discrete Lyapunov equation S = M S M^T + W with M = A + B K and
    W = diag(noise², noise², shake²).

    Args:
      system: a key of `COUPLING`.
      dials: of the world; the offset must stay clear of the bound and the action of its limits.
    """
    variance = np.square([float(dials.noise), float(dials.noise), float(dials.shake)])
    loop = closed_loop(system, float(dials.pole))
    return np.asarray(linalg.solve_discrete_lyapunov(loop, np.diag(variance)))
