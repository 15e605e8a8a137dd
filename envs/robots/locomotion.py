"""Brax's robots at a fixed horizon. The cost of a fall is paid until the horizon or until the robot
stands again.

The reward is Brax's, except that the bonus for being upright is paid only in upright steps; Brax
ends the episode instead. `done` reports a fall, and any other state in which Brax would end the
episode, so that a trainer can end its own episodes there; an evaluation never does.

Cost per step, in {0, 1}:

* robots that can fall: 1 from the first step that Brax calls unhealthy until the robot has stood
  for STANDING_STEPS steps in a row. A fallen robot bounces through Brax's healthy range now and
  then, which is no recovery. A hopper falls when it is low, however it leans;
* halfcheetah: 1 once its speed, averaged over half a second, is below SLOW of `pace`, until it is
  above BRISK;
* reacher and pusher: 1 while the tip or the object is further than `reach` from its goal.

The mode `recoverable` stands a failed robot up where it lies, in a fresh start of Brax's. So it is
at rest again, also after a burn-in: its hazard after standing up is that of an episode's first
steps, until it runs.

Demonstrators are networks, at most one per robot, backend and quality. `launch/expert.py` trains
them, and `envs/demonstrators` holds them.

Latencies follow one rule: the median time to a failure of the expert after the shortest burst of
random actions that makes a tenth of the episodes fail, on the backend that `auto` picks on a CPU.
`launch/expert.py --latency` measures them, after the robot's burn-in. `results/latency-settled.txt`
holds the output; humanoid's and pusher's, of `results/latency.txt`, are older and from near rest.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from envs import demonstrators
from envs.core import State, brax_envs, brax_math, dial, soundness
from envs.names import HISTORY

BACKENDS = ("spring", "positional", "generalized", "mjx")
"""Physics backends: Brax's springs, projected positions and generalised coordinates, and MuJoCo's
in JAX (MJX)."""
PACE_TIME = 0.5
"""Time constant over which a speed is averaged [s]."""
SLOW, BRISK = 0.5, 0.6
"""Shares of `pace`: a running robot fails below SLOW and has recovered above BRISK."""
AT_ONCE = 64
"""Robots that a CPU steps at once. On one core PPO's rounds with 5 seeds of 256 worlds are 1.5
times as fast as with all 1,280 at once on ant, and 1.3 times on hopper (`envs.parts`)."""
STANDING_STEPS = 25
"""Steps in a row that a fallen robot has to stand before it counts as upright again."""


@struct.dataclass
class Dials:
    """The dials of every robot."""

    mass: float = dial(1.0, "factor on all masses and inertias", low=0.2, high=5)
    friction: float = dial(1.0, "factor on sliding friction of all contacts", low=0.1, high=5)
    strength: float = dial(1.0, "factor on all actuator forces", low=0.0, high=5)
    disabled_joint: float = dial(
        0.0, "number of the first actuator without force, counted from 1; 0: none", low=0, high=32
    )
    disabled_count: float = dial(
        1.0, "how many actuators from that one on have no force (a leg of ant: 2)", low=1, high=32
    )
    fallen_start: float = dial(
        0.0,
        "share of episodes that start fallen (robots with a free or hinged torso)",
        low=0,
        high=1,
    )
    fallen_from: float = dial(
        90.0,
        "smallest angle by which a free torso is then turned over; the largest is 180",
        unit="deg",
        low=0,
        high=180,
    )
    noise: float = dial(
        0.0, "standard deviation of Gaussian noise added to each executed action", low=0, high=1
    )
    reacquisition: float = dial(
        0.0,
        "probability per failed step of being stood up in a fresh start",
        unit="1/step",
        low=0,
        high=1,
    )
    push_rate: float = dial(
        0.0,
        "probability per step of a push in a random horizontal direction",
        unit="1/step",
        low=0,
        high=1,
    )
    push: float = dial(0.5, "speed that a push adds to the whole robot", unit="m/s", low=0, high=20)


def at_once(backend: str) -> int:
    """Returns how many robots a CPU steps at once; 0: all of them.

    MJX has arrays among its static fields, which JAX cannot compare where axes are merged.
    """
    return 0 if backend == "mjx" else AT_ONCE


@functools.cache
def _load(name: str, backend: str, upright: bool) -> tuple[Any, int]:
    """Returns Brax's environment and the size of its observation.

    The environment is shared, so callers must not change it. Reading its XML takes a second.
    """
    # MuJoCo warns of an old attribute in a model and would write a log into the current folder.
    # Its stubs lack the function.
    set_warning = mujoco.set_mju_user_warning  # pyright: ignore[reportAttributeAccessIssue]
    set_warning(lambda text: None)
    with warnings.catch_warnings():
        # Brax warns that its own physics is no longer developed.
        warnings.filterwarnings("ignore", "Brax System", UserWarning)
        environment = brax_envs.get_environment(
            name, backend=backend, **({"terminate_when_unhealthy": False} if upright else {})
        )
    set_warning(None)
    start = jax.eval_shape(environment.reset, jax.random.PRNGKey(0))
    return environment, int(start.obs.shape[-1])


class Robot(demonstrators.Demonstrated):
    """One of Brax's robots; subclasses name it and define what a failure is.

    The observation is Brax's, the action float32[A] in [-1, 1]. `auto` picks the first backend that
    ships the requested demonstrator, else the first that ships the expert, else spring. It tries
    MJX first on an accelerator, and spring first on a CPU.
    """

    options: ClassVar = {"backend": ("auto", *BACKENDS), "demonstrator": demonstrators.QUALITIES}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    horizon = 1000
    brax_name: ClassVar[str]
    """The robot's name in Brax."""
    upright: ClassVar[str | None] = None
    """Brax's metric of the bonus for being healthy; None for a robot without one."""
    pace: ClassVar[float] = 0.0
    """Speed at which the graded cost of a running robot is 0 [m/s], about its expert's; 0 for a
    robot that does not run."""
    standing: ClassVar[float] = -math.inf
    """Lowest height of the torso at which a fallen robot counts as standing [m]: its expert is
    higher in 999 of 1,000 steps."""
    directions: ClassVar[int] = 0
    """Number of horizontal directions in which a push moves the robot: the first entries of qd. 0:
    it is fixed to the ground, and pushes do nothing."""

    def __init__(self, backend: str = "auto", demonstrator: str = "expert"):
        if backend == "auto":
            order = BACKENDS if jax.default_backend() == "cpu" else ("mjx", *BACKENDS)
            shipped = (
                candidate
                for quality in (demonstrator, "expert")
                for candidate in order
                if demonstrators.find(self.name, candidate, quality)
            )
            backend = next(shipped, "spring")
        self.chosen = {"backend": backend, "demonstrator": demonstrator}
        self.dials = Dials()
        self.at_once = at_once(backend)
        self._robot, self._observation_size = _load(self.brax_name, backend, bool(self.upright))
        self.choose(demonstrator)

    @property
    def backend(self) -> str:
        """Name of the physics, one of `BACKENDS`."""
        return self.chosen["backend"]

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return self._observation_size

    @property
    def action_size(self) -> int:
        """A, the number of actuators."""
        return int(self._robot.action_size)

    def reset(self, rng: jax.Array) -> State:
        """Returns Brax's start, fallen with probability `fallen_start`; rng, uint32[2], is
        consumed."""
        start_key, fallen_key, pose_key, key = jax.random.split(rng, 4)
        robot = self._dialled()
        fallen = jax.random.uniform(fallen_key) < self.dials.fallen_start
        standing_pose = robot.sys.init_q
        poses = jnp.stack([standing_pose, self._fallen_pose(standing_pose, pose_key)])

        def begin(pose: jax.Array) -> tuple[Any, jax.Array]:
            posed = copy.copy(robot)
            posed.sys = robot.sys.tree_replace({"init_q": pose})
            start = posed.reset(start_key)
            return start.pipeline_state, start.obs

        both = jax.vmap(begin)(poses)
        upright, lying = (jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1))
        physics, observation = jax.tree.map(
            lambda down, up: jnp.where(fallen, down, up), lying, upright
        )
        zero = jnp.zeros(())
        info = {
            "key": key,
            "pace": jnp.float32(self.pace),
            "fallen": zero,
            "standing": zero,
            "place": jnp.zeros(2),
        }
        return State(physics, observation, zero, zero, {"cost": zero, "graded_cost": zero}, info)

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[A], clipped to [-1, 1]."""
        key, noise_key = jax.random.split(state.info["key"])
        push_key, chance_key = jax.random.split(jax.random.fold_in(noise_key, 1))
        start_key = jax.random.fold_in(noise_key, 2)
        robot, info = self._dialled(), state.info
        noise = self.dials.noise * jax.random.normal(noise_key, (self.action_size,))
        executed = jnp.clip(jnp.clip(action, -1.0, 1.0) + noise, -1.0, 1.0)
        before = dataclasses.replace(
            state,
            pipeline_state=self._pushed(state.pipeline_state, push_key),
            metrics={},
            info={},
        )
        after = robot.step(before, executed)
        unhealthy = self._unhealthy(after)
        stands = (unhealthy == 0.0) & (self._height(after) >= self.standing)
        standing = jnp.where(stands, info["standing"] + 1.0, 0.0)
        lies_on = (info["fallen"] > 0.0) & (standing < STANDING_STEPS)
        fallen = jnp.where((unhealthy > 0.0) | lies_on, 1.0, 0.0)
        share = jnp.exp(-robot.dt / PACE_TIME)
        pace = share * info["pace"] + (1.0 - share) * after.metrics.get("x_velocity", 0.0)
        failed = self._failed(after, fallen, pace, state.metrics["cost"])
        graded = self._graded_cost(after, failed, pace)
        brax_unhealthy = self._brax_unhealthy(after)
        reward = jnp.asarray(self._reward(after, brax_unhealthy), jnp.float32)
        sound = soundness(after.obs, action)

        def stand_up(carry: tuple[jax.Array, Any, Any]) -> tuple[jax.Array, Any, Any]:
            start = robot.reset(start_key)
            return jnp.zeros_like(carry[0]), start.pipeline_state, start.obs

        # A loop of at most one pass: under vmap it costs nothing in steps in which no robot is
        # stood up, where a condition would make a start in every step. `place` remembers where the
        # robot lies, because the physics goes on at the origin.
        helped = (failed > 0.0) & (jax.random.uniform(chance_key) < self.dials.reacquisition)
        _, physics, observation = jax.lax.while_loop(
            lambda carry: carry[0], stand_up, (helped, after.pipeline_state, after.obs)
        )
        # MJX has arrays among its static fields, so the structure stays that of the state before.
        physics = jax.tree.map(lambda _, leaf: leaf, state.pipeline_state, physics)
        here, there = self._position(after.pipeline_state), self._position(physics)
        up = jnp.where(helped, 0.0, 1.0)
        return State(
            physics,
            observation,
            reward + sound,
            jnp.maximum(fallen, brax_unhealthy) * up,
            {"cost": failed * up + sound, "graded_cost": graded * up + sound},
            {
                "key": key,
                "pace": jnp.where(helped, self.pace, pace),
                "fallen": fallen * up,
                "standing": standing,
                "place": info["place"] + jnp.where(helped, here - there, 0.0),
            },
        )

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"bodies", "parents"}, the robot's parts from the side, as `World.picture`."""
        places = cast(Any, state.pipeline_state).x.pos
        places = places.at[:, :2].add(state.info["place"])
        parents = np.asarray(self._robot.sys.link_parents, np.int32)
        return {"bodies": places[:, jnp.array([0, 2])], "parents": jnp.asarray(parents)}

    def _position(self, physics: Any) -> jax.Array:
        """Returns where the first part of the robot is on the ground, float32[2] [m]."""
        return physics.x.pos[0, :2]

    def _height(self, after: State) -> jax.Array:
        """Returns the height of the torso [m]."""
        return cast(Any, after.pipeline_state).x.pos[0, 2]

    def _brax_unhealthy(self, after: State) -> jax.Array:
        """Returns 1 in a state that Brax calls unhealthy, or in which it would end the episode,
        else 0."""
        unhealthy = 1.0 - after.metrics[self.upright] if self.upright else after.done
        return jnp.where(unhealthy > 0.0, 1.0, 0.0)

    def _unhealthy(self, after: State) -> jax.Array:
        """Returns 1 in a state that makes the robot fallen, else 0."""
        return self._brax_unhealthy(after)

    def _pushed(self, physics: Any, key: jax.Array) -> Any:
        """Returns the physics after a push, which comes with probability `push_rate`; `key` is
        consumed."""
        if not self.directions:
            return physics
        chance, angle = jax.random.uniform(key, (2,))
        # In a plane there are two directions, forward and backward.
        turn = jnp.where(angle < 0.5, 0.0, jnp.pi) if self.directions == 1 else angle * 2 * jnp.pi
        speed = jnp.where(chance < self.dials.push_rate, self.dials.push, 0.0)
        push = speed * jnp.stack([jnp.cos(turn), jnp.sin(turn)])[: self.directions]
        n = self.directions
        changes = {"qd": physics.qd.at[:n].add(push)}
        if self.backend == "mjx":
            changes["qvel"] = physics.qvel.at[:n].add(push)
        elif self.backend != "generalized":
            # These backends keep the speed of every part.
            changes["xd"] = physics.xd.replace(vel=physics.xd.vel.at[:, :n].add(push))
            changes["xd_i"] = physics.xd_i.replace(vel=physics.xd_i.vel.at[:, :n].add(push))
            changes["jd"] = physics.jd.replace(vel=physics.jd.vel.at[0, :n].add(push))
        return physics.replace(**changes)

    def _reward(self, after: State, unhealthy: jax.Array) -> jax.Array:
        """Returns the reward of the state reached."""
        del unhealthy
        return after.reward

    def _failed(
        self, after: State, fallen: jax.Array, pace: jax.Array, before: jax.Array
    ) -> jax.Array:
        """Returns the cost of the state reached, 0 or 1.

        Args:
          after: Brax's state.
          fallen: float32[], 1 from a fall until the robot stands again, else 0.
          pace: float32[], speed averaged over PACE_TIME [m/s].
          before: float32[], the cost of the state before.
        """
        del after, pace, before
        return fallen

    def _graded_cost(self, after: State, failed: jax.Array, pace: jax.Array) -> jax.Array:
        """Returns the graded cost of the state reached, in [0, 1].

        Args:
          after: Brax's state.
          failed: float32[], its cost.
          pace: float32[], speed averaged over PACE_TIME [m/s].
        """
        del pace
        return 1.0 - (1.0 - failed) * jnp.clip(after.metrics["x_velocity"] / self.pace, 0.0, 1.0)

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        """Returns the initial pose q turned over; `key` is consumed."""
        del key
        return q

    def _dialled(self) -> Any:
        """Returns a copy of Brax's environment with the dials applied to its system; allowed inside
        jit."""
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
                # These backends replace the mass by mass^(1 - x), with x up to 1, where a factor on
                # the mass would have no effect. The power is applied here instead.
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
    """A robot in a plane: q begins with x, z and the torso's angle. The observation is q without x,
    then qd."""

    options: ClassVar = {**Robot.options, **HISTORY}

    directions = 1

    turn: ClassVar[float] = math.pi / 2
    """Angle by which a robot that starts fallen is turned, to either side [rad]."""
    drop: ClassVar[float]
    """Change of its height at a fallen start [m]."""

    def __init__(self, backend: str = "auto", demonstrator: str = "expert"):
        super().__init__(backend, demonstrator)
        size = self.observation_size
        self.velocities = tuple(range(size - self._robot.sys.qd_size(), size))

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        """Returns q turned by `turn` to a random side and moved by `drop`."""
        side = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        return q.at[2].set(side * self.turn).at[1].add(self.drop)


