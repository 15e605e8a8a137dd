"""Checkpoints of unfinished cells: arrays in Orbax, a SHA-256 of every file beside them, the two
newest kept.

In an object store a checkpoint is one object, `<cell>/<name>.safetensors`, of all its files.

Orbax commits a checkpoint atomically but does not notice a flipped bit, so every checkpoint is
verified before it is restored. A damaged one is skipped for the one before it; without a sound one
the cell starts again. Several workers may write in one folder: each has its own token in the names
of its checkpoints.

A run's folder may have come from a stranger. A folder of checkpoints that is a link out of it is
refused, and files with other names than `save` gives are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from irl_bench.core.cell import canonical
from irl_bench.storage import untrusted
from irl_bench.storage.files import (
    WriteError,
    check_link,
    links,
    store_of,
    write_here,
    writing,
)

KEPT = 2
"""Number of checkpoints that are kept."""
REMOVALS = 9
"""How often the folder of all checkpoints may go while one is made in it."""
_SEAL = "seal.json"
"""Name of the seal among the files of an object."""
_FILE = re.compile(r"[A-Za-z0-9._=+-]+(/[A-Za-z0-9._=+-]+)*")
"""Names of a checkpoint's files."""
_TOO_LATE = "Event loop is closed"
"""The error of a write that ends after another one has failed."""
_NAME = re.compile(r"[0-9]{12}\.[0-9a-f]{8}")
"""Names of checkpoints: the serial number and the token of the process that wrote it."""


