"""Small policies, and the standardisation of their inputs.

A policy is a multilayer perceptron with a tanh-Gaussian head (actions in [-1, 1]) or a categorical
one. The Gaussian lies before the tanh. Its log-standard deviation is one number per action
component and does not depend on the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from brax.training.acme.running_statistics import RunningStatisticsState
from flax import struct

from irl_bench.core.quantities import INPUT_LIMIT
from irl_bench.core.types import Spec

ATANH_EDGE = 1.0 - 1e-3
"""Demonstrated actions are clipped to +-ATANH_EDGE before atanh: atanh(1) is infinite."""
MIN_LOG_STD, MAX_LOG_STD = -5.0, 1.0
"""Bounds of a policy's log-standard deviation."""
CONSTANT = 1e-5
"""A feature whose standard deviation is at or below this counts as constant."""

Weights: TypeAlias = Any
"""A tree of network weights, as `init` of its network returns it."""


class Standardiser(struct.PyTreeNode):
    """x -> (x - mean) * scale.

    A feature that is constant in the data has scale 0 there: it carries no information, and
    dividing by its deviation would blow it up wherever it does vary.
    """

    mean: jax.Array
    """float32[O], or float32[]."""
    scale: jax.Array
    """float32[O], or float32[]: one over the standard deviation."""

    def __call__(self, observation: jax.Array) -> jax.Array:
        """Standardised observations, float32[..., O]."""
        return (observation - self.mean) * self.scale


def standardiser(
    observation: jax.Array, weight: jax.Array, keep_constant: bool = False, floor: float = CONSTANT
) -> Standardiser:
    """The standardiser that gives weighted observations mean 0 and standard deviation 1.

    Args:
      observation: float32[n, O].
      weight: float32[n] >= 0.
      keep_constant: pass constant features through unscaled instead of dropping them.
      floor: a standard deviation at or below this counts as constant.
    """
    total = jnp.maximum(jnp.sum(weight), 1.0)
    mean = weight @ observation / total
    deviation = jnp.sqrt(weight @ jnp.square(observation - mean) / total)
    varies = deviation > floor
    dropped = jnp.full_like(deviation, 1.0 if keep_constant else 0.0)
    return Standardiser(mean, jnp.where(varies, 1.0 / jnp.where(varies, deviation, 1.0), dropped))


def standardised_by(statistics: RunningStatisticsState) -> Standardiser:
    """The standardiser of running statistics; a feature that has never varied keeps its scale."""
    std = jnp.asarray(statistics.std)
    mean = cast(jax.Array, statistics.mean)  # Brax allows a tree; ours hold one array
    return Standardiser(mean, jnp.where(std > CONSTANT, 1.0 / jnp.maximum(std, CONSTANT), 1.0))


def view(inputs: Standardiser, observation: jax.Array) -> jax.Array:
    """Standardised observations, clipped to +-INPUT_LIMIT; float32[..., O]."""
    return jnp.clip(inputs(observation), -INPUT_LIMIT, INPUT_LIMIT)


class MLP(nn.Module):
    """Multilayer perceptron with a linear last layer.

    Initial weights are normal with standard deviation scale / sqrt(fan-in); biases are 0.
    """

    hidden: Sequence[int]
    """Widths of the hidden layers."""
    out: int
    """Number of outputs."""
    first_scale: float = 1.0
    """Scale of the first hidden layer's initial weights."""
    head_scale: float = 0.1
    """Scale of the last layer's initial weights."""
    activation: Callable[[jax.Array], jax.Array] = nn.tanh
    """Of the hidden layers."""

    @nn.compact
    def __call__(self, x: jax.Array, features: bool = False) -> jax.Array:
        """Outputs float32[..., out] of inputs float32[..., I]; with `features` the values of the
        last hidden layer instead."""
        for i, width in enumerate(self.hidden):
            scale = self.first_scale if i == 0 else 1.0
            x = self.activation(
                nn.Dense(
                    width,
                    kernel_init=nn.initializers.variance_scaling(scale**2, "fan_in", "normal"),
                )(x)
            )
        if features:
            return x
        return nn.Dense(
            self.out,
            kernel_init=nn.initializers.variance_scaling(self.head_scale**2, "fan_in", "normal"),
        )(x)


