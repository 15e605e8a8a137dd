"""Racing at the limit of friction: a lap is fast only if every corner is.

A dynamic single-track car (`vehicle`) drives along a closed track (`track`) as fast as its tyres
allow, up to 30 m/s. Each episode begins on a random track of the bank, at a random place and in a
random direction. An error of speed or line is punished by physics: a car that enters a corner too
fast leaves the track, and one that brakes or steers too hard there spins.

Beyond the edges is grass, on which the tyres have half of their grip, and beyond that a barrier. A
car that spins is put onto the grass, from where it has to drive back. All of this is in plain view:
the observation shows the distances to both edges and whether the car is off the track or slow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs import files
from envs.core import State, World, dial, soundness
from envs.driving import comfort, vehicle, wind
from envs.driving import track as tracks
from envs.driving.actuators import actuate, delay_dial, noise_dial
from envs.names import HISTORY

DT, SUBSTEPS = 0.05, 2
"""Control step [s] and Runge-Kutta steps within it."""
TOP_SPEED = 30.0
"""Highest speed of the speed profile [m/s]."""
MIN_SPEED, MAX_SPEED, GOVERNOR = 5.0, 32.0, 2.0
"""The engine keeps the car's speed between MIN_SPEED, because its equations are singular at rest,
and MAX_SPEED [m/s]: the acceleration lies between GOVERNOR (MIN_SPEED - v_x) and
GOVERNOR (MAX_SPEED - v_x), with GOVERNOR in 1/s."""
MAX_STEER, MAX_ACCEL = 0.5, 5.0
"""Steering angle [rad] and acceleration [m/s²] of an action of 1."""
GRIP = 0.87
"""Share of the tyres' peak friction that the speed profile uses."""
PROFILE_ACCEL = 4.5
"""Largest longitudinal acceleration of the speed profile [m/s²], either way."""
PEAK = vehicle.TYRE_D * vehicle.GRAVITY
"""Acceleration at the tyres' peak friction [m/s²]."""
KERB = 0.5
"""A car is off the track beyond the edge, and back on it this far within the edge [m]."""
SET_BACK = 0.5
"""Where a car that has spun is put: this far beyond the nearer edge [m]."""
SCRAPE = 0.9
"""Factor on the speed in a step in which the car presses against the barrier."""
SPIN = 0.5
"""A car spins beyond this slip angle [rad]: neither the tyre model nor its reference holds
there."""
PACE_TIME = 1.0
"""Time constant over which the pace is averaged [s]."""
SLOW, BRISK = 0.4, 0.5
"""Averaged shares of the profile's speed: a car fails below SLOW and has recovered above BRISK."""
DELAY_STEPS = 5
"""Number of past actions that are kept for the dial `delay`."""
AHEAD = np.arange(0.0, 91.0, 5.0)
"""Distances ahead at which the curvature is observed [m]. Braking from 30 to 13 m/s takes 81 m."""
EGO, PREVIEW = 8, len(AHEAD)
"""Number of entries of the observation about the car, and about the curvature ahead."""
UNITS = np.array([5.0, 0.3, 30.0, 1.0, 0.5, 0.1, 5.0, 5.0])
"""Divisors of the entries about the car: lateral offset [m], heading error [rad], forward and
lateral speed [m/s], yaw rate [rad/s], steering angle [rad], distances to both edges [m].
The pace is not among them: it is nearly constant in demonstrations, and a clone that sees it stops
as soon as it is a little slow."""
CURVATURE = 1 / 20.0
"""Divisor of the observed curvatures [1/m]."""
SEEN_BEHIND, SEEN, SEEN_STEP = 40.0, 64, 2.0
"""Length of track behind the car in its picture [m], number of points there, and their distance
[m]."""


@struct.dataclass
class RaceDials:
    """The dials of `Race`."""

    noise: float = noise_dial()
    sensor_noise: float = dial(
        0.0,
        "standard deviation of Gaussian noise added to each entry of the observation but the flags",
        low=0,
        high=1,
    )
    reacquisition: float = dial(
        0.0,
        "probability per failed step of being put back on the centre line, at speed",
        unit="1/step",
        low=0,
        high=1,
    )
    friction: float = dial(1.0, "factor on the tyres' peak friction", low=0.2, high=2)
    grass: float = dial(0.5, "factor on friction beyond the edges", low=0.2, high=1)
    mass: float = dial(
        1.0, "factor on mass and yaw inertia; a heavier car accelerates less", low=0.3, high=3
    )
    crosswind: float = wind.crosswind_dial()
    delay: float = delay_dial(DT, DELAY_STEPS)


