"""What a world's metrics say of several policies over the same scenes, as benchmarks of drivers
report them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from envs import drawing
from envs.core import State, World
from irl_bench.core.text import aligned
from irl_bench.films.footage import Driver, episodes

EPISODES, BLOCK, SECONDS = 256, 64, 50.0
"""Number of episodes, how many of them are driven at once, and how long an episode lasts [s]."""
EVENTS = ("collision", "at_fault", "off_road", "set_back", "speeding", "uncomfortable")
"""Metrics that are 1 or 0: how many episodes have such a step is told, too. nuPlan calls a ride
uncomfortable, or too fast, by a single step."""
PROGRESS, TIME = "progress", "time_to_collision"
"""Names of metrics: of the way along the road in a step [m], and of the time to a collision [s]."""
CLOSE = 0.95
"""nuPlan's least time to a collision [s]."""


def told(world: World) -> bool:
    """Whether a world's metrics hold what drivers are judged by."""
    state = jax.eval_shape(world.begin, jax.random.PRNGKey(0))
    return any(name in state.metrics for name in EVENTS)


def steps_of(world: World) -> int:
    """Returns the length of an episode of SECONDS, or the world's horizon if that is shorter
    [steps]."""
    return min(world.horizon, round(SECONDS / drawing.seconds(world)))


def measure(
    world: World,
    drivers: Sequence[Driver],
    scenes: Sequence[int],
    steps: int,
    block: int = BLOCK,
) -> dict[str, dict[str, float]]:
    """Drives scenes from their starts.

    Args:
      world: with its dials bound.
      drivers: who drives. All have the same scenes.
      scenes: their numbers.
      steps: length of an episode [steps].
      block: scenes driven at once.

    Returns:
      {driver: {name: value}}. "episodes" and "steps" of each; "cost", the share of failed steps;
      "failed", the share of episodes with a failure; the means over all steps of the world's other
      metrics and of the reward; "episodes with NAME" for `EVENTS`; with a time to collision,
      "episodes below 0.95 s"; and if the expert drives as well in a world with progress,
      "progress_ratio": the mean over episodes of the progress without failure as a share of the
      expert's, from 0 to 1, after nuPlan's ego progress along the expert's route. NaN where physics
      broke.
    """

    def seen(state: State, _: jax.Array) -> dict[str, jax.Array]:
        return {**state.metrics, "reward": state.reward}

    found: dict[str, dict[str, float]] = {}
    way: dict[str, list[np.ndarray]] = {}
    for driver in drivers:
        sums: dict[str, list[np.ndarray]] = {}
        ever: dict[str, list[np.ndarray]] = {}
        for rows in episodes(world, driver, scenes, steps, seen, block=block):
            for name, values in rows.items():
                sums.setdefault(name, []).append(np.asarray(values, np.float64).sum(axis=1))
                least = values < CLOSE if name == TIME else ~(values == 0.0)
                ever.setdefault(name, []).append(least.any(axis=1))
            if PROGRESS in rows:
                sound = np.where(rows["cost"] > 0.0, 0.0, rows[PROGRESS])
                way.setdefault(driver.name, []).append(np.asarray(sound, np.float64).sum(axis=1))
        total = {name: np.concatenate(parts) for name, parts in sums.items()}
        share = {name: float(np.concatenate(parts).mean()) for name, parts in ever.items()}
        row: dict[str, float] = {"episodes": len(scenes), "steps": steps}
        row |= {name: float(values.mean()) / steps for name, values in sorted(total.items())}
        row["failed"] = share["cost"]
        row |= {f"episodes with {name}": share[name] for name in EVENTS if name in share}
        if TIME in share:
            row[f"episodes below {CLOSE} s"] = share[TIME]
        found[driver.name] = row
    if "expert" in way:
        experts = np.concatenate(way["expert"])
        for name, parts in way.items():
            found[name]["progress_ratio"] = _ratio(np.concatenate(parts), experts)
    return found


def content(found: Mapping[str, Mapping[str, float]]) -> bytes:
    """Returns figures as JSON, with null for what is not finite.

    Args:
      found: as of `measure`.
    """
    rows = {
        driver: {name: value if math.isfinite(value) else None for name, value in row.items()}
        for driver, row in found.items()
    }
    return json.dumps(rows, indent=1).encode()


def _ratio(way: np.ndarray, experts: np.ndarray) -> float:
    """The mean over episodes of a way as a share of the expert's, from 0 to 1. Where the expert
    goes nowhere, nothing is asked. NaN if a way is."""
    moved = ~(experts <= 0.0)  # NaN, broken physics, stays
    share = np.divide(way, experts, out=np.ones_like(way), where=moved)
    return float(np.clip(share, 0.0, 1.0).mean())


def table(world: World, found: Mapping[str, Mapping[str, float]]) -> str:
    """Returns figures of several drivers as text, a column each.

    Args:
      world: that they drove in.
      found: as of `measure`.
    """
    rows = list(found.values())
    names = [name for name in rows[0] if name not in ("episodes", "steps")]
    episodes_, steps = rows[0]["episodes"], rows[0]["steps"]
    head = f"means over {episodes_:.0f} scenes of {steps * drawing.seconds(world):.4g} s"
    cells = [["", *found], *([name, *(f"{row[name]:.4g}" for row in rows)] for name in names)]
    return "\n".join([head, *aligned(cells, (0,))])
