"""Names and constants shared by measurement, storage, analysis and figures."""

from __future__ import annotations

TOLERANCES = (0.05, 0.1, 0.2)
"""An action is an error if one of its components is off by more than this. The protocol uses 0.1;
the other values show how much the result depends on the choice."""
TAU = TOLERANCES.index(0.1)
"""Index of the protocol's tolerance."""
REFERENCES = ("expert", "untrained")
"""Algorithms that are part of every sweep. Regret is measured against `expert`; `untrained` gives
the level of a policy that has learned nothing. The theory makes no claim about either."""
INPUT_LIMIT = 10.0
"""Standardised inputs of a network are clipped to [-INPUT_LIMIT, INPUT_LIMIT]: a feature that
hardly ever varies has a huge scale."""
CURVES = ("cost", "graded_cost", "departed", "expected_cost")
"""Quantities that are stored at every T, averaged over episodes: J(T), the same of the graded cost,
the number of transitions into failure up to T, and J(T) in closed form."""
COUNTS = ("episodes", "on_steps", "on_to_off", "off_steps", "off_to_on")
"""Counts over all evaluation episodes of a seed: episodes, steps on and off the demonstrations'
distribution, and transitions between the two."""


def eps_expert(tolerance: float) -> str:
    """Returns the name of the error rate on the expert's states at a tolerance."""
    return f"eps_expert@{tolerance:g}"


def eps_own(tolerance: float) -> str:
    """Returns the name of the error rate on the learner's own states at a tolerance."""
    return f"eps_own@{tolerance:g}"
