"""The learned policies and rewards of finished cells on disk.

`<out>/learned/<key>.safetensors` holds the leaves of both with a leading axis of seeds. Its
metadata names the algorithm, the settings and the shapes, so that the file alone is enough to use
them. The metadata also holds the SHA-256 of the rest, which is verified when the file is read. The
cell's manifest holds the SHA-256 of the whole file, so a file that another worker has learned does
not pass for that of the stored cell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from irl_bench.core.cell import CellSpec, canonical
from irl_bench.core.handover import Part
from irl_bench.core.settings import BadInput
from irl_bench.storage import learned, remote
from irl_bench.storage.cells import cell_path, learned_path, look, read_cell
from irl_bench.storage.files import StoreError, write_atomic


@dataclasses.dataclass(frozen=True)
class Artifact:
    """The content of one or more files that share algorithm, settings and world.

    Attributes:
      algo, env, config, demos, demo_steps, horizon: as in the cell that learned it.
      sha256: SHA-256 of everything in the files.
      kind: short hash of the cell without its seeds. Files of one kind can be combined.
      arrays: {seed: {part: list of leaves}}.
      shared: whether every seed uses the arrays of seed 0.
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
    shared: bool = False

    def leaves(self, part: Part, seeds: range) -> list[np.ndarray]:
        """Returns the leaves of a part, each with a leading axis of the seeds.

        Raises BadInput if a seed has no such part.
        """
        if self.shared:
            leaves = self.arrays[0][part]
            return [np.broadcast_to(leaf, (len(seeds), *leaf.shape)) for leaf in leaves]
        for seed in seeds:
            if part not in self.arrays.get(seed, {}):
                stored = sorted(seed for seed, parts in self.arrays.items() if part in parts)
                span = f"seeds {stored[0]} to {stored[-1]}" if stored else "none"
                first = stored[0] if stored else 0
                raise BadInput(
                    f"no learned {part} of {self.algo} for seed {seed} (stored: {span}); nearest: "
                    f"--first_seed={first} --seeds={len(stored)}"
                )
        stacked = zip(*(self.arrays[seed][part] for seed in seeds), strict=True)
        return [np.stack(leaves) for leaves in stacked]


def write(out: Path, spec: CellSpec, key: str, parts: Mapping[str, Any]) -> Path:
    """Stores what a cell learned and returns the file's path.

    Args:
      out: the run's folder.
      spec, key, parts: as of `encode`.

    Raises:
      WriteError: the file cannot be written.
    """
    path = learned_path(out, key)
    write_atomic(path, encode(spec, key, parts))
    return path


def encode(spec: CellSpec, key: str, parts: Mapping[str, Any]) -> bytes:
    """Returns the bytes of the file of what a cell learned; equal parts give equal bytes.

    Args:
      spec: the cell.
      key: the cell's key.
      parts: {part: pytree}; every leaf has a leading axis of the cell's seeds.
    """
    arrays = {
        f"{part}.{index:03d}": np.ascontiguousarray(leaf)
        for part, tree in parts.items()
        for index, leaf in enumerate(jax.tree.leaves(tree))
    }
    digest = _digest(arrays, spec.to_dict())
    header = canonical({"spec": spec.to_dict(), "key": key, "sha256": digest})
    return save(arrays, {"irl_bench": header})


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, which the manifest of its cell holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def key_of(path: Path) -> str:
    """Returns the key of the cell that learned what a file holds.

    Raises:
      BadInput: the file is damaged or foreign; one line that names it.
    """
    return str(_header(path).get("key"))


