"""Demonstrations as files: read in the layouts of `irl_bench.storage.layouts`, checked against a
world, and written as npz or Minari (HDF5)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

import envs
from envs.core import World
from envs.names import ALIKE, OBSERVED
from irl_bench.core import folders
from irl_bench.core.settings import BadInput, nearest
from irl_bench.core.types import Demonstrations
from irl_bench.storage import layouts
from irl_bench.storage.files import write_atomic, writing
from irl_bench.storage.layouts import Contents, Episode, shown

TOLERANCE = 1e-3
"""How far an action may exceed [-1, 1]; it is clipped."""
DATASET = re.compile(r"[-_\w]+")
"""The form of the names of Minari datasets."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """N demonstrations of at most T steps, from a file."""

    observation: np.ndarray
    """float32[N, T, O]."""
    action: np.ndarray | None
    """float32[N, T, A] or int32[N, T]; None if only observations were recorded."""
    mask: np.ndarray
    """float32[N, T]: 1 where the step counts, 0 past an episode's length."""
    reward: np.ndarray | None
    """float32[N, T]: the world's reward, 0 past an episode's length; None if the file has none."""
    sha256: str
    """SHA-256 of the arrays."""
    layout: str = ""
    """The layout of the file, in words."""
    ignored: tuple[str, ...] = ()
    """The file's keys that mean nothing here."""

    def __hash__(self) -> int:
        return hash(self.sha256)

    def first(self, count: int) -> Recorded:
        """Returns the first `count` episodes, padded to the longest of them."""
        steps = max(self.lengths[:count])
        cut = (slice(count), slice(steps))
        return _recorded(
            self.observation[cut],
            None if self.action is None else self.action[cut],
            self.mask[cut],
            None if self.reward is None else self.reward[cut],
            self.layout,
            self.ignored,
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length of each episode [steps]."""
        return tuple(int(steps) for steps in self.mask.sum(axis=1))

    def tiled(self, width: int) -> Demonstrations:
        """Returns the same demonstrations for each of `width` seeds: leaves [width, N, T, ...]."""

        def tile(array: np.ndarray | None) -> Any:  # NumPy arrays, which JAX takes as its own
            return None if array is None else np.broadcast_to(array, (width, *array.shape))

        return Demonstrations(
            tile(self.observation), tile(self.action), tile(self.mask), tile(self.reward)
        )


def _recorded(
    observation: np.ndarray,
    action: np.ndarray | None,
    mask: np.ndarray,
    reward: np.ndarray | None = None,
    layout: str = "",
    ignored: tuple[str, ...] = (),
) -> Recorded:
    """Demonstrations with the SHA-256 of their arrays."""
    digest = hashlib.sha256()
    for array in (observation, action, mask, reward):
        if array is not None:
            digest.update(
                f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes()
            )
    return Recorded(observation, action, mask, reward, digest.hexdigest(), layout, ignored)


def read(path: str | Path, world: World, ref: str = "", flag: str = "") -> Recorded:
    """Returns the demonstrations in a file or folder, checked against a world.

    docs/reference/demonstration-files.md lists the layouts.

    Args:
      path: of the file or folder.
      world: the world that they must fit.
      ref: how `--env` names the world, in messages; by default as `_ref` guesses.
      flag: what stands before NAME=VALUE of an option, in messages; by default as in a sweep.

    Raises:
      BadInput: there is nothing, the layout is unknown, the demonstrations are of another world or
        were recorded with other options that say what an observation holds, shapes are wrong,
        values are not finite in float32, or actions are out of range; one line that names the file
        and says how to convert it.
    """
    if not str(path).strip():
        raise BadInput(
            "demonstrations: an empty name is no file or folder; nearest: demos_from=demos.npz"
        )
    ref = ref or _ref(world)
    path = folders.expand(path)
    contents = layouts.read(path)
    if contents.world and contents.world != world.name:
        near = nearest(contents.world, envs.names(), ALIKE)
        how = f"--env={near}" if near else f"demonstrations of {world.name}"
        text = f" holds demonstrations of {contents.world}, not of {world.name}; nearest: {how}"
        raise layouts.refusal(path, text)
    _check_options(path, contents.options, world, flag or f"--{world.name}.")
    try:
        return _checked(path, contents, world, ref)
    except MemoryError:
        raise layouts.refusal(
            path,
            " does not fit into memory when padded to its longest episode; nearest: fewer episodes",
        ) from None


def observed(world: World) -> dict[str, str]:
    """Returns the options of a world that say what an observation holds, with their values."""
    return {
        name: world.chosen.get(name, valid[0])
        for name, valid in world.options.items()
        if name in OBSERVED
    }


def _spelt(options: Mapping[str, str]) -> str:
    """Options as a file holds them."""
    return ",".join(f"{name}={value}" for name, value in options.items())


def _check_options(path: Path, stored: str, world: World, flag: str) -> None:
    """Raises BadInput unless a file's options are the world's. A file without them is taken as it
    is."""
    pairs = (item.partition("=") for item in stored.split(",") if item)
    theirs = {name: value for name, _, value in pairs}
    ours = observed(world)
    apart = {name: theirs[name] for name in ours if theirs.get(name, ours[name]) != ours[name]}
    unknown = [name for name, value in apart.items() if value not in world.options[name]]
    if unknown:
        text = f": {unknown[0]}={apart[unknown[0]]:.40} is no option of {world.name}; expected"
        raise layouts.refusal(
            path, f"{text} world_options like {_spelt(ours)}; convert: leave world_options out"
        )
    if apart:
        here = _spelt({name: ours[name] for name in apart})
        near = " ".join(f"{flag}{name}={value}" for name, value in apart.items())
        raise layouts.refusal(
            path,
            f" was recorded with {_spelt(apart)}, and the world has {here}; nearest: {near}",
        )


def _ref(world: World) -> str:
    """How `--env` names a world: a registered name, or the module of its class and `make`."""
    if world.name in envs.names() or world.name.startswith(envs.PLAYGROUND):
        return world.name
    module = type(world).__module__
    made = hasattr(sys.modules.get(module), "make")
    return f"{module}:{'make' if made else type(world).__name__}"


def _checked(path: Path, contents: Contents, world: World, ref: str) -> Recorded:
    """The episodes as padded arrays. Raises BadInput if they do not fit the world."""
    for part, role in enumerate(layouts.ROLES):
        present = [episode[part] is not None for episode in contents.episodes]
        if any(present) and not all(present):
            text = (
                f": episode {present.index(False)} has no {role}, episode {present.index(True)} "
                "has; nearest: leave it out"
            )
            raise layouts.refusal(path, text)
    rows = [_episode(path, contents, world, ref, i) for i in range(len(contents.episodes))]
    if not rows:
        raise layouts.refusal(
            path, f" holds no episode ({contents.layout}); nearest: irl-bench demos writes some"
        )
    longest = max(len(row.observation) for row in rows)

    def padded(part: int) -> np.ndarray | None:
        arrays: list[Any] = [row[part] for row in rows]
        if arrays[0] is None:
            return None
        full = np.zeros((len(rows), longest, *arrays[0].shape[1:]), arrays[0].dtype)
        for row, array in zip(full, arrays, strict=True):
            row[: len(array)] = array
        return full

    mask = (np.arange(longest) < np.array([[len(row.observation)] for row in rows])).astype(
        np.float32
    )
    observation = cast("np.ndarray", padded(0))  # every episode has observations
    return _recorded(observation, padded(1), mask, padded(2), contents.layout, contents.ignored)


def _episode(path: Path, contents: Contents, world: World, ref: str, i: int) -> Episode:
    """Episode `i` as float32[T, O], float32[T, A] or int32[T], and float32[T]."""
    keys, episode = contents.keys, contents.episodes[i]
    for role, array in zip(layouts.ROLES, episode, strict=True):
        if array is not None and array.ndim == 0:
            raise _unlike(
                path,
                keys[role],
                i,
                role,
                array,
                f"{world.name} has one row per step",
                f"{keys[role]}[None]",
            )
    observation, action, reward = episode
    steps = next(len(array) for array in (action, reward, observation) if array is not None)
    if len(observation) == steps + 1 and (action is not None or reward is not None):
        observation = observation[:steps]
    if steps == 0:
        raise layouts.refusal(
            path,
            f": episode {i} has no steps ({keys['observations']} {shown(observation.shape)}); "
            "nearest: leave it out",
        )
    for role, array in zip(layouts.ROLES, (observation, action, reward), strict=True):
        if array is not None and len(array) != steps:
            theirs = f"episode {i} has {steps} steps of actions, or one observation more"
            raise _unlike(path, keys[role], i, role, array, theirs, f"{keys[role]}[:{steps}]")
    return Episode(
        _observation(path, keys["observations"], i, observation, world, ref),
        None if action is None else _action(path, contents, i, action, world),
        None if reward is None else _reward(path, keys["rewards"], i, reward),
    )


def _unlike(
    path: Path, key: str, i: int, role: str, array: np.ndarray, theirs: str, how: str
) -> BadInput:
    """The error for an array of an episode whose shape differs from the world's."""
    text = (
        f": episode {i} has {role} {shown(array.shape)}, but {theirs} ({key}, {array.dtype}); "
        f"convert: {how}"
    )
    return layouts.refusal(path, text)


def _observation(
    path: Path, key: str, i: int, array: np.ndarray, world: World, ref: str
) -> np.ndarray:
    """The observations, float32[T, O]. Raises BadInput if they do not fit."""
    size = int(world.observation_size)  # type: ignore[arg-type]
    if array.ndim != 2 or array.shape[1] != size:
        how = f"irl-bench demos --env={ref} --out=example.npz writes an example with all {size}"
        if array.ndim == 1:
            how = (
                f"{key}[..., None]"
                if size == 1
                else f"np.eye({size})[{key}] if they are numbers of states"
            )
        elif array.ndim > 2 and int(np.prod(array.shape[1:])) == size:
            how = f"{key}.reshape(*{key}.shape[:-{array.ndim - 1}], {size})"
        elif array.ndim > 2:
            how = f"images are not read, record the {size} values of {world.name}'s observation"
        elif size == 1:
            how = f"{key}[..., None] where the last axis is time"
        elif array.shape[1] > size:
            how = f"{key}[..., COLUMNS] with the {size} columns that are {world.name}'s observation"
        raise _unlike(path, key, i, "observations", array, f"{world.name}'s are [T, {size}]", how)
    return _finite(path, key, i, "an observation", array)


def _reward(path: Path, key: str, i: int, array: np.ndarray) -> np.ndarray:
    """The rewards, float32[T]. Raises BadInput if they do not fit."""
    if array.shape not in ((len(array),), (len(array), 1)):
        raise _unlike(
            path, key, i, "rewards", array, f"a step has one, {[len(array)]}", f"{key}.sum(axis=-1)"
        )
    return _finite(path, key, i, "a reward", array.reshape(-1))


def _action(path: Path, contents: Contents, i: int, array: np.ndarray, world: World) -> np.ndarray:
    """The actions, float32[T, A] in [-1, 1] or int32[T]. Raises BadInput if they do not fit."""
    key, discrete, steps = contents.keys["actions"], world.n_actions, len(array)
    shape = (steps,) if discrete else (steps, world.action_size)
    if array.shape == (steps, 1) if discrete else shape == (*array.shape, 1):
        array = array.reshape(shape)
    if array.shape != shape:
        theirs = f"{world.name}'s are {shown(shape)}"
        if discrete and array.shape == (steps, discrete):
            how = f"{key}.argmax(-1) if they are one-hot"
        elif discrete:
            how = (
                f"np.array([ACTIONS.index(tuple(a)) for a in {key}]), {world.name} takes an "
                f"integer in 0..{discrete - 1} a step"
            )
        elif array.ndim == 1:
            how = (
                f"np.array(VALUES)[{key}], {world.name} takes {world.action_size} values in [-1, "
                "1] a step, no discrete action"
            )
        else:
            how = (
                f"{key}[..., COLUMNS] with the {world.action_size} columns that are "
                f"{world.name}'s action"
            )
        raise _unlike(path, key, i, "actions", array, theirs, how)
    values = _finite(path, key, i, "an action", array)
    if discrete:
        wrong = (array != np.floor(array.astype(np.float64))) | (array < 0) | (array >= discrete)
        if wrong.any():
            t = int(wrong.argmax())
            text = (
                f": episode {i} holds an action that is no integer in 0..{discrete - 1}, step "
                f"{t} ({key} is {array[t]},"
            )
            how = (
                f"{key} - {key}.min() if they begin elsewhere, np.round({key}) if they are "
                "almost whole"
            )
            raise layouts.refusal(path, f"{text} {array.dtype}); convert: {how}")
        return array.astype(np.int32)
    if np.abs(values).max() > 1.0 + TOLERANCE:
        largest = max(_largest(episode.action) for episode in contents.episodes)
        whole = (
            f", whole numbers, as of a discrete world, but {world.name} is none"
            if array.dtype.kind in "iu"
            else ""
        )
        text = (
            f": episode {i} holds an action of {np.abs(values).max():.4g}; they must be in [-1, 1]"
        )
        about = f"({key}, {array.dtype}, the largest {largest:.6g}{whole})"
        how = (
            f"{key} / {largest:.6g}, or (2 * {key} - (high + low)) / (high - low) with the "
            "bounds low and high"
        )
        raise layouts.refusal(path, f"{text} {about}; convert: {how}")
    return np.clip(values, -1.0, 1.0)


def _largest(array: np.ndarray | None) -> float:
    """The largest finite magnitude in an array, 0 without any."""
    values = np.abs(np.asarray(array, np.float64))
    return float(values.max(where=np.isfinite(values), initial=0.0))


def _finite(path: Path, key: str, i: int, what: str, array: np.ndarray) -> np.ndarray:
    """The array as float32. Raises BadInput for values that are not finite in float32."""
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    bad = ~np.isfinite(values.reshape(len(values), -1))
    if bad.any():
        t = int(bad.any(axis=1).argmax())
        value = array.reshape(len(array), -1)[t, int(bad[t].argmax())]
        text = (
            f": episode {i} holds {what} that is not finite, step {t} ({key} is {value} of "
            f"{array.dtype}; float32 ends at"
        )
        how = f"leave episode {i} out" + (f", or cut it, {key}[:{t}] of that episode" if t else "")
        raise layouts.refusal(path, f"{text} 3.4e38); convert: {how}")
    return values


def write_npz(path: Path, demos: Demonstrations, world: World) -> None:
    """Writes demonstrations, leaves [N, T, ...], as npz. Raises WriteError if that fails."""
    import io

    arrays: dict[str, Any] = {
        "observations": np.asarray(demos.observation),
        "world": np.asarray(world.name),
    }
    if demos.action is not None:
        arrays["actions"] = np.asarray(demos.action)
    if demos.reward is not None:
        arrays["rewards"] = np.asarray(demos.reward)
    if options := observed(world):
        arrays["world_options"] = np.asarray(_spelt(options))
    arrays["lengths"] = np.asarray(demos.mask).sum(axis=1).astype(np.int32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def check_new(path: Path) -> None:
    """Raises BadInput if `write_minari` cannot write to `path`: it exists already, or Minari does
    not accept the name."""
    if path.exists():
        raise BadInput(f"{path} is already there; nearest: --out={path}-2")
    if not DATASET.fullmatch(path.name):
        near = path.with_name(re.sub(r"[^-\w]+", "-", path.stem).strip("-") or "demos")
        raise BadInput(
            f"{path.name!r} is no name of a Minari dataset; nearest: --out={near}-v0, or "
            f"--out={near}.npz"
        )


def write_minari(
    path: Path, demos: Demonstrations, last: np.ndarray | jax.Array, world: World
) -> None:
    """Writes demonstrations with actions as a Minari dataset in the folder `path`.

    Args:
      path: folder of the dataset, which must not exist.
      demos: leaves [N, T, ...], with actions and rewards.
      last: float[N, O], the observation after the last step.
      world: the world of the demonstrations.

    Raises:
      BadInput: Minari is not installed, `path` exists, or Minari does not accept its name.
      WriteError: the dataset cannot be written.
    """
    try:
        import gymnasium
        import minari  # pyright: ignore[reportMissingTypeStubs] - the package has none
        from minari.data_collector import (  # pyright: ignore[reportMissingTypeStubs]
            EpisodeBuffer,
        )
    except ImportError:
        raise BadInput(
            "Minari datasets need the extra `data`; nearest: an --out that ends in .npz"
        ) from None
    check_new(path)
    library, buffer = cast("Any", minari), cast("Any", EpisodeBuffer)
    observation, action, reward, final = (
        np.asarray(x) for x in (demos.observation, demos.action, demos.reward, last)
    )
    buffers = [
        buffer(
            id=i,
            observations=np.concatenate([observation[i], final[i : i + 1]]),
            actions=action[i],
            rewards=reward[i],
            terminations=np.zeros(len(action[i]), bool),
            truncations=np.arange(len(action[i])) == len(action[i]) - 1,
        )
        for i in range(len(action))
    ]
    spaces = gymnasium.spaces
    shape = (world.action_size,)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(path.parent.absolute())
    try:
        with writing(path), warnings.catch_warnings():
            # Minari warns of missing authors and links, which a local file does not have.
            warnings.simplefilter("ignore", UserWarning)
            dataset = library.create_dataset_from_buffers(
                path.name,
                buffers,
                env=None,
                observation_space=spaces.Box(-np.inf, np.inf, observation.shape[-1:], np.float32),
                action_space=spaces.Discrete(world.n_actions)
                if world.n_actions
                else spaces.Box(-1.0, 1.0, shape, np.float32),
                algorithm_name="expert",
            )
        dataset.storage.update_metadata(
            {"irl_bench_world": world.name, "irl_bench_options": _spelt(observed(world))}
        )
    finally:
        os.environ.pop("MINARI_DATASETS_PATH")
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before


def summary(recorded: Recorded) -> dict[str, Any]:
    """Returns what the demonstrations hold: their number, lengths [steps], sizes, SHA-256 and the
    keys of the file that are ignored; JSON values."""
    lengths = recorded.mask.sum(axis=1)
    return json.loads(json.dumps({
        "episodes": len(lengths), "shortest": int(lengths.min()), "longest": int(lengths.max()),
        "observation": recorded.observation.shape[-1], "actions": recorded.action is not None,
        "rewards": recorded.reward is not None, "layout": recorded.layout,
        "sha256": recorded.sha256, "ignored": recorded.ignored,
    }))  # fmt: skip
