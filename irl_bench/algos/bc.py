"""Behavioural cloning: supervised regression of the expert's actions on the expert's states.

    minimise E_D[-log pi(a|s)]   (or the squared error)
                                                             Pomerleau 1988; Ross & Bagnell 2010

Adam fits the policy to the demonstrations. A share of the episodes is held out. The weights of the
round with the lowest held-out loss are kept; after `patience` rounds without improvement they do
not change any more. Features that are constant in the demonstrations are dropped, because their
weights stay random and would disturb the action as soon as a feature takes another value.

In a twin of a world (`envs.history`) the rounds' metrics tell how much the policy copies
its last action. `history_dropout` and `adversary` keep it from that (`nets.copying`), and with
`interventions` it drives to find out what it should see (`algos._masks`).

With `time_indexed` the policy is a table of actions instead, one per time step and view.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from envs.core import World
from irl_bench.algos import _masks
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets import tables
from irl_bench.nets.copying import Adversary, forgetful, measures
from irl_bench.nets.policies import Policy, Standardiser, standardiser
from irl_bench.nets.supervised import (
    Averaged,
    Data,
    Kept,
    PolicyParams,
    averaged,
    fit,
    flatten,
    held_out_loss,
    optimiser,
)


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
    chunk: int = setting(
        1, "actions that are chosen at once and executed one after the other", low=1, high=1024
    )
    ema: float = setting(
        0.0,
        "decay of the average of the weights that acts; 0: the last weights act",
        low=0.0,
        high=0.99999,
    )
    tasil: float = setting(
        0.0,
        "weight of the squared difference between the policy's and the expert's derivatives",
        low=0.0,
        high=1000.0,
    )
    history_dropout: float = setting(
        0.0,
        "share of the rows whose past is hidden while training, in a world that shows the past",
        low=0.0,
        high=1.0,
    )
    adversary: float = setting(
        0.0,
        "weight of an adversary that guesses the last action, in a world that shows the past",
        low=0.0,
        high=1000.0,
    )
    interventions: int = setting(
        0,
        "rounds after the training in which the policy drives to find out what to see of the past",
        unit="rounds",
        low=0,
        high=10000,
    )
    time_indexed: bool = setting(
        False, "a table with an action per time step and view, instead of a network (chain)"
    )


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    weights: Any
    """Of the policy after the last round."""
    opt_state: Any
    """Of the optimiser of `weights`."""
    best: Kept
    """The policy with the lowest held-out loss."""
    key: jax.Array
    """Of the rounds to come."""


class Chunk(struct.PyTreeNode):
    """What a policy that chooses several actions at once remembers."""

    actions: jax.Array
    """float32[chunk, A]: the actions to come, the next one first."""
    left: jax.Array
    """int32[]: how many of them are left."""


def chunked(task: Task, chunk: int) -> Task:
    """The task with each action followed by the next ones.

    Args:
      task: the data of the learner.
      chunk: number of actions at once. Steps whose chunk would reach past the episode's end are
        masked.

    Returns:
      Actions float32[N, T, chunk * A].
    """
    demos = task.demonstrations
    if chunk == 1 or demos.action is None:
        return task

    def later(values: jax.Array, k: int) -> jax.Array:
        return jnp.concatenate([values[:, k:], jnp.zeros_like(values[:, :k])], axis=1)

    action = jnp.concatenate([later(demos.action, k) for k in range(chunk)], axis=-1)
    mask = jnp.prod(jnp.stack([later(demos.mask, k) for k in range(chunk)]), axis=0)
    return dataclasses.replace(
        task, demonstrations=dataclasses.replace(demos, action=action, mask=mask)
    )


def derivatives(
    world: World, policy: Policy, inputs: Standardiser, weight: float
) -> Callable[[Any, Data, jax.Array], jax.Array]:
    """The loss of Taylor series imitation learning, of first order (Pfrommer et al. 2022, arXiv
    2205.14812, equation 3.2): the policy's derivatives shall be the expert's.

    The squared difference of both Jacobians is estimated along one random direction per row, in
    units of the standardised observation. A chunk's first action counts.

    Args:
      world: with its dials bound; its expert is a function of the observation.
      policy: whose weights are fitted.
      inputs: standardises the observations.
      weight: of the loss.

    Returns:
      (weights, rows, key) -> float32[].
    """
    # A feature that is constant in the data has scale 0 and is not moved.
    unit = jnp.where(inputs.scale > 0, 1.0 / jnp.where(inputs.scale > 0, inputs.scale, 1.0), 0.0)

    def loss(weights: Any, batch: Data, key: jax.Array) -> jax.Array:
        direction = unit * jax.random.normal(key, batch.observation.shape)

        def mismatch(at: jax.Array, along: jax.Array) -> jax.Array:
            acts = lambda x: policy.mode(weights, inputs(x))[: world.action_size]
            own = jax.jvp(acts, (at,), (along,))[1]
            expert = jax.jvp(world.expert_at, (at,), (along,))[1]
            return jnp.sum(jnp.square(own - expert))

        return weight * jnp.mean(jax.vmap(mismatch)(batch.observation, direction))

    return loss


def best_of(task: Task, share: float) -> Task:
    """The task with only those demonstrations that have the highest returns.

    Args:
      task: its demonstrations hold rewards.
      share: of the demonstrations, rounded up to at least one. They keep their order.

    Raises:
      BadInput: the demonstrations have no rewards.
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
    return dataclasses.replace(task, demonstrations=jax.tree.map(lambda x: x[chosen], demos))


