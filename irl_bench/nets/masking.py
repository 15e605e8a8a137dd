"""What a learned reward may not see: the entries of an observation that show a failure directly.

In a world such as `lane_keep` the true reward is a function of its failure flag alone. A reward
that reads the flag has little left to learn, and a comparison of two learners of which one reads it
says nothing about either. So all learners of a reward hide the same entries, by default all flags.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from envs.core import World
from irl_bench.core.settings import BadInput, setting
from irl_bench.nets.policies import Standardiser


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """The setting of every learner of a reward."""

    mask_failure: bool = setting(True, "hide the world's failure flags from the learned reward")


def check_mask(world: World, config: MaskConfig) -> None:
    """Raises BadInput if flags are to be shown that the world does not have."""
    if not config.mask_failure and not world.failure_flags:
        raise BadInput(
            f"mask_failure=false: {world.name} marks no failure in its observations; nearest: "
            "mask_failure=true"
        )


def masked(inputs: Standardiser, world: World, config: MaskConfig) -> Standardiser:
    """Returns a standardiser that gives 0 for the world's failure flags, whatever their value.

    Args:
      inputs: standardises observations float32[..., O].
      world: names the entries, `World.failure_flags`.
      config: whether they are hidden.
    """
    if not config.mask_failure or not world.failure_flags:
        return inputs
    hidden = jnp.array(world.failure_flags, int)
    return inputs.replace(scale=inputs.scale.at[hidden].set(0.0))
