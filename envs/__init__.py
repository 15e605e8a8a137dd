"""Worlds, each a `brax.envs.Env` with dials, costs and an expert (`envs.core.World`).

import envs

envs.names()                                  # ('chain', 'lane_keep', 'grid', ...)
world = envs.make("lane_keep", friction=0.6)
world = envs.make("hopper", backend="positional")
# MuJoCo Playground's, with the extra `playground`
world = envs.make("playground:CartpoleBalance")
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsFloat

from envs.names import nearest

if TYPE_CHECKING:
    from envs.core import World, dial, soundness

__all__ = ["WORLDS", "World", "build", "dial", "kind", "make", "names", "soundness", "with_dials"]

WORLDS = {
    "chain": "envs.chain:Chain",
    "lane_keep": "envs.driving.lane_keep:LaneKeep",
    "grid": "envs.tabular:Grid",
    "coarse_lane": "envs.tabular:CoarseLane",
    "hopper": "envs.robots.locomotion:Hopper",
    "halfcheetah": "envs.robots.locomotion:HalfCheetah",
    "ant": "envs.robots.locomotion:Ant",
    "walker2d": "envs.robots.locomotion:Walker2d",
    "humanoid": "envs.robots.locomotion:Humanoid",
    "reacher": "envs.robots.locomotion:Reacher",
    "pusher": "envs.robots.locomotion:Pusher",
    "inverted_pendulum": "envs.robots.locomotion:InvertedPendulum",
    "inverted_double_pendulum": "envs.robots.locomotion:InvertedDoublePendulum",
}
"""The one registry: name -> module:class. A module is imported only when its world is made."""

BROKEN = {"swimmer": "swimmer is broken in Brax 0.14.2, on every backend; nearest: halfcheetah"}
"""Worlds one may expect and cannot have, with what to say of them."""


PLAYGROUND = "playground:"
"""Begins the name of a world of MuJoCo Playground's."""


def __getattr__(name: str) -> Any:
    # `envs.core` imports Brax, which takes a second; the names of worlds do not need it.
    if name in ("World", "dial", "soundness"):
        return getattr(importlib.import_module("envs.core"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> tuple[str, ...]:
    """The names that `make` knows, in the order of the registry."""
    return tuple(WORLDS)


def make(name: str, **values: float | str) -> World:
    """A world by name, with the given dials and options and all others at their defaults.

    Args:
      name: one of `names()`, or playground:NAME.
      **values: new values by name of dial or option; `launch/sweep.py --describe=NAME` prints them
        with units and ranges.

    Raises:
      ValueError: an unknown world or dial (the nearest name is given), a value that is not finite
        or out of range, or an option that the world does not have.
    """
    return build(kind(name), name, **values)


def kind(name: str) -> type[World]:
    """The class of a world by name, without making one. Raises ValueError as `make` does."""
    if name.startswith(PLAYGROUND):
        return importlib.import_module("envs.robots.playground").kind(name)
    if name not in WORLDS:
        raise ValueError(
            BROKEN.get(name, f"unknown world {name!r}; did you mean {nearest(name, WORLDS)!r}?")
        )
    module, attribute = WORLDS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def build(factory: Callable[..., World], name: str, **values: float | str) -> World:
    """`factory(**options)` with dials; `factory.options` says which of the values are options.
    Raises ValueError as `make`."""
    valid = getattr(factory, "options", {})
    options = {option: values.pop(option) for option in valid if option in values}
    for option, value in options.items():
        if value not in valid[option]:
            known = " | ".join(valid[option])
            raise ValueError(
                f"{name}.{option}={value} must be one of {known}; nearest: "
                f"{nearest(str(value), valid[option])}"
            )
    made = factory(**options)
    return with_dials(made, **values) if values else made


def with_dials(world: World, **dials: Any) -> World:
    """`world` with some dials replaced by checked values; raises ValueError as `make` does."""
    from envs.core import dial_fields

    fields = dial_fields(world.dials)
    for name, value in dials.items():
        if name not in fields:
            near = nearest(name, fields)
            hint = f"; did you mean {near!r}?" if near else "; it has none"
            raise ValueError(f"{world.name} has no dial {name!r}{hint}")
        low, high = (
            fields[name].metadata.get(end, edge)
            for end, edge in (("low", -math.inf), ("high", math.inf))
        )
        if isinstance(value, str) or not isinstance(value, SupportsFloat):
            raise ValueError(
                f"{world.name}.{name}={value!r} must be a number in [{low:g}, {high:g}], not a "
                f"{type(value).__name__}"
            )
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(
                f"{world.name}.{name}={value} must be finite and in [{low:g}, {high:g}]"
            )
    return world.bind(world.dials.replace(**dials)) if dials else world
