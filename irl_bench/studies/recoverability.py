"""How does the exponent depend on how soon the world brings one back?

BC in worlds that undo a failure with a probability rho per step, from 1/1024 to 1. At rho = 0 its
regret grows like T²; the sooner one is brought back, the closer it comes to T. A two-state chain
with the measured rates says how close.
"""

from __future__ import annotations

from envs.names import nearest
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.studies import dials

DIAL = "reacquisition"
"""The dial of every world that brings one back."""
RATES = (1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1.0)
"""Its values [1/step]."""


def settings(request: Request, demos: tuple[int, ...], env: str) -> list[dials.Setting]:
    """Returns the values of the dial in a world.

    Raises:
      BadInput: the world has no such dial; one line.
    """
    del demos
    if DIAL not in registry.world(env).dials:
        raise BadInput(
            f"--env={env}: recoverability turns the dial {DIAL}, which {env} has not; nearest: "
            f"{nearest(env, ('chain', 'lane_keep', 'hopper'))}"
        )
    rates = RATES[::4] if request.budget == "smoke" else RATES
    return [dials.Setting("rho", rate, {DIAL: rate}) for rate in rates]


STUDY = dials.study(
    name="recoverability",
    help="BC's slope where the world undoes a failure with probability 1/1024 to 1 per step, "
    "beside a two-state chain's",
    settings=settings,
    title="Slope over recoverability",
    text="rho: probability per failed step of being brought back by the world [1/step].",
    unit=" [1/step]",
)
