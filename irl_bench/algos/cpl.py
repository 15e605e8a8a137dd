"""Contrastive preference learning: comparisons by regret make the policy's own log-probabilities an
advantage.

    minimise -log e^{S(w)} / (e^{S(w)} + e^{lambda S(l)}),   S = alpha sum_t gamma^t log pi(a_t|s_t)
                                                 Hejna et al. 2024 (arXiv 2310.13639), eq. 5 and 7

With gamma = lambda = 1 it is DPO under a uniform reference with beta = alpha. A lambda below 1
makes likely losers cost more.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.core.learner import Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec
from irl_bench.preferences import offline


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Settings of CPL."""

    alpha: float = setting(
        0.1, "temperature: how much a log-probability is worth", low=1e-6, high=100.0
    )
    discount: float = setting(1.0, "gamma along a segment", low=0.0, high=1.0)
    conservative: float = setting(0.5, "lambda, factor on the loser's sum", low=0.0, high=1.0)


def loss(
    alpha: float,
    discount: float,
    conservative: float,
    log_prob: jax.Array,
    reference: jax.Array,
    label: jax.Array,
    weight: jax.Array,
) -> jax.Array:
    """CPL's loss of pairs, float32[]; arguments as in `dpo.loss`. A tie is half of either
    outcome."""
    del reference
    total = alpha * jnp.sum(log_prob * discount ** jnp.arange(log_prob.shape[-1]), -1)
    one, two = total[:, 0], total[:, 1]
    first = jax.nn.softplus(conservative * two - one)
    second = jax.nn.softplus(conservative * one - two)
    return jnp.sum(weight * (label * first + (1.0 - label) * second)) / jnp.maximum(
        jnp.sum(weight), 1.0
    )


def make(spec: Spec, config: Config) -> Learner:
    return offline.make(
        spec,
        config,
        lambda *parts: loss(config.alpha, config.discount, config.conservative, *parts),
    )
