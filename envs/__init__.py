"""Worlds: Brax environments with dials, costs and an expert (`envs.core.World`).

    import envs

    envs.names()                                        # ("chain", "lane_keep", "grid", ...)
    world = envs.make("lane_keep", friction=0.6)
    world = envs.make("hopper", backend="positional")
    world = envs.make("playground:CartpoleBalance")     # needs the extra `playground`

Worlds know nothing of learning and can be used without `irl_bench`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsFloat

from envs.names import HISTORY, did_you_mean, is_file, nearest

if TYPE_CHECKING:
    from envs.core import World, dial, soundness

__all__ = [
    "HISTORY",
    "WORLDS",
    "World",
    "build",
    "dial",
    "kind",
    "make",
    "names",
    "soundness",
    "with_dials",
]

WORLDS = {
    "chain": "envs.chain:Chain",
    "lane_keep": "envs.driving.lane_keep:LaneKeep",
    "race": "envs.driving.race:Race",
    "highway": "envs.driving.highway:Highway",
    "merge": "envs.driving.merge:Merge",
    "car4w": "envs.driving.car4w:Car4w",
    "swing_up": "envs.robots.swing_up:SwingUp",
    "plant": "envs.plant:Plant",
    "grid": "envs.tabular:Grid",
    "coarse_lane": "envs.tabular:CoarseLane",
    "hopper": "envs.robots.locomotion:Hopper",
    "halfcheetah": "envs.robots.locomotion:HalfCheetah",
    "ant": "envs.robots.locomotion:Ant",
    "ant_course": "envs.robots.ant_course:AntCourse",
    "walker2d": "envs.robots.locomotion:Walker2d",
    "humanoid": "envs.robots.locomotion:Humanoid",
    "reacher": "envs.robots.locomotion:Reacher",
    "pusher": "envs.robots.locomotion:Pusher",
    "inverted_pendulum": "envs.robots.locomotion:InvertedPendulum",
    "inverted_double_pendulum": "envs.robots.locomotion:InvertedDoublePendulum",
}
"""The registry of worlds: name -> "module:class". `make` imports a module when it needs it."""

BROKEN = {"swimmer": "swimmer is broken in Brax 0.14.2, on every backend; nearest: halfcheetah"}
"""Worlds of Brax that cannot be used, each with the error that `make` raises for it."""


PLAYGROUND = "playground:"
"""Prefix of the names of MuJoCo Playground's worlds."""


def __getattr__(name: str) -> Any:
    """Imports `World`, `dial` and `soundness` on first use. `envs.core` imports Brax, which takes a
    second, and the names of worlds do not need it."""
    if name in ("World", "dial", "soundness"):
        return getattr(importlib.import_module("envs.core"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def names() -> tuple[str, ...]:
    """Returns the names that `make` accepts, in the order of the registry. MuJoCo Playground's
    worlds are not among them."""
    return tuple(WORLDS)


def make(name: str, **values: float | str) -> World:
    """Makes a world by name. Dials and options that are not passed keep their defaults.

    Args:
      name: one of `names()`, or playground:NAME.
      **values: values of dials and options by name; `launch/sweep.py --describe=NAME` prints them
        with their units and ranges.

    Returns:
      A new world.

    Raises:
      ValueError: the world or a dial is unknown (the message names the nearest one), a dial's value
        is not finite or out of range, or an option does not have that value; one line.
    """
    return build(kind(name), name, **values)


def kind(name: str) -> type[World]:
    """Returns the class of a world by name without making an instance.

    Raises:
      ValueError: the world is unknown, broken in Brax or not installed; one line.
    """
    if name.startswith(PLAYGROUND):
        return importlib.import_module("envs.robots.playground").kind(name)
    if name not in WORLDS:
        raise ValueError(BROKEN.get(name, f"unknown world {name!r}; {did_you_mean(name, WORLDS)}"))
    module, attribute = WORLDS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def build(factory: Callable[..., World], name: str, **values: float | str) -> World:
    """Makes a world from its class or factory.

    Args:
      factory: takes options by name and returns a world; `factory.options` lists the options, and
        `factory.files` those that also take a file.
      name: what error messages call the world.
      **values: values of options and of dials. Options go to `factory`, but for those of
        `envs.history`, which make a twin of the world that shows more or less of the past.

    Returns:
      A new world.

    Raises:
      ValueError: as `make`.
    """
    valid = getattr(factory, "options", {})
    options = {
        option: str(value) if isinstance(value := values.pop(option), int) else value
        for option in valid
        if option in values
    }
    files = getattr(factory, "files", {})
    for option, value in options.items():
        if value not in valid[option] and not is_file(value, files.get(option, "")):
            known = " | ".join(valid[option])
            if option in files:
                known += f" | FILE{files[option]}"
            raise ValueError(
                f"{name}.{option}={value} must be one of {known}; nearest: "
                f"{nearest(str(value), valid[option])}"
            )
    seen = {name: str(options.pop(name)) for name in HISTORY if name in options}
    world = factory(**options)
    if any(value != HISTORY[name][0] for name, value in seen.items()):
        from envs.history import History

        world = History(world, **seen)
    return with_dials(world, **values) if values else world


def with_dials(world: World, **dials: Any) -> World:
    """Returns `world` with some dials changed, after checking their values.

    Args:
      world: is not changed.
      **dials: numbers by name of dial.

    Raises:
      ValueError: a dial is unknown, or its value is not a finite number in the dial's range, or
        not a whole one where the dial counts something, or an option settles it; one line.
    """
    from envs.core import dial_fields

    fields = dial_fields(world.dials)
    for name, value in dials.items():
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise ValueError(f"{world.name} has no dial {name!r}; {hint}")
        low, high = (
            fields[name].metadata.get(end, edge)
            for end, edge in (("low", -math.inf), ("high", math.inf))
        )
        sized = getattr(value, "ndim", 0) > 0
        if isinstance(value, str) or sized or not isinstance(value, SupportsFloat):
            raise ValueError(
                f"{world.name}.{name}={value!r} must be a number in [{low:g}, {high:g}], not a "
                f"{type(value).__name__}"
            )
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(
                f"{world.name}.{name}={value} must be finite and in [{low:g}, {high:g}]"
            )
        if name in world.fixed and float(value) != float(getattr(world.dials, name)):
            raise ValueError(f"{world.name}.{name}={value}: it {world.fixed[name]}")
        if fields[name].metadata.get("whole") and float(value) != round(float(value)):
            raise ValueError(
                f"{world.name}.{name}={value} must be a whole number in [{low:g}, {high:g}]; "
                f"nearest: {round(float(value))}"
            )
    return world.bind(world.dials.replace(**dials)) if dials else world
