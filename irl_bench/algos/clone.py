"""The clone that learners of a reward begin with, as a row of its own.

GAIL, AIRL and RLHF start from a clone of all demonstrations, fitted for `bc_steps` steps. `bc`
holds a share of the demonstrations out, to stop early. What a learner of a reward adds is its
distance from this clone, not from `bc`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import setting
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import Policy, standardiser, view
from irl_bench.nets.supervised import PolicyParams
from irl_bench.rl import ppo


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the clone, those of the learners that begin with it."""

    hidden: tuple[int, ...] = setting(
        (64, 64), "widths of the policy's hidden layers", unit="units", low=1, high=4096
    )
    bc_steps: int = setting(2400, "gradient steps", unit="steps", low=1, high=10_000_000)


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of the clone, which is fitted when it is initialised."""
    policy = Policy(spec, config.hidden)

    def init(key: jax.Array, task: Task) -> PolicyParams:
        policy_key, fit_key = jax.random.split(key)
        demos = task.demonstrations
        rows = demos.observation.reshape(-1, spec.observation_size)
        inputs = standardiser(rows, demos.mask.reshape(-1), keep_constant=True)
        weights = policy.init(policy_key)
        return PolicyParams(
            ppo.clone(policy, weights, inputs, demos, config.bc_steps, fit_key), inputs
        )

    def act(params: PolicyParams, observation: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return policy.mode(params.weights, view(params.inputs, observation))

    def update(state: PolicyParams, task: Task) -> tuple[PolicyParams, dict[str, Any]]:
        del task
        return state, {}

    return Learner(
        init=init,
        update=update,
        policy=lambda state: state,
        act=act,
        rounds=1,
        consumes=Consumes(expert_queries=spec.labels()),
    )
