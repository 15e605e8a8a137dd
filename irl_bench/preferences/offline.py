"""Preferences without a learned reward (DPO, CPL): the policy itself is fitted to comparisons of
segments that begin alike.

Both segments of a pair start in the same state and share the world's random numbers, so that only
their actions differ. The sum of log-probability ratios along a segment equals its return plus the
value of its last state, up to a constant of its first state (Rafailov et al. 2023, arXiv
2305.18290, section 4; Hejna et al. 2024, arXiv 2310.13639, section 3). So a teacher compares
returns over the segment and over `tail` further steps of the reference policy, which sample that
value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, Standardiser, standardiser, view
from irl_bench.nets.supervised import PolicyParams, draw
from irl_bench.preferences import reward_model, teachers
from irl_bench.rl import ppo
from irl_bench.rollouts import starts
from irl_bench.rollouts.experience import ActionSample


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of fitting a policy to comparisons."""

    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the hidden layers", unit="units", low=1, high=4096
    )
    bc_steps: int = setting(
        2400,
        "gradient steps of the cloning that the policy starts from",
        unit="steps",
        low=1,
        high=10_000_000,
    )
    log_std: float = setting(
        -2.0, "log-deviation of raw actions, which is not trained", low=-5.0, high=1.0
    )
    labels: int = setting(
        1000, "comparisons that the teacher is asked for", unit="labels", low=10, high=10_000_000
    )
    teacher: str = setting("oracle", "who compares", choices=tuple(teachers.TEACHERS))
    segment: int = setting(50, "length of a segment", unit="steps", low=1, high=10_000)
    tail: int = setting(
        100,
        "steps of the reference policy after the segment that are compared too",
        unit="steps",
        low=0,
        high=100_000,
    )
    warm: int = setting(
        200,
        "each pair starts after 0 to warm - 1 steps of the reference policy",
        unit="steps",
        low=1,
        high=100_000,
    )
    learning_rate: float = setting(3e-4, "Adam's step size", low=1e-8, high=1.0)
    rounds: int = setting(20, "rounds of training", unit="rounds", low=1, high=10_000)
    steps_per_round: int = setting(
        50, "gradient steps in a round", unit="steps", low=1, high=1_000_000
    )
    batch_size: int = setting(64, "comparisons per gradient step", low=1, high=65536)


class Pairs(struct.PyTreeNode):
    """L pairs of segments of H steps; both of a pair begin in the same state."""

    observation: jax.Array
    """float32[L, 2, H, O], standardised."""
    raw: jax.Array
    """float32[L, 2, H, A], the actions before the tanh, or int32[L, 2, H]."""
    reference: jax.Array
    """float32[L, 2, H]: log pi_ref of the actions."""
    label: jax.Array
    """float32[L]: 1 the first is preferred, 0 the second, 0.5 neither."""
    weight: jax.Array
    """float32[L]: 0 where there is no answer."""


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    weights: Any
    """Of the policy."""
    opt_state: Any
    """Of the optimiser of `weights`."""
    reference: Any
    """Weights of the reference policy, the clone."""
    inputs: Standardiser
    """Of observations."""
    pairs: Pairs
    """All pairs and their labels."""
    probes: Pairs
    """Fresh pairs, labelled by their true returns, on which the accuracy of the policy's implicit
    reward is measured. They are used for nothing else and count in no budget."""
    key: jax.Array
    """Of the rounds to come."""


