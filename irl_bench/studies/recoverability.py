"""How does the exponent depend on how soon the world brings one back?

BC in worlds that undo a failure with a probability rho per step, from 0 to 1/4, on `chain` to 1. At
rho = 0 its regret grows like T²; the sooner one is brought back, the closer it comes to T. A
two-state chain with the measured rates says how close.

On `chain` a failed step is paid before the world helps. The other worlds may undo a failure in the
step in which it happens, so a share rho of the failures is never seen, at rho = 1 all of them.
"""

from __future__ import annotations

from envs.names import nearest
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.studies import dials

DIAL = "reacquisition"
"""The dial of every world that brings one back."""
RATES = (0.0, 1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Its values [1/step]."""
AT_ONCE = {"chain": 1.0}
"""World -> a further value, where a failure that is undone at once is paid all the same."""


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
    further = (AT_ONCE[env],) if env in AT_ONCE else ()
    rates = (RATES[0], RATES[-1]) if request.budget == "smoke" else RATES + further
    return [dials.Setting("rho", rate, {DIAL: rate}) for rate in rates]


STUDY = dials.study(
    name="recoverability",
    help="BC's slope where the world undoes a failure with probability 0 to 1/4 per step, "
    "beside a two-state chain's",
    settings=settings,
    title="Slope over recoverability",
    text="rho: probability per failed step of being brought back by the world [1/step]. But for "
    "`chain`, a world may do so in the step of the failure, which then costs nothing.",
    units={"rho": "1/step"},
)
