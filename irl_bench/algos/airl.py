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
from flax import struct

from irl_bench.adversarial import discriminator as adversarial
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import MAX_LOG_STD, MIN_LOG_STD, view
from irl_bench.rl import ppo


@dataclasses.dataclass(frozen=True)
class Config(adversarial.Config, ppo.AdversarialConfig):
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


@struct.dataclass
class State:
    policy: ppo.State
    discriminator: adversarial.State
    """params: {"g", "h"}."""
    key: jax.Array


def make(spec: Spec, config: Config) -> Learner:
    if config.mixup:
        raise BadInput(
            "airl cannot use mixup: a mixture of steps has no log pi, which its logit holds; "
            "nearest: mixup=false"
        )
    inner = ppo.PPO(spec, config, terminate=config.absorbing)
    f_alone = config.reward == "f" or (config.reward == "auto" and spec.n_actions is None)
    g_net = adversarial.Network(tuple(config.disc_hidden), config.spectral_norm)
    h_net = adversarial.Network(tuple(config.disc_hidden), config.spectral_norm)
    with_action = config.g == "state_action"

    def g(params: Any, steps: adversarial.Steps) -> jax.Array:
        x = (
            jnp.concatenate([steps.observation, steps.action], -1)
            if with_action
            else steps.observation
        )
        return g_net.apply({"params": params["g"]}, x)  # type: ignore[return-value]

    def logit(params: Any, steps: adversarial.Steps) -> jax.Array:
        """z = f - log pi, so that D = sigmoid(z)."""
        h_next, h = (
            h_net.apply({"params": params["h"]}, x)
            for x in (steps.next_observation, steps.observation)
        )
        return g(params, steps) + config.discount * h_next - h - steps.log_prob  # type: ignore[operator]

    # log pi(a|s) is read at the expert's actions even where g is not.
    judge = adversarial.Discriminator(
        spec, config, logit, True, inner.steps_per_round, ppo.forever(config.discount)
    )

    def init(key: jax.Array, task: Task) -> State:
        key, policy_key, g_key, h_key, entropy_key = jax.random.split(key, 5)
        x = jnp.zeros(judge.width)
        params: dict[str, Any] = {
            "g": g_net.init(g_key, jnp.zeros(len(x) + judge.action_width) if with_action else x)[
                "params"
            ],
            "h": h_net.init(h_key, x)["params"],
        }
        policy = inner.init(policy_key, task)
        # Undecided at first: a constant in g changes no policy, but while it climbs from 0 to log
        # pi, all reward is -log pi.
        x = view(inner.inputs(policy), task.demonstrations.observation)
        entropy = jnp.mean(inner.policy.entropy(policy.weights["policy"], x, entropy_key))
        last = f"bias_{len(config.disc_hidden)}"
        params["g"] = {**params["g"], last: params["g"][last] - entropy}
        return State(policy, judge.init(params, task.demonstrations), key)

    def update(state: State, task: Task) -> tuple[State, dict[str, jax.Array]]:
        key, fit_key, sample_key = jax.random.split(state.key, 3)
        policy, batch = inner.collect(state.policy, task.dials)
        inputs, weights = inner.inputs(policy), policy.weights["policy"]

        def log_prob(observation: jax.Array, action: jax.Array) -> jax.Array:
            return inner.policy.log_prob(
                weights, view(inputs, observation), inner.policy.unsquash(action)
            )

        rows = adversarial.Rows.of(batch)
        discriminator, found = judge.fit(
            state.discriminator, task.demonstrations, rows, log_prob, policy.round, fit_key
        )
        rows = judge.seen(discriminator.inputs, rows)
        reward = logit(discriminator.params, rows)
        if f_alone:
            # Less its mean with `absorbing`: log pi = 0 there, and its size must not decide whether
            # falling pays.
            reward += rows.log_prob - (jnp.mean(rows.log_prob) if config.absorbing else 0.0)
        reward = reward.reshape(batch.reward.shape)
        found |= adversarial.compare(
            judge, discriminator.inputs, task.demonstrations, batch, reward, sample_key
        )
        absorbing = (
            logit(discriminator.params, judge.absorbed)[0] if config.absorbing else None
        )  # log pi = 0: nothing is chosen
        policy, more = inner.improve(policy, batch, reward, absorbing)
        return State(policy, discriminator, key), {**found, **more}

    def absorbing_g(discriminator: adversarial.State) -> jax.Array | None:
        return g(discriminator.params, judge.absorbed)[0] if config.absorbing else None

    # What can be trained on again is g alone: h is shaping, which the dynamics it was learned under
    # are part of.
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
        return g(params["params"], steps)

    return Learner(
        init,
        update,
        lambda state: inner.params(state.policy),
        inner.act,
        config.rounds,
        Consumes(expert_queries=spec.labels(), env_steps=inner.env_steps),
        reward=lambda state: adversarial.kept(
            state.discriminator, absorbing_g(state.discriminator)
        ),
        judge=judged,
    )
