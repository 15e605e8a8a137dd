"""A car as a rigid body on four wheels with springs, under MuJoCo's physics in JAX (MJX).

The single-track car of `lane_keep` and `race` has neither roll nor pitch, and its tyres are a
formula. This car has a free body, a spring and a damper at each wheel, wheels that spin, and
contacts with dry friction. It keeps a lane on the same clothoid roads (`road`) under a gusting
crosswind. So a policy or a finding of the simple car can be tried on another physics.

Coordinates. After every control step the car is expressed in the lane's frame beside it: x is 0,
y is the lateral offset, and the yaw is the heading relative to the lane. The ground is flat and
the same everywhere, so this changes nothing but the directions of the pyramids of friction, and
float32 keeps its accuracy however far the car drives. The arc length follows from the foot of the
perpendicular onto the lane.

On a CPU MJX compiles for half a minute, and a step takes a few hundred times as long as that of the
single-track car.

Masses, lengths, springs and dampers are those of Althoff & Würsching, "CommonRoad: Vehicle Models"
(2020), table 6, vehicle 2 (BMW 320i), without its anti-roll bars, the tyres' springs and the
compliant joints. How the mass and the inertia of a corner are divided between wheel and carrier is
chosen here, and so is the steering servo. The wheels are spheres, which touch the ground at one
point each.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.core import State, World, dial, soundness
from envs.driving import comfort, road, vehicle, wind
from envs.driving.actuators import actuate, delay_dial, noise_dial
from envs.driving.lane_keep import (
    DELAY_STEPS,
    DT,
    EDGE,
    KERB,
    MAX_ACCEL,
    MAX_STEER,
    RAIL,
    SPEED,
    follow_lane,
    lane_points,
    picture_of,
    whereabouts_of,
)
from envs.names import HISTORY

# isort: split
# After envs.core, which silences what MuJoCo prints when it is first imported.
import mujoco
from mujoco import mjx

SUBSTEPS = 20
"""Steps of MJX in a control step; each takes 5 ms."""
SPRUNG, UNSPRUNG, WHEEL = 965.7108098804363, 31.8960913028392, 20.0
"""Mass of the body, of a wheel with its carrier, and of the wheel alone [kg]."""
ROLL_INERTIA, PITCH_INERTIA = 207.26524557936952, 1565.8178787125541
"""Moments of inertia of the body about its long and its cross axis [kg m²]."""
RADIUS, SPIN_INERTIA, TURN_INERTIA = 0.344, 1.7, 0.9
"""Radius of a wheel [m], and its moments of inertia about its axle and across it [kg m²]."""
CARRIER_INERTIA = 0.3
"""Moments of inertia of a carrier [kg m²]."""
HALF_TRACKS = (0.69342, 0.68199)
"""Half the distance between the wheels of the front and of the rear axle [m]."""
SPRINGS = (24453.137879749014, 19635.504745231297)
"""Stiffness of a spring at the front and at the rear [N/m]."""
DAMPERS = (1786.2441002440723, 1649.0833034887382)
"""Damping at the front and at the rear [N s/m]."""
SERVO, SERVO_DAMPING = 4000.0, 120.0
"""Stiffness [N m/rad] and damping [N m s/rad] of the steering servo at a front wheel."""
MAX_SPEED, GOVERNOR = 20.0, 2.0
"""The motors' acceleration is at most GOVERNOR (MAX_SPEED - v_x), with MAX_SPEED in m/s and
GOVERNOR in 1/s."""
STANDING = 0.5
"""Below this speed of a wheel's surface [m/s] its brake fades, so that it holds the wheel and does
not turn it backwards."""
SLOW, BRISK = 4.0, 5.0
"""Speeds along the lane [m/s]: a car fails below SLOW and has recovered above BRISK."""
SET_BACK, SET_BACK_SPEED = 1.5, 6.0
"""Where a car that touches the rail is put: so far from the lane's middle [m], parallel to it, at
this speed [m/s]."""
UPRIGHT = 0.7
"""A car whose roof points less than this upwards (1: level) has rolled over."""

CORNERS = ("front_left", "front_right", "rear_left", "rear_right")
"""The wheels, in the order of the model."""


def _corner(name: str) -> str:
    """Returns a wheel with its carrier, spring and steering in MuJoCo's format (MJCF)."""
    front, left = name.startswith("front"), name.endswith("left")
    axle = 0 if front else 1
    arm = vehicle.REAR if front else vehicle.FRONT  # of the other axle, which carries the rest
    load = SPRUNG * vehicle.GRAVITY * arm / vehicle.WHEELBASE / 2
    x = vehicle.FRONT if front else -vehicle.REAR
    y = HALF_TRACKS[axle] * (1 if left else -1)
    steering = (
        f'<joint name="steer_{name}" type="hinge" axis="0 0 1" damping="{SERVO_DAMPING}"'
        ' armature="0.5"/>'
    )
    return f"""
      <body name="carrier_{name}" pos="{x} {y} {RADIUS - vehicle.HEIGHT}">
        <joint name="spring_{name}" type="slide" axis="0 0 1" stiffness="{SPRINGS[axle]}"
          damping="{DAMPERS[axle]}" springref="{-load / SPRINGS[axle]}"/>
        {steering if front else ""}
        <inertial pos="0 0 0" mass="{UNSPRUNG - WHEEL}"
          diaginertia="{CARRIER_INERTIA} {CARRIER_INERTIA} {CARRIER_INERTIA}"/>
        <body name="wheel_{name}">
          <joint name="spin_{name}" type="hinge" axis="0 1 0"/>
          <inertial pos="0 0 0" mass="{WHEEL}"
            diaginertia="{TURN_INERTIA} {SPIN_INERTIA} {TURN_INERTIA}"/>
          <geom name="tyre_{name}" type="sphere" size="{RADIUS}"/>
        </body>
      </body>"""


