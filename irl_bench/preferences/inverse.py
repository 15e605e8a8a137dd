"""Inverse RL as the start of RLHF: AIRL's policy is the first policy and the reference, and its
reward g(s) is the reward before any comparison.

The learned reward is g plus the output of the ensemble, which starts at 0 and learns a correction
to g from the comparisons. g is rescaled so that its sum over a segment of the first pool has
standard deviation 1.
"""

from __future__ import annotations

from typing import Any

import jax

from irl_bench.core.handover import Part
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.supervised import PolicyParams

PARTS: tuple[Part, ...] = ("policy", "reward")
"""The parts that a run of AIRL hands on."""


class Start:
    """AIRL's policy and reward, which come with `--given=RUN`.

    Args:
      spec: holds the donor.
      hidden: widths of the policy's hidden layers.
      mask_failure: whether the learned reward may not see the world's failure flags. Then AIRL's
        may not have seen them either, since it is a part of it.

    Attributes:
      consumes: what one seed of AIRL used up.

    Raises:
      BadInput: there is no donor, or RLHF cannot begin with it.
    """

    def __init__(self, spec: Spec, hidden: tuple[int, ...], mask_failure: bool):
        donor = spec.donor
        if donor is None or donor.algo != "airl":
            raise BadInput(
                "init=airl begins with what AIRL has learned; nearest: --given=RUN, the folder of "
                "a run of airl"
            )
        if donor.config["g"] != "state":
            raise BadInput(
                f"init=airl takes a reward of states, not g={donor.config['g']}; nearest: "
                "--airl.g=state"
            )
        if tuple(donor.config["hidden"]) != tuple(hidden):
            widths = ",".join(map(str, donor.config["hidden"]))
            raise BadInput(
                f"hidden={','.join(map(str, hidden))} is not that of AIRL's policy; nearest: "
                f"hidden={widths}"
            )
        if mask_failure and spec.world.failure_flags and not donor.config["mask_failure"]:
            raise BadInput(
                "mask_failure=true hides the failure flags, and AIRL's reward has seen them; "
                "nearest: --airl.mask_failure=true"
            )
        assert donor.reward_fn is not None and donor.consumes is not None
        self._reward_fn, self.consumes = donor.reward_fn, donor.consumes

    def policy(self, task: Task) -> PolicyParams:
        """AIRL's policy and the standardiser of its observations."""
        assert task.given is not None
        return task.given.policy

    def reward(self, task: Task) -> Any:
        """The params of AIRL's reward."""
        assert task.given is not None
        return task.given.reward

    def reward_fn(self, params: Any, observation: jax.Array, action: jax.Array) -> jax.Array:
        """g at the states that steps led to, float32[...].

        Args:
          params: as `reward` returns them.
          observation: the states, float32[..., O].
          action: float32[..., A] or int32[...]; g does not depend on it.
        """
        return self._reward_fn(params, observation, action, observation)
