"""Queries: the choice of pairs of segments that a teacher compares.

"uniform" takes pairs at random. The other kinds draw many candidates and take those about which an
ensemble of rewards is least sure.
    Lee et al. 2021 (B-Pref, arXiv 2111.03026), section 3
    disagreement: Christiano et al. 2017 (arXiv 1706.03741), section 2.2.4
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

QUERIES = ("uniform", "disagreement", "entropy")
"""The kinds of queries."""
CANDIDATES = 10
"""Candidate pairs per query."""


def score(kind: str, margin: jax.Array) -> jax.Array:
    """The uncertainty of an ensemble about each candidate pair, float32[C].

    Args:
      kind: "disagreement": the variance over members of P(first); "entropy": the entropy of the
        members' mean P(first).
      margin: the members' return differences, float32[M, C].
    """
    p = jax.nn.sigmoid(margin)
    if kind == "disagreement":
        return jnp.var(p, 0)
    mean = jnp.clip(jnp.mean(p, 0), 1e-7, 1.0 - 1e-7)
    return -mean * jnp.log(mean) - (1.0 - mean) * jnp.log1p(-mean)


def pairs(kind: str, segments: int, count: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Candidate pairs of two different segments.

    Args:
      kind: one of QUERIES.
      segments: S, number of segments, at least 2.
      count: number of queries.
      key: consumed.

    Returns:
      First and second segments, int32[C] each; C is `count`, or CANDIDATES times that for a kind
      that chooses among candidates.
    """
    candidates = count if kind == "uniform" else CANDIDATES * count
    first_key, step_key = jax.random.split(key)
    first = jax.random.randint(first_key, (candidates,), 0, segments)
    # The second is 1 to S - 1 places further on, cyclically: any other segment, equally likely.
    second = (first + jax.random.randint(step_key, (candidates,), 1, segments)) % segments
    return first, second


def choose(kind: str, margin: jax.Array, count: int) -> jax.Array:
    """Indices of the `count` candidates to ask about, int32[count].

    Args:
      kind: one of QUERIES; "uniform" takes the first.
      margin: the members' return differences, float32[M, C].
      count: number of queries.
    """
    if kind == "uniform":
        return jnp.arange(count)
    return jax.lax.top_k(score(kind, margin), count)[1]