_ARMS = (vehicle.FRONT**2 + HALF_TRACKS[0] ** 2, vehicle.REAR**2 + HALF_TRACKS[1] ** 2)
_YAW_INERTIA = vehicle.YAW_INERTIA - 2 * sum(
    UNSPRUNG * arm + TURN_INERTIA + CARRIER_INERTIA for arm in _ARMS
)  # of the body alone; wheels and carriers make up the rest
MODEL = f"""
<mujoco model="car4w">
  <option timestep="{DT / SUBSTEPS}" gravity="0 0 {-vehicle.GRAVITY}" integrator="Euler"
    cone="pyramidal" jacobian="sparse" solver="Newton" iterations="10" ls_iterations="20"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <geom name="ground" type="plane" size="0 0 1"/>
    <body name="body" pos="0 0 {vehicle.HEIGHT}">
      <freejoint/>
      <inertial pos="0 0 0" mass="{SPRUNG}"
        diaginertia="{ROLL_INERTIA} {PITCH_INERTIA} {_YAW_INERTIA}"/>
      <geom type="box" size="2.25 0.8 0.4"/>
      {"".join(_corner(name) for name in CORNERS)}
    </body>
  </worldbody>
  <contact>
    {
    "".join(
        f'<pair geom1="ground" geom2="tyre_{name}" condim="3"'
        f' friction="{vehicle.TYRE_D} {vehicle.TYRE_D} 0.005 0.0001 0.0001"/>'
        for name in CORNERS
    )
}
  </contact>
  <actuator>
    {"".join(f'<position joint="steer_{name}" kp="{SERVO}"/>' for name in CORNERS[:2])}
    {"".join(f'<motor joint="spin_{name}"/>' for name in CORNERS)}
  </actuator>
</mujoco>
"""
"""The car in MuJoCo's format (MJCF). Only the wheels touch the ground.

Friction is pyramidal: the forces of a wheel along and across the lane add up to at most the peak.
With elliptic cones a braking distance in float32 differed by 2 % from that in float64, and with
these by 0.01 %.

The sparse form and the integrator of Euler leave one Cholesky decomposition at a time, that of
Newton's method. jaxlib 0.10 spreads the decompositions of a batch over the threads of the CPU, each
from a thread of the same pool that waits for them: with the dense form, which has two at once, 256
cars stopped for ever on two cores."""

BODY = 1
"""Index of the car's body in the model; 0 is the ground."""
EGO = 9
"""Number of entries of the observation about the car."""


@struct.dataclass
class Car4wDials:
    """The dials of `Car4w`."""

    noise: float = noise_dial()
    sensor_noise: float = dial(
        0.0,
        "standard deviation of Gaussian noise added to each entry of the observation but the flags",
        low=0,
        high=1,
    )
    reacquisition: float = dial(
        0.0,
        "probability per failed step of being put back on the lane, at speed",
        unit="1/step",
        low=0,
        high=1,
    )
    friction: float = dial(1.0, "factor on the wheels' friction", low=0.2, high=2)
    mass: float = dial(1.0, "factor on the body's mass and inertia", low=0.5, high=1.5)
    crosswind: float = wind.crosswind_dial()
    delay: float = delay_dial(DT, DELAY_STEPS)


