"""Brax's robots at a fixed horizon: a fall is a cost that is paid until the horizon or until the
robot stands again.

Reward is Brax's, with its bonus for being upright paid in upright steps only (Brax ends the episode
instead). `done` tells of a fall, so that a trainer may end its own episodes there; an evaluation
never does.

Cost per step, in {0, 1}:

* robots that Brax calls healthy or not: 1 while unhealthy;
* halfcheetah: 1 while its speed, averaged over half a second, is below half of `pace`;
* reacher and pusher: 1 while the tip or the object is further than `reach` from its goal.

The demonstrator is a network, trained by `launch/expert.py` and kept in `envs/demonstrators`; there
is one per robot and backend.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from envs import demonstrators
from envs.core import State, brax_envs, brax_math, dial, soundness

BACKENDS = ("spring", "positional", "generalized", "mjx")
"""Brax's physics: impulses through springs, projected positions, generalised coordinates, and
MuJoCo's in JAX."""
PACE_TIME = 0.5
"""Time over which a speed is averaged [s]."""


@struct.dataclass
class Dials:
    """What can be turned without recompiling."""

    mass: float = dial(1.0, "factor on all masses and inertias", low=0.2, high=5)
    friction: float = dial(1.0, "factor on sliding friction of all contacts", low=0.1, high=5)
    strength: float = dial(1.0, "factor on all actuator forces", low=0.0, high=5)
    disabled_joint: float = dial(
        0.0, "number of the first actuator without force, counted from 1; 0: none", low=0, high=32
    )
    disabled_count: float = dial(
        1.0, "how many actuators have none, from that on (a leg of ant: 2)", low=1, high=32
    )
    fallen_start: float = dial(
        0.0,
        "share of episodes that start fallen (robots with a free or hinged torso)",
        low=0,
        high=1,
    )
    fallen_from: float = dial(
        90.0,
        "least angle by which a free torso is then turned over; most: 180 [deg]",
        low=0,
        high=180,
    )
    noise: float = dial(
        0.0, "standard deviation of Gaussian noise added to each executed action", low=0, high=1
    )


@functools.cache
def _load(name: str, backend: str, upright: bool) -> tuple[Any, int]:
    """Brax's environment, which nothing may change, and the size of its observation; reading its
    XML takes a second."""
    mujoco.set_mju_user_warning(
        lambda text: None
    )  # of an old attribute in a model; else it leaves a log in the current folder
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Brax System", UserWarning
        )  # that Brax's physics is no longer developed
        made = brax_envs.get_environment(
            name, backend=backend, **({"terminate_when_unhealthy": False} if upright else {})
        )
    mujoco.set_mju_user_warning(None)
    return made, int(jax.eval_shape(made.reset, jax.random.PRNGKey(0)).obs.shape[-1])


