"""What a run has learned, for use from Python: a policy that acts and, if there is one, the reward that was learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from envs.core import World
from irl_bench import folders, learned, plugins, process, store
from irl_bench.algos import stored
from irl_bench.algos.config import BadInput, nearest, whole
from irl_bench.types import Spec

__all__ = ["Loaded", "load"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """One seed's policy and reward. Both functions are pure and may be jitted, vmapped and differentiated.

    Attributes:
      act: (observation[O], key=PRNGKey(0)) -> action, float32[A] in [-1, 1] or int32[]; of a recurrent policy (carry,
        observation, key) -> (action, carry), which begins with `carry`.
      reward: (observation[..., O], action[..., A] or [...], next_observation[..., O]) -> float32[...]; None where the algorithm
        learns none.
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
    run: str | Path, algo: str | None = None, env: str | None = None, seed: int | None = None, *, mode: str | None = None
) -> Loaded:
    """The policy, and the reward if there is one, that a run has learned.

        policy = irl_bench.load("runs/sweep", "airl", "lane_keep", seed=0)
        action = policy.act(observation)
        reward = policy.reward(observation, action, next_observation)

    Args:
      run: the folder of a sweep or of `launch/train.py`; of a study, one of its parts.
      algo, env: may be left out where the run has only one that learned.
      seed: by default the run's first.
      mode: of the world; by default its nominal one, or the only one that was trained.

    Raises:
      ValueError: no such folder, algorithm, world, mode or seed in it, or a damaged file; one line that names what there is.
    """
    process.configure()
    folder = folders.expand(run)
    entry = _entry(folder, algo, env, mode)
    first, count = entry["seeds"]
    wanted = first if seed is None else whole("seed", seed, 0)
    if not first <= wanted < first + count:
        raise BadInput(f"seed={wanted}: {folder} has seeds {first} to {first + count - 1} of {entry['algo']}; nearest: "
                       f"{min(max(wanted, first), first + count - 1)}")  # fmt: skip
    width = entry["settings"]["width"]
    path = learned.path_of(folder, entry["cells"][(wanted - first) // width])
    if not path.exists():
        raise BadInput(f"{path} is missing; the same sweep command makes it")
    held = learned.read(path, "policy")
    world = plugins.world(held.env, {**entry["settings"]["options"], **entry["settings"]["dials"]}).world
    learner, task = stored.maker(Spec(world, held.horizon, held.demos, held.demo_steps, held), "policy")

    def tree(part: str, of: Any) -> Any:
        leaves = [jnp.asarray(leaf[0]) for leaf in held.of(part, range(wanted, wanted + 1))]
        return jax.tree.unflatten(stored.structure(of, learner, task), leaves)

    params, acting = tree("policy", learner.policy), learner.act
    assert acting is not None
    key = jax.random.PRNGKey(0)
    if learner.carry is None:
        act = lambda observation, key=key: acting(params, jnp.asarray(observation), key)  # noqa: E731
    else:
        act = lambda carry, observation, key=key: acting(params, carry, jnp.asarray(observation), key)  # noqa: E731
    reward = None
    if learner.reward is not None and learner.judge is not None:
        found, judge = tree("reward", learner.reward), learner.judge
        reward = lambda *step: judge(found, *map(jnp.asarray, step))  # noqa: E731
    return Loaded(act, reward, world, held.algo, entry["mode"], wanted, held.config, learner.carry)


def _entry(folder: Path, algo: str | None, env: str | None, mode: str | None) -> Mapping[str, Any]:
    """The entry of the run's plan that is asked for, of those that trained something."""
    plan = store.read_plan(folder)
    if plan is None:
        parts = sorted(path.parent.name for path in folder.glob("*/plan.json"))
        hint = f"{folder / parts[0]}, a part of it" if parts else "the folder of a sweep or of launch/train.py"
        raise BadInput(f"{folder} is not the folder of a run: it holds no plan.json; nearest: {hint}")
    entries = [entry for entry in plan["entries"] if entry["rounds"]]
    if not entries:
        raise BadInput(f"{folder} holds nothing that was trained; nearest: launch/train.py --out={folder}")
    for name, asked in (("algo", algo), ("env", env), ("mode", mode)):
        there = list(dict.fromkeys(entry[name] for entry in entries))
        if asked is None and name == "mode":
            nominal = plan["worlds"][entries[0]["env"]]["nominal"]
            asked = nominal if nominal in there else there[0]
        elif asked is None and len(there) > 1:
            raise BadInput(f"{folder} holds {', '.join(there)}: {name} must be given; nearest: {name}={there[0]!r}")
        elif asked is not None and asked not in there:
            raise BadInput(f"{folder} holds no {name} {asked!r} that was trained ({', '.join(there)}); nearest: "
                           f"{nearest(asked, there)!r}")  # fmt: skip
        entries = [entry for entry in entries if asked is None or entry[name] == asked]
    return entries[0]
