"""Layouts of demonstration files: each reader splits one into episodes.

docs/reference/demonstration-files.md shows all layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from irl_bench.storage.layouts.arrays import read_hdf5, read_npz
from irl_bench.storage.layouts.contents import (
    ALIASES,
    ROLES,
    SAVE,
    SHOWN,
    Contents,
    Episode,
    check_numbers,
    kind_of,
    reading,
    refusal,
    shown,
)
from irl_bench.storage.layouts.conversions import REFUSED
from irl_bench.storage.layouts.datasets import read_imitation, read_lerobot, read_minari

__all__ = [
    "ALIASES",
    "ROLES",
    "Contents",
    "Episode",
    "check_numbers",
    "read",
    "refusal",
    "shown",
]

FILES: Mapping[str, Callable[[Path], Contents]] = {
    ".npz": read_npz,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}
"""Readers of files, by suffix in lower case."""

FOLDERS: Mapping[str, Callable[[Path], Contents]] = {
    "meta/info.json": read_lerobot,
    "state.json": read_imitation,
    "data/metadata.json": read_minari,
    "data/main_data.hdf5": read_minari,
    "metadata.json": read_minari,
}
"""Readers of folders, by what a folder holds. The first match counts."""


def read(path: Path) -> Contents:
    """Splits a file or folder into episodes.

    Raises:
      BadInput: there is nothing, it cannot be read, its layout is unknown or it holds no numbers;
        one line that names the file and says how to convert it.
    """
    with reading(path, "demonstrations"):
        if not path.exists():
            raise refusal(
                f"demonstrations: {path}", " is missing; nearest: irl-bench demos writes one"
            )
        suffix = path.suffix.lower().split("-")[0]  # a shard's suffix is .tfrecord-00000-of-00002
        if suffix in REFUSED and (suffix == ".zarr" or not path.is_dir()):
            raise refusal(
                path, f" is of the kind {suffix}, which is not read; convert: {REFUSED[suffix]}"
            )
        reader = _folder(path) if path.is_dir() else _file(path, suffix)
    return reader(path)


def _file(path: Path, suffix: str) -> Callable[[Path], Contents]:
    """The reader of a file, by its suffix; its first bytes must agree."""
    kind = kind_of(path)
    if suffix in FILES and kind is not None and FILES.get(kind) is not FILES[suffix]:
        how = f"rename it to {path.stem}{kind}" if kind in FILES else REFUSED[kind]
        raise refusal(path, f" is a {kind} file by its first bytes, not {suffix}; convert: {how}")
    if suffix not in FILES:
        how = f"rename it to {path.stem}{kind}, what it looks like" if kind in FILES else SAVE
        names = " or ".join(FILES)
        raise refusal(
            f"demonstrations: {path}",
            f" is neither a file {names} nor the folder of a Minari, LeRobot or imitation dataset; "
            f"convert: {how}",
        )
    if kind is None and not path.stat().st_size:
        raise refusal(
            path,
            " is empty (0 bytes); nearest: copy or download it again, irl-bench demos writes one",
        )
    return FILES[suffix]


def _folder(path: Path) -> Callable[[Path], Contents]:
    """The reader of a folder, by what it holds."""
    for holds, reader in FOLDERS.items():
        if (path / holds).exists():
            return reader
    names = sorted(name.name for name in path.iterdir())
    if "dataset_dict.json" in names:
        raise refusal(
            path, f" holds several datasets; nearest: one of its folders, {path.name}/train"
        )
    if any(".tfrecord" in name for name in names):
        raise refusal(
            path, f" holds .tfrecord files, which are not read; convert: {REFUSED['.tfrecord']}"
        )
    if ".zgroup" in names or "zarr.json" in names:
        raise refusal(path, f" is a Zarr folder, which is not read; convert: {REFUSED['.zarr']}")
    files = [name for name in names if Path(name).suffix.lower() in FILES]
    if files:
        raise refusal(path, f" is a folder; nearest: one of its files, {', '.join(files[:SHOWN])}")
    raise refusal(
        path,
        " is a folder of no dataset: it holds no data/ of Minari, no meta/info.json of LeRobot and "
        "no state.json of imitation;"
        f" convert: {SAVE}",
    )
