"""Random search over an algorithm's numeric settings, with all candidates in one program.

A candidate's settings are data of the compiled functions, so candidates and seeds are vmapped and
one compilation serves any number of them. Settings that change shapes or choices cannot be
searched; all candidates share them.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench import algos
from irl_bench.core.settings import BadInput, show
from irl_bench.core.types import Spec, Task
from irl_bench.plan import policies, registry
from irl_bench.rollouts.evaluation import Evaluation, collect, evaluate

Space = Mapping[str, tuple[float, float, str]]
"""{setting: (low, high, "log" or "linear")}"""


def candidates(space: Space, count: int, seed: int) -> dict[str, np.ndarray]:
    """Draws random points of a space.

    Args:
      space: ranges of the settings.
      count: C, number of points.
      seed: of NumPy's generator.

    Returns:
      {setting: float32[C]}.
    """
    rng, points = np.random.default_rng(seed), {}
    for name, (low, high, scale) in space.items():
        u = rng.uniform(size=count)
        points[name] = (
            low * (high / low) ** u if scale == "log" else low + (high - low) * u
        ).astype(np.float32)
    return points


def searchable() -> tuple[str, ...]:
    """Returns the registered algorithms that can be searched: those that train from nothing but
    demonstrations and the world, and have numbers."""
    loaded = map(registry.algorithm, algos.ALGORITHMS)
    return tuple(
        algorithm.ref
        for algorithm in loaded
        if algorithm.config is not None
        and not algorithm.takes(algorithm.config())
        and any(setting.kind is float for setting in algorithm.settings.values())
    )


def example(algorithm: registry.Algorithm) -> str:
    """Returns a valid value of --space for an algorithm: a range around a number's default; "" for
    an algorithm without numbers."""
    numbers = {name: s for name, s in algorithm.settings.items() if s.kind is float}
    if not numbers:
        return ""
    name = "learning_rate" if "learning_rate" in numbers else next(iter(numbers))
    setting = numbers[name]
    if setting.default > 0 and setting.low >= 0:
        low, high = setting.default / 3, min(3 * setting.default, setting.high)
        return f"{name}:{max(low, setting.low):.2g}:{high:.2g}:log"
    low, high = setting.default - 0.5, setting.default + 0.5
    return f"{name}:{show(max(low, setting.low))}:{show(min(high, setting.high))}:linear"


def search(
    algo: str,
    env: str,
    values: Mapping[str, np.ndarray],
    *,
    settings: Mapping[str, Any],
    seeds: range,
    world_settings: Mapping[str, Any] | None = None,
    demos: int = 64,
    demo_steps: int = 512,
    episodes: int = 64,
    every: int = 25,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains every candidate on every seed and evaluates the final policies.

    Args:
      algo, env: names, registered ones or `package.module:attribute`.
      values: {setting: float32[C]}, of the C candidates.
      settings: those that all candidates share.
      seeds: every candidate is trained on each.
      world_settings: {dial or option of the world: value}.
      demos, demo_steps: number of demonstrations per seed, and their length [steps].
      episodes: evaluation episodes to T_max.
      every: largest number of rounds per compiled call; the number in use divides all rounds.
      say: receives lines on the progress.

    Returns:
      JSON values: the candidates with their level (mean cost per step), return, h and rho per seed,
      the highest mean return first. "before" holds level and return per seed before training;
      "history" the training cost of algorithms that measure it.

    Raises:
      BadInput: an unknown algorithm or world, an algorithm that does not train by itself, or a
        setting that cannot be searched; one line.
    """
    loaded = registry.world(env, world_settings)
    registry.need_expert(loaded)
    world = loaded.world
    spec = Spec(world, world.horizon, demos, demo_steps)
    algorithm = registry.algorithm(algo)
    base = registry.config_of(algorithm, settings)
    needed = algorithm.takes(base)
    rounds = 0 if needed else registry.learner(algo, spec, settings).rounds
    if not rounds:
        why = (
            f"takes a {' and a '.join(needed)} from an earlier run" if needed else "learns nothing"
        )
        raise BadInput(f"--algo={algo}: it {why}; nearest: one of {', '.join(searchable())}")
    every = max(size for size in range(1, min(every, rounds) + 1) if rounds % size == 0)
    dials = world.dials_for(next(iter(world.modes)))
    bound = world.bind(dials)
    count = len(next(iter(values.values())))
    lanes = {name: jnp.repeat(jnp.asarray(v), len(seeds)) for name, v in values.items()}
    lane_seeds = jnp.tile(jnp.asarray(seeds), count)
    learner_of = lambda numbers: algorithm.make(spec, dataclasses.replace(base, **numbers))
    key_of = lambda seed, stream: jax.random.fold_in(
        jax.random.fold_in(jax.random.PRNGKey(1), seed), stream
    )

    def demonstrations(seed: jax.Array) -> Any:
        return collect(bound, key_of(seed, 0), demos, demo_steps)

    def init(numbers: Any, seed: jax.Array, demos: Any) -> Any:
        return learner_of(numbers).init(key_of(seed, 1), Task(demos, dials))

    def chunk(numbers: Any, state: Any, demos: Any) -> Any:
        """Trains for `every` rounds."""
        learner = learner_of(numbers)
        return jax.lax.scan(
            lambda s, _: learner.update(s, Task(demos, dials)), state, None, length=every
        )

    def measure(numbers: Any, state: Any, seed: jax.Array) -> Any:
        learner = learner_of(numbers)
        return evaluate(
            bound,
            learner.act,
            learner.policy(state),
            key_of(seed, 2),
            episodes,
            world.horizon,
            learner.carry,
        )

    def once(numbers: Any, seed: jax.Array) -> Any:
        """Everything that a candidate goes through, traced to see whether it can be."""
        demos = demonstrations(seed)
        state, _ = chunk(numbers, init(numbers, seed, demos), demos)
        return measure(numbers, state, seed)

    _check_searchable(once, values, settings, jnp.asarray(seeds[0]))
    demos_ = jax.jit(jax.vmap(demonstrations))(lane_seeds)
    state = jax.jit(jax.vmap(init))(lanes, lane_seeds, demos_)
    run, weigh = jax.jit(jax.vmap(chunk), donate_argnums=1), jax.jit(jax.vmap(measure))
    before = jax.device_get(weigh(lanes, state, lane_seeds))
    history, start = [], time.monotonic()
    for done in range(every, rounds + 1, every):
        state, metrics = jax.block_until_ready(run(lanes, state, demos_))
        line = f"round {done} of {rounds}, {time.monotonic() - start:.0f} s"
        if "cost" in metrics:  # algorithms that train on rollouts of their own measure it
            costs = np.asarray(metrics["cost"])[:, -5:].mean(1).reshape(count, -1)
            history.append({"round": done, "training_cost": costs.round(5).tolist()})
            line += f": training cost of the best candidates {np.sort(costs.mean(1))[:5].round(4)}"
        say(line)
    sums = jax.device_get(weigh(lanes, state, lane_seeds))
    shape = (count, len(seeds))

    def outcome(sums: Evaluation) -> tuple[np.ndarray, np.ndarray]:
        """Returns level and return, float[C, seeds] each."""
        level = np.asarray(sums.cost).sum(1) / episodes / world.horizon
        return level.reshape(shape), (np.asarray(sums.reward) / episodes).reshape(shape)

    (level, total), (level_before, total_before) = outcome(sums), outcome(before)
    hazard = (np.asarray(sums.on_to_off) / np.maximum(np.asarray(sums.on_steps), 1)).reshape(shape)
    recovery = (np.asarray(sums.off_to_on) / np.maximum(np.asarray(sums.off_steps), 1)).reshape(
        shape
    )
    rows = [
        {
            "settings": {name: float(v[c]) for name, v in values.items()},
            "level": level[c].tolist(),
            "return": total[c].tolist(),
            "before": {"level": level_before[c].tolist(), "return": total_before[c].tolist()},
            "hazard": hazard[c].tolist(),
            "recovery": recovery[c].tolist(),
        }
        for c in range(count)
    ]
    mean = lambda row: float(np.mean(row["return"]))
    rows.sort(key=lambda row: -mean(row) if math.isfinite(mean(row)) else math.inf)
    return {
        "algo": algo,
        "env": env,
        "world_settings": {**(world_settings or {})},
        "settings": {**settings},
        "demos": demos,
        "demo_steps": demo_steps,
        "seeds": list(seeds),
        "episodes": episodes,
        "candidates": rows,
        "history": history,
    }


def _check_searchable(
    once: Callable[[Any, jax.Array], Any],
    values: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
    seed: jax.Array,
) -> None:
    """Raises BadInput, with its name, for a setting that compiled functions need as a constant.

    Args:
      once: (settings of a candidate, seed) -> anything; all that a candidate goes through.
      values: {setting: float32[C]}, of the C candidates.
      settings: those that all candidates share.
      seed: any.
    """

    def fails(names: Mapping[str, np.ndarray]) -> bool:
        try:
            jax.eval_shape(once, {name: jnp.asarray(names[name][0]) for name in names}, seed)
        except policies.UNTRACEABLE:
            return True
        return False

    if not fails(values):
        return
    for name, points in values.items():
        if fails({name: points}):
            value = settings.get(name, float(points[0]))
            raise BadInput(
                f"--space, --grid: {name} shapes what is compiled, so its values cannot be "
                f"searched side by side; nearest: --set={name}={value:.6g}"
            )
