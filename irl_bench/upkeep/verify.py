"""Checks a run's folder: that everything is there, every hash, and some cells by computing them
again."""

from __future__ import annotations

import dataclasses
import random
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.plan import registry
from irl_bench.running import runner
from irl_bench.running.console import Silent
from irl_bench.storage import artifacts, learned, untrusted, world_files
from irl_bench.storage.arrow import Table
from irl_bench.storage.cells import cell_path, learned_path, read_cell
from irl_bench.storage.plans import PlanEntry, read_plan
from irl_bench.upkeep.runs import log_lines, not_begun, runs_in


@dataclasses.dataclass
class Findings:
    """What a verification has found."""

    sound: list[tuple[Path, CellSpec, str]] = dataclasses.field(default_factory=list)
    """(the run's folder, the cell, its key) of every cell whose file is sound."""
    problems: list[str] = dataclasses.field(default_factory=list)
    """One line for each file or cell that is wrong."""
    absent: int = 0
    """Cells of the plans that are not stored, of those parts of a study that were begun."""
    later: list[str] = dataclasses.field(default_factory=list)
    """Parts of a study that were not begun."""
    damaged: set[str] = dataclasses.field(default_factory=set)
    """Keys, by their files' names, of the cells with a problem."""
    learned: int = 0
    """Files of learned policies and rewards that are sound."""
    own: set[str] = dataclasses.field(default_factory=set)
    """Keys of the sound cells that this process can compute again: of its sources, versions and
    devices, and without a file as input."""


def check(folder: Path) -> Findings:
    """Reads every result in a folder and checks its hash, its name and its key, and that what the
    log has as computed is there.

    Raises:
      BadInput, StoreError: the folder holds no run, or a plan is damaged.
    """
    found, prints = Findings(), fingerprint()
    for place in runs_in(folder).values():
        plan = read_plan(place)
        assert plan is not None  # `runs_in` has looked
        planned = {key: entry for entry in plan["entries"] for key in entry["cells"]}
        absent = {key for key in planned if not cell_path(place, key).exists()}
        found.absent += len(absent)
        found.problems += [
            f"{cell_path(place, key)} is gone, which {place / 'log.jsonl'} has as computed"
            for key in sorted(absent & _logged(place / "log.jsonl"))
        ]
        for path in sorted([*place.glob("cells/*.parquet"), *place.glob("pilot/cells/*.parquet")]):
            problem = _check_cell(path, planned.get(path.stem), found, prints)
            if problem:
                found.problems.append(problem)
                found.damaged.add(path.stem)
        found.problems += world_files.damaged(place)
        for path in sorted(place.glob("learned/*.safetensors")):
            try:
                if artifacts.key_of(path) != path.stem:
                    raise BadInput(f"{path} is what another cell learned: {artifacts.key_of(path)}")
                artifacts.read(path, ())
                found.learned += 1
            except BadInput as error:
                found.problems.append(str(error))
    found.later = not_begun(folder)
    if not found.sound and not found.problems:
        found.problems.append(f"{folder} holds no stored cell")
    return found


