"""Worlds, each a `brax.envs.Env` with dials, costs and an expert (`envs.core.World`).

import envs

envs.names()                                  # ('chain', 'lane_keep', 'grid', 'coarse_lane')
world = envs.make("lane_keep", friction=0.6)
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import math
from typing import TYPE_CHECKING

with contextlib.redirect_stdout(io.StringIO()):  # Brax's MuJoCo prints that its optional part `warp` is not installed
    import brax.envs.base  # noqa: F401

if TYPE_CHECKING:
    from envs.core import World

__all__ = ["WORLDS", "make", "names", "with_dials"]

WORLDS = {
    "chain": "envs.chain:Chain",
    "lane_keep": "envs.driving.lane_keep:LaneKeep",
    "grid": "envs.tabular:Grid",
    "coarse_lane": "envs.tabular:CoarseLane",
}
"""The one registry: name -> module:class. A module is imported only when its world is made."""


def names() -> tuple[str, ...]:
    """The names that `make` knows, in the order of the registry."""
    return tuple(WORLDS)


def make(name: str, **dials: float) -> World:
    """A world by name, with the given dials and all others at their defaults.

    Args:
      name: one of `names()`.
      **dials: new values by dial name; `launch/sweep.py --describe=NAME` prints them with units and ranges.

    Raises:
      ValueError: an unknown world or dial (the nearest name is given), or a value that is not finite or out of range.
    """
    if name not in WORLDS:
        near = difflib.get_close_matches(name, WORLDS, 1, 0.0)
        raise ValueError(f"unknown world {name!r}; did you mean {near[0]!r}?")
    module, attribute = WORLDS[name].split(":")
    return with_dials(getattr(importlib.import_module(module), attribute)(), **dials)


def with_dials(world: World, **dials: float) -> World:
    """`world` with some dials replaced by checked values; raises ValueError as `make` does."""
    from envs.core import dial_fields

    fields = dial_fields(world.dials)
    for name, value in dials.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1, 0.0)
            hint = f"; did you mean {near[0]!r}?" if near else "; it has none"
            raise ValueError(f"{world.name} has no dial {name!r}{hint}")
        low, high = (fields[name].metadata.get(end, edge) for end, edge in (("low", -math.inf), ("high", math.inf)))
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"{world.name}.{name}={value} must be finite and in [{low:g}, {high:g}]")
    return world.bind(world.dials.replace(**dials)) if dials else world