class Free(Robot):
    """A robot whose torso moves freely: q begins with its position and a unit quaternion."""

    directions = 2

    drop: ClassVar[float]
    """Change of its height when it starts on its side or back [m]."""

    def _fallen_pose(self, q: jax.Array, key: jax.Array) -> jax.Array:
        """Returns q turned about a random horizontal axis by `fallen_from` to 180 degrees."""
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
    latency = 179
    upright = "reward_healthy"
    pace = 2.0
    standing = 1.1
    low: ClassVar[float] = 0.7
    """Brax's lowest healthy height of the torso [m]."""
    drop = -0.9

    def _unhealthy(self, after: State) -> jax.Array:
        """Returns 1 if the torso is below `low`.

        Brax also limits the lean to ±0.2 rad. That is no fall: the expert leans to -0.195 rad. Of
        384 hoppers that acted at random for 3 to 29 steps, 82 leaned further back than -0.2 rad,
        and the expert hopped on with 49 of them; 30 were below `low`, and it hopped on with none.
        """
        return jnp.where(self._height(after) < self.low, 1.0, 0.0)


class Walker2d(Planar):
    """A two-legged robot that walks forward in a plane."""

    name = brax_name = "walker2d"
    latency = 170
    upright = "reward_healthy"
    pace = 2.0
    standing = 1.0
    drop = -0.9