class Policy:
    """A stochastic policy: an MLP whose output parametrises a distribution over actions.

    Its methods are pure functions of `weights` (see `init`). `x` is a standardised observation,
    float32[..., O]. Actions are float32[..., A] in [-1, 1], or int32[...] in a discrete world.

    Args:
      spec: the world's sizes.
      hidden: widths of the hidden layers.
      first_scale: scale of the first layer's initial weights.
      log_std: initial log-standard deviation of the raw action; unused in a discrete world.
      chunk: number of actions that are chosen at once, in a world of continuous ones. They then
        count as one action of `chunk` times A components.
      more: number of inputs besides the observation, after which they stand.
    """

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int],
        first_scale: float = 1.0,
        log_std: float = -1.0,
        chunk: int = 1,
        more: int = 0,
    ):
        self.discrete = spec.n_actions is not None
        self.size = spec.n_actions if spec.n_actions is not None else chunk * spec.action_size
        self._inputs, self._log_std = spec.observation_size + more, log_std
        self._net = MLP(tuple(hidden), self.size, first_scale)

    def init(self, key: jax.Array) -> Weights:
        """Random weights: {"net"}, and "log_std" float32[A] of a Gaussian; `key` is consumed."""
        return self.with_log_std({"net": self._net.init(key, jnp.zeros(self._inputs))["params"]})

    def with_log_std(self, weights: Weights) -> Weights:
        """The weights with `log_std` reset to its initial value; unchanged in a discrete world."""
        return (
            weights
            if self.discrete
            else {**weights, "log_std": jnp.full(self.size, self._log_std, jnp.float32)}
        )

    def _out(self, weights: Weights, x: jax.Array) -> jax.Array:
        """The network's output: means of raw actions, or logits."""
        return cast(jax.Array, self._net.apply({"params": weights["net"]}, x))

    def features(self, weights: Weights, x: jax.Array) -> jax.Array:
        """The last hidden layer's values, float32[..., H]."""
        return cast(jax.Array, self._net.apply({"params": weights["net"]}, x, features=True))

    def mode(self, weights: Weights, x: jax.Array) -> jax.Array:
        """The most likely action: tanh(mean), or the argmax of the logits."""
        out = self._out(weights, x)
        return jnp.argmax(out, -1).astype(jnp.int32) if self.discrete else jnp.tanh(out)

    def sample(self, weights: Weights, x: jax.Array, key: jax.Array) -> jax.Array:
        """A random action; `key` is consumed."""
        return self.squash(self.draw(weights, x, key))

    def draw(self, weights: Weights, x: jax.Array, key: jax.Array) -> jax.Array:
        """A random raw action, before the tanh; `key` is consumed.

        The density of a raw action is finite, whatever the action. In a discrete world the raw
        action is the action itself.
        """
        out = self._out(weights, x)
        if self.discrete:
            return jax.random.categorical(key, out).astype(jnp.int32)
        return out + jnp.exp(_bounded(weights["log_std"])) * jax.random.normal(key, out.shape)

    def squash(self, raw: jax.Array) -> jax.Array:
        """The action of a raw action: its tanh; in a discrete world the same."""
        return raw if self.discrete else jnp.tanh(raw)

    def unsquash(self, action: jax.Array) -> jax.Array:
        """The raw action of an action: its atanh; in a discrete world the same.

        Components within 1e-3 of +-1 are moved to that distance first, since atanh(1) is infinite.
        """
        return action if self.discrete else jnp.arctanh(jnp.clip(action, -ATANH_EDGE, ATANH_EDGE))

    def log_prob(self, weights: Weights, x: jax.Array, raw: jax.Array) -> jax.Array:
        """log pi(a|s) of the action a = squash(raw), summed over components; float32[...]."""
        out = self._out(weights, x)
        if self.discrete:
            return jnp.take_along_axis(jax.nn.log_softmax(out), raw[..., None], -1)[..., 0]
        log_std = _bounded(weights["log_std"])
        z = (raw - out) * jnp.exp(-log_std)
        return jnp.sum(
            -0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2.0 * jnp.pi) - tanh_log_derivative(raw),
            -1,
        )

    def kl(self, weights: Weights, other: Weights, x: jax.Array) -> jax.Array:
        """KL(pi || other) at each x, float32[...].

        It is computed between the raw actions' Gaussians: an invertible map of both sides, such as
        the tanh, leaves it unchanged.
        """
        out, other_out = self._out(weights, x), self._out(other, x)
        if self.discrete:
            log_p, log_q = jax.nn.log_softmax(out), jax.nn.log_softmax(other_out)
            return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
        a, b = _bounded(weights["log_std"]), _bounded(other["log_std"])
        return jnp.sum(
            b
            - a
            + 0.5
            * (jnp.exp(2.0 * (a - b)) + jnp.square(out - other_out) * jnp.exp(-2.0 * b) - 1.0),
            -1,
        )

    def entropy(self, weights: Weights, x: jax.Array, key: jax.Array) -> jax.Array:
        """Entropy of pi(.|s), float32[...]; `key` is consumed.

        That of a tanh-Gaussian is an unbiased estimate from one sample u of the raw action:
        H(u) + log(1 - tanh(u)²).
        """
        out = self._out(weights, x)
        if self.discrete:
            log_p = jax.nn.log_softmax(out)
            return -jnp.sum(jnp.exp(log_p) * log_p, -1)
        log_std = _bounded(weights["log_std"])
        raw = out + jnp.exp(log_std) * jax.random.normal(key, out.shape)
        return jnp.sum(0.5 + 0.5 * jnp.log(2.0 * jnp.pi) + log_std + tanh_log_derivative(raw), -1)

    def nll(self, weights: Weights, x: jax.Array, action: jax.Array) -> jax.Array:
        """-log pi(a|s), summed over action components; float32[...]."""
        out = self._out(weights, x)
        if self.discrete:
            return -jnp.take_along_axis(jax.nn.log_softmax(out), action[..., None], -1)[..., 0]
        return tanh_gaussian_nll(out, _bounded(weights["log_std"]), action)

    def squared_error(self, weights: Weights, x: jax.Array, action: jax.Array) -> jax.Array:
        """Squared error of the mode, summed over components; float32[...].

        In a discrete world, that of the softmax against the one-hot action.
        """
        out = self._out(weights, x)
        if self.discrete:
            return jnp.sum(jnp.square(jax.nn.softmax(out) - jax.nn.one_hot(action, self.size)), -1)
        return jnp.sum(jnp.square(jnp.tanh(out) - action), -1)

    def loss(self, name: str) -> Callable[[Weights, jax.Array, jax.Array], jax.Array]:
        """The loss named "nll" or "mse": (weights, x, action) -> float32[...].

        Raises:
          KeyError: any other name.
        """
        return {"nll": self.nll, "mse": self.squared_error}[name]


