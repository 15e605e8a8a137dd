"""Traffic on a ring of parallel lanes: the intelligent driver model (IDM) for speeds and MOBIL for
lane changes.

Sources: Treiber, Hennecke and Helbing, "Congested traffic states in empirical observations and
microscopic simulations" (2000), and Kesting, Treiber and Helbing, "General lane-changing model
MOBIL for car-following models" (2007).

Lanes are numbered from the right; lane k is centred at y = k `LANE`. Positions s are arc lengths
along the road, which are compared modulo the length of the ring. So cars neither enter nor leave,
and the density stays what it is.

Two cars are in each other's way if the strips of road that they occupy overlap. A strip is a car's
width, swept from where the car is to where it is going: a car that changes lanes is in both.

Cars look to the left in one step and to the right in the next, so two cars never choose the same
gap from both sides in the same step.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

LENGTH, WIDTH = 4.5, 1.8
"""Length and width of every car [m]."""
LANE = 3.5
"""Width of a lane [m]. It is less than twice `WIDTH`, so no car fits between two others."""
HARDEST = 9.0
"""Strongest braking [m/s²]."""
SUDDEN, SUDDEN_TIME = 5.0, 1.5
"""Deceleration [m/s²] and duration [s] of braking without a reason."""
LEAST_GAP = 0.1
"""Gaps below this count as this in the IDM, whose acceleration is singular at 0 [m]."""
SIDEWAYS, SIDEWAYS_TIME = 1.5, 1.0
"""Lane changes: highest lateral speed [m/s], and time constant at their end [s]."""
STEEPEST = 0.3
"""Highest lateral speed over the forward speed [1]."""
SETTLED = 0.4
"""A car may change lanes again once it is this close to the middle of its lane [m]."""
SIGHT = 120.0
"""Cars further away than this are not seen [m]."""
NOBODY = 1e4
"""Distance to a car that does not exist [m]."""


class Driver(NamedTuple):
    """Parameters of IDM and MOBIL; every field is a float or float32[]."""

    accel: float | jax.Array
    """Highest acceleration a [m/s²]."""
    brake: float | jax.Array
    """Comfortable deceleration b [m/s²]."""
    headway: float | jax.Array
    """Desired time gap T [s]."""
    spacing: float | jax.Array
    """Gap at rest s0, from bumper to bumper [m]."""
    exponent: float | jax.Array
    """Exponent delta of the free acceleration [1]."""
    politeness: float | jax.Array
    """Weight of the followers' accelerations in MOBIL [1]."""
    gain: float | jax.Array
    """Advantage that a lane change must have [m/s²]."""
    safe: float | jax.Array
    """Strongest braking that a lane change may impose on the new follower [m/s²]."""


PRESETS = {
    "highway_env": Driver(3.0, 5.0, 1.5, 5.0, 4.0, 0.0, 0.2, 2.0),
    "waymax": Driver(2.0, 4.0, 2.0, 2.0, 4.0, 0.0, 0.2, 2.0),
}
"""Drivers with the default parameters of two simulators. HighwayEnv measures distances between the
middles of cars, and its 10 m less a length of 5 m are s0 here. Waymax has the IDM alone; its MOBIL
parameters here are HighwayEnv's."""


class Cars(NamedTuple):
    """The cars around ours; every field is [N]."""

    s: jax.Array
    """float32, arc length along the road [m]."""
    y: jax.Array
    """float32, lateral position, positive to the left [m]."""
    v: jax.Array
    """float32, speed [m/s]."""
    lane: jax.Array
    """float32, number of the lane that the car is in or changes to."""
    desired: jax.Array
    """float32, speed that the driver wants [m/s]."""
    braking: jax.Array
    """float32, time for which the driver still brakes without a reason [s]; 0 or below if not."""


class Strip(NamedTuple):
    """What cars occupy and how fast they move; every field is float32[M]."""

    s: jax.Array
    """Arc length [m]."""
    right: jax.Array
    """Right edge of the strip [m]."""
    left: jax.Array
    """Left edge of the strip [m]."""
    v: jax.Array
    """Speed along the road [m/s]."""
    desired: jax.Array
    """Speed that the driver wants [m/s]."""


class Neighbour(NamedTuple):
    """The nearest car ahead or behind; every field has the shape of the cars that look."""

    gap: jax.Array
    """Gap from bumper to bumper [m]; negative if the two overlap along the road, about `NOBODY`
    if there is none."""
    v: jax.Array
    """Its speed [m/s]; 0 if there is none."""
    desired: jax.Array
    """The speed that its driver wants [m/s]; 0 if there is none."""


