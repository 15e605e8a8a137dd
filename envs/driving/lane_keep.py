"""Lane keeping with rare, long-tailed, signalled hazards, which make compounding errors visible.

A dynamic single-track car (`vehicle`) follows a new clothoid road (`road`) each episode at 10 m/s
under a gusting crosswind. Ruts pull the steering for a few steps. Each of up to 64 kinds of rut
pulls differently and is signalled by its own cue; kinds are Zipf-distributed. The demonstrator
answers every cue. A kind that a learner never saw throws it off the lane.

Off the lane (beyond `EDGE`, until the car is back within `KERB`) the view changes: with
`view=hidden` the lateral offset is hidden, and a side flag shows only on which side the car is.
The expert's demonstrations never contain that view, but it is enough for its way back to be a
function of the observation. It was chosen so that a clone does not find back by itself, which gives
the horizon law room. With `view=visible` the lateral offset stays in sight, and what a clone does
on the lane may carry over to the shoulder.

The shoulder slopes away from the road and a rail bounds the excursion, so a car off the lane stays
there until it is steered back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs import demonstrators
from envs.core import State, dial, soundness
from envs.driving import road, vehicle, wind
from envs.driving.actuators import actuate, delay_dial, noise_dial
from envs.names import HISTORY

DT, SUBSTEPS = 0.1, 4
"""Control step [s] and Runge-Kutta steps within it."""
SPEED = 10.0
"""Speed that the demonstrator aims for [m/s]."""
MIN_SPEED = 3.0
"""The car does not brake below this speed [m/s]: its equations are singular at rest, and a parked
car keeps no lane."""
MAX_STEER, MAX_ACCEL = 0.5, 5.0
"""Steering angle [rad] and acceleration [m/s²] of an action of 1."""
EDGE, KERB = 1.0, 0.8
"""Lateral offsets [m]: the car leaves the lane beyond EDGE and is back on it within KERB."""
RAIL = 1.8
"""Lateral offset of the guard rail [m]; touching it turns the car parallel to the lane."""
SHOULDER = 1.5
"""Outward acceleration from the shoulder's cross slope [m/s²]."""
SPIN = 0.5
"""A slip angle beyond this [rad] counts as a failure, because neither this tyre model nor its
reference holds there."""
KINDS = 64
"""Number of kinds of rut."""
RUT_STEPS, REST_STEPS = 8, 20
"""Steps for which a rut pulls, and the fewest steps of plain road after it."""
DELAY_STEPS = 4
"""Number of past actions that are kept for the dial `delay`."""

_order = np.arange(1, KINDS + 1)
PULL = np.where((_order * np.sqrt(2.0)) % 1.0 < 0.5, -1.0, 1.0) * (
    0.12 + 0.03 * ((_order * (np.sqrt(5.0) - 1) / 2) % 1.0)
)
"""float[KINDS]: angle that each kind of rut adds to the wheels [rad], 0.12 to 0.15 to either
side."""
_ZIPF = np.cumsum(1.0 / _order)


@struct.dataclass
class LaneKeepDials:
    """The dials of `LaneKeep`."""

    hazards: float = dial(
        48.0, "kinds of rut on the road, Zipf-distributed", unit="kinds", low=1, high=KINDS
    )
    hazard_rate: float = dial(
        0.01, "probability that a rut begins, per step on the lane", unit="1/step", low=0, high=1
    )
    noise: float = noise_dial()
    reacquisition: float = dial(
        0.0,
        "probability per step off the lane of being put back on it",
        unit="1/step",
        low=0,
        high=1,
    )
    friction: float = dial(1.0, "factor on the tyres' peak friction", low=0.2, high=2)
    mass: float = dial(
        1.0,
        "factor on mass and yaw inertia; tyres and engine grow with them, so only wind feels it",
        low=0.3,
        high=3,
    )
    crosswind: float = wind.crosswind_dial()
    delay: float = delay_dial(DT, DELAY_STEPS)


