"""How fast a world runs, and what horizons and seeds cost: the figures of BENCHMARKS.md, taken by `launch/bench.py`.

Nothing here is a test, and no figure of the sweep depends on it. Wall times, `time.perf_counter`, results waited for.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import envs
import irl_bench
from envs.core import World
from irl_bench import cells, plugins, rollout
from irl_bench.horizon.slopes import log_spaced
from irl_bench.types import Spec, Task

__all__ = ["PARTS", "measure", "page"]

CHUNKS = (0, 256, 128)
"""Worlds that a device steps at once; 0 is all of them. The fastest is reported."""


def seconds(call: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times [s] of `repeats` calls, each waited for."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def expert_rollout(world: World, steps: int, chunk: int) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """keys[n, 2] -> (number of failures, sum of all observations) of n episodes of the expert, `chunk` of them at once.

    The observations are summed because nothing else here reads them: XLA would drop their computation.
    """

    def episode(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(carry: Any, _: None) -> Any:
            state, failures, seen = carry
            state = world.step(state, world.expert(state, key))
            return (state, failures + state.metrics["cost"], seen + jnp.sum(state.obs)), None

        return jax.lax.scan(step, (world.reset(key), jnp.zeros(()), jnp.zeros(())), None, length=steps)[0][1:]

    def rollouts(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        failures, seen = jax.lax.map(jax.vmap(episode), keys.reshape(-1, chunk or len(keys), *keys.shape[1:]))
        return jnp.sum(failures), jnp.sum(seen)

    return rollouts


def world_speed(env: str, count: int, chunk: int, steps: int, repeats: int) -> dict[str, Any]:
    """First call [s] and steps/s of `count` worlds with their expert, spread over the devices; resets are included."""
    devices = max(n for n in range(1, jax.local_device_count() + 1) if count % n == 0)
    mesh = jax.make_mesh((devices,), ("world",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:devices])
    rollouts = expert_rollout(envs.make(env), steps, chunk)

    def share(keys: jax.Array) -> jax.Array:
        return jnp.stack(rollouts(keys))[None]

    run = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=P("world"), out_specs=P("world"), check_vma=False))
    keys = np.asarray(jax.random.split(jax.random.PRNGKey(0), count))
    (first,) = seconds(lambda: run(keys), 1)
    times = seconds(lambda: run(keys), repeats)
    return {
        "worlds": count,
        "devices": devices,
        "at_once": chunk or count // devices,
        "steps": steps,
        "first_call_s": first,
        "best_steps_per_s": count * steps / min(times),
        "median_steps_per_s": count * steps / statistics.median(times),
        "failures": float(np.sum(np.asarray(run(keys))[:, 0])),
    }


def worlds(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """`world_speed` for each count and chunk that divides a device's share."""
    rows = []
    for count in counts:
        for chunk in CHUNKS:
            devices = max(n for n in range(1, jax.local_device_count() + 1) if count % n == 0)
            if chunk < count // devices and not (chunk and count // devices % chunk):
                rows.append(world_speed(env, count, chunk, steps, repeats))
    return rows


