"""Reinforcement learning on a reward that is learned from comparisons, close to the policy that it
starts from.

    maximise E[r(s) - beta log(pi(a|s) / pi_ref(a|s))]
                                                   Ziegler et al. 2019 (arXiv 1909.08593), eq. 2
                                              Stiennon et al. 2020 (arXiv 2009.01325), section 3.4

The reference pi_ref is also the first policy: a clone of the demonstrations, or the policy of
inverse RL (`inverse.Start`). Training has K iterations; iteration i = 0 ... K - 1 begins in round
i rounds / K. At its beginning the caller's `ask` supplies segments and comparisons of them, and the
reward is fitted to all comparisons so far. All rounds are PPO's on that reward.

PPO can make a policy worse, especially a good clone, because it optimises the stochastic policy
while the mode is evaluated. At several points of the training (`candidates`), the modes of the
current policy and of the best policy so far (initially the reference) are therefore rolled out from
the same starts, and the one with the higher objective is kept. The true reward is not used.

The world's `done` ends no episode. A robot that falls lies on the ground until its episode is cut
(`linger`). The segments contain such steps, so the reward model learns to score them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.statistics import correlation
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.nets.supervised import PolicyParams
from irl_bench.preferences import inverse, reward_model
from irl_bench.preferences.reward_model import Comparisons, RewardModel, Segments
from irl_bench.rl import ppo
from irl_bench.rl.controls import ControlConfig, trained_on
from irl_bench.rollouts.experience import Act, ActionSample, Transition, Worlds, unroll

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PoolConfig:
    """Settings of the rollouts that segments are cut from."""

    segment: int = setting(25, "length of a segment", unit="steps", low=1, high=10_000)
    pool_worlds: int = setting(
        80, "rollouts that segments are cut from, over all iterations", low=1, high=65536
    )
    pool_steps: int = setting(
        500,
        "length of these rollouts, from a fresh start",
        unit="steps",
        low=1,
        high=1_000_000,
    )


@dataclasses.dataclass(frozen=True)
class Config(reward_model.Config, PoolConfig, ControlConfig, ppo.TrainingConfig):
    """Settings of reinforcement learning from comparisons: PPO's, the reward's, the control and
    those of the pool of segments."""

    log_std: float = setting(
        -2.0, "log-deviation of raw actions in the first round", low=-5.0, high=1.0
    )
    policy_delay: int = setting(
        4,
        "rounds at the start in which the policy is held and only its value is fitted",
        unit="rounds",
        low=0,
        high=10**6,
    )
    reference_kl: float = setting(
        0.05,
        "beta: reward is lowered by this times log(pi / pi_ref); the reference is the clone",
        low=0.0,
        high=100.0,
    )
    keep: str = setting(
        "best",
        "which policy is evaluated: of the candidates the one with the highest learned reward "
        "less beta KL, or the last policy",
        choices=("best", "last"),
    )
    candidates: int = setting(
        6,
        "policies compared with the best one so far, at equal distances after policy_delay; one "
        "per round at most",
        low=1,
        high=10**6,
    )
    judged_worlds: int = setting(
        16,
        "rollouts of pool_steps steps per policy in a comparison of two policies",
        low=1,
        high=65536,
    )


class State(struct.PyTreeNode):
    """Everything that is kept between rounds."""

    policy: ppo.State
    """PPO's state."""
    reward: reward_model.State
    """The learned reward."""
    segments: Segments
    """Segments of all iterations; those still to come are zero."""
    comparisons: Comparisons
    """Comparisons of all iterations; those still to come have weight 0."""
    accuracy: jax.Array
    """float32[]: accuracy of the reward on fresh pairs at the last fit."""
    fit_loss: jax.Array
    """float32[]: the reward's loss at the last fit."""
    best: PolicyParams
    """The best policy so far; it is evaluated with `keep=best`."""
    best_round: jax.Array
    """float32[]: rounds done when `best` was the current policy; 0 for the first policy."""
    key: jax.Array
    """Of the rounds to come."""


Ask = Callable[[State, Task, jax.Array], tuple[Segments, Comparisons]]
"""(state, task, key) -> an iteration's segments, and its comparisons, which index these segments
from 0."""
Fresh = Callable[[State, Task, jax.Array], Segments]
"""(state, task, key) -> segments of the kind that is asked about, drawn anew, with the world's own
rewards. They measure the reward's accuracy and are used for nothing else, so they count in no
budget."""


def when(due: jax.Array, change: Callable[[T], T], state: T) -> T:
    """`change(state)` if `due`, else `state`.

    Under vmap it costs nothing while no seed is due; `lax.cond` would run both branches.

    Args:
      due: bool[].
      change: keeps shapes and dtypes.
      state: a tree of arrays.
    """
    return jax.lax.while_loop(
        lambda x: x[0], lambda x: (jnp.zeros_like(x[0]), change(x[1])), (due, state)
    )[1]


