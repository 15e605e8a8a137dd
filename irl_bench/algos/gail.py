"""Generative adversarial imitation learning: a policy trained to be taken for the expert.

    max_D E_expert[log D] + E_policy[log(1 - D)],   policy: PPO on a reward that grows with D
                                                 Ho and Ermon 2016 (arXiv 1606.03476), algorithm 1

The world's `done` ends no episode by default, so a discriminator that cannot tell anything rewards
neither living nor dying, whatever the form of the reward (Kostrikov et al. 2019, arXiv 1809.02925,
on that bias). With `absorbing` it does, into a state that is judged like any other and whose reward
counts for ever (their section 4.2), which is as neutral.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from irl_bench.adversarial import discriminator as adversarial
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import MAX_LOG_STD, MIN_LOG_STD
from irl_bench.rl import ppo


@dataclasses.dataclass(frozen=True)
class Config(adversarial.Config, ppo.AdversarialConfig):
    """Settings of GAIL: PPO's, the discriminator's and two of its own."""

    learning_rate: float = setting(2e-4, "Adam's step size in the first round", low=1e-8, high=1.0)
    discount: float = setting(0.9, "gamma", low=0.0, high=1.0)
    # Without a memory some seeds go in circles: what the policy did before is no longer told from
    # the expert.
    replay: int = setting(
        40, "rounds whose steps are negatives, this one and those before it; 0: all steps of this "
            "one alone", unit="rounds",
        low=0, high=10_000,
    )  # fmt: skip
    log_std_min: float = setting(-4.0, "its lower bound", low=MIN_LOG_STD, high=MAX_LOG_STD)
    log_std_max: float = setting(-2.0, "its upper bound", low=MIN_LOG_STD, high=MAX_LOG_STD)
    policy_delay: int = setting(
        5,
        "rounds at the start in which the policy is held and only what judges it is fitted",
        unit="rounds",
        low=0,
        high=10**6,
    )

    inputs: str = setting(
        "state_transition",
        "what the discriminator sees",
        choices=("state", "state_action", "state_transition"),
    )
    reward: str = setting(
        "softplus",
        "from logit z: softplus -log(1 - D), log_d log D, logit z, clipped_logit z within +-5",
        choices=("softplus", "log_d", "logit", "clipped_logit"),
    )


@struct.dataclass
class State:
    policy: ppo.State
    discriminator: adversarial.State
    key: jax.Array


def make(spec: Spec, config: Config) -> Learner:
    inner = ppo.PPO(spec, config, terminate=config.absorbing)
    network = adversarial.Network(tuple(config.disc_hidden), config.spectral_norm)

    def logit(params: Any, steps: adversarial.Steps) -> jax.Array:
        parts = {
            "state": (steps.observation,),
            "state_action": (steps.observation, steps.action),
            "state_transition": (steps.observation, steps.next_observation),
        }[config.inputs]
        return network.apply({"params": params}, jnp.concatenate(parts, -1))  # type: ignore[return-value]

    reads_actions = config.inputs == "state_action"
    judge = adversarial.Discriminator(
        spec, config, logit, reads_actions, inner.steps_per_round, ppo.forever(config.discount)
    )

    def init(key: jax.Array, task: Task) -> State:
        key, policy_key, network_key = jax.random.split(key, 3)
        width = judge.width * (2 if config.inputs == "state_transition" else 1)
        width += judge.action_width if reads_actions else 0
        params = network.init(network_key, jnp.zeros(width))["params"]
        return State(inner.init(policy_key, task), judge.init(params, task.demonstrations), key)

    def absorbing(discriminator: adversarial.State) -> jax.Array | None:
        """The absorbing state's reward."""
        z = logit(discriminator.params, judge.absorbed)[0] if config.absorbing else None
        return None if z is None else adversarial.reward_of(z, config.reward)

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key, sample_key = jax.random.split(state.key, 3)
        policy, batch = inner.collect(state.policy, task.dials)
        rows = adversarial.Rows.of(batch)
        discriminator, found = judge.fit(
            state.discriminator, task.demonstrations, rows, None, policy.round, fit_key
        )
        rows = judge.seen(discriminator.inputs, rows)
        reward = adversarial.reward_of(logit(discriminator.params, rows), config.reward).reshape(
            batch.reward.shape
        )
        found |= adversarial.compare(
            judge, discriminator.inputs, task.demonstrations, batch, reward, sample_key
        )
        policy, more = inner.improve(policy, batch, reward, absorbing(discriminator))
        return State(policy, discriminator, key), {**found, **more}

    def judged(
        params: Any, observation: jax.Array, action: jax.Array, next_observation: jax.Array
    ) -> jax.Array:
        steps = judge.steps(
            params["inputs"],
            observation,
            action,
            next_observation,
            jnp.zeros(observation.shape[:-1]),
        )
        return adversarial.reward_of(logit(params["params"], steps), config.reward)

    return Learner(
        init,
        update,
        lambda state: inner.params(state.policy),
        inner.act,
        config.rounds,
        Consumes(expert_queries=spec.labels(), env_steps=inner.env_steps),
        reward=lambda state: adversarial.kept(state.discriminator, absorbing(state.discriminator)),
        judge=judged,
    )
