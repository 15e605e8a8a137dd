"""Rewards learned from comparisons of segments: an ensemble of networks under the Bradley-Terry
model.

    minimise -l log sigma(m) - (1 - l) log sigma(-m),
                         m = sum_t r(s_t, a_t) over the first segment - the same over the second
                          Bradley and Terry 1952; Christiano et al. 2017 (arXiv 1706.03741), eq. 1

A step is judged by the state it led to, since worlds pay for that, with `inputs=state_action` by
its action too. Every member has its own weights and its own batches. Comparisons say nothing of a
reward's origin and unit: it is given mean 0 and deviation 1 on the first iteration's segments,
member by member, before the members are averaged. With `pessimism` a state on which they disagree
counts for less (Coste et al. 2024, arXiv 2310.02743, eq. 3, with the deviation); `bounded`
judgements cannot grow without end where no segment has been (Lee et al. 2021, PEBBLE, arXiv
2106.05091, appendix B).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.quantities import INPUT_LIMIT
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec
from irl_bench.nets.policies import MLP, Standardiser, standardiser
from irl_bench.nets.supervised import draw

HELD_OUT = 10
"""Every tenth comparison is kept for the accuracy. Its segments may be in others too: pairs are
drawn at random."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a learned reward."""

    members: int = setting(3, "networks in the ensemble", low=1, high=64)
    reward_hidden: tuple[int, ...] = setting(
        (64, 64), "widths of their hidden layers", unit="units", low=1, high=4096
    )
    pessimism: float = setting(
        0.0, "deviations over members by which a judgement is lowered", low=0.0, high=100.0
    )
    reward_inputs: str = setting(
        "state", "what a reward depends on", choices=("state", "state_action")
    )
    bounded: bool = setting(False, "keep each member's judgement of a step within +-1 by a tanh")
    reward_learning_rate: float = setting(1e-3, "Adam's step size", low=1e-8, high=1.0)
    reward_weight_decay: float = setting(
        1e-4, "decoupled weight decay on matrices", low=0.0, high=10.0
    )
    reward_steps: int = setting(
        400,
        "gradient steps from all labels, over all iterations",
        unit="steps",
        low=1,
        high=1_000_000,
    )
    reward_batch: int = setting(32, "comparisons per step and member", low=1, high=65536)


@struct.dataclass
class Segments:
    """S segments of H steps."""

    observation: jax.Array
    """float32[S, H, O]: the state that each step led to."""
    action: jax.Array
    """float32[S, H, A] or int32[S, H]."""
    reward: jax.Array
    """float32[S, H]: the world's own reward, for teachers and for the accuracy alone."""


@struct.dataclass
class Comparisons:
    """L comparisons of two segments each; those not made yet have weight 0."""

    first: jax.Array
    """int32[L]."""
    second: jax.Array
    """int32[L]."""
    label: jax.Array
    """float32[L]: 1 the first is preferred, 0 the second, 0.5 neither."""
    weight: jax.Array
    """float32[L]: 0 where there is no answer."""


@struct.dataclass
class State:
    """An ensemble and all it needs to judge."""

    params: Any
    """Leaves [M, ...]."""
    inputs: Standardiser
    mean: jax.Array
    """float32[M]."""
    scale: jax.Array
    """float32[M]."""
    prior: Any = None
    """{"params", "mean", "scale"} of the reward that the members add to; None: they add to
    nothing."""