def split(task: Task, share: float, previous: bool = False) -> tuple[Data, Data]:
    """Rows for training and held-out rows.

    Args:
      task: the data of the learner.
      share: of the episodes, the last of which are held out: at least one of two or more. If none
        is held out, the held-out rows are those of training.
      previous: whether the rows hold the action of the step before.

    Raises:
      BadInput: the demonstrations have no actions.
    """
    demos = task.demonstrations
    episodes = demos.mask.shape[0]
    held = min(max(1, round(share * episodes)), episodes - 1) if share > 0 else 0
    training = jax.tree.map(lambda x: x[: episodes - held], demos)
    test = jax.tree.map(lambda x: x[episodes - held :], demos) if held else demos
    return (
        flatten(training.observation, training.action, training.mask, previous),
        flatten(test.observation, test.action, test.mask, previous),
    )


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of behavioural cloning. It acts with the mode of its policy."""
    _check(spec, config)
    if config.time_indexed:
        return _tables(spec, config)
    # A chunk has no single last action.
    twin = bool(spec.world.past) or spec.world.unwrapped is not spec.world
    past = twin and config.chunk == 1
    rows = lambda task: split(
        chunked(best_of(task, config.top), config.chunk), config.held_out, past
    )
    if config.interventions:
        return _masks.make(spec, config, rows)
    policy = Policy(spec, config.hidden, config.first_scale, chunk=config.chunk)
    transform = optimiser(
        config.learning_rate, config.weight_decay, config.rounds * config.steps_per_round
    )
    if config.ema:
        transform = averaged(transform, config.ema)
    augment = forgetful(spec.world.past, config.history_dropout) if config.history_dropout else None

    def init(key: jax.Array, task: Task) -> State:
        key, weights_key = jax.random.split(key)
        training, _ = rows(task)
        inputs = standardiser(training.observation, training.mask, config.keep_constant)
        weights = policy.init(weights_key)
        best = Kept.start(PolicyParams(weights, inputs))
        if config.adversary:
            adversary_key = jax.random.fold_in(weights_key, 1)
            layer = config.hidden[-1] if config.hidden else spec.observation_size
            weights = {
                **weights, Adversary.NAME: Adversary.init(adversary_key, layer, policy.size)
            }  # fmt: skip
        return State(weights, transform.init(weights), best, key)

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key = jax.random.split(state.key)
        training, test = rows(task)
        inputs = state.best.policy.inputs
        extra = None
        if config.tasil:
            extra = derivatives(spec.world.bind(task.dials), policy, inputs, config.tasil)
        elif config.adversary:
            extra = Adversary(policy, inputs, config.adversary)
        weights, opt_state, loss = fit(
            policy,
            config.loss,
            transform,
            state.weights,
            state.opt_state,
            inputs,
            training,
            fit_key,
            config.steps_per_round,
            config.batch_size,
            extra,
            augment,
        )
        acting = cast(Averaged, opt_state).average if config.ema else weights
        acting = {name: part for name, part in acting.items() if name != Adversary.NAME}
        held_out = held_out_loss(policy, config.loss, PolicyParams(acting, inputs), test)
        best = state.best.after(acting, held_out, config.patience)
        state = State(weights=weights, opt_state=opt_state, best=best, key=key)
        metrics = {
            "loss": loss,
            "held_out_loss": held_out,
            "best_held_out_loss": best.loss,
        }
        if past:
            shuffle_key = jax.random.fold_in(fit_key, 1)
            last = spec.world.last_action
            metrics |= measures(policy, best.policy, test, last, shuffle_key)
        return state, metrics

    def act(params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        return policy.mode(params.weights, params.inputs(observation))

    def act_in_chunks(
        params: PolicyParams, carry: Chunk, observation: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Chunk]:
        fresh = act(params, observation, key).reshape(config.chunk, -1)
        actions = jnp.where(carry.left == 0, fresh, carry.actions)
        left = jnp.where(carry.left == 0, config.chunk, carry.left) - 1
        return actions[0], Chunk(jnp.roll(actions, -1, axis=0), left)

    empty = Chunk(jnp.zeros((config.chunk, spec.action_size)), jnp.int32(0))
    return Learner(
        init=init,
        update=update,
        policy=lambda state: state.best.policy,
        act=act if config.chunk == 1 else act_in_chunks,
        rounds=config.rounds,
        consumes=_consumes(spec, config),
        carry=None if config.chunk == 1 else empty,
    )


def _check(spec: Spec, config: Config) -> None:
    """Raises BadInput for settings that the world, or a table of actions, does not allow."""
    if config.time_indexed:
        if not tables.indexable(spec.world):
            raise BadInput(
                "bc.time_indexed needs discrete actions and one-hot observations, which "
                f"{spec.world.name} has not; nearest: --env=chain"
            )
        for name, plain in (
            ("chunk", 1), ("ema", 0.0), ("tasil", 0.0), ("history_dropout", 0.0),
            ("adversary", 0.0), ("interventions", 0),
        ):  # fmt: skip
            value = getattr(config, name)
            if value != plain:
                raise BadInput(
                    f"bc.{name}={value:g} is for a network, which bc.time_indexed replaces by a "
                    f"table of actions; nearest: bc.{name}={plain:g}"
                )
    if config.chunk > 1 and spec.n_actions is not None:
        raise BadInput(
            f"bc.chunk={config.chunk} needs continuous actions, which {spec.world.name} has not; "
            "nearest: bc.chunk=1"
        )
    for name in ("history_dropout", "adversary", "interventions"):
        value = getattr(config, name)
        if value and not spec.world.past:
            raise BadInput(_needs_past(spec.world, name, value))
        if value and config.chunk > 1:
            raise BadInput(
                f"bc.{name}={value:g} keeps a policy from its last action, and one that chooses "
                f"{config.chunk} at once sees none for as long; nearest: bc.chunk=1"
            )
    if config.interventions:
        plain = {"ema": 0.0, "tasil": 0.0, "history_dropout": 0.0, "adversary": 0.0, "top": 1.0}
        other = next((name for name in plain if getattr(config, name) != plain[name]), None)
        if other:
            raise BadInput(
                f"bc.interventions={config.interventions} does without bc.{other}; nearest: "
                f"bc.{other}={plain[other]:g}"
            )
    for other in ("tasil", "history_dropout"):
        if config.adversary and getattr(config, other):
            raise BadInput(
                f"bc.adversary={config.adversary:g} does without bc.{other}; nearest: bc.{other}=0"
            )
    longest = min(spec.demo_steps, spec.horizon)
    if config.chunk > longest:
        raise BadInput(
            f"bc.chunk={config.chunk} is longer than a demonstration or an episode; nearest: "
            f"bc.chunk={longest}"
        )
    if config.tasil and not spec.world.expert_reads_observations:
        raise BadInput(
            f"bc.tasil={config.tasil:g} needs an expert that is a function of the observation, "
            f"which that of {spec.world.name} is not; nearest: bc.tasil=0"
        )


def _needs_past(world: World, name: str, value: float) -> str:
    """The error line for a remedy against copying in a world that shows no past."""
    shows = "last_action" in world.options
    hint = f"--{world.name}.last_action=visible" if shows else f"bc.{name}=0"
    return (
        f"bc.{name}={value:g} needs a world that shows the past, which {world.name} does not; "
        f"nearest: {hint}"
    )


def _tables(spec: Spec, config: Config) -> Learner:
    """The learner of a table that shares nothing between time steps. It needs one round."""
    n_actions = spec.n_actions
    assert n_actions is not None, "`_check` refuses worlds of continuous actions"

    def update(state: jax.Array, task: Task) -> tuple[jax.Array, dict[str, jax.Array]]:
        del state
        return tables.fit(best_of(task, config.top).demonstrations, n_actions), {}

    return Learner(
        init=lambda key, task: jnp.zeros((spec.demo_steps, spec.observation_size), jnp.int32),
        update=update,
        policy=lambda state: state,
        act=tables.act,
        rounds=1,
        consumes=_consumes(spec, config),
        carry=jnp.int32(0),
    )


def _consumes(spec: Spec, config: Config) -> Consumes:
    """All labels. To choose the best demonstrations, somebody ranks them with about n log2 n
    comparisons."""
    ranking = spec.demos * math.ceil(math.log2(spec.demos)) if config.top < 1.0 else 0
    return Consumes(expert_queries=spec.labels(), preference_labels=ranking)
