"""Measures what cells take on one CPU core: the rates of `irl_bench.plan.rates`, by
`launch/bench.py --suite=cells`.

Times are those of the process's threads together, so a busy machine changes them little. Of each
world a cell of `bc` is evaluated. Of each algorithm up to a quarter of a cell's rounds is trained,
with the settings of the default budget, on `lane_keep`; what cannot learn there trains on `grid`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from irl_bench.algos import ALGORITHMS
from irl_bench.core.cell import CellSpec
from irl_bench.plan.build import Plan, build
from irl_bench.plan.rates import training
from irl_bench.plan.request import Request
from irl_bench.running.programs import CAPACITY, EVALUATION, Program
from irl_bench.running.work import Work
from irl_bench.tools.circumstances import circumstances

SEEDS = 5
"""W, as in the budgets."""
WITHOUT = ("expert", "untrained", "stored", "judged")
"""Algorithms that train nothing."""
USUAL, TABULAR = "lane_keep", "grid"
"""The world that algorithms are measured on, and that of `maxent_irl`."""
STEPS = 256
"""Length of a measured evaluation [steps]."""
LONG = 2.0
"""Evaluations are repeated for at least this time [s]."""
PART, MOST = 0.25, 30.0
"""Part of the rounds after the first that is trained, and about how long at most [s]."""


def measure(
    worlds: Sequence[str],
    algorithms: Sequence[str],
    out: Path,
    say: Callable[[str], None] = print,
) -> None:
    """Measures worlds and algorithms and adds them to a record.

    Args:
      worlds: names.
      algorithms: names.
      out: the JSON file, as `irl_bench.plan.rates.rates` returns it; written after each.
      say: is called with a line for each.
    """
    record: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for name in worlds:
        row = of_world(name)
        _add(record, "worlds", name, row, out)
        say(f"{name}: {row['step'] * 1e6:.3g} us a step, compiled in {row['compile']:.0f} s")
    for name in algorithms:
        # A learner's own time is what is left without its steps, so its world comes first.
        env = TABULAR if name == "maxent_irl" else USUAL
        if env not in record.get("worlds", {}):
            _add(record, "worlds", env, of_world(env), out)
        row = of_algorithm(name, env, record["worlds"][env])
        _add(record, "algorithms", name, row, out)
        say(f"{name}: {row['unit'] * 1e6:.3g} us a unit, compiled in {row['compile']:.0f} s")


def _add(record: dict[str, Any], kind: str, name: str, row: dict[str, Any], out: Path) -> None:
    record |= circumstances()
    record.setdefault(kind, {})[name] = row
    ordered = {kind: dict(sorted(record[kind].items())) for kind in ("worlds", "algorithms")
               if kind in record}  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**record, **ordered}, indent=1) + "\n")


def of_world(env: str) -> dict[str, float]:
    """Measures one world.

    Returns:
      "step": time of one step of one episode, a network of `bc` acting [s]; "compile": time for
      compiling the evaluation [s]; "temporary": memory of its temporary buffers for each episode at
      once [bytes].
    """
    plan, cell = planned("bc", env)
    cell = dataclasses.replace(cell, horizon=STEPS, eps_steps=min(cell.eps_steps, STEPS))
    program, compiling = compiled(plan, cell, ("evaluate",))
    work = Work(program, [cell])
    draw = np.random.default_rng(0).normal
    # Random weights: without a policy that moves it, a robot comes to rest, in numbers so small
    # that a processor takes longer for them.
    work.state = jax.tree.map(
        lambda x: jnp.asarray(draw(0.0, 0.3, x.shape)).astype(x.dtype), program.state_shape
    )
    episodes = cell.width * cell.block
    times: list[float] = []
    work.evaluate(EVALUATION, [0])
    while sum(times) < LONG:
        start = time.process_time()
        work.evaluate(EVALUATION, [len(times) + 1])
        times.append(time.process_time() - start)
    return {
        "step": statistics.median(times) / (episodes * STEPS),
        "compile": compiling,
        "temporary": temporary(program, "evaluate") / episodes,
    }


def of_algorithm(name: str, env: str, world: Mapping[str, float]) -> dict[str, Any]:
    """Measures the training of one algorithm: its first round, which may hold more than others, and
    a part of the others.

    Args:
      name: of the algorithm.
      env: where it trains.
      world: what `of_world` measured there.

    Returns:
      "unit": time beside the environment's steps for one unit of `irl_bench.plan.rates.training`
      [s], "compile": time for compiling all functions [s], "temporary": memory of the training's
      temporary buffers [bytes], "trained": numbers that a round reads, of all seeds, and "world":
      `env`.
    """
    plan, cell = planned(name, env)
    entry = next(e for e in plan.entries if e.cells[0] == cell)
    program, compiling = compiled(plan, cell, ("demonstrate", "init", "chunk"))
    work = Work(program, [cell])
    work.demonstrate()
    work.init()
    rounds, env_steps = program.learner.rounds, entry.consumes["env_steps"]
    taken, done, others = _training(work, 1), 0, 0.0
    most = math.ceil((rounds - 1) * PART)
    while done < most and others < MOST:
        some = min(most - done, max(1, done))
        others += _training(work, some)
        done += some
    taken += others * (rounds - 1) / max(1, done)
    amount = training(cell.config, rounds, env_steps)
    own = taken / cell.width - env_steps * world["step"]
    wide = program.world.observation_size + (program.world.action_size or 1)
    return {
        "unit": max(0.0, own) / amount,
        # The evaluation and the count of errors are compiled too, and each has one rollout.
        "compile": compiling + 2 * world["compile"],
        "temporary": temporary(program, "chunk"),
        "trained": cell.width * wide * amount / rounds,
        "world": env,
    }


def _training(work: Work, rounds: int) -> float:
    """The time of so many rounds [s]."""
    jax.block_until_ready(work.state)
    start = time.process_time()
    for begin in range(0, rounds, CAPACITY):
        work.train([min(CAPACITY, rounds - begin)])
    jax.block_until_ready(work.state)
    return time.process_time() - start


def planned(algo: str, env: str) -> tuple[Plan, CellSpec]:
    """Returns the plan of one cell at the default budget, and the cell."""
    plan = build(Request(algo=(algo,), env=(env,), seeds=SEEDS, seeds_at_once=SEEDS))
    return plan, next(cell for cell in plan.cells if cell.algo == algo)


def compiled(plan: Plan, cell: CellSpec, names: Sequence[str]) -> tuple[Program, float]:
    """Returns a cell's program with some of its functions compiled, and the time that it took
    [s]."""
    begin = time.process_time()
    program = Program(cell, plan.inputs)
    program.prepare(names)
    for name in names:
        program.compiled(name)  # no compilation goes on beside what is measured
    return program, time.process_time() - begin


def temporary(program: Program, name: str) -> int:
    """Returns the memory of a function's temporary buffers [bytes]."""
    analysis = program.compiled(name).memory_analysis()
    return int(np.asarray(analysis.temp_size_in_bytes)) if analysis else 0


def every() -> tuple[list[str], list[str]]:
    """Returns all worlds, and all algorithms that train something."""
    return list(envs.WORLDS), [name for name in ALGORITHMS if name not in WITHOUT]
