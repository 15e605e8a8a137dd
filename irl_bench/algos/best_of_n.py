"""Best-of-n sampling: of n rollouts of the clone that begin alike, the one with the highest reward
learned from comparisons is chosen.

No policy is trained. Round k measures the learned reward (proxy) and the true reward (gold) of the
chosen one of n = 2^k rollouts. All rounds choose among the same rollouts: every round computes them
anew, with the same random numbers, and they count once in the environment steps. They begin in the
states in which a probe of RLHF's PPO begins (`ppo.PPO.probe`), but have random numbers of their own
from there on. The metrics `probe_...` have the probe's units: sums over a rollout, and nats. The
distance of the chosen one from the clone is KL(best || clone) =
log n - (n - 1) / n per rollout. The mean over all choices of n out of N rollouts is

    sum_j C(j - 1, n - 1) / C(N, n) R_(j),
                                R_(j): reward of the rollout whose proxy is the j-th lowest
                                       Nakano et al. 2021 (arXiv 2112.09332), appendix I
                                       Gao et al. 2023 (arXiv 2210.10760), section 2
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from irl_bench.algos import rlhf
from irl_bench.core.handover import PEOPLE
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec, Task
from irl_bench.preferences import reward_model, trainer
from irl_bench.rl import ppo
from irl_bench.rollouts import starts


@dataclasses.dataclass(frozen=True)
class Config(rlhf.TeacherConfig, reward_model.Config, ppo.PolicyConfig):
    """Settings of best-of-n: those of the clone and of its reward, and the number of rollouts."""

    samples: int = setting(128, "N, rollouts that begin alike; a power of 2", low=2, high=65536)
    begins: int = setting(32, "states that rollouts begin in", low=1, high=65536)
    warm: int = setting(
        200,
        "each of these states is reached after 0 to warm - 1 steps of the clone",
        unit="steps",
        low=1,
        high=100_000,
    )
    length: int = setting(100, "length of a rollout", unit="steps", low=1, high=100_000)


def _shared(config: Config) -> dict[str, Any]:
    """Returns the settings shared with RLHF. The other settings of RLHF have no effect here,
    because no policy is trained."""
    names = {field.name for field in dataclasses.fields(rlhf.Config)}
    return {name: value for name, value in vars(config).items() if name in names}


def kl(n: jax.Array) -> jax.Array:
    """KL(best of n || a single sample) = log n - (n - 1) / n, float32[...], for n float32[...]."""
    return jnp.log(n) - (n - 1.0) / n


def weights(total: int, n: int) -> np.ndarray:
    """The probability that the j-th lowest of `total` values is the highest of n drawn from them,
    C(j - 1, n - 1) / C(total, n) for j = 1 ... total; float64[total]."""
    j = np.arange(1, total + 1)
    log_choose = lambda a, b: gammaln(a + 1) - gammaln(b + 1) - gammaln(np.maximum(a - b, 0) + 1)
    return np.where(j >= n, np.exp(log_choose(j - 1, n - 1) - log_choose(total, n)), 0.0)


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of best-of-n sampling, with a round for each n = 1, 2, 4 ... N.

    Raises:
      BadInput: `samples` is no power of 2, people are the teacher, AIRL's policy is the start, or
        the settings of RLHF contradict each other.
    """
    if config.samples & (config.samples - 1):
        near = 1 << (config.samples.bit_length() - 1)
        raise BadInput(f"samples={config.samples} is no power of 2; nearest: samples={near}")
    if config.teacher == PEOPLE:
        raise BadInput("best_of_n takes a simulated teacher; nearest: teacher=oracle")
    inner = rlhf.asking(spec, rlhf.Config(**_shared(config)))
    rounds = config.samples.bit_length()
    table = jnp.asarray(
        np.stack([weights(config.samples, 2**k) for k in range(rounds)]), jnp.float32
    )

    def update(state: trainer.State, task: Task) -> tuple[trainer.State, dict[str, jax.Array]]:
        state = trainer.when(state.policy.round == 0, lambda state: inner.learn(state, task), state)
        act = inner.draw(state.policy, state.policy.reference)
        world = spec.world.bind(task.dials)
        # The same in every round, since the policy's key does not change. The first states are
        # those of a probe of RLHF with this seed (`ppo.PPO.probe`).
        *reach_keys, roll_key = jax.random.split(ppo.probe_key(state.policy.key), 4)
        start = starts.reached(world, act, config.begins, config.warm, reach_keys)
        batch = starts.alike(world, act, start, config.samples, config.length, roll_key)
        reward = inner.rewards.reward_fn(
            state.reward, batch.next_observation, batch.action, batch.next_observation
        )
        proxy, gold = jnp.mean(reward, -1), jnp.mean(batch.reward, -1)
        order = jnp.argsort(proxy, -1)
        n = 2.0**state.policy.round
        chosen = table[state.policy.round]
        mean = lambda x: jnp.mean(jnp.sum(jnp.take_along_axis(x, order, -1) * chosen, -1))
        metrics = {
            "probe_gold": mean(gold) * config.length,
            "probe_proxy": mean(proxy) * config.length,
            "probe_proxy_start": jnp.mean(proxy) * config.length,
            "probe_kl": kl(n),
            "proxy": mean(proxy),
            "true_return": mean(gold) * config.episode_steps,
            "reference_kl": kl(n) / config.length,
            "reward_accuracy": state.accuracy,
            "cost": jnp.mean(batch.cost),
        }
        policy = state.policy.replace(round=state.policy.round + 1)
        return state.replace(policy=policy), metrics

    # Every round computes the same rollouts, so they count once.
    rollout_steps = config.begins * (config.warm + config.samples * config.length)
    learner = inner.learner(Consumes(preference_labels=config.labels))
    consumes = dataclasses.replace(learner.consumes, env_steps=inner.pool_steps + rollout_steps)
    return dataclasses.replace(learner, update=update, rounds=rounds, consumes=consumes)
