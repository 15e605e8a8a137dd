"""Direct preference optimisation: the policy is fitted to comparisons directly, measured against
the clone that it starts from.

    minimise -log sigma(beta [sum_t log pi/pi_ref (winner) - sum_t log pi/pi_ref (loser)])
                                     Rafailov et al. 2023 (arXiv 2305.18290), eq. 7, over segments

The loss depends on the difference alone, so the log-probabilities of winner and loser may both
fall. The metrics therefore show each of them.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.core.learner import Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec
from irl_bench.preferences import offline
from irl_bench.preferences.reward_model import bradley_terry


@dataclasses.dataclass(frozen=True)
class Config(offline.Config):
    """Settings of DPO."""

    beta: float = setting(
        0.1, "how strongly the policy is kept close to the reference", low=1e-6, high=100.0
    )


def loss(
    beta: float, log_prob: jax.Array, reference: jax.Array, label: jax.Array, weight: jax.Array
) -> jax.Array:
    """DPO's loss of L pairs (eq. 7), float32[].

    Args:
      beta: factor on the log-probability ratios.
      log_prob: log pi of the actions, float32[L, 2, H].
      reference: log pi_ref of the actions, float32[L, 2, H].
      label: float32[L]: 1 the first is preferred, 0 the second, 0.5 neither.
      weight: float32[L] in {0, 1}.
    """
    margin = beta * jnp.sum(log_prob - reference, -1)
    return bradley_terry(margin[:, 0] - margin[:, 1], label, weight)


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of DPO."""
    return offline.make(spec, config, lambda *parts: loss(config.beta, *parts))
