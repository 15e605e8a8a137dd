"""How far a run is, from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from irl_bench.core.text import aligned
from irl_bench.plan.shards import seconds_of
from irl_bench.running import leases
from irl_bench.storage import cells as stored_cells
from irl_bench.storage import untrusted
from irl_bench.storage.plans import PlanEntry, read_plan
from irl_bench.storage.untrusted import Check
from irl_bench.upkeep.runs import log_lines, not_begun, runs_in

_ALIKE = ("algo", "env", "width", "horizon", "episodes")
"""Cells that agree in these fields take about the same time."""


_LINE: Mapping[str, Check] = {
    "wall": lambda value: untrusted.number(value) and 0 <= value < 1e9,
    "algo": untrusted.name,
    "env": untrusted.name,
    **dict.fromkeys(("width", "horizon", "episodes"), untrusted.whole()),
}
"""The fields of a line of the log that are read here."""


class Times:
    """Times of cells: as logged in a run, else as measured on two CPU cores.

    Args:
      log: the runner's log.jsonl, which may be missing.
    """

    def __init__(self, log: Path):
        self._logged: dict[tuple[Any, ...], list[float]] = {}
        self.failed: dict[str, list[int]] = {}
        """{key: seeds that failed}, of the cells in the log that have any."""
        for record in log_lines(log):
            # A line cut short by a crash says nothing about time.
            if untrusted.fields(record, _LINE) is None:
                place = tuple(record[name] for name in _ALIKE)
                # The cell's own share of the time it was computed in.
                self._logged.setdefault(place, []).append(float(record["wall"]))
                failed = record.get("failed")
                if untrusted.key(record.get("key")) and isinstance(failed, list) and failed:
                    self.failed[record["key"]] = cast("list[int]", failed)

    def of(self, cell: Mapping[str, Any]) -> float | None:
        """Returns the expected wall time of a cell [s]; None if nothing like it has run. A logged
        time has compilation in it, others do not.

        Args:
          cell: its fields `algo`, `env`, `width`, `horizon` and `episodes`.
        """
        logged = self._logged.get(tuple(cell[name] for name in _ALIKE))
        if logged:
            return sum(logged) / len(logged)
        return seconds_of(cell["env"], cell["algo"], cell["episodes"])

    def total(self, cells: Iterable[Mapping[str, Any]]) -> tuple[float, int]:
        """Returns the expected time of cells one after another [s], and the number of cells without
        an estimate."""
        each = [self.of(cell) for cell in cells]
        return sum(seconds for seconds in each if seconds), sum(s is None for s in each)


def status(folder: Path, cells: bool = False) -> tuple[str, bool]:
    """Returns the status of a run as text, and whether all of its cells are stored.

    Args:
      folder: of a sweep or a study.
      cells: whether to list the keys of all cells.

    Raises:
      BadInput, StoreError: the folder holds no run, or a plan is damaged; one line.
    """
    lines: list[str] = []
    missing = 0
    for part, place in runs_in(folder).items():
        text, absent = _of_run(place, cells)
        lines += [f"{part}:", *text] if part else text
        missing += absent
    parts = not_begun(folder)
    lines += [f"{part}: not begun" for part in parts]
    return "\n".join(lines), missing == 0 and not parts


def _of_run(folder: Path, cells: bool) -> tuple[list[str], int]:
    """The lines about one run, and the number of cells that are not stored."""
    plan = read_plan(folder)
    assert plan is not None  # `runs_in` has looked
    claimed, times = leases.all_of(folder), Times(folder / "log.jsonl")
    done = stored_cells.stored(folder)
    rows: list[tuple[str, ...]] = [
        ("world", "mode", "algorithm", "cells", "stored", "running", "failed seeds")
    ]
    left: list[dict[str, Any]] = []
    listed: list[str] = []
    running = [
        key
        for entry in plan["entries"]
        for key in entry["cells"]
        if key in claimed and key not in done and not leases.lost(folder, key, claimed[key])
    ]
    for entry in plan["entries"]:
        stored = [key for key in entry["cells"] if key in done]
        left += [_fields(entry) for key in entry["cells"] if key not in stored]
        failed = sum(len(times.failed.get(key, ())) for key in entry["cells"])
        counts = (len(entry["cells"]), len(stored), sum(key in running for key in entry["cells"]))
        rows.append(
            (entry["env"], entry["mode"], entry["algo"], *map(str, counts), str(failed or ""))
        )
        for place, key in enumerate(entry["cells"]):
            first = entry["seeds"][0] + place * entry["settings"]["width"]
            state = "stored" if key in stored else "running" if key in running else "to do"
            listed.append(f"  {key}  {state:<7}  {entry['algo']} {entry['env']} {entry['mode']} "
                          f"seeds {first}-{first + entry['settings']['width'] - 1}")  # fmt: skip
    lines = [*aligned(rows, range(3)), ""]
    if cells:
        lines += [*listed, ""]
    for key in running:
        lease = claimed[key]
        lines.append(
            f"running: {lease['label']}, {leases.described(lease)}, since "
            f"{_clock(lease['since'])}, last seen {_ago(folder / 'leases' / f'{key}.json')}"
        )
    if not left:
        return [*lines, "all cells are stored"], 0
    seconds, unknown = times.total(left)
    workers = len({claimed[key]["worker"] for key in running})
    expected = f"about {_duration(seconds)} of one worker" if len(left) > unknown else ""
    if expected and workers > 1:
        expected += f", {_duration(seconds / workers)} of the {workers} that run"
    if unknown:
        expected += f"{' and ' if expected else ''}an unknown time for {unknown} of them"
    return [*lines, f"{len(left)} cells are not stored yet: {expected}"], len(left)


def _fields(entry: PlanEntry) -> dict[str, Any]:
    """What the time of an entry's cells depends on."""
    return {**entry["settings"], "algo": entry["algo"], "env": entry["env"]}


def _clock(since: float) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(since))


def _ago(path: Path) -> str:
    """How long ago a file was written, as text."""
    try:
        return f"{_duration(max(0.0, time.time() - path.stat().st_mtime))} ago"
    except OSError:
        return "just now"


def _duration(seconds: float) -> str:
    """A time as text."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