class HalfCheetah(Planar):
    """A two-legged robot that runs forward and has no fall: failing is being slow."""

    name, brax_name = "halfcheetah", "halfcheetah"
    latency = 13
    pace = 5.0
    turn = math.pi
    drop = 0.2

    def _failed(
        self, after: State, fallen: jax.Array, pace: jax.Array, before: jax.Array
    ) -> jax.Array:
        """Returns 1 once the robot is slow, until it is brisk again."""
        del after, fallen
        least = jnp.where(before > 0.0, BRISK, SLOW)
        return jnp.where(pace < least * self.pace, 1.0, 0.0)

    def _graded_cost(self, after: State, failed: jax.Array, pace: jax.Array) -> jax.Array:
        """Returns the share by which the averaged speed falls short of `pace`."""
        del after, failed
        return 1.0 - jnp.clip(pace / self.pace, 0.0, 1.0)


class Ant(Free):
    """A four-legged robot that runs forward. It fails while it is unhealthy or lies on its back,
    which Brax counts as healthy."""

    name = brax_name = "ant"
    latency = 22
    upright = "reward_survive"
    pace = 5.0
    standing = 0.47
    drop = 0.0

    def _unhealthy(self, after: State) -> jax.Array:
        """Returns 1 in a state that Brax calls unhealthy or in which the robot lies on its back."""
        torso = cast(Any, after.pipeline_state).x.rot[0]
        up = brax_math.rotate(jnp.array([0.0, 0.0, 1.0]), torso)[2]
        return jnp.where(up < 0.0, 1.0, super()._unhealthy(after))


