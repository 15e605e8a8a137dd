"""How does the exponent depend on how soon the world brings one back?

BC in worlds that undo a failure with a probability rho per step, from 1/1024 to 1. At rho = 0 its
regret grows like T²; the sooner one is brought back, the closer it comes to T. A two-state chain
with the measured rates says how close.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from envs.names import nearest
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.plan.request import Request
from irl_bench.report import ReportData
from irl_bench.studies import dials
from irl_bench.studies.study import Part, Result, Study

DIAL = "reacquisition"
"""The dial of every world that brings one back."""
RATES = (1 / 1024, 1 / 256, 1 / 64, 1 / 16, 1.0)
"""Its values [1/step]."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of BC for each world and value of the dial.

    Raises:
      BadInput: a world has no such dial; one line.
    """
    del demos
    sweeps = []
    for env in request.env:
        loaded = registry.world(env)
        if DIAL not in loaded.dials:
            raise BadInput(
                f"--env={env}: recoverability turns the dial {DIAL}, which {env} has not; nearest: "
                f"{nearest(env, ('chain', 'lane_keep', 'hopper'))}"
            )
        rates = RATES[::4] if request.budget == "smoke" else RATES
        settings = [dials.Setting("rho", rate, {DIAL: rate}) for rate in rates]
        sweeps += dials.parts(request, env, settings, out)
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns measured and predicted slopes over rho."""
    text = ["rho: probability per failed step of being brought back by the world [1/step]."]
    return dials.read(reports, "Slope over recoverability", text)


STUDY = Study(
    name="recoverability",
    help="BC's slope where the world undoes a failure with probability 1/1024 to 1 per step, "
    "beside a two-state chain's",
    algo=("bc",),
    env=("chain", "lane_keep", "swing_up"),
    fixed=True,
    sizes={"smoke": {}, "default": {"seeds": 20}, "full": {"seeds": 40}},
    parts=parts,
    read=read,
    draw=lambda result: dials.draw(result, " [1/step]"),
)
