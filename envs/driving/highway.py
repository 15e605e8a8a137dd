"""A highway with traffic: drive fast among cars that keep their distance and change lanes.

Our car is the dynamic car of `vehicle` on a road of two to five lanes that bends gently. The
others drive by the intelligent driver model and MOBIL (`traffic`), and treat our car as one of
theirs. All of them are on a ring, so the density stays the same and no car appears from nowhere.

The episode goes on after a crash: our car rolls on the hard shoulder then, and may drive back into
a gap. It fails from the crash, or from leaving the lanes, until the whole car is on a lane again. A
car that holds up the traffic fails too, so parking is no way to stay out of trouble.

The expert (`highway_expert`) keeps its distance by the IDM, chooses lanes by MOBIL, and follows the
middle of a lane.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs import files
from envs.core import State, World, dial, soundness
from envs.driving import comfort, highway_expert, highway_picture, road, traffic, vehicle, wind
from envs.driving import scenario as scenarios
from envs.driving.actuators import actuate, delay_dial, noise_dial
from envs.driving.scenario import Scenario
from envs.driving.traffic import LANE, LENGTH, SIGHT, WIDTH, Cars, Neighbour, Strip
from envs.names import HISTORY

DT, SUBSTEPS = 0.1, 4
"""Control step [s] and Runge-Kutta steps within it."""
MAX_STEER, MAX_ACCEL = 0.1, 8.0
"""Steering angle [rad] and acceleration [m/s²] of an action of 1."""
MIN_SPEED = 3.0
"""The car does not brake below this speed [m/s]: its equations are singular at rest."""
BEND = 0.1
"""Curvature of the highway over that of the roads of `road`: the tightest bend has 800 m."""
SHOULDER = 3.0
"""Width of the hard shoulders on both sides [m]; behind them is a rail."""
ASIDE, ASIDE_SPEED = 1.6, 20.0
"""After a crash the middle of the car is this far beyond the right edge [m], and it has at most
this speed [m/s]."""
OUT, BACK = WIDTH / 2, WIDTH / 2 + 0.2
"""A car is off the lanes when its middle is less than OUT within them, until it is BACK within them
[m]: its side is then on the edge, and 0.2 m within."""
SPIN = 0.5
"""A slip angle beyond this [rad] is a crash: the tyre model does not hold there."""
SLOW, BRISK = 0.5, 0.6
"""A car holds up the traffic below SLOW times the speed that it could drive, until it drives BRISK
times that."""
SEEN = 10
"""Number of cars in the observation `kinematics`."""
DELAY_STEPS = 4
"""Number of past actions that are kept for the dial `delay`."""
BEHIND = math.radians(150.0)
"""A car that hits ours is behind it beyond this angle, seen from our rear axle (nuPlan)."""
STOPPED = 0.05
"""A car that is slower than this stands [m/s] (nuPlan)."""
LONG_TIME = 10.0
"""Times to collision above this count as this [s]."""
URGENT = 2.0
"""Time to collision below which the graded cost rises [s]."""
LATERAL = 2.0
"""Lateral acceleration in the tightest bend of a scenario's road at the speed limit [m/s²]."""
STANDING = 5.0
"""A car of a scenario that begins slower than this [m/s] has been stopped by something, and would
like to drive like the others."""
ROOM = 15.0
"""Gaps that a car which is put back into a lane has ahead and behind [m]."""


@struct.dataclass
class HighwayDials:
    """The dials of `Highway`."""

    lanes: float = dial(3.0, "number of lanes", unit="lanes", low=2, high=5, whole=True)
    density: float = dial(8.0, "cars per kilometre of each lane", unit="1/km", low=2, high=35)
    speed: float = dial(
        30.0, "speed limit, which the expert would like to drive", unit="m/s", low=15, high=40
    )
    traffic_speed: float = dial(
        22.0, "mean speed that the others would like to drive", unit="m/s", low=10, high=40
    )
    spread: float = dial(
        3.0, "standard deviation of the speeds that the others want", unit="m/s", low=0, high=5
    )
    politeness: float = dial(
        0.0, "weight of the followers in decisions to change lanes", low=0, high=1
    )
    braking_rate: float = dial(
        0.001,
        "probability that another driver brakes without a reason, per step and car",
        unit="1/step",
        low=0,
        high=0.1,
    )
    bend: float = dial(1.0, "factor on the road's curvature", low=0, high=2)
    noise: float = noise_dial()
    sensor_noise: float = dial(
        0.0, "factor on the sensors' noise (`EGO_NOISE`, `ROW_NOISE`)", low=0, high=10
    )
    reacquisition: float = dial(
        0.0,
        "probability per step of failure of being put back into a lane",
        unit="1/step",
        low=0,
        high=1,
    )
    friction: float = dial(1.0, "factor on the tyres' peak friction", low=0.4, high=2)
    mass: float = dial(
        1.0, "factor on mass and yaw inertia; a heavier car accelerates less", low=0.5, high=3
    )
    crosswind: float = wind.crosswind_dial()
    delay: float = delay_dial(DT, DELAY_STEPS)


