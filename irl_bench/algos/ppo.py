"""Proximal policy optimisation on a given reward: a control for algorithms that learn one, and a
way to train on theirs.

    reward=true: the world's own reward=constant: 1 at every step, from which nothing can be learned
    (a survival leak would show) reward=learned: what an algorithm of an earlier run has learned
    (`--given=FILE_OR_RUN`), as it is

The loop is `irl_bench.rl.ppo`. By default the policy starts at random and sees no demonstration but
in its observations' scale.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.adversarial.discriminator import correlation
from irl_bench.algos.stored import learned_reward
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.rl import ppo


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    """Settings of PPO on a given reward."""

    reward: str = setting("true", "what is maximised", choices=("true", "constant", "learned"))
    init: str = setting(
        "random",
        "how the policy begins: a clone of the demonstrations, or random",
        choices=("bc", "random"),
    )


def takes(config: Config) -> str | None:
    """What of an earlier run `Task.given` holds."""
    return "reward" if config.reward == "learned" else None


def make(spec: Spec, config: Config) -> Learner:
    # A learned reward knows of an end only what follows it, if the algorithm that learned it saw
    # any.
    absorbing = spec.given is not None and spec.given.config.get("absorbing", False)
    inner = ppo.PPO(spec, config, terminate=config.reward != "learned" or absorbing)
    judge, params_of = (None, None) if config.reward != "learned" else learned_reward(spec)

    def update(state: ppo.State, task: Task) -> tuple[ppo.State, dict[str, jax.Array]]:
        state, batch = inner.collect(state, task.dials)
        after = None
        if judge and params_of:
            params = params_of(task.given)
            reward = judge(params, batch.observation, batch.action, batch.next_observation)
            after = params["absorbing"] if absorbing else None
        else:
            reward = batch.reward if config.reward == "true" else jnp.ones_like(batch.reward)
        state, metrics = inner.improve(state, batch, reward, after)
        return state, {**metrics, "reward_correlation": correlation(reward, -batch.graded_cost)}

    queries = spec.labels() if config.init == "bc" else 0
    consumes = Consumes(expert_queries=queries, env_steps=inner.env_steps)
    return Learner(inner.init, update, inner.params, inner.act, config.rounds, consumes)