def _check_cell(
    path: Path, entry: PlanEntry | None, found: Findings, prints: Mapping[str, Any]
) -> str | None:
    """Adds a cell to `found` if it is sound, else returns what is wrong.

    Args:
      path: its file.
      entry: of the plan that names it, if any.
      found: what the verification has found.
      prints: this process's fingerprint.
    """
    try:
        manifest, _ = read_cell(path)
        spec = learned.spec_of(manifest["spec"])
        expected = cell_key(spec, manifest["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:  # a StoreError is a ValueError
        return " ".join(str(error).split())
    if expected != path.stem:
        return f"{path}: its settings and sources give the key {expected}, not its name"
    if entry and (spec.env, spec.algo, spec.mode) != (entry["env"], entry["algo"], entry["mode"]):
        return (
            f"{path} holds {spec.label}, and the plan has {entry['algo']} on {entry['env']} there"
        )
    place = path.parents[1]
    stored = learned_path(place, path.stem)
    if entry and entry["rounds"] and not stored.exists():
        return f"{stored} is missing, which holds what {spec.label} learned"
    found.sound.append((place, spec, path.stem))
    if manifest["fingerprint"] == prints and not spec.recorded and not spec.given:
        found.own.add(path.stem)
    return None


def _logged(log: Path) -> set[str]:
    """The keys of all cells that a run's log has as computed."""
    form = {"key": untrusted.key}
    return {line["key"] for line in log_lines(log) if untrusted.fields(line, form) is None}


def repeat(
    found: Findings,
    count: int,
    keys: Sequence[str] = (),
    seed: int | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = print,
    outside: bool = False,
) -> None:
    """Computes cells again in a folder of its own and compares their files byte for byte. What
    differs becomes a problem.

    Args:
      found: as `check` returns it.
      count: how many cells are drawn at random.
      keys: cells that are computed again, or beginnings of their keys, in place of random ones.
      seed: of the draw; None: another one each time.
      stop: ends the work at the next checkpoint once it is set.
      say: is called with one line per cell.
      outside: whether cells of algorithms and worlds from outside this package are computed too.
        The folder names that code, and whoever made the folder may have written it.

    Raises:
      BadInput: a key is unknown, or none of the cells can be computed here.
    """
    if keys:
        chosen = [cell for cell in found.sound if any(cell[2].startswith(key) for key in keys)]
        for key in keys:
            known = [cell[2] for cell in chosen] + sorted(found.damaged)
            if not any(stem.startswith(key) for stem in known):
                raise BadInput(
                    f"--cells: no sound cell has the key {key}; nearest: one that irl-bench status "
                    "RUN --cells prints"
                )
    else:
        able = [
            cell
            for cell in found.sound
            if cell[2] in found.own and (outside or not _outside_of(cell[1]))
        ]
        chosen = random.Random(seed).sample(able, min(count, len(able)))
    for place, spec, key in chosen:
        name = f"{spec.label} ({key})"
        if key not in found.own:
            say(
                f"not computed again: {name}: it was made with other sources, versions or devices, "
                "or from a file"
            )
            continue
        if _outside_of(spec) and not outside:
            say(
                f"not computed again: {name}: {_outside_of(spec)} is code from outside; nearest: "
                "--outside, which runs it"
            )
            continue
        world_files.offer(place)
        try:
            changed = _changed_files(spec)
        except BadInput as error:  # a file is gone
            say(f"not computed again: {name}: {error}")
            continue
        if changed:
            say(
                f"not computed again: {name}: {changed} is not the file that it was made with; "
                "nearest: the file as it was then"
            )
            continue
        with tempfile.TemporaryDirectory() as aside:
            runner.compute([spec], aside, stop=stop or threading.Event(), display=Silent())
            same = [
                path(place).read_bytes() == path(Path(aside)).read_bytes()
                for path in (
                    lambda out, k=key: cell_path(out, k),
                    lambda out, k=key: learned_path(out, k),
                )
                if path(Path(aside)).exists()
            ]
            if all(same):
                say(f"computed again, the same bytes: {name}")
                continue
            difference = _difference(
                read_cell(cell_path(place, key)), read_cell(cell_path(Path(aside), key))
            )
            found.problems.append(f"computed again, and not the same: {name}: {difference}")
            say(found.problems[-1])
    if not chosen and found.sound and count and not keys:
        say(
            "no cell was computed again: all were made with other sources, versions or devices "
            "(JAX_NUM_CPU_DEVICES sets the number of CPU devices), from a file, or by code from "
            "outside (--outside runs it)"
        )


def _outside_of(spec: CellSpec) -> str:
    """The code from outside that a cell needs; empty if it needs none."""
    return next((name for name in (spec.algo, spec.env) if registry.is_outside(name)), "")


def _changed_files(spec: CellSpec) -> str:
    """The files of a cell's world that are others today; empty if there is none."""
    now = registry.world(spec.env, spec.options).source
    return ", ".join(name for name in now if spec.plugin.get(name, now[name]) != now[name])


def _difference(stored: tuple[dict[str, Any], Table], again: tuple[dict[str, Any], Table]) -> str:
    """The first difference of two cells of one key, as text."""
    one, other = stored[1].to_pylist(), again[1].to_pylist()
    for a, b in zip(one, other, strict=False):
        if a != b and not (a["value"] != a["value"] and b["value"] != b["value"]):
            return (
                f"{a['quantity']} of seed {a['seed']} at T = {a['T']} is {a['value']!r} in the "
                f"folder and {b['value']!r} again"
            )
    if len(one) != len(other):
        return f"{len(one)} rows in the folder and {len(other)} again"
    return "what it learned differs" if stored[0] == again[0] else "its manifest differs"


def summary(found: Findings) -> str:
    """Returns one line about a verification."""
    parts = [f"{len(found.sound)} cells and {found.learned} learned files are sound"]
    if found.absent:
        parts.append(f"{found.absent} cells of the plan are not stored")
    if found.later:
        parts.append(f"not begun: {', '.join(found.later)}")
    if found.problems:
        parts.append(f"{len(found.problems)} problems")
    return ", ".join(parts)
