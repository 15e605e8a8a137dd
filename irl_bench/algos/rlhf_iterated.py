"""Iterated RLHF: the labels are split equally over the iterations, and each share compares rollouts
of the current policy.

The number of labels is that of `rlhf`. Behaviour with which the policy exploits the reward in one
iteration is compared in the next, and the reward is fitted to all answers so far.
      Christiano et al. 2017 (arXiv 1706.03741), section 2.2; Bai et al. 2022 (arXiv 2204.05862)
"""

from __future__ import annotations

import dataclasses

from irl_bench.algos import rlhf
from irl_bench.core.handover import Part
from irl_bench.core.learner import Learner
from irl_bench.core.settings import BadInput, setting
from irl_bench.core.types import Spec
from irl_bench.preferences import inverse
from irl_bench.preferences.queries import QUERIES


@dataclasses.dataclass(frozen=True)
class Config(rlhf.Config):
    """Settings of iterated RLHF."""

    queries: str = setting("uniform", "which pairs are asked about", choices=QUERIES)
    iterations: int = setting(5, "how often the teacher is asked", low=1, high=1000)
    restart: bool = setting(False, "begin each iteration with the reference policy")


def takes(config: Config) -> tuple[Part, ...]:
    """The parts of an earlier run that are needed: policy and reward of AIRL, with `init=airl`."""
    return inverse.PARTS if config.init == "airl" else ()


def make(spec: Spec, config: Config) -> Learner:
    """Returns the learner of RLHF that gets its labels in `config.iterations` equal shares.

    Raises:
      BadInput: people are the teacher, a donor is missing, or settings contradict each other.
    """
    if config.teacher == "human":
        raise BadInput(
            "teacher=human answers once, before the training; nearest: --algo=rlhf "
            "--rlhf.teacher=human"
        )
    return rlhf.train(spec, config, config.iterations, config.restart, config.queries)
