"""Wall times of calls, `time.perf_counter`, results waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times [s] of `repeats` calls, each waited for."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def in_turn(
    calls: Mapping[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """First call [s] of each, then float64[repeats] wall times [s]. One call of each makes a
    turn: a slow spell of the machine falls on all of them, so quotients within a turn are
    steadier than the times themselves."""
    first = {name: seconds(call, 1)[0] for name, call in calls.items()}
    turns = [[seconds(call, 1)[0] for call in calls.values()] for _ in range(repeats)]
    return first, dict(zip(calls, np.array(turns).T))
