"""Whether a ride is comfortable, by the bounds of nuPlan's metrics (Caesar et al., "nuPlan: a
closed-loop ML-based planning benchmark for autonomous vehicles", 2021).

nuPlan smooths accelerations before it looks at them. Here they are the means of one step, so these
figures are higher than nuPlan's would be.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs.driving import vehicle

ACCEL = (-4.05, 2.40)
"""Longitudinal acceleration [m/s²]."""
LATERAL = 4.89
"""Size of the lateral acceleration [m/s²]."""
JERK, FORWARD_JERK = 8.37, 4.13
"""Size of the jerk, and of its longitudinal part [m/s³]."""
YAW_RATE, YAW_ACCEL = 0.95, 1.93
"""Sizes of the yaw rate [rad/s] and of its derivative [rad/s²]."""


class Motion(NamedTuple):
    """What the passengers feel; every field is float32[]."""

    forward: jax.Array
    """Longitudinal acceleration [m/s²]."""
    lateral: jax.Array
    """Lateral acceleration [m/s²]."""
    yaw_rate: jax.Array
    """Yaw rate [rad/s]."""
    known: jax.Array
    """1 after a step that the car drove; 0 where it was put, after which no change is felt."""


def motion(before: vehicle.Car, after: vehicle.Car, dt: float) -> Motion:
    """Returns the mean accelerations over a step of `dt` seconds between two states of a car."""
    r = 0.5 * (before.r + after.r)
    v_x, v_y = 0.5 * (before.v_x + after.v_x), 0.5 * (before.v_y + after.v_y)
    return Motion(
        (after.v_x - before.v_x) / dt - r * v_y,
        (after.v_y - before.v_y) / dt + r * v_x,
        after.r,
        jnp.ones(()),
    )


def uncomfortable(before: Motion, after: Motion, dt: float) -> jax.Array:
    """Returns whether a bound is exceeded in a step of `dt` seconds, 1.0 or 0.0. Those of changes
    need a known motion before it."""
    forward_jerk = before.known * (after.forward - before.forward) / dt
    jerk = jnp.hypot(forward_jerk, before.known * (after.lateral - before.lateral) / dt)
    exceeded = jnp.stack(
        [
            after.forward < ACCEL[0],
            after.forward > ACCEL[1],
            jnp.abs(after.lateral) > LATERAL,
            jerk > JERK,
            jnp.abs(forward_jerk) > FORWARD_JERK,
            jnp.abs(after.yaw_rate) > YAW_RATE,
            before.known * jnp.abs(after.yaw_rate - before.yaw_rate) / dt > YAW_ACCEL,
        ]
    )
    return exceeded.any().astype(jnp.float32)
