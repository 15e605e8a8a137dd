"""How does the exponent depend on how often one fails?

BC with fewer and more demonstrations, with rarer and more frequent hazards, and with noise on the
executed actions. The first two move h, the rate of failures. Where h T stays small and nobody comes
back, the regret grows like T² at any h. A two-state chain with the measured rates says where that
ends.

The expert demonstrates in the changed world. On `lane_keep` rarer ruts would leave more kinds of
them without a demonstration, so the number of demonstrations is such that the expected number of
ruts in them stays the same. Gradient steps go with it, so that BC sees each rut as often. Noise
acts on the expert too, and its labels are clean: it spreads the demonstrations, as `--demo_noise`
does, so it moves rho as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envs.driving import lane_keep
from irl_bench.core.settings import BadInput
from irl_bench.plan import build, registry
from irl_bench.plan.presets import budget_of
from irl_bench.plan.request import Request
from irl_bench.studies import dials

RATE = {
    "chain": "hazard",
    "lane_keep": "hazard_rate",
    "swing_up": "shove_rate",
}
"""World -> the dial of its hazards' rate; robots have `push_rate`."""
PUSH = "push_rate"
PUSHES = 1e-3
"""The middle rate of a robot's pushes [1/step], whose default is 0."""
DEMONSTRATIONS = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Factors on the world's number of demonstrations. Steps are small, because half of the
demonstrations treble the chain's h and twice as many divide it by seven."""
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on the rate of hazards."""
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Standard deviations of the noise on executed actions."""


def _steps_between_ruts(rate: float) -> float:
    """Mean number of steps from a rut on `lane_keep` to the next [steps]."""
    return lane_keep.RUT_STEPS + lane_keep.REST_STEPS + 1.0 / rate


BETWEEN: Mapping[str, Callable[[float], float]] = {"lane_keep": _steps_between_ruts}
"""World whose hazards are learned from demonstrations -> rate -> mean steps between two of them."""


def settings(request: Request, demos: tuple[int, ...], env: str) -> list[dials.Setting]:
    """Returns the values of each dial in a world.

    Raises:
      BadInput: the world has none of the dials, or they change nothing; one line.
    """
    loaded, smoke = registry.world(env), request.budget == "smoke"
    known, rate = loaded.dials, RATE.get(env, PUSH)
    if rate not in known:
        raise BadInput(
            f"--env={env}: hazard turns a rate of hazards, which {env} has not; nearest: "
            f"--env={','.join(RATE)}"
        )
    if rate == PUSH and not getattr(loaded.world, "directions", 1):
        raise BadInput(
            f"--env={env}: hazard turns {PUSH}, but {env} is fixed to the ground and no push moves "
            "it; nearest: --env=hopper"
        )
    usual = demos[0] if demos else budget_of(env, request.budget).demos
    steps = build.resolved(registry.algorithm("bc"), request, env)["steps_per_round"]
    middle = known[rate].default or PUSHES
    of_demos, of_rate = [(0.5, 1.0)] * 2 if smoke else [DEMONSTRATIONS, RATES]
    counts = dict.fromkeys(max(1, round(factor * usual)) for factor in of_demos)
    points = [dials.Setting("demonstrations", count, demos=count) for count in counts]
    # A probability whose default is near 1 has room below it alone.
    room = min(1.0, known[rate].high / (of_rate[-1] * middle))
    for factor in of_rate:
        value = factor * room * middle
        count, bc = usual, {}
        if env in BETWEEN:
            shown = BETWEEN[env](value) / BETWEEN[env](middle)
            count = max(1, round(shown * usual))
            bc = {"steps_per_round": max(1, round(shown * steps))}
        points.append(dials.Setting(rate, value, {rate: value}, demos=count, bc=bc))
    if "noise" in known and not smoke:
        points += [dials.Setting("noise", value, {"noise": value}) for value in NOISE]
    return points


STUDY = dials.study(
    name="hazard",
    help="BC's slope over the number of demonstrations, the rate of hazards and the noise, beside "
    "a two-state chain's",
    settings=settings,
    title="Slope over hazards",
    text="Each dial is turned alone; the others keep their defaults. The expert demonstrates in "
    "the changed world: on lane_keep with so many demonstrations, and gradient steps, that as many "
    "ruts are expected in them, and with the noise, which spreads them and so moves ρ too.",
    units=dict.fromkeys((*RATE.values(), PUSH), "1/step"),
)
