"""Statistics that run inside jit."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def correlation(x: jax.Array, y: jax.Array) -> jax.Array:
    """Pearson's correlation of two arrays of equal shape, float32[]; 0 where one of them does not
    vary."""
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    scale = jnp.sqrt(jnp.mean(x * x) * jnp.mean(y * y))
    return jnp.where(scale > 1e-8, jnp.mean(x * y) / jnp.maximum(scale, 1e-8), 0.0)