@struct.dataclass
class HighwayState:
    """The inner state of `Highway`."""

    car: vehicle.Car
    """Our car; its lateral offset is measured from the middle of the rightmost lane."""
    cars: Cars
    """The traffic, N cars."""
    knots: jax.Array
    """float32[road.KNOTS]: curvature of this episode's road."""
    trip: jax.Array
    """float32[]: arc length at which this trip began [m]."""
    off: jax.Array
    """float32[]: 1 while the car is not on the lanes, else 0."""
    slow: jax.Array
    """float32[]: 1 while the car holds up the traffic, else 0."""
    crashed: jax.Array
    """float32[]: 1 from a crash until the car is on a lane again, else 0."""
    felt: comfort.Motion
    """The accelerations of the latest step."""
    wind: jax.Array
    """float32[]: crosswind speed [m/s]."""
    past: jax.Array
    """float32[DELAY_STEPS, 2]: latest actions, newest first."""
    age: jax.Array
    """int32[]: steps since reset."""
    key: jax.Array
    """uint32[2]: the world's own randomness, split at every step."""


class Start(NamedTuple):
    """Where everybody is at the beginning. Arrays of N + 1 cars begin with ours."""

    knots: jax.Array
    """float32[road.KNOTS]: curvature of the road."""
    s: jax.Array
    """float32[N + 1]: arc lengths [m]."""
    lane: jax.Array
    """float32[N + 1]: lanes."""
    speed: jax.Array
    """float32[N + 1]: speeds [m/s]."""
    desired: jax.Array
    """float32[N]: what the others would like to drive [m/s]."""


class View(NamedTuple):
    """The cars ahead and behind in the lane to the right, in our car's own strip of road, and in
    the lane to the left."""

    right: tuple[Neighbour, Neighbour]
    own: tuple[Neighbour, Neighbour]
    left: tuple[Neighbour, Neighbour]


