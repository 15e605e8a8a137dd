"""DAgger: behavioural cloning on the states that the learner itself visits, labelled by the expert.

    repeat: roll out beta_i pi* + (1 - beta_i) pi_i; label its states with pi*; aggregate; refit
                                Ross, Gordon & Bagnell 2011 (arXiv 1011.0686), algorithm 3.1

The first round fits demonstrations alone (beta = 1). The rest of the label budget is spent online,
so that DAgger never uses more labels than behavioural cloning with all demonstrations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import State as WorldState
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, standardiser
from irl_bench.nets.supervised import Data, PolicyParams, fit, flatten, optimiser
from irl_bench.rollouts.scan import observation_of, scan


@dataclasses.dataclass(frozen=True)
class AggregateConfig:
    """Settings of algorithms that refit to data they aggregate."""

    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the hidden layers", unit="units", low=1, high=4096
    )
    loss: str = setting("nll", "what is minimised", choices=("nll", "mse"))
    learning_rate: float = setting(
        3e-3, "Adam's step size at the start of each round's cosine to 0", low=1e-7, high=1.0
    )
    weight_decay: float = setting(1e-2, "decoupled weight decay on matrices", low=0.0, high=10.0)
    batch_size: int = setting(512, "rows per gradient step", unit="rows", low=1, high=65536)
    iterations: int = setting(
        5,
        "rounds of rollout, labels and refitting after the first fit",
        unit="rounds",
        low=1,
        high=1000,
    )
    steps_per_round: int = setting(
        400, "gradient steps in a round", unit="steps", low=1, high=1000000
    )
    initial: float = setting(
        0.5, "share of the label budget that is demonstrations", low=0.01, high=0.99
    )
    episode_steps: int = setting(
        128, "length of a labelled rollout", unit="steps", low=1, high=100000
    )
    first_scale: float = setting(
        1.0, "factor on the first layer's initial weights", low=0.0, high=10.0
    )
    keep_constant: bool = setting(False, "keep features that are constant in the data")


@dataclasses.dataclass(frozen=True)
class Config(AggregateConfig):
    """Settings of DAgger."""

    beta: str = setting(
        "none",
        "schedule of beta_i, the probability that the expert takes a step",
        choices=("none", "linear", "exponential"),
    )
    beta_decay: float = setting(
        0.5, "linear: beta_i = 1 - i * decay; exponential: (1 - decay)^i", low=0.0, high=1.0
    )


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    weights: Any
    """Of the policy."""
    params: PolicyParams
    """The policy, with the standardiser of its observations."""
    data: Data
    """The aggregate at its final size; rows still to come have mask 0."""
    round: jax.Array
    """int32[]: rounds done."""
    key: jax.Array
    """Of the rounds to come."""


def beta_at(config: Config, i: jax.Array) -> jax.Array:
    """beta_i, the probability that the expert takes a step in round i >= 1; float32[]."""
    if config.beta == "linear":
        return jnp.maximum(0.0, 1.0 - i * config.beta_decay)
    if config.beta == "exponential":
        return (1.0 - config.beta_decay) ** i
    return jnp.zeros(())


def budget(spec: Spec, config: AggregateConfig) -> tuple[int, int, int]:
    """Divides the labels that all demonstrations hold between demonstrations and rollouts.

    Returns:
      (demonstrations used, rollouts per iteration, steps per rollout).
    """
    initial = min(max(1, round(config.initial * spec.demos)), spec.demos)
    online = spec.labels() - spec.labels(initial)
    steps = max(1, min(config.episode_steps, online // config.iterations)) if online else 1
    return initial, online // (config.iterations * steps), steps


Acting = Callable[[Policy, PolicyParams, Data, jax.Array], Any]
"""(policy, params, aggregate, round) -> what `Choice` needs in this round."""
Choice = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]
"""(what `Acting` returned, the expert's action, the learner's action, key) -> the action that is
executed."""


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of DAgger. It acts with the mode of its policy."""

    def acting(policy: Policy, params: PolicyParams, data: Data, round: jax.Array) -> jax.Array:
        return beta_at(config, round)

    def choice(beta: Any, label: jax.Array, own: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.uniform(key) < beta, label, own)

    return aggregating(spec, config, acting, choice)


