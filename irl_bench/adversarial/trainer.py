"""The training loop that adversarial algorithms share: rollouts of the policy, a discriminator
fitted to them, and PPO on the reward that follows from it.

    repeat: collect with pi; fit the discriminator; reward the rollouts; improve pi
                                         Ho and Ermon 2016 (arXiv 1606.03476), algorithm 1

An algorithm supplies its logit and its rewards (`Form`) and initialises its networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from irl_bench.adversarial import discriminator
from irl_bench.adversarial.discriminator import Discriminator, Logit, Rows, Steps, energy_distance
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.quantities import INPUT_LIMIT
from irl_bench.core.statistics import correlation
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.nets.policies import Standardiser, view
from irl_bench.nets.supervised import draw
from irl_bench.rl import ppo
from irl_bench.rl.controls import ControlConfig, trained_on
from irl_bench.rollouts.experience import Transition

SAMPLE = 128
"""Rows of either side from which the distance of the state distributions is estimated."""


@dataclasses.dataclass(frozen=True)
class Config(discriminator.Config, ControlConfig, ppo.AdversarialConfig):
    """Settings of adversarial algorithms: the discriminator's, the control and PPO's."""


class State(struct.PyTreeNode):
    """Everything that an adversarial algorithm keeps between rounds."""

    policy: ppo.State
    """PPO's state."""
    discriminator: discriminator.State
    """The discriminator's state."""
    key: jax.Array
    """Of the rounds to come."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """What distinguishes one adversarial algorithm from another.

    Each function is (params of the logit, n steps) -> float32[n].

    Attributes:
      logit: z, with D = sigmoid(z) the probability that a step is the expert's.
      policy_reward: what PPO maximises.
      learned_reward: what is stored as the learned reward.
      reads_actions: whether the logit reads actions.
      reads_log_prob: whether the logit reads log pi(a|s).
      mixup: whether the discriminator is fitted to mixtures of an expert's and a policy's row.
    """

    logit: Logit
    policy_reward: Callable[[Any, Steps], jax.Array]
    learned_reward: Callable[[Any, Steps], jax.Array]
    reads_actions: bool
    reads_log_prob: bool = False
    mixup: bool = False


class Trainer:
    """Rounds of an adversarial algorithm.

    Args:
      spec: the world and its sizes.
      config: the settings.
      form: the algorithm's logit and rewards.

    Attributes:
      inner: PPO.
      discriminator: the discriminator that is fitted.

    Raises:
      BadInput: settings of PPO that contradict each other.
    """

    def __init__(self, spec: Spec, config: Config, form: Form):
        self.spec, self.config, self.form = spec, config, form
        self.inner = ppo.PPO(spec, config, terminate=config.absorbing, init=config.init)
        self.discriminator = Discriminator(
            spec,
            config,
            form.logit,
            form.reads_actions,
            self.inner.steps_per_round,
            ppo.forever(config.discount),
            form.mixup,
        )

    def begin(self, policy: ppo.State, params: Any, task: Task, key: jax.Array) -> State:
        """The state before the first round.

        Args:
          policy: PPO's state.
          params: of the logit, freshly initialised.
          task: the data of the learner.
          key: of the rounds to come.

        Raises:
          BadInput: as `Discriminator.init`.
        """
        return State(policy, self.discriminator.init(params, task.demonstrations), key)

    def update(self, state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        """One round of collecting, fitting and improving.

        Returns:
          The new state, and the metrics of discriminator and PPO, float32[] each.
        """
        key, fit_key, sample_key = jax.random.split(state.key, 3)
        policy, batch = self.inner.collect(state.policy, task.dials)
        # Every device fits the discriminator to the rows of all devices, with the same key.
        whole = self.spec.spread.gather(batch)
        fitted, metrics = self.discriminator.fit(
            state.discriminator,
            task.demonstrations,
            Rows.of(whole),
            self._log_prob(policy) if self.form.reads_log_prob else None,
            policy.round,
            fit_key,
        )
        steps = self.discriminator.policy_steps(fitted.inputs, Rows.of(batch))
        learned = self.form.policy_reward(fitted.params, steps).reshape(batch.reward.shape)
        metrics |= self._compare(
            fitted.inputs,
            task.demonstrations,
            whole,
            self.spec.spread.gather(learned),
            sample_key,
        )
        reward = trained_on(self.config, learned, batch.reward)
        absorbing = self._absorbing(self.form.policy_reward, fitted)
        if absorbing is not None:  # the world pays nothing after an end
            absorbing = trained_on(self.config, absorbing, jnp.zeros(()))
        kept = self._kept(fitted)
        probed = self.inner.probe(
            policy,
            task.dials,
            lambda batch: self._reward_fn(
                kept, batch.observation, batch.action, batch.next_observation
            ),
        )
        policy, policy_metrics = self.inner.improve(policy, batch, reward, absorbing)
        return State(policy, fitted, key), {**metrics, **policy_metrics, **probed}

    def learner(self, init: Callable[[jax.Array, Task], State]) -> Learner:
        """The algorithm as a `Learner`; `init` is (key, task) -> state before the first round."""

        return Learner(
            init=init,
            update=self.update,
            policy=lambda state: self.inner.params(state.policy),
            act=self.inner.act,
            rounds=self.config.rounds,
            consumes=Consumes(expert_queries=self.spec.labels(), env_steps=self.inner.env_steps),
            reward=lambda state: self._kept(state.discriminator),
            reward_fn=self._reward_fn,
            per_world=lambda state: jax.tree.map(lambda _: False, state).replace(
                policy=self.inner.per_world(state.policy)
            ),
        )

    def _kept(self, fitted: discriminator.State) -> dict[str, Any]:
        """What is stored of the learned reward."""
        return discriminator.kept(fitted, self._absorbing(self.form.learned_reward, fitted))

    def _reward_fn(
        self, params: Any, observation: jax.Array, action: jax.Array, next_observation: jax.Array
    ) -> jax.Array:
        """The learned reward of raw steps; leading axes are free."""
        log_prob = jnp.zeros(observation.shape[:-1])
        steps = self.discriminator.steps(
            params["inputs"], observation, action, next_observation, log_prob
        )
        return self.form.learned_reward(params["params"], steps)

    def _absorbing(
        self, reward: Callable[[Any, Steps], jax.Array], fitted: discriminator.State
    ) -> jax.Array | None:
        """The reward of one step in the absorbing state, where log pi is 0; float32[], or None
        without such a state."""
        if not self.config.absorbing:
            return None
        return reward(fitted.params, self.discriminator.absorbed)[0]

    def _log_prob(self, policy: ppo.State) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """(observation[n, O], action[n, ...]) -> log pi(a|s) of a policy, float32[n]."""
        inputs, weights, network = self.inner.inputs(policy), policy.weights, self.inner.policy

        def log_prob(observation: jax.Array, action: jax.Array) -> jax.Array:
            x = view(inputs, observation)
            return network.log_prob(weights["policy"], x, network.unsquash(action))

        return log_prob

    def _compare(
        self,
        inputs: Standardiser,
        demos: Demonstrations,
        batch: Transition,
        reward: jax.Array,
        key: jax.Array,
    ) -> dict[str, jax.Array]:
        """The distance of the policy's states from the expert's, and the correlation of the
        learned reward with the true one; `key` is consumed."""
        expert_key, policy_key = jax.random.split(key)
        size = self.spec.observation_size
        of_policy = batch.observation.reshape(-1, size)
        of_expert = demos.observation.reshape(-1, size)
        drawn = draw(jnp.cumsum(demos.mask.reshape(-1)), expert_key, SAMPLE)
        index = jax.random.randint(policy_key, (SAMPLE,), 0, len(of_policy))
        see = lambda x: jnp.clip(inputs(x), -INPUT_LIMIT, INPUT_LIMIT)
        return {
            "state_distance": energy_distance(see(of_expert[drawn]), see(of_policy[index])),
            # The graded cost, since the cost itself is constant in most rollouts.
            "reward_correlation": correlation(reward, -batch.graded_cost),
        }
