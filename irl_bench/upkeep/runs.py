"""The runs in a folder: that of a sweep, or those of a study's parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.storage import untrusted
from irl_bench.storage.plans import read_plan
from irl_bench.studies.study import index_of

__all__ = ["index_of", "log_lines", "not_begun", "runs_in"]

MOST_LOG = untrusted.MOST_IN["log"]
"""The largest log that is read [bytes]."""


def log_lines(log: Path) -> Iterator[Any]:
    """Yields the lines of a run's log that are JSON values; nothing if there is no log."""
    try:
        lines = untrusted.content(log, MOST_LOG).splitlines()
    except OSError:
        return
    for line in lines:
        try:
            value = untrusted.parsed(line)
        except ValueError:
            continue  # cut short by a crash
        yield value


def runs_in(folder: Path) -> dict[str, Path]:
    """Returns {part: folder} of the runs in a folder that have a plan. A sweep's is the part "".

    Raises:
      BadInput: the folder holds no run, or its index is damaged; one line.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BadInput(f"{folder} {what}; nearest: the folder that --out of a sweep names")
    index = index_of(folder)
    places = {"": folder} if index is None else {part: folder / part for part in index["parts"]}
    found = {part: place for part, place in places.items() if read_plan(place)}
    if not found:
        raise BadInput(
            f"{folder} is not the folder of a run: it holds no plan.json; nearest: the folder that "
            "--out of a sweep names"
        )
    return found


def not_begun(folder: Path) -> list[str]:
    """Returns the parts of a study's folder that have no plan yet; none of a sweep's.

    Raises:
      BadInput: as `index_of`.
    """
    index = index_of(folder)
    return [part for part in index["parts"] if not read_plan(folder / part)] if index else []
