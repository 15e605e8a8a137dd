"""Joins the run folders of several machines: every cell once, and one plan.

The folders must hold results of the same sources, versions, devices and settings. They may be
shares of one plan, other algorithms or worlds, or seeds that follow on one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.storage import artifacts, remote, untrusted, world_files
from irl_bench.storage.cells import cell_path, read_cell
from irl_bench.storage.files import StoreError, locked, write_atomic
from irl_bench.storage.plans import PlanDocument, PlanEntry, WorldRecord, read_plan, write_plan
from irl_bench.studies.study import INDEX
from irl_bench.upkeep.runs import MOST_LOG, index_of, not_begun, runs_in

SHOWN = 3
"""How many conflicts are named."""
_SEEDS = ("first_seed", "seeds")


def merge(sources: Sequence[Path], out: Path, say: Callable[[str], None] = print) -> bool:
    """Joins run folders into `out`. A run that `out` holds already is one of them.

    All files are read and checked before the first one is written.

    Args:
      sources: folders of sweeps, or of one study.
      out: the folder of the joined run.
      say: is called with one line at the end.

    Returns:
      Whether all cells of the joined plans are stored.

    Raises:
      BadInput: the folders cannot be joined, and why; one line.
      StoreError: a file is damaged or cannot be written.
    """
    folders = list(dict.fromkeys(path.resolve() for path in sources))
    if (out / "plan.json").exists() or (out / INDEX).exists():
        folders = list(dict.fromkeys([out.resolve(), *folders]))
    if len(folders) < 2:
        why = f", and {sources[0]} was named {len(sources)} times" if len(sources) > 1 else ""
        raise BadInput(f"two folders of runs are needed{why}; nearest: irl-bench merge A B --out=C")
    runs = [runs_in(folder) for folder in folders]
    index = _joined_index(folders)
    parts = list(dict.fromkeys(part for run in runs for part in run))
    plans: dict[str, PlanDocument] = {}
    files: dict[str, dict[str, tuple[Path, str]]] = {}
    before = {part: read_plan(out / part) for part in parts}
    for part in parts:
        places = [run[part] for run in runs if part in run]
        plans[part] = _joined([(place, _plan(place)) for place in places])
        # What lies in `out` counts also where no plan names it: nothing is written over.
        files[part] = _files(list(dict.fromkeys([out / part, *places])))
    with locked(out):
        for part in parts:
            if read_plan(out / part) != before[part]:
                raise BadInput(
                    f"{out / part} has changed meanwhile; nearest: the same command when no run "
                    "uses that folder"
                )
            for name, (path, digest) in files[part].items():
                target = out / part / name
                if path.resolve() != target.resolve():
                    content = path.read_bytes()
                    if hashlib.sha256(content).hexdigest() != digest:
                        raise StoreError(f"{path} has changed meanwhile; nearest: the same command")
                    write_atomic(target, content)
            _join_logs([run[part] for run in runs if part in run], out / part)
            write_plan(out / part, plans[part])
        if index is not None:
            write_atomic(out / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    planned = {
        (part, key) for part in parts for entry in plans[part]["entries"] for key in entry["cells"]
    }
    absent = sum(not cell_path(out / part, key).exists() for part, key in planned)
    later = not_begun(out)
    stored = len(planned) - absent
    say(
        f"joined {len(folders)} folders in {remote.shown(out)}: {stored} cell{'s' * (stored != 1)}"
        + (f", {absent} of the plan are missing" if absent else "")
        + (f"; not begun: {', '.join(later)}" if later else "")
    )
    return not absent and not later


def _joined_index(folders: Sequence[Path]) -> dict[str, Any] | None:
    """The index of the joined study; None for sweeps. Raises BadInput if the folders hold other
    studies, or both."""
    found = [index_of(folder) for folder in folders]
    indices = [index for index in found if index is not None]
    if not indices:
        return None
    names = [index["study"] if index else "a sweep" for index in found]
    for folder, name, index in zip(folders, names, found, strict=True):
        if name != names[0]:
            what = f"the first holds {names[0]}, the other {name}"
        elif index and index["parts"] != indices[0]["parts"]:
            what = f"their parts of {name} differ"
        else:
            continue
        raise BadInput(
            f"{folders[0]} and {folder} cannot be joined: {what}; nearest: folders of the same "
            "command"
        )
    entries: dict[str, Any] = {}
    for index in indices:
        entries |= index.get("entries", {})
    return {**indices[0], "entries": entries}


def _plan(folder: Path) -> PlanDocument:
    """A run's plan."""
    plan = read_plan(folder)
    assert plan is not None  # `runs_in` has looked
    return plan


