"""Generative adversarial imitation learning: the policy is trained until a discriminator cannot
tell its steps from the expert's.

    max_D E_expert[log D] + E_policy[log(1 - D)],   policy: PPO on a reward that grows with D
                                                 Ho and Ermon 2016 (arXiv 1606.03476), algorithm 1

By default the world's `done` ends no episode. A discriminator that has learned nothing then rewards
neither survival nor failure, whatever the form of the reward (Kostrikov et al. 2019, arXiv
1809.02925, describe this bias). With `absorbing`, `done` leads into an absorbing state. The
discriminator rewards it like any other state, and that reward counts for ever (section 4.2 of their
paper), which is equally neutral.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from irl_bench.adversarial import trainer
from irl_bench.adversarial.discriminator import Network, Steps, reward_of
from irl_bench.core.learner import Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import MAX_LOG_STD, MIN_LOG_STD


@dataclasses.dataclass(frozen=True)
class Config(trainer.Config):
    """Settings of GAIL: PPO's, the discriminator's and two of its own."""

    learning_rate: float = setting(2e-4, "Adam's step size in the first round", low=1e-8, high=1.0)
    discount: float = setting(0.9, "gamma", low=0.0, high=1.0)
    # Without a memory some seeds go in circles, because the discriminator forgets what earlier
    # policies did.
    replay: int = setting(
        40,
        "size of the replay memory of negatives in rounds, including the current one; 0: no "
        "memory, all steps of the current round",
        unit="rounds",
        low=0,
        high=10_000,
    )
    log_std_min: float = setting(-4.0, "lower bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    log_std_max: float = setting(-2.0, "upper bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    policy_delay: int = setting(
        5,
        "rounds at the start in which the policy is frozen; only the value network and the "
        "discriminator are trained",
        unit="rounds",
        low=0,
        high=10**6,
    )

    mixup: bool = setting(
        False, "train on mixtures of an expert's and a policy's row, with mixed labels"
    )
    inputs: str = setting(
        "state_action",
        "what the discriminator reads; state_transition: GAIL from observation, as `gailfo`",
        choices=("state", "state_action", "state_transition"),
    )
    reward: str = setting(
        "softplus",
        "from logit z: softplus -log(1 - D), log_d log D, logit z, clipped_logit z within +-5",
        choices=("softplus", "log_d", "logit", "clipped_logit"),
    )


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of GAIL, whose logit is a free network.

    Raises:
      BadInput: settings of PPO that contradict each other.
    """
    network = Network(tuple(config.disc_hidden), config.spectral_norm)

    def logit(params: Any, steps: Steps) -> jax.Array:
        parts = {
            "state": (steps.observation,),
            "state_action": (steps.observation, steps.action),
            "state_transition": (steps.observation, steps.next_observation),
        }[config.inputs]
        return cast(jax.Array, network.apply({"params": params}, jnp.concatenate(parts, -1)))

    def reward(params: Any, steps: Steps) -> jax.Array:
        return reward_of(logit(params, steps), config.reward)

    reads_actions = config.inputs == "state_action"
    form = trainer.Form(
        logit=logit,
        policy_reward=reward,
        learned_reward=reward,
        reads_actions=reads_actions,
        mixup=config.mixup,
    )
    gail = trainer.Trainer(spec, config, form)

    def init(key: jax.Array, task: Task) -> trainer.State:
        key, policy_key, network_key = jax.random.split(key, 3)
        width = gail.discriminator.width * (2 if config.inputs == "state_transition" else 1)
        width += gail.discriminator.action_width if reads_actions else 0
        params = network.init(network_key, jnp.zeros(width))["params"]
        return gail.begin(gail.inner.init(policy_key, task), params, task, key)

    return gail.learner(init)
