"""How long a cell is expected to take, and how much memory, from rates that were measured once.

A cell of W seeds takes, on one CPU core of the machine that rates.json names,

    W (n step + m unit)  [s]

where n is the number of environment steps of one seed (demonstrations, training, evaluation,
held-out episodes), `step` the time of one in this world, m the amount of training and `unit` the
algorithm's time for one unit of it beside the environment's steps. Compiling comes on top.
`launch/bench.py --suite=cells` measures the rates.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

CORES = 2
"""Without a log, the time of a run is that on a machine with so many cores, each with a cell."""


@functools.cache
def rates() -> dict[str, Any]:
    """Returns what `launch/bench.py --suite=cells` has measured: {"worlds": {world: {"step" [s],
    "compile" [s], "temporary" [bytes for each episode at once]}}, "algorithms": {algorithm:
    {"unit" [s], "compile" [s], "temporary" [bytes], "trained", "world"}}}, beside the
    circumstances."""
    text = importlib.resources.files("irl_bench.plan").joinpath("rates.json").read_text("utf-8")
    return json.loads(text)


def training(config: Mapping[str, Any], rounds: int, env_steps: int) -> float:
    """Returns how much one seed trains: the rows of all minibatches of supervised learning, else
    the environment steps, else the rounds.

    Args:
      config: the algorithm's settings.
      rounds: of training.
      env_steps: that the learner takes in all of them.
    """
    if {"steps_per_round", "batch_size"} <= config.keys():
        return float(rounds * config["steps_per_round"] * config["batch_size"])
    return float(env_steps or rounds)


def steps(cell: Mapping[str, Any], rounds: int, env_steps: int) -> int:
    """Returns the environment steps that one seed of a cell takes in all.

    Args:
      cell: the fields of a `CellSpec` by name.
      rounds: of training.
      env_steps: that the learner takes in all of them.
    """
    begin = cell["burn_in"]
    demos = cell["demos"] * (cell["demo_steps"] + begin) if rounds and not cell["recorded"] else 0
    return (
        demos
        + (env_steps if rounds else 0)
        + cell["episodes"] * (cell["horizon"] + begin)
        + cell["eps_episodes"] * (cell["eps_steps"] + begin)
    )


def seconds_of(
    env: str, algo: str, cell: Mapping[str, Any], rounds: int, env_steps: int
) -> float | None:
    """Returns the time of a cell on one CPU core [s], without compiling; None if nothing is known
    of its world or algorithm.

    Args:
      env, algo: names in cells.
      cell: the other fields of a `CellSpec` by name.
      rounds: of training.
      env_steps: that one seed takes in training.
    """
    world, learner = rates()["worlds"].get(env), rates()["algorithms"].get(algo)
    if world is None or (learner is None and rounds):
        return None
    unit = learner["unit"] if learner else 0.0
    each = steps(cell, rounds, env_steps) * world["step"]
    return cell["width"] * (
        each + training(cell["config"], rounds, env_steps) * unit * (rounds > 0)
    )


def temporary_bytes(env: str, algo: str, episodes: int, trained: float) -> float | None:
    """Returns the memory of XLA's temporary buffers for a cell [bytes], the more of evaluation and
    training; None if nothing is known of its world or algorithm.

    Args:
      env, algo: names in cells.
      episodes: that are evaluated at once, of all seeds.
      trained: numbers that a round of training reads, of all seeds; 0 if there is none.
    """
    world, learner = rates()["worlds"].get(env), rates()["algorithms"].get(algo)
    if world is None or (learner is None and trained):
        return None
    training = learner["temporary"] * trained / learner["trained"] if learner else 0.0
    return max(world["temporary"] * episodes, training)


def compile_seconds(env: str, algo: str) -> float:
    """Returns the time for compiling the functions of an algorithm on a world on one CPU core [s]:
    the algorithm's, in proportion to the world's; 0 for an unknown world."""
    known, learner = rates()["worlds"], rates()["algorithms"].get(algo)
    if env not in known:
        return 0.0
    if learner is None:  # it is evaluated, and its errors are counted
        return 2 * known[env]["compile"]
    return learner["compile"] * known[env]["compile"] / known[learner["world"]]["compile"]
