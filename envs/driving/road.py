"""Procedural clothoid roads: curvature piecewise linear in arc length, a new road for every
episode.

A road is its curvature at knots `SPACING` metres apart; it repeats after `KNOTS * SPACING` metres.
Whoever drives it only needs the few knots around the car (`window`), from which curvature, heading
and lane points ahead follow in closed form.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

KNOTS = 128
SPACING = 20.0
"""Distance of two knots [m]."""
MAX_CURVATURE = 0.0125
"""Tightest curve [1/m]: 80 m radius."""
STRAIGHT = 0.3
"""Probability that a knot is straight."""
POINTS, POINT_SPACING = 10, 4.0
"""Lane points ahead and their distance along the lane [m]."""


def generate(key: jax.Array) -> jax.Array:
    """Curvature at the knots, float32[KNOTS] [1/m]."""
    which, size = jax.random.split(key)
    kappa = jax.random.uniform(size, (KNOTS,), minval=-MAX_CURVATURE, maxval=MAX_CURVATURE)
    return jnp.where(jax.random.uniform(which, (KNOTS,)) < STRAIGHT, 0.0, kappa)


def window(knots: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The four knots from the one behind arc length `s`, float32[4], and that knot's own arc
    length [m]."""
    first = jnp.floor(s / SPACING)
    index = (first.astype(jnp.int32) + jnp.arange(4)) % KNOTS
    return knots[index], first * SPACING


def curvature(local: jax.Array, x: jax.Array) -> jax.Array:
    """Curvature [1/m] at x [m] past the first knot of the window `local`, 0 <= x <= 3 SPACING."""
    slope = jnp.diff(local) / SPACING
    ramp = jax.nn.relu(x - SPACING), jax.nn.relu(x - 2 * SPACING)
    return (
        local[0] + slope[0] * x + (slope[1] - slope[0]) * ramp[0] + (slope[2] - slope[1]) * ramp[1]
    )


def turned(local: jax.Array, x: jax.Array) -> jax.Array:
    """Heading change [rad] of the lane over the first x [m] of the window: the integral of
    `curvature`."""
    slope = jnp.diff(local) / SPACING
    ramp = jax.nn.relu(x - SPACING), jax.nn.relu(x - 2 * SPACING)
    bends = (slope[1] - slope[0]) * ramp[0] ** 2 + (slope[2] - slope[1]) * ramp[1] ** 2
    return local[0] * x + 0.5 * (slope[0] * x * x + bends)


def points_ahead(local: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lane points 4, 8, ..., 40 m ahead of x in the lane's frame there: forward and left
    coordinate, float32[POINTS] each [m].

    Positions are the midpoint sums of the exact heading; the error is below 2 cm for curvatures up
    to MAX_CURVATURE.
    """
    middle = x + POINT_SPACING * (jnp.arange(POINTS) + 0.5)
    heading = turned(local, middle) - turned(local, x)
    return POINT_SPACING * jnp.cumsum(jnp.cos(heading)), POINT_SPACING * jnp.cumsum(
        jnp.sin(heading)
    )


def centre_line(
    knots: jax.Array, s: jax.Array, step: float = 0.05
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """World pose (x, y, heading) of the centre line at increasing arc lengths s[n] [m], for
    drawing; starts at the origin."""
    count = int(jnp.ceil(s[-1] / step)) + 1
    grid = jnp.arange(count) * step

    def at(position):
        local, origin = window(knots, position)
        return curvature(local, position - origin)

    heading = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jax.vmap(at)(grid + step / 2) * step)])
    middle = 0.5 * (heading[1:] + heading[:-1])
    zero = jnp.zeros(1)
    x = jnp.concatenate([zero, jnp.cumsum(jnp.cos(middle) * step)])
    y = jnp.concatenate([zero, jnp.cumsum(jnp.sin(middle) * step)])
    nodes = jnp.arange(count + 1) * step
    return jnp.interp(s, nodes, x), jnp.interp(s, nodes, y), jnp.interp(s, nodes, heading)