def strips(
    s: jax.Array, y: jax.Array, towards: jax.Array, v: jax.Array, desired: jax.Array
) -> Strip:
    """Returns the strips of cars at y [m] that are moving to the lateral position `towards` [m]."""
    return Strip(
        s, jnp.minimum(y, towards) - WIDTH / 2, jnp.maximum(y, towards) + WIDTH / 2, v, desired
    )


def idm(
    v: jax.Array, desired: jax.Array, gap: jax.Array, leader: jax.Array, driver: Driver
) -> jax.Array:
    """Returns the acceleration [m/s²] of the intelligent driver model.

        a (1 - (v / v0)^delta - (s* / gap)^2)
        s* = s0 + max(0, v T + v (v - v_leader) / (2 sqrt(a b)))

    Args:
      v: speed [m/s].
      desired: v0, the speed that the driver wants [m/s].
      gap: to the car ahead, from bumper to bumper [m].
      leader: speed of the car ahead [m/s].
      driver: the parameters.
    """
    scale = 2.0 * jnp.sqrt(driver.accel * driver.brake)
    wanted = driver.spacing + jnp.maximum(0.0, v * driver.headway + v * (v - leader) / scale)
    free = (v / jnp.maximum(desired, 1.0)) ** driver.exponent
    close = (wanted / jnp.maximum(gap, LEAST_GAP)) ** 2
    return jnp.maximum(driver.accel * (1.0 - free - close), -HARDEST)


def around(
    s: jax.Array,
    right: jax.Array,
    left: jax.Array,
    itself: jax.Array,
    others: Strip,
    ring: jax.Array,
) -> tuple[Neighbour, Neighbour]:
    """Finds the nearest car ahead and the nearest one behind within a strip of road.

    Args:
      s: float32[...], where the looking cars are [m].
      right, left: float32[...], the edges of the strip that each of them looks along [m].
      itself: bool[..., M], which of the others each looking car is.
      others: M cars.
      ring: float32[], length of the ring [m].

    Returns:
      (ahead, behind), float32[...] each.
    """
    in_way = (others.left > right[..., None]) & (others.right < left[..., None]) & ~itself
    distance = jnp.mod(others.s - s[..., None], ring)

    def nearest(away: jax.Array) -> Neighbour:
        away = jnp.where(in_way, away, NOBODY)
        least = away.min(-1)
        it = in_way & (away == least[..., None])
        v, desired = (jnp.where(it, x, 0.0).max(-1) for x in (others.v, others.desired))
        return Neighbour(least - LENGTH, v, desired)

    return nearest(distance), nearest(ring - distance)


def advantage(
    v: jax.Array,
    desired: jax.Array,
    here: tuple[Neighbour, Neighbour],
    there: tuple[Neighbour, Neighbour],
    driver: Driver,
) -> tuple[jax.Array, jax.Array]:
    """Evaluates a lane change by MOBIL.

    Args:
      v, desired: float32[...], speed and desired speed of the car that may change [m/s].
      here, there: the cars ahead and behind in its lane and in the other one.
      driver: the parameters, of all cars alike.

    Returns:
      incentive: float32[...], its own gain of acceleration and, times the politeness, that of the
        two followers [m/s²].
      safe: bool[...], whether the new follower need not brake harder than `driver.safe` and there
        is room.
    """
    (ahead, behind), (new_ahead, new_behind) = here, there
    own = idm(v, desired, new_ahead.gap, new_ahead.v, driver) - idm(
        v, desired, ahead.gap, ahead.v, driver
    )

    def follower(car: Neighbour, before: Neighbour) -> tuple[jax.Array, jax.Array]:
        """The accelerations of a follower behind this car and behind the one ahead of it."""
        behind_this = idm(car.v, car.desired, car.gap, v, driver)
        room = car.gap + LENGTH + before.gap
        return behind_this, idm(car.v, car.desired, room, before.v, driver)

    new_after, new_before = follower(new_behind, new_ahead)
    old_before, old_after = follower(behind, ahead)
    incentive = own + driver.politeness * (new_after - new_before + old_after - old_before)
    room = (new_ahead.gap > 0.0) & (new_behind.gap > 0.0)
    return incentive, room & (new_after >= -driver.safe)


def sideways(cars: Cars) -> jax.Array:
    """Returns the cars' lateral speeds, float32[N] [m/s]."""
    away = LANE * cars.lane - cars.y
    aside = jnp.clip(away / SIDEWAYS_TIME, -SIDEWAYS, SIDEWAYS)
    # A car at rest does not move sideways.
    return jnp.clip(aside, -STEEPEST * cars.v, STEEPEST * cars.v)


