"""How does the exponent depend on how often one fails?

BC with fewer and more demonstrations, with rarer and more frequent hazards, and with noise on the
executed actions. All three move h, the rate of leaving the demonstrations' distribution. Where h T
stays small and nobody comes back, the regret grows like T² at any h. A two-state chain with the
measured rates says where that ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.plan.presets import budget_of
from irl_bench.plan.request import Request
from irl_bench.report import ReportData
from irl_bench.studies import dials
from irl_bench.studies.study import Part, Result, Study

RATE = {
    "chain": "hazard",
    "lane_keep": "hazard_rate",
    "swing_up": "shove_rate",
}
"""World -> the dial of its hazards' rate; robots have `push_rate`."""
PUSH = "push_rate"
PUSHES = 1e-3
"""The middle rate of a robot's pushes [1/step], whose default is 0."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on the world's number of demonstrations and rate of hazards."""
NOISE = (0.02, 0.05, 0.1, 0.2)
"""Standard deviations of the noise on executed actions."""


def parts(request: Request, demos: tuple[int, ...], out: Path) -> list[Part]:
    """Returns a sweep of BC for each world, dial and value.

    Raises:
      BadInput: a world has none of the dials; one line.
    """
    sweeps = []
    for env in request.env:
        known = registry.world(env).dials
        rate = RATE.get(env, PUSH)
        if rate not in known:
            raise BadInput(
                f"--env={env}: hazard turns a rate of hazards, which {env} has not; nearest: "
                f"--env={','.join(RATE)}"
            )
        usual = demos[0] if demos else budget_of(env, request.budget).demos
        middle = known[rate].default or PUSHES
        factors = (0.5, 1.0) if request.budget == "smoke" else FACTORS
        counts = dict.fromkeys(max(1, round(factor * usual)) for factor in factors)
        rates = dict.fromkeys(min(factor * middle, known[rate].high) for factor in factors)
        settings = [dials.Setting("demonstrations", count, demos=count) for count in counts]
        settings += [dials.Setting(rate, value, {rate: value}) for value in rates]
        if "noise" in known and request.budget != "smoke":
            settings += [dials.Setting("noise", value, {"noise": value}) for value in NOISE]
        sweeps += dials.parts(request, env, settings, out)
    return sweeps


def read(reports: Mapping[str, ReportData]) -> Result:
    """Returns measured and predicted slopes over each dial."""
    text = ["Each dial is turned alone; the others keep their defaults."]
    return dials.read(reports, "Slope over hazards", text)


STUDY = Study(
    name="hazard",
    help="BC's slope over the number of demonstrations, the rate of hazards and the noise, beside "
    "a two-state chain's",
    algo=("bc",),
    env=("chain", "lane_keep", "swing_up"),
    fixed=True,
    sizes={"smoke": {}, "default": {"seeds": 20}, "full": {"seeds": 40}},
    parts=parts,
    read=read,
    draw=lambda result: dials.draw(result, ""),
)
