"""Rewards learned from comparisons of segments: an ensemble of networks under the Bradley-Terry
model.

    minimise -l log sigma(m) - (1 - l) log sigma(-m),
                         m = sum_t r(s_t, a_t) over the first segment - the same over the second
                          Bradley and Terry 1952; Christiano et al. 2017 (arXiv 1706.03741), eq. 1

The reward of a step depends on the state that it led to, because worlds pay for that state; with
`reward_inputs=state_action` it depends on the action too. Every member has its own weights and its
own batches. Comparisons do not determine a reward's offset and scale. Each member is therefore
standardised to mean 0 and standard deviation 1 on the segments of the first iteration before the
members are averaged. `pessimism` lowers the reward of a step on which the members disagree (Coste
et al. 2024, arXiv 2310.02743, eq. 3, with the standard deviation). `bounded` rewards cannot grow
without limit where there are no segments (Lee et al. 2021, PEBBLE, arXiv 2106.05091, appendix B).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.quantities import INPUT_LIMIT
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec
from irl_bench.nets.masking import MaskConfig, check_mask, masked
from irl_bench.nets.policies import MLP, Standardiser, standardiser
from irl_bench.nets.supervised import draw

PROBES = 1000
"""Number of pairs of fresh segments on which the accuracy of a reward is measured."""
LEAST_LABELS = 10
"""The fewest comparisons that a reward is fitted to."""


@dataclasses.dataclass(frozen=True)
class Config(MaskConfig):
    """Settings of a learned reward."""

    members: int = setting(3, "networks in the ensemble", low=1, high=64)
    reward_hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the members' hidden layers", unit="units", low=1, high=4096
    )
    pessimism: float = setting(
        0.0,
        "standard deviations over members by which a reward is lowered",
        low=0.0,
        high=100.0,
    )
    reward_inputs: str = setting(
        "state", "what a reward depends on", choices=("state", "state_action")
    )
    bounded: bool = setting(False, "keep each member's reward of a step within +-1 by a tanh")
    reward_learning_rate: float = setting(1e-3, "Adam's step size", low=1e-8, high=1.0)
    reward_weight_decay: float = setting(
        1e-4, "decoupled weight decay on matrices", low=0.0, high=10.0
    )
    reward_steps: int = setting(
        1000,
        "gradient steps from all labels, over all iterations",
        unit="steps",
        low=1,
        high=1_000_000,
    )
    reward_batch: int = setting(32, "comparisons per step and member", low=1, high=65536)


class Segments(struct.PyTreeNode):
    """S segments of H steps."""

    observation: jax.Array
    """float32[S, H, O]: the state that each step led to."""
    action: jax.Array
    """float32[S, H, A] or int32[S, H]."""
    reward: jax.Array
    """float32[S, H]: the world's own reward. Only teachers read it."""


class Comparisons(struct.PyTreeNode):
    """L comparisons of two segments each; those still to come have weight 0."""

    first: jax.Array
    """int32[L]: indices of segments."""
    second: jax.Array
    """int32[L]: indices of segments."""
    label: jax.Array
    """float32[L]: 1 the first is preferred, 0 the second, 0.5 neither."""
    weight: jax.Array
    """float32[L]: 0 where there is no answer."""


class State(struct.PyTreeNode):
    """Everything that the reward of a step needs."""

    params: Any
    """Of the M members; leaves [M, ...]."""
    inputs: Standardiser
    """Of observations."""
    mean: jax.Array
    """float32[M]: each member's mean reward on the first iteration's segments."""
    scale: jax.Array
    """float32[M]: one over each member's standard deviation there."""
    prior: Any = None
    """{"params", "mean", "scale"} of the reward to which the members add; None: there is none."""


