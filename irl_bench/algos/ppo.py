"""Proximal policy optimisation on a fixed reward: a control for algorithms that learn a reward, and
a way to train on the reward of an earlier run.

* reward=true: the world's own.
* reward=constant: 1 at every step. It teaches nothing, unless ends of episodes leak into it.
* reward=learned: the reward of an earlier run (`--given=FILE_OR_RUN`).

The loop is `irl_bench.rl.ppo`. By default the policy starts at random, and demonstrations only set
the scale of its observations.
    Schulman et al. 2017 (arXiv 1707.06347)
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
from irl_bench.rollouts.experience import Transition


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    """Settings of PPO on a fixed reward."""

    reward: str = setting("true", "what is maximised", choices=("true", "constant", "learned"))
    init: str = setting(
        "random",
        "how the policy begins: a clone of the demonstrations, or random",
        choices=("bc", "random"),
    )


def takes(config: Config) -> tuple[Part, ...]:
    """The parts of an earlier run that are needed: its reward, with `reward=learned`."""
    return ("reward",) if config.reward == "learned" else ()


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of PPO on the reward that `config.reward` names.

    Raises:
      BadInput: a learned reward without a donor, or settings that contradict each other.
    """
    donor = donor_of(spec) if config.reward == "learned" else None
    # A learned reward holds a value for the time after an end only with an absorbing state.
    absorbing = donor is not None and donor.config.get("absorbing", False)
    inner = ppo.PPO(spec, config, terminate=donor is None or absorbing, init=config.init)

    def update(state: ppo.State, task: Task) -> tuple[ppo.State, dict[str, jax.Array]]:
        def reward_of(batch: Transition) -> jax.Array:
            if donor is not None:
                assert donor.reward_fn and task.given
                steps = (batch.observation, batch.action, batch.next_observation)
                return donor.reward_fn(task.given.reward, *steps)
            return batch.reward if config.reward == "true" else jnp.ones_like(batch.reward)

        state, batch = inner.collect(state, task.dials)
        reward = reward_of(batch)
        after = None
        if absorbing:
            assert task.given
            after = task.given.reward["absorbing"]
        probed = inner.probe(state, task.dials, reward_of)
        state, metrics = inner.improve(state, batch, reward, after)
        return state, {
            **metrics,
            **probed,
            "reward_correlation": correlation(*spec.spread.gather((reward, -batch.graded_cost))),
        }

    queries = spec.labels() if config.init == "bc" else 0
    consumes = Consumes(expert_queries=queries, env_steps=inner.env_steps)
    return Learner(
        init=inner.init,
        update=update,
        policy=inner.params,
        act=inner.act,
        rounds=config.rounds,
        consumes=consumes,
        per_world=inner.per_world,
    )
