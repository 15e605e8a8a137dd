"""Best-of-n: of n rollouts of the clone that begin alike, the one that a reward learned from
comparisons likes best.

No policy is trained. Round k measures n = 2^k: the learned reward (proxy) and the true one (gold)
of the chosen rollout, which is KL(best || clone) = log n - (n - 1) / n away from the clone per
rollout. The mean over all choices of n out of N rollouts is

    sum_j C(j - 1, n - 1) / C(N, n) R_(j),
                                        R_(j) that of the rollout whose proxy is the j-th lowest
                                       Nakano et al. 2021 (arXiv 2112.09332), appendix I
                                       Gao et al. 2023 (arXiv 2210.10760), section 2
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from irl_bench.algos import rlhf
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import starts, trainer


@dataclasses.dataclass(frozen=True)
class Config(rlhf.Config):
    """Settings of best-of-n: those of the clone and its reward, and how much is drawn."""

    samples: int = setting(128, "N, rollouts that begin alike; a power of 2", low=2, high=65536)
    begins: int = setting(32, "states that they begin in", low=1, high=65536)
    warm: int = setting(
        200, "these are within so many steps of the clone", unit="steps", low=1, high=100_000
    )
    length: int = setting(100, "of a rollout", unit="steps", low=1, high=100_000)


def kl(n: jax.Array) -> jax.Array:
    """KL(best of n || one) = log n - (n - 1) / n, float32[...]."""
    return jnp.log(n) - (n - 1.0) / n


def weights(total: int, n: int) -> np.ndarray:
    """float64[total]: C(j - 1, n - 1) / C(total, n), the probability that the j-th lowest is the
    best of n drawn from all."""
    j = np.arange(1, total + 1)
    log_choose = lambda a, b: gammaln(a + 1) - gammaln(b + 1) - gammaln(np.maximum(a - b, 0) + 1)
    return np.where(j >= n, np.exp(log_choose(j - 1, n - 1) - log_choose(total, n)), 0.0)


def make(spec: Spec, config: Config) -> Learner:
    if config.samples & (config.samples - 1):
        near = 1 << (config.samples.bit_length() - 1)
        raise BadInput(f"samples={config.samples} is no power of 2; nearest: samples={near}")
    if config.teacher == "human" or config.init == "airl":
        raise BadInput(
            "best_of_n takes a clone and a simulated teacher; nearest: init=bc, teacher=oracle"
        )
    inner = rlhf.asking(spec, config)
    rounds = config.samples.bit_length()
    table = jnp.asarray(
        np.stack([weights(config.samples, 2**k) for k in range(rounds)]), jnp.float32
    )

    def update(state: trainer.State, task: Task) -> tuple[trainer.State, dict[str, jax.Array]]:
        state = trainer.when(state.policy.round == 0, lambda state: inner.learn(state, task), state)
        key, roll_key = jax.random.split(state.key)
        act = inner.draw(state.policy, state.policy.reference)
        world = spec.world.bind(task.dials)
        found = starts.shared(
            world, act, config.begins, config.samples, config.warm, config.length, roll_key
        )
        reward = inner.rewards.reward_fn(
            state.reward, found.next_observation, found.action, found.next_observation
        )
        proxy, gold = jnp.mean(reward, -1), jnp.mean(found.reward, -1)
        order = jnp.argsort(proxy, -1)
        n = 2.0**state.policy.round
        chosen = table[state.policy.round]
        mean = lambda x: jnp.mean(jnp.sum(jnp.take_along_axis(x, order, -1) * chosen, -1))
        metrics = {
            "proxy": mean(proxy),
            "true_return": mean(gold) * config.episode_steps,
            "reference_kl": kl(n) / config.length,
            "reward_accuracy": state.held_out,
            "cost": jnp.mean(found.cost),
        }
        policy = state.policy.replace(round=state.policy.round + 1)
        return state.replace(policy=policy, key=key), metrics

    walked = rounds * config.begins * (config.warm + config.samples * config.length)
    learner = inner.learner(Consumes(preference_labels=config.labels))
    consumes = dataclasses.replace(learner.consumes, env_steps=inner.pool_steps + walked)
    return dataclasses.replace(learner, update=update, rounds=rounds, consumes=consumes)
