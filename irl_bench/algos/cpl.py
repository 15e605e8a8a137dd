"""Contrastive preference learning: the policy is fitted to comparisons directly, with its
log-probabilities in the role of advantages.

    minimise -log e^{S(w)} / (e^{S(w)} + e^{lambda S(l)}),   S = alpha sum_t gamma^t log pi(a_t|s_t)
                                                 Hejna et al. 2024 (arXiv 2310.13639), eq. 5 and 7

With gamma = lambda = 1 it is DPO with a uniform reference and beta = alpha. With lambda below 1, a
loser costs more the more likely it is under the policy.
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
    """CPL's loss of L pairs (eq. 5 and 7), float32[]. A tie counts as half of either outcome.

    Args:
      alpha: temperature.
      discount: gamma along a segment.
      conservative: lambda, factor on the loser's sum.
      log_prob: log pi of the actions, float32[L, 2, H].
      reference: not read.
      label: float32[L]: 1 the first is preferred, 0 the second, 0.5 neither.
      weight: float32[L] in {0, 1}.
    """
    del reference
    total = alpha * jnp.sum(log_prob * discount ** jnp.arange(log_prob.shape[-1]), -1)
    first, second = total[:, 0], total[:, 1]
    first_wins = jax.nn.softplus(conservative * second - first)
    second_wins = jax.nn.softplus(conservative * first - second)
    return jnp.sum(weight * (label * first_wins + (1.0 - label) * second_wins)) / jnp.maximum(
        jnp.sum(weight), 1.0
    )


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of CPL."""
    return offline.make(
        spec,
        config,
        lambda *parts: loss(config.alpha, config.discount, config.conservative, *parts),
    )
