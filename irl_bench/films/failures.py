"""Where a policy fails: the places at which it was a second before a failure began, beside those at
which it usually is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import drawing
from envs.core import State, World
from irl_bench.films.footage import Driver, episodes, place_names

BEFORE = 1.0
"""How long before a failure the place is read [s]. As it begins, the offset is that of the edge,
whatever led there."""
EPISODES, BLOCK = 256, 32
"""Number of episodes, and how many of them are driven at once."""
KEPT = 1000
"""Most places of a kind that are kept of a driver, evenly spread over all."""


def places(world: World, drivers: Sequence[Driver]) -> dict[str, Any] | None:
    """Looks where drivers fail and where they usually are, over `EPISODES` of the world's horizon.

    Args:
      world: with its dials bound.
      drivers: who drives. All have the same scenes.

    Returns:
      JSON values: "axes": the names of both numbers (`World.whereabouts`), and
      "drivers": {name: {"failures": how many began, "episodes", "steps": of an episode, "before":
      the places `BEFORE` each of them, [[x, y], ...], "usual": places at even distances along the
      episodes}}. None in a world without such places.

    Raises:
      BadInput: as `place_names`.
    """
    names = place_names(world)
    if not names:
        return None
    back = max(1, round(BEFORE / drawing.seconds(world)))

    def seen(state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        at = world.whereabouts(state) or {}
        return jnp.stack([at[name] for name in names]), ~(state.metrics["cost"] == 0.0)

    found: dict[str, Any] = {}
    for driver in drivers:
        before, usual = [], []
        for place, failed in episodes(
            world, driver, range(EPISODES), world.horizon, seen, block=BLOCK
        ):
            began = failed & ~np.pad(failed, ((0, 0), (1, 0)))[:, :-1]
            episode, step = np.nonzero(began)
            # Who fails earlier than that began the episode on the way there.
            before.append(place[episode, np.maximum(step - back, 0)])
            usual.append(place[~failed])
        found[driver.name] = {
            "failures": sum(map(len, before)),
            "episodes": EPISODES,
            "steps": world.horizon,
            "before": _spread(np.concatenate(before)),
            "usual": _spread(np.concatenate(usual)),
        }
    return {"axes": names, "drivers": found}


def _spread(rows: np.ndarray) -> list[list[float]]:
    """At most `KEPT` of the finite rows, evenly spread over all."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    index = np.unique(np.linspace(0, len(rows) - 1, min(KEPT, len(rows))).astype(int))
    return [[float(f"{value:.4g}") for value in row] for row in rows[index]]
