"""What a run has learned, for use from Python: a policy that acts and, if there is one, the
reward that was learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from envs.core import World
from irl_bench.core import folders
from irl_bench.core.handover import Part
from irl_bench.core.settings import BadInput, nearest, whole
from irl_bench.core.types import Spec
from irl_bench.plan import donor, registry
from irl_bench.running import process
from irl_bench.storage import artifacts
from irl_bench.storage.plans import read_plan

__all__ = ["Loaded", "load"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """One seed's policy and reward. Both functions are pure and may be jitted, vmapped and
    differentiated.

    Attributes:
      act: (observation[O], key=PRNGKey(0)) -> action, float32[A] in [-1, 1] or int32[]; of a
        recurrent policy (carry, observation, key) -> (action, carry), which begins with `carry`.
      reward: (observation[..., O], action[..., A] or [...], next_observation[..., O]) ->
        float32[...]; None where the algorithm learns none.
      world: the world it was trained in, with the run's dials and options.
      algo, mode, seed: which one it is.
      config: the algorithm's settings.
      carry: as in `Learner`.
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
    """The policy, and the reward if there is one, that a run has learned.

        policy = irl_bench.load("runs/sweep", "airl", "lane_keep", seed=0)
        action = policy.act(observation)
        reward = policy.reward(observation, action, next_observation)

    JAX is set up as for a run: matrices are multiplied in full precision, and compiled functions
    are kept.

    Args:
      run: the folder of a sweep or of `launch/train.py`; of a study, one of its parts.
      algo, env: may be left out where the run has only one that learned.
      seed: by default the run's first.
      mode: of the world; by default its nominal one, or the only one that was trained.

    Raises:
      ValueError: no such folder, algorithm, world, mode or seed in it, or a damaged file; one line
        that names what there is.
    """
    process.configure()
    if not isinstance(run, str | Path) or not str(run):
        raise BadInput(
            f"load({run!r}): a run's folder is needed; nearest: irl_bench.load('runs/sweep')"
        )
    folder = folders.expand(run)
    entry = _entry(folder, algo, env, mode)
    first, count = entry["seeds"]
    wanted = first if seed is None else whole("seed", seed, 0)
    if not first <= wanted < first + count:
        raise BadInput(f"seed={wanted}: {folder} has seeds {first} to {first + count - 1} of "
                       f"{entry['algo']}; nearest: "
                       f"{min(max(wanted, first), first + count - 1)}")  # fmt: skip
    width = entry["settings"]["width"]
    path = artifacts.path_of(folder, entry["cells"][(wanted - first) // width])
    if not path.exists():
        raise BadInput(f"{path} is missing; the same sweep command makes it")
    artifact = artifacts.read(path, ("policy",))
    loaded = registry.world(
        artifact.env, {**entry["settings"]["options"], **entry["settings"]["dials"]}
    )
    world = loaded.world
    _check_sources(
        folder,
        entry["settings"]["plugin"],
        {**registry.algorithm(artifact.algo).source, **loaded.source},
    )
    has_reward = "reward" in artifact.arrays[wanted]
    parts: tuple[Part, ...] = ("policy", "reward") if has_reward else ("policy",)
    spec = Spec(world, artifact.horizon, artifact.demos, artifact.demo_steps)
    rebuilt = donor.rebuild(artifact, parts, spec)
    arrays = rebuilt.given(range(wanted, wanted + 1))
    given = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), arrays)
    acting, carry, reward_fn = rebuilt.donor.act, rebuilt.donor.carry, rebuilt.donor.reward_fn
    assert acting is not None
    key, params = jax.random.PRNGKey(0), given.policy
    if carry is None:
        act = lambda observation, key=key: acting(params, _observed(world, observation, 1), key)
    else:
        act = lambda carry, observation, key=key: acting(
            params, carry, _observed(world, observation, 1), key
        )
    reward = None
    if reward_fn is not None:
        reward = lambda observation, action, after: reward_fn(
            given.reward,
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
        seed=wanted,
        config=artifact.config,
        carry=carry,
    )


def _observed(world: World, observation: Any, axes: int | None = None) -> jax.Array:
    """The observation as an array; raises BadInput unless it has the world's width and, if
    given, so many axes."""
    rows, size = jnp.asarray(observation), int(world.observation_size)  # type: ignore[arg-type]
    if rows.shape[-1:] != (size,) or (axes is not None and rows.ndim != axes):
        hint = "jax.vmap(policy.act)" if rows.shape[-1:] == (size,) else f"one of [{size}]"
        raise BadInput(
            f"an observation of {world.name} is float32[{size}], not {list(rows.shape)}; nearest: "
            f"{hint}"
        )
    return rows


def _check_sources(folder: Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises BadInput if a file from outside, of the algorithm or the world, is not the one that
    the run had."""
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            raise BadInput(
                f"{name} has changed since the run in {folder}; nearest: the file as it was then, "
                "or a new run"
            )


def _entry(folder: Path, algo: str | None, env: str | None, mode: str | None) -> Mapping[str, Any]:
    """The entry of the run's plan that is asked for, of those that trained something."""
    plan = read_plan(folder)
    if plan is None:
        parts = sorted(path.parent.name for path in folder.glob("*/plan.json"))
        hint = (
            f"{folder / parts[0]}, a part of it"
            if parts
            else "the folder of a sweep or of launch/train.py"
        )
        raise BadInput(
            f"{folder} is not the folder of a run: it holds no plan.json; nearest: {hint}"
        )
    entries = [entry for entry in plan["entries"] if entry["rounds"]]
    if not entries:
        raise BadInput(
            f"{folder} holds nothing that was trained; nearest: launch/train.py --out={folder}"
        )
    for name, asked in (("algo", algo), ("env", env), ("mode", mode)):
        there = list(dict.fromkeys(entry[name] for entry in entries))
        if asked is None and name == "mode":
            nominal = plan["worlds"][entries[0]["env"]]["nominal"]
            asked = nominal if nominal in there else there[0]
        elif asked is None and len(there) > 1:
            raise BadInput(
                f"{folder} holds {', '.join(there)}: {name} must be given; nearest: "
                f"{name}={there[0]!r}"
            )
        elif asked is not None and asked not in there:
            raise BadInput(f"{folder} holds no {name} {asked!r} that was trained "
                           f"({', '.join(there)}); nearest: "
                           f"{nearest(asked, there)!r}")  # fmt: skip
        entries = [entry for entry in entries if asked is None or entry[name] == asked]
    return entries[0]