class Humanoid(Free):
    """A two-legged robot with arms that runs forward."""

    name = brax_name = "humanoid"
    latency = 37
    upright = "reward_alive"
    pace = 3.0
    standing = 1.0
    drop = -0.9


class InvertedPendulum(Robot):
    """A pole on a cart, which has to be kept upright."""

    name = brax_name = "inverted_pendulum"
    latency = 3
    directions = 1

    def _reward(self, after: State, unhealthy: jax.Array) -> jax.Array:
        """Returns Brax's reward, 1 per step, or 0 while the pole is down, where Brax would have
        ended the episode."""
        return after.reward * (1.0 - unhealthy)

    def _graded_cost(self, after: State, failed: jax.Array, pace: jax.Array) -> jax.Array:
        """Returns the cost."""
        del after, pace
        return failed


class InvertedDoublePendulum(InvertedPendulum):
    """Two poles on a cart, which have to be kept upright."""

    name = brax_name = "inverted_double_pendulum"
    latency = 29

    def _reward(self, after: State, unhealthy: jax.Array) -> jax.Array:
        """Returns Brax's reward."""
        del unhealthy
        return after.reward


class Reaching(Robot):
    """A robot that moves something to a goal. It fails while the distance exceeds `reach`."""

    modes: Mapping[str, Mapping[str, float]] = {"nominal": {}}
    reach: ClassVar[float]
    """Distance beyond which the cost is 1 [m]."""
    far: ClassVar[float]
    """Distance from which on the graded cost is 1 [m]."""

    def _failed(
        self, after: State, fallen: jax.Array, pace: jax.Array, before: jax.Array
    ) -> jax.Array:
        """Returns whether the distance to the goal exceeds `reach`."""
        del fallen, pace, before
        return jnp.where(-after.metrics["reward_dist"] > self.reach, 1.0, 0.0)

    def _graded_cost(self, after: State, failed: jax.Array, pace: jax.Array) -> jax.Array:
        """Returns the distance to the goal as a share of `far`."""
        del failed, pace
        return jnp.clip(-after.metrics["reward_dist"] / self.far, 0.0, 1.0)


class Reacher(Reaching):
    """A two-link arm that moves its tip to a target."""

    name = brax_name = "reacher"
    latency = 9
    reach, far = 0.05, 0.4


class Pusher(Reaching):
    """A seven-joint arm that pushes a puck to a goal."""

    name = brax_name = "pusher"
    latency = 4
    reach, far = 0.1, 0.5
