"""How far a run is, from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from irl_bench.core.text import aligned
from irl_bench.plan import rates
from irl_bench.running import leases
from irl_bench.storage import cells as stored_cells
from irl_bench.storage import untrusted
from irl_bench.storage.plans import PlanEntry, read_plan
from irl_bench.storage.untrusted import Check
from irl_bench.upkeep.runs import log_lines, not_begun, runs_in

_ALIKE = ("width", "horizon", "episodes")
"""Settings; cells of one algorithm and world that agree in them take about the same time."""


_whole = untrusted.whole()
_LINE: Mapping[str, Check] = {
    "wall": lambda value: untrusted.number(value) and 0 <= value < 1e9,
    "algo": untrusted.name,
    "env": untrusted.name,
    **dict.fromkeys(_ALIKE, _whole),
}
"""The fields of a line of the log that are read here."""
_LINE_TOO: Mapping[str, Check] = {"cells_at_once": untrusted.whole(1)}
"""Those that a line may lack."""
_SETTINGS: Mapping[str, Check] = {
    **dict.fromkeys(("burn_in", "demos", "demo_steps", "eps_episodes", "eps_steps"), _whole),
    "recorded": untrusted.text,
    "config": lambda value: (
        untrusted.mapped(untrusted.anything)(value)
        and all(_whole(value.get(name, 0)) for name in ("steps_per_round", "batch_size"))
    ),
}
_CONSUMES: Mapping[str, Check] = {"env_steps": _whole}
"""What `rates.seconds_of` reads of an entry's settings and of what it consumes."""


class Times:
    """Times of cells: as logged in a run, else as expected on a machine with `rates.CORES` cores.

    Args:
      log: the runner's log.jsonl, which may be missing.
    """

    def __init__(self, log: Path):
        self._logged: dict[tuple[Any, ...], list[tuple[float, int]]] = {}
        self.failed: dict[str, list[int]] = {}
        """{key: seeds that failed}, of the cells in the log that have any."""
        for record in log_lines(log):
            # A line cut short by a crash says nothing about time.
            if untrusted.fields(record, _LINE, _LINE_TOO) is None:
                place = (record["algo"], record["env"], *(record[name] for name in _ALIKE))
                pair = (float(record["wall"]), int(record.get("cells_at_once", 1)))
                self._logged.setdefault(place, []).append(pair)
                failed = record.get("failed")
                if untrusted.key(record.get("key")) and isinstance(failed, list) and failed:
                    self.failed[record["key"]] = cast("list[int]", failed)

    def of(self, entry: PlanEntry) -> float | None:
        """Returns the expected time of one cell of an entry [s], its share of the time in which
        several are computed at once; None if nothing is known. A logged time has compilation in
        it, others do not."""
        logged = self._of_log(entry)
        if logged:
            return sum(wall for wall, _ in logged) / len(logged)
        seconds = _expected(entry)
        return None if seconds is None else seconds / rates.CORES

    def alone(self, entry: PlanEntry) -> float | None:
        """Returns as `of` the time for which one cell keeps its device busy [s]."""
        logged = self._of_log(entry)
        if logged:
            return sum(wall * count for wall, count in logged) / len(logged)
        return _expected(entry)

    def total(self, entries: Iterable[PlanEntry]) -> tuple[float, int]:
        """Returns the expected time of cells one after another [s], and the number of cells without
        an estimate.

        Args:
          entries: that of each cell.
        """
        each = [self.of(entry) for entry in entries]
        return sum(seconds for seconds in each if seconds), sum(s is None for s in each)

    def _of_log(self, entry: PlanEntry) -> list[tuple[float, int]]:
        """(share of the time [s], cells at once) of each logged cell that is like an entry's."""
        settings = entry["settings"]
        place = (entry["algo"], entry["env"], *(settings[name] for name in _ALIKE))
        return self._logged.get(place, [])


def _expected(entry: PlanEntry) -> float | None:
    """The time of one cell of an entry on one core [s]; None if nothing is known, or the plan has
    fields that no plan of ours has."""
    checks = ((entry["settings"], _SETTINGS), (entry.get("consumes", {}), _CONSUMES))
    if any(untrusted.fields(values, fields) is not None for values, fields in checks):
        return None
    steps = entry["consumes"]["env_steps"]
    return rates.seconds_of(entry["env"], entry["algo"], entry["settings"], entry["rounds"], steps)


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
    left: list[PlanEntry] = []
    listed: list[str] = []
    running = [
        key
        for entry in plan["entries"]
        for key in entry["cells"]
        if key in claimed and key not in done and not leases.lost(folder, key, claimed[key])
    ]
    for entry in plan["entries"]:
        stored = [key for key in entry["cells"] if key in done]
        left += [entry for key in entry["cells"] if key not in stored]
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