def _joined(plans: Sequence[tuple[Path, PlanDocument]]) -> PlanDocument:
    """The plan of several runs, given as (folder, plan) in any order. Raises BadInput if they have
    different conditions."""
    first, joined = plans[0]
    worlds: dict[str, tuple[Path, WorldRecord]] = {}
    for folder, plan in plans:
        if plan["analysis"] != joined["analysis"]:
            raise BadInput(
                f"{first} and {folder} have different --horizons; nearest: a folder for each"
            )
        for env, record in plan["worlds"].items():
            _check_world(env, worlds.setdefault(env, (folder, record)), (folder, record))
    found: dict[tuple[str, str, str], list[tuple[Path, PlanEntry]]] = {}
    for folder, plan in plans:
        for entry in plan["entries"]:
            found.setdefault(_id(entry), []).append((folder, entry))
    entries = [_with_all_seeds(same) for same in found.values()]
    records: dict[str, WorldRecord] = {}
    for env, (folder, record) in worlds.items():
        spans = {tuple(e["seeds"]): e["algo"] for e in entries if e["env"] == env}
        if not spans:
            raise BadInput(
                f"{folder / 'plan.json'} names the world {env} and no cell of it; nearest: move it "
                "away and run the sweep again"
            )
        if len(spans) > 1:
            (one_span, algo), (other_span, other_algo), *_ = spans.items()
            raise BadInput(
                f"together the folders have the seeds {_span(one_span)} of {algo} on {env} and "
                f"{_span(other_span)} of {other_algo}; nearest: the same --first_seed and --seeds"
            )
        first_seed, seeds = next(iter(spans))
        records[env] = {**record, "first_seed": first_seed, "seeds": seeds}
    return {**joined, "entries": entries, "worlds": records}


def _check_world(env: str, one: tuple[Path, WorldRecord], other: tuple[Path, WorldRecord]) -> None:
    """Raises BadInput if two runs, as (folder, record), were made with a world under different
    conditions."""
    (a, before), (b, now) = one, other
    changed = sorted(
        name
        for name in before.keys() | now.keys()
        if name not in _SEEDS and before.get(name) != now.get(name)
    )
    if "fingerprint" in changed:
        raise BadInput(
            f"{a} and {b} were computed by different sources, versions or numbers of devices; "
            "nearest: a folder for each"
        )
    if changed:
        raise BadInput(
            f"{a} and {b} ran {env} with different {', '.join(changed)}; nearest: a folder for each"
        )


def _id(entry: PlanEntry) -> tuple[str, str, str]:
    return entry["env"], entry["algo"], entry["mode"]


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[0] + seeds[1] - 1}"


def _with_all_seeds(same: Sequence[tuple[Path, PlanEntry]]) -> PlanEntry:
    """One entry with the seeds of all, given as (folder, entry). Raises BadInput if their settings
    differ, or if their seeds leave a gap."""
    (first, one), *_ = ordered = sorted(same, key=lambda each: each[1]["seeds"][0])
    name, width = f"{one['algo']} on {one['env']} ({one['mode']})", one["settings"]["width"]
    cells: dict[int, str] = {}
    end, last = one["seeds"][0], first
    for folder, entry in ordered:
        if entry["settings"] != one["settings"]:
            raise BadInput(
                f"{first} and {folder} ran {name} with different settings; nearest: a folder for "
                "each"
            )
        (begin, count), before = entry["seeds"], _span([one["seeds"][0], end - one["seeds"][0]])
        if begin > end or (begin - one["seeds"][0]) % width:
            raise BadInput(
                f"{last} and {folder}: the seeds of {name}, {before} and {_span(entry['seeds'])}, "
                f"do not follow on one another in groups of {width}; nearest: a folder for each"
            )
        cells |= {begin + width * place: key for place, key in enumerate(entry["cells"])}
        if begin + count > end:
            end, last = begin + count, folder
    keys = [cells[start] for start in sorted(cells)]
    return {**one, "cells": keys, "seeds": [one["seeds"][0], end - one["seeds"][0]]}


def _files(places: Sequence[Path]) -> dict[str, tuple[Path, str]]:
    """{name in a run's folder: (where it lies, its SHA-256)} of results and of files of worlds.

    Raises:
      BadInput: two folders hold other contents under one name.
      StoreError: a file is damaged.
    """
    found: dict[str, tuple[Path, str]] = {}
    conflicts: list[str] = []
    for place in places:
        paths = [
            *sorted(place.glob("cells/*.parquet")),
            *sorted(place.glob("pilot/cells/*.parquet")),
            *sorted(place.glob("learned/*.safetensors")),
            *world_files.kept(place),
        ]
        for path in paths:
            if path.suffix == ".parquet":
                read_cell(path)
            elif path.suffix == ".safetensors":
                artifacts.read(path, ())
            name = path.relative_to(place).as_posix()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if name in found and found[name][1] != digest:
                conflicts.append(f"{found[name][0]} and {path}")
            found.setdefault(name, (path, digest))
    if conflicts:
        shown = "; ".join(conflicts[:SHOWN])
        more = f" and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
        raise BadInput(
            f"the same file with other contents: {shown}{more}; nearest: irl-bench verify on each "
            "folder"
        )
    return found


def _join_logs(places: Sequence[Path], out: Path) -> None:
    """Writes the lines of all logs, each once."""
    lines: dict[bytes, None] = {}
    for place in places:
        log = place / "log.jsonl"
        if log.is_file():
            try:
                lines |= dict.fromkeys(untrusted.content(log, MOST_LOG).splitlines())
            except OSError as error:
                raise StoreError(f"cannot read {log}: {error.strerror or error}") from error
    if lines:
        write_atomic(out / "log.jsonl", b"\n".join(lines) + b"\n")
