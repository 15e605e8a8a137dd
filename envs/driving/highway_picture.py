"""The picture of `highway` and `merge`: the road around our car, its marks and the other cars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from envs.driving import road, traffic
from envs.driving.traffic import LANE

if TYPE_CHECKING:
    from envs.driving.highway import Highway, HighwayState

SHOWN, SHOWN_STEP, SHOWN_BEHIND = 90, 2.0, 60.0
"""Points of the road in pictures: their number, their distance, and the length of road behind our
car [m]."""


def draw(world: Highway, inner: HighwayState) -> dict[str, jax.Array]:
    """Returns {"track", "marks", "cars"}, as `World.picture`."""
    car, cars = inner.car, inner.cars
    grid = jnp.arange(road.KNOTS * int(road.SPACING) + 1, dtype=jnp.float32)

    def curvature(s: jax.Array) -> jax.Array:
        local, origin = road.window(inner.knots, s)
        return world.dials.bend * road.curvature(local, s - origin)

    zero = jnp.zeros(1)
    turn = jnp.concatenate([zero, jnp.cumsum(jax.vmap(curvature)(grid[:-1] + 0.5))])
    half = 0.5 * (turn[1:] + turn[:-1])
    x, y = (jnp.concatenate([zero, jnp.cumsum(f(half))]) for f in (jnp.cos, jnp.sin))

    def place(s: jax.Array, left: jax.Array) -> jax.Array:
        """x [m], y [m] and heading [rad] beside the road, float32[..., 3]."""
        # After a period the road repeats, turned by `turn[-1]`. So k periods are a sum of k
        # turned vectors: sum_j exp(i j a) = exp(i (k - 1) a / 2) sin(k a / 2) / sin(a / 2).
        k, within = jnp.floor(s / grid[-1]), jnp.mod(s, grid[-1])
        angle, middle, side = (jnp.interp(within, grid, values) for values in (turn, x, y))
        half = turn[-1] / 2
        flat = jnp.abs(jnp.sin(half)) < 1e-6
        many = jnp.where(flat, k, jnp.sin(k * half) / jnp.where(flat, 1.0, jnp.sin(half)))
        to_x, to_y = traffic.rotated(many * x[-1], many * y[-1], (k - 1.0) * half)
        middle, side = traffic.rotated(middle, side, 2.0 * k * half)
        middle, side, angle = middle + to_x, side + to_y, angle + 2.0 * k * half
        return jnp.stack([middle - left * jnp.sin(angle), side + left * jnp.cos(angle), angle], -1)

    along = jnp.arange(SHOWN) * SHOWN_STEP - SHOWN_BEHIND
    s = jnp.maximum(car.s + along, 0.0)
    right = jax.vmap(lambda s: world.right_edge(s, inner.trip))(s)
    points = jnp.concatenate(
        [
            place(s, jnp.zeros(SHOWN)),
            jnp.broadcast_to(world.left_edge, (SHOWN, 1)),
            -right[:, None],
        ],
        1,
    )
    here = place(car.s, car.e_y)
    pose = jnp.stack([here[0], here[1], here[2] + car.e_psi, here[2]])
    ahead = traffic.ahead(car.s, cars.s, world.ring)
    others = place(jnp.maximum(car.s + ahead, 0.0), cars.y)
    lean = jnp.arctan2(traffic.sideways(cars), jnp.maximum(cars.v, 1.0))
    return {
        "track": jnp.concatenate([pose, points.ravel()]),
        "marks": jnp.minimum(LANE * (jnp.arange(5) - 0.5), world.left_edge),
        "cars": others.at[:, 2].add(lean),
    }
