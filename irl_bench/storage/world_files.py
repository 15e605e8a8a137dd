"""The files that a run's worlds are made of, kept in its folder as `files/<name>`, so that the run
can be used where they do not lie (`envs.files`)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from envs import files
from irl_bench.storage import remote
from irl_bench.storage.files import write_atomic
from irl_bench.storage.plans import WorldRecord

FOLDER = "files"
"""Within the folder of a run."""
LARGEST = 64 * 2**20
"""Size of the largest file that is read from there [bytes]."""


def keep(out: Path, worlds: Mapping[str, WorldRecord]) -> None:
    """Copies the files of a plan's worlds into the run's folder.

    Args:
      out: the folder.
      worlds: {name: its record in the plan}.

    Raises:
      BadInput: a file is gone.
      WriteError: the folder cannot be written.
    """
    for record in worlds.values():
        for name in record["options"].values():
            path, copy = files.known(name), out / FOLDER / name
            if path is not None and path != copy.absolute() and not copy.exists():
                write_atomic(copy, path.read_bytes())


def offer(out: Path) -> None:
    """Makes the files known that a run's folder keeps. Those that cannot be read are passed over:
    who needs one will miss it."""
    remote.pull(out / FOLDER, "*")
    for path in kept(out):
        with contextlib.suppress(OSError):
            files.offer(path)


def kept(out: Path) -> list[Path]:
    """Returns where the files lie that a run's folder keeps. Other things there, and what no road
    needs so many bytes for, are left out: the folder may be a stranger's."""
    paths = sorted((out / FOLDER).glob("*"))
    return [path for path in paths if path.is_file() and path.stat().st_size <= LARGEST]
