"""Reinforcement learning on a reward learned from comparisons, beside the policy it starts from.

    maximise E[r(s) - beta log(pi(a|s) / pi_ref(a|s))]
                                                   Ziegler et al. 2019 (arXiv 1909.08593), eq. 2
                                              Stiennon et al. 2020 (arXiv 2009.01325), section 3.4

pi_ref, and the policy at the start, is the clone of the demonstrations, or what inverse RL made
(`inverse.Start`). In the first round, and again whenever an iteration begins (the i-th of K in
round i rounds / K), comparisons are asked for and the reward is fitted to all there are; the rounds
between are PPO's on that reward. PPO may spoil a policy, a good clone most of all, and what it
maximises is the objective of a policy that tries things, not of the mode that is evaluated: so the
mode of the policy as it is then and of the one kept so far, at first the clone, are judged now and
then from the same starts, and the one with the higher objective is kept. No true reward is looked
at. Where segments come from and who compares them is the caller's `ask`. The world's `done` ends no
episode: a robot that falls lies there until the episode is cut (`linger`), and what lying is worth
the comparisons tell, whose segments hold it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

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
from irl_bench.rollouts.experience import Transition, Worlds, unroll


@dataclasses.dataclass(frozen=True)
class Config(reward_model.Config, ppo.Config):
    """Settings of reinforcement learning from comparisons: PPO's, the reward's and those of the
    pool of segments."""

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
    segment: int = setting(25, "length of a segment", unit="steps", low=1, high=10_000)
    pool_worlds: int = setting(
        64, "rollouts that segments are cut from, per iteration", low=1, high=65536
    )
    pool_steps: int = setting(
        500, "their length, from a fresh start", unit="steps", low=1, high=1_000_000
    )
    keep: str = setting(
        "best", "which policy is evaluated: of those judged that with the highest learned reward "
                "less beta KL, or the last",
        choices=("best", "last"),
    )  # fmt: skip
    candidates: int = setting(
        6, "policies judged beside the one kept so far, at equal distances after policy_delay; one "
           "per round at most", low=1,
        high=10**6,
    )  # fmt: skip
    judged_worlds: int = setting(
        16, "rollouts of pool_steps that either is judged on", low=1, high=65536
    )


@struct.dataclass
class State:
    policy: ppo.State
    reward: reward_model.State
    segments: Segments
    """Those of all iterations; the ones to come are zero."""
    made: Comparisons
    held_out: jax.Array
    """float32: accuracy on the comparisons kept back, at the last fit."""
    fit_loss: jax.Array
    """float32: the reward's loss, at the last fit."""
    best: Any
    """The policy that would be kept now, as it is evaluated."""
    best_round: jax.Array
    """float32: rounds that had been when it was; 0 for the policy at the start."""
    key: jax.Array


Ask = Callable[[State, Task, jax.Array], tuple[Segments, Comparisons]]
"""(state, task, key) -> the iteration's segments and its comparisons, which index those segments
from 0."""


def when(due: jax.Array, change: Callable[[Any], Any], state: Any) -> Any:
    """`change(state)` where `due`, else `state`. Unlike `lax.cond` it costs nothing under vmap
    while no seed is due."""
    return jax.lax.while_loop(
        lambda x: x[0], lambda x: (jnp.zeros_like(x[0]), change(x[1])), (due, state)
    )[1]


def pool(
    spec: Spec,
    dials: Any,
    act: Callable[..., Any],
    worlds: int,
    steps: int,
    length: int,
    key: jax.Array,
) -> tuple[Segments, Transition]:
    """Rollouts from fresh starts that nothing ends, cut into segments; `key` is consumed.

    Args:
      act: as in `irl_bench.rollouts.experience.unroll`.
      worlds, steps: E rollouts of L steps.
      length: H. What is left of L // H is dropped.

    Returns:
      E * (L // H) segments, those of one rollout beside each other, and the transitions [L, E].
    """
    world = spec.world.bind(dials)
    reset_key, key = jax.random.split(key)
    start = Worlds(
        jax.vmap(world.reset)(jax.random.split(reset_key, worlds)), jnp.zeros(worlds, jnp.int32)
    )
    _, batch = unroll(world, act, start, key, steps, steps + 1, terminate=False)
    count = steps // length

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x[: count * length], 1, 0)
        return x.reshape(worlds * count, length, *x.shape[2:])

    return Segments(cut(batch.next_observation), cut(batch.action), cut(batch.reward)), batch


def noisy(
    spec: Spec, act: Callable[..., Any], chance: jax.Array
) -> Callable[[jax.Array, jax.Array], Any]:
    """`act`, but in world e a step's action is a uniformly random one with probability
    `chance[e]`, float32[E]."""

    def lost(observation: jax.Array, key: jax.Array) -> Any:
        own_key, noise_key = jax.random.split(key)
        action, raw, log_prob = act(observation, own_key)
        return replaced(spec, action, chance, noise_key), raw, log_prob

    return lost


