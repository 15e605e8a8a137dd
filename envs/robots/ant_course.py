"""An ant that follows a winding course: a robot whose expert comes back onto its path.

Brax's physics has no preferred horizontal direction, so the gait of the ant's demonstrator, which
runs along x, runs in any other direction if it sees the world turned by that angle. An outer loop
in closed form chooses the direction: along the course, and towards it from beside it. No network is
trained for this world.

The course is given by its curvature over arc length s, a sum of sines with random phases, different
in every episode:

    kappa(s) = bend * sum_j A_j sin(2 pi s / W_j + p_j)                        [1/m]

The course winds about one axis: it swings by about 2 m to each side and never turns away. `foot` is
the point of the course beside the ant. With the ant at (a, e) along and across the course there,
the foot moves by ds = a / (1 - kappa e) in a step (Frenet's frame), and the course's heading by
kappa ds. An ant never gets further than `FARTHEST` from the course: beyond, the course moves along
with it. So the way back is bounded, as is every observation, and 1 - kappa e stays above a half.

From rest the gait takes two seconds to find its direction, and in that time a third of the ants
leave the course. So the budgets of this world let the expert act for `burn_in` steps before an
episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State, World, dial, soundness
from envs.robots import locomotion

AMPLITUDES = np.array([0.0105, 0.0105, 0.009], np.float32)
"""A_j [1/m]; the tightest bend has a radius of 33 m."""
WAVELENGTHS = np.array([71.0, 43.0, 29.0], np.float32)
"""W_j [m]."""
HALF_WIDTH, KERB = 1.5, 1.2
"""The ant is off the course beyond HALF_WIDTH, until it is back within KERB [m]."""
PREVIEW = np.array([2.0, 4.0, 6.0, 8.0], np.float32)
"""Distances along the course at which its direction is observed [m]."""
GET_GOING = 60
"""Steps from a start at rest in which an ant does not count as slow."""
FAR = 4.0
"""Offset from which on the graded cost is 1 [m]."""
FARTHEST = 8.0
"""Largest offset [m]."""
LEAD = 1
"""Which entry of `PREVIEW` the expert steers for."""
APPROACH = 5.0
"""Length in the expert's angle towards the course, atan(e / APPROACH) [m]."""
MOST = 0.3
"""Largest angle to the course that the expert steers [rad], reached at an offset of 1.5 m. With
0.4 rad, 2 of 256 ants fell over as they turned."""
DRIFT = -0.09
"""Correction of the direction in which the gait runs [rad]."""


@struct.dataclass
class CourseDials(locomotion.Dials):
    """The dials of `AntCourse`: the robot's, and the course's."""

    bend: float = dial(1.0, "factor on the course's curvature", low=0.0, high=2.0)


