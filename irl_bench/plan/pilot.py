"""Finds the number of demonstrations at which a world has a window.

The window of a world ends where BC fails too often, at h T = 0.3. Where BC hardly ever fails,
there is no regret to fit. The pilot looks for a number of demonstrations in between: with BC's rate
of failure h, h T_max lies in [0.1, 0.3]. Its seeds are its own: `request.check_first_seed` keeps
them out of everything that is reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from irl_bench.core.settings import BadInput

AUTO = "auto"
"""What a request says in place of a number of demonstrations."""
FIRST_SEED, SEEDS = 2_100_000_000, 5
"""The pilot's seeds."""
EPISODES = 128
"""Most evaluation episodes of a seed. At h T_max = 0.1, five seeds then show 64 failures."""
LOW, HIGH = 0.1, 0.3
"""The range of h T_max that is looked for."""
STEP = 8.0
"""Largest factor between two numbers of demonstrations that follow each other."""
MOST = 4
"""Largest number of demonstrations, as a multiple of the budget's."""
RUNS = 8
"""Most numbers of demonstrations that are tried."""


@dataclasses.dataclass(frozen=True)
class Pilot:
    """What a pilot found."""

    demos: int
    """The number of demonstrations that was chosen."""
    tried: tuple[tuple[int, float], ...]
    """(number of demonstrations, h T_max) of every try, in order."""

    def __str__(self) -> str:
        tries = ", ".join(f"{demos}: {value:.2g}" for demos, value in self.tried)
        return (
            f"{self.demos} demonstrations, by a pilot on seeds {FIRST_SEED} to "
            f"{FIRST_SEED + SEEDS - 1} (h T_max of BC at {tries})"
        )


def find(measure: Callable[[int], float], env: str, first: int, most: int) -> Pilot:
    """Searches for a number of demonstrations at which BC's h T_max lies in [LOW, HIGH].

    Args:
      measure: number of demonstrations -> h T_max of BC, measured on the pilot's seeds.
      env: the world's name, for the error.
      first: the number that is tried first.
      most: the largest number that is tried.

    Returns:
      The number, and every try.

    Raises:
      BadInput: none of the numbers tried gives such an h T_max; one line with the reason.
    """
    tried: dict[int, float] = {}
    below, above = 0, most + 1  # numbers at which BC fails too often, and too rarely
    demos = min(first, most)
    while demos not in tried and len(tried) < RUNS:
        value = tried[demos] = measure(demos)
        if LOW <= value <= HIGH:
            return Pilot(demos, tuple(tried.items()))
        if value > HIGH:
            below = max(below, demos)
        else:
            above = min(above, demos)
        if below >= above - 1:
            break
        demos = min(max(_next(tried), below + 1, 1), above - 1)
    text = ", ".join(f"{value:.2g} at {demos}" for demos, value in tried.items())
    if below == most:
        why = f"is above {HIGH} even after {most} demonstrations"
        near = "a shorter --T_max, or a world whose expert fails less often"
    elif above == 1:
        why = f"is below {LOW} even after 1 demonstration"
        near = "a longer --T_max, or shorter demonstrations (--demo_steps)"
    else:
        off = lambda n: abs(math.log(max(tried[n], 1e-9) / math.sqrt(LOW * HIGH)))
        best = min(tried, key=lambda n: (off(n), n))
        why, near = f"was never in [{LOW}, {HIGH}]", f"--demos={best}"
    raise BadInput(
        f"--demos=auto: NO-WINDOW on {env} with any of the numbers of demonstrations tried, "
        f"{most} at most: BC's h T_max {why} ({text}); nearest: {near}"
    )


def _next(tried: dict[int, float]) -> int:
    """The number at which h T_max is the middle of the range, by the power law through the last
    two tries; h ~ 1 / demonstrations after a single one."""
    aim = math.sqrt(LOW * HIGH)
    (last, value) = list(tried.items())[-1]
    slope = -1.0
    positive = [(n, x) for n, x in tried.items() if x > 0]
    if len(positive) > 1 and value > 0:
        (n0, x0), (n1, x1) = positive[-2:]
        slope = min(-0.25, max(-4.0, math.log(x1 / x0) / math.log(n1 / n0)))
    factor = (aim / value) ** (1.0 / slope) if value > 0 else 1.0 / STEP
    return max(1, round(last * min(STEP, max(1.0 / STEP, factor))))