def horizons(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """One evaluation of the expert to T_max of which 1 or 20 horizons are read, in turn: the same rollouts serve both."""
    world, episodes = envs.make(env), min(128, *counts)
    T_max = min(world.horizon, 4 * steps)
    evaluate = jax.jit(lambda key: rollout.evaluate(world, None, None, key, episodes, T_max).cost)
    key = jax.random.PRNGKey(0)

    def read(count: int) -> np.ndarray:
        grid = log_spaced(1, T_max, count)[-count:] if count > 1 else np.array([T_max])
        return np.cumsum(np.asarray(evaluate(key)))[grid - 1] / episodes

    seconds(lambda: read(1), 1)
    times = {1: [], 20: []}
    for _ in range(repeats):
        for count, found in times.items():
            found += seconds(lambda count=count: read(count), 1)
    one, many = (statistics.median(found) for found in times.values())
    return [{"episodes": episodes, "T_max": T_max, "one_horizon_s": one, "twenty_horizons_s": many, "ratio": many / one}]


def seeds(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Training `bc` on the chain for S seeds, vmapped on one device, against one seed; demonstrations are made before."""
    del env, counts
    world = envs.make("chain")
    spec = Spec(world, horizon=world.horizon, demos=8, demo_steps=128)
    learner = plugins.learner("bc", spec, {"hidden": (16,), "rounds": 2, "steps_per_round": steps})

    def train(key: jax.Array, demonstrations: Any) -> Any:
        task = Task(demonstrations, world.dials)
        state = learner.init(key, task)
        return learner.policy(jax.lax.fori_loop(0, learner.rounds, lambda _, state: learner.update(state, task)[0], state))

    rows = []
    for count in (1, 5, 20):
        keys = jax.random.split(jax.random.PRNGKey(0), count)
        demonstrations = jax.vmap(lambda key: rollout.collect(world, key, spec.demos, spec.demo_steps))(keys)
        run = jax.jit(jax.vmap(train))
        (first,) = seconds(lambda run=run, keys=keys, demos=demonstrations: run(keys, demos), 1)
        median = statistics.median(seconds(lambda run=run, keys=keys, demos=demonstrations: run(keys, demos), repeats))
        ratio = median / rows[0]["median_s"] if rows else 1.0
        rows.append({"seeds": count, "gradient_steps": 2 * steps, "first_call_s": first, "median_s": median, "ratio": ratio})
    return rows


PARTS = {"worlds": worlds, "horizons": horizons, "seeds": seeds}


def measure(parts: Sequence[str], env: str, counts: Sequence[int], steps: int, repeats: int) -> dict[str, Any]:
    """The record of one run of the bench: JSON values only. The compilation cache must be off for the first calls to count."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory, 1)},
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
        "versions": {
            "python": platform.python_version(),
            "irl_bench": irl_bench.__version__,
            **{name: importlib.metadata.version(name) for name in cells.PACKAGES},
        },
        "settings": {"env": env, "worlds": list(counts), "steps": steps, "repeats": repeats},
        "parts": {part: PARTS[part](env, counts, steps, repeats) for part in parts},
    }


TITLES = {
    "worlds": "Steps per second of the world with its expert, resets included, observations computed; the first call traces, "
    "compiles (no cache) and runs",
    "horizons": "One evaluation with 1 and with 20 horizons read off: medians of runs taken in turn",
    "seeds": "Training `bc` on `chain` for S seeds, vmapped on one device, against one seed",
}


def page(folder: Path) -> str:
    """BENCHMARKS.md: every JSON file of `folder` as tables. Equal files give equal text."""
    lines = [
        "# Benchmarks",
        "",
        "Generated by `python launch/bench.py` from the JSON files in `benchmarks/`; do not edit. On a CPU only ratios and",
        "orders of magnitude carry over to another machine. No test looks at a time.",
    ]
    files = sorted(folder.glob("*.json"))
    for path in files:
        record = json.loads(path.read_text())
        machine, settings = record["machine"], record["settings"]
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        lines += ["", f"## {path.stem}", ""]
        lines += [f"{record['date']}; {machine['cores']} cores, {machine['memory_gib']} GiB; backend {record['backend']},"]
        lines += [f"devices {record['devices']}. World `{settings['env']}`, {settings['repeats']} repeats. {versions}."]
        for part, rows in record["parts"].items():
            lines += ["", f"### {part}", "", f"{TITLES[part]}.", "", *_table(rows)]
    return "\n".join(lines + ([] if files else ["", "Nothing has been measured yet."])) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(rows[0]) if rows else []
    cells_ = [[_show(row[name]) for name in names] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([name.replace("_", " ") for name in names], ["---:"] * len(names), *cells_)]


def _show(value: Any) -> str:
    """A number with its thousands apart, three significant digits if it is no integer."""
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
