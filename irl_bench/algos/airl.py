"""Adversarial inverse reinforcement learning: the discriminator's own form makes part of it a
reward.

    D = e^f / (e^f + pi(a|s)),   f = g(s) + gamma h(s') - h(s),
                                            policy's reward log D - log(1 - D) = f - log pi(a|s)
                                                          Fu et al. 2018 (arXiv 1710.11248), eq. 4

-log pi is the entropy bonus of maximum-entropy RL, so PPO's own is 0 and its log-deviation is
bounded on both sides: else pi grows without bound and the reward with it. Where the deviation does
not depend on the state and sits at its bound, that bonus is the same for every action: what is left
of it is noise of unit variance in each step's reward. `reward=f` leaves it out. A categorical
policy's entropy does depend on the state, so there it stays. At the optimum f is the soft
advantage. The state-only g is a reward that can be trained on again; with `g=state_action`, g(s, a)
fits the data as well but takes the dynamics in (their section 5). The world's `done` never ends an
episode unless `absorbing` says so, as in GAIL.
"""

from __future__ import annotations

import dataclasses
from typing import Any

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
        40, "rounds whose steps are negatives, this one and those before it; 0: all steps of this "
            "one alone", unit="rounds",
        low=0, high=10_000,
    )  # fmt: skip
    log_std_min: float = setting(-3.5, "its lower bound", low=MIN_LOG_STD, high=MAX_LOG_STD)
    log_std_max: float = setting(-2.5, "its upper bound", low=MIN_LOG_STD, high=MAX_LOG_STD)
    policy_delay: int = setting(
        10, "rounds at the start in which the policy is held and only what judges it is fitted",
        unit="rounds", low=0, high=10**6,
    )  # fmt: skip

    g: str = setting("state", "what the reward depends on", choices=("state", "state_action"))
    reward: str = setting(
        "auto", "of the policy: log_ratio f - log pi(a|s), as published; f; auto: f for a Gaussian "
                "policy, else log_ratio",
        choices=("auto", "f", "log_ratio"),
    )  # fmt: skip


def make(spec: Spec, config: Config) -> Learner:
    """AIRL; params of the logit are {"g", "h"}."""
    trainer.reject_mixup("airl", config)
    f_alone = config.reward == "f" or (config.reward == "auto" and spec.n_actions is None)
    g_net = Network(tuple(config.disc_hidden), config.spectral_norm)
    h_net = Network(tuple(config.disc_hidden), config.spectral_norm)
    with_action = config.g == "state_action"

    def g(params: Any, steps: Steps) -> jax.Array:
        x = steps.observation
        x = jnp.concatenate([x, steps.action], -1) if with_action else x
        return g_net.apply({"params": params["g"]}, x)  # type: ignore[return-value]

    def logit(params: Any, steps: Steps) -> jax.Array:
        """z = f - log pi, so that D = sigmoid(z)."""
        h_next, h = (
            h_net.apply({"params": params["h"]}, x)
            for x in (steps.next_observation, steps.observation)
        )
        return g(params, steps) + config.discount * h_next - h - steps.log_prob  # type: ignore[operator]

    def reward(params: Any, steps: Steps) -> jax.Array:
        z = logit(params, steps)
        if not f_alone:
            return z
        # With `absorbing`, less the mean of log pi: it is 0 in the absorbing state, and its size
        # must not decide whether falling pays.
        mean = jnp.mean(steps.log_prob) if config.absorbing else 0.0
        return z + (steps.log_prob - mean)

    form = trainer.Form(
        logit=logit,
        policy_reward=reward,
        # g alone can be trained on again: h is shaping, which depends on the dynamics.
        learned_reward=g,
        # log pi(a|s) is read at the expert's actions even where g does not read them.
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
        # Undecided at first. A constant in g changes no policy, but while it climbs from 0 to log
        # pi, all reward is -log pi.
        x = view(inner.inputs(policy), task.demonstrations.observation)
        entropy = jnp.mean(inner.policy.entropy(policy.weights["policy"], x, entropy_key))
        last = f"bias_{len(config.disc_hidden)}"
        params["g"] = {**params["g"], last: params["g"][last] - entropy}
        return airl.begin(policy, params, task, key)

    return airl.learner(init)
