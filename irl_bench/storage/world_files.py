"""The files that a run's worlds are made of, kept in its folder as `files/<name>`, so that the run
can be used where they do not lie (`envs.files`)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from envs import files
from irl_bench.core.settings import BadInput
from irl_bench.storage import remote
from irl_bench.storage.files import StoreError, write_atomic, writing
from irl_bench.storage.plans import WorldRecord

FOLDER = "files"
"""Within the folder of a run."""


def keep(out: Path, worlds: Mapping[str, WorldRecord]) -> None:
    """Copies the files of a plan's worlds into the run's folder. A copy that was damaged is written
    anew.

    Args:
      out: the folder.
      worlds: {name: its record in the plan}.

    Raises:
      BadInput: a file is gone.
      WriteError: the folder cannot be written.
    """
    for record in worlds.values():
        for name in record["options"].values():
            try:
                content = files.content(name)
            except ValueError as error:
                raise BadInput(str(error)) from None
            if content is None:
                continue
            copy = out / FOLDER / name
            with writing(copy):
                there = copy.is_file() and files.is_sound(copy)
            if not there:
                write_atomic(copy, content)
            files.offer(copy)


def offer(out: Path) -> None:
    """Makes the files known that a run's folder keeps. Those that are damaged or cannot be read are
    passed over: who needs one will miss it."""
    remote.pull(out / FOLDER, "*")
    for path in _in(out):
        with contextlib.suppress(OSError):
            files.offer(path)


def kept(out: Path) -> list[Path]:
    """Returns where the files lie that a run's folder keeps. What else lies there is left out: the
    folder may be a stranger's.

    Raises:
      StoreError: one is damaged.
    """
    problems = damaged(out)
    if problems:
        raise StoreError(problems[0])
    return _in(out)


def damaged(out: Path) -> list[str]:
    """Returns a line for each file that a run's folder keeps and that does not hold what its name
    says."""
    lines: list[str] = []
    for path in _in(out):
        try:
            sound, why = files.is_sound(path), "does not hold what its name says"
        except OSError as error:
            sound, why = False, f"cannot be read ({error.strerror})"
        if not sound:
            lines.append(f"{path} {why}; nearest: the sweep's command, which writes it anew")
    return lines


def _in(out: Path) -> list[Path]:
    """The files of worlds in a run's folder, by their names."""
    paths = sorted((out / FOLDER).glob("*"))
    return [p for p in paths if files.is_named(p.name) and p.is_file() and not p.is_symlink()]