@struct.dataclass
class Car4wState:
    """The inner state of `Car4w`."""

    q: jax.Array
    """float32[17]: MuJoCo's positions, in the lane's frame beside the car: x = 0, y and z of the
    body [m], its orientation as a quaternion, then springs [m], steering and wheels [rad]."""
    qd: jax.Array
    """float32[16]: MuJoCo's velocities: of the body in the lane's frame [m/s], its rates in its own
    frame [rad/s], then springs [m/s], steering and wheels [rad/s]."""
    qacc: jax.Array
    """float32[16]: the latest accelerations, from which MuJoCo's solver starts."""
    s: jax.Array
    """float32[]: arc length along the lane [m]."""
    knots: jax.Array
    """float32[road.KNOTS]: curvature of this episode's road."""
    delta: jax.Array
    """float32[]: angle that the steering servos hold [rad]."""
    wind: jax.Array
    """float32[]: crosswind speed [m/s]."""
    side: jax.Array
    """float32[]: 0 on the lane, +1 off it on the left, -1 off it on the right."""
    slow: jax.Array
    """float32[]: 1 while the car is too slow, else 0."""
    past: jax.Array
    """float32[DELAY_STEPS, 2]: latest actions, newest first."""
    felt: comfort.Motion
    """Of the latest step."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Model(NamedTuple):
    """The car in MuJoCo and in MJX."""

    native: Any
    """MuJoCo's own, in float64: an `mujoco.MjModel`."""
    sys: Any
    """MJX's, in float32."""
    blank: Any
    """MJX's data of a car at rest."""
    steer: tuple[np.ndarray, np.ndarray]
    """Where the steering joints of the front wheels are among positions and velocities, int[2]
    each."""
    spin: tuple[np.ndarray, np.ndarray]
    """Where the spins of the wheels are among positions and velocities, int[4] each."""