@struct.dataclass
class RaceState:
    """The inner state of `Race`."""

    car: vehicle.Car
    """The car's own state; s is in [0, L)."""
    track: jax.Array
    """int32[]: which track of the world's it is."""
    wind: jax.Array
    """float32[]: crosswind speed [m/s]."""
    side: jax.Array
    """float32[]: 0 on the track, +1 off it on the left, -1 off it on the right."""
    pace: jax.Array
    """float32[]: progress as a share of the profile's speed, averaged; 1 while off the track."""
    slow: jax.Array
    """float32[]: 1 while the pace is too low, else 0."""
    past: jax.Array
    """float32[DELAY_STEPS, 2]: latest actions, newest first."""
    felt: comfort.Motion
    """Of the latest step."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Place(NamedTuple):
    """The track at an arc length; every field is float[]."""

    kappa: jax.Array
    """Curvature [1/m]."""
    left: jax.Array
    """Distance from the centre line to the left edge [m]."""
    right: jax.Array
    """Distance from the centre line to the right edge [m]."""
    speed: jax.Array
    """The speed profile [m/s]."""
    envelope: jax.Array
    """The speed from which braking still suffices [m/s]."""


class Race(World):
    """Racing on closed tracks at the limit of friction.

    The observation is float32[29], scaled to order one: 8 entries about the car (lateral offset,
    heading error, forward and lateral speed, yaw rate, steering angle, distances to the left and
    the right edge, each divided by its entry of `UNITS`), the curvature at the 19 distances
    `AHEAD` times 20 m, the side flag and the slow flag. The action is float32[2] in [-1, 1]:
    steering and acceleration.

    Cost is 1 off the track and while the car is slow. The car is off beyond an edge, until it is
    `KERB` within; one that spins or faces backwards is put onto the grass. It is slow once its
    progress, averaged over `PACE_TIME`, falls below `SLOW` of the speed profile, until it is above
    `BRISK` of it. Graded cost is the lateral offset as a share of the half-width on its side, or 1.
    The reward is progress as a share of the speed profile, or 0 while failed: over a lap it adds up
    to the profile's lap time. `state.metrics` also holds the progress [m], and 1 or 0 for being off
    the track (off_road), for touching the barrier (collision) and for a ride outside of nuPlan's
    bounds (uncomfortable, `comfort`), which racing is most of the time.
    """

    name = "race"
    horizon = 6144
    recovery_steps = 70
    latency = 32
    failure_flags = (EGO + PREVIEW, EGO + PREVIEW + 1)
    velocities = (2, 3, 4)
    options: ClassVar = {"track": ("bank",), **HISTORY}
    files: ClassVar = {"track": ".csv"}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    observation_layout: ClassVar = {
        "ego": (0, EGO),
        "curvature": (EGO, EGO + PREVIEW),
        "side": (EGO + PREVIEW, EGO + PREVIEW + 1),
        "slow": (EGO + PREVIEW + 1, EGO + PREVIEW + 2),
    }
    """Slices of the observation: {meaning: (first index, last index + 1)}."""

    def __init__(self, track: str = "bank", **dials: float):
        self.dials = RaceDials(**dials)
        if track == "bank":
            shapes = tracks.bank()
        else:
            path = files.path_of(track)
            shape = tracks.read(path)
            shapes = (shape, tracks.reverse(shape))
            track, self.source = files.named(path)
        self.chosen = {"track": track}
        self._points = len(shapes[0].kappa)
        self._lengths = np.array([shape.length for shape in shapes], np.float32)
        self._places = np.concatenate([_places(shape) for shape in shapes]).astype(np.float32)
        self._kappa = self._places[:, 0].copy()
        self._poses = np.concatenate([_poses(shape) for shape in shapes]).astype(np.float32)

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return EGO + PREVIEW + 2

    @property
    def action_size(self) -> int:
        """2, steering and acceleration."""
        return 2

    def reset(self, rng: jax.Array) -> State:
        """Returns a start at speed, near the centre line of a random track; rng, uint32[2], is
        consumed."""
        track_key, place_key, start_key, noise_key, key = jax.random.split(rng, 5)
        index = jax.random.randint(track_key, (), 0, len(self._lengths), jnp.int32)
        s = jax.random.uniform(place_key) * jnp.asarray(self._lengths)[index]
        z = jax.random.normal(start_key, (3,))
        car = self._settled(index, s)
        car = car._replace(e_y=0.1 * z[0], e_psi=car.e_psi + 0.01 * z[1])
        zero = jnp.zeros(())
        inner = RaceState(
            car=car,
            track=index,
            wind=self.dials.crosswind * z[2],
            side=zero,
            pace=jnp.ones(()),
            slow=zero,
            past=jnp.zeros((DELAY_STEPS, 2)),
            felt=comfort.Motion(zero, zero, zero, zero),
            key=key,
        )
        metrics = {
            "cost": zero,
            "graded_cost": self._beside(inner, self._at(index, car.s)),
            "progress": zero,
            "off_road": zero,
            "collision": zero,
            "uncomfortable": zero,
        }
        # Brax annotates the states of its own physics alone.
        return State(cast(Any, inner), self._observe(inner, noise_key), zero, zero, metrics, {})

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[2], clipped to [-1, 1]."""
        inner = cast(RaceState, state.pipeline_state)
        dials: RaceDials = self.dials
        key, draw, noise_key = jax.random.split(inner.key, 3)
        uniform_key, normal_key = jax.random.split(draw)
        u = jax.random.uniform(uniform_key)
        z = jax.random.normal(normal_key, (3,))

        executed, past = actuate(action, inner.past, dials.noise * z[:2], dials.delay / DT)
        grip = self._grip(inner.car, self._at(inner.track, inner.car.s))
        brake, drive = vehicle.longitudinal_limits(grip)
        accel = jnp.clip(
            executed[1] * MAX_ACCEL / dials.mass,
            GOVERNOR * (MIN_SPEED - inner.car.v_x),
            GOVERNOR * (MAX_SPEED - inner.car.v_x),
        )
        zero = jnp.zeros(())
        inputs = vehicle.Inputs(
            steer=executed[0] * MAX_STEER,
            accel=jnp.clip(accel, -vehicle.HELD * brake, vehicle.HELD * drive),
            pull=zero,
            wind=vehicle.wind_force(inner.car.v_x, inner.wind),
            slope=zero,
            friction=grip,
            mass=dials.mass,
        )
        car = vehicle.integrate(
            inner.car, inputs, lambda s: self._curvature(inner.track, s), DT, SUBSTEPS
        )
        felt = comfort.motion(inner.car, car, DT)
        progress = car.s - inner.car.s
        car = car._replace(s=jnp.mod(car.s, jnp.asarray(self._lengths)[inner.track]))
        place = self._at(inner.track, car.s)

        # The barrier turns a car that presses against it parallel to the track and slows it down.
        barrier = jnp.where(car.e_y >= 0.0, place.left, place.right) + tracks.RUNOFF
        outward = jnp.where(car.e_y >= 0.0, 1.0, -1.0)
        hit = jnp.abs(car.e_y) >= barrier
        pressing = hit & (outward * car.e_psi > 0.0)
        car = car._replace(
            e_y=jnp.clip(car.e_y, -barrier, barrier),
            v_x=jnp.where(pressing, SCRAPE * jnp.cos(car.e_psi), 1.0) * car.v_x,
            e_psi=jnp.where(pressing, 0.0, car.e_psi),
            v_y=jnp.where(pressing, 0.0, car.v_y),
            r=jnp.where(pressing, 0.0, car.r),
        )
        car = car._replace(v_x=jnp.maximum(car.v_x, 1.0))

        # A car that has spun is put beyond the nearer edge, parallel to the track.
        spun = (jnp.abs(jnp.arctan(car.v_y / car.v_x)) > SPIN) | (jnp.abs(car.e_psi) > jnp.pi / 2)
        beyond = jnp.where(
            2.0 * car.e_y >= place.left - place.right,
            place.left + SET_BACK,
            -place.right - SET_BACK,
        )
        parked = vehicle.Car(car.s, beyond, zero, jnp.float32(MIN_SPEED), zero, zero, zero)
        car = jax.tree.map(lambda a, b: jnp.where(spun, a, b), parked, car)

        # Touching the edge from outside is no return.
        kerb = jnp.where(inner.side == 0.0, 0.0, KERB)
        off = (car.e_y > place.left - kerb) | (car.e_y < kerb - place.right)
        ratio = progress / (DT * self._scale() * place.speed)
        share = math.exp(-DT / PACE_TIME)
        pace = jnp.where(off, 1.0, share * inner.pace + (1.0 - share) * ratio)
        slow = pace < jnp.where(inner.slow > 0.0, BRISK, SLOW)

        failed = off | slow
        helped = failed & (u < dials.reacquisition)
        settled = self._settled(inner.track, car.s)
        car = jax.tree.map(lambda a, b: jnp.where(helped, a, b), settled, car)
        off, slow, failed = off & ~helped, slow & ~helped, failed & ~helped

        uncomfortable = comfort.uncomfortable(inner.felt, felt, DT)
        put = hit | spun | helped
        inner = RaceState(
            car=car,
            track=inner.track,
            wind=wind.blow(inner.wind, dials.crosswind, z[2], DT),
            side=jnp.where(off, jnp.where(car.e_y >= 0.0, 1.0, -1.0), 0.0),
            pace=jnp.where(helped, 1.0, pace),
            slow=slow.astype(jnp.float32),
            past=past,
            felt=felt._replace(known=jnp.where(put, 0.0, 1.0)),
            key=key,
        )
        observation = self._observe(inner, noise_key)
        sound = soundness(observation, action)
        cost = failed.astype(jnp.float32)
        return dataclasses.replace(
            state,
            pipeline_state=cast(Any, inner),
            obs=observation,
            reward=ratio * (1.0 - cost) + sound,
            metrics={
                "cost": cost + sound,
                "graded_cost": jnp.where(failed, 1.0, self._beside(inner, place)) + sound,
                "progress": progress,
                "off_road": off.astype(jnp.float32),
                "collision": hit.astype(jnp.float32),
                "uncomfortable": uncomfortable,
            },
        )

    def _index(self, track: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the rows of the tables just behind arc lengths s [m] of a track, int32, and the
        shares of the way to the next ones, float32."""
        length = jnp.asarray(self._lengths)[track]
        x = jnp.mod(s, length) * (self._points / length)
        first = jnp.clip(jnp.floor(x), 0, self._points - 1)
        return track * (self._points + 1) + first.astype(jnp.int32), x - first

    def _at(self, track: jax.Array, s: jax.Array) -> Place:
        """Returns the track at arc length s [m], linear between grid points."""
        row, share = self._index(track, s)
        table = jnp.asarray(self._places)
        return Place(*((1.0 - share) * table[row] + share * table[row + 1]))

    def _curvature(self, track: jax.Array, s: jax.Array) -> jax.Array:
        """Returns the curvature [1/m] of a track at arc lengths s [m] of any shape."""
        row, share = self._index(track, s)
        kappa = jnp.asarray(self._kappa)
        return (1.0 - share) * kappa[row] + share * kappa[row + 1]

    def _scale(self) -> jax.Array:
        """Returns the factor on the profile's speeds: with less friction all of them, the top speed
        too, fall like its square root."""
        return jnp.sqrt(jnp.minimum(self.dials.friction, 1.0))

    def _grip(self, car: vehicle.Car, place: Place) -> jax.Array:
        """Returns the factor on the tyres' peak friction where the car is."""
        beyond = (car.e_y > place.left) | (car.e_y < -place.right)
        return self.dials.friction * jnp.where(beyond, self.dials.grass, 1.0)

    def _beside(self, inner: RaceState, place: Place) -> jax.Array:
        """Returns the lateral offset as a share of the half-width on its side, at most 1."""
        e_y = inner.car.e_y
        return jnp.minimum(jnp.maximum(e_y / place.left, -e_y / place.right), 1.0)

    def _settled(self, track: jax.Array, s: jax.Array) -> vehicle.Car:
        """Returns a car on the centre line at the profile's speed, in steady cornering."""
        place = self._at(track, s)
        speed = self._scale() * place.speed
        slip = _slip(place.kappa, speed, self.dials.friction)
        zero = jnp.zeros(())
        return vehicle.Car(
            s=s,
            e_y=zero,
            e_psi=-slip,
            v_x=speed,
            v_y=speed * slip,
            r=speed * place.kappa,
            delta=vehicle.WHEELBASE * place.kappa,
        )

    def _observe(self, inner: RaceState, key: jax.Array) -> jax.Array:
        """Returns the observation, float32[O]; `key` is consumed by the sensors' noise."""
        car = inner.car
        place = self._at(inner.track, car.s)
        ego = jnp.stack(
            [
                car.e_y,
                car.e_psi,
                car.v_x,
                car.v_y,
                car.r,
                car.delta,
                place.left - car.e_y,
                place.right + car.e_y,
            ]
        )
        ahead = self._curvature(inner.track, car.s + AHEAD)
        seen = jnp.concatenate([ego / UNITS, ahead / CURVATURE])
        seen = seen + self.dials.sensor_noise * jax.random.normal(key, seen.shape)
        return jnp.concatenate([seen, jnp.stack([inner.side, inner.slow])])

    def whereabouts(self, state: State) -> dict[str, jax.Array]:
        """Returns the track's curvature and the lateral offset, as `World.whereabouts`."""
        inner = cast(RaceState, state.pipeline_state)
        kappa = self._at(inner.track, inner.car.s).kappa
        return {"curvature [1/m]": kappa, "lateral offset [m]": inner.car.e_y}

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"track": float32[4 + 5 SEEN]}, as `World.picture`."""
        inner = cast(RaceState, state.pipeline_state)
        car = inner.car
        table = jnp.asarray(self._poses)

        def pose(s: jax.Array) -> tuple[jax.Array, jax.Array]:
            row, share = self._index(inner.track, s)
            return table[row], (1.0 - share) * table[row] + share * table[row + 1]

        _, (x, y, heading) = pose(car.s)
        own = jnp.stack(
            [
                x - car.e_y * jnp.sin(heading),
                y + car.e_y * jnp.cos(heading),
                heading + car.e_psi,
                heading,
            ]
        )
        # At whole multiples of the step, so that the points do not move along with the car.
        first = jnp.floor((car.s - SEEN_BEHIND) / SEEN_STEP)
        s = (first + jnp.arange(SEEN)) * SEEN_STEP
        line = jax.vmap(lambda s: pose(s)[1])(s)
        edges = jax.vmap(lambda s: jnp.stack(self._at(inner.track, s)[1:3]))(s)
        return {"track": jnp.concatenate([own, jnp.concatenate([line, edges], 1).ravel()])}

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action float32[2] of a control law that knows the track, `friction` and
        `grass`, but not the other dials; deterministic, the key is not used.

        On the track it is feedforward of the previewed curvature plus look-ahead feedback (Kapania
        and Gerdes 2015), at the speed of the profile's envelope. The tyres' stiffness is
        proportional to load on both axles, so the car is neutral and the understeer term vanishes.
        Off the track the law slows down and steers towards the track, the steeper the further away
        it is. It never steers the front tyres beyond their peak, and brakes and accelerates with
        the grip that cornering leaves.
        """
        del key
        inner = cast(RaceState, state.pipeline_state)
        car, on = inner.car, inner.side == 0.0
        here = self._at(inner.track, car.s)
        grip = self._grip(car, here)
        kappa = self._curvature(inner.track, car.s + LEAD * car.v_x)
        slip = _slip(kappa, car.v_x, grip)
        error = car.e_y + LOOK_AHEAD * jnp.sin(car.e_psi + slip)
        turning = car.r - car.v_x * kappa
        keep = vehicle.WHEELBASE * kappa - LANE_GAIN * error - YAW_GAIN * turning
        way = jnp.maximum(car.e_y - here.left, -car.e_y - here.right) + KERB
        angle = jnp.clip(HOME_HEADING[0] + way / APPROACH, *HOME_HEADING)
        heading_error = -angle * inner.side - car.e_psi
        home = vehicle.WHEELBASE * kappa + HOME_GAIN * heading_error - HOME_DAMPING * turning
        front = jnp.arctan((car.v_y + vehicle.FRONT * car.r) / car.v_x)
        most = MOST_SLIP * grip
        steer = jnp.clip(jnp.where(on, keep, home), front - most, front + most)

        horizon = BRAKING_TIME * car.v_x
        ahead = self._at(inner.track, car.s + horizon).envelope
        target = self._scale() * jnp.where(on, ahead, jnp.minimum(ahead, HOME_SPEED))
        accel = (target**2 - car.v_x**2) / (2.0 * horizon)
        lateral = jnp.maximum(jnp.abs(car.v_x * car.r), car.v_x**2 * jnp.abs(here.kappa))
        left_over = jnp.sqrt(jnp.clip(1.0 - (lateral / (grip * PEAK)) ** 2, 0.04, 1.0))
        limit = jnp.minimum(MAX_ACCEL, MOST_ACCEL * grip * PEAK) * left_over
        accel = jnp.clip(accel, -limit, limit)
        return jnp.clip(jnp.stack([steer / MAX_STEER, accel / MAX_ACCEL]), -1.0, 1.0)