class AntCourse(World):
    """An ant that has to stay on a winding course of half-width `HALF_WIDTH`.

    The observation is float32[32]: the ant's own, float32[27], in the frame of the course beside it
    (x forward along the course, y to the left); the lateral offset e [m], to the left; and the
    direction of the course `PREVIEW` metres ahead, float32[4] [rad], less that beside the ant. The
    offset stays in sight off the course, up to ±`FARTHEST`. The action is float32[8], the ant's.

    Cost is 1 from the step in which the ant is off the course until it is back within `KERB`, while
    it is fallen, and while it is slow: once its progress along the course, averaged over half a
    second, is below half of the ant's pace, until it is above 0.6 of it (as halfcheetah's in
    `locomotion`). From a start at rest it has `GET_GOING` steps to reach that. Graded cost is
    |e| / `FAR`, at most 1, or 1 while fallen or slow. The reward is the progress along the course
    [m/s], or 0 while failed. `done` reports a fall.
    """

    name = "ant_course"
    horizon = 7200
    recovery_steps = 80
    latency = 30  # of the order of the ant's own, 22; u is longer
    options: ClassVar = {"backend": ("auto", "spring", "mjx")}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }

    def __init__(self, backend: str = "auto"):
        self._ant = locomotion.Ant(backend)
        self._robot = self._ant._robot
        self._dt = float(self._robot.dt)  # here, since inside jit MJX's is an array
        self.chosen = {"backend": self._ant.backend}
        self.source = self._ant.source
        self.dials = CourseDials()
        self.at_once = self._ant.at_once

    @property
    def backend(self) -> str:
        """Name of the physics."""
        return self._ant.backend

    @property
    def has_expert(self) -> bool:
        """Whether a demonstrator of ant ships for the backend."""
        return self._ant.has_expert

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return self._ant.observation_size + 1 + len(PREVIEW)

    @property
    def action_size(self) -> int:
        """8, the ant's actuators."""
        return self._ant.action_size

    def reset(self, rng: jax.Array) -> State:
        """Returns the ant's start on a new course; rng, uint32[2], is consumed."""
        ant_key, phase_key, key = jax.random.split(rng, 3)
        ant = self._bound().reset(ant_key)
        phases = jax.random.uniform(phase_key, (len(AMPLITUDES),), maxval=2.0 * math.pi)
        zero = jnp.zeros(())
        course = {"phases": phases, "s": zero, "foot": self._place(ant), "heading": zero}
        action = jnp.zeros(self.action_size)
        speed = {"slow": zero, "pace": jnp.float32(self._ant.pace), "age": zero}
        return self._state(ant, course, zero, speed, zero, key, action)

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[8], clipped to [-1, 1]."""
        key, chance_key, start_key = jax.random.split(state.info["key"], 3)
        before, robot = cast(State, state.pipeline_state), self._bound()
        after = robot.step(before, action)
        course, ds = self._follow(state.info["course"], self._place(after))
        offset = self._offset(course, self._place(after))
        limit = jnp.where(state.info["off"] > 0.0, KERB, HALF_WIDTH)
        off = jnp.where(jnp.abs(offset) > limit, 1.0, 0.0)
        share = math.exp(-self._dt / locomotion.PACE_TIME)
        speed = state.info["speed"]
        pace = share * speed["pace"] + (1.0 - share) * ds / self._dt
        pace = jnp.where(speed["age"] < GET_GOING, self._ant.pace, pace)
        least = jnp.where(speed["slow"] > 0.0, locomotion.BRISK, locomotion.SLOW)
        slow = jnp.where(pace < least * self._ant.pace, 1.0, 0.0)

        # An ant that is off the course and runs is brought back by moving the course, which keeps
        # its gait. One that lies or is slow starts again, in a loop of at most one pass: under vmap
        # it costs nothing in steps in which no ant does.
        stopped = jnp.maximum(slow, after.metrics["cost"]) > 0.0
        helped = jax.random.uniform(chance_key) < self.dials.reacquisition
        restarts, rescued = stopped & helped, (stopped | (off > 0.0)) & helped
        here, place = self._place(after), after.info["place"]
        upright = self._bound(fallen_start=jnp.float32(0.0))
        _, after = jax.lax.while_loop(
            lambda carry: carry[0],
            lambda carry: (jnp.zeros_like(carry[0]), upright.reset(start_key)),
            (restarts, after),
        )
        moved = jnp.where(restarts, here - self._place(after), 0.0)
        after = after.replace(info={**after.info, "place": place + moved})
        velocity = cast(jax.Array, after.obs)[13:15]
        towards = jnp.where(restarts, 0.0, jnp.arctan2(velocity[1], velocity[0]))
        anew = {**course, "foot": self._place(after), "heading": towards}
        course = jax.tree.map(lambda new, now: jnp.where(rescued, new, now), anew, course)
        off = jnp.where(rescued, 0.0, off)
        speed = {
            "slow": jnp.where(restarts, 0.0, slow),
            "pace": jnp.where(restarts, self._ant.pace, pace),
            "age": jnp.where(restarts, 0.0, speed["age"] + 1.0),
        }
        return self._state(after, course, off, speed, ds / self._dt, key, action)

    def _state(
        self,
        ant: State,
        course: dict[str, jax.Array],
        off: jax.Array,
        speed: dict[str, jax.Array],
        progress: jax.Array,
        key: jax.Array,
        action: jax.Array,
    ) -> State:
        """Returns the state of the world.

        Args:
          ant: the robot's state.
          course: "phases" p_j, "s" [m], and "foot" [m] and "heading" [rad] in the physics' frame.
          off: float32[], 1 off the course, else 0.
          speed: "slow", 1 or 0; "pace", progress along the course, averaged [m/s]; and "age", steps
            since the ant's start.
          progress: float32[], that along the course in the last step [m/s].
          key: uint32[2], the randomness of the steps to come.
          action: float32[8], the action that led here.
        """
        offset = self._offset(course, self._place(ant))
        ahead = jnp.stack([self._turn(course, course["s"] + d) for d in PREVIEW])
        ahead = ahead - self._turn(course, course["s"])
        seen = turned(cast(jax.Array, ant.obs), course["heading"], self.backend)
        observation = jnp.concatenate([seen, offset[None], ahead])
        sound = soundness(observation, action)
        stopped = jnp.maximum(speed["slow"], ant.metrics["cost"])
        failed = jnp.maximum(off, stopped)
        graded = jnp.maximum(jnp.clip(jnp.abs(offset) / FAR, 0.0, 1.0), stopped)
        return State(
            cast(Any, ant),
            observation,
            progress * (1.0 - failed) + sound,
            ant.done,
            {"cost": failed + sound, "graded_cost": graded + sound},
            {"key": key, "course": course, "off": off, "speed": speed},
        )

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action float32[8] of the ant's demonstrator in the direction that leads along
        the course and towards its middle; deterministic, `key` is not used.

        The direction, relative to the course beside the ant, is that of the course at
        `PREVIEW[LEAD]` less atan(e / `APPROACH`), within ±`MOST`, plus `DRIFT`.
        """
        del key
        return self.expert_at(cast(jax.Array, state.obs))

    @property
    def expert_reads_observations(self) -> bool:
        """True: the observation shows the course and the offset."""
        return True

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns the expert's action, float32[8], at an observation, float32[O]."""
        size = self._ant.observation_size
        seen, offset, ahead = observation[:size], observation[size], observation[size + 1 :]
        direction = jnp.clip(ahead[LEAD] - jnp.arctan(offset / APPROACH), -MOST, MOST) + DRIFT
        return self._ant.expert_at(turned(seen, direction, self.backend))

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"bodies", "parents"}, the ant's parts from the side, as `World.picture`."""
        return self._bound().picture(cast(State, state.pipeline_state))

    def _bound(self, **changes: jax.Array) -> Any:
        """Returns the ant with this world's dials and with `changes`. It is brought back here, not
        by itself."""
        return self._ant.bind(self.dials.replace(reacquisition=jnp.float32(0.0), **changes))

    def whereabouts(self, state: State) -> dict[str, jax.Array]:
        """Returns the course's curvature and the lateral offset, as `World.whereabouts`."""
        course, place = state.info["course"], self._place(cast(State, state.pipeline_state))
        return {
            "curvature [1/m]": self._curvature(course, course["s"]),
            "lateral offset [m]": self._offset(course, place),
        }

    def _place(self, ant: State) -> jax.Array:
        """Returns where the torso is on the ground, in the physics' frame, float32[2] [m]."""
        return cast(Any, ant.pipeline_state).x.pos[0, :2]

    def _curvature(self, course: dict[str, jax.Array], s: jax.Array) -> jax.Array:
        """Returns kappa(s) [1/m]."""
        waves = AMPLITUDES * jnp.sin(2.0 * math.pi * s / WAVELENGTHS + course["phases"])
        return self.dials.bend * jnp.sum(waves)

    def _turn(self, course: dict[str, jax.Array], s: jax.Array) -> jax.Array:
        """Returns the integral of kappa up to s [rad], but for a constant."""
        swing = AMPLITUDES * WAVELENGTHS / (2.0 * math.pi)
        return -self.dials.bend * jnp.sum(
            swing * jnp.cos(2.0 * math.pi * s / WAVELENGTHS + course["phases"])
        )

    def _offset(self, course: dict[str, jax.Array], place: jax.Array) -> jax.Array:
        """Returns e, the lateral offset of a place [m], positive to the left."""
        x, y = place - course["foot"]
        return y * jnp.cos(course["heading"]) - x * jnp.sin(course["heading"])

    def _follow(
        self, course: dict[str, jax.Array], place: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Returns the course with its foot beside `place`, and how far along the course it moved
        [m]."""
        x, y = place - course["foot"]
        along = x * jnp.cos(course["heading"]) + y * jnp.sin(course["heading"])
        bend = self._curvature(course, course["s"])
        ds = along / (1.0 - bend * self._offset(course, place))
        s = course["s"] + ds
        turn = self._turn(course, s) - self._turn(course, course["s"])
        middle, heading = course["heading"] + 0.5 * turn, course["heading"] + turn
        foot = course["foot"] + ds * jnp.stack([jnp.cos(middle), jnp.sin(middle)])
        after = {**course, "s": s, "foot": foot, "heading": heading}
        offset = self._offset(after, place)
        beyond = offset - jnp.clip(offset, -FARTHEST, FARTHEST)
        aside = beyond * jnp.stack([-jnp.sin(heading), jnp.cos(heading)])
        return {**after, "foot": foot + aside}, ds


def turned(observation: jax.Array, angle: jax.Array, backend: str) -> jax.Array:
    """Returns the ant's observation as it looks in a frame turned by `angle` about the vertical.

    Args:
      observation: float32[27]: height, orientation (a unit quaternion), 8 joint angles, the torso's
        velocity and rate of rotation, 8 joint rates.
      angle: float32[] [rad].
      backend: of the physics; mjx measures the rate of rotation in the torso's own frame.
    """
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    c, s = jnp.cos(0.5 * angle), -jnp.sin(0.5 * angle)
    w, x, y, z = observation[1:5]
    rotation = jnp.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])
    matrix = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
    result = observation.at[1:5].set(rotation).at[13:15].set(matrix @ observation[13:15])
    if backend == "mjx":
        return result
    return result.at[16:18].set(matrix @ observation[16:18])
