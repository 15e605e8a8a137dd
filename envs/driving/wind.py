"""A gusting crosswind, an Ornstein-Uhlenbeck process."""

from __future__ import annotations

import math
from typing import Any

import jax

from envs.core import dial

TIME = 2.0
"""Correlation time [s]."""


def crosswind_dial() -> Any:
    """Declares the dial of the crosswind's standard deviation."""
    return dial(
        4.0,
        "standard deviation of the crosswind (Ornstein-Uhlenbeck, 2 s)",
        unit="m/s",
        low=0,
        high=15,
    )


def blow(wind: jax.Array, deviation: jax.Array | float, draw: jax.Array, dt: float) -> jax.Array:
    """Returns the crosswind [m/s] a control step later.

    Args:
      wind: float32[], the crosswind now [m/s].
      deviation: its standard deviation [m/s].
      draw: float32[], standard normal.
      dt: duration of the step [s].
    """
    pull_back = math.exp(-dt / TIME)
    return pull_back * wind + deviation * math.sqrt(1.0 - pull_back**2) * draw
