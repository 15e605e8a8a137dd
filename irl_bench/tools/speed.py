"""Measures how fast worlds and learners run, and what horizons and seeds cost: the figures of
BENCHMARKS.md, by `launch/bench.py`.

No test checks a time, and no figure of a sweep depends on one. Wall times include waiting for the
results.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import envs
from envs.core import State, World
from irl_bench.core.types import Demonstrations, Spec, Task
from irl_bench.horizon.slopes import log_spaced
from irl_bench.plan import registry
from irl_bench.plan.presets import budget_of, config_differences
from irl_bench.rl import ppo
from irl_bench.rollouts import evaluation
from irl_bench.rollouts.scan import observation_of, scan
from irl_bench.tools.circumstances import circumstances
from irl_bench.tools.speed_robots import robots
from irl_bench.tools.timing import in_turn, seconds

__all__ = ["PARTS", "measure", "page"]

CHUNKS = (0, 256, 128)
"""Numbers of worlds that a device steps at once; 0 means all of them."""


def expert_rollout(
    world: World, steps: int, chunk: int
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns a function that rolls out the expert.

    Args:
      world: with an expert.
      steps: length of an episode.
      chunk: number of episodes at once, which divides n; 0: all of them.

    Returns:
      keys[n, 2] -> (number of failures, sum of all observations) of n episodes. The observations
      are summed because XLA would drop their computation if nothing read them.
    """

    def episode(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def record(
            before: State, after: State, totals: tuple[jax.Array, jax.Array], aside: None
        ) -> tuple[State, tuple[jax.Array, jax.Array], None]:
            failures, total = totals
            total = total + jnp.sum(observation_of(after))
            return after, (failures + after.metrics["cost"], total), None

        (_, totals), _ = scan(
            world,
            lambda state, memory, _: (world.expert(state, key), None),
            record,
            world.reset(key),
            jnp.arange(steps),
            memory=(jnp.zeros(()), jnp.zeros(())),
        )
        return totals

    def rollouts(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        failures, totals = jax.lax.map(
            jax.vmap(episode), keys.reshape(-1, chunk or len(keys), *keys.shape[1:])
        )
        return jnp.sum(failures), jnp.sum(totals)

    return rollouts


def world_speed(env: str, count: int, chunk: int, steps: int, repeats: int) -> dict[str, Any]:
    """Measures `count` worlds with their expert, spread over the devices; resets are included.

    Args:
      env: a registered world.
      count: number of worlds.
      chunk: number of worlds that a device steps at once; 0: all of its share.
      steps: length of an episode.
      repeats: number of timed calls after the first.

    Returns:
      A row with the time of the first call [s] and the best and median steps/s of the others.
    """
    devices = max(n for n in range(1, jax.local_device_count() + 1) if count % n == 0)
    mesh = jax.make_mesh(
        (devices,), ("world",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:devices]
    )
    rollouts = expert_rollout(envs.make(env), steps, chunk)

    def share(keys: jax.Array) -> jax.Array:
        return jnp.stack(rollouts(keys))[None]

    run = jax.jit(
        jax.shard_map(share, mesh=mesh, in_specs=P("world"), out_specs=P("world"), check_vma=False)
    )
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


COUNTS = (256, 1024, 4096)
"""Default numbers of worlds."""


def worlds(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Returns a row of `world_speed` for each count and chunk that divides a device's share."""
    rows = []
    for count in counts or COUNTS:
        for chunk in CHUNKS:
            devices = max(n for n in range(1, jax.local_device_count() + 1) if count % n == 0)
            if chunk < count // devices and not (chunk and count // devices % chunk):
                rows.append(world_speed(env, count, chunk, steps, repeats))
    return rows


def horizons(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Compares an evaluation of the expert to T_max that reads 1 horizon with one that reads 20,
    from the same rollouts; one row."""
    world, episodes = envs.make(env), min(128, *(counts or COUNTS))
    T_max = min(world.horizon, 4 * steps)
    evaluate = jax.jit(
        lambda key: evaluation.evaluate(world, None, None, key, episodes, T_max).cost
    )
    key = jax.random.PRNGKey(0)

    def read(count: int) -> np.ndarray:
        grid = log_spaced(1, T_max, count)[-count:] if count > 1 else np.array([T_max])
        return np.cumsum(np.asarray(evaluate(key)))[grid - 1] / episodes

    _, times = in_turn({"single": lambda: read(1), "many": lambda: read(20)}, repeats)
    single, many = (statistics.median(values) for values in times.values())
    return [
        {
            "episodes": episodes,
            "T_max": T_max,
            "one_horizon_s": single,
            "twenty_horizons_s": many,
            "ratio": many / single,
        }
    ]


def seeds(env: str, counts: Sequence[int], steps: int, repeats: int) -> list[dict[str, Any]]:
    """Compares training `bc` on the chain for S seeds, vmapped on one device, with training for one
    seed; collecting the demonstrations is not timed. A row for each S."""
    del env, counts
    world = envs.make("chain")
    spec = Spec(world, horizon=world.horizon, demos=8, demo_steps=128)
    learner = registry.learner("bc", spec, {"hidden": (16,), "rounds": 2, "steps_per_round": steps})

    def train(key: jax.Array, demonstrations: Any) -> Any:
        task = Task(demonstrations, world.dials)
        state = learner.init(key, task)
        return learner.policy(
            jax.lax.fori_loop(
                0, learner.rounds, lambda _, state: learner.update(state, task)[0], state
            )
        )

    calls: dict[str, Callable[[], Any]] = {}
    for count in (1, 5, 20):
        keys = jax.random.split(jax.random.PRNGKey(0), count)
        demonstrations = jax.vmap(
            lambda key: evaluation.collect(world, key, spec.demos, spec.demo_steps)
        )(keys)
        calls[str(count)] = functools.partial(jax.jit(jax.vmap(train)), keys, demonstrations)
    first, times = in_turn(calls, repeats)
    return [
        {
            "seeds": int(count),
            "gradient_steps": 2 * steps,
            "first_call_s": first[count],
            "median_s": float(np.median(times[count])),
            "ratio": float(np.median(times[count] / times["1"])),
        }
        for count in calls
    ]


POLICY_TRAINERS = ("ppo", "gail", "airl")
"""The algorithms whose rounds are compared. `ppo` trains on the true reward and has no
discriminator."""

ALIKE = ("worlds", "unroll", "episode_steps", "hidden", "value_hidden", "epochs", "minibatches")
"""Settings that determine the work of a round besides the reward; all algorithms take the values
of `ppo`."""


class Rounds:
    """Rounds of `POLICY_TRAINERS` on one world for S seeds, vmapped on one device. Each round
    continues the one before.

    Settings are the library's for that world, except that every policy starts at random and changes
    from the first round on. This avoids cloning, and does not change what a round computes.

    Args:
      env: a registered world, in its first mode.
      seeds: S.
      changes: settings that replace those of all algorithms.
      budget: demonstrations, {"demos", "demo_steps"}; by default those of the world's default
        budget.
    """

    def __init__(
        self,
        env: str,
        seeds: int,
        changes: Mapping[str, Any] | None = None,
        budget: Mapping[str, int] | None = None,
    ):
        self.env, self.seeds = env, seeds
        world, sizes = envs.make(env), budget or dataclasses.asdict(budget_of(env, "default"))
        self.spec = Spec(world, world.horizon, sizes["demos"], sizes["demo_steps"])
        self.dials = world.dials_for(next(iter(world.modes)))
        ppo_config = registry.config_of(
            registry.algorithm("ppo"), config_differences(env, "ppo", "default")
        )
        alike = {name: getattr(ppo_config, name) for name in ALIKE}
        self._changes = {**alike, "init": "random", "policy_delay": 0, **(changes or {})}
        self.steps = seeds * self._changes["worlds"] * self._changes["unroll"]
        self._keys = jax.random.split(jax.random.PRNGKey(1), seeds)
        self._programs: dict[tuple[str, int], Callable[..., Any]] = {}
        self._states: dict[str, Any] = {}

        def demonstrate(key: jax.Array, dials: Any) -> Demonstrations:
            return evaluation.collect(world.bind(dials), key, self.spec.demos, self.spec.demo_steps)

        self._demos = jax.block_until_ready(
            jax.jit(jax.vmap(demonstrate, (0, None)))(self._keys, self.dials)
        )

    def settings(self, algo: str, fits: int = 1) -> dict[str, Any]:
        """Returns the settings of an algorithm that differ from its defaults; `fits` is a factor on
        the discriminator's steps."""
        settings = {**config_differences(self.env, algo, "default"), **self._changes}
        if fits != 1:
            config = registry.config_of(registry.algorithm(algo), settings)
            settings["disc_steps"] = fits * config.disc_steps
        return settings

    def _program(self, algo: str, fits: int = 1) -> Callable[..., Any]:
        """Returns (state, demonstrations, dials) -> (state, metrics) of vmapped seeds, which is
        compiled once for each number of seeds."""
        if (algo, fits) not in self._programs:
            learner = registry.learner(algo, self.spec, self.settings(algo, fits))
            update = jax.vmap(
                lambda state, demos, dials: learner.update(state, Task(demos, dials)), (0, 0, None)
            )
            # As in a training, the state is donated, so that nothing is copied.
            self._programs[algo, fits] = jax.jit(update, donate_argnums=0)
        return self._programs[algo, fits]

    def state(self, algo: str) -> Any:
        """Returns the state before the first round of an algorithm; leaves [S, ...]."""
        if algo not in self._states:
            learner = registry.learner(algo, self.spec, self.settings(algo))
            init = jax.jit(
                jax.vmap(
                    lambda key, demos, dials: learner.init(key, Task(demos, dials)), (0, 0, None)
                )
            )
            self._states[algo] = jax.block_until_ready(init(self._keys, self._demos, self.dials))
        return self._states[algo]

    def round(self, algo: str, fits: int = 1) -> Callable[[], Any]:
        """Returns a call that computes the next round, (state, metrics); `fits` is a factor on the
        discriminator's steps."""
        return self._next_round(self._program(algo, fits), self.state(algo), self._demos)

    def _next_round(self, run: Callable[..., Any], state: Any, demos: Any) -> Callable[[], Any]:
        """Returns a call that computes the round after the last one; the first starts from a copy
        of `state`."""
        current = jax.tree.map(jnp.copy, state)

        def call() -> Any:
            nonlocal current
            current, metrics = run(current, demos, self.dials)
            return current, metrics

        return call

    def separate(self, algo: str) -> Callable[[], Any]:
        """Returns a call that computes the next round of each seed in turn by the program for one
        seed: a list of S (state, metrics)."""
        run, both = self._program(algo), (self.state(algo), self._demos)
        parts = [
            jax.block_until_ready(jax.tree.map(lambda x, i=i: x[i : i + 1], both))
            for i in range(self.seeds)
        ]
        calls = [self._next_round(run, *part) for part in parts]
        return lambda: [jax.block_until_ready(call()) for call in calls]

    def rollout(self) -> Callable[[], Any]:
        """A call that computes the rollout of a round of `ppo` and nothing else, (state,
        transitions)."""
        inner = ppo.PPO(
            self.spec,
            registry.config_of(registry.algorithm("ppo"), self.settings("ppo")),
            init="random",
        )
        run, state = jax.jit(jax.vmap(inner.collect, (0, None))), self.state("ppo")
        return lambda: run(state, self.dials)


def learners(
    env: str, counts: Sequence[int], steps: int, repeats: int, rounds: Rounds | None = None
) -> list[dict[str, Any]]:
    """Measures steps/s of a round of each of `POLICY_TRAINERS` and of the rollout alone, by default
    for 5 seeds; a row for each."""
    del counts, steps
    rounds = rounds or Rounds(env, 5)
    calls = {"rollout": rounds.rollout(), **{algo: rounds.round(algo) for algo in POLICY_TRAINERS}}
    twice = {algo: f"{algo} twice" for algo in POLICY_TRAINERS if algo != "ppo"}
    first, times = in_turn(
        calls | {name: rounds.round(algo, 2) for algo, name in twice.items()}, repeats
    )
    return [
        {
            "algorithm": name,
            "seeds": rounds.seeds,
            "steps_per_round": rounds.steps,
            "first_call_s": first[name],
            "median_steps_per_s": rounds.steps / float(np.median(times[name])),
            "ratio_to_rollout": float(np.median(times["rollout"] / times[name])),
            "ratio_to_ppo": float(np.median(times["ppo"] / times[name])),
            "discriminator_share": float(np.median(times[twice[name]] / times[name] - 1.0))
            if name in twice
            else 0.0,
        }
        for name in calls
    ]


def vmapped_learners(
    env: str,
    counts: Sequence[int],
    steps: int,
    repeats: int,
    rounds: Sequence[Rounds] | None = None,
) -> list[dict[str, Any]]:
    """Compares a round of `airl` for S seeds in one program with S rounds of one seed, by default
    for 1, 5 and 10 seeds; a row for each S."""
    del counts, steps
    rows = []
    for each in rounds or (Rounds(env, count) for count in (1, 5, 10)):
        first, times = in_turn(
            {"vmapped": each.round("airl"), "separate": each.separate("airl")}, repeats
        )
        rows.append(
            {
                "seeds": each.seeds,
                "steps_per_round": each.steps,
                "first_call_s": first["vmapped"],
                "vmapped_s": float(np.median(times["vmapped"])),
                "separate_s": float(np.median(times["separate"])),
                "ratio": float(np.median(times["vmapped"] / times["separate"])),
            }
        )
    return rows


PARTS = {
    "worlds": worlds,
    "horizons": horizons,
    "seeds": seeds,
    "learners": learners,
    "vmapped_learners": vmapped_learners,
    "robots": robots,
}
"""What `launch/bench.py` measures: name -> (env, counts, steps, repeats) -> rows."""
ELSEWHERE = {"seeds", "robots"}
"""Those that choose their worlds themselves."""


def measure(
    parts: Sequence[str],
    env: str,
    counts: Sequence[int],
    steps: int,
    repeats: int,
    command: str = "",
) -> dict[str, Any]:
    """Measures some parts. Times of first calls count only while the compilation cache is off.

    Args:
      parts: names in `PARTS`.
      env: a registered world.
      counts: numbers of worlds; without any, each part has its own.
      steps: length of an episode.
      repeats: number of timed calls.
      command: that asked for this.

    Returns:
      The record of the run with its machine, versions and settings; JSON values.
    """
    return {
        **circumstances(),
        "backend": jax.default_backend(),
        "devices": jax.local_device_count(),
        "settings": {"env": env, "worlds": list(counts), "steps": steps, "repeats": repeats},
        "command": command,
        "parts": {part: PARTS[part](env, counts, steps, repeats) for part in parts},
    }


TURNS = (
    "Medians of calls in turn; a ratio is the median of the turns' ratios, which need not be that "
    "of the times shown"
)
TITLES = {
    "worlds": "Steps per second of the world with its expert, including resets and the computation "
    "of observations. The first call traces, compiles (no cache) and runs",
    "horizons": "One evaluation from which 1 or 20 horizons are read: medians of calls in turn",
    "seeds": "Training `bc` on `chain` for S seeds, vmapped on one device, against one seed. "
    f"{TURNS}",
    "learners": "One round (rollout and updates) of `ppo` on the true reward, `gail` and `airl`, "
    "and the rollout of `ppo` alone. Seeds are vmapped on one device, and steps are those of all "
    "seeds. Default settings, except that all algorithms have the rollout, network and minibatch "
    f"sizes of `ppo`, policy_delay 0 and a random initial policy. {TURNS}. The discriminator's "
    "share is the time that doubling its gradient steps adds to a round; `ratio to ppo` also "
    "contains the cost of the learned rewards and of the diagnostics",
    "vmapped_learners": "One round of `airl` for S seeds vmapped in one program on one device, "
    "against the same S rounds in turn by the program for one seed, without its compilation. "
    f"{TURNS}; it is that of vmapped to separate",
    "robots": "PPO on robots with spring physics, at equal settings and sizes on one device: the "
    "whole loop, its rollout alone, and Brax's own trainer without its evaluations. On a CPU one "
    "learner's robots keep one core busy, two groups of seeds two, while Brax's trainer spreads "
    "one learner over all cores. Records with a "
    "command took an epoch of Brax's in turn with ours; the others took Brax's epochs after ours, "
    "and their ratios are those of medians. The limit is the rollout plus the arithmetic of the "
    "updates' matrix products, at the rate measured for products of 512 x 512 matrices",
}
"""Name of a part -> what BENCHMARKS.md says above its table."""


def page(folder: Path) -> str:
    """Returns the text of BENCHMARKS.md, with every JSON file of `folder` as tables. Equal files
    give equal text."""
    lines = [
        "# Benchmarks",
        "",
        "Generated by `python launch/bench.py` from the JSON files in `benchmarks/`; do not edit. "
        "On a CPU only ratios and",
        "orders of magnitude carry over to another machine. No test checks a time.",
    ]
    files = sorted(folder.glob("*.json"))
    for path in files:
        record = json.loads(path.read_text())
        machine, settings = record["machine"], record["settings"]
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        lines += ["", f"## {path.stem}", ""]
        backend = record["backend"]
        if backend != "cpu":
            details = (
                machine["device"],
                f"matrices at precision {machine['matmul_precision']}",
                *machine["xla_flags"],
            )
            backend += f" ({', '.join(details)})"
        lines += [
            f"{record['date']}; {machine['cores']} cores, {machine['memory_gib']} GiB; backend "
            f"{backend},"
        ]
        world = "" if set(record["parts"]) <= ELSEWHERE else f"World `{settings['env']}`, "
        lines += [f"devices {record['devices']}. {world}{settings['repeats']} repeats. {versions}."]
        if record.get("command"):
            lines += ["", f"`{record['command']}`"]
        for part, rows in record["parts"].items():
            lines += ["", f"### {part}", "", f"{TITLES[part]}.", "", *_table(rows)]
    return "\n".join(lines + ([] if files else ["", "Nothing has been measured yet."])) + "\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    names = list(rows[0]) if rows else []
    cells_ = [[_show(row[name]) for name in names] for row in rows]
    return [
        f"| {' | '.join(row)} |"
        for row in ([name.replace("_", " ") for name in names], ["---:"] * len(names), *cells_)
    ]


def _show(value: Any) -> str:
    """Returns a number with thousands separators, and with three significant digits if it is no
    integer; a string is returned unchanged."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
