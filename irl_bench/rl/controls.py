"""Controls of algorithms that learn a reward: the same training on another reward.

With a control the learned reward is fitted and stored as ever, but the policy is trained on the
world's own reward or on a constant. Everything else is the treatment's: rollouts, ends of episodes,
step sizes. A policy that is kept as the best (`keep=best`) is the best by the control's reward. So
a difference between the two is the learned reward's doing, in training and in that choice.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from irl_bench.core.settings import setting


@dataclasses.dataclass(frozen=True)
class ControlConfig:
    """The setting of every algorithm that learns a reward and trains a policy on it."""

    control: str = setting(
        "none",
        "what takes the place of the learned reward in the policy's training",
        choices=("none", "true_reward", "constant_reward"),
    )


def trained_on(config: ControlConfig, learned: jax.Array, true: jax.Array) -> jax.Array:
    """Returns the reward that a policy is trained on, float32[...].

    Args:
      config: names the control.
      learned: the learned reward, float32[...].
      true: the world's own, float32[...].
    """
    return {
        "none": learned,
        "true_reward": true,
        "constant_reward": jnp.ones_like(learned),
    }[config.control]