def bradley_terry(margin: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """The cross-entropy of labels l under sigma(m), softplus(m) - l m, as a weighted mean.

    Args:
      margin: m, float32[L].
      label: l in [0, 1], float32[L].
      weight: float32[L] in {0, 1}.

    Returns:
      float32[]; 0 where all weights are 0.
    """
    return jnp.sum(weight * (jax.nn.softplus(margin) - label * margin)) / jnp.maximum(
        jnp.sum(weight), 1.0
    )


def accuracy(margin: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """The share of decided comparisons that the margins predict.

    Args:
      margin: return differences, float32[L]; a margin of 0 counts as half right.
      label: float32[L]; 0.5 is undecided.
      weight: float32[L] in {0, 1}.

    Returns:
      float32[]; 0.5 where no comparison is decided.
    """
    decided = weight * (label != 0.5)
    right = jnp.where(margin == 0, 0.5, (margin > 0) == (label > 0.5))
    total = jnp.sum(decided)
    return jnp.where(total > 0, jnp.sum(decided * right) / jnp.maximum(total, 1.0), 0.5)


class RewardModel:
    """An ensemble of rewards: pure functions whose only memory is a `State`.

    Args:
      spec: the world's sizes.
      config: the settings.
      prior: (params of the prior, states that steps led to, actions) -> the reward to which the
        members add, float32[...]; None: there is none.
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        prior: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None,
    ):
        check_mask(spec.world, config)
        self.spec, self.config, self.prior = spec, config, prior
        self.net = MLP(tuple(config.reward_hidden), 1, head_scale=1.0 if prior is None else 0.0)
        self.with_action = config.reward_inputs == "state_action"
        self.action_width = spec.n_actions or spec.action_size
        matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        self.transform = optax.adamw(
            config.reward_learning_rate, weight_decay=config.reward_weight_decay, mask=matrices
        )

    def init(self, key: jax.Array, prior: Any = None) -> State:
        """The state before the first fit, in which every reward is 0.

        Args:
          key: of the members' weights; consumed.
          prior: params of the prior, if there is one.
        """
        width = self.spec.observation_size + (self.action_width if self.with_action else 0)
        keys = jax.random.split(key, self.config.members)
        params = jax.vmap(lambda k: self.net.init(k, jnp.zeros(width))["params"])(keys)
        size, members = self.spec.observation_size, self.config.members
        inputs = Standardiser(jnp.zeros(size), jnp.ones(size))
        prior_state = (
            None
            if self.prior is None
            else {"params": prior, "mean": jnp.zeros(()), "scale": jnp.zeros(())}
        )
        return State(params, inputs, jnp.zeros(members), jnp.zeros(members), prior_state)

    def see(self, state: State, segments: Segments) -> State:
        """Returns the state with input statistics and prior scale taken from the first iteration's
        segments.

        Their states standardise the inputs. The prior is shifted to mean 0 per step and scaled so
        that its sum over a segment has standard deviation 1.
        """
        rows = segments.observation.reshape(-1, self.spec.observation_size)
        inputs = standardiser(rows, jnp.ones(len(rows)), keep_constant=True)
        state = state.replace(inputs=masked(inputs, self.spec.world, self.config))
        if self.prior is None:
            return state
        reward = self.prior(state.prior["params"], segments.observation, segments.action)
        scale = 1.0 / (jnp.std(jnp.sum(reward, -1)) + 1e-8)
        return state.replace(prior={**state.prior, "mean": jnp.mean(reward), "scale": scale})

    def raw(
        self, params: Any, state: State, observation: jax.Array, action: jax.Array
    ) -> jax.Array:
        """Returns the unstandardised reward of one ensemble member plus the prior, float32[...].

        Args:
          params: of the member, without the axis of members.
          state: of which inputs and prior are read.
          observation: states that steps led to, float32[..., O].
          action: float32[..., A] or int32[...].
        """
        x = jnp.clip(state.inputs(observation), -INPUT_LIMIT, INPUT_LIMIT)
        if self.with_action:
            features = jax.nn.one_hot(action, self.action_width) if self.spec.n_actions else action
            x = jnp.concatenate([x, features], -1)
        reward = cast(jax.Array, self.net.apply({"params": params}, x))[..., 0]
        if self.prior is not None:
            prior = state.prior
            prior_reward = self.prior(prior["params"], observation, action)
            reward += (prior_reward - prior["mean"]) * prior["scale"]
        return jnp.tanh(reward) if self.config.bounded else reward

    def reward_fn(
        self, state: State, observation: jax.Array, action: jax.Array, next_observation: jax.Array
    ) -> jax.Array:
        """The learned reward of steps, float32[...]: the mean of the standardised members less
        `pessimism` times their standard deviation.

        Arguments as of `Learner.reward_fn`; `observation` is not read.
        """
        del observation
        each = jax.vmap(self.raw, (0, None, None, None))(
            state.params, state, next_observation, action
        )
        each = (each - _along(state.mean, each)) * _along(state.scale, each)
        return jnp.mean(each, 0) - self.config.pessimism * jnp.std(each, 0)

    def margins(
        self, state: State, segments: Segments, first: jax.Array, second: jax.Array
    ) -> jax.Array:
        """Return differences of pairs of segments, in each member's own unit.

        Args:
          state: the ensemble.
          segments: S segments.
          first: indices of segments, int32[C].
          second: indices of segments, int32[C].

        Returns:
          float32[M, C].
        """
        total = jax.vmap(
            lambda p: jnp.sum(self.raw(p, state, segments.observation, segments.action), -1)
        )(state.params)
        return total[:, first] - total[:, second]

    def fit(
        self,
        state: State,
        segments: Segments,
        comparisons: Comparisons,
        steps: int,
        key: jax.Array,
    ) -> tuple[State, jax.Array]:
        """Fits every member to the comparisons.

        Args:
          state: the ensemble.
          segments: S segments.
          comparisons: L comparisons of them.
          steps: number of gradient steps per member.
          key: consumed.

        Returns:
          The new state, and the mean loss of the last tenth of the steps, float32[].
        """
        count, training = len(comparisons.label), comparisons.weight
        upto = jnp.cumsum(training)

        def loss(params: Any, rows: jax.Array) -> jax.Array:
            both = jnp.concatenate([comparisons.first[rows], comparisons.second[rows]])
            reward = self.raw(params, state, segments.observation[both], segments.action[both])
            first, second = jnp.split(jnp.sum(reward, -1), 2)
            # Without any answer a batch holds one row many times, whose weight makes the loss 0.
            return bradley_terry(first - second, comparisons.label[rows], training[rows])

        def member(params: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
                params, opt_state = carry
                rows = jnp.minimum(draw(upto, key, self.config.reward_batch), count - 1)
                value, gradient = jax.value_and_grad(loss)(params, rows)
                updates, opt_state = self.transform.update(gradient, opt_state, params)
                return (optax.apply_updates(params, updates), opt_state), value

            start = (params, self.transform.init(params))
            (params, _), losses = jax.lax.scan(step, start, jax.random.split(key, steps))
            return params, jnp.mean(losses[-max(1, steps // 10) :])

        params, losses = jax.vmap(member)(state.params, jax.random.split(key, self.config.members))
        return state.replace(params=params), jnp.mean(losses)

    def standardise(self, state: State, segments: Segments) -> State:
        """The state in which each member has mean 0 and standard deviation 1 on the segments'
        steps."""
        each = jax.vmap(
            lambda p: self.raw(p, state, segments.observation, segments.action).reshape(-1)
        )(state.params)
        return state.replace(mean=jnp.mean(each, 1), scale=1.0 / (jnp.std(each, 1) + 1e-8))

    def fresh_accuracy(self, state: State, segments: Segments, key: jax.Array) -> jax.Array:
        """Accuracy of the standardised ensemble on up to PROBES random pairs of segments that it
        was not fitted to, float32[].

        Args:
          state: the ensemble.
          segments: S fresh segments with the world's own rewards, whose sums label a pair. Pairs
            of equal sums are not asked about.
          key: of the pairs; consumed.
        """
        first, second = jax.random.randint(key, (2, 8 * PROBES), 0, len(segments.reward))
        true = jnp.sum(segments.reward, -1)
        decided = true[first] != true[second]
        weight = decided * (jnp.cumsum(decided) <= PROBES)
        each = jax.vmap(
            lambda p: jnp.sum(self.raw(p, state, segments.observation, segments.action), -1)
        )(state.params)
        learned = jnp.mean(each * state.scale[:, None], 0)
        label = (true[first] > true[second]).astype(jnp.float32)
        return accuracy(learned[first] - learned[second], label, weight)


def _along(values: jax.Array, like: jax.Array) -> jax.Array:
    """float32[M] with axes of length 1 appended, so that it broadcasts with `like` [M, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
