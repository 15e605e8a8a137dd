"""Which pairs of segments a teacher is asked about: of many candidates those that an ensemble of
rewards is least sure of.

Lee et al. 2021 (B-Pref, arXiv 2111.03026), section 3; disagreement: Christiano et al. 2017 (arXiv
1706.03741), section 2.2.4.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

QUERIES = ("uniform", "disagreement", "entropy")
CANDIDATES = 10
"""Candidate pairs per pair that is asked about."""


def score(kind: str, margin: jax.Array) -> jax.Array:
    """float32[C]: how much is to be learned of each candidate, from the members' return differences
    float32[M, C].

    "disagreement" is the variance over members of P(first), "entropy" that of the members' mean
    P(first).
    """
    p = jax.nn.sigmoid(margin)
    if kind == "disagreement":
        return jnp.var(p, 0)
    mean = jnp.clip(jnp.mean(p, 0), 1e-7, 1.0 - 1e-7)
    return -mean * jnp.log(mean) - (1.0 - mean) * jnp.log1p(-mean)


def pairs(kind: str, segments: int, count: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Candidates: two different segments each, int32[C] and int32[C]; C = `count`, or CANDIDATES
    times that."""
    many = count if kind == "uniform" else CANDIDATES * count
    first_key, step_key = jax.random.split(key)
    first = jax.random.randint(first_key, (many,), 0, segments)
    # The second is 1 to segments - 1 further on, round the end: never the same, all others alike.
    second = (first + jax.random.randint(step_key, (many,), 1, segments)) % segments
    return first, second


def choose(kind: str, margin: jax.Array, count: int) -> jax.Array:
    """int32[count]: the chosen candidates, by the margins float32[M, C] of the members."""
    if kind == "uniform":
        return jnp.arange(count)
    return jax.lax.top_k(score(kind, margin), count)[1]