def _slip(kappa: jax.Array, speed: jax.Array, friction: jax.Array | float) -> jax.Array:
    """Returns the slip angle [rad] of steady cornering at a curvature [1/m] and a speed [m/s].

    The axles share the lateral force like the load, so both have the slip angle at which the Magic
    Formula, without its small curvature factor, gives that share of the peak.
    """
    used = jnp.clip(kappa * speed**2 / (friction * PEAK), -0.95, 0.95)
    stiffness = -vehicle.TYRE_K / (vehicle.TYRE_C * vehicle.TYRE_D * friction)
    return vehicle.REAR * kappa - jnp.tan(jnp.arcsin(used) / vehicle.TYRE_C) / stiffness


def _places(track: tracks.Track) -> np.ndarray:
    """Returns the fields of `Place` at a track's grid points and again at the first one,
    float[N + 1, 5]."""
    envelope, speed = tracks.speed_profile(
        track.kappa, track.spacing, GRIP * PEAK, PROFILE_ACCEL, PROFILE_ACCEL, TOP_SPEED
    )
    rows = np.stack([track.kappa, track.left, track.right, speed, envelope], 1)
    return np.concatenate([rows, rows[:1]])


def _poses(track: tracks.Track) -> np.ndarray:
    """Returns x [m], y [m] and heading [rad] of a track at its grid points and again at the first
    one, float[N + 1, 3]; the heading does not jump there."""
    rows = np.stack([track.x, track.y, track.heading], 1)
    last = rows[0].copy()
    last[2] += 2.0 * math.pi * round((rows[-1, 2] - rows[0, 2]) / (2.0 * math.pi))
    return np.concatenate([rows, last[None]])


LEAD = 0.2
"""Time by which the demonstrator's feedforward leads [s], about the steering lag."""
LOOK_AHEAD, LANE_GAIN, YAW_GAIN = 15.0, 0.07, 0.25
"""On the track: look-ahead distance [m], steering per metre of error at that distance [rad/m],
steering per yaw-rate error [s]."""
HOME_HEADING, APPROACH = (0.15, 0.6), 6.0
"""Off the track: smallest and largest heading towards it [rad], and how many metres of the way back
add 1 rad to the smallest."""
HOME_GAIN, HOME_DAMPING = 2.0, 0.4
"""Off the track: steering per heading error [1], steering per yaw-rate error [s]."""
HOME_SPEED = 10.0
"""Speed off the track [m/s]."""
MOST_SLIP = 0.14
"""Largest slip angle of the front tyres that the demonstrator steers for, at full friction [rad];
their force peaks at 0.15 rad."""
MOST_ACCEL = 0.5
"""Largest acceleration of the demonstrator as a share of the tyres' peak friction."""
BRAKING_TIME = 0.5
"""Time ahead at which the demonstrator's speed is that of the envelope [s]."""