def read(path: str | Path, parts: Sequence[Part] = ("reward",)) -> Artifact:
    """Returns the artifact in a file, or in all files of a run's folder that hold `parts`. A file
    in a run's folder must be what the stored cell has learned; a cell of an earlier version does
    not say what that is.

    Args:
      path: a file or folder, or its URL. If a folder holds several kinds: FOLDER:KIND or
        FOLDER:ALGORITHM.
      parts: what the caller needs.

    Raises:
      BadInput: there is no such file, it is damaged or foreign, or the files are of several
        algorithms; one line that names it.
    """
    name, colon, kind = str(path).rpartition(":")
    if not colon or "/" in kind or Path(path).exists():
        name, kind = str(path), ""
    path, wanted = _on_disk(name), " and ".join(parts)
    shown = remote.shown(path)
    if path.is_dir():
        folder = path if path.name == "learned" else path / "learned"
        files = sorted(folder.glob("*.safetensors"))
    else:
        files = [path]
    if not files or not path.exists():
        raise BadInput(
            f"{shown} holds no learned {wanted}; nearest: --given=RUN, the folder of a run of "
            "gail or airl (stored in RUN/learned)"
        )
    kinds: dict[str, list[Artifact]] = {}
    for file in files:
        artifact = _read(file)
        complete = any(set(parts) <= stored.keys() for stored in artifact.arrays.values())
        if complete and kind in ("", artifact.kind, artifact.algo):
            kinds.setdefault(artifact.kind, []).append(artifact)
    if len(kinds) != 1:
        listed = ", ".join(f"{kind} ({group[0].algo})" for kind, group in sorted(kinds.items()))
        hint = f"--given={shown}:{min(kinds)}" if kinds else "a run of gail or airl"
        raise BadInput(
            f"{shown} must hold the {wanted} of one algorithm, mode and setting, not of "
            f"{listed or 'none'}; nearest: {hint}"
        )
    (group,) = kinds.values()
    arrays: dict[int, Mapping[str, list[np.ndarray]]] = {}
    for artifact in group:
        twice = sorted(arrays.keys() & artifact.arrays.keys())
        if twice:
            raise BadInput(
                f"{shown} holds seed {twice[0]} more than once, from other versions; nearest: "
                f"{remote.shown(files[-1])}"
            )
        arrays |= artifact.arrays
    digest = hashlib.sha256("".join(sorted(each.sha256 for each in group)).encode()).hexdigest()
    return dataclasses.replace(group[0], arrays=arrays, sha256=digest)


def _on_disk(name: str) -> Path:
    """The file or folder on disk of a path or URL, after what the run has learned was brought: in
    an object store another machine may have learned it."""
    run, inside, file = name.partition("/learned/") if remote.is_url(name) else (name, "", "")
    path = remote.folder(run)
    if not path.is_file():
        remote.pull(path, "learned/*.safetensors")
    return path / "learned" / file if inside else path


def _check_cell(path: Path) -> None:
    """Raises BadInput if a file is in a run's folder and not what the stored cell has learned. A
    cell that is missing or damaged says nothing of it."""
    if path.parent.name != "learned":
        return
    cell = cell_path(path.parents[1], path.stem)
    try:
        if not cell.exists():
            look(path.parents[1], path.stem)
        manifest, _ = read_cell(cell)
    except StoreError:
        return
    stored = manifest.get("learned")
    if stored and stored != sha256(path):
        raise BadInput(
            f"{remote.shown(path)} is not what the stored cell has learned, whose SHA-256 begins "
            f"with {stored[:8]}; nearest: move it and the cell of its name away and run the sweep "
            "again"
        )


def _digest(arrays: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> str:
    content = save(dict(sorted(arrays.items())))
    return hashlib.sha256(canonical(dict(spec)).encode() + content).hexdigest()


@contextlib.contextmanager
def _one_line(path: Path) -> Generator[None]:
    """Makes one line of what goes wrong with a file."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{remote.shown(path)} is missing; nearest: the folder of a run") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise BadInput(
            f"{remote.shown(path)} is damaged or not a file of this program; nearest: copy it again"
        ) from None


def _header(path: Path) -> dict[str, Any]:
    learned.check(path)
    with _one_line(path), cast("Any", safe_open)(path, "np") as file:
        header = json.loads(file.metadata()["irl_bench"])
        return {**header}


def _read(path: Path) -> Artifact:
    header = _header(path)
    with _one_line(path):
        with cast("Any", safe_open)(path, "np") as file:  # safetensors leaves its methods untyped
            names: Iterable[str] = file.keys()
            arrays: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in names}
        spec = CellSpec.from_dict(header["spec"])
    if _digest(arrays, header["spec"]) != header.get("sha256"):
        raise BadInput(
            f"{remote.shown(path)} is damaged: its SHA-256 does not fit; nearest: copy it again"
        )
    _check_cell(path)
    by_seed: dict[int, dict[str, list[np.ndarray]]] = {seed: {} for seed in spec.seeds}
    for name in sorted(arrays):
        for row, seed in enumerate(spec.seeds):
            by_seed[seed].setdefault(name.split(".")[0], []).append(arrays[name][row])
    seedless = {k: v for k, v in spec.to_dict().items() if k != "first_seed"}
    kind = hashlib.sha256(canonical(seedless).encode()).hexdigest()[:8]
    return Artifact(
        algo=spec.algo,
        env=spec.env,
        config=dict(spec.config),
        demos=spec.demos,
        demo_steps=spec.demo_steps,
        horizon=spec.horizon,
        sha256=header["sha256"],
        kind=kind,
        arrays=by_seed,
    )