def pool(
    spec: Spec,
    dials: Any,
    act: Act,
    worlds: int,
    steps: int,
    length: int,
    key: jax.Array,
) -> tuple[Segments, Transition]:
    """Rollouts of full length from fresh starts, cut into segments.

    Args:
      spec: the world and its sizes.
      dials: the world's.
      act: as in `irl_bench.rollouts.experience.unroll`.
      worlds: E, number of rollouts.
      steps: L, length of each [steps].
      length: H, length of a segment [steps]. The last L mod H steps are dropped.
      key: consumed.

    Returns:
      E * (L // H) segments, those of one rollout next to each other; and the transitions [L, E].
    """
    world = spec.world.bind(dials)
    reset_key, key = jax.random.split(key)
    start = Worlds(
        jax.vmap(world.begin)(jax.random.split(reset_key, worlds)), jnp.zeros(worlds, jnp.int32)
    )
    _, batch = unroll(world, act, start, key, steps, steps + 1, terminate=False)
    count = steps // length

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x[: count * length], 1, 0)
        return x.reshape(worlds * count, length, *x.shape[2:])

    return Segments(cut(batch.next_observation), cut(batch.action), cut(batch.reward)), batch


def noisy(spec: Spec, act: Act, chance: jax.Array) -> Act:
    """A policy that sometimes takes a uniformly random action.

    Args:
      spec: the world's sizes.
      act: as in `irl_bench.rollouts.experience.unroll`, for E worlds.
      chance: probability of a random action in each world, float32[E].

    Returns:
      As `act`. The raw action and log pi are those of the action before its replacement.
    """

    def noisy_act(observation: jax.Array, key: jax.Array) -> ActionSample:
        act_key, noise_key = jax.random.split(key)
        action, raw, log_prob = act(observation, act_key)
        return ActionSample(replaced(spec, action, chance, noise_key), raw, log_prob)

    return noisy_act


def replaced(spec: Spec, action: jax.Array, chance: jax.Array, key: jax.Array) -> jax.Array:
    """Actions of which some are replaced by uniformly random ones.

    Args:
      spec: the world's sizes.
      action: float32[E, A] or int32[E].
      chance: probability of a replacement in each world, float32[E].
      key: consumed.

    Returns:
      As `action`.
    """
    when_key, what_key = jax.random.split(key)
    due = jax.random.uniform(when_key, (len(action),)) < chance
    if spec.n_actions is not None:
        return jnp.where(due, jax.random.randint(what_key, action.shape, 0, spec.n_actions), action)
    return jnp.where(
        due[:, None], jax.random.uniform(what_key, action.shape, minval=-1.0, maxval=1.0), action
    )


