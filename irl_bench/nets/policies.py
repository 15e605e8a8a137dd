"""Small policies: a multilayer perceptron with a Gaussian or a categorical head, and input
standardisation.

Actions in [-1, 1] are tanh(mean); the Gaussian lies before the tanh and its log-standard deviation
is one number per action component, independent of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from brax.training.acme.running_statistics import RunningStatisticsState
from flax import struct

from irl_bench.core.types import Spec

ATANH_EDGE = 1.0 - 1e-3
"""Demonstrated actions are clipped to this before atanh: at 1 a tanh-Gaussian's density is
infinite."""
MIN_LOG_STD, MAX_LOG_STD = -5.0, 1.0
CONSTANT = 1e-5
"""A feature whose standard deviation is at or below this counts as constant."""
OBSERVATION_LIMIT = 10.0
"""Standardised observations are cut here: a feature that hardly ever varies has a huge scale."""


@struct.dataclass
class Standardiser:
    """x -> (x - mean) * scale. A feature that is constant in the data has scale 0: it carries no
    information there, and dividing by its deviation would blow it up wherever it does vary."""

    mean: jax.Array
    scale: jax.Array

    def __call__(self, observation: jax.Array) -> jax.Array:
        return (observation - self.mean) * self.scale


def standardiser(
    observation: jax.Array, weight: jax.Array, keep_constant: bool = False, floor: float = CONSTANT
) -> Standardiser:
    """Statistics of float32[n, O] observations with weights float32[n].

    Args:
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
    """To mean 0 and deviation 1 in what was counted; a feature that never varied keeps its
    scale."""
    std = jnp.asarray(statistics.std)
    return Standardiser(
        statistics.mean, jnp.where(std > CONSTANT, 1.0 / jnp.maximum(std, CONSTANT), 1.0)
    )  # type: ignore[arg-type]


def view(inputs: Standardiser, observation: jax.Array) -> jax.Array:
    """Standardised observations within +-OBSERVATION_LIMIT."""
    return jnp.clip(inputs(observation), -OBSERVATION_LIMIT, OBSERVATION_LIMIT)


class MLP(nn.Module):
    """Multilayer perceptron; `first_scale` multiplies the first layer's initial weights,
    `head_scale` the last one's."""

    hidden: Sequence[int]
    out: int
    first_scale: float = 1.0
    head_scale: float = 0.1
    activation: Callable[[jax.Array], jax.Array] = nn.tanh

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.hidden):
            scale = self.first_scale if i == 0 else 1.0
            x = self.activation(
                nn.Dense(
                    width,
                    kernel_init=nn.initializers.variance_scaling(scale**2, "fan_in", "normal"),
                )(x)
            )
        return nn.Dense(
            self.out,
            kernel_init=nn.initializers.variance_scaling(self.head_scale**2, "fan_in", "normal"),
        )(x)


