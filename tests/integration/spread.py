"""Learners whose worlds are spread over four devices, as a program of its own, since the number of
a process's devices is fixed when JAX starts: `python -m tests.integration.spread FOLDER PART...`.

Prints one JSON object, {part: what was seen}; `tests.integration.test_spread` says what it should
be.
"""

from __future__ import annotations

import json
import pathlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from irl_bench.algos import ppo as algo
from irl_bench.core.cell import CellSpec
from irl_bench.core.spread import AXIS, Spread
from irl_bench.core.types import Spec, Task
from irl_bench.rl import ppo
from irl_bench.rollouts.evaluation import collect
from irl_bench.running import programs, runner
from irl_bench.running.console import Silent
from irl_bench.running.process import Interrupted
from tests.worlds.endings import Bandit
from tests.worlds.helpers import Windy

SEED = 0
"""Of all random numbers; a key would start JAX."""
SMALL: dict[str, Any] = {"hidden": (8,), "value_hidden": (8,), "worlds": 8, "unroll": 4}


def over(devices: int, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """`function` on the first devices, with the axis of worlds bound."""
    mesh = jax.make_mesh(
        (devices,),
        (AXIS,),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:devices],
    )
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    )


def copies_equal(tree: Any) -> bool:
    """Whether the devices that hold the same entries of an array hold the same bytes."""
    shards: dict[tuple, set[bytes]] = {}
    for place, leaf in enumerate(jax.tree.leaves(tree)):
        for shard in leaf.addressable_shards:
            key = (place, str(shard.index))
            shards.setdefault(key, set()).add(np.asarray(shard.data).tobytes())
    return all(len(contents) == 1 for contents in shards.values())


def rounds(world: Any, devices: int, config: algo.Config) -> tuple[ppo.PPO, Callable, Callable]:
    """PPO, its init and one round of it, spread over devices."""
    spread = ppo.PPO(
        Spec(world, world.horizon, 2, 4, spread=Spread(devices)), config, init="random"
    )
    task = Task(collect(world, jax.random.PRNGKey(SEED), 2, 4), world.dials)
    begin = lambda key: spread.init(key, task)
    shapes = jax.eval_shape(over(devices, begin, P(), P()), jax.random.PRNGKey(SEED))
    specs = jax.tree.map(lambda own: P(AXIS) if own else P(), spread.per_world(shapes))

    def one(state: ppo.State) -> tuple:
        state, batch = spread.collect(state, world.dials)
        after, metrics = spread.improve(state, batch, batch.reward)
        return state, batch, after, metrics

    out = (specs, P(None, AXIS), specs, P())
    return spread, over(devices, begin, P(), specs), over(devices, one, (specs,), out)


def against_one_device(devices: int) -> dict[str, Any]:
    """The largest differences between a round that is spread and one on one device from the same
    rollout; all rows are in one minibatch, so their order does not matter."""
    world, config = (
        Windy(),
        algo.Config(
            **SMALL, minibatches=1, epochs=1, statistics="running", episode_steps=6, rounds=5
        ),
    )
    _, begin, one = rounds(world, devices, config)
    before, batch, after, metrics = one(begin(jax.random.PRNGKey(SEED)))
    alone = ppo.PPO(Spec(world, world.horizon, 2, 4), config, init="random")
    host = lambda tree: jax.tree.map(jnp.asarray, jax.device_get(tree))
    expected, expected_metrics = jax.jit(alone.improve)(
        host(before), host(batch), host(batch.reward)
    )
    difference = lambda a, b: float(np.max(np.abs(np.asarray(a, float) - np.asarray(b, float))))
    state = jax.tree.map(difference, jax.device_get(after), jax.device_get(expected))
    del expected_metrics["entropy"]  # estimated from random numbers of each device
    actions = np.asarray(batch.raw).reshape(len(batch.raw), devices, -1)
    return {
        "state": max(jax.tree.leaves(state)),
        "moved": difference(
            before.weights["policy"]["net"]["Dense_0"]["kernel"],
            after.weights["policy"]["net"]["Dense_0"]["kernel"],
        ),
        "metrics": {
            name: difference(metrics[name], expected_metrics[name]) for name in expected_metrics
        },
        "own_random_numbers": len({actions[:, d].tobytes() for d in range(devices)}) == devices,
        "copies_equal": copies_equal((after, metrics)),
    }


def bandit() -> dict[str, Any]:
    """The arm that is played after training on four devices."""
    config = algo.Config(
        **{**SMALL, "worlds": 16, "unroll": 16},
        minibatches=4,
        statistics="running",
        rounds=30,
        learning_rate=1e-2,
        reward="true",
    )
    spread, begin, one = rounds(Bandit(), 4, config)
    state = begin(jax.random.PRNGKey(SEED))
    for _ in range(config.rounds):
        state = one(state)[2]
    alone = jax.device_get(state)
    arm = spread.act(spread.params(alone), jnp.array([1.0, 0.0]), jax.random.PRNGKey(SEED))
    return {"arm": int(arm), "copies_equal": copies_equal(state)}


