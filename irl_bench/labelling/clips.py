"""Clips that people compare: rollouts of a clone of the world's demonstrator, cut into segments and
paired, with their pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from irl_bench.algos import rlhf
from irl_bench.core.settings import BadInput, parsed
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.plan import registry
from irl_bench.rl import ppo
from irl_bench.rollouts.evaluation import collect
from irl_bench.rollouts.scan import scan
from irl_bench.storage.comparisons import CLIPS, read_clips
from irl_bench.storage.files import check_links, write_atomic


def check_flags(out: Path, flags: Mapping[str, Any], world: Sequence[str]) -> None:
    """Checks that a command asks for the clips that a folder holds. The folder may be a
    stranger's, so the world that it names is loaded only after that.

    Args:
      out: the folder.
      flags: {flag: value} of those on the command line that say what the clips are.
      world: NAME=VALUE of the world's dials and options on the command line.

    Raises:
      BadInput: the clips are others or damaged, or their world is code from outside this package
        and no flag names it.
    """
    facts, _ = read_clips(out)
    for name, value in flags.items():
        if facts[name] != value:
            raise BadInput(
                f"{out} holds clips of --{name}={facts[name]}, not {value}; nearest: "
                f"--{name}={facts[name]}"
            )
    env = facts["env"]
    if registry.is_outside(env) and "env" not in flags:
        raise BadInput(
            f"{out} holds clips of {env}, a world from outside irl_bench, whose code would run "
            f"here; nearest: --env={env}, if that code is yours"
        )
    for name, value in parsed("world", world, registry.world(env).settings).items():
        if name not in facts["world"]:
            raise BadInput(
                f"{out} holds clips that do not say their {name}; nearest: no --world={name}"
            )
        if facts["world"][name] != value:
            near = f"--world={name}={facts['world'][name]}"
            raise BadInput(f"{out} holds clips of {near}, not {value}; nearest: {near}")


def make_clips(
    out: Path,
    ref: str,
    dials: Mapping[str, Any],
    pairs: int,
    segment: int,
    demos: int,
    demo_steps: int,
    steps: int,
    seed: int,
) -> None:
    """Writes `out/clips.npz`: rollouts of a clone, cut into segments, and pairs of them.

    Args:
      out: the folder; it is created if it does not exist.
      ref: name of a world, or `package.module:factory`.
      dials: the world's dials and options that differ from the defaults.
      pairs: number of pairs; each segment is in one pair at most.
      segment: length of a segment [steps].
      demos: number of demonstrations that are cloned.
      demo_steps: length of each [steps].
      steps: length of a rollout [steps].
      seed: of all random numbers.

    Raises:
      BadInput: the world is unknown, has no expert or has no picture, or a rollout is shorter than
        a segment.
      WriteError: the file cannot be written, or something in the folder is a link out of it.
    """
    check_links(out)
    loaded = registry.world(ref, dials)
    registry.need_expert(loaded)
    world = loaded.world
    if jax.eval_shape(lambda: world.picture(world.reset(jax.random.PRNGKey(0)))) is None:
        raise BadInput(f"{ref} has no picture to show; nearest: --env=lane_keep")
    if segment > steps:
        raise BadInput(
            f"segment={segment} is longer than a rollout of {steps} steps; nearest: {steps}"
        )
    worlds = max(2, -(-2 * pairs // (steps // segment)))
    spec = Spec(world, world.horizon, demos, demo_steps)
    inner = ppo.PPO(spec, rlhf.Config(), init="bc")

    def run(key: jax.Array) -> Any:
        demo_key, init_key, reset_key, key = jax.random.split(key, 4)
        demonstrations = collect(world, demo_key, demos, demo_steps)
        state = inner.init(init_key, Task(demonstrations, world.dials))
        weights, inputs = state.weights["policy"], inner.inputs(state)

        def act(states: Any, _: None, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            raw = inner.policy.draw(weights, view(inputs, states.obs), key)
            action = inner.policy.squash(raw)
            return action, action

        def record(before: Any, after: Any, _: None, action: jax.Array) -> Any:
            return after, None, (after.obs, action, jax.vmap(world.picture)(after))

        start = jax.vmap(world.begin)(jax.random.split(reset_key, worlds))
        return scan(world, act, record, start, jax.random.split(key, steps), worlds=True)[1]

    observation, action, picture = jax.device_get(jax.jit(run)(jax.random.PRNGKey(seed)))
    count = steps // segment

    def cut(x: np.ndarray) -> np.ndarray:
        x = np.moveaxis(x[: count * segment], 1, 0)
        return x.reshape(worlds * count, segment, *x.shape[2:])

    drawn = np.random.default_rng(seed).permutation(worlds * count)[: 2 * pairs].reshape(pairs, 2)
    used, place = np.unique(drawn, return_inverse=True)
    arrays = {
        "observation": cut(observation)[used],
        "action": cut(action)[used],
        "pairs": place.reshape(pairs, 2),
    }
    arrays |= {f"picture.{name}": cut(x)[used] for name, x in picture.items()}
    facts = {
        "env": ref,
        "world": registry.values_of(loaded),
        "segment": segment,
        "pairs": pairs,
        "seed": seed,
        "demos": demos,
        "demo_steps": demo_steps,
        "steps": steps,
        "env_steps": worlds * steps,
    }
    content = io.BytesIO()
    np.savez_compressed(content, facts=json.dumps(facts), **arrays)
    write_atomic(out / CLIPS, content.getvalue())