class Policy:
    """A head on an MLP: `init(key) -> weights`, `mode(weights, x)`, `sample(weights, x, key)`,
    `log_prob`, `nll` and more.

    `x` is a standardised observation, float32[..., O]. Actions: int32[...] of a discrete world,
    float32[..., A] otherwise.
    """

    def __init__(
        self, spec: Spec, hidden: Sequence[int], first_scale: float = 1.0, log_std: float = -1.0
    ):
        self.discrete = spec.n_actions is not None
        self.size = spec.n_actions if spec.n_actions is not None else spec.action_size
        self._inputs, self._log_std = spec.observation_size, log_std
        self._net = MLP(tuple(hidden), self.size, first_scale)

    def init(self, key: jax.Array) -> Any:
        return self.begun({"net": self._net.init(key, jnp.zeros(self._inputs))["params"]})

    def begun(self, weights: Any) -> Any:
        """The same policy with the deviation that new ones have."""
        return (
            weights
            if self.discrete
            else {**weights, "log_std": jnp.full(self.size, self._log_std, jnp.float32)}
        )

    def _out(self, weights: Any, x: jax.Array) -> jax.Array:
        return self._net.apply({"params": weights["net"]}, x)  # type: ignore[return-value]

    def mode(self, weights: Any, x: jax.Array) -> jax.Array:
        out = self._out(weights, x)
        return jnp.argmax(out, -1).astype(jnp.int32) if self.discrete else jnp.tanh(out)

    def sample(self, weights: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        return self.squash(self.draw(weights, x, key))

    def draw(self, weights: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        """A sample before the tanh, where its density is finite whatever the action; of a
        discrete world the action itself."""
        out = self._out(weights, x)
        if self.discrete:
            return jax.random.categorical(key, out).astype(jnp.int32)
        return out + jnp.exp(_bounded(weights["log_std"])) * jax.random.normal(key, out.shape)

    def squash(self, raw: jax.Array) -> jax.Array:
        """The action of a raw one."""
        return raw if self.discrete else jnp.tanh(raw)

    def unsquash(self, action: jax.Array) -> jax.Array:
        """The raw action of one; those within 1e-3 of +-1 are moved there, since atanh(1) is
        infinite."""
        return action if self.discrete else jnp.arctanh(jnp.clip(action, -ATANH_EDGE, ATANH_EDGE))

    def log_prob(self, weights: Any, x: jax.Array, raw: jax.Array) -> jax.Array:
        """log pi(a|s) of the action (after the tanh) whose raw form is given, float32[...];
        summed over components."""
        out = self._out(weights, x)
        if self.discrete:
            return jnp.take_along_axis(jax.nn.log_softmax(out), raw[..., None], -1)[..., 0]
        log_std = _bounded(weights["log_std"])
        z = (raw - out) * jnp.exp(-log_std)
        return jnp.sum(
            -0.5 * jnp.square(z) - log_std - 0.5 * jnp.log(2.0 * jnp.pi) - log_slope(raw), -1
        )

    def kl(self, weights: Any, other: Any, x: jax.Array) -> jax.Array:
        """KL(pi || other) at each x, float32[...]; of raw actions, since a tanh on both sides
        changes nothing."""
        mine, theirs = self._out(weights, x), self._out(other, x)
        if self.discrete:
            log_p, log_q = jax.nn.log_softmax(mine), jax.nn.log_softmax(theirs)
            return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)
        a, b = _bounded(weights["log_std"]), _bounded(other["log_std"])
        return jnp.sum(
            b
            - a
            + 0.5 * (jnp.exp(2.0 * (a - b)) + jnp.square(mine - theirs) * jnp.exp(-2.0 * b) - 1.0),
            -1,
        )

    def entropy(self, weights: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        """Entropy of pi(.|s), float32[...]; of a tanh-Gaussian by one sample of the tanh's
        log-slope: H(u) + E log(1 - a²)."""
        out = self._out(weights, x)
        if self.discrete:
            log_p = jax.nn.log_softmax(out)
            return -jnp.sum(jnp.exp(log_p) * log_p, -1)
        log_std = _bounded(weights["log_std"])
        raw = out + jnp.exp(log_std) * jax.random.normal(key, out.shape)
        return jnp.sum(0.5 + 0.5 * jnp.log(2.0 * jnp.pi) + log_std + log_slope(raw), -1)

    def nll(self, weights: Any, x: jax.Array, action: jax.Array) -> jax.Array:
        """-log pi(a|s), float32[...]; summed over action components."""
        out = self._out(weights, x)
        if self.discrete:
            return -jnp.take_along_axis(jax.nn.log_softmax(out), action[..., None], -1)[..., 0]
        return tanh_gaussian_nll(out, _bounded(weights["log_std"]), action)

    def squared_error(self, weights: Any, x: jax.Array, action: jax.Array) -> jax.Array:
        """Squared error of the mode (discrete: of the softmax against the one-hot action),
        summed over components."""
        out = self._out(weights, x)
        if self.discrete:
            return jnp.sum(jnp.square(jax.nn.softmax(out) - jax.nn.one_hot(action, self.size)), -1)
        return jnp.sum(jnp.square(jnp.tanh(out) - action), -1)

    def loss(self, name: str) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
        """The loss called `name`: "nll" or "mse"."""
        return {"nll": self.nll, "mse": self.squared_error}[name]


def _bounded(log_std: jax.Array) -> jax.Array:
    return jnp.clip(log_std, MIN_LOG_STD, MAX_LOG_STD)


def log_slope(raw: jax.Array) -> jax.Array:
    """log d tanh(u) / du = log(1 - tanh(u)²) = 2 (log 2 - u - softplus(-2u)), finite for every
    u."""
    return 2.0 * (jnp.log(2.0) - raw - jax.nn.softplus(-2.0 * raw))


def tanh_gaussian_nll(mean: jax.Array, log_std: jax.Array, action: jax.Array) -> jax.Array:
    """-log density of `action` = tanh(u), u ~ N(mean, exp(log_std)²), summed over the last axis.

    With u = atanh(a): (u - mean)² / (2 std²) + log std + log(2 pi) / 2 + log(1 - a²) per component.
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
