"""Policies that copy their last action: how much they do, and two ways to keep them from it.

In demonstrations the next action is mostly like the last one. A policy that sees the last action,
or can tell it from former frames, fits them well by repeating it, and drives badly (Muller et al.
2005; de Haan et al. 2019, arXiv 1905.11979; Wen et al. 2020, arXiv 2010.14876).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench.nets.policies import MLP, Policy, Standardiser, Weights
from irl_bench.nets.supervised import Data, PolicyParams

SHARE = 0.1
"""The share of steps in which the expert's action changes most."""
RIDGE = 1e-6
"""Added to the diagonal when the next action is regressed on the last one."""


def forgetful(
    past: Sequence[Sequence[int]], share: float
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns an `augment` of `supervised.fit` that hides the past in a share of the rows (Bansal,
    Krizhevsky and Ogale 2018, arXiv 1812.03079: dropout on the past motion).

    Args:
      past: `World.past`.
      share: of the rows.
    """
    index = np.concatenate([np.asarray(group, int) for group in past])

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        hidden = jax.random.bernoulli(key, share, (x.shape[0], 1))
        # 0 is the mean of a standardised entry.
        return x.at[:, index].set(jnp.where(hidden, 0.0, x[:, index]))

    return augment


class Adversary:
    """A network that guesses the last action from the policy's last hidden layer and the next
    action. Its gradient reaches the policy with the opposite sign, so the layer loses what it holds
    of the last action and the next one does not explain (Wen et al. 2020, equations 3 and 4).

    Args:
      policy: a `Policy` of continuous actions.
      inputs: standardises the observations.
      weight: factor on the reversed gradient.
      width: of the adversary's hidden layer, and of the policy's last one.
    """

    NAME = "adversary"
    """The adversary's weights stand under this name beside the policy's."""

    def __init__(self, policy: Policy, inputs: Standardiser, weight: float):
        self._policy, self._inputs, self._weight = policy, inputs, weight
        self._net = MLP((64,), policy.size)

    @classmethod
    def init(cls, key: jax.Array, width: int, actions: int) -> Weights:
        """Returns random weights for a layer of `width` values and actions of `actions`
        components."""
        return MLP((64,), actions).init(key, jnp.zeros(width + actions))["params"]

    def __call__(self, weights: Weights, batch: Data, key: jax.Array) -> jax.Array:
        """Returns the adversary's mean squared error in units of the last action's variance,
        float32[]."""
        del key
        assert batch.previous is not None
        layer = self._policy.features(weights, self._inputs(batch.observation))
        seen = _reversed(layer, self._weight)
        known = jnp.concatenate([seen, batch.action], -1)
        guess = cast(jax.Array, self._net.apply({"params": weights[self.NAME]}, known))
        spread = jnp.maximum(jnp.var(batch.previous, 0), 1e-6)
        return jnp.mean(jnp.square(guess - batch.previous) / spread)


@jax.custom_vjp
def _reversed(x: jax.Array, weight: float) -> jax.Array:
    """Returns x; its gradient is multiplied by -weight (Ganin et al. 2016, arXiv 1505.07818)."""
    del weight
    return x


_reversed.defvjp(lambda x, weight: (x, weight), lambda weight, g: (-weight * g, None))


def measures(
    policy: Policy, params: PolicyParams, test: Data, last: Sequence[int], key: jax.Array
) -> dict[str, jax.Array]:
    """Measures how much a policy copies, on held-out demonstrations.

    Args:
      policy: of continuous actions.
      params: its weights and inputs.
      test: n held-out rows with `previous`.
      last: indices of the last action in the observation; empty if it does not show it.
      key: consumed.

    Returns:
      predictable: R² of the expert's next action regressed linearly on its last one, all components
        together.
      repeats: among the `SHARE` of steps in which the expert's action changes most, the share in
        which the policy's action is nearer to the last one than to the expert's.
      shift: with `last`, the root mean square by which the policy's action moves if the last
        actions alone are exchanged between rows, over that of the expert's actions about their
        mean; 0 without.
    """
    assert test.previous is not None
    mask, total = test.mask, jnp.maximum(test.mask.sum(), 1.0)
    mean = lambda values: (mask @ values) / total

    centred = test.action - mean(test.action)
    before = test.previous - mean(test.previous)
    gram = (before * mask[:, None]).T @ before
    gram += RIDGE * total * jnp.eye(len(gram))
    slopes = jnp.linalg.solve(gram, (before * mask[:, None]).T @ centred)
    variance = jnp.maximum(mean(jnp.sum(jnp.square(centred), -1)), 1e-12)
    left = mean(jnp.sum(jnp.square(centred - before @ slopes), -1))

    acts = policy.mode(params.weights, params.inputs(test.observation))
    change = jnp.linalg.norm(test.action - test.previous, axis=-1)
    limit = jnp.nanquantile(jnp.where(mask > 0, change, jnp.nan), 1.0 - SHARE)
    big = mask * (change >= limit)
    own = jnp.linalg.norm(acts - test.action, axis=-1)
    copied = jnp.linalg.norm(acts - test.previous, axis=-1) < own
    found = {
        "predictable": 1.0 - left / variance,
        "repeats": (big @ copied) / jnp.maximum(big.sum(), 1.0),
        "shift": jnp.zeros(()),
    }
    if len(last):
        index = np.asarray(last, int)
        # Rows past an episode's end change places among themselves.
        order = jnp.argsort(jax.random.uniform(key, mask.shape) + 2.0 * (mask == 0))
        rows = jnp.argsort(mask == 0, stable=True)
        other = jnp.zeros_like(order).at[rows].set(order)
        mixed = test.observation.at[:, index].set(test.observation[other][:, index])
        moved = policy.mode(params.weights, params.inputs(mixed)) - acts
        found["shift"] = jnp.sqrt(mean(jnp.sum(jnp.square(moved), -1)) / variance)
    return found
