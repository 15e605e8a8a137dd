"""Fitting a policy to labelled states by gradient descent, inside jit; shared by the algorithms
that imitate by regression."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.settings import BadInput
from irl_bench.nets.policies import Policy, Standardiser


@struct.dataclass
class Data:
    """Labelled states, flat; only rows with mask 1 are used."""

    observation: jax.Array
    """float32[n, O]."""
    action: jax.Array
    """float32[n, A] or int32[n]."""
    mask: jax.Array
    """float32[n]."""


@struct.dataclass
class PolicyParams:
    """All that acting needs."""

    weights: Any
    inputs: Standardiser


def optimiser(
    learning_rate: float, weight_decay: float, steps: int
) -> optax.GradientTransformation:
    """AdamW on a cosine from `learning_rate` to 0 over `steps`; decay acts on matrices, not on
    biases or log-deviations."""
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.adamw(schedule, weight_decay=weight_decay, mask=matrices)


def draw(upto: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Rows in use drawn uniformly with replacement, int32[count]; `upto`: how many are in use up to
    each, itself counted.

    Found by bisection of that running count, which is quicker than a sort of all rows by use.
    """
    rank = (jax.random.uniform(key, (count,)) * upto[-1]).astype(jnp.int32).astype(upto.dtype)
    return jnp.searchsorted(upto, rank, side="right").astype(jnp.int32)


def fit(
    policy: Policy,
    loss: str,
    transform: optax.GradientTransformation,
    weights: Any,
    opt_state: Any,
    inputs: Standardiser,
    data: Data,
    key: jax.Array,
    steps: int,
    batch: int,
) -> tuple[Any, Any, jax.Array]:
    """`steps` gradient steps on uniform batches (with replacement) of the rows in use; `key` is
    consumed.

    Returns weights, optimiser state and the mean loss of the last tenth of the steps, float32.
    """
    upto = jnp.cumsum(data.mask)

    def mean_loss(weights: Any, rows: jax.Array) -> jax.Array:
        return jnp.mean(
            policy.loss(loss)(weights, inputs(data.observation[rows]), data.action[rows])
        )

    def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        weights, opt_state = carry
        value, gradient = jax.value_and_grad(mean_loss)(weights, draw(upto, key, batch))
        updates, opt_state = transform.update(gradient, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), value

    (weights, opt_state), losses = jax.lax.scan(
        step, (weights, opt_state), jax.random.split(key, steps)
    )
    return weights, opt_state, jnp.mean(losses[-max(1, steps // 10) :])


def held_out_loss(policy: Policy, loss: str, params: PolicyParams, data: Data) -> jax.Array:
    """Mean loss over the rows in use, float32."""
    values = policy.loss(loss)(params.weights, params.inputs(data.observation), data.action)
    return jnp.sum(values * data.mask) / jnp.maximum(jnp.sum(data.mask), 1.0)


def flatten(observation: jax.Array, action: jax.Array | None, mask: jax.Array) -> Data:
    """[N, T, ...] arrays as rows. Raises BadInput for demonstrations without actions."""
    if action is None:
        hint = "gail with inputs=state, init=random"
        raise BadInput(
            f"imitation by regression needs demonstrations with actions; nearest: {hint}"
        )
    rows = mask.size
    return Data(
        observation.reshape(rows, -1), action.reshape(rows, *action.shape[2:]), mask.reshape(rows)
    )