def aggregating(
    spec: Spec, config: AggregateConfig, acting: Acting, choice: Choice, by_expert: bool = False
) -> Learner:
    """Returns a learner that rolls out, has the states labelled, aggregates and refits.

    Args:
      spec: sizes and world.
      config: its settings.
      acting, choice: what is executed in a rollout.
      by_expert: whether the expert itself acts in the rollouts. They are then demonstrations, and
        no steps of the learner. With `spec.clean` those that hold a failure are not used.
    """
    policy = Policy(spec, config.hidden, config.first_scale)
    transform = optimiser(config.learning_rate, config.weight_decay, config.steps_per_round)
    initial, episodes, steps = budget(spec, config)
    demo_rows, online_rows = initial * spec.demo_steps, episodes * steps

    def init(key: jax.Array, task: Task) -> State:
        key, weights_key = jax.random.split(key)
        demos = jax.tree.map(lambda x: x[:initial], task.demonstrations)
        first = flatten(demos.observation, demos.action, demos.mask)
        data = jax.tree.map(
            lambda x: jnp.zeros(
                (demo_rows + config.iterations * online_rows, *x.shape[1:]), x.dtype
            ),
            first,
        )
        data = jax.tree.map(lambda whole, part: whole.at[:demo_rows].set(part), data, first)
        weights = policy.init(weights_key)
        inputs = standardiser(data.observation, data.mask, config.keep_constant)
        return State(weights, PolicyParams(weights, inputs), data, jnp.int32(0), key)

    def rollout(
        params: PolicyParams, dials: Any, context: Any, key: jax.Array
    ) -> tuple[Data, jax.Array, jax.Array]:
        """Rolls out what `choice` executes; `key` is consumed.

        Returns:
          episodes * steps labelled states; the number of departures into failure, float32[]; and
          the number of steps that ended in failure, float32[].
        """
        world = spec.world.bind(dials)

        def episode(key: jax.Array) -> Any:
            reset_key, key = jax.random.split(key)

            def mixed(state: WorldState, _: None, key: jax.Array) -> tuple[jax.Array, jax.Array]:
                expert_key, act_key, mix_key = jax.random.split(key, 3)
                label = world.expert(state, expert_key)
                own = act(params, observation_of(state), act_key)
                return choice(context, label, own, mix_key), label

            def record(before: WorldState, after: WorldState, _: None, label: jax.Array) -> Any:
                before_off, after_off = before.metrics["cost"], after.metrics["cost"]
                departed = (1.0 - before_off) * after_off
                return after, None, (before.obs, label, departed, after_off)

            keys = jax.random.split(key, steps)
            return scan(world, mixed, record, world.begin(reset_key), keys)[1]

        observation, label, departed, off = jax.vmap(episode)(jax.random.split(key, episodes))
        used = jnp.all(off == 0.0, 1) if by_expert and spec.clean else jnp.ones(episodes, bool)
        return (
            flatten(observation, label, jnp.broadcast_to(used[:, None] * 1.0, off.shape)),
            jnp.sum(departed),
            jnp.sum(off),
        )

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, rollout_key, fit_key = jax.random.split(state.key, 3)
        data, departures, off_steps = state.data, jnp.zeros(()), jnp.zeros(())
        # The first round fits the demonstrations alone.
        online = (state.round > 0).astype(jnp.float32)
        if episodes:
            context = acting(policy, state.params, state.data, state.round)
            new, departures, off_steps = rollout(state.params, task.dials, context, rollout_key)
            new = new.replace(mask=new.mask * online)
            start = demo_rows + jnp.maximum(state.round - 1, 0) * online_rows
            data = jax.tree.map(
                lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
                data,
                new,
            )

        inputs = standardiser(data.observation, data.mask, config.keep_constant)
        weights, _, loss = fit(
            policy,
            config.loss,
            transform,
            state.weights,
            transform.init(state.weights),
            inputs,
            data,
            fit_key,
            config.steps_per_round,
            config.batch_size,
        )
        metrics = {
            "loss": loss,
            "labels": jnp.sum(data.mask),
            "departures": online * departures,
            "failed_steps": online * off_steps,
        }
        return State(weights, PolicyParams(weights, inputs), data, state.round + 1, key), metrics

    def act(params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        return policy.mode(params.weights, params.inputs(observation))

    online_labels = config.iterations * online_rows
    consumes = Consumes(
        expert_queries=spec.labels(initial) + online_labels,
        env_steps=0 if by_expert else online_labels,
        interactive=not by_expert,
    )
    return Learner(
        init=init,
        update=update,
        policy=lambda state: state.params,
        act=act,
        rounds=1 + config.iterations,
        consumes=consumes,
    )