CONFIGS: dict[str, dict[str, Any]] = {
    "gail": {"rounds": 4, "replay": 2, "disc_hidden": [4], "policy_delay": 1},
    "airl": {"rounds": 4, "replay": 2, "disc_hidden": [4], "policy_delay": 1},
    "rlhf": {
        "rounds": 4, "labels": 20, "pool_worlds": 4, "pool_steps": 8, "segment": 4,
        "reward_hidden": [4], "members": 1, "reward_steps": 4, "judged_worlds": 2,
        "keep": "last", "policy_delay": 1,
    },
}  # fmt: skip
OF_PPO = {"hidden": [4], "value_hidden": [4], "worlds": 8, "unroll": 8, "minibatches": 2,
          "epochs": 2, "bc_steps": 4, "episode_steps": 8}  # fmt: skip


def cell(name: str, **changes: Any) -> CellSpec:
    """A cell of a small learner whose worlds are spread over four devices."""
    fields: dict[str, Any] = {
        "algo": name, "config": {**OF_PPO, **CONFIGS[name]}, "env": "tests.worlds.toys:TwoState",
        "mode": "recoverable", "dials": {"slip": 0.2, "back": 0.5}, "horizon": 8, "demos": 4,
        "demo_steps": 16, "episodes": 8, "block": 4, "eps_episodes": 4, "eps_steps": 4,
        "eval_every": 2, "first_seed": 0, "width": 2, "world_devices": 4,
    }  # fmt: skip
    return CellSpec(**{**fields, **changes})


def learner(name: str) -> dict[str, Any]:
    """Rounds of a learner in its program."""
    program = programs.program_for(cell(name), {})
    program.prepare()
    spec = cell(name)
    seeds = program.put([np.asarray(spec.seeds, np.uint32)])
    dials = program.put([program.dials(spec)])
    demos = program.demonstrations([spec], seeds, dials)
    state = program.init(seeds, demos, dials, None)
    at_first = jax.device_get(state)
    k = program.put([np.int32(4)])
    state, rows = program.chunk(state, demos, dials, None, k)
    first, last = (jax.tree.leaves(program.learner.policy(x)) for x in (at_first, state))
    worlds = state.policy.worlds
    return {
        "copies_equal": copies_equal((state, rows)),
        "finite": bool(np.isfinite(np.asarray(rows)[0, :4]).all()),
        "moved": any(not np.array_equal(a, b) for a, b in zip(first, last, strict=True)),
        "worlds": [worlds.age.shape[-1], worlds.age.addressable_shards[0].data.shape[-1]],
        "weights_on": len(jax.tree.leaves(state.policy.weights)[0].sharding.device_set),
    }


class StopIn(Silent):
    """Asks the run to stop when it begins to train for the second time."""

    def __init__(self, stop: threading.Event):
        self.stop, self.left = stop, 2

    def advance(self, label: str, stage: str, fraction: float) -> None:
        self.left -= stage.startswith("training")
        if not self.left:
            self.stop.set()


def resumed(folder: pathlib.Path) -> dict[str, Any]:
    """Bytes of a cell that ran in one go, and of one that was interrupted."""
    contents = lambda out: {p.name: p.read_bytes() for p in (out / "cells").glob("*.parquet")}
    cells = [cell("gail"), cell("gail", first_seed=2)]
    whole = runner.compute(cells, folder / "whole", stop=threading.Event(), display=Silent())
    stop, cut = threading.Event(), folder / "cut"
    try:
        runner.compute(cells, cut, stop=stop, display=StopIn(stop), chunk_rounds=1)
        interrupted = False
    except Interrupted:
        interrupted = True
    again = runner.compute(cells, cut, stop=threading.Event(), display=Silent(), chunk_rounds=3)
    return {
        "interrupted": interrupted,
        "resumed": list(again.resumed.values()),
        "cells": len(contents(cut)),
        "same": contents(cut) == contents(folder / "whole"),
        "compilations": whole.compilations,
    }


def main(folder: str, *parts: str) -> None:
    runner.configure(4)
    known: dict[str, Callable[[], Any]] = {
        "rounds": lambda: {n: against_one_device(n) for n in (2, 4)},
        "bandit": bandit,
        "resumed": lambda: resumed(pathlib.Path(folder)),
        **{name: lambda name=name: learner(name) for name in CONFIGS},
    }
    print(json.dumps({part: known[part]() for part in parts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