class Trainer:
    """PPO on a reward that is learned from the comparisons of `ask`.

    Args:
      spec: the world and its sizes.
      config: the settings.
      ask: supplies segments and comparisons at the beginning of an iteration.
      fresh: supplies further segments, on which the reward's accuracy is measured.
      comparisons: number of comparisons per iteration.
      segments: number of segments per iteration.
      pool_steps: environment steps that `ask` takes in all iterations together.
      iterations: K, how often `ask` is called, at equal distances.
      restart: whether the policy returns to the reference when an iteration begins.
      start: first policy and first reward; None: a clone, and a reward of 0.

    Attributes:
      inner: PPO.
      rewards: the reward model.

    Raises:
      BadInput: settings that contradict each other.
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        ask: Ask,
        fresh: Fresh,
        comparisons: int,
        segments: int,
        pool_steps: int,
        iterations: int = 1,
        restart: bool = False,
        start: inverse.Start | None = None,
    ):
        if config.segment > config.pool_steps:
            raise BadInput(f"segment={config.segment} is longer than "
                           f"pool_steps={config.pool_steps}; nearest: segment="
                           f"{config.pool_steps}")  # fmt: skip
        if comparisons < reward_model.LEAST_LABELS:
            least = iterations * reward_model.LEAST_LABELS
            raise BadInput(
                f"{comparisons * iterations} labels in {iterations} iterations are too few; "
                f"nearest: labels={least}"
            )
        if iterations > config.rounds:
            raise BadInput(
                f"iterations={iterations} are more than rounds={config.rounds}; nearest: "
                f"iterations={config.rounds}"
            )
        self.spec, self.config, self.ask, self.fresh = spec, config, ask, fresh
        self.comparisons, self.segments, self.iterations, self.restart = (
            comparisons,
            segments,
            iterations,
            restart,
        )
        self.start = start
        self.inner = ppo.PPO(spec, config, terminate=False, init="given" if start else "bc")
        self.rewards = RewardModel(spec, config, start.reward_fn if start else None)
        self.pool_steps = pool_steps
        self.begins = np.arange(iterations) * config.rounds // iterations
        moving = config.rounds - config.policy_delay
        among = config.policy_delay + np.unique(
            np.arange(1, config.candidates + 1) * moving // config.candidates
        )
        if restart:  # a policy that is about to be replaced is a candidate too
            among = np.union1d(among, self.begins[1:])
        self.judged_after = among[among > config.policy_delay]
        each = 2 * config.judged_worlds * config.pool_steps
        self.judged_steps = len(self.judged_after) * each if config.keep == "best" else 0

    def init(self, key: jax.Array, task: Task) -> State:
        """The state before the first round.

        Args:
          key: consumed.
          task: the data of the learner.

        Raises:
          BadInput: the demonstrations have no actions to clone.
        """
        key, policy_key, reward_key = jax.random.split(key, 3)
        size, steps = self.iterations * self.segments, self.config.segment
        observation = jnp.zeros((size, steps, self.spec.observation_size))
        action = (
            jnp.zeros((size, steps), jnp.int32)
            if self.spec.n_actions
            else jnp.zeros((size, steps, self.spec.action_size))
        )
        count = self.iterations * self.comparisons
        zeros, zero = jnp.zeros(count), jnp.zeros(())
        policy = self.inner.init(policy_key, task)
        if self.start:
            policy = self.inner.with_policy(policy, self.start.policy(task), task.dials)
        return State(
            policy=policy,
            reward=self.rewards.init(reward_key, self.start.reward(task) if self.start else None),
            segments=Segments(observation, action, jnp.zeros((size, steps))),
            comparisons=Comparisons(zeros.astype(jnp.int32), zeros.astype(jnp.int32), zeros, zeros),
            accuracy=zero,
            fit_loss=zero,
            best=self.inner.params(policy),
            best_round=zero,
            key=key,
        )

    def draw(self, policy: ppo.State, weights: Any) -> Act:
        """Returns an `act` for rollouts that samples actions; its log pi is 0.

        Args:
          policy: PPO's state, whose standardiser is used.
          weights: of the policy that acts.
        """
        inputs = self.inner.inputs(policy)

        def act(observation: jax.Array, key: jax.Array) -> ActionSample:
            raw = self.inner.policy.draw(weights, view(inputs, observation), key)
            return ActionSample(self.inner.policy.squash(raw), raw, jnp.zeros(len(raw)))

        return act

    def learn(self, state: State, task: Task) -> State:
        """Begins an iteration: asks for comparisons and fits the reward to all of them so far.

        The state's key is consumed.
        """
        key, ask_key, fit_key = jax.random.split(state.key, 3)
        iteration = self.iteration(state)
        new, answers = self.ask(state, task, ask_key)
        start = iteration * self.segments
        place = lambda whole, part, at: jax.lax.dynamic_update_slice_in_dim(
            whole, part.astype(whole.dtype), at, 0
        )
        segments = jax.tree.map(lambda whole, part: place(whole, part, start), state.segments, new)
        answers = answers.replace(first=answers.first + start, second=answers.second + start)
        comparisons = jax.tree.map(
            lambda whole, part: place(whole, part, iteration * self.comparisons),
            state.comparisons,
            answers,
        )
        first = jax.tree.map(lambda x: x[: self.segments], segments)
        reward = jax.tree.map(
            lambda a, b: jnp.where(iteration == 0, a, b),
            self.rewards.see(state.reward, new),
            state.reward,
        )
        steps = max(1, self.config.reward_steps // self.iterations)
        reward, loss = self.rewards.fit(reward, segments, comparisons, steps, fit_key)
        reward = self.rewards.standardise(reward, first)
        probe_key, pair_key = jax.random.split(jax.random.fold_in(fit_key, 1))
        probes = self.fresh(state, task, probe_key)
        accuracy = self.rewards.fresh_accuracy(reward, probes, pair_key)
        state = state.replace(
            reward=reward,
            segments=segments,
            comparisons=comparisons,
            accuracy=accuracy,
            fit_loss=loss,
            key=key,
        )
        if self.restart:
            state = state.replace(policy=self.inner.restarted(state.policy))
        return state

    def iteration(self, state: State) -> jax.Array:
        """The iteration that the next round belongs to, int32[]."""
        return jnp.sum(state.policy.round >= self.begins) - 1

    def update(self, state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        """One round: if an iteration begins, `learn`; then a rollout and PPO's updates from it.

        Returns:
          The new state and the metrics, float32[] each.
        """
        due = jnp.any(state.policy.round == self.begins)
        state = when(due, lambda state: self.learn(state, task), state)
        policy, batch = self.inner.collect(state.policy, task.dials)
        after = batch.next_observation
        reward = self.rewards.reward_fn(state.reward, after, batch.action, after)
        key, pair_key = jax.random.split(state.key)
        probed = self.inner.probe(
            policy,
            task.dials,
            lambda batch: self.rewards.reward_fn(
                state.reward, batch.next_observation, batch.action, batch.next_observation
            ),
        )
        policy, metrics = self.inner.improve(
            policy, batch, trained_on(self.config, reward, batch.reward)
        )
        state = state.replace(policy=policy, key=key)
        if self.config.keep == "best":
            due = jnp.any(policy.round == self.judged_after)
            # A separate key, so that comparing policies changes nothing in the training.
            compare_key = jax.random.fold_in(pair_key, 1)
            state = when(due, lambda state: self.chosen(state, task, compare_key), state)
            metrics["kept_round"] = state.best_round
        batch, reward = self.spec.spread.gather((batch, reward))  # of all devices
        metrics |= {
            "proxy": jnp.mean(reward),
            "reward_accuracy": state.accuracy,
            "reward_accuracy_now": self._now(batch, reward, pair_key),
            "reward_loss": state.fit_loss,
            "answered": jnp.sum(state.comparisons.weight),
            "reward_correlation": correlation(reward, -batch.graded_cost),
        }
        return state, metrics | probed

    def chosen(self, state: State, task: Task, key: jax.Array) -> State:
        """Returns the state with `best` set to the better of the current policy and the best policy
        so far.

        The objective is the mean reward that the policy is trained on, less `reference_kl` times
        the KL from the reference.

        Args:
          state: the current state.
          task: whose dials the worlds have.
          key: of the rollouts, which are the same for both policies; consumed.
        """
        config = self.config
        current, reference = self.inner.params(state.policy), state.policy.reference

        def score(params: PolicyParams) -> jax.Array:
            def act(observation: jax.Array, key: jax.Array) -> ActionSample:
                mode = self.inner.act(params, observation, key)
                return ActionSample(mode, mode, jnp.zeros(len(mode)))

            worlds, steps = config.judged_worlds, config.pool_steps
            _, batch = pool(self.spec, task.dials, act, worlds, steps, steps, key)
            reward = self.rewards.reward_fn(
                state.reward, batch.observation, batch.action, batch.next_observation
            )
            reward = trained_on(config, reward, batch.reward)
            # Modes are compared, so their exploration must not count as a distance.
            weights = (
                params.weights
                if self.inner.policy.discrete
                else {**params.weights, "log_std": reference["log_std"]}
            )
            kl = self.inner.policy.kl(weights, reference, view(params.inputs, batch.observation))
            return jnp.mean(reward) - config.reference_kl * jnp.mean(kl)

        both = jax.tree.map(lambda *x: jnp.stack(x), state.best, current)
        best_score, current_score = jax.vmap(score)(both)
        pick = lambda a, b: jnp.where(current_score > best_score, a, b)
        return state.replace(
            best=jax.tree.map(pick, current, state.best),
            best_round=pick(state.policy.round.astype(jnp.float32), state.best_round),
        )

    def _now(
        self, batch: Transition, reward: jax.Array, key: jax.Array, pairs: int = 256
    ) -> jax.Array:
        """Accuracy of the learned reward on random pairs of segments of this round's rollout.

        Args:
          batch: the rollout [L, E].
          reward: the learned reward, float32[L, E].
          key: consumed.
          pairs: number of pairs.

        Returns:
          float32[]; 0.5 where all returns are equal.
        """
        length = min(self.config.segment, self.config.unroll)
        count = self.config.unroll // length
        cut = lambda x: jnp.sum(x[: count * length].reshape(count, length, -1), 1).reshape(-1)
        learned, true = cut(reward), cut(batch.reward)
        first, second = jax.random.randint(key, (2, pairs), 0, len(true))
        gap = true[first] - true[second]
        return reward_model.accuracy(
            learned[first] - learned[second], jnp.where(gap == 0, 0.5, gap > 0), jnp.ones(pairs)
        )

    def learner(self, consumes: Consumes) -> Learner:
        """The algorithm as a `Learner`.

        Args:
          consumes: what the comparisons use up; the budgets of the first policy and of the rounds
            are added.
        """
        before = self.start.consumes if self.start else Consumes(expert_queries=self.spec.labels())
        return Learner(
            init=self.init,
            update=self.update,
            policy=lambda state: (
                state.best if self.config.keep == "best" else self.inner.params(state.policy)
            ),
            act=self.inner.act,
            rounds=self.config.rounds,
            consumes=dataclasses.replace(
                consumes,
                expert_queries=before.expert_queries + consumes.expert_queries,
                env_steps=before.env_steps
                + self.pool_steps
                + self.judged_steps
                + self.inner.env_steps,
            ),
            reward=lambda state: state.reward,
            reward_fn=self.rewards.reward_fn,
            per_world=lambda state: jax.tree.map(lambda _: False, state).replace(
                policy=self.inner.per_world(state.policy)
            ),
        )
