"""GAIL from observation: the discriminator reads state transitions instead of states and actions.

    max_D E_expert[log D(s, s')] + E_policy[log(1 - D(s, s'))]
                                                  Torabi et al. 2018 (arXiv 1807.06158), eq. 4

It is `gail` with another default of `inputs`. The expert's actions are read only where the policy
begins as a clone (`init=bc`).
"""

from __future__ import annotations

import dataclasses

from irl_bench.algos import gail
from irl_bench.core.settings import setting

make = gail.make


@dataclasses.dataclass(frozen=True)
class Config(gail.Config):
    """Settings of GAIL from observation."""

    inputs: str = setting(
        "state_transition", "what the discriminator reads", choices=("state", "state_transition")
    )
