"""What a table of actions costs that is trained anew at every horizon.

Every step draws one of K kinds of situations with probabilities p_k. A table is right in the kinds
that its N independent labels hold, and wrong in all others. Their expected probability is the
missing mass

    M(N) = sum_k p_k (1 - p_k)^N,

which falls like N^(-1 + 1/s) for p_k ~ k^-s (Karlin 1967, J. Math. Mech. 17, 373-401, for regularly
varying tails of index 1 / s) and like 1 / N for a geometric tail.

On n demonstrations of length T the table sees N = n T labels, so a longer horizon makes the policy
itself better: J ~ T^(1 + 1/s), and J ~ T for a geometric tail. A table for each time step sees n
labels whatever T is, and J ~ T².
"""

from __future__ import annotations

import numpy as np

from irl_bench.horizon import chain_model
from irl_bench.horizon.arrays import Floats, Integers
from irl_bench.horizon.slopes import slope


def missing_mass(probability: Floats, labels: int) -> tuple[float, float]:
    """(expected probability, expected number) of the kinds that independent labels do not hold.

    Args:
      probability: float[K], p_k.
      labels: N.
    """
    absent = (1.0 - probability) ** labels
    return float(probability @ absent), float(absent.sum())


def retrained_cost(
    probability: Floats,
    horizons: Integers,
    demos: int,
    hazard: float,
    time_indexed: bool = False,
) -> Floats:
    """J(T) of a table that is trained anew at every T on `demos` demonstrations of T steps.

    It is the cost of the two-state chain (`chain_model.cost`) with h = hazard M(n T), or hazard
    M(n) with a table for each time step, and rho = 0: about h T² / 2 while h T is small.

    The rate is that of the expected missing mass. A table that guesses one of m actions in kinds
    that it has not seen is right in a share 1 / m of them, so its h is lower by that share.

    Args:
      probability: float[K], p_k.
      horizons: int[...], T >= 1 [steps].
      demos: n, number of demonstrations.
      hazard: probability that a wrong action leaves the distribution [1/step].
      time_indexed: whether there is a table for each time step.

    Returns:
      float64[...], the shape of `horizons`.
    """
    labels = np.full_like(horizons, demos) if time_indexed else demos * np.asarray(horizons)
    mass = np.array([missing_mass(probability, int(N))[0] for N in labels.ravel()])
    return chain_model.cost(horizons, hazard * mass.reshape(labels.shape), 0.0)


def retrained_slope(
    probability: Floats,
    horizons: Integers,
    demos: int,
    hazard: float,
    time_indexed: bool = False,
) -> float:
    """Least-squares slope of log J(T) on log T of `retrained_cost`.

    Its limit for a small hazard and many labels is 1 + 1/s for p_k ~ k^-s, 1 for a geometric tail
    and 2 with a table for each time step. On a finite grid saturation lowers it.

    Args:
      probability, demos, hazard, time_indexed: as in `retrained_cost`.
      horizons: int[G], G >= 2 [steps].
    """
    return float(
        slope(horizons, retrained_cost(probability, horizons, demos, hazard, time_indexed))
    )
