"""Loads what a run has learned: a policy that acts and, if there is one, the learned reward."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from envs.core import World
from irl_bench.core.handover import Part
from irl_bench.core.settings import BadInput, nearest, whole
from irl_bench.core.types import Spec
from irl_bench.plan import donor, handed_on, registry
from irl_bench.running import process
from irl_bench.storage import artifacts, remote, world_files
from irl_bench.storage.cells import learned_path
from irl_bench.storage.plans import read_plan

__all__ = ["Loaded", "load"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """The policy and the reward of one seed.

    Both functions are pure and may be jitted, vmapped and differentiated.

    Attributes:
      act: (observation[O], key=PRNGKey(0)) -> action, float32[A] in [-1, 1] or int32[]; of a
        recurrent policy (carry, observation, key) -> (action, carry), which begins with `carry`.
      reward: (observation[..., O], action[..., A] or [...], next_observation[..., O]) ->
        float32[...]; None where the algorithm learns no reward.
      world: the world of the training, with the run's dials and options.
      algo: name of the algorithm.
      mode: the world's mode.
      seed: of the training.
      config: the algorithm's settings.
      carry: the first carry of a recurrent policy; None: the policy has no memory.
    """

    act: Callable[..., Any]
    reward: Callable[..., jax.Array] | None
    world: World
    algo: str
    mode: str
    seed: int
    config: Mapping[str, Any]
    carry: Any = None


def load(
    run: str | Path,
    algo: str | None = None,
    env: str | None = None,
    seed: int | None = None,
    *,
    mode: str | None = None,
) -> Loaded:
    """Loads the policy and, if there is one, the reward that a run has learned.

        policy = irl_bench.load("runs/sweep", "airl", "lane_keep", seed=0)
        action = policy.act(observation)
        reward = policy.reward(observation, action, next_observation)

    JAX is configured as for a run: matrices are multiplied in full precision, and compiled
    functions are cached on disk.

    Args:
      run: the folder of `irl-bench sweep` or `train`, or its URL in an object store; of a study,
        one of its parts.
      algo: the algorithm; not needed where only one has trained, unless it is code from outside,
        which runs only if it is named.
      env: the world; not needed where there is only one, unless it is code from outside.
      seed: of the training; by default the run's first.
      mode: of the world; by default the nominal one if it was trained, else the run's first.

    Raises:
      ValueError: the folder, algorithm, world, mode or seed does not exist, a file is damaged, or a
        source file has changed since the run; one line with the valid values.
    """
    process.configure()
    if not isinstance(run, str | Path) or not str(run):
        raise BadInput(
            f"load({run!r}): a run's folder is needed; nearest: irl_bench.load('runs/sweep')"
        )
    folder = remote.folder(run)
    shown = remote.shown(folder)
    entry = _entry(folder, algo, env, mode)
    first, count = entry["seeds"]
    chosen = first if seed is None else whole("seed", seed, 0)
    last = first + count - 1
    if not first <= chosen <= last:
        raise BadInput(
            f"seed={chosen}: {shown} has seeds {first} to {last} of {entry['algo']}; nearest: "
            f"{min(max(chosen, first), last)}"
        )
    width = entry["settings"]["width"]
    path = learned_path(folder, entry["cells"][(chosen - first) // width])
    remote.pull(folder, f"learned/{path.name}")
    if not path.exists():
        raise BadInput(f"{remote.shown(path)} is missing; run the same sweep command to compute it")
    for name, asked in (("algo", algo), ("env", env)):
        if registry.is_outside(entry[name]) and asked is None:
            raise BadInput(
                f"{shown} was computed with {entry[name]}, code from outside: it runs only if it "
                f"is named; nearest: {name}={entry[name]!r}"
            )
    artifact = artifacts.read(path, ("policy",))
    if (artifact.algo, artifact.env) != (entry["algo"], entry["env"]):
        raise BadInput(
            f"{remote.shown(path)} holds what {artifact.algo} learned on {artifact.env}, not what "
            "the plan says"
        )
    world_files.offer(folder)
    loaded = registry.world(
        artifact.env, {**entry["settings"]["options"], **entry["settings"]["dials"]}
    )
    world = loaded.world
    _check_sources(
        shown,
        entry["settings"]["plugin"],
        {**registry.algorithm(artifact.algo).source, **loaded.source},
    )
    has_reward = "reward" in artifact.arrays[chosen]
    parts: tuple[Part, ...] = ("policy", "reward") if has_reward else ("policy",)
    spec = Spec(world, artifact.horizon, artifact.demos, artifact.demo_steps)
    rebuilt = donor.rebuild(artifact, parts, spec)
    arrays = handed_on.given_of(rebuilt, range(chosen, chosen + 1), spec)
    stored = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), arrays)
    acting, carry, reward_fn = rebuilt.donor.act, rebuilt.donor.carry, rebuilt.donor.reward_fn
    assert acting is not None
    key, params = jax.random.PRNGKey(0), stored.policy
    if carry is None:
        act = lambda observation, key=key: acting(params, _observed(world, observation, 1), key)
    else:
        act = lambda carry, observation, key=key: acting(
            params, carry, _observed(world, observation, 1), key
        )
    reward = None
    if reward_fn is not None:
        reward = lambda observation, action, after: reward_fn(
            stored.reward,
            _observed(world, observation),
            jnp.asarray(action),
            _observed(world, after),
        )
    return Loaded(
        act=act,
        reward=reward,
        world=world,
        algo=artifact.algo,
        mode=entry["mode"],
        seed=chosen,
        config=artifact.config,
        carry=carry,
    )


def _observed(world: World, observation: Any, axes: int | None = None) -> jax.Array:
    """The observation as an array float32[..., O].

    Args:
      world: whose observation it is.
      observation: an array or nested sequences.
      axes: the required number of axes; None: any.

    Raises:
      BadInput: another shape.
    """
    rows, size = jnp.asarray(observation), world.observation_size
    if rows.shape[-1:] != (size,) or (axes is not None and rows.ndim != axes):
        hint = "jax.vmap(policy.act)" if rows.shape[-1:] == (size,) else f"one of [{size}]"
        raise BadInput(
            f"an observation of {world.name} is float32[{size}], not {list(rows.shape)}; nearest: "
            f"{hint}"
        )
    return rows


def _check_sources(shown: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Compares the hashes of external files of the algorithm and the world with those of the run.

    Args:
      shown: the run's folder in messages.
      then: {file: hash} of the run.
      now: {file: hash} of today.

    Raises:
      BadInput: a file has changed.
    """
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            raise BadInput(
                f"{name} has changed since the run in {shown}; nearest: the file as it was then, "
                "or a new run"
            )