@struct.dataclass
class LaneKeepState:
    """The inner state of `LaneKeep`."""

    car: vehicle.Car
    """The car's own state."""
    knots: jax.Array
    """float32[road.KNOTS]: curvature of this episode's road."""
    wind: jax.Array
    """float32[]: crosswind speed [m/s]."""
    kind: jax.Array
    """int32[]: kind of the current rut."""
    rut: jax.Array
    """int32[]: steps for which the rut still pulls. At 0 or below none pulls; at -REST_STEPS the
    next one may begin."""
    side: jax.Array
    """float32[]: 0 on the lane, +1 off it on the left, -1 off it on the right."""
    past: jax.Array
    """float32[DELAY_STEPS, 2]: latest actions, newest first."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""
    clipped: jax.Array
    """int32[]: number of steps at which the Frenet denominator hit its floor."""


class LaneKeep(demonstrators.Demonstrated):
    """Lane keeping with rare, long-tailed, signalled hazards.

    The observation is float32[82]: 7 ego values, 10 lane points, 64 cues, 1 side flag. The action
    is float32[2] in [-1, 1]: steering and acceleration. Cost is 1 off the lane, graded cost is
    |e_y| / RAIL on it, and the reward is 1 - cost.
    """

    name = "lane_keep"
    horizon = 1024
    recovery_steps = 11
    latency = 10
    failure_flags = (17 + KINDS,)
    options: ClassVar = {
        "demonstrator": demonstrators.QUALITIES,
        "view": ("hidden", "visible"),
        **HISTORY,
    }
    velocities = (2, 3, 4)
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    observation_layout: ClassVar = {
        "ego": (0, 7),
        "lane_points": (7, 17),
        "cue": (17, 17 + KINDS),
        "side": (17 + KINDS, 18 + KINDS),
    }
    """Slices of the observation: {meaning: (first index, last index + 1)}."""

    def __init__(self, demonstrator: str = "expert", view: str = "hidden", **dials: float):
        self.chosen = {"demonstrator": demonstrator, "view": view}
        self.dials = LaneKeepDials(**dials)
        if demonstrator != "expert":
            self.choose(demonstrator)

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return 18 + KINDS

    @property
    def action_size(self) -> int:
        """2, steering and acceleration."""
        return 2

    def reset(self, rng: jax.Array) -> State:
        """Returns a start near the middle of a new road's lane; rng, uint32[2], is consumed."""
        road_key, start_key, key = jax.random.split(rng, 3)
        knots = road.generate(road_key)
        z = jax.random.normal(start_key, (4,))
        zero = jnp.zeros(())
        car = vehicle.Car(zero, 0.1 * z[0], 0.01 * z[1], SPEED + 0.3 * z[2], zero, zero, zero)
        inner = LaneKeepState(
            car=car,
            knots=knots,
            wind=self.dials.crosswind * z[3],
            kind=jnp.zeros((), jnp.int32),
            rut=jnp.full((), -REST_STEPS, jnp.int32),
            side=zero,
            past=jnp.zeros((DELAY_STEPS, 2)),
            key=key,
            clipped=jnp.zeros((), jnp.int32),
        )
        metrics = {"cost": zero, "graded_cost": jnp.abs(car.e_y) / RAIL}
        # Brax annotates the states of its own physics alone.
        return State(
            cast(Any, inner), self._observe(inner, self.chosen["view"]), zero, zero, metrics, {}
        )

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[2], clipped to [-1, 1]."""
        inner = cast(LaneKeepState, state.pipeline_state)
        dials: LaneKeepDials = self.dials
        key, draw = jax.random.split(inner.key)
        uniform_key, normal_key = jax.random.split(draw)
        u = jax.random.uniform(uniform_key, (3,))
        z = jax.random.normal(normal_key, (3,))

        executed, past = actuate(action, inner.past, dials.noise * z[:2], dials.delay / DT)
        local, origin = road.window(inner.knots, inner.car.s)
        accel = executed[1] * MAX_ACCEL
        accel = jnp.where((inner.car.v_x < MIN_SPEED) & (accel < 0.0), 0.0, accel)
        outward = jnp.where(jnp.abs(inner.car.e_y) > EDGE, jnp.sign(inner.car.e_y), 0.0)
        inputs = vehicle.Inputs(
            steer=executed[0] * MAX_STEER,
            accel=accel,
            pull=jnp.where(inner.rut > 0, jnp.asarray(PULL, jnp.float32)[inner.kind], 0.0),
            wind=vehicle.wind_force(inner.car.v_x, inner.wind),
            slope=SHOULDER * outward,
            friction=dials.friction,
            mass=dials.mass,
        )
        car = vehicle.integrate(
            inner.car, inputs, lambda s: road.curvature(local, s - origin), DT, SUBSTEPS
        )
        clipped = road.curvature(local, car.s - origin) * car.e_y > 1.0 - vehicle.MIN_FRENET

        # The rail turns a car that presses against it parallel to the lane.
        hit = jnp.abs(car.e_y) >= RAIL
        rail_side = jnp.sign(car.e_y)
        pressing = hit & (rail_side * car.e_psi > 0.0)
        car = car._replace(
            e_y=jnp.clip(car.e_y, -RAIL, RAIL),
            e_psi=jnp.where(pressing, 0.0, car.e_psi),
            v_y=jnp.where(pressing, 0.0, car.v_y),
            r=jnp.where(pressing, 0.0, car.r),
            v_x=jnp.maximum(car.v_x, 1.0),
        )

        # The car leaves at |e_y| > EDGE and is back at |e_y| < KERB, so touching the edge from
        # outside is no recovery.
        off = jnp.where(inner.side == 0.0, jnp.abs(car.e_y) > EDGE, jnp.abs(car.e_y) >= KERB)
        off = off | (jnp.abs(jnp.arctan(car.v_y / car.v_x)) > SPIN)
        helped = off & (u[2] < dials.reacquisition)
        zero = jnp.zeros(())
        centred = car._replace(e_y=zero, e_psi=zero, v_y=zero, r=zero, delta=zero)
        car = jax.tree.map(lambda a, b: jnp.where(helped, a, b), centred, car)
        off = off & ~helped
        side = jnp.where(off, jnp.where(car.e_y >= 0.0, 1.0, -1.0), 0.0)

        rut = jnp.maximum(inner.rut - 1, -REST_STEPS)
        begins = ~off & (rut == -REST_STEPS) & (u[0] < dials.hazard_rate)
        zipf = jnp.asarray(_ZIPF, jnp.float32)
        total = zipf[jnp.clip(jnp.asarray(dials.hazards, jnp.int32) - 1, 0, KINDS - 1)]
        kind = jnp.sum(u[1] * total > zipf).astype(jnp.int32)

        # In float32 throughout, unlike `wind.blow`: stored results were computed so.
        pull_back = jnp.exp(-DT / wind.TIME)
        inner = LaneKeepState(
            car=car,
            knots=inner.knots,
            wind=pull_back * inner.wind + dials.crosswind * jnp.sqrt(1.0 - pull_back**2) * z[2],
            kind=jnp.where(begins, kind, inner.kind),
            rut=jnp.where(begins, RUT_STEPS, rut),
            side=side,
            past=past,
            key=key,
            clipped=inner.clipped + clipped,
        )
        observation = self._observe(inner, self.chosen["view"])
        sound = soundness(observation, action)
        cost = off.astype(jnp.float32) + sound
        graded = jnp.where(off, 1.0, jnp.abs(car.e_y) / RAIL) + sound
        return dataclasses.replace(
            state,
            pipeline_state=cast(Any, inner),
            obs=observation,
            reward=1.0 - cost,
            metrics={"cost": cost, "graded_cost": graded},
        )

    def _observe(self, inner: LaneKeepState, view: str) -> jax.Array:
        """Returns the observation, float32[O], of an inner state in one of the views."""
        car, on = inner.car, inner.side == 0.0
        local, origin = road.window(inner.knots, car.s)
        x = car.s - origin
        e_y = car.e_y
        if view == "hidden":  # off the lane the side flag alone shows the position
            e_y = jnp.where(on, car.e_y, 0.0)
        lateral = lane_points(local, x, e_y, car.e_psi)
        kappa = road.curvature(local, x)
        ego = jnp.stack(
            [e_y, car.e_psi, car.v_x - SPEED, car.v_y, car.r, car.delta, kappa / road.MAX_CURVATURE]
        )
        cue = (jnp.arange(KINDS) == inner.kind) & (inner.rut > 0)
        return jnp.concatenate([ego, lateral, cue.astype(jnp.float32), inner.side[None]])

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"road": float32[3 + road.KNOTS]}, as `World.picture`."""
        inner = cast(LaneKeepState, state.pipeline_state)
        return picture_of(inner.car, inner.knots)

    def whereabouts(self, state: State) -> dict[str, jax.Array]:
        """Returns the road's curvature and the lateral offset, as `World.whereabouts`."""
        inner = cast(LaneKeepState, state.pipeline_state)
        return whereabouts_of(inner.car, inner.knots)

    def probe(self) -> dict[str, Any]:
        """Returns a grid of lateral offset against heading, as `World.probe`, on a straight road at
        SPEED with all other quantities at rest."""
        offset, heading = (
            x.ravel() for x in np.meshgrid(np.linspace(-RAIL, RAIL, 37), np.linspace(-0.3, 0.3, 13))
        )

        def observe(e_y: jax.Array, e_psi: jax.Array) -> jax.Array:
            start = cast(LaneKeepState, self.reset(jax.random.PRNGKey(0)).pipeline_state)
            zero = jnp.zeros(())
            car = vehicle.Car(zero, e_y, e_psi, jnp.float32(SPEED), zero, zero, zero)
            side = jnp.where(jnp.abs(e_y) > EDGE, jnp.sign(e_y), 0.0)
            return self._observe(
                dataclasses.replace(start, car=car, knots=jnp.zeros(road.KNOTS), side=side),
                self.chosen["view"],
            )

        return {
            "observation": np.asarray(jax.jit(jax.vmap(observe))(offset, heading)),
            "x": offset,
            "y": heading,
            "x_name": "lateral offset [m]",
            "y_name": "heading [rad]",
            "cost": np.where(np.abs(offset) > EDGE, 1.0, np.abs(offset) / RAIL),
        }

    @property
    def has_expert(self) -> bool:
        """Whether the chosen demonstrator exists."""
        return self.chosen["demonstrator"] == "expert" or super().has_expert

    @property
    def expert_reads_observations(self) -> bool:
        """False: the control law knows the whole road, and the networks keep the hidden view."""
        return False

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action float32[2] of the chosen demonstrator: the control law `drive`, or a
        network that drives less well. The key is not used."""
        if self.chosen["demonstrator"] == "expert":
            return self.drive(state)
        # The networks were trained with the hidden view, and keep it: a demonstrator is the same
        # whatever the learner sees.
        inner = cast(LaneKeepState, state.pipeline_state)
        return super().expert(dataclasses.replace(state, obs=self._observe(inner, "hidden")), key)

    def drive(self, state: State) -> jax.Array:
        """Returns the action float32[2] of the expert's control law; deterministic.

        It is `follow_lane`, and answers a cue by the opposite steering angle.
        """
        inner = cast(LaneKeepState, state.pipeline_state)
        steer, accel = follow_lane(inner.car, inner.side, inner.knots)
        pull = jnp.where(inner.rut > 0, jnp.asarray(PULL, jnp.float32)[inner.kind], 0.0)
        return jnp.clip(jnp.stack([(steer - pull) / MAX_STEER, accel / MAX_ACCEL]), -1.0, 1.0)


def lane_points(local: jax.Array, x: jax.Array, e_y: jax.Array, e_psi: jax.Array) -> jax.Array:
    """Returns how far to the car's left the lane is at the points ahead of it, float32[road.POINTS]
    [m].

    Args:
      local, x: a window and the position in it, as of `road.points_ahead`.
      e_y: lateral offset [m].
      e_psi: heading relative to the lane [rad].
    """
    ahead_x, ahead_y = road.points_ahead(local, x)
    return jnp.cos(e_psi) * (ahead_y - e_y) - jnp.sin(e_psi) * ahead_x


def picture_of(car: vehicle.Car, knots: jax.Array) -> dict[str, jax.Array]:
    """Returns the picture of a car on a road, {"road": float32[3 + road.KNOTS]}, as
    `World.picture`."""
    return {"road": jnp.concatenate([jnp.stack([car.s, car.e_y, car.e_psi]), knots])}


def whereabouts_of(car: vehicle.Car, knots: jax.Array) -> dict[str, jax.Array]:
    """Returns the road's curvature and the lateral offset, as `World.whereabouts`."""
    local, origin = road.window(knots, car.s)
    kappa = road.curvature(local, car.s - origin)
    return {"curvature [1/m]": kappa, "lateral offset [m]": car.e_y}


