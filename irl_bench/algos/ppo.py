"""Proximal policy optimisation on a given reward: a control for algorithms that learn one, and a
way to train on theirs.

* reward=true: the world's own.
* reward=constant: 1 at every step. Nothing can be learned from it, so a survival leak would show.
* reward=learned: the fixed reward of an earlier run (`--given=FILE_OR_RUN`).

The loop is `irl_bench.rl.ppo`. By default the policy starts at random, and demonstrations only set
the scale of its observations.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.core.handover import Part, donor_of
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.statistics import correlation
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


def takes(config: Config) -> tuple[Part, ...]:
    """The reward of an earlier run, with `reward=learned`."""
    return ("reward",) if config.reward == "learned" else ()


def make(spec: Spec, config: Config) -> Learner:
    """PPO whose reward is what `config.reward` names."""
    donor = donor_of(spec) if config.reward == "learned" else None
    # A learned reward values what follows an end only if its algorithm saw ends.
    absorbing = donor is not None and donor.config.get("absorbing", False)
    inner = ppo.PPO(spec, config, terminate=donor is None or absorbing)

    def update(state: ppo.State, task: Task) -> tuple[ppo.State, dict[str, jax.Array]]:
        state, batch = inner.collect(state, task.dials)
        after = None
        if donor is not None:
            assert donor.reward_fn and task.given
            params = task.given.reward
            steps = (batch.observation, batch.action, batch.next_observation)
            reward = donor.reward_fn(params, *steps)
            after = params["absorbing"] if absorbing else None
        else:
            reward = batch.reward if config.reward == "true" else jnp.ones_like(batch.reward)
        state, metrics = inner.improve(state, batch, reward, after)
        return state, {**metrics, "reward_correlation": correlation(reward, -batch.graded_cost)}

    queries = spec.labels() if config.init == "bc" else 0
    consumes = Consumes(expert_queries=queries, env_steps=inner.env_steps)
    return Learner(
        init=inner.init,
        update=update,
        policy=inner.params,
        act=inner.act,
        rounds=config.rounds,
        consumes=consumes,
    )
