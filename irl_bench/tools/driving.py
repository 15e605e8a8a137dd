"""What the experts of the driving worlds do, and how fast these worlds run beside another
simulator: `launch/bench.py --suite=driving`.

Every expert drives 50 s in each of several thousand episodes. Speeds are measured in turn, so a
slow phase of the machine affects all of them. Peers are measured where they are installed.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from envs import drawing
from envs.core import State, World
from irl_bench.core.text import aligned
from irl_bench.films import footage, metrics
from irl_bench.rollouts.scan import observation_of, scan
from irl_bench.tools.circumstances import circumstances
from irl_bench.tools.timing import in_turn

WORLDS = ("lane_keep", "race", "highway", "merge")
AT_ONCE = 512
"""Episodes that are driven side by side."""
TIMED, STEPS = 1024, 64
"""Worlds side by side whose speed is measured, and steps of a timed call."""
PEERS: Mapping[str, Mapping[str, int]] = {
    "highway": {"vehicles_count": 20, "lanes_count": 3},
    "merge": {},
    "racetrack": {},
}
"""Worlds of highway-env (Leurent 2018) -> settings that are not their defaults: as many cars and
lanes as on ours. They run with random actions, each in its newest version."""
PEER_STEPS = 20
"""Steps of a peer in a timed call, and a reset after each end of an episode."""


def experts(world: World, episodes: int) -> dict[str, float]:
    """Drives the expert from fresh starts.

    Args:
      world: with an expert.
      episodes: a multiple of `AT_ONCE`.

    Returns:
      What `irl_bench.films.metrics.measure` tells of it.
    """
    driver, steps = footage.expert(world), metrics.steps_of(world)
    found = metrics.measure(world, [driver], range(episodes), steps, AT_ONCE)[driver.name]
    return {name: value for name, value in found.items() if name != "progress_ratio"}


def rollout(world: World, by_expert: bool) -> Callable[[], Any]:
    """Returns a call of `STEPS` steps of `TIMED` worlds, by the expert or with random actions."""
    states = jax.jit(jax.vmap(world.reset))(jax.random.split(jax.random.PRNGKey(0), TIMED))

    def act(states: State, memory: Any, key: jax.Array) -> tuple[jax.Array, None]:
        keys = jax.random.split(key, TIMED)
        if by_expert:
            return jax.vmap(world.expert)(states, keys), None
        return jax.vmap(world.random_action)(keys), None

    def record(before: State, after: State, memory: Any, aside: None) -> Any:
        # XLA drops what nobody reads.
        seen = observation_of(after).sum() + after.metrics["cost"].sum() + after.reward.sum()
        return after, None, seen

    run = jax.jit(lambda states, keys: scan(world, act, record, states, keys, worlds=True))
    return functools.partial(run, states, jax.random.split(jax.random.PRNGKey(1), STEPS))


def peers() -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Returns a call of `PEER_STEPS` steps of each peer that is installed, and how long a step of
    it lasts [s]."""
    try:
        importlib.import_module("highway_env")
    except ImportError:
        return {}, {}
    import gymnasium

    def steps(environment: Any) -> None:
        for _ in range(PEER_STEPS):
            _, _, ended, cut, _ = environment.step(environment.action_space.sample())
            if ended or cut:
                environment.reset()

    calls: dict[str, Callable[[], Any]] = {}
    durations: dict[str, float] = {}
    for peer, settings in PEERS.items():
        versions = [s.id for s in gymnasium.registry.values() if s.name == peer]
        newest = max(versions, key=lambda name: int(name.rpartition("-v")[2]))
        environment: Any = gymnasium.make(newest, config=dict(settings))
        environment.reset(seed=0)
        name = f"highway-env {newest}"
        calls[name] = functools.partial(steps, environment)
        durations[name] = 1.0 / environment.unwrapped.config["policy_frequency"]
    return calls, durations


def measure(what: Sequence[str], episodes: int, repeats: int) -> dict[str, Any]:
    """Measures experts, speeds, or both.

    Args:
      what: of "experts" and "speeds".
      episodes: of each expert.
      repeats: timed calls of each kind after the first.

    Returns:
      The record; JSON values. Each part tells of its own circumstances. "experts" has "worlds",
      {world: as of `experts`}. "speeds" has medians: "steps" [steps/s], and "driving", how many
      seconds of driving that is in a second.
    """
    record: dict[str, Any] = {}
    if "experts" in what:
        worlds = {name: experts(envs.make(name), episodes) for name in WORLDS}
        record["experts"] = {**circumstances(), "worlds": worlds}
    if "speeds" in what:
        calls: dict[str, Callable[[], Any]] = {}
        others, durations = peers()
        for env in WORLDS:
            world = envs.make(env)
            for by_expert in (True, False):
                name = f"{env}, {'expert' if by_expert else 'random actions'}"
                calls[name], durations[name] = rollout(world, by_expert), drawing.seconds(world)
        _, times = in_turn({**calls, **others}, repeats)
        speeds = {
            name: (PEER_STEPS if name in others else TIMED * STEPS) / float(np.median(times[name]))
            for name in times
        }
        simulated = {name: speed * durations[name] for name, speed in speeds.items()}
        record["speeds"] = {**circumstances(), "steps": speeds, "driving": simulated}
    return record


def tables(record: Mapping[str, Any]) -> str:
    """Returns a record as text."""
    lines = []
    for name, row in record.get("experts", {"worlds": {}})["worlds"].items():
        lines.append(f"{name}: {row['episodes']} episodes of {row['steps']} steps")
        pairs = [
            [key, f"{value:.4g}"] for key, value in row.items() if key not in ("episodes", "steps")
        ]
        lines += [f"  {line}" for line in aligned(pairs)]
    if "speeds" in record:
        lines.append("steps per second, and seconds of driving per second")
        pairs = [
            [name, f"{value:,.0f}", f"{record['speeds']['driving'][name]:,.0f}"]
            for name, value in record["speeds"]["steps"].items()
        ]
        lines += [f"  {line}" for line in aligned(pairs)]
    return "\n".join(lines)


def write(record: Mapping[str, Any], out: Path) -> None:
    """Writes a record. Parts that it lacks are kept from an earlier one in the same file."""
    earlier = json.loads(out.read_text()) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**earlier, **record}, indent=1) + "\n")
