"""Behavioural cloning: supervised regression of the expert's actions on the expert's states.

    minimise E_D[-log pi(a|s)]   (or the squared error)
                                                             Pomerleau 1988; Ross & Bagnell 2010

with Adam, on demonstrations alone. A share of the episodes is held out; the weights of the round
with the lowest held-out loss are kept, and training stops changing them after `patience` rounds
without a new one. Features that never vary in the demonstrations are dropped: a random weight on a
value that was never seen would act by accident the first time it appears.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, standardiser
from irl_bench.nets.supervised import Data, PolicyParams, fit, flatten, held_out_loss, optimiser


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of behavioural cloning."""

    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the hidden layers", unit="units", low=1, high=4096
    )
    loss: str = setting("nll", "what is minimised", choices=("nll", "mse"))
    learning_rate: float = setting(
        3e-3, "Adam's step size at the start of a cosine to 0", low=1e-7, high=1.0
    )
    weight_decay: float = setting(1e-2, "decoupled weight decay on matrices", low=0.0, high=10.0)
    batch_size: int = setting(256, "rows per gradient step", unit="rows", low=1, high=65536)
    rounds: int = setting(
        24,
        "rounds of training; the held-out loss is taken after each",
        unit="rounds",
        low=1,
        high=10000,
    )
    steps_per_round: int = setting(
        100, "gradient steps in a round", unit="steps", low=1, high=1000000
    )
    held_out: float = setting(
        0.1, "share of the demonstrations held out for early stopping", low=0.0, high=0.5
    )
    patience: int = setting(
        10,
        "rounds without a better held-out loss before training stops",
        unit="rounds",
        low=1,
        high=10000,
    )
    first_scale: float = setting(
        1.0, "factor on the first layer's initial weights", low=0.0, high=10.0
    )
    keep_constant: bool = setting(False, "keep features that are constant in the demonstrations")
    top: float = setting(
        1.0,
        "share of the demonstrations that is cloned, those of the highest return",
        low=0.0,
        high=1.0,
    )


@struct.dataclass
class State:
    weights: Any
    opt_state: Any
    best: PolicyParams
    best_loss: jax.Array
    stale: jax.Array
    """int32: rounds since the best held-out loss."""
    key: jax.Array


def best_of(task: Task, share: float) -> Task:
    """The task with the `share` of its demonstrations that have the highest return, at least one,
    in the order they had.

    Raises:
      BadInput: demonstrations without rewards.
    """
    demos = task.demonstrations
    if share == 1.0:
        return task
    if demos.reward is None:
        raise BadInput(
            f"top={share:g} needs demonstrations with rewards, which these lack; nearest: top=1"
        )
    count = max(1, math.ceil(share * demos.mask.shape[0] - 1e-9))
    chosen = jnp.sort(jnp.argsort(-jnp.sum(demos.reward * demos.mask, 1))[:count])
    return task.replace(demonstrations=jax.tree.map(lambda x: x[chosen], demos))


def split(task: Task, share: float) -> tuple[Data, Data]:
    """Training and held-out rows: the last `share` of the episodes, at least one where there are
    two."""
    demos = task.demonstrations
    episodes = demos.mask.shape[0]
    held = min(max(1, round(share * episodes)), episodes - 1) if share > 0 else 0
    training = jax.tree.map(lambda x: x[: episodes - held], demos)
    test = jax.tree.map(lambda x: x[episodes - held :], demos) if held else demos
    return (
        flatten(training.observation, training.action, training.mask),
        flatten(test.observation, test.action, test.mask),
    )


def make(spec: Spec, config: Config) -> Learner:
    policy = Policy(spec, config.hidden, config.first_scale)
    transform = optimiser(
        config.learning_rate, config.weight_decay, config.rounds * config.steps_per_round
    )

    def init(key: jax.Array, task: Task) -> State:
        key, weights_key = jax.random.split(key)
        training, _ = split(best_of(task, config.top), config.held_out)
        inputs = standardiser(training.observation, training.mask, config.keep_constant)
        weights = policy.init(weights_key)
        best = PolicyParams(weights, inputs)
        return State(
            weights, transform.init(weights), best, jnp.float32(jnp.inf), jnp.int32(0), key
        )

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key = jax.random.split(state.key)
        training, test = split(best_of(task, config.top), config.held_out)
        weights, opt_state, loss = fit(
            policy,
            config.loss,
            transform,
            state.weights,
            state.opt_state,
            state.best.inputs,
            training,
            fit_key,
            config.steps_per_round,
            config.batch_size,
        )
        held_out = held_out_loss(
            policy, config.loss, PolicyParams(weights, state.best.inputs), test
        )
        # A NaN loss counts as better, so that a broken seed shows in its policy instead of hiding
        # behind its last good weights.
        better = ~(held_out >= state.best_loss) & (state.stale < config.patience)
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), weights, state.best.weights
        )
        state = State(
            weights=weights,
            opt_state=opt_state,
            best=PolicyParams(best, state.best.inputs),
            best_loss=jnp.where(better, held_out, state.best_loss),
            stale=jnp.where(
                state.stale >= config.patience, state.stale, jnp.where(better, 0, state.stale + 1)
            ),
            key=key,
        )
        return state, {
            "loss": loss,
            "held_out_loss": held_out,
            "best_held_out_loss": state.best_loss,
        }

    def act(params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        return policy.mode(params.weights, params.inputs(observation))

    # Somebody ranks the demonstrations before the best are chosen: about n log2 n comparisons.
    ranking = spec.demos * math.ceil(math.log2(spec.demos)) if config.top < 1.0 else 0
    consumes = Consumes(expert_queries=spec.labels(), preference_labels=ranking)
    return Learner(
        init=init,
        update=update,
        policy=lambda state: state.best,
        act=act,
        rounds=config.rounds,
        consumes=consumes,
    )
