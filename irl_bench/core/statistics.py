"""Statistics that run inside jit."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from irl_bench.core.shapes import checked


@checked
def correlation(x: Float[Array, "*n"], y: Float[Array, "*n"]) -> Float[Array, ""]:
    """Returns Pearson's correlation of two arrays of equal shape, float32[]; 0 if one of them is
    constant."""
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    scale = jnp.sqrt(jnp.mean(x * x) * jnp.mean(y * y))
    return jnp.where(scale > 1e-8, jnp.mean(x * y) / jnp.maximum(scale, 1e-8), 0.0)
