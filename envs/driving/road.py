"""Procedural clothoid roads, a new one for every episode. Curvature is piecewise linear in arc
length.

A road is given by its curvature at knots `SPACING` metres apart; it repeats after `KNOTS * SPACING`
metres. The four knots around the car (`window`) give curvature, heading and the lane points ahead
in closed form.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs.driving.vehicle import MIN_FRENET

KNOTS = 128
"""Knots of a road."""
SPACING = 20.0
"""Distance of two knots [m]."""
MAX_CURVATURE = 0.0125
"""Tightest curve [1/m]: 80 m radius."""
STRAIGHT = 0.3
"""Probability that a knot is straight."""
POINTS, POINT_SPACING = 10, 4.0
"""Lane points ahead and their distance along the lane [m]."""


def generate(key: jax.Array) -> jax.Array:
    """Draws a road: float32[KNOTS], the curvature at its knots [1/m]. `key` is consumed."""
    which, size = jax.random.split(key)
    kappa = jax.random.uniform(size, (KNOTS,), minval=-MAX_CURVATURE, maxval=MAX_CURVATURE)
    return jnp.where(jax.random.uniform(which, (KNOTS,)) < STRAIGHT, 0.0, kappa)


def window(knots: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the curvature [1/m] at four knots, float32[4], the first one just behind arc length
    `s` [m], and the arc length [m] of the first."""
    first = jnp.floor(s / SPACING)
    index = (first.astype(jnp.int32) + jnp.arange(4)) % KNOTS
    return knots[index], first * SPACING


def curvature(local: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the curvature [1/m] at x [m] past the first knot of the window `local`, for
    0 <= x <= 3 SPACING."""
    slope = jnp.diff(local) / SPACING
    ramp = jax.nn.relu(x - SPACING), jax.nn.relu(x - 2 * SPACING)
    return (
        local[0] + slope[0] * x + (slope[1] - slope[0]) * ramp[0] + (slope[2] - slope[1]) * ramp[1]
    )


def turned(local: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the change of the lane's heading [rad] over the first x [m] of the window, which is
    the integral of `curvature`."""
    slope = jnp.diff(local) / SPACING
    ramp = jax.nn.relu(x - SPACING), jax.nn.relu(x - 2 * SPACING)
    bends = (slope[1] - slope[0]) * ramp[0] ** 2 + (slope[2] - slope[1]) * ramp[1] ** 2
    return local[0] * x + 0.5 * (slope[0] * x * x + bends)


def points_ahead(local: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the lane points 4, 8, ..., 40 m ahead of x, in the lane's frame at x: their forward
    and left coordinates, float32[POINTS] each [m].

    Positions are midpoint sums over the exact heading; their error is below 2 cm for curvatures up
    to MAX_CURVATURE.
    """
    middle = x + POINT_SPACING * (jnp.arange(POINTS) + 0.5)
    heading = turned(local, middle) - turned(local, x)
    return POINT_SPACING * jnp.cumsum(jnp.cos(heading)), POINT_SPACING * jnp.cumsum(
        jnp.sin(heading)
    )


def foot(
    local: jax.Array, x: jax.Array, ahead: jax.Array, left: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns where the lane is nearest to a point: the arc length of that place past x [m], and
    the point's distance to the left of it [m].

    Three steps of Newton's method on the heading's exact integral. Positions along the lane are
    two-point Gauss sums over it. Within 3 m of x and 6 m of the lane both are right to 1e-4 m,
    within 1 m of x to 1e-5 m.

    Args:
      local: float32[4], a window.
      x: position past its first knot [m]; the place found lies in the window, too.
      ahead, left: coordinates of the point in the lane's frame at x [m].
    """
    start = turned(local, x)
    gauss = 0.5 + jnp.array([-0.5, 0.5]) / jnp.sqrt(3.0)

    def beside(d: jax.Array) -> tuple[jax.Array, jax.Array]:
        heading = turned(local, x + d * gauss) - start
        east, north = ahead - d * jnp.cos(heading).mean(), left - d * jnp.sin(heading).mean()
        angle = turned(local, x + d) - start
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return cos * east + sin * north, cos * north - sin * east

    d = ahead
    for _ in range(3):
        rest, offset = beside(d)
        d = d + rest / jnp.maximum(1.0 - curvature(local, x + d) * offset, MIN_FRENET)
    return d, beside(d)[1]


def centre_line(
    knots: jax.Array, s: jax.Array, step: float = 0.05
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the centre line's pose at increasing arc lengths, for drawing.

    Args:
      knots: float32[KNOTS], of the road.
      s: float32[n], arc lengths from 0 on [m].
      step: of the integration [m].

    Returns:
      (x [m], y [m], heading [rad]), float32[n] each; the line starts at the origin along x.
    """
    count = int(jnp.ceil(s[-1] / step)) + 1
    grid = jnp.arange(count) * step

    def at(position: jax.Array) -> jax.Array:
        local, origin = window(knots, position)
        return curvature(local, position - origin)

    heading = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jax.vmap(at)(grid + step / 2) * step)])
    middle = 0.5 * (heading[1:] + heading[:-1])
    zero = jnp.zeros(1)
    x = jnp.concatenate([zero, jnp.cumsum(jnp.cos(middle) * step)])
    y = jnp.concatenate([zero, jnp.cumsum(jnp.sin(middle) * step)])
    nodes = jnp.arange(count + 1) * step
    return jnp.interp(s, nodes, x), jnp.interp(s, nodes, y), jnp.interp(s, nodes, heading)
