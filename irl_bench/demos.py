"""Demonstrations as files: read from and written as npz or Minari (HDF5), and checked.

An npz holds `observations` float[N, T, O] and, unless only observations were recorded, `actions` float[N, T, A] (int[N, T] in a
discrete world); `lengths` int[N] where episodes differ, rows past them being ignored; and `world`, the name of the world.
A Minari dataset is its folder, with episodes of any length.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from envs.core import World
from irl_bench.algos.config import BadInput
from irl_bench.store import write_atomic
from irl_bench.types import Demonstrations

TOLERANCE = 1e-3
"""By how much an action may exceed [-1, 1]; it is clipped."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """N demonstrations of at most T steps, from a file."""

    observation: np.ndarray
    """float32[N, T, O]."""
    action: np.ndarray | None
    """float32[N, T, A] or int32[N, T]; None where only observations were recorded."""
    mask: np.ndarray
    """float32[N, T]."""
    sha256: str
    """Of the arrays."""

    def __hash__(self) -> int:
        return hash(self.sha256)

    def first(self, count: int) -> Recorded:
        """The first `count` episodes."""
        action = None if self.action is None else self.action[:count]
        return made(self.observation[:count], action, self.mask[:count])

    def tiled(self, width: int) -> Demonstrations:
        """The same demonstrations for each of `width` seeds."""
        arrays = (self.observation, self.action, self.mask)
        return Demonstrations(*(None if x is None else np.broadcast_to(x, (width, *x.shape)) for x in arrays))  # type: ignore


_held: dict[str, Recorded] = {}


def hold(found: Recorded) -> str:
    """Keeps it in memory for cells that name it, and returns the SHA-256 they name it by."""
    _held[found.sha256] = found
    return found.sha256


def held(sha256: str) -> Recorded:
    """What `hold` was given."""
    return _held[sha256]


def made(observation: np.ndarray, action: np.ndarray | None, mask: np.ndarray) -> Recorded:
    """With its hash."""
    digest = hashlib.sha256()
    for array in (observation, action, mask):
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return Recorded(observation, action, mask, digest.hexdigest())


def read(path: str | Path, world: World) -> Recorded:
    """The demonstrations in an npz file or the folder of a Minari dataset, checked against a world.

    Raises:
      BadInput: nothing there, a file of another kind, or demonstrations of another world, with wrong shapes, NaN, or actions
        out of range; one line that names the file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        episodes, name = _minari(path)
    elif path.suffix == ".npz":
        episodes, name = _npz(path)
    else:
        kind = "is missing" if not path.exists() else "is neither an .npz file nor the folder of a Minari dataset"
        raise BadInput(f"demonstrations: {path} {kind}; nearest: launch/demos.py writes one")
    if name and name != world.name:
        raise BadInput(f"{path} holds demonstrations of {name}, not of {world.name}; nearest: --env={name}")
    return _checked(path, episodes, world)


def _npz(path: Path) -> tuple[list[tuple[np.ndarray, np.ndarray | None]], str]:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise BadInput(f"demonstrations: {path} is missing; nearest: launch/demos.py writes one") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise BadInput(f"demonstrations: {path} is damaged or no npz file ({error})") from None
    if "observations" not in arrays or arrays["observations"].ndim != 3:
        raise BadInput(f"{path} must hold observations of shape [N, T, O]; it holds {', '.join(arrays) or 'nothing'}")
    observations, actions = arrays["observations"], arrays.get("actions")
    if actions is not None and actions.shape[:2] != observations.shape[:2]:
        raise BadInput(f"{path}: actions {list(actions.shape)} do not go with observations {list(observations.shape)}")
    lengths = arrays.get("lengths", np.full(len(observations), observations.shape[1]))
    if lengths.shape != (len(observations),) or (lengths < 1).any() or (lengths > observations.shape[1]).any():
        raise BadInput(f"{path}: lengths must be {len(observations)} numbers in 1..{observations.shape[1]}")
    cut = [int(length) for length in lengths]
    rows = [
        (o[:n], None if actions is None else actions[i, :n]) for i, (o, n) in enumerate(zip(observations, cut, strict=True))
    ]
    return rows, str(arrays.get("world", ""))


def _minari(path: Path) -> tuple[list[tuple[np.ndarray, np.ndarray | None]], str]:
    try:
        import minari
    except ImportError:
        raise BadInput(f"{path}: Minari datasets need the extra `data`; nearest: pip install 'irl-bench[data]'") from None
    folder = path if path.name == "data" else path / "data"
    if not folder.is_dir():
        raise BadInput(f"{path} is not the folder of a Minari dataset: it holds no data/")
    try:
        found = minari.MinariDataset(folder)
        rows = [(np.asarray(e.observations)[: len(e.actions)], np.asarray(e.actions)) for e in found.iterate_episodes()]
        name = str(found.storage.metadata.get("irl_bench_world", ""))
    except Exception as error:  # Minari and h5py raise many kinds for a damaged file
        raise BadInput(f"{path} is damaged or no Minari dataset ({' '.join(str(error).split())[:200]})") from None
    return rows, name


