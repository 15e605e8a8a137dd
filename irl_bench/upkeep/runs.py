"""The runs in a folder: that of a sweep, or those of a study's parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.storage.plans import read_plan
from irl_bench.studies.study import INDEX

_PART = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


def index_of(folder: Path) -> dict[str, Any] | None:
    """Returns the index of a study's folder; None if the folder is not a study's.

    Raises:
      BadInput: the index is damaged, or a part has a name that leads out of the folder.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        index: Any = json.loads(path.read_bytes())
        parts = list(index["parts"])
        sound = isinstance(index["study"], str) and isinstance(index["parts"], Mapping)
    except (OSError, ValueError, KeyError, TypeError):
        sound, parts, index = False, [], {}
    if not sound:
        raise BadInput(f"{path} is damaged; nearest: run the study's command again")
    for part in parts:
        if not _PART.fullmatch(part) or {".", ".."} & set(part.split("/")):
            raise BadInput(f"{path} names a part {part!r}, which is no folder of a study")
    return index


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
