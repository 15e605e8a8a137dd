"""Comparisons made by people: the clips they see, the answers they gave, and both as what `rlhf`
trains from.

A folder holds `clips.npz` (segments, the pairs of them, and what is drawn) and `answers.jsonl`, one
line per answer, the last one of a pair counting. Both are of one world; the clips are cut from
rollouts of a clone of its demonstrator.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.nets.policies import view
from irl_bench.preferences.reward_model import HELD_OUT, Comparisons, Segments

if TYPE_CHECKING:
    from irl_bench.plan.registry import LoadedWorld
    from irl_bench.storage.artifacts import Learned

PART = "labels"
"""What `rlhf` takes of such a folder."""
ANSWERS = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": None}
"""Answer -> label of the first (left) clip."""
FACTS = frozenset(
    ("env", "world", "segment", "pairs", "seed", "demos", "demo_steps", "steps", "env_steps")
)
"""What a file says of its clips."""
CLIPS, GIVEN = "clips.npz", "answers.jsonl"


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
    """Writes `out/clips.npz`: rollouts of a clone of `demos` demonstrations, cut into segments of
    which pairs are drawn.

    Raises:
      BadInput: the world has nothing to draw, or too few segments come of `steps`.
    """
    from irl_bench.algos import rlhf
    from irl_bench.plan import registry
    from irl_bench.rl import ppo
    from irl_bench.rollouts.evaluation import collect

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
    inner = ppo.PPO(spec, rlhf.Config())

    def run(key: jax.Array) -> Any:
        demo_key, init_key, reset_key, key = jax.random.split(key, 4)
        shown = collect(world, demo_key, demos, demo_steps)
        state = inner.init(init_key, Task(shown, world.dials))
        weights, inputs = state.weights["policy"], inner.inputs(state)

        def step(states: Any, key: jax.Array) -> Any:
            raw = inner.policy.draw(weights, view(inputs, states.obs), key)
            action = inner.policy.squash(raw)
            after = jax.vmap(world.step)(states, action)
            return after, (after.obs, action, jax.vmap(world.picture)(after))

        start = jax.vmap(world.reset)(jax.random.split(reset_key, worlds))
        return jax.lax.scan(step, start, jax.random.split(key, steps))[1]

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
        "world": world_facts(loaded),
        "segment": segment,
        "pairs": pairs,
        "seed": seed,
        "demos": demos,
        "demo_steps": demo_steps,
        "steps": steps,
        "env_steps": worlds * steps,
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{CLIPS}.tmp"
    with partial.open("wb") as file:
        np.savez_compressed(file, facts=json.dumps(facts), **arrays)
    partial.replace(out / CLIPS)


def world_facts(loaded: LoadedWorld) -> dict[str, Any]:
    """Dials and options of a world, JSON values."""
    return {name: setting.default for name, setting in loaded.settings.items()}


def clips(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts, arrays) of a folder's clips. Raises BadInput if there are none or the file is
    damaged."""
    path = folder / CLIPS
    if not path.exists():
        raise BadInput(f"{folder} holds no {CLIPS}; nearest: launch/label.py --out={folder}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
        if not facts.keys() >= FACTS or not {"observation", "action", "pairs"} <= arrays.keys():
            raise KeyError
        return facts, arrays
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise BadInput(f"{path} is damaged or not a file of clips") from None


def answers(folder: Path, pairs: int) -> dict[int, str]:
    """{pair: its last answer}. A line cut off by an interruption is left out; any other bad line
    is BadInput."""
    path = folder / GIVEN
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    found: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            pair, answer = one["pair"], one["answer"]
            if answer not in ANSWERS or not isinstance(pair, int) or not 0 <= pair < pairs:
                raise KeyError(answer)
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # the file ends with a newline unless it was interrupted
                break
            raise BadInput(
                f"{path}, line {number}: no answer to one of the {pairs} pairs"
            ) from None
        found[pair] = answer
    return found


def read(folder: str | Path) -> Learned:
    """The comparisons of a folder as `--given` takes them. Raises BadInput if there are too few
    or they are damaged."""
    from irl_bench.storage.artifacts import Learned

    class Shared(Learned):
        """The same for every seed."""

        __hash__ = Learned.__hash__

        def of(self, part: str, seeds: range) -> list[np.ndarray]:
            return [
                np.broadcast_to(leaf, (len(seeds), *leaf.shape)) for leaf in self.arrays[0][part]
            ]

    folder = Path(folder)
    facts, arrays = clips(folder)
    given = answers(folder, len(arrays["pairs"]))
    kept = {
        pair: ANSWERS[answer]
        for pair, answer in sorted(given.items())
        if ANSWERS[answer] is not None
    }
    if len(kept) < HELD_OUT:
        raise BadInput(
            f"{folder} holds {len(kept)} comparisons; {HELD_OUT} are needed; nearest: "
            f"launch/label.py --out={folder}"
        )
    index = arrays["pairs"][list(kept)]
    leaves = [
        arrays["observation"].astype(np.float32),
        arrays["action"],
        index[:, 0].astype(np.int32),
        index[:, 1].astype(np.int32),
        np.array(list(kept.values()), np.float32),
    ]
    config = {
        "segments": len(leaves[0]),
        "answers": len(kept),
        "asked": len(given),
        "segment": facts["segment"],
        "world": facts["world"],
        "expert_queries": facts["demos"] * facts["demo_steps"],
        "env_steps": facts["env_steps"],
    }
    digest = hashlib.sha256(json.dumps([facts, config], sort_keys=True).encode())
    for leaf in leaves:
        digest.update(leaf.tobytes())
    name = digest.hexdigest()
    return Shared(
        "human", facts["env"], config, facts["demos"], 0, 0, name, name[:8], {0: {PART: leaves}}
    )


def check(spec: Spec) -> Any:
    """What is given. Raises BadInput if nothing is, or what there is belongs to another world."""
    held = spec.given
    if held is None or held.algo != "human":
        raise BadInput(
            "teacher=human takes comparisons; nearest: --given=FOLDER of launch/label.py"
        )
    observation, action, *_ = held.arrays[0][PART]
    width = () if spec.n_actions is not None else (spec.action_size,)
    if observation.shape[2:] != (spec.observation_size,) or action.shape[2:] != width:
        raise BadInput(
            f"the comparisons given are of {held.env}, not of {spec.world.name}; nearest: "
            f"--env={held.env}"
        )
    return held


def check_world(held: Learned, loaded: LoadedWorld) -> None:
    """Raises BadInput if the clips are of another world than `loaded`, or of the same with other
    dials or options."""
    if held.env != loaded.ref:
        raise BadInput(
            f"the comparisons given are of {held.env}, not of {loaded.ref}; nearest: "
            f"--env={held.env}"
        )
    here, there = world_facts(loaded), held.config["world"]
    for name in here:
        if name in there and here[name] != there[name]:
            flag = f"--{loaded.name}.{name}"
            raise BadInput(f"the comparisons given were made with {flag}={there[name]}, not "
                           f"{here[name]}; nearest: "
                           f"{flag}={there[name]}")  # fmt: skip


def parts(given: Sequence[jax.Array]) -> tuple[Segments, Comparisons]:
    """The leaves of one seed as what a reward is fitted to; nobody paid a reward along these
    segments, so it reads 0."""
    observation, action, first, second, label = given
    return Segments(observation, action, jnp.zeros(observation.shape[:2])), Comparisons(
        first, second, label, jnp.ones(len(label))
    )
