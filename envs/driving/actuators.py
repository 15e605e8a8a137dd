"""What happens to an action between the policy and the car: noise, and a delay."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from envs.core import dial


def noise_dial() -> Any:
    """Declares the dial of the noise that is added to an action."""
    return dial(
        0.0, "standard deviation of Gaussian noise added to each executed action", low=0, high=1
    )


def delay_dial(dt: float, kept: int) -> Any:
    """Declares the dial of the delay between an action and the actuators.

    Args:
      dt: duration of a control step [s].
      kept: number of actions that the world keeps.
    """
    return dial(
        0.0,
        "delay between an action and the actuators",
        unit="s",
        low=0,
        high=dt * (kept - 1),
    )


def actuate(
    action: jax.Array,
    past: jax.Array,
    noise: jax.Array,
    delay: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Returns the action that is executed, and the actions to remember.

    Args:
      action: float32[A], clipped to [-1, 1].
      past: float32[D, A], earlier actions, the newest first.
      noise: float32[A], added to the action before it is clipped again.
      delay: float32[], how many steps ago the executed action was chosen, at most D - 1; between
        two actions it is interpolated linearly.

    Returns:
      (executed float32[A], past float32[D, A]).
    """
    noisy = jnp.clip(jnp.clip(action, -1.0, 1.0) + noise, -1.0, 1.0)
    past = jnp.concatenate([noisy[None], past[:-1]])
    age = jnp.abs(jnp.arange(len(past)) - delay)
    return jnp.einsum("d,da->a", jax.nn.relu(1.0 - age), past), past
