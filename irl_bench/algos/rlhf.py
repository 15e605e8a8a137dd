"""Reinforcement learning from (simulated) human feedback: clone, learn a reward from comparisons,
optimise it near the clone.

    1. SFT: pi_ref, a clone of the demonstrations
    2. reward: Bradley-Terry on segments of pi_ref's rollouts
    3. PPO on r - beta log(pi / pi_ref)
                                                 Ouyang et al. 2022 (arXiv 2203.02155), figure 2

All labels are asked for once, before the first round; `rlhf_iterated` asks again. A reward knows
nothing of states that its segments never reached, and a clone may leave the lane on one side alone.
So the rollouts that are compared hold random actions too (docs/lab/2026-11-25-noise-and-kl.md).

With `teacher=human` the comparisons are those of a folder that `launch/label.py` has filled
(`--given=FOLDER`), the same for every seed. With `init=airl` a run of AIRL (`--given=RUN`) gives the
first policy and the first reward, in place of step 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from irl_bench.core.handover import PEOPLE, Part
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import inverse, queries, teachers, trainer
from irl_bench.preferences.reward_model import Comparisons, Segments
from irl_bench.rl.ppo import is_zero


@dataclasses.dataclass(frozen=True)
class Config(trainer.Config):
    """Settings of RLHF."""

    labels: int = setting(
        1000,
        "comparisons that the teacher is asked for, in all",
        unit="labels",
        low=10,
        high=10_000_000,
    )
    teacher: str = setting("oracle", "who compares", choices=(*teachers.TEACHERS, PEOPLE))
    queries: str = setting("uniform", "which pairs are asked about", choices=queries.QUERIES)
    pool: str = setting(
        "policy", "whose rollouts are compared: the current policy's, or half of them the "
                  "reference's",
        choices=("policy", "both"),
    )  # fmt: skip
    pool_noise: float = setting(
        0.3,
        "probability of a random action in the last of these rollouts; it rises from 0 in the "
        "first",
        low=0.0,
        high=1.0,
    )
    init: str = setting(
        "bc", "what it begins with and is measured from: a clone of the demonstrations, or AIRL's "
              "policy, and its reward too",
        choices=("bc", "airl"),
    )  # fmt: skip
    shuffled: bool = setting(False, "permute the answers, so that they say nothing (a control)")


def takes(config: Config) -> tuple[Part, ...]:
    """People's comparisons with `teacher=human`; the policy and the reward of a run of AIRL with
    `init=airl`."""
    if config.teacher == PEOPLE and config.init == "airl":
        raise BadInput("teacher=human and init=airl both need --given; nearest: init=bc")
    if config.teacher == PEOPLE:
        return ("comparisons",)
    return inverse.PARTS if config.init == "airl" else ()


def make(spec: Spec, config: Config) -> Learner:
    """RLHF with a simulated teacher, or with people's comparisons."""
    return from_people(spec, config) if config.teacher == PEOPLE else train(spec, config)


def from_people(spec: Spec, config: Config) -> Learner:
    """The learner whose comparisons people have made before. Raises BadInput if none are given."""
    donor = spec.donor
    if donor is None or donor.algo != PEOPLE:
        raise BadInput(
            "teacher=human takes comparisons; nearest: --given=FOLDER of launch/label.py"
        )
    facts = donor.config
    config = dataclasses.replace(
        config,
        segment=facts["segment"],
        pool_steps=max(config.pool_steps, facts["segment"]),
    )

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        assert task.given is not None
        observation, action, first, second, label = task.given.comparisons
        # No world paid a reward along these segments, so it reads 0.
        segments = Segments(observation, action, jnp.zeros(observation.shape[:2]))
        return segments, Comparisons(first, second, label, jnp.ones(len(label)))

    # The clips are rollouts of a clone of demonstrations of their own.
    learner = trainer.Trainer(
        spec, config, ask, facts["answers"], facts["segments"], pool_steps=facts["env_steps"]
    )
    return learner.learner(
        Consumes(expert_queries=facts["expert_queries"], preference_labels=facts["asked"])
    )


def train(spec: Spec, config: Config, iterations: int = 1, restart: bool = False) -> Learner:
    """The learner that asks `iterations` times for its share of the labels."""
    return asking(spec, config, iterations, restart).learner(
        Consumes(preference_labels=config.labels)
    )


def asking(
    spec: Spec, config: Config, iterations: int = 1, restart: bool = False
) -> trainer.Trainer:
    """The trainer that does."""
    if config.labels % iterations:
        near = max(config.labels // iterations, 10) * iterations
        raise BadInput(
            f"labels={config.labels} cannot be shared by {iterations} iterations; nearest: "
            f"labels={near}"
        )
    count = config.labels // iterations
    each = config.pool_worlds * (config.pool_steps // min(config.segment, config.pool_steps))
    if each < 2:
        raise BadInput(
            f"pool_worlds={config.pool_worlds} gives one segment, nothing to compare; nearest: "
            "pool_worlds=2"
        )
    if iterations == 1 and config.queries != "uniform":
        raise BadInput(f"queries={config.queries}: before the only labels no reward is fitted that "
                       "could be unsure; nearest: "
                       "--algo=rlhf_iterated "
                       f"--rlhf_iterated.queries={config.queries}")  # fmt: skip
    teacher = teachers.TEACHERS[config.teacher]

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        pool_key, pair_key, answer_key, shuffle_key = jax.random.split(key, 4)
        segments, _ = trainer.pool(
            spec,
            task.dials,
            noisy(acting(state)),
            config.pool_worlds,
            config.pool_steps,
            config.segment,
            pool_key,
        )
        first, second = queries.pairs(config.queries, each, count, pair_key)
        margin = learner.rewards.margins(state.reward, segments, first, second)
        # The first candidates are as good as any while no reward has been fitted yet.
        chosen = jnp.where(
            learner.iteration(state) == 0,
            jnp.arange(count),
            queries.choose(config.queries, margin, count),
        )
        first, second = first[chosen], second[chosen]
        known = teachers.pool_of(teacher, segments.reward)
        label, weight = teachers.answer(
            teacher, segments.reward[first], segments.reward[second], known, answer_key
        )
        if config.shuffled:
            order = jax.random.permutation(shuffle_key, count)
            label, weight = label[order], weight[order]
        return segments, Comparisons(first, second, label, weight)

    def noisy(act: Any) -> Any:
        if is_zero(config.pool_noise):
            return act
        return trainer.noisy(
            spec, act, jnp.linspace(0.0, 1.0, config.pool_worlds) * config.pool_noise
        )

    def acting(state: trainer.State) -> Any:
        own = learner.draw(state.policy, state.policy.weights["policy"])
        if config.pool == "policy":
            return own
        reference = learner.draw(state.policy, state.policy.reference)
        half = jnp.arange(config.pool_worlds) % 2 == 0

        def act(observation: jax.Array, key: jax.Array) -> Any:
            pick = lambda a, b: jnp.where(half.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            return jax.tree.map(pick, own(observation, key), reference(observation, key))

        return act

    pool_steps = iterations * config.pool_worlds * config.pool_steps
    if config.init == "airl" and config.statistics != "demonstrations":
        raise BadInput(
            "init=airl goes on seeing what AIRL's policy saw; nearest: statistics=demonstrations"
        )
    start = inverse.Start(spec, config.hidden) if config.init == "airl" else None
    learner = trainer.Trainer(
        spec, config, ask, count, each, pool_steps, iterations, restart, start
    )
    return learner