def replaced(spec: Spec, action: jax.Array, chance: jax.Array, key: jax.Array) -> jax.Array:
    """Actions [E, A] or int32[E], that of world e replaced by a uniformly random one with
    probability `chance[e]`; `key` is consumed."""
    when_key, what_key = jax.random.split(key)
    due = jax.random.uniform(when_key, (len(action),)) < chance
    if spec.n_actions is not None:
        return jnp.where(due, jax.random.randint(what_key, action.shape, 0, spec.n_actions), action)
    return jnp.where(
        due[:, None], jax.random.uniform(what_key, action.shape, minval=-1.0, maxval=1.0), action
    )


class Trainer:
    """PPO on a reward that `ask` supplies the comparisons for.

    Args:
      start: what it begins with in place of a clone and a reward that knows nothing.
      iterations: how often it is asked, at equal distances; `comparisons` and `segments`: how many
        of them come each time.
      pool_steps: environment steps that it takes to ask, all iterations together.
      restart: whether the policy goes back to the reference at each of them.
    """

    def __init__(
        self,
        spec: Spec,
        config: Config,
        ask: Ask,
        comparisons: int,
        segments: int,
        pool_steps: int,
        iterations: int = 1,
        restart: bool = False,
        start: inverse.Start | None = None,
    ):
        if config.init != "bc" and start is None:
            raise BadInput(
                f"init={config.init}: the reference is a clone of the demonstrations; nearest: "
                "init=bc"
            )
        if config.segment > config.pool_steps:
            raise BadInput(f"segment={config.segment} is longer than "
                           f"pool_steps={config.pool_steps}; nearest: segment="
                           f"{config.pool_steps}")  # fmt: skip
        if comparisons < reward_model.HELD_OUT:
            least = iterations * reward_model.HELD_OUT
            raise BadInput(
                f"{comparisons * iterations} labels in {iterations} iterations are too few; "
                f"nearest: labels={least}"
            )
        if iterations > config.rounds:
            raise BadInput(
                f"iterations={iterations} are more than rounds={config.rounds}; nearest: "
                f"iterations={config.rounds}"
            )
        self.spec, self.config, self.ask = spec, config, ask
        self.comparisons, self.segments, self.iterations, self.restart = (
            comparisons,
            segments,
            iterations,
            restart,
        )
        self.start = start
        self.inner = ppo.PPO(spec, config, terminate=False)
        self.rewards = RewardModel(spec, config, start.reward_fn if start else None)
        self.pool_steps = pool_steps
        self.begins = np.arange(iterations) * config.rounds // iterations
        moving = config.rounds - config.policy_delay
        among = config.policy_delay + np.unique(
            np.arange(1, config.candidates + 1) * moving // config.candidates
        )
        if restart:  # whatever is about to be given up
            among = np.union1d(among, self.begins[1:])
        self.judged_after = among[among > config.policy_delay]
        each = 2 * config.judged_worlds * config.pool_steps
        self.judged_steps = len(self.judged_after) * each if config.keep == "best" else 0

    def init(self, key: jax.Array, task: Task) -> State:
        """A state before the first round; `key` is consumed."""
        key, policy_key, reward_key = jax.random.split(key, 3)
        size, steps = self.iterations * self.segments, self.config.segment
        seen = jnp.zeros((size, steps, self.spec.observation_size))
        action = (
            jnp.zeros((size, steps), jnp.int32)
            if self.spec.n_actions
            else jnp.zeros((size, steps, self.spec.action_size))
        )
        count = self.iterations * self.comparisons
        none, zero = jnp.zeros(count), jnp.zeros(())
        policy = self.inner.init(policy_key, task)
        if self.start:
            policy = self.inner.begun(policy, self.start.policy(task))
        return State(
            policy=policy,
            reward=self.rewards.init(reward_key, self.start.reward(task) if self.start else None),
            segments=Segments(seen, action, jnp.zeros((size, steps))),
            made=Comparisons(none.astype(jnp.int32), none.astype(jnp.int32), none, none),
            held_out=zero,
            fit_loss=zero,
            best=self.inner.params(policy),
            best_round=zero,
            key=key,
        )

    def draw(
        self, policy: ppo.State, weights: Any
    ) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
        """An `act` for rollouts of given weights, sampled."""
        inputs = self.inner.inputs(policy)

        def act(observation: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            raw = self.inner.policy.draw(weights, view(inputs, observation), key)
            return self.inner.policy.squash(raw), raw, jnp.zeros(len(raw))

        return act

    def learn(self, state: State, task: Task) -> State:
        """An iteration's beginning: new comparisons, and the reward fitted to all of them."""
        key, ask_key, fit_key = jax.random.split(state.key, 3)
        iteration = self.iteration(state)
        new, made = self.ask(state, task, ask_key)
        start = iteration * self.segments
        place = lambda whole, part, at: jax.lax.dynamic_update_slice_in_dim(
            whole, part.astype(whole.dtype), at, 0
        )
        segments = jax.tree.map(lambda whole, part: place(whole, part, start), state.segments, new)
        made = made.replace(first=made.first + start, second=made.second + start)
        made = jax.tree.map(
            lambda whole, part: place(whole, part, iteration * self.comparisons), state.made, made
        )
        first = jax.tree.map(lambda x: x[: self.segments], segments)
        reward = jax.tree.map(
            lambda a, b: jnp.where(iteration == 0, a, b),
            self.rewards.see(state.reward, new),
            state.reward,
        )
        reward, loss = self.rewards.fit(
            reward, segments, made, max(1, self.config.reward_steps // self.iterations), fit_key
        )
        reward = self.rewards.standardise(reward, first)
        held_out = self.rewards.held_out(reward, segments, made)
        state = state.replace(
            reward=reward, segments=segments, made=made, held_out=held_out, fit_loss=loss, key=key
        )
        if self.restart:
            state = state.replace(policy=self.inner.restarted(state.policy))
        return state

    def iteration(self, state: State) -> jax.Array:
        """int32: which iteration the round to come belongs to."""
        return jnp.sum(state.policy.round >= self.begins) - 1

    def update(self, state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        """One round."""
        due = jnp.any(state.policy.round == self.begins)
        state = when(due, lambda state: self.learn(state, task), state)
        policy, batch = self.inner.collect(state.policy, task.dials)
        after = batch.next_observation
        reward = self.rewards.reward_fn(state.reward, after, batch.action, after)
        key, pair_key = jax.random.split(state.key)
        policy, metrics = self.inner.improve(policy, batch, reward)
        state = state.replace(policy=policy, key=key)
        if self.config.keep == "best":
            due = jnp.any(policy.round == self.judged_after)
            # A key of its own, so that comparing policies changes nothing in the training.
            compare_key = jax.random.fold_in(pair_key, 1)
            state = when(due, lambda state: self.chosen(state, task, compare_key), state)
            metrics["kept_round"] = state.best_round
        metrics |= {
            "proxy": jnp.mean(reward),
            "reward_accuracy": state.held_out,
            "reward_accuracy_now": self._now(batch, reward, pair_key),
            "reward_loss": state.fit_loss,
            "answered": jnp.sum(state.made.weight),
            "reward_correlation": correlation(reward, -batch.graded_cost),
        }
        return state, metrics

    def chosen(self, state: State, task: Task, key: jax.Array) -> State:
        """With the better of the present policy and the one kept so far, by the present reward;
        `key` is consumed."""
        config, now, reference = (
            self.config,
            self.inner.params(state.policy),
            state.policy.reference,
        )

        def score(params: PolicyParams) -> jax.Array:
            def act(
                observation: jax.Array, key: jax.Array
            ) -> tuple[jax.Array, jax.Array, jax.Array]:
                mode = self.inner.act(params, observation, key)
                return mode, mode, jnp.zeros(len(mode))

            worlds, steps = config.judged_worlds, config.pool_steps
            _, batch = pool(self.spec, task.dials, act, worlds, steps, steps, key)
            reward = self.rewards.reward_fn(
                state.reward, batch.observation, batch.action, batch.next_observation
            )
            # Modes are compared: how much either tries beside its mode is no distance between them.
            weights = (
                params.weights
                if self.inner.policy.discrete
                else {**params.weights, "log_std": reference["log_std"]}
            )
            kl = self.inner.policy.kl(weights, reference, view(params.inputs, batch.observation))
            return jnp.mean(reward) - config.reference_kl * jnp.mean(kl)

        both = jax.tree.map(lambda *x: jnp.stack(x), state.best, now)
        kept, new = jax.vmap(score)(both)
        pick = lambda a, b: jnp.where(new > kept, a, b)
        return state.replace(
            best=jax.tree.map(pick, now, state.best),
            best_round=pick(state.policy.round.astype(jnp.float32), state.best_round),
        )

    def _now(
        self, batch: Transition, reward: jax.Array, key: jax.Array, pairs: int = 256
    ) -> jax.Array:
        """Accuracy on pairs of segments of this round's own rollout; `key` is consumed. 0.5
        where all returns are equal."""
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
        """As the runner takes it; `consumes` is what the questions do, to which the start and
        the rounds add theirs."""
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
        )