def save(
    folder: Path, serial: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Writes a checkpoint into `folder` and removes all but the KEPT newest.

    Args:
      folder: the cell's folder of checkpoints.
      serial: grows with progress; the checkpoint with the highest is the newest.
      arrays: by name; no name may contain a slash.
      facts: JSON values that come back with the arrays.

    Raises:
      WriteError: it cannot be written, or the folder is a link out of the run; earlier checkpoints
        are untouched.
      StoreError: the object store does not take it.
    """
    check_link(folder.parent, folder)
    name = f"{serial:012d}.{_token(os.getpid())}"
    path = folder / name
    if _seal(folder, name).exists():
        return  # no progress since the last checkpoint
    stored = {key: np.asarray(value) for key, value in arrays.items()}
    # Orbax cannot hold an array without elements; its shape says all there is to know.
    empty = {
        key: [str(value.dtype), list(value.shape)]
        for key, value in stored.items()
        if value.size == 0
    }
    with writing(folder):
        _make(folder)
    try:
        full = {key: value for key, value in stored.items() if value.size}
        with _quiet():
            _orbax().save(path.absolute(), full or {"nothing": np.zeros(1)}, force=True)
        body = {"serial": serial, "facts": dict(facts), "empty": empty, "files": _digests(path)}
    except Exception as error:  # Orbax and its array library raise many kinds when a disk is full
        shutil.rmtree(path, ignore_errors=True)
        raise WriteError(f"cannot write checkpoint {path}: {_one_line(error)}") from error
    text = canonical(body)
    seal = {"body": body, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    write_here(_seal(folder, name), canonical(seal).encode())
    store = store_of(folder)
    if store is not None:
        store.put(_object(folder, name), _pack(folder, name))
    for old in _names(folder)[KEPT:]:
        if store is not None:
            store.remove(_object(folder, old))
        _seal(folder, old).unlink(missing_ok=True)
        shutil.rmtree(folder / old, ignore_errors=True)


def restore(
    folder: Path,
    note: Callable[[str], None],
    check: Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Returns the arrays and facts of the newest sound checkpoint, None if there is none.

    Args:
      folder: the cell's folder of checkpoints.
      note: is called with one line for each checkpoint that cannot be used.
      check: raises ValueError, in one line, if arrays and facts are not those that are needed.

    Raises:
      WriteError: the folder is a link out of the run.
    """
    check_link(folder.parent, folder)
    store = store_of(folder)
    here = _names(folder)
    there = _named(store.list(folder)) if store else []
    names = sorted({*here, *there}, reverse=True)
    for name in names:
        try:
            if store is not None and name not in here:
                _unpack(store.read(_object(folder, name)) or b"", folder, name)
            arrays, facts = _read(folder, name)
            if check is not None:
                check(arrays, facts)
            return arrays, facts
        except Exception as error:
            following = (
                "the one before it is used" if name != names[-1] else "the cell starts again"
            )
            note(f"checkpoint {folder / name} is damaged ({_one_line(error)}); {following}")
    return None


def remove(folder: Path) -> None:
    """Removes all checkpoints of a cell. Raises WriteError if the folder is a link out of the
    run."""
    check_link(folder.parent, folder)
    store = store_of(folder)
    if store is not None and folder.exists():
        for path in store.list(folder):
            store.remove(path)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # the last cell of the run removes the folder of all checkpoints


def _make(folder: Path) -> None:
    """Makes a cell's folder. Another worker may remove the folder of all checkpoints in between."""
    for _ in range(REMOVALS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)


@functools.cache
def _token(process: int) -> str:
    """The token of the process with this number. One that is drawn at import would be that of all
    processes that are forked afterwards."""
    return secrets.token_hex(4)


def _seal(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _object(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _pack(folder: Path, name: str) -> bytes:
    """All files of a checkpoint in one."""
    files = {
        file.relative_to(folder / name).as_posix(): file
        for file in sorted((folder / name).rglob("*"))
        if file.is_file()
    }
    contents = {file: path.read_bytes() for file, path in files.items()}
    contents[_SEAL] = _seal(folder, name).read_bytes()
    return save_arrays({file: np.frombuffer(data, np.uint8) for file, data in contents.items()})


def _unpack(content: bytes, folder: Path, name: str) -> None:
    """Writes the files of a checkpoint into the folder, its seal last."""
    _make(folder)  # `remove` asks the store for what had a folder
    files = {file: array.tobytes() for file, array in load_arrays(content).items()}
    seal = files.pop(_SEAL)
    for file in files:
        if not _FILE.fullmatch(file) or {".", ".."} & set(file.split("/")):
            raise ValueError(f"it names a file {file!r}")
    shutil.rmtree(folder / name, ignore_errors=True)
    for file, data in files.items():
        write_here(folder / name / file, data)
    write_here(_seal(folder, name), seal)


def _names(folder: Path) -> list[str]:
    """The names of the complete checkpoints, newest first."""
    return sorted(_named(folder.glob("*.json")), reverse=True)


def _named(paths: Iterable[Path]) -> list[str]:
    """The names of checkpoints among those of files."""
    return [path.stem for path in paths if _NAME.fullmatch(path.stem)]


def _read(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    place = folder / name
    # Looked at first: the files of a folder that is a link may be those of a whole disk.
    link = place if place.is_symlink() else next(links(place), None)
    if link is not None:
        raise ValueError(f"{link.relative_to(folder)} is a link")
    seal = json.loads(untrusted.content(_seal(folder, name)))
    body = seal["body"]
    if hashlib.sha256(canonical(body).encode()).hexdigest() != seal["sha256"]:
        raise ValueError("its list of digests does not match its own")
    digests = _digests(place)
    for file in sorted(digests.keys() | body["files"].keys()):
        if digests.get(file) != body["files"].get(file):
            raise ValueError(
                f"{file} {'does not match its SHA-256' if file in digests else 'is missing'}"
            )
    arrays = _orbax().restore(place.absolute())
    arrays = {key: np.asarray(value) for key, value in arrays.items() if key != "nothing"}
    arrays |= {key: np.zeros(shape, dtype) for key, (dtype, shape) in body["empty"].items()}
    return arrays, body["facts"]


def _digests(path: Path) -> dict[str, str]:
    digests: dict[str, str] = {}
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        with file.open("rb") as content:  # piece by piece: replay memories take gigabytes
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        digests[file.relative_to(path).as_posix()] = digest
    return digests


def _orbax() -> Any:
    # Orbax has no types. Importing it takes half a second, and most runs end without a checkpoint.
    import orbax.checkpoint as ocp  # pyright: ignore[reportMissingTypeStubs]

    # This process writes alone; by default Orbax would wait for all that JAX has joined.
    alone: Any = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    return ocp.Checkpointer(
        ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        multiprocessing_options=alone,
    )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keeps off the terminal what Orbax's threads tell of a write that fails, which is one line
    here: what they log, and how the writes beside it ended, which may come after `save`."""
    import absl.logging as absl_logging

    loggers: list[Any] = [absl_logging.get_absl_logger(), logging.getLogger("asyncio")]
    hook = sys.unraisablehook

    def nothing(record: logging.LogRecord) -> bool:
        return False

    def told(raised: Any) -> None:
        if str(raised.exc_value) != _TOO_LATE:
            hook(raised)

    for logger in loggers:
        logger.addFilter(nothing)
    sys.unraisablehook = told
    try:
        yield
        # Not after a failure: writes may still come to their end.
        sys.unraisablehook = hook
        loggers[1].removeFilter(nothing)
    finally:
        loggers[0].removeFilter(nothing)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
