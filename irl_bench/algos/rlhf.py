"""Reinforcement learning from human feedback, simulated or real: clone the expert, learn a reward
from comparisons, and maximise it close to the clone.

    1. SFT: pi_ref, a clone of the demonstrations
    2. reward: Bradley-Terry on segments of pi_ref's rollouts
    3. PPO on r - beta log(pi / pi_ref)
                                                 Ouyang et al. 2022 (arXiv 2203.02155), figure 2

The teacher gives all labels once, in the first round; `rlhf_iterated` asks again. A learned reward
is arbitrary in states that no segment reached, and a clone may leave the lane on one side only. So
the rollouts that are compared contain random actions too (docs/lab/2026-11-25-noise-and-kl.md).

With `teacher=human` the comparisons come from a folder that `launch/label.py` has filled
(`--given=FOLDER`). They are the same for every seed. With `init=airl` the first policy and the
first reward come from a run of AIRL (`--given=RUN`) in place of step 1.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.core.handover import PEOPLE, Part
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import inverse, queries, teachers, trainer
from irl_bench.preferences.reward_model import Comparisons, Segments
from irl_bench.rl.ppo import is_zero
from irl_bench.rollouts.experience import Act


@dataclasses.dataclass(frozen=True)
class TeacherConfig(trainer.PoolConfig):
    """Settings of the teacher and of the rollouts that it compares."""

    labels: int = setting(
        1000,
        "comparisons that the teacher is asked for, over all iterations",
        unit="labels",
        low=10,
        high=10_000_000,
    )
    teacher: str = setting("oracle", "who compares", choices=(*teachers.TEACHERS, PEOPLE))
    pool: str = setting(
        "policy",
        "whose rollouts are compared: the current policy's, or half of them the reference's",
        choices=("policy", "both"),
    )
    pool_noise: float = setting(
        0.3,
        "probability of a random action in the last of these rollouts; it rises from 0 in the "
        "first",
        low=0.0,
        high=1.0,
    )
    shuffled: bool = setting(
        False, "permute the answers, so that they carry no information (a control)"
    )


@dataclasses.dataclass(frozen=True)
class Config(TeacherConfig, trainer.Config):
    """Settings of RLHF."""

    init: str = setting(
        "bc",
        "first policy and reference: a clone of the demonstrations, or AIRL's policy, with AIRL's "
        "reward as the first reward",
        choices=("bc", "airl"),
    )


def takes(config: Config) -> tuple[Part, ...]:
    """The parts of an earlier run that are needed.

    With `teacher=human` they are people's comparisons, with `init=airl` the policy and the reward
    of a run of AIRL.

    Raises:
      BadInput: both are set.
    """
    if config.teacher == PEOPLE and config.init == "airl":
        raise BadInput("teacher=human and init=airl both need --given; nearest: init=bc")
    if config.teacher == PEOPLE:
        return ("comparisons",)
    return inverse.PARTS if config.init == "airl" else ()


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of RLHF, with a simulated teacher or with people's comparisons.

    Raises:
      BadInput: a donor is missing or does not fit, or settings contradict each other.
    """
    return from_people(spec, config) if config.teacher == PEOPLE else train(spec, config)


