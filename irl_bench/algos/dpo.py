"""Direct preference optimisation: the policy is its own reward, measured against the clone it
starts from.

    minimise -log sigma(beta [sum_t log pi/pi_ref (winner) - sum_t log pi/pi_ref (loser)])
                                     Rafailov et al. 2023 (arXiv 2305.18290), eq. 7, over segments

The log-probability of what was preferred is logged too: only the difference is pressed on, so both
may fall.
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
        0.1, "how strongly the policy is held to the reference", low=1e-6, high=100.0
    )


def loss(
    beta: float, log_prob: jax.Array, reference: jax.Array, label: jax.Array, weight: jax.Array
) -> jax.Array:
    """DPO's loss of pairs, float32[].

    Args:
      log_prob, reference: log pi and log pi_ref, float32[L, 2, H].
      label, weight: float32[L], as in `irl_bench.preferences.reward_model.Comparisons`.
    """
    margin = beta * jnp.sum(log_prob - reference, -1)
    return bradley_terry(margin[:, 0] - margin[:, 1], label, weight)


def make(spec: Spec, config: Config) -> Learner:
    return offline.make(spec, config, lambda *parts: loss(config.beta, *parts))