class Robot(demonstrators.Demonstrated):
    """One of Brax's robots; subclasses say which, and what a failure is."""

    options: ClassVar = {"backend": ("auto", *BACKENDS), "demonstrator": demonstrators.QUALITIES}
    horizon = 1000
    latency = (
        30  # steps from random actions to a fall: `launch/expert.py --latency`, docs/robots.md
    )
    brax_name: ClassVar[str]
    upright: ClassVar[str | None] = None
    """Brax's metric of the bonus for being healthy, for robots that have one."""
    pace: ClassVar[float] = 0.0
    """Speed at which a running robot is as good as its expert [m/s]; 0 for one that does not
    run."""

    def __init__(self, backend: str = "auto", demonstrator: str = "expert"):
        if backend == "auto":
            order = BACKENDS if jax.default_backend() == "cpu" else ("mjx", *BACKENDS)
            ships = (
                one
                for wanted in (demonstrator, "expert")
                for one in order
                if demonstrators.find(self.name, one, wanted)
            )
            backend = next(ships, "spring")
        self.chosen = {"backend": backend, "demonstrator": demonstrator}
        self.dials = Dials()
        self._robot, self._observation_size = _load(self.brax_name, backend, bool(self.upright))
        self.choose(demonstrator)

    @property
    def backend(self) -> str:
        return self.chosen["backend"]

    @property
    def observation_size(self) -> int:
        return self._observation_size

    @property
    def action_size(self) -> int:
        return int(self._robot.action_size)

    def reset(self, rng: jax.Array) -> State:
        start_key, fallen_key, pose_key, key = jax.random.split(rng, 4)
        robot = self._dialled()
        fallen = jax.random.uniform(fallen_key) < self.dials.fallen_start
        pose = jnp.where(fallen, self._fallen_pose(robot.sys.init_q, pose_key), robot.sys.init_q)
        robot.sys = robot.sys.tree_replace({"init_q": pose})
        start = robot.reset(start_key)
        zero = jnp.zeros(())
        info = {"key": key, "pace": jnp.float32(self.pace)}
        return State(
            start.pipeline_state, start.obs, zero, zero, {"cost": zero, "graded_cost": zero}, info
        )

    def step(self, state: State, action: jax.Array) -> State:
        key, noise_key = jax.random.split(state.info["key"])
        robot = self._dialled()
        noise = self.dials.noise * jax.random.normal(noise_key, (self.action_size,))
        executed = jnp.clip(jnp.clip(action, -1.0, 1.0) + noise, -1.0, 1.0)
        after = robot.step(state.replace(metrics={}, info={}), executed)
        fell = (
            1.0 - after.metrics[self.upright]
            if self.upright
            else jnp.asarray(after.done, jnp.float32)
        )
        fell = jnp.where(fell > 0.0, 1.0, 0.0)
        share = jnp.exp(-robot.dt / PACE_TIME)
        pace = share * state.info["pace"] + (1.0 - share) * after.metrics.get("x_velocity", 0.0)
        cost, graded = self._costs(after, fell, pace)
        sound = soundness(after.obs, action)
        return State(
            after.pipeline_state,
            after.obs,
            jnp.asarray(self._reward(after, fell), jnp.float32) + sound,
            fell,
            {"cost": cost + sound, "graded_cost": graded + sound},
            {"key": key, "pace": pace},
        )

    def picture(self, state: State) -> dict[str, jax.Array]:
        """The robot's parts from the side."""
        places = cast(Any, state.pipeline_state).x.pos
        parents = np.asarray(self._robot.sys.link_parents, np.int32)
        return {"bodies": places[:, jnp.array([0, 2])], "parents": jnp.asarray(parents)}

    def _reward(self, after: State, fell: jax.Array) -> jax.Array:
        del fell
        return after.reward

    def _costs(self, after: State, fell: jax.Array, pace: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Cost and graded cost of the state reached."""
        del pace
        return fell, 1.0 - (1.0 - fell) * jnp.clip(
            after.metrics["x_velocity"] / self.pace, 0.0, 1.0
        )

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        """The initial pose q turned over; `key` is consumed."""
        del key
        return q

    def _dialled(self) -> Any:
        """A copy of Brax's environment whose system has the dials in it; legal inside jit."""
        dials, sys = self.dials, self._robot.sys
        first = jnp.round(dials.disabled_joint)
        after_first = jnp.arange(1, self.action_size + 1) - first
        disabled = (
            (first > 0) & (after_first >= 0) & (after_first < jnp.round(dials.disabled_count))
        )
        force = jnp.where(disabled, 0.0, dials.strength)
        friction = jnp.stack([dials.friction, jnp.ones(()), jnp.ones(())])
        changes: dict[str, Any] = {"geom_friction": sys.geom_friction * friction}
        if self.backend == "mjx":
            changes |= {
                "body_mass": sys.body_mass * dials.mass,
                "body_inertia": sys.body_inertia * dials.mass,
                "body_subtreemass": sys.body_subtreemass * dials.mass,
                "body_invweight0": sys.body_invweight0 / dials.mass,
                "dof_invweight0": sys.dof_invweight0 / dials.mass,
                "actuator_gear": sys.actuator_gear * force[:, None],
            }
        else:
            inertia = sys.link.inertia
            mass, i = inertia.mass, inertia.i
            if self.backend != "generalized":
                # These take mass^(1 - x) for the mass and are tuned with x up to 1, where a factor
                # would do nothing.
                mass, i = (
                    mass ** (1.0 - sys.spring_mass_scale),
                    i ** (1.0 - sys.spring_inertia_scale),
                )
                changes |= {
                    "spring_mass_scale": jnp.zeros(()),
                    "spring_inertia_scale": jnp.zeros(()),
                }
            changes |= {
                "link.inertia.mass": mass * dials.mass,
                "link.inertia.i": i * dials.mass,
                "actuator.gear": sys.actuator.gear * force,
            }
        bound = copy.copy(self._robot)
        bound.sys = sys.tree_replace(changes)
        return bound


class Planar(Robot):
    """A robot in a plane: q begins with x, z and the torso's angle."""

    turn: ClassVar[float] = math.pi / 2
    """Angle by which one that starts fallen is turned, either way [rad]."""
    drop: ClassVar[float]
    """Its height then, against the usual one [m]."""

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        side = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return q.at[2].set(side * self.turn).at[1].add(self.drop)


class Free(Robot):
    """A robot whose torso moves freely: q begins with its position and a unit quaternion."""

    drop: ClassVar[float]

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        """Turned about a random horizontal axis by `fallen_from` to 180 degrees."""
        axis_key, angle_key = jax.random.split(key)
        axis = jax.random.uniform(axis_key, maxval=2.0 * math.pi)
        least = jnp.deg2rad(self.dials.fallen_from) / 2.0
        half = jax.random.uniform(angle_key, minval=least, maxval=math.pi / 2)
        lying = jnp.sin(jnp.minimum(2.0 * half, math.pi / 2))
        turned = jnp.stack(
            [
                jnp.cos(half),
                jnp.sin(half) * jnp.cos(axis),
                jnp.sin(half) * jnp.sin(axis),
                jnp.zeros(()),
            ]
        )
        return q.at[3:7].set(turned).at[2].add(self.drop * lying)


class Hopper(Planar):
    """A one-legged robot that hops forward and cannot get up."""

    name = brax_name = "hopper"
    latency = 16
    upright = "reward_healthy"
    pace = 2.0
    drop = -0.9


class Walker2d(Planar):
    """A two-legged robot that walks forward in a plane."""

    name = brax_name = "walker2d"
    latency = 128
    upright = "reward_healthy"
    pace = 2.0
    drop = -0.9


class HalfCheetah(Planar):
    """A two-legged robot that runs forward and has no fall: failing is being slow."""

    name, brax_name = "halfcheetah", "halfcheetah"
    pace = 5.0
    turn = math.pi
    drop = 0.2

    def _costs(self, after: State, fell: jax.Array, pace: jax.Array) -> tuple[jax.Array, jax.Array]:
        del after, fell
        slow = jnp.where(pace < 0.5 * self.pace, 1.0, 0.0)
        return slow, 1.0 - jnp.clip(pace / self.pace, 0.0, 1.0)


class Ant(Free):
    """A four-legged robot that runs forward. Failing is being unhealthy or lying on its back,
    which Brax calls healthy."""

    name = brax_name = "ant"
    upright = "reward_survive"
    pace = 5.0
    drop = 0.0

    def _costs(self, after: State, fell: jax.Array, pace: jax.Array) -> tuple[jax.Array, jax.Array]:
        up = brax_math.rotate(jnp.array([0.0, 0.0, 1.0]), after.pipeline_state.x.rot[0])[2]
        return super()._costs(after, jnp.where(up < 0.0, 1.0, fell), pace)


class Humanoid(Free):
    """A two-legged robot with arms that runs forward."""

    name = brax_name = "humanoid"
    upright = "reward_alive"
    pace = 3.0
    drop = -0.9


class InvertedPendulum(Robot):
    """A pole on a cart, to be kept upright."""

    name = brax_name = "inverted_pendulum"

    def _reward(self, after: State, fell: jax.Array) -> jax.Array:
        """Brax pays 1 per step and ends the episode at a fall; here it pays nothing once the
        pole is down."""
        return after.reward * (1.0 - fell)

    def _costs(self, after: State, fell: jax.Array, pace: jax.Array) -> tuple[jax.Array, jax.Array]:
        del after, pace
        return fell, fell


class InvertedDoublePendulum(InvertedPendulum):
    """Two poles on a cart, to be kept upright."""

    name = brax_name = "inverted_double_pendulum"

    def _reward(self, after: State, fell: jax.Array) -> jax.Array:
        del fell
        return after.reward


class Reaching(Robot):
    """A robot that is to bring something to a place. Failing is being further from it than
    `reach` [m]."""

    reach: ClassVar[float]
    far: ClassVar[float]
    """Distance at which the graded cost is 1 [m]."""

    def _costs(self, after: State, fell: jax.Array, pace: jax.Array) -> tuple[jax.Array, jax.Array]:
        del fell, pace
        distance = -after.metrics["reward_dist"]
        return jnp.where(distance > self.reach, 1.0, 0.0), jnp.clip(distance / self.far, 0.0, 1.0)


class Reacher(Reaching):
    """A two-link arm that is to touch a target."""

    name = brax_name = "reacher"
    reach, far = 0.05, 0.4


class Pusher(Reaching):
    """A seven-joint arm that is to push a puck to its goal."""

    name = brax_name = "pusher"
    reach, far = 0.1, 0.5