def _checked(path: Path, episodes: list[tuple[np.ndarray, np.ndarray | None]], world: World) -> Recorded:
    if not episodes:
        raise BadInput(f"{path} holds no episode")
    size, discrete = int(world.observation_size), world.n_actions  # type: ignore[arg-type]
    steps = max(len(observation) for observation, _ in episodes)
    shape = (steps,) if discrete else (steps, world.action_size)
    blind = episodes[0][1] is None
    observations = np.zeros((len(episodes), steps, size), np.float32)
    actions = np.zeros((len(episodes), *shape), np.int32 if discrete else np.float32)
    mask = np.zeros((len(episodes), steps), np.float32)
    for i, (observation, action) in enumerate(episodes):
        n = len(observation)
        if observation.shape[1:] != (size,):
            raise BadInput(
                f"{path}: episode {i} has observations {list(observation.shape)}, but {world.name}'s are [T, {size}]"
            )
        if not np.isfinite(observation).all():
            raise BadInput(f"{path}: episode {i} holds an observation that is not finite, step {_first_bad(observation)}")
        observations[i, :n], mask[i, :n] = observation, 1.0
        if action is None:
            continue
        if action.shape != (n, *shape[1:]):
            raise BadInput(f"{path}: episode {i} has actions {list(action.shape)}, but {world.name}'s are {[n, *shape[1:]]}")
        if not np.isfinite(action).all():
            raise BadInput(f"{path}: episode {i} holds an action that is not finite, step {_first_bad(action)}")
        if discrete:
            if (action != action.astype(np.int64)).any() or (action < 0).any() or (action >= discrete).any():
                raise BadInput(f"{path}: episode {i} holds an action that is no integer in 0..{discrete - 1}")
            actions[i, :n] = action
        else:
            if np.abs(action).max() > 1.0 + TOLERANCE:
                raise BadInput(f"{path}: episode {i} holds an action of {np.abs(action).max():.4g}; they must be in [-1, 1]")
            actions[i, :n] = np.clip(action, -1.0, 1.0)
    return made(observations, None if blind else actions, mask)


def _first_bad(values: np.ndarray) -> int:
    return int(np.argmax(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)))


def write_npz(path: Path, demos: Demonstrations, world: World) -> None:
    """Writes demonstrations [N, T, ...] as npz."""
    import io

    arrays: dict[str, Any] = {"observations": np.asarray(demos.observation), "world": np.asarray(world.name)}
    if demos.action is not None:
        arrays["actions"] = np.asarray(demos.action)
    arrays["lengths"] = np.asarray(demos.mask).sum(axis=1).astype(np.int32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def write_minari(path: Path, demos: Demonstrations, last: np.ndarray, world: World) -> None:
    """Writes demonstrations with actions as a Minari dataset in the folder `path`.

    Args:
      path: of the dataset, which must not exist.
      demos: [N, T, ...], with rewards.
      last: float[N, O], the observation after the last step.
      world: whose they are.

    Raises:
      BadInput: Minari is not installed, or something is at `path`.
    """
    try:
        import gymnasium
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError:
        raise BadInput("Minari datasets need the extra `data`; nearest: an --out that ends in .npz") from None
    if path.exists():
        raise BadInput(f"{path} is already there; nearest: --out={path}-2")
    observation, action, reward = (np.asarray(x) for x in (demos.observation, demos.action, demos.reward))
    buffers = [
        EpisodeBuffer(
            id=i,
            observations=np.concatenate([observation[i], last[i : i + 1]]),
            actions=action[i],
            rewards=reward[i],
            terminations=np.zeros(len(action[i]), bool),
            truncations=np.arange(len(action[i])) == len(action[i]) - 1,
        )
        for i in range(len(action))
    ]
    spaces = gymnasium.spaces
    shape = (world.action_size,)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(path.parent.absolute())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of authors and links that a local file does not have
            made = minari.create_dataset_from_buffers(
                path.name,
                buffers,
                env=None,
                observation_space=spaces.Box(-np.inf, np.inf, observation.shape[-1:], np.float32),
                action_space=spaces.Discrete(world.n_actions) if world.n_actions else spaces.Box(-1.0, 1.0, shape, np.float32),
                algorithm_name="expert",
            )
        made.storage.update_metadata({"irl_bench_world": world.name})
    finally:
        os.environ.pop("MINARI_DATASETS_PATH")
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before


def summary(found: Recorded) -> dict[str, Any]:
    """What is in it; JSON values."""
    lengths = found.mask.sum(axis=1)
    return json.loads(json.dumps({
        "episodes": len(lengths), "shortest": int(lengths.min()), "longest": int(lengths.max()),
        "observation": found.observation.shape[-1], "actions": found.action is not None, "sha256": found.sha256,
    }))  # fmt: skip