class Highway(World):
    """A highway with traffic.

    The action is float32[2] in [-1, 1]: steering and acceleration. Cost is 1 from a crash, or from
    leaving the lanes, until the whole car is on a lane again, and while it holds up the traffic.
    Graded cost rises from 0 to 1 over the last lane's half before the edge and over the last
    `URGENT` seconds to a collision. The reward is the speed along the road over the speed limit, at
    most 1, or 0 at a cost.

    The observation begins with float32[11]: the offset from the middle of the lane that the car is
    heading for (`AIM_TIME`) [m], the distances to the right and the left edge of the lanes [m], the
    heading relative to the road [rad], the forward and the lateral speed [m/s], the yaw rate
    [rad/s], the steering angle [rad], the road's curvature here and 1 s ahead [1/m], and 1 at a
    failure (else 0). Then follow, by the option `observation`:

    * lanes: float32[18], for the lanes right, own and left the car ahead and the one behind: its
      gap from bumper to bumper [m], at most `SIGHT`; its speed less ours [m/s]; whether there is
      one.
    * kinematics: float32[60], the `SEEN` cars nearest along the road: whether there is one, its
      position relative to ours along and across the road [m], its speed less ours along and
      its speed across [m/s], and the lateral position to which it is changing less ours [m].

    With `scenario=FILE.xml` the road, the lanes and all cars at the start are those of a CommonRoad
    scenario (`scenario`). The others would like to drive as fast as they begin, give or take the
    dial `spread`. The road goes on straight beyond its end, and repeats after 2.56 km.

    Metrics beside the costs: progress along the road in the step [m]; collision, at_fault (by
    nuPlan's rule), off_road, speeding and uncomfortable (`comfort`), each 1 or 0;
    time_to_collision [s], at most `LONG_TIME`; and traffic_speed, the others' mean speed [m/s].
    """

    name = "highway"
    horizon = 4096
    recovery_steps = 75
    latency = 12
    failure_flags = (10,)
    options: ClassVar = {
        "cars": ("20", "30", "40", "50"),
        "drivers": tuple(traffic.PRESETS),
        "observation": ("lanes", "kinematics"),
        "scenario": ("none",),
        **HISTORY,
    }
    files: ClassVar = {"scenario": ".xml"}
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.25},
    }
    ego_layout: ClassVar = (
        "offset", "right_edge", "left_edge", "heading", "v_x", "v_y", "yaw_rate", "steering",
        "curvature", "curvature_ahead", "failed",
    )  # fmt: skip
    """Meanings of the observation's first entries."""

    def __init__(
        self,
        cars: str = "20",
        drivers: str = "highway_env",
        observation: str = "lanes",
        scenario: str = "none",
    ):
        self.chosen = {"cars": cars, "drivers": drivers, "observation": observation}
        self.dials = HighwayDials()
        self._scenario: Scenario | None = None
        if scenario != "none":
            if cars != "20":
                raise ValueError(
                    f"{self.name}.cars={cars}: the cars come from the scenario; nearest: leave out "
                    "cars"
                )
            self._set_up(files.path_of(scenario))
        # Also what tells of speeds: the curvature 1 s ahead, and the speeds in the others' rows.
        own, row = len(self.ego_layout), len(ROW_NOISE[observation])
        moving = {"lanes": (1,), "kinematics": (3, 4)}[observation]
        rows = range(own, own + ROWS[observation] * row, row)
        self.velocities = (4, 5, 6, 9, *(first + i for first in rows for i in moving))

    def _set_up(self, path: Path) -> None:
        """Takes the road and the cars from a scenario's file."""
        scene = scenarios.read(path, road.SPACING, road.KNOTS * road.SPACING)
        self._scenario = scene
        name, self.source = files.named(path)
        self.chosen = {**self.chosen, "scenario": name}
        # So fast that the tightest bend takes a comfortable lateral acceleration.
        fastest = math.sqrt(LATERAL / max(float(np.abs(scene.curvature).max()), 1e-9))
        self.dials = HighwayDials(
            lanes=float(scene.lanes),
            speed=float(np.clip(fastest, 15.0, HighwayDials().speed)),
            traffic_speed=float(np.clip(scene.cars[:, 2].mean(), 10.0, 40.0)),
        )
        told = f"comes from {path.name}; nearest: leave it out"
        self.fixed = {"lanes": told, "density": told}

    @property
    def count(self) -> int:
        """N, the number of other cars."""
        return len(self._scenario.cars) if self._scenario else int(self.chosen["cars"])

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        observation = self.chosen["observation"]
        return len(self.ego_layout) + ROWS[observation] * len(ROW_NOISE[observation])

    @property
    def action_size(self) -> int:
        """2, steering and acceleration."""
        return 2

    @property
    def driver(self) -> traffic.Driver:
        """The parameters of all drivers, with the dialled politeness."""
        return traffic.PRESETS[self.chosen["drivers"]]._replace(politeness=self.dials.politeness)

    @property
    def lanes(self) -> jax.Array:
        """float32[]: the number of lanes."""
        return self.dials.lanes

    @property
    def ring(self) -> jax.Array:
        """float32[]: length of the ring [m]: that on which the cars have the dialled density, or
        that of the scenario."""
        if self._scenario:
            return jnp.float32(self._scenario.ring)
        return 1000.0 * (self.count + 1) / (self.dials.density * self.lanes)

    def right_edge(self, s: jax.Array, trip: jax.Array) -> jax.Array:
        """Returns the lateral position of the lanes' right edge [m] at arc length s [m] of a trip
        that began at `trip` [m]."""
        del s, trip
        return jnp.float32(-LANE / 2)

    @property
    def left_edge(self) -> jax.Array:
        """float32[]: the lateral position of the lanes' left edge [m]."""
        return LANE * (self.lanes - 0.5)

    def reset(self, rng: jax.Array) -> State:
        """Returns a start in the middle of a lane of a new road; rng, uint32[2], is consumed."""
        *scene_keys, speed_key, start_key, key = jax.random.split(rng, 6)
        wish = self.dials.spread * jnp.clip(jax.random.normal(speed_key, (self.count,)), -2.0, 2.0)
        if self._scenario:
            start = self._recorded(self._scenario, wish)
        else:
            start = self._procedural(scene_keys, wish)
        cars = Cars(
            s=jnp.mod(start.s[1:], self.ring),
            y=LANE * start.lane[1:],
            v=start.speed[1:],
            lane=start.lane[1:],
            desired=start.desired,
            braking=jnp.zeros(self.count),
        )
        z = jax.random.normal(start_key, (4,))
        zero = jnp.zeros(())
        car = vehicle.Car(
            s=jnp.mod(start.s[0], self.ring),
            e_y=LANE * start.lane[0] + 0.1 * z[0],
            e_psi=0.005 * z[1],
            v_x=start.speed[0] + 0.5 * z[2],
            v_y=zero,
            r=zero,
            delta=zero,
        )
        inner = HighwayState(
            car=car,
            cars=cars,
            knots=start.knots,
            trip=car.s,
            off=zero,
            slow=zero,
            crashed=zero,
            felt=comfort.Motion(zero, zero, zero, zero),
            wind=self.dials.crosswind * z[3],
            past=jnp.zeros((DELAY_STEPS, 2)),
            age=jnp.zeros((), jnp.int32),
            key=key,
        )
        return self._begun(inner)

    def _procedural(self, keys: Sequence[jax.Array], wish: jax.Array) -> Start:
        """Returns a new road with cars evenly spread over its lanes, a random one of which is ours.

        Args:
          keys: three, of the road, the places and ours among them; consumed.
          wish: float32[N], by how much faster than others the cars would like to drive [m/s].
        """
        road_key, place_key, slot_key = keys
        count, lanes = self.count, self.lanes
        places = jax.random.uniform(place_key, (count + 1,), minval=-0.25, maxval=0.25)
        first = jax.random.randint(slot_key, (), 0, count + 1)
        slot = jnp.mod(jnp.arange(count + 1) + first, count + 1).astype(jnp.float32)
        rows = jnp.ceil((count + 1) / lanes)
        desired = self.dials.traffic_speed + wish
        gap = self.ring / rows - LENGTH
        calm = jnp.maximum(0.8 * (gap - self.driver.spacing) / self.driver.headway, 5.0)
        own = jnp.full(1, self.dials.traffic_speed)
        return Start(
            knots=BEND * road.generate(road_key),
            s=self.ring / rows * (jnp.floor(slot / lanes) + places),
            lane=jnp.mod(slot, lanes),
            speed=jnp.minimum(jnp.concatenate([own, desired]), calm),
            desired=desired,
        )

    def _recorded(self, scene: Scenario, wish: jax.Array) -> Start:
        """Returns the road and the cars of a scenario; `wish` as in `_procedural`."""
        knots = np.zeros(road.KNOTS)
        knots[: len(scene.curvature)] = scene.curvature[: road.KNOTS]
        s, lane, speed = jnp.asarray(np.concatenate([[scene.own], scene.cars]).T, jnp.float32)
        speed = speed.at[0].max(MIN_SPEED)
        free = jnp.where(speed[1:] < STANDING, self.dials.traffic_speed, speed[1:])
        desired = jnp.maximum(free + wish, 1.0)
        return Start(jnp.asarray(knots, jnp.float32), s, lane, speed, desired)

    def _begun(self, inner: HighwayState) -> State:
        """Returns the state at the beginning of an episode."""
        zero = jnp.zeros(())
        metrics = {
            "cost": zero,
            "graded_cost": self._graded(inner),
            "progress": zero,
            "collision": zero,
            "at_fault": zero,
            "off_road": zero,
            "speeding": zero,
            "uncomfortable": zero,
            "time_to_collision": self._time_to_collision(inner),
            "traffic_speed": inner.cars.v.mean(),
        }
        # Brax annotates the states of its own physics alone.
        return State(cast(Any, inner), self._observe(inner, zero), zero, zero, metrics, {})

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[2], clipped to [-1, 1]."""
        inner = cast(HighwayState, state.pipeline_state)
        dials: HighwayDials = self.dials
        before = inner.car
        key, draw = jax.random.split(inner.key)
        noise_key, chance_key, startle_key = jax.random.split(draw, 3)
        z = jax.random.normal(noise_key, (3,))
        executed, past = actuate(action, inner.past, dials.noise * z[:2], dials.delay / DT)
        car = self._drive(inner, executed)
        cars = traffic.step(
            inner.cars,
            self._strip(before),
            jnp.mod(inner.age, 2) == 0,
            self.lanes,
            self.ring,
            self.driver,
            jax.random.uniform(startle_key, (self.count,)) < dials.braking_rate,
            DT,
        )

        hit = traffic.collide(car.s, car.e_y, car.e_psi, cars, self.ring)
        fault = hit.any() & self._at_fault(car, cars, hit)
        spun = (jnp.abs(jnp.arctan(car.v_y / car.v_x)) > SPIN) | (jnp.abs(car.e_psi) > 0.5 * jnp.pi)
        crashed = hit.any() | spun
        right = self.right_edge(car.s, inner.trip)
        zero = jnp.zeros(())
        aside = vehicle.Car(
            car.s, right - ASIDE, zero, jnp.minimum(car.v_x, ASIDE_SPEED), zero, zero, zero
        )
        moved = jax.tree.map(lambda a, b: jnp.where(crashed, a, b), aside, car)
        margin = jnp.where(inner.off > 0.0, BACK, OUT)
        beyond = (moved.e_y < right + margin) | (moved.e_y > self.left_edge - margin)
        off = jnp.where(beyond | crashed, 1.0, 0.0)

        inner = dataclasses.replace(
            inner,
            car=moved,
            cars=cars,
            felt=comfort.motion(before, car, DT)._replace(known=jnp.where(crashed, 0.0, 1.0)),
            wind=wind.blow(inner.wind, dials.crosswind, z[2], DT),
            past=past,
            age=inner.age + 1,
            key=key,
        )
        # Beside the lanes a car holds nobody up; it only must not stand there.
        least = jnp.where(inner.slow > 0.0, BRISK, SLOW) * self._possible(inner)
        least = jnp.where(moved.e_y < -LANE / 2, 0.5 * least, least)
        slow = jnp.where(moved.v_x * jnp.cos(moved.e_psi) < least, 1.0, 0.0)
        crash = jnp.where(crashed, 1.0, off * inner.crashed)
        inner = dataclasses.replace(inner, off=off, slow=slow, crashed=crash)

        chance = jax.random.uniform(chance_key)
        inner = self._put_back(inner, (jnp.maximum(off, slow) > 0) & (chance < dials.reacquisition))
        inner = self._next_trip(inner)
        return self._state(state, inner, before, action, hit.any(), fault)

    def _state(
        self,
        state: State,
        inner: HighwayState,
        before: vehicle.Car,
        action: jax.Array,
        collision: jax.Array,
        fault: jax.Array,
    ) -> State:
        """Returns the state after a step.

        Args:
          state: before the step.
          inner: after it.
          before: our car before it.
          action: that was asked for.
          collision, fault: bool[], whether our car hit another one, and whether it was at fault.
        """
        failed = jnp.maximum(inner.off, inner.slow)
        observation = self._observe(inner, failed)
        sound = soundness(observation, action)
        cost = failed + sound
        along = inner.car.v_x * jnp.cos(inner.car.e_psi)
        felt = cast(HighwayState, state.pipeline_state).felt
        metrics = {
            "cost": cost,
            "graded_cost": jnp.maximum(failed, self._graded(inner)) + sound,
            "progress": inner.car.s - before.s,
            "collision": collision.astype(jnp.float32),
            "at_fault": fault.astype(jnp.float32),
            "off_road": inner.off * (1.0 - inner.crashed),
            "speeding": (inner.car.v_x > self.dials.speed).astype(jnp.float32),
            "uncomfortable": comfort.uncomfortable(felt, inner.felt, DT),
            "time_to_collision": jnp.where(collision, 0.0, self._time_to_collision(inner)),
            "traffic_speed": inner.cars.v.mean(),
        }
        return dataclasses.replace(
            state,
            pipeline_state=cast(Any, inner),
            obs=observation,
            reward=jnp.clip(along / self.dials.speed, 0.0, 1.0) * (1.0 - failed) + sound,
            metrics=metrics,
        )

    def _drive(self, inner: HighwayState, executed: jax.Array) -> vehicle.Car:
        """Returns our car after a step of the action float32[2] that reaches the actuators."""
        car = inner.car
        local, origin = road.window(inner.knots, car.s)
        brake, drive = vehicle.longitudinal_limits(self.dials.friction)
        accel = executed[1] * MAX_ACCEL / self.dials.mass
        accel = jnp.clip(accel, -vehicle.HELD * brake, vehicle.HELD * drive)
        zero = jnp.zeros(())
        inputs = vehicle.Inputs(
            steer=executed[0] * MAX_STEER,
            accel=jnp.where((car.v_x < MIN_SPEED) & (accel < 0.0), 0.0, accel),
            pull=zero,
            wind=vehicle.wind_force(car.v_x, inner.wind),
            slope=zero,
            friction=self.dials.friction,
            mass=self.dials.mass,
        )
        bend = self.dials.bend
        car = vehicle.integrate(
            car, inputs, lambda s: bend * road.curvature(local, s - origin), DT, SUBSTEPS
        )
        # The rail turns a car that presses against it parallel to the road.
        right = self.right_edge(car.s, inner.trip) - SHOULDER
        left = self.left_edge + SHOULDER
        pressing = ((car.e_y < right) & (car.e_psi < 0.0)) | ((car.e_y > left) & (car.e_psi > 0.0))
        return car._replace(
            e_y=jnp.clip(car.e_y, right, left),
            e_psi=jnp.where(pressing, 0.0, car.e_psi),
            v_y=jnp.where(pressing, 0.0, car.v_y),
            r=jnp.where(pressing, 0.0, car.r),
            v_x=jnp.maximum(car.v_x, 1.0),
        )

    def _next_trip(self, inner: HighwayState) -> HighwayState:
        """Returns the state after a step, at the beginning of the next trip if one has ended. On a
        highway a trip never ends."""
        return inner

    def _put_back(self, inner: HighwayState, asked: jax.Array) -> HighwayState:
        """Returns the state with our car in the middle of the nearest lane, as fast as the traffic,
        if that is asked for, bool[], and there is room."""
        car = inner.car
        middle = LANE * traffic.lane_of(car.e_y, self.lanes)
        ahead, behind = self.look(inner, middle - LANE / 2, middle + LANE / 2)
        helped = asked & (ahead.gap > ROOM) & (behind.gap > ROOM)
        zero = jnp.zeros(())
        back = vehicle.Car(car.s, middle, zero, inner.cars.v.mean(), zero, zero, zero)
        return dataclasses.replace(
            inner,
            car=jax.tree.map(lambda a, b: jnp.where(helped, a, b), back, car),
            off=jnp.where(helped, 0.0, inner.off),
            slow=jnp.where(helped, 0.0, inner.slow),
            crashed=jnp.where(helped, 0.0, inner.crashed),
            felt=inner.felt._replace(known=jnp.where(helped, 0.0, inner.felt.known)),
        )

    def _strip(self, car: vehicle.Car) -> Strip:
        """Returns what our car occupies within the next second, float32[1] each."""
        aside = car.v_x * jnp.sin(car.e_psi) + car.v_y * jnp.cos(car.e_psi)
        along = car.v_x * jnp.cos(car.e_psi)
        desired = jnp.float32(1.0) * self.dials.speed
        values = (car.s, car.e_y, car.e_y + aside, along, desired)
        return traffic.strips(*(value[None] for value in values))

    def look(
        self, inner: HighwayState, right: jax.Array, left: jax.Array
    ) -> tuple[Neighbour, Neighbour]:
        """Returns the cars ahead of ours and behind it in the strip from `right` to `left` [m]."""
        cars = inner.cars
        others = traffic.strips(cars.s, cars.y, LANE * cars.lane, cars.v, cars.desired)
        nobody = jnp.zeros(self.count, bool)
        return traffic.around(inner.car.s, right, left, nobody, others, self.ring)

    def aimed_lane(self, car: vehicle.Car) -> jax.Array:
        """Returns the number of the lane that our car is heading for."""
        return traffic.lane_of(car.e_y + AIM_TIME * car.v_x * jnp.sin(car.e_psi), self.lanes)

    def view(self, inner: HighwayState) -> View:
        """Returns the cars around ours. Its own strip reaches from where it is to the middle of the
        lane that it is heading for."""
        middle, y = LANE * self.aimed_lane(inner.car), inner.car.e_y
        half = LANE / 2
        return View(
            right=self.look(inner, middle - LANE - half, middle - LANE + half),
            own=self.look(
                inner, jnp.minimum(y, middle) - WIDTH / 2, jnp.maximum(y, middle) + WIDTH / 2
            ),
            left=self.look(inner, middle + LANE - half, middle + LANE + half),
        )

    def _possible(self, inner: HighwayState) -> jax.Array:
        """Returns the speed that is expected of our car: that of the car ahead, or what the others
        like to drive [m/s]."""
        ahead, _ = self.view(inner).own
        usual = jnp.minimum(self.dials.speed, self.dials.traffic_speed)
        return jnp.minimum(usual, jnp.where(ahead.gap < SIGHT, ahead.v, jnp.inf))

    def road_left(self, inner: HighwayState) -> jax.Array:
        """Returns how long the lane goes on that our car waits on beside the others [m]."""
        del inner
        return jnp.float32(jnp.inf)

    def _at_fault(self, car: vehicle.Car, cars: Cars, hit: jax.Array) -> jax.Array:
        """Returns whether our car is to blame for hitting one of the cars `hit`, bool[N].

        By nuPlan's rule it is if the other one stands; if the other one is not behind and meets our
        front bumper; or if it meets another part of our car, which is not within one lane.
        """
        x, y = traffic.ahead(car.s, cars.s, self.ring), cars.y - car.e_y
        cos, sin = jnp.cos(car.e_psi), jnp.sin(car.e_psi)
        along, across = traffic.rotated(x, y, -car.e_psi)
        behind = jnp.arctan2(jnp.abs(across), along + vehicle.REAR) > BEHIND
        bumper = traffic.overlap(x - LENGTH / 2 * cos, y - LENGTH / 2 * sin, car.e_psi, 0.0)
        shadow = WIDTH / 2 * jnp.abs(cos) + LENGTH / 2 * jnp.abs(sin)
        offset = car.e_y - LANE * traffic.lane_of(car.e_y, self.lanes)
        between = jnp.abs(offset) + shadow > LANE / 2
        blamed = (cars.v < STOPPED) | (~behind & (bumper | between))
        return (hit & blamed).any()

    def _time_to_collision(self, inner: HighwayState) -> jax.Array:
        """Returns the time after which our car hits the one ahead of it, in the strip that it
        covers within the next second, if neither changes its speed [s]."""
        strip = self._strip(inner.car)
        ahead, _ = self.look(inner, strip.right[0], strip.left[0])
        closing = inner.car.v_x * jnp.cos(inner.car.e_psi) - ahead.v
        time = jnp.maximum(ahead.gap, 0.0) / jnp.maximum(closing, 1e-3)
        closes = (ahead.gap < SIGHT) & (closing > 0.0)
        return jnp.minimum(jnp.where(closes, time, LONG_TIME), LONG_TIME)

    def _graded(self, inner: HighwayState) -> jax.Array:
        """Returns the graded cost of a car that has not failed."""
        car = inner.car
        inside = jnp.minimum(car.e_y - self.right_edge(car.s, inner.trip), self.left_edge - car.e_y)
        edge = 1.0 - (inside - OUT) / (LANE / 2 - OUT)
        close = 1.0 - self._time_to_collision(inner) / URGENT
        return jnp.clip(jnp.maximum(edge, close), 0.0, 1.0)

    def _observe(self, inner: HighwayState, failed: jax.Array) -> jax.Array:
        """Returns the observation, float32[O]."""
        car, cars = inner.car, inner.cars
        local, origin = road.window(inner.knots, car.s)
        here = self.dials.bend * road.curvature(local, car.s - origin)
        later = self.dials.bend * road.curvature(
            local, jnp.minimum(car.s - origin + car.v_x, 3 * road.SPACING)
        )
        ego = jnp.stack(
            [
                car.e_y - LANE * self.aimed_lane(car),
                car.e_y - self.right_edge(car.s, inner.trip),
                self.left_edge - car.e_y,
                car.e_psi,
                car.v_x,
                car.v_y,
                car.r,
                car.delta,
                here,
                later,
                failed,
            ]
        )
        along = car.v_x * jnp.cos(car.e_psi)
        if self.chosen["observation"] == "lanes":

            def seen(other: Neighbour) -> jax.Array:
                near = other.gap < SIGHT
                return jnp.stack(
                    [
                        jnp.minimum(other.gap, SIGHT),
                        jnp.where(near, other.v - along, 0.0),
                        near.astype(jnp.float32),
                    ]
                )

            rows = [seen(other) for pair in self.view(inner) for other in pair]
            return self._noisy(inner, jnp.concatenate([ego, *rows]))
        x = traffic.ahead(car.s, cars.s, self.ring)
        _, order = jax.lax.top_k(-jnp.abs(x), SEEN)
        near = (jnp.abs(x) < SIGHT).astype(jnp.float32)
        towards = LANE * cars.lane
        aside = traffic.sideways(cars)
        table = jnp.stack([near, x, cars.y - car.e_y, cars.v - along, aside, towards - car.e_y], 1)
        rows = (table * near[:, None])[order]
        return self._noisy(inner, jnp.concatenate([ego, rows.ravel()]))

    def _noisy(self, inner: HighwayState, observation: jax.Array) -> jax.Array:
        """Returns an observation with the sensors' noise."""
        normal = jax.random.normal(jax.random.fold_in(inner.key, 1), observation.shape)
        row = ROW_NOISE[self.chosen["observation"]]
        rows = (len(observation) - len(EGO_NOISE)) // len(row)
        scale = jnp.asarray(EGO_NOISE + row * rows, jnp.float32)
        return observation + self.dials.sensor_noise * normal * scale

    def whereabouts(self, state: State) -> dict[str, jax.Array]:
        """Returns the gap to the car ahead, at most `SIGHT`, and the offset from the middle of the
        lane that our car is heading for, as `World.whereabouts`."""
        inner = cast(HighwayState, state.pipeline_state)
        ahead, _ = self.view(inner).own
        offset = inner.car.e_y - LANE * self.aimed_lane(inner.car)
        return {
            "gap to the car ahead [m]": jnp.minimum(ahead.gap, SIGHT),
            "offset from the lane aimed at [m]": offset,
        }

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"track", "marks", "cars"}, as `World.picture`. Cars further away than `SIGHT`
        stand where the road is no longer shown."""
        return highway_picture.draw(self, cast(HighwayState, state.pipeline_state))

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the expert's action, float32[2]; deterministic, `key` is not used. See
        `highway_expert`."""
        del key
        steer, accel = highway_expert.drive(self, cast(HighwayState, state.pipeline_state))
        return jnp.clip(jnp.stack([steer / MAX_STEER, accel / MAX_ACCEL]), -1.0, 1.0)

    def waiting(self, inner: HighwayState) -> tuple[jax.Array, jax.Array]:
        """Returns whether our car is beside the lanes, bool[], and the lateral position at which
        the expert waits there for a gap [m]."""
        y, edge = inner.car.e_y, -LANE / 2
        right = y < edge
        line = jnp.where(right, edge - ASIDE, self.left_edge + ASIDE)
        return right | (y > self.left_edge), line


ROWS = {"lanes": 6, "kinematics": SEEN}
"""Number of other cars in each observation."""
EGO_NOISE = (0.1, 0.1, 0.1, 0.01, 0.5, 0.1, 0.02, 0.01, 1e-4, 1e-4, 0.0)
"""Noise of our own car's entries at a dial `sensor_noise` of 1, in the entries' units."""
ROW_NOISE = {"lanes": (1.0, 0.5, 0.0), "kinematics": (0.0, 1.0, 0.2, 0.5, 0.2, 0.0)}
"""The same for the entries of another car."""
AIM_TIME = 1.5
"""The lane that a car is heading for is where its heading leads it in this time [s]."""