def lane_of(y: jax.Array, lanes: jax.Array) -> jax.Array:
    """Returns the number of the lane nearest to y [m], as a float."""
    return jnp.clip(jnp.round(y / LANE), 0.0, lanes - 1.0)


def step(
    cars: Cars,
    ours: Strip,
    to_left: jax.Array,
    lanes: jax.Array,
    ring: jax.Array,
    driver: Driver,
    startled: jax.Array,
    dt: float,
) -> Cars:
    """Moves the traffic by one step.

    Args:
      cars: N cars.
      ours: our own car, float32[1] each; traffic treats it as any other.
      to_left: bool[], whether cars look to the left in this step; to the right if not.
      lanes: float32[], number of lanes.
      ring: float32[], length of the ring [m].
      driver: the parameters of all drivers.
      startled: bool[N], the drivers who begin to brake without a reason.
      dt: duration of a step [s].

    Returns:
      The cars after the step.
    """
    middle = LANE * cars.lane
    own = strips(cars.s, cars.y, middle, cars.v, cars.desired)
    everybody = Strip(*(jnp.concatenate(pair) for pair in zip(own, ours, strict=True)))
    count = len(cars.s)
    itself = jnp.eye(count, count + 1, dtype=bool)
    here = around(cars.s, own.right, own.left, itself, everybody, ring)
    accel = idm(cars.v, cars.desired, here[0].gap, here[0].v, driver)
    braking = jnp.where(startled, SUDDEN_TIME, cars.braking - dt)
    accel = jnp.where(braking > 0.0, jnp.minimum(accel, -SUDDEN), accel)

    lane = cars.lane + jnp.where(to_left, 1.0, -1.0)
    half = LANE / 2
    there = around(cars.s, LANE * lane - half, LANE * lane + half, itself, everybody, ring)
    incentive, safe = advantage(cars.v, cars.desired, here, there, driver)
    exists = (lane >= 0.0) & (lane <= lanes - 1.0)
    changes = exists & safe & (incentive > driver.gain) & (jnp.abs(cars.y - middle) < SETTLED)

    v = jnp.maximum(cars.v + dt * accel, 0.0)
    return Cars(
        s=jnp.mod(cars.s + dt * 0.5 * (cars.v + v), ring),
        y=cars.y + dt * sideways(cars),
        v=v,
        lane=jnp.where(changes, lane, cars.lane),
        desired=cars.desired,
        braking=braking,
    )


def ahead(s: jax.Array, others: jax.Array, ring: jax.Array) -> jax.Array:
    """Returns how far ahead of s [m] the others are on the shorter way round the ring, negative
    behind [m]; float32 of the shape of `others`."""
    return jnp.mod(others - s + ring / 2, ring) - ring / 2


def collide(
    s: jax.Array, y: jax.Array, heading: jax.Array, cars: Cars, ring: jax.Array
) -> jax.Array:
    """Returns which cars our car's box overlaps, bool[N].

    Args:
      s, y: float32[], the middle of our car [m].
      heading: float32[], relative to the road [rad].
      cars: N cars.
      ring: float32[], length of the ring [m].
    """
    return overlap(ahead(s, cars.s, ring), cars.y - y, heading, LENGTH)


def rotated(x: jax.Array, y: jax.Array, angle: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a vector in the plane, rotated to the left by an angle [rad]."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def overlap(
    x: jax.Array, across: jax.Array, heading: jax.Array, length: float = LENGTH
) -> jax.Array:
    """Returns which boxes of cars that lie along the road overlap ours, bool[N].

    Theirs are `LENGTH` by `WIDTH`, ours is `length` by `WIDTH`. Two rectangles are apart exactly if
    one of their four axes separates them.

    Args:
      x, across: float32[N], their middles less that of our box, along and across the road [m].
      heading: float32[], by which our box is turned [rad].
      length: of our box [m]; 0: a bumper.
    """
    own_x, own_y = rotated(x, across, -heading)
    cos, sin = jnp.abs(jnp.cos(heading)), jnp.abs(jnp.sin(heading))
    long, wide = 0.5 * length, 0.5 * WIDTH
    # Half the length of one rectangle's shadow on the other's axes.
    theirs = (jnp.abs(x) < LENGTH / 2 + long * cos + wide * sin) & (
        jnp.abs(across) < WIDTH / 2 + long * sin + wide * cos
    )
    own = (jnp.abs(own_x) < long + LENGTH / 2 * cos + WIDTH / 2 * sin) & (
        jnp.abs(own_y) < wide + LENGTH / 2 * sin + WIDTH / 2 * cos
    )
    return theirs & own
