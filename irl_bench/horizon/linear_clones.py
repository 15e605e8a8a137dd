"""Loops of a clone that answers only a part of a linear plant's state.

The plant is x' = A x + B u, the expert u = K x. Demonstrations hold some entries of x at 0, so a
clone learns the columns of K that belong to the others. `seen`, float[d], is 1 for those and 0 for
the entries that it does not answer; P = diag(seen).
"""

from __future__ import annotations

import numpy as np

from irl_bench.horizon.arrays import Floats


def cloned_loop(A: Floats, B: Floats, K: Floats, seen: Floats) -> Floats:
    """A + B K P, the loop of a clone that answers the entries that it has seen as the expert does
    and the others not at all.

    Args:
      A, B, K: float64[d, d], float64[d, m] and float64[m, d].
      seen: float[d], 0 or 1.

    Returns:
      float64[d, d].
    """
    return A + B @ (K * seen)


def chunked_loop(A: Floats, B: Floats, K: Floats, seen: Floats, length: int) -> Floats:
    """What becomes of a deviation of x over one chunk of the clone's actions.

    From P x the clone plans the expert's next `length` actions and executes them without looking:
    action j is K (A + B K)^j P x. Hence, with M = A + B K,

        A^length + sum_j A^(length - 1 - j) B K M^j P.

    A chunk of length 1 is `cloned_loop`. On a stable open loop the map vanishes as chunks get
    longer (Zhang et al. 2025, arXiv 2507.09061); on an unstable one it keeps the spectral radius of
    A to the power of `length`.

    Args:
      A, B, K, seen: as in `cloned_loop`.
      length: number of actions in a chunk, >= 1.

    Returns:
      float64[d, d].
    """
    power, M, P = np.linalg.matrix_power, A + B @ K, np.diag(seen)
    loop = power(A, length)
    for j in range(length):
        loop = loop + power(A, length - 1 - j) @ B @ K @ power(M, j) @ P
    return loop