def _bounded(log_std: jax.Array) -> jax.Array:
    return jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD)


def tanh_log_derivative(raw: jax.Array) -> jax.Array:
    """log d tanh(u) / du = log(1 - tanh(u)²) for each component u of `raw`; float32[..., A].

    It is computed as 2 (log 2 - u - softplus(-2u)), which is finite for every u.
    """
    return 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))


def tanh_gaussian_nll(mean: jax.Array, log_std: jax.Array, action: jax.Array) -> jax.Array:
    """-log density of `action` = tanh(u), u ~ N(mean, exp(log_std)²), summed over components.

    With u = atanh(a): (u - mean)² / (2 std²) + log std + log(2 pi) / 2 + log(1 - a²) per component.

    Args:
      mean: float32[..., A], of u.
      log_std: float32[A] or float32[..., A].
      action: float32[..., A] in [-1, 1]; clipped to +-ATANH_EDGE.

    Returns:
      float32[...].
    """
    action = jnp.clip(action, -ATANH_EDGE, ATANH_EDGE)
    z = (jnp.arctanh(action) - mean) * jnp.exp(-log_std)
    return jnp.sum(
        0.5 * jnp.square(z)
        + log_std
        + 0.5 * jnp.log(2.0 * jnp.pi)
        + jnp.log1p(-jnp.square(action)),
        -1,
    )