@functools.cache
def load() -> Model:
    """Returns the car. It is shared, so callers must not change it."""
    # MuJoCo's types are not declared.
    native = cast(Any, mujoco).MjModel.from_xml_string(MODEL)
    with jax.ensure_compile_time_eval():
        sys = mjx.put_model(native)
        blank = mjx.make_data(sys)

    def where(kind: str, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        joints = [native.joint(f"{kind}_{name}").id for name in names]
        return native.jnt_qposadr[joints], native.jnt_dofadr[joints]

    return Model(native, sys, blank, where("steer", CORNERS[:2]), where("spin", CORNERS))


class Car4w(World):
    """Lane keeping with a car on four wheels, under MJX.

    The observation is float32[21]: 9 entries about the car (lateral offset [m], heading relative to
    the lane [rad], forward speed less `SPEED` and lateral speed [m/s], yaw rate [rad/s], steering
    angle, roll and pitch [rad], the road's curvature as a share of the tightest), 10 lane points as
    on `lane_keep`, the side flag and the slow flag. The lateral offset is always in sight. The
    action is float32[2] in [-1, 1]: steering, and acceleration by the motors of the rear wheels or
    deceleration by all brakes.

    Cost is 1 off the lane, from |e_y| > `EDGE` until |e_y| < `KERB`, and while the car is slow,
    from below `SLOW` along the lane until above `BRISK`. A car that touches the rail, at |e_y| =
    `RAIL`, rolls over or faces backwards is set back beside the lane on its wheels, from where it
    has to drive back. Graded cost is |e_y| / EDGE or 1. The reward is the speed along the lane as a
    share of `SPEED`, at most 1, or 0 while failed: a car that stands or turns in circles earns
    nothing, unless the dial `reacquisition` puts it back. `state.metrics` also holds the progress
    [m], and 1 or 0 for being off the lane (off_road), for having been set back (set_back) and for a
    ride outside of nuPlan's bounds (uncomfortable, `comfort`).
    """

    name = "car4w"
    horizon = 2048
    recovery_steps = 25
    latency = 11
    failure_flags = (EGO + road.POINTS, EGO + road.POINTS + 1)
    velocities = (2, 3, 4)
    options: ClassVar = {**HISTORY}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    observation_layout: ClassVar = {
        "ego": (0, EGO),
        "lane_points": (EGO, EGO + road.POINTS),
        "side": (EGO + road.POINTS, EGO + road.POINTS + 1),
        "slow": (EGO + road.POINTS + 1, EGO + road.POINTS + 2),
    }
    """Slices of the observation: {meaning: (first index, last index + 1)}."""

    def __init__(self, **dials: float):
        self.dials = Car4wDials(**dials)
        self._model = load()

    @property
    def backend(self) -> str:
        """Name of the physics."""
        return "mjx"

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return EGO + road.POINTS + 2

    @property
    def action_size(self) -> int:
        """2, steering and acceleration."""
        return 2

    def reset(self, rng: jax.Array) -> State:
        """Returns a start near the middle of a new road's lane; rng, uint32[2], is consumed."""
        road_key, start_key, noise_key, key = jax.random.split(rng, 4)
        z = jax.random.normal(start_key, (4,))
        q, qd = self.at(0.1 * z[0], 0.01 * z[1], SPEED + 0.3 * z[2])
        zero = jnp.zeros(())
        inner = Car4wState(
            q=q,
            qd=qd,
            qacc=jnp.zeros_like(qd),
            s=zero,
            knots=road.generate(road_key),
            delta=zero,
            wind=self.dials.crosswind * z[3],
            side=zero,
            slow=zero,
            past=jnp.zeros((DELAY_STEPS, 2)),
            felt=comfort.Motion(zero, zero, zero, zero),
            key=key,
        )
        metrics = {
            "cost": zero,
            "graded_cost": jnp.minimum(jnp.abs(q[1]) / EDGE, 1.0),
            "progress": zero,
            "off_road": zero,
            "set_back": zero,
            "uncomfortable": zero,
        }
        # Brax annotates the states of its own physics alone.
        return State(cast(Any, inner), self._observe(inner, noise_key), zero, zero, metrics, {})

    def at(
        self, e_y: jax.Array | float, e_psi: jax.Array | float, speed: jax.Array | float
    ) -> tuple[jax.Array, jax.Array]:
        """Returns positions and velocities, as in `Car4wState`, of a level car whose wheels roll.

        Its springs carry the usual mass; with another the car settles within a second.

        Args:
          e_y: lateral offset [m].
          e_psi: heading relative to the lane [rad].
          speed: along the heading [m/s].
        """
        e_y, e_psi, speed = (jnp.asarray(x, jnp.float32) for x in (e_y, e_psi, speed))
        turn = jnp.stack([jnp.cos(e_psi / 2), jnp.sin(e_psi / 2)])
        q = jnp.zeros(self._model.native.nq).at[1].set(e_y).at[2].set(vehicle.HEIGHT)
        q = q.at[jnp.array([3, 6])].set(turn)
        qd = jnp.zeros(self._model.native.nv).at[0].set(speed * jnp.cos(e_psi))
        qd = qd.at[1].set(speed * jnp.sin(e_psi)).at[self._model.spin[1]].set(speed / RADIUS)
        return q, qd

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[2], clipped to [-1, 1]."""
        inner = cast(Car4wState, state.pipeline_state)
        dials: Car4wDials = self.dials
        key, draw, noise_key = jax.random.split(inner.key, 3)
        uniform_key, normal_key = jax.random.split(draw)
        u = jax.random.uniform(uniform_key)
        z = jax.random.normal(normal_key, (3,))

        executed, past = actuate(action, inner.past, dials.noise * z[:2], dials.delay / DT)
        q, qd, qacc, delta = self._move(inner, executed)

        # Expressed in the lane's frame beside the car.
        local, origin = road.window(inner.knots, inner.s - road.SPACING)
        x = inner.s - origin
        progress, e_y = road.foot(local, x, q[0], q[1])
        q, qd = _turned(q, qd, road.turned(local, x) - road.turned(local, x + progress))
        q = q.at[0].set(0.0).at[1].set(e_y)
        q = q.at[self._model.spin[0]].set(_wrapped(q[self._model.spin[0]]))

        felt = comfort.motion(
            self._car(inner), self._car(dataclasses.replace(inner, q=q, qd=qd)), DT
        )

        lost = (jnp.abs(e_y) > RAIL) | (_up(q) < UPRIGHT) | (jnp.abs(_yaw(q)) > math.pi / 2)
        beside = jnp.where(e_y >= 0.0, SET_BACK, -SET_BACK)
        q, qd, qacc, delta = self._moved(lost, (q, qd, qacc, delta), (beside, 0.0, SET_BACK_SPEED))
        e_y = q[1]

        # Touching the edge from outside is no return.
        off = jnp.where(inner.side == 0.0, jnp.abs(e_y) > EDGE, jnp.abs(e_y) >= KERB)
        slow = progress / DT < jnp.where(inner.slow > 0.0, BRISK, SLOW)
        slow = slow & ~lost
        failed = off | slow
        helped = failed & (u < dials.reacquisition)
        q, qd, qacc, delta = self._moved(helped, (q, qd, qacc, delta), (0.0, 0.0, SPEED))
        off, slow, failed = off & ~helped, slow & ~helped, failed & ~helped

        uncomfortable = comfort.uncomfortable(inner.felt, felt, DT)
        inner = Car4wState(
            q=q,
            qd=qd,
            qacc=qacc,
            s=inner.s + progress,
            knots=inner.knots,
            delta=delta,
            wind=wind.blow(inner.wind, dials.crosswind, z[2], DT),
            side=jnp.where(off, jnp.where(e_y >= 0.0, 1.0, -1.0), 0.0),
            slow=slow.astype(jnp.float32),
            past=past,
            felt=felt._replace(known=jnp.where(lost | helped, 0.0, 1.0)),
            key=key,
        )
        observation = self._observe(inner, noise_key)
        sound = soundness(observation, action)
        cost = failed.astype(jnp.float32)
        graded = jnp.where(failed, 1.0, jnp.minimum(jnp.abs(q[1]) / EDGE, 1.0))
        return dataclasses.replace(
            state,
            pipeline_state=cast(Any, inner),
            obs=observation,
            reward=jnp.clip(progress / (DT * SPEED), 0.0, 1.0) * (1.0 - cost) + sound,
            metrics={
                "cost": cost + sound,
                "graded_cost": graded + sound,
                "progress": progress,
                "off_road": off.astype(jnp.float32),
                "set_back": lost.astype(jnp.float32),
                "uncomfortable": uncomfortable,
            },
        )

    def _move(
        self, inner: Car4wState, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Returns positions, velocities, accelerations and the steering angle after a control step
        of MuJoCo's physics under a constant action, in the frame in which it began."""
        car, dials, model = self._car(inner), self.dials, self._model
        brake, drive = vehicle.longitudinal_limits(dials.friction)
        accel = jnp.clip(action[1] * MAX_ACCEL, -vehicle.HELD * brake, vehicle.HELD * drive)
        accel = jnp.minimum(accel, GOVERNOR * (MAX_SPEED - car.v_x))
        weight = dials.mass * SPRUNG + 4 * UNSPRUNG
        torque = weight * RADIUS * accel / 2  # of a wheel, if its axle did it all
        motor = jnp.maximum(torque, 0.0) * np.array([0.0, 0.0, 1.0, 1.0], np.float32)
        share = vehicle.BRAKE_FRONT
        held = jnp.maximum(-torque, 0.0) * np.array(
            [share, share, 1.0 - share, 1.0 - share], np.float32
        )
        force = vehicle.wind_force(car.v_x, inner.wind)
        push = jnp.stack([-force * jnp.sin(car.e_psi), force * jnp.cos(car.e_psi)])
        applied = jnp.zeros((model.native.nbody, 6)).at[BODY, :2].set(push)
        applied = applied.at[BODY, 5].set(vehicle.WIND_ARM * force)
        sys = self._dialled()

        def substep(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], None]:
            data, delta = carry
            rate = (action[0] * MAX_STEER - delta) / vehicle.STEER_LAG
            delta = delta + DT / SUBSTEPS * jnp.clip(rate, -vehicle.STEER_RATE, vehicle.STEER_RATE)
            surface = RADIUS * data.qvel[model.spin[1]]
            wheels = motor - held * jnp.clip(surface / STANDING, -1.0, 1.0)
            control = jnp.concatenate([jnp.stack([delta, delta]), wheels])
            return (mjx.step(sys, data.replace(ctrl=control)), delta), None

        data = model.blank.replace(
            qpos=inner.q, qvel=inner.qd, qacc_warmstart=inner.qacc, xfrc_applied=applied
        )
        (data, delta), _ = jax.lax.scan(substep, (data, inner.delta), None, length=SUBSTEPS)
        return data.qpos, data.qvel, data.qacc_warmstart, delta

    def _dialled(self) -> Any:
        """Returns MJX's model with the dials applied; allowed inside jit. Weights of the contacts
        in MuJoCo's solver stay as they are."""
        sys, dials = self._model.sys, self.dials
        body_mass = sys.body_mass.at[BODY].multiply(dials.mass)
        whole = sys.body_subtreemass + (body_mass - sys.body_mass)[BODY] * (
            np.arange(self._model.native.nbody) <= BODY
        )
        return sys.replace(
            body_mass=body_mass,
            body_inertia=sys.body_inertia.at[BODY].multiply(dials.mass),
            body_subtreemass=whole,
            pair_friction=sys.pair_friction.at[:, :2].multiply(dials.friction),
        )

    def _moved(
        self,
        where: jax.Array,
        motion: tuple[jax.Array, jax.Array, jax.Array, jax.Array],
        place: tuple[Any, Any, Any],
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Returns positions, velocities, accelerations and steering angle: those of a car put to a
        place, the arguments of `at`, where bool[] `where` says so, else those of `motion`."""
        q, qd = self.at(*place)
        put = (q, qd, jnp.zeros_like(qd), jnp.zeros(()))
        return cast(Any, jax.tree.map(lambda a, b: jnp.where(where, a, b), put, motion))

    def _car(self, inner: Car4wState) -> vehicle.Car:
        """Returns the state of the single-track car that moves like this one."""
        yaw = _yaw(inner.q)
        cos, sin = jnp.cos(yaw), jnp.sin(yaw)
        x, y = inner.qd[0], inner.qd[1]
        return vehicle.Car(
            s=inner.s,
            e_y=inner.q[1],
            e_psi=yaw,
            v_x=cos * x + sin * y,
            v_y=cos * y - sin * x,
            r=inner.qd[5],
            delta=inner.delta,
        )

    def _observe(self, inner: Car4wState, key: jax.Array) -> jax.Array:
        """Returns the observation, float32[O]; `key` is consumed by the sensors' noise."""
        car = self._car(inner)
        local, origin = road.window(inner.knots, car.s)
        x = car.s - origin
        roll, pitch = _lean(inner.q)
        kappa = road.curvature(local, x) / road.MAX_CURVATURE
        ego = [car.e_y, car.e_psi, car.v_x - SPEED, car.v_y, car.r, car.delta, roll, pitch, kappa]
        seen = jnp.concatenate([jnp.stack(ego), lane_points(local, x, car.e_y, car.e_psi)])
        seen = seen + self.dials.sensor_noise * jax.random.normal(key, seen.shape)
        return jnp.concatenate([seen, jnp.stack([inner.side, inner.slow])])

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"road": float32[3 + road.KNOTS]}, as `World.picture`."""
        inner = cast(Car4wState, state.pipeline_state)
        return picture_of(self._car(inner), inner.knots)

    def whereabouts(self, state: State) -> dict[str, jax.Array]:
        """Returns the road's curvature and the lateral offset, as `World.whereabouts`."""
        inner = cast(Car4wState, state.pipeline_state)
        return whereabouts_of(self._car(inner), inner.knots)

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action float32[2] of `lane_keep`'s control law; deterministic, the key is not
        used."""
        del key
        inner = cast(Car4wState, state.pipeline_state)
        steer, accel = follow_lane(self._car(inner), inner.side, inner.knots)
        return jnp.clip(jnp.stack([steer / MAX_STEER, accel / MAX_ACCEL]), -1.0, 1.0)


def _wrapped(angle: jax.Array) -> jax.Array:
    """Returns angles in [-π, π] [rad]."""
    return angle - 2.0 * math.pi * jnp.round(angle / (2.0 * math.pi))


def _up(q: jax.Array) -> jax.Array:
    """Returns how far the roof points upwards: 1 on a level car, -1 on its roof."""
    return 1.0 - 2.0 * (q[4] ** 2 + q[5] ** 2)


def _yaw(q: jax.Array) -> jax.Array:
    """Returns the heading [rad]."""
    w, x, y, z = q[3:7]
    return jnp.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def _lean(q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns roll, positive to the right, and pitch, positive nose down [rad]."""
    w, x, y, z = q[3:7]
    roll = jnp.arctan2(2.0 * (w * x + y * z), _up(q))
    return roll, jnp.arcsin(jnp.clip(2.0 * (w * y - z * x), -1.0, 1.0))


def _turned(q: jax.Array, qd: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the orientation and the speed in a frame turned by -angle [rad] about the vertical.
    The position is left to the caller; the body's rates are in its own frame and stay."""
    cos, sin = jnp.cos(angle / 2), jnp.sin(angle / 2)
    w, x, y, z = q[3:7]
    turned = jnp.stack([cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w])
    turned = turned / jnp.linalg.norm(turned)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    speed = jnp.stack([cos * qd[0] - sin * qd[1], sin * qd[0] + cos * qd[1]])
    return q.at[3:7].set(turned), qd.at[:2].set(speed)
