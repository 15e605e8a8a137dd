"""Wall times of calls by `time.perf_counter`, which include waiting for their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Returns the wall times [s] of `repeats` calls in a row, each until its result is ready."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def in_turn(
    calls: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measures calls in turn: each turn makes one call of each.

    A slow phase of the machine thus affects all calls, so ratios within a turn vary less than the
    times themselves.

    Args:
      calls: by name.
      repeats: number of turns after the first one.

    Returns:
      {name: wall time of the first call [s]}, {name: float64[repeats], wall times of the others
      [s]}.
    """
    first = {name: seconds(call, 1)[0] for name, call in calls.items()}
    turns = [[seconds(call, 1)[0] for call in calls.values()] for _ in range(repeats)]
    return first, dict(zip(calls, np.array(turns).T))
