"""The expert of `highway` and `merge`: the IDM for its speed, MOBIL for its lane, and steering.

Which lane it is changing to shows in its heading, so it needs no memory, and its answer at a state
does not depend on how the car got there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from envs.driving import road, traffic, vehicle
from envs.driving.traffic import LANE, SIGHT, Neighbour

if TYPE_CHECKING:
    from envs.driving.highway import Highway, HighwayState

MARGIN = 3.0
"""Least gap that the expert leaves ahead and behind when it changes lanes [m]."""
CRITICAL_TIME = 0.4
"""From beside the lanes the expert enters a gap if each of the two cars that follow has this time
gap [s], and room to brake."""
GENTLE, RESERVE, SLOWEST = 4.0, 10.0, 0.52
"""Beside the lanes the expert could stop at this deceleration [m/s²] this far before its lane ends
[m]; it drives no slower than this share of what the others like to drive: a car that is slower
holds them up as soon as the one ahead of it changes lanes."""
WIDENING = 1.0
"""A gap that widens counts as long as it will be after this time [s]."""
HURRY = 0.4
"""By this share a gap may become shorter once the expert has begun to enter it."""
PREVIEW = 0.15
"""Time by which the expert's feedforward leads, about the steering lag [s]."""
ASIDE_TIME, FASTEST_ASIDE, STEEPEST = 1.6, 1.3, 0.12
"""The expert's lateral speed: time constant [s], limit [m/s], and limit of the heading [rad]."""
YAW_GAIN, YAW_DAMPING = 2.0, 0.05
"""Yaw rate per heading error [1/s], and steering per yaw-rate error [s]."""


def drive(world: Highway, inner: HighwayState) -> tuple[jax.Array, jax.Array]:
    """Returns the steering angle [rad] and the acceleration [m/s²], float32[] each.

    On the lanes it keeps its distance by the IDM and changes lanes by MOBIL. It turns back from a
    change in which the lane is no longer free. Beside the lanes it waits for a gap.
    """
    car, driver = inner.car, world.driver
    speed = car.v_x * jnp.cos(car.e_psi)
    desired = jnp.float32(1.0) * world.dials.speed
    lane, view = world.aimed_lane(car), world.view(inner)

    def follow(ahead: Neighbour) -> jax.Array:
        return traffic.idm(speed, desired, ahead.gap, ahead.v, driver)

    def considered(number: jax.Array, there: tuple[Neighbour, Neighbour]) -> jax.Array:
        """The incentive to change to a lane, -inf if it does not exist or is not free."""
        incentive, safe = traffic.advantage(speed, desired, view.own, there, driver)
        exists = (number >= 0.0) & (number <= world.lanes - 1.0)
        wide = (there[0].gap > MARGIN) & (there[1].gap > MARGIN)
        return jnp.where(exists & safe & wide, incentive, -jnp.inf)

    to_left, to_right = considered(lane + 1.0, view.left), considered(lane - 1.0, view.right)
    left = (to_left > driver.gain) & (to_left >= to_right)
    right = (to_right > driver.gain) & ~left
    new_lane = lane + jnp.where(left, 1.0, 0.0) - jnp.where(right, 1.0, 0.0)
    accel = follow(view.own[0])
    accel = jnp.where(left, jnp.minimum(accel, follow(view.left[0])), accel)
    accel = jnp.where(right, jnp.minimum(accel, follow(view.right[0])), accel)

    # Less than half way over, it turns back if the lane is no longer free.
    middle = LANE * lane
    there = world.look(inner, middle - LANE / 2, middle + LANE / 2)
    taken = ~jnp.isfinite(considered(lane, there))
    outset = traffic.lane_of(car.e_y, world.lanes)
    new_lane = jnp.where((outset != lane) & taken, outset, new_lane)

    target = LANE * new_lane
    waits, line = world.waiting(inner)
    wait_accel, goes = _find_gap(world, inner, view.own, jnp.abs(car.e_y - line))
    target = jnp.where(waits, jnp.where(goes, LANE * lane, line), target)
    accel = jnp.where(waits, wait_accel, accel)

    local, origin = road.window(inner.knots, car.s)
    x = jnp.minimum(car.s - origin + PREVIEW * car.v_x, 3 * road.SPACING)
    kappa = world.dials.bend * road.curvature(local, x)
    aside = jnp.clip((target - car.e_y) / ASIDE_TIME, -FASTEST_ASIDE, FASTEST_ASIDE)
    heading = jnp.clip(aside / car.v_x, -STEEPEST, STEEPEST)
    rate = jnp.clip(YAW_GAIN * (heading - car.e_psi), -0.4, 0.4)
    steer = vehicle.WHEELBASE * (kappa + rate / car.v_x) - YAW_DAMPING * (
        car.r - car.v_x * kappa - rate
    )
    return steer, accel


def _find_gap(
    world: Highway, inner: HighwayState, pair: tuple[Neighbour, Neighbour], over: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the acceleration with which the expert looks for a gap between the two cars
    beside it [m/s²], and whether it may drive into it, bool[]. The gap may be the shorter, the
    further the car is `over` from where it waits [m]."""
    ahead, behind = pair
    driver = world.driver
    speed = inner.car.v_x * jnp.cos(inner.car.e_psi)

    def critical(rear: jax.Array, front: jax.Array) -> jax.Array:
        """The least gap between two cars with these speeds. It may be shorter if it widens."""
        closing, opening = jnp.maximum(rear - front, 0.0), jnp.maximum(front - rear, 0.0)
        room = CRITICAL_TIME * rear + rear * closing / (2.0 * driver.brake)
        return MARGIN + jnp.maximum(room - WIDENING * opening, 0.0)

    # Nobody is as good as somebody far away with the same speed.
    front = jnp.where(ahead.gap < SIGHT, ahead.v, speed)
    rear = jnp.where(behind.gap < SIGHT, behind.v, speed)
    share = 1.0 - HURRY * jnp.clip(over, 0.0, 1.0)
    goes = (ahead.gap > share * critical(speed, front)) & (
        behind.gap > share * critical(rear, speed)
    )
    # Level with a gap that is long enough it steers for the middle of the gap. Otherwise it
    # lets the car behind pass.
    enough = ahead.gap + behind.gap > 2.4 * critical(jnp.minimum(front, rear), rear)
    space = ahead.gap - behind.gap
    level = jnp.where(space > 0.0, rear, front) + jnp.clip(0.25 * space, -6.0, 6.0)
    level = jnp.where((ahead.gap > SIGHT) & (behind.gap > SIGHT), world.dials.speed, level)
    wanted = jnp.where(enough, level, behind.v - 4.0)
    # It could still stop before the lane ends that it is on.
    most = jnp.sqrt(2.0 * GENTLE * jnp.maximum(world.road_left(inner) - RESERVE, 0.0))
    usual = jnp.minimum(world.dials.speed, world.dials.traffic_speed)
    wanted = jnp.clip(jnp.minimum(wanted, most), SLOWEST * usual, world.dials.speed)
    return jnp.clip(wanted - speed, -4.0, 3.0), goes
