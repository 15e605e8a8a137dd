"""Fitting a policy to labelled states by gradient descent, inside jit.

Algorithms that imitate by regression share these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.settings import NeedsActions
from irl_bench.nets.policies import Policy, Standardiser, Weights


class Data(struct.PyTreeNode):
    """n labelled states; only rows with mask 1 are used."""

    observation: jax.Array
    """float32[n, O]."""
    action: jax.Array
    """float32[n, A] or int32[n]."""
    mask: jax.Array
    """float32[n]."""
    previous: jax.Array | None = None
    """float32[n, A]: the action of the step before, 0 in an episode's first; None where nobody asks
    for it."""


class PolicyParams(struct.PyTreeNode):
    """Parameters of a policy: network weights and input standardiser."""

    weights: Weights
    """Of the policy's network."""
    inputs: Standardiser
    """Of the observations that the network sees."""


class Kept(struct.PyTreeNode):
    """The policy with the lowest held-out loss so far, and whether training still looks for one."""

    policy: PolicyParams
    """The policy."""
    loss: jax.Array
    """float32[]: its held-out loss."""
    stale: jax.Array
    """int32[]: rounds since then."""

    @classmethod
    def start(cls, policy: PolicyParams) -> Kept:
        """Any policy is better than this one."""
        return cls(policy, jnp.float32(jnp.inf), jnp.int32(0))

    def after(self, weights: Weights, loss: jax.Array, patience: int) -> Kept:
        """Returns what is kept after a round that ended with these weights and held-out loss.

        A NaN loss counts as better. Otherwise a broken seed would hide behind its last good
        weights. After `patience` rounds without a better one nothing changes any more.
        """
        searching = self.stale < patience
        better = ~(loss >= self.loss) & searching
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), weights, self.policy.weights
        )
        stale = jnp.where(better, 0, self.stale + 1)
        return Kept(
            self.policy.replace(weights=best),
            jnp.where(better, loss, self.loss),
            jnp.where(searching, stale, self.stale),
        )


def optimiser(
    learning_rate: float, weight_decay: float, steps: int
) -> optax.GradientTransformation:
    """AdamW whose step size falls on a cosine from `learning_rate` to 0 over `steps` updates.

    Weight decay acts on matrices, not on biases or log-standard deviations.
    """
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    return optax.adamw(schedule, weight_decay=weight_decay, mask=matrices)


class Averaged(NamedTuple):
    """State of an optimiser that also averages the weights."""

    inner: optax.OptState
    """Of the optimiser itself."""
    updates: jax.Array
    """int32[]: updates so far."""
    average: Weights
    """The exponential moving average of the weights."""


def averaged(transform: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """An optimiser whose state holds an exponential moving average of the weights.

    The average forgets faster at first, with the decay min(decay, (1 + n) / (10 + n)) after n
    updates, so that the initial weights leave no trace (Block et al. 2023, arXiv 2310.11428: such
    an average removes the noise of gradient steps, which a closed loop amplifies).

    Args:
      transform: the optimiser.
      decay: weight of the average so far in an update, in (0, 1).
    """

    def init(weights: Weights) -> Averaged:
        return Averaged(transform.init(weights), jnp.int32(0), weights)

    def update(gradient: Weights, state: Averaged, weights: Any = None) -> tuple[Weights, Averaged]:
        updates, inner = transform.update(gradient, state.inner, weights)
        n = state.updates.astype(jnp.float32)
        keep = jnp.minimum(decay, (1.0 + n) / (10.0 + n))
        after = optax.apply_updates(weights, updates)
        average = jax.tree.map(lambda a, w: keep * a + (1.0 - keep) * w, state.average, after)
        return updates, Averaged(inner, state.updates + 1, average)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def draw(upto: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Indices of rows in use, drawn uniformly with replacement.

    Bisection of the running count is quicker than sorting the rows by their mask.

    Args:
      upto: [n], the running count of rows in use: cumsum of the mask.
      key: consumed.
      count: how many indices.

    Returns:
      int32[count].
    """
    rank = (jax.random.uniform(key, (count,)) * upto[-1]).astype(jnp.int32).astype(upto.dtype)
    return jnp.searchsorted(upto, rank, side="right").astype(jnp.int32)


def fit(
    policy: Policy,
    loss: str,
    transform: optax.GradientTransformation,
    weights: Weights,
    opt_state: optax.OptState,
    inputs: Standardiser,
    data: Data,
    key: jax.Array,
    steps: int,
    batch: int,
    extra: Callable[[Weights, Data, jax.Array], jax.Array] | None = None,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> tuple[Weights, optax.OptState, jax.Array]:
    """Minimises a loss of the policy on labelled states by stochastic gradient descent.

    Args:
      policy: whose weights are fitted.
      loss: "nll" or "mse".
      transform: the optimiser.
      weights: at the start.
      opt_state: of `transform`, at the start.
      inputs: standardises the observations.
      data: n rows.
      key: consumed.
      steps: number of gradient steps.
      batch: rows per step, drawn uniformly with replacement from those in use.
      extra: (weights, the rows of a step, key) -> float32[], a further loss.
      augment: (standardised observations float32[batch, O], key) -> what the policy sees of them in
        a step.

    Returns:
      (weights, optimiser state, mean loss over the last tenth of the steps, float32[]).
    """
    upto = jnp.cumsum(data.mask)

    def mean_loss(weights: Weights, rows: jax.Array, key: jax.Array) -> jax.Array:
        batch = jax.tree.map(lambda x: x[rows], data)
        x = inputs(batch.observation)
        if augment is not None:
            x = augment(x, jax.random.fold_in(key, 2))
        value = jnp.mean(policy.loss(loss)(weights, x, batch.action))
        return value if extra is None else value + extra(weights, batch, key)

    def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
        weights, opt_state = carry
        more = jax.random.fold_in(key, 1)
        value, gradient = jax.value_and_grad(mean_loss)(weights, draw(upto, key, batch), more)
        updates, opt_state = transform.update(gradient, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), value

    (weights, opt_state), losses = jax.lax.scan(
        step, (weights, opt_state), jax.random.split(key, steps)
    )
    return weights, opt_state, jnp.mean(losses[-max(1, steps // 10) :])


def held_out_loss(policy: Policy, loss: str, params: PolicyParams, data: Data) -> jax.Array:
    """Mean of the loss "nll" or "mse" over the rows in use, float32[]; 0 without such a row."""
    values = policy.loss(loss)(params.weights, params.inputs(data.observation), data.action)
    return mean_in_use(values, data.mask)


def mean_in_use(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of values float32[n] over the rows in use, float32[]; 0 without such a row."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def flatten(
    observation: jax.Array, action: jax.Array | None, mask: jax.Array, previous: bool = False
) -> Data:
    """Demonstrations as rows.

    Args:
      observation: float32[N, T, O].
      action: float32[N, T, A], or int32[N, T].
      mask: float32[N, T].
      previous: whether the rows hold the action of the step before, a continuous one.

    Returns:
      N T rows.

    Raises:
      NeedsActions: the demonstrations have no actions.
    """
    if action is None:
        raise NeedsActions("imitation by regression")
    rows = mask.size
    before = jnp.concatenate([jnp.zeros_like(action[:, :1]), action[:, :-1]], 1)
    return Data(
        observation.reshape(rows, -1),
        action.reshape(rows, *action.shape[2:]),
        mask.reshape(rows),
        before.reshape(rows, -1) if previous else None,
    )