def _entry(folder: Path, algo: str | None, env: str | None, mode: str | None) -> Mapping[str, Any]:
    """The entry of the run's plan with this algorithm, world and mode, of those that trained.

    Raises:
      BadInput: there is no such entry, or more than one algorithm or world to choose from.
    """
    plan, shown = read_plan(folder), remote.shown(folder)
    if plan is None:
        parts = sorted(path.parent.name for path in folder.glob("*/plan.json"))
        hint = (
            f"{remote.shown(folder / parts[0])}, a part of it"
            if parts
            else "the folder of irl-bench sweep or irl-bench train"
        )
        raise BadInput(
            f"{shown} is not the folder of a run: it holds no plan.json; nearest: {hint}"
        )
    entries = [entry for entry in plan["entries"] if entry["rounds"]]
    if not entries:
        raise BadInput(
            f"{shown} holds nothing that was trained; nearest: irl-bench train --out={shown}"
        )
    for name, asked in (("algo", algo), ("env", env), ("mode", mode)):
        there = list(dict.fromkeys(entry[name] for entry in entries))
        if asked is None and name == "mode":
            nominal = plan["worlds"][entries[0]["env"]]["nominal"]
            asked = nominal if nominal in there else there[0]
        elif asked is None and len(there) > 1:
            raise BadInput(
                f"{shown} holds {', '.join(there)}: {name} must be given; nearest: "
                f"{name}={there[0]!r}"
            )
        elif asked is not None and asked not in there:
            raise BadInput(f"{shown} holds no {name} {asked!r} that was trained "
                           f"({', '.join(there)}); nearest: "
                           f"{nearest(asked, there)!r}")  # fmt: skip
        entries = [entry for entry in entries if asked is None or entry[name] == asked]
    return entries[0]
