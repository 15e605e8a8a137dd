"""Adversarial inverse reinforcement learning: a discriminator of a special form, part of which is a
reward that can be reused.

    D = e^f / (e^f + pi(a|s)),   f = g(s) + gamma h(s') - h(s),
                                            policy's reward log D - log(1 - D) = f - log pi(a|s)
                                                          Fu et al. 2018 (arXiv 1710.11248), eq. 4

-log pi is the entropy bonus of maximum-entropy RL, so PPO's own bonus is 0. PPO's log-deviation is
bounded on both sides; otherwise pi, and the reward with it, would grow without bound.

A Gaussian policy's deviation does not depend on the state. Once it sits at its bound, the mean of
-log pi is the same in every state, and only noise of about unit variance remains of the bonus in
each step's reward. `reward=f` leaves it out. A categorical policy's entropy depends on the state,
so there the bonus stays.

At the optimum f is the soft advantage. The state-only g can be trained on again; with
`g=state_action`, g(s, a) fits the data as well, but it absorbs the dynamics (section 5 of the
paper). The world's `done` ends no episode unless `absorbing` is set, as in GAIL.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from irl_bench.adversarial import trainer
from irl_bench.adversarial.discriminator import Network, Steps
from irl_bench.core.learner import Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import MAX_LOG_STD, MIN_LOG_STD, view


@dataclasses.dataclass(frozen=True)
class Config(trainer.Config):
    """Settings of AIRL: PPO's, the discriminator's and two of its own."""

    discount: float = setting(0.9, "gamma", low=0.0, high=1.0)
    replay: int = setting(
        40,
        "size of the replay memory of negatives in rounds, including the current one; 0: no "
        "memory, all steps of the current round",
        unit="rounds",
        low=0,
        high=10_000,
    )
    log_std_min: float = setting(-3.5, "lower bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    log_std_max: float = setting(-2.5, "upper bound of log_std", low=MIN_LOG_STD, high=MAX_LOG_STD)
    policy_delay: int = setting(
        10,
        "rounds at the start in which the policy is frozen; only the value network and the "
        "discriminator are trained",
        unit="rounds",
        low=0,
        high=10**6,
    )

    g: str = setting("state", "what the reward depends on", choices=("state", "state_action"))
    reward: str = setting(
        "auto",
        "what the policy maximises: log_ratio f - log pi(a|s), as published; f; auto: f for a "
        "Gaussian policy, else log_ratio",
        choices=("auto", "f", "log_ratio"),
    )


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of AIRL. Params of its logit are {"g", "h"}; g is the learned reward.

    Raises:
      BadInput: settings that contradict each other.
    """
    f_alone = config.reward == "f" or (config.reward == "auto" and spec.n_actions is None)
    g_net = Network(tuple(config.disc_hidden), config.spectral_norm)
    h_net = Network(tuple(config.disc_hidden), config.spectral_norm)
    with_action = config.g == "state_action"

    def g(params: Any, steps: Steps) -> jax.Array:
        x = steps.observation
        x = jnp.concatenate([x, steps.action], -1) if with_action else x
        return cast(jax.Array, g_net.apply({"params": params["g"]}, x))

    def logit(params: Any, steps: Steps) -> jax.Array:
        """z = f - log pi, so that D = sigmoid(z)."""
        h_next, h = (
            cast(jax.Array, h_net.apply({"params": params["h"]}, x))
            for x in (steps.next_observation, steps.observation)
        )
        return g(params, steps) + config.discount * h_next - h - steps.log_prob

    def reward(params: Any, steps: Steps) -> jax.Array:
        z = logit(params, steps)
        if not f_alone:
            return z
        # With `absorbing`, log pi is centred: it is 0 in the absorbing state, so its mean would
        # decide whether falling pays.
        mean = spec.spread.mean(steps.log_prob) if config.absorbing else 0.0
        return z + (steps.log_prob - mean)

    form = trainer.Form(
        logit=logit,
        policy_reward=reward,
        # g alone can be trained on again: h is shaping, which depends on the dynamics.
        learned_reward=g,
        # log pi(a|s) needs the expert's actions even where g does not read them.
        reads_actions=True,
        reads_log_prob=True,
    )
    airl = trainer.Trainer(spec, config, form)

    def init(key: jax.Array, task: Task) -> trainer.State:
        key, policy_key, g_key, h_key, entropy_key = jax.random.split(key, 5)
        width, inner = airl.discriminator.width, airl.inner
        g_width = width + airl.discriminator.action_width if with_action else width
        params: dict[str, Any] = {
            "g": g_net.init(g_key, jnp.zeros(g_width))["params"],
            "h": h_net.init(h_key, jnp.zeros(width))["params"],
        }
        policy = inner.init(policy_key, task)
        # The constant in g starts at the mean of log pi, so that the discriminator is undecided. It
        # changes no policy, but while it climbed there from 0, all reward would be -log pi.
        x = view(inner.inputs(policy), task.demonstrations.observation)
        entropy = jnp.mean(inner.policy.entropy(policy.weights["policy"], x, entropy_key))
        last = f"bias_{len(config.disc_hidden)}"
        params["g"] = {**params["g"], last: params["g"][last] - entropy}
        return airl.begin(policy, params, task, key)

    return airl.learner(init)
