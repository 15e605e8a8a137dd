"""What an algorithm can take from an earlier run: a policy, a reward, or people's comparisons.

The module of an algorithm that takes one of them has a function `takes(config)`, which names the
parts it needs. `Spec.donor` then says where they come from and holds the donor's functions;
`Task.given` holds the arrays of one seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from flax import struct

from irl_bench.core.settings import BadInput

if TYPE_CHECKING:
    from irl_bench.core.learner import Consumes
    from irl_bench.core.types import Spec

Part = Literal["policy", "reward", "comparisons"]
"""A field of `Given`."""

PEOPLE = "human"
"""`Donor.algo` of comparisons made by people."""


@struct.dataclass  # pyright: ignore[reportUnknownMemberType] - flax leaves **kwargs untyped
class Given:
    """The donor's arrays for one seed; None for a part that is not taken."""

    policy: Any = None
    """Params that `Donor.act` takes."""
    reward: Any = None
    """Params that `Donor.reward_fn` takes."""
    comparisons: Any = None
    """Arrays of the segments and answers: observation float32[S, H, O], action [S, H, ...],
    first int32[L], second int32[L], label float32[L]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Donor:
    """Where the arrays of `Given` come from, and the functions that use them.

    Attributes:
      algo: the algorithm that learned them, or PEOPLE.
      env: the world they were learned in.
      config: the algorithm's settings; for PEOPLE facts about the clips and the answers.
      consumes: what one seed of the donor used up; None for PEOPLE.
      act: the donor's `Learner.act`.
      carry: the donor's `Learner.carry`.
      reward_fn: the donor's `Learner.reward_fn`; None if its reward is not taken.
    """

    algo: str
    env: str
    config: Mapping[str, Any]
    consumes: Consumes | None = None
    act: Callable[..., Any] | None = None
    carry: Any = None
    reward_fn: Callable[..., Any] | None = None


def donor_of(spec: Spec) -> Donor:
    """Returns `spec.donor`. Raises BadInput if there is none."""
    if spec.donor is None:
        raise BadInput(
            "a learned policy or reward is needed; nearest: --given=RUN, the folder of a run of "
            "gail or airl"
        )
    return spec.donor