def bradley_terry(margin: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean of softplus(m) - l m over comparisons of weight 1: the cross-entropy of label l under
    sigma(m). float32[]."""
    return jnp.sum(weight * (jax.nn.softplus(margin) - label * margin)) / jnp.maximum(
        jnp.sum(weight), 1.0
    )


def accuracy(margin: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """Share of the decided comparisons whose sign the margin has; 0.5 where none is decided.
    float32[]."""
    decided = weight * (label != 0.5)
    right = jnp.where(margin == 0, 0.5, (margin > 0) == (label > 0.5))
    total = jnp.sum(decided)
    return jnp.where(total > 0, jnp.sum(decided * right) / jnp.maximum(total, 1.0), 0.5)


class RewardModel:
    """Pure functions of an ensemble's state.

    Args:
      prior: (its params, states that steps led to, actions) -> the reward that the members add to,
        float32[...]; None: nothing.
    """

    def __init__(
        self,
        spec: Spec,
        config: Any,
        prior: Callable[[Any, jax.Array, jax.Array], jax.Array] | None = None,
    ):
        self.spec, self.config, self.prior = spec, config, prior
        self.net = MLP(tuple(config.reward_hidden), 1, head_scale=1.0 if prior is None else 0.0)
        self.with_action = config.reward_inputs == "state_action"
        self.action_width = spec.n_actions or spec.action_size
        matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        self.transform = optax.adamw(
            config.reward_learning_rate, weight_decay=config.reward_weight_decay, mask=matrices
        )

    def init(self, key: jax.Array, prior: Any = None) -> State:
        """Random members that judge every state 0, and the prior's params; `key` is consumed."""
        width = self.spec.observation_size + (self.action_width if self.with_action else 0)
        keys = jax.random.split(key, self.config.members)
        params = jax.vmap(lambda k: self.net.init(k, jnp.zeros(width))["params"])(keys)
        size, members = self.spec.observation_size, self.config.members
        inputs = Standardiser(jnp.zeros(size), jnp.ones(size))
        held = (
            None
            if self.prior is None
            else {"params": prior, "mean": jnp.zeros(()), "scale": jnp.zeros(())}
        )
        return State(params, inputs, jnp.zeros(members), jnp.zeros(members), held)

    def see(self, state: State, segments: Segments) -> State:
        """With inputs standardised by the segments' states, and a prior whose sum over a segment
        has mean 0 and deviation 1."""
        rows = segments.observation.reshape(-1, self.spec.observation_size)
        state = state.replace(inputs=standardiser(rows, jnp.ones(len(rows)), keep_constant=True))
        if self.prior is None:
            return state
        found = self.prior(state.prior["params"], segments.observation, segments.action)
        scale = 1.0 / (jnp.std(jnp.sum(found, -1)) + 1e-8)
        return state.replace(prior={**state.prior, "mean": jnp.mean(found), "scale": scale})

    def raw(
        self, params: Any, state: State, observation: jax.Array, action: jax.Array
    ) -> jax.Array:
        """One member's judgement, float32[...], in its own unit; of `state` inputs and prior are
        read."""
        x = jnp.clip(state.inputs(observation), -INPUT_LIMIT, INPUT_LIMIT)
        if self.with_action:
            seen = jax.nn.one_hot(action, self.action_width) if self.spec.n_actions else action
            x = jnp.concatenate([x, seen], -1)
        found = self.net.apply({"params": params}, x)[..., 0]  # type: ignore[index]
        if self.prior is not None:
            held = state.prior
            found += (self.prior(held["params"], observation, action) - held["mean"]) * held[
                "scale"
            ]
        return jnp.tanh(found) if self.config.bounded else found

    def reward_fn(
        self, state: State, observation: jax.Array, action: jax.Array, next_observation: jax.Array
    ) -> jax.Array:
        """The reward of steps, float32[...], from the standardised members. As
        `Learner.reward_fn`."""
        del observation
        each = jax.vmap(self.raw, (0, None, None, None))(
            state.params, state, next_observation, action
        )
        each = (each - _along(state.mean, each)) * _along(state.scale, each)
        return jnp.mean(each, 0) - self.config.pessimism * jnp.std(each, 0)

    def margins(
        self, state: State, segments: Segments, first: jax.Array, second: jax.Array
    ) -> jax.Array:
        """Return differences float32[M, C] of pairs of segments int32[C], in each member's own
        unit."""
        total = jax.vmap(
            lambda p: jnp.sum(self.raw(p, state, segments.observation, segments.action), -1)
        )(state.params)
        return total[:, first] - total[:, second]

    def fit(
        self, state: State, segments: Segments, made: Comparisons, steps: int, key: jax.Array
    ) -> tuple[State, jax.Array]:
        """`steps` gradient steps of every member on comparisons that are not held out; `key` is
        consumed.

        Returns the state and the last tenth's mean loss, float32[].
        """
        count = len(made.label)
        training = made.weight * (jnp.arange(count) % HELD_OUT != 0)
        upto = jnp.cumsum(training)

        def loss(params: Any, rows: jax.Array) -> jax.Array:
            both = jnp.concatenate([made.first[rows], made.second[rows]])
            reward = self.raw(params, state, segments.observation[both], segments.action[both])
            one, two = jnp.split(jnp.sum(reward, -1), 2)
            # Without any answer all batches would be the first row: its weight makes their loss 0.
            return bradley_terry(one - two, made.label[rows], training[rows])

        def member(params: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
                params, opt_state = carry
                rows = jnp.minimum(draw(upto, key, self.config.reward_batch), count - 1)
                value, gradient = jax.value_and_grad(loss)(params, rows)
                updates, opt_state = self.transform.update(gradient, opt_state, params)
                return (optax.apply_updates(params, updates), opt_state), value

            begun = (params, self.transform.init(params))
            (params, _), losses = jax.lax.scan(step, begun, jax.random.split(key, steps))
            return params, jnp.mean(losses[-max(1, steps // 10) :])

        params, losses = jax.vmap(member)(state.params, jax.random.split(key, self.config.members))
        return state.replace(params=params), jnp.mean(losses)

    def standardise(self, state: State, segments: Segments) -> State:
        """With mean 0 and deviation 1, member by member, on the segments' states."""
        each = jax.vmap(
            lambda p: self.raw(p, state, segments.observation, segments.action).reshape(-1)
        )(state.params)
        return state.replace(mean=jnp.mean(each, 1), scale=1.0 / (jnp.std(each, 1) + 1e-8))

    def held_out(self, state: State, segments: Segments, made: Comparisons) -> jax.Array:
        """Accuracy of the standardised ensemble on the comparisons kept back, float32[]."""
        margin = jnp.mean(
            self.margins(state, segments, made.first, made.second) * state.scale[:, None], 0
        )
        return accuracy(
            margin, made.label, made.weight * (jnp.arange(len(made.label)) % HELD_OUT == 0)
        )


def _along(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.reshape(-1, *[1] * (like.ndim - 1))
