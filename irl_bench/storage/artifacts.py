"""What a finished cell has learned, on disk: the policy and, if there is one, the reward of each of
its seeds.

`<out>/learned/<key>.safetensors` holds the leaves of both with a leading axis of seeds. Its
metadata says which algorithm, settings and shapes they belong to, so that the file alone is enough
to use them, and a SHA-256 of the rest, verified when read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from irl_bench.core import folders
from irl_bench.core.cell import CellSpec, canonical
from irl_bench.core.settings import BadInput
from irl_bench.labelling import clips
from irl_bench.storage.cells import write_atomic


@dataclasses.dataclass(frozen=True)
class Learned:
    """The content of one or more files of the same algorithm, settings and world.

    Attributes:
      algo, env, config, demos, demo_steps, horizon: as in the cell that made it.
      sha256: of all that follows from the files.
      kind: short hash of everything in the cell but its seeds: files of one kind may stand
        together.
      arrays: {seed: {part: list of leaves}}.
    """

    algo: str
    env: str
    config: Mapping[str, Any]
    demos: int
    demo_steps: int
    horizon: int
    sha256: str
    kind: str
    arrays: Mapping[int, Mapping[str, list[np.ndarray]]]

    def __hash__(self) -> int:
        return hash(self.sha256)

    def of(self, part: str, seeds: range) -> list[np.ndarray]:
        """The leaves of a part, or of PART+PART, for some seeds, stacked. Raises BadInput if one
        of them has none."""
        if "+" in part:
            return [leaf for one in part.split("+") for leaf in self.of(one, seeds)]
        for seed in seeds:
            if part not in self.arrays.get(seed, {}):
                held = sorted(seed for seed, parts in self.arrays.items() if part in parts)
                span = f"seeds {held[0]} to {held[-1]}" if held else "none"
                raise BadInput(f"no learned {part} of {self.algo} for seed {seed} ({span} there); "
                               "nearest: --first_seed="
                               f"{held[0] if held else 0} --seeds={len(held)}")  # fmt: skip
        return [
            np.stack(leaves)
            for leaves in zip(*(self.arrays[seed][part] for seed in seeds), strict=True)
        ]


_held: dict[str, Learned] = {}


def hold(found: Learned) -> str:
    """Keeps it in memory for cells that name it, and returns the SHA-256 they name it by."""
    _held[found.sha256] = found
    return found.sha256


def held(sha256: str) -> Learned:
    """What `hold` was given."""
    return _held[sha256]


def path_of(out: Path, key: str) -> Path:
    return out / "learned" / f"{key}.safetensors"


def write(out: Path, spec: CellSpec, key: str, parts: Mapping[str, Any]) -> Path:
    """Stores pytrees with a leading axis of the cell's seeds; returns the file's path."""
    arrays = {
        f"{part}.{index:03d}": np.ascontiguousarray(leaf)
        for part, tree in parts.items()
        for index, leaf in enumerate(jax.tree.leaves(tree))
    }
    digest = _digest(arrays, spec.to_dict())
    path = path_of(out, key)
    write_atomic(
        path,
        save(
            arrays, {"irl_bench": canonical({"spec": spec.to_dict(), "key": key, "sha256": digest})}
        ),
    )
    return path


def read(path: str | Path, part: str = "reward") -> Learned:
    """What the file holds, or all files of a run's folder that hold `part`; of several kinds,
    FOLDER:KIND or FOLDER:ALGORITHM.

    Raises:
      BadInput: no such file, one that is damaged or foreign, or files of several algorithms; one
        line that names it.
    """
    name, colon, kind = str(path).rpartition(":")
    if not colon or Path(path).exists():
        name, kind = str(path), ""
    path = folders.expand(name)
    if part == clips.PART:
        return clips.read(path)
    if path.is_dir():
        folder = path if path.name == "learned" else path / "learned"
        files = sorted(folder.glob("*.safetensors"))
    else:
        files = [path]
    if not files or not path.exists():
        raise BadInput(
            f"{path} holds no learned {part}; an algorithm that learns one (gail, airl) leaves it "
            "in RUN/learned"
        )
    found: dict[str, list[Learned]] = {}
    for file in files:
        one = _read(file)
        whole = any(set(part.split("+")) <= parts.keys() for parts in one.arrays.values())
        if whole and kind in ("", one.kind, one.algo):
            found.setdefault(one.kind, []).append(one)
    if len(found) != 1:
        kinds = (
            ", ".join(f"{kind} ({group[0].algo})" for kind, group in sorted(found.items()))
            or "none"
        )
        hint = f"--given={path}:{min(found)}" if found else "a run of gail or airl"
        raise BadInput(
            f"{path} must hold the {part} of one algorithm, mode and setting, not of {kinds}; "
            f"nearest: {hint}"
        )
    (group,) = found.values()
    arrays: dict[int, Mapping[str, list[np.ndarray]]] = {}
    for one in group:
        twice = sorted(arrays.keys() & one.arrays.keys())
        if twice:
            raise BadInput(
                f"{path} holds seed {twice[0]} more than once, from other versions; nearest: "
                f"{files[-1]}"
            )
        arrays |= one.arrays
    digest = hashlib.sha256("".join(sorted(one.sha256 for one in group)).encode()).hexdigest()
    return dataclasses.replace(group[0], arrays=arrays, sha256=digest)


def _digest(arrays: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        canonical(dict(spec)).encode() + save(dict(sorted(arrays.items())))
    ).hexdigest()


def _read(path: Path) -> Learned:
    try:
        with safe_open(path, "np") as file:
            header = json.loads(file.metadata()["irl_bench"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        spec = CellSpec.from_dict(header["spec"])
    except FileNotFoundError:
        raise BadInput(f"{path} is missing") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise BadInput(f"{path} is damaged or not a file of this program") from None
    if _digest(arrays, header["spec"]) != header.get("sha256"):
        raise BadInput(f"{path} is damaged: its SHA-256 does not fit")
    by_seed: dict[int, dict[str, list[np.ndarray]]] = {seed: {} for seed in spec.seeds}
    for name in sorted(arrays):
        for row, seed in enumerate(spec.seeds):
            by_seed[seed].setdefault(name.split(".")[0], []).append(arrays[name][row])
    seedless = {k: v for k, v in spec.to_dict().items() if k != "first_seed"}
    kind = hashlib.sha256(canonical(seedless).encode()).hexdigest()[:8]
    facts = (spec.algo, spec.env, dict(spec.config), spec.demos, spec.demo_steps, spec.horizon)
    return Learned(*facts, header["sha256"], kind, by_seed)