def from_people(spec: Spec, config: Config) -> Learner:
    """Returns the learner of RLHF on comparisons that people have made before.

    Raises:
      BadInput: no comparisons come with `--given`, or settings contradict each other.
    """
    donor = spec.donor
    if donor is None or donor.algo != PEOPLE:
        raise BadInput(
            "teacher=human takes comparisons; nearest: --given=FOLDER of irl-bench label"
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
        # People compared these segments without rewards, so their rewards are 0 here.
        segments = Segments(observation, action, jnp.zeros(observation.shape[:2]))
        return segments, Comparisons(first, second, label, jnp.ones(len(label)))

    def fresh(state: trainer.State, task: Task, key: jax.Array) -> Segments:
        act = learner.draw(state.policy, state.policy.reference)
        worlds, steps, length = config.pool_worlds, config.pool_steps, config.segment
        return trainer.pool(spec, task.dials, act, worlds, steps, length, key)[0]

    # The clips come from another clone, whose demonstrations and steps count here.
    learner = trainer.Trainer(
        spec,
        config,
        ask,
        fresh,
        facts["answers"],
        facts["segments"],
        pool_steps=facts["env_steps"],
    )
    return learner.learner(
        Consumes(expert_queries=facts["expert_queries"], preference_labels=facts["asked"])
    )


def train(
    spec: Spec,
    config: Config,
    iterations: int = 1,
    restart: bool = False,
    kind: str = "uniform",
) -> Learner:
    """Returns the learner of RLHF with a simulated teacher.

    Args:
      spec: the world and its sizes.
      config: the settings.
      iterations: K; the teacher is asked K times for an equal share of the labels.
      restart: whether the policy returns to the reference when an iteration begins.
      kind: which pairs are asked about once a reward has been fitted, one of `queries.QUERIES`.

    Raises:
      BadInput: settings that contradict each other.
    """
    return asking(spec, config, iterations, restart, kind).learner(
        Consumes(preference_labels=config.labels)
    )


def asking(
    spec: Spec,
    config: Config,
    iterations: int = 1,
    restart: bool = False,
    kind: str = "uniform",
) -> trainer.Trainer:
    """Returns the trainer behind `train`. Takes the same arguments and raises the same errors."""
    if config.labels % iterations:
        near = max(config.labels // iterations, 10) * iterations
        raise BadInput(
            f"labels={config.labels} is not a multiple of iterations={iterations}; nearest: "
            f"labels={near}"
        )
    if config.pool_worlds % iterations:
        near = max(config.pool_worlds // iterations, 1) * iterations
        raise BadInput(
            f"pool_worlds={config.pool_worlds} cannot be shared by {iterations} iterations; "
            f"nearest: pool_worlds={near}"
        )
    count, worlds = config.labels // iterations, config.pool_worlds // iterations
    each = worlds * (config.pool_steps // min(config.segment, config.pool_steps))
    if each < 2:
        raise BadInput(
            f"pool_worlds={config.pool_worlds} gives a single segment an iteration, with none to "
            f"compare it with; nearest: pool_worlds={2 * iterations}"
        )
    teacher = teachers.TEACHERS[config.teacher]

    def ask(state: trainer.State, task: Task, key: jax.Array) -> tuple[Segments, Comparisons]:
        pool_key, pair_key, answer_key, shuffle_key = jax.random.split(key, 4)
        segments = rolled_out(state, task, pool_key)
        first, second = queries.pairs(kind, each, count, pair_key)
        margin = learner.rewards.margins(state.reward, segments, first, second)
        # While no reward has been fitted, the first candidates are as good as any.
        chosen = jnp.where(
            learner.iteration(state) == 0,
            jnp.arange(count),
            queries.choose(kind, margin, count),
        )
        first, second = first[chosen], second[chosen]
        pool = teachers.pool_of(teacher, segments.reward)
        label, weight = teachers.answer(
            teacher, segments.reward[first], segments.reward[second], pool, answer_key
        )
        if config.shuffled:
            order = jax.random.permutation(shuffle_key, count)
            label, weight = label[order], weight[order]
        return segments, Comparisons(first, second, label, weight)

    def rolled_out(state: trainer.State, task: Task, key: jax.Array) -> Segments:
        act, length = noisy(acting(state)), config.segment
        return trainer.pool(spec, task.dials, act, worlds, config.pool_steps, length, key)[0]

    def noisy(act: Act) -> Act:
        if is_zero(config.pool_noise):
            return act
        return trainer.noisy(spec, act, jnp.linspace(0.0, 1.0, worlds) * config.pool_noise)

    def acting(state: trainer.State) -> Act:
        current = learner.draw(state.policy, state.policy.weights["policy"])
        if config.pool == "policy":
            return current
        reference = learner.draw(state.policy, state.policy.reference)
        half = jnp.arange(worlds) % 2 == 0

        def act(observation: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            pick = lambda a, b: jnp.where(half.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            return jax.tree.map(pick, current(observation, key), reference(observation, key))

        return act

    pool_steps = config.pool_worlds * config.pool_steps
    if config.init == "airl" and config.statistics != "demonstrations":
        raise BadInput(
            "init=airl keeps the standardiser of AIRL's policy; nearest: statistics=demonstrations"
        )
    begins_with_airl = config.init == "airl"
    start = inverse.Start(spec, config.hidden, config.mask_failure) if begins_with_airl else None
    learner = trainer.Trainer(
        spec, config, ask, rolled_out, count, each, pool_steps, iterations, restart, start
    )
    return learner