Loss = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(log pi[L, 2, H], log pi_ref[L, 2, H], label[L], weight[L]) -> float32[]"""


def _with_tail(reward: jax.Array, segment: int) -> jax.Array:
    """Rewards of a segment, with the tail's sum added to its last step.

    A teacher may discount the segment's steps; the value of its last state then still counts in
    full.

    Args:
      reward: float32[..., segment + tail].
      segment: length of the segment [steps].

    Returns:
      float32[..., segment].
    """
    return reward[..., :segment].at[..., -1].add(jnp.sum(reward[..., segment:], -1))


def make(spec: Spec, config: Config, loss: Loss) -> Learner:
    """A learner that clones the demonstrations and then minimises `loss` over comparisons.

    Args:
      spec: the world and its sizes.
      config: the settings.
      loss: of the policy on a batch of pairs.
    """
    policy = Policy(spec, config.hidden, log_std=config.log_std)
    transform = optax.adam(config.learning_rate)
    steps = config.segment + config.tail

    def init(key: jax.Array, task: Task) -> State:
        key, policy_key, fit_key, pairs_key = jax.random.split(key, 4)
        probe_key = jax.random.fold_in(pairs_key, 1)
        demos = task.demonstrations
        rows = demos.observation.reshape(-1, spec.observation_size)
        inputs = standardiser(rows, demos.mask.reshape(-1), keep_constant=True)
        weights = policy.with_log_std(
            ppo.clone(policy, policy.init(policy_key), inputs, demos, config.bc_steps, fit_key)
        )
        pairs = ask(weights, inputs, task.dials, config.teacher, config.labels, pairs_key)
        probes = ask(weights, inputs, task.dials, "oracle", reward_model.PROBES, probe_key)
        return State(weights, transform.init(weights), weights, inputs, pairs, probes, key)

    def ask(
        weights: Any, inputs: Standardiser, dials: Any, who: str, count: int, key: jax.Array
    ) -> Pairs:
        """`count` rollouts in pairs, with the answers of the teacher `who`; `key` is consumed."""
        world, teacher = spec.world.bind(dials), teachers.TEACHERS[who]
        pair_key, answer_key = jax.random.split(key)

        def act(observation: jax.Array, key: jax.Array) -> ActionSample:
            x = view(inputs, observation)
            raw = policy.draw(weights, x, key)
            return ActionSample(policy.squash(raw), raw, policy.log_prob(weights, x, raw))

        batch = starts.shared(world, act, count, 2, config.warm, steps, pair_key)
        reward = _with_tail(batch.reward, config.segment)
        pool = teachers.pool_of(teacher, reward.reshape(2 * count, config.segment))
        label, weight = teachers.answer(teacher, reward[:, 0], reward[:, 1], pool, answer_key)
        observation, raw, log_prob = jax.tree.map(
            lambda x: x[:, :, : config.segment], (batch.observation, batch.raw, batch.log_prob)
        )
        return Pairs(view(inputs, observation), raw, log_prob, label, weight)

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key = jax.random.split(state.key)
        pairs = state.pairs
        upto = jnp.cumsum(pairs.weight)

        def objective(weights: Any, rows: jax.Array) -> jax.Array:
            part = jax.tree.map(lambda x: x[rows], pairs)
            log_prob = policy.log_prob(weights, part.observation, part.raw)
            return loss(log_prob, part.reference, part.label, part.weight)

        def step(carry: Any, key: jax.Array) -> Any:
            weights, opt_state = carry
            rows = jnp.minimum(draw(upto, key, config.batch_size), config.labels - 1)
            value, gradient = jax.value_and_grad(objective)(weights, rows)
            # A loser's log-probability would fall fastest if the policy became narrower.
            if not policy.discrete:
                gradient = {**gradient, "log_std": jnp.zeros_like(gradient["log_std"])}
            updates, opt_state = transform.update(gradient, opt_state, weights)
            return (optax.apply_updates(weights, updates), opt_state), value

        keys = jax.random.split(fit_key, config.steps_per_round)
        (weights, opt_state), losses = jax.lax.scan(step, (state.weights, state.opt_state), keys)
        log_prob = jnp.sum(policy.log_prob(weights, pairs.observation, pairs.raw), -1)
        chosen = jnp.where(pairs.label > 0.5, 0, 1)
        decided = pairs.weight * (pairs.label != 0.5)
        mean = lambda x: jnp.sum(x * decided) / jnp.maximum(jnp.sum(decided), 1.0)
        pick = lambda x, at: jnp.take_along_axis(x, at[:, None], 1)[:, 0]
        fresh = jnp.sum(
            policy.log_prob(weights, state.probes.observation, state.probes.raw)
            - state.probes.reference,
            -1,
        )
        metrics = {
            "loss": jnp.mean(losses),
            "log_prob_chosen": mean(pick(log_prob, chosen)),
            "log_prob_rejected": mean(pick(log_prob, 1 - chosen)),
            "reward_accuracy": reward_model.accuracy(
                fresh[:, 0] - fresh[:, 1], state.probes.label, state.probes.weight
            ),
            "reference_kl": jnp.mean(policy.kl(weights, state.reference, pairs.observation)),
            "answered": jnp.sum(pairs.weight),
            "ties": jnp.mean(pairs.weight * (pairs.label == 0.5)),
        }
        return state.replace(weights=weights, opt_state=opt_state, key=key), metrics

    def act(params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return policy.mode(params.weights, view(params.inputs, observation))

    env_steps = config.labels * (config.warm + 2 * steps)
    return Learner(
        init=init,
        update=update,
        policy=lambda state: PolicyParams(state.weights, state.inputs),
        act=act,
        rounds=config.rounds,
        consumes=Consumes(
            expert_queries=spec.labels(), env_steps=env_steps, preference_labels=config.labels
        ),
    )