def follow_lane(car: vehicle.Car, side: jax.Array, knots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the steering angle [rad] and the acceleration [m/s²] of the expert's control law.

    On the lane it is feedforward of the previewed curvature plus look-ahead feedback (Kapania and
    Gerdes 2015). The tyres' stiffness is proportional to load on both axles, so the car is neutral
    and the understeer term vanishes. The slip has the sign opposite to theirs, so the car cuts
    bends: by 0.15 m at a curvature of 0.0125 1/m and 10 m/s. Off the lane the law steers towards
    the lane at a fixed heading.

    Args:
      car: the state.
      side: float32[], 0 on the lane, +1 off it on the left, -1 off it on the right.
      knots: float32[road.KNOTS], curvature of the road [1/m].
    """
    local, origin = road.window(knots, car.s)
    x = car.s - origin
    kappa = road.curvature(local, x + PREVIEW * car.v_x)
    slip = (vehicle.FRONT - vehicle.WHEELBASE) * kappa + kappa * car.v_x**2 / (
        vehicle.GRAVITY * -vehicle.TYRE_K
    )
    error = car.e_y + LOOK_AHEAD * jnp.sin(car.e_psi + slip)
    keep = vehicle.WHEELBASE * kappa - LANE_GAIN * error - YAW_GAIN * (car.r - car.v_x * kappa)
    heading_error = -HOME_HEADING * side - car.e_psi
    home = (
        vehicle.WHEELBASE * kappa
        + HOME_GAIN * heading_error
        - HOME_DAMPING * (car.r - car.v_x * kappa)
    )
    distance = road.POINT_SPACING * jnp.arange(road.POINTS + 1)
    ahead = jax.vmap(lambda d: road.curvature(local, x + d))(distance)
    allowed = jnp.sqrt(
        jnp.min(COMFORT / jnp.maximum(jnp.abs(ahead), 1e-4) + 2.0 * BRAKING * distance)
    )
    accel = SPEED_GAIN * (jnp.minimum(SPEED, allowed) - car.v_x)
    return jnp.where(side == 0.0, keep, home), accel


PREVIEW = 0.2
"""Time by which the demonstrator's feedforward leads [s], about the steering lag."""
LOOK_AHEAD, LANE_GAIN, YAW_GAIN = 6.5, 0.07, 0.1
"""On the lane: look-ahead distance [m], steering per metre of error at that distance [rad/m],
steering per yaw-rate error [s]."""
HOME_HEADING, HOME_GAIN, HOME_DAMPING = 0.18, 1.1, 0.26
"""Off the lane: heading towards it [rad], steering per heading error [1], steering per yaw-rate
error [s]."""
COMFORT, BRAKING = 3.0, 1.0
"""Highest lateral acceleration in curves, and deceleration before them [m/s²]."""
SPEED_GAIN = 1.0
"""Acceleration per speed error [1/s]."""
