"""A policy learned in an earlier run, used unchanged, for example to evaluate it under other
dials."""

from __future__ import annotations

from typing import Any

import jax

from irl_bench.core.handover import Part, donor_of
from irl_bench.core.learner import Consumes, Learner
from irl_bench.core.types import Spec, Task


def takes(config: None) -> tuple[Part, ...]:
    """The parts of an earlier run that are needed: its policy."""
    return ("policy",)


def make(spec: Spec, config: None = None) -> Learner:
    """Returns a learner with 0 rounds whose policy is the donor's.

    Raises:
      BadInput: there is no donor.
    """
    donor = donor_of(spec)

    def init(key: jax.Array, task: Task) -> Any:
        assert task.given is not None
        return task.given.policy

    def update(state: Any, task: Task) -> tuple[Any, dict[str, jax.Array]]:
        return state, {}

    return Learner(
        init=init,
        update=update,
        policy=lambda state: state,
        act=donor.act,
        rounds=0,
        consumes=Consumes(),
        carry=donor.carry,
    )
