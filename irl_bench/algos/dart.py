"""DART: demonstrations under noise of the shape of the learner's errors.

    repeat: Sigma = covariance of pi(s) - pi*(s) on the data, scaled to the trace `error`;
            the expert acts under noise N(0, Sigma); its actions without noise are the labels; refit
                                Laskey et al. 2017 (arXiv 1703.09327), algorithm 1

The expert is thrown off its path in the directions in which the learner errs, and shows the way
back. It is never asked about a state of the learner's. The rollouts count as demonstrations. With
one action component no shape is left to learn, and the noise has the variance `error` throughout.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from irl_bench.algos.dagger import AggregateConfig, aggregating
from irl_bench.core.learner import Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec
from irl_bench.nets.policies import Policy
from irl_bench.nets.supervised import Data, PolicyParams


@dataclasses.dataclass(frozen=True)
class Config(AggregateConfig):
    """Settings of DART."""

    error: float = setting(
        0.01,
        "expected squared error of the final policy per step, summed over action components: the "
        "trace of the noise's covariance",
        low=0.0,
        high=4.0,
    )


def covariance(policy: Policy, params: PolicyParams, data: Data, error: float) -> jax.Array:
    """The covariance of the noise.

    Args:
      policy: whose mode is compared with the labels.
      params: of the policy.
      data: n labelled states.
      error: the trace of the result.

    Returns:
      float32[A, A]; spread evenly over the components if the policy makes no error on the data.
    """
    gap = policy.mode(params.weights, params.inputs(data.observation)) - data.action
    found = (gap * data.mask[:, None]).T @ gap / jnp.maximum(jnp.sum(data.mask), 1.0)
    size = found.shape[0]
    trace = jnp.trace(found)
    even = jnp.eye(size) / size
    return error * jnp.where(trace > 1e-12, found / jnp.maximum(trace, 1e-12), even)


def factor(policy: Policy, params: PolicyParams, data: Data, error: float) -> jax.Array:
    """A square root L of the covariance L Lᵀ, float32[A, A]; arguments as of `covariance`."""
    # A covariance may be singular, and Cholesky's factor is not defined then.
    variances, axes = jnp.linalg.eigh(covariance(policy, params, data, error))
    return axes * jnp.sqrt(jnp.maximum(variances, 0.0))


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of DART. It acts with the mode of its policy.

    Raises:
      BadInput: the world has discrete actions; one line.
    """
    if spec.n_actions is not None:
        raise BadInput(
            f"dart adds noise to continuous actions, which {spec.world.name} has not; nearest: "
            "--algo=dagger"
        )

    def acting(policy: Policy, params: PolicyParams, data: Data, round: jax.Array) -> jax.Array:
        return factor(policy, params, data, config.error)

    def choice(root: Any, label: jax.Array, own: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.clip(label + root @ jax.random.normal(key, label.shape), -1.0, 1.0)

    return aggregating(spec, config, acting, choice, by_expert=True)
