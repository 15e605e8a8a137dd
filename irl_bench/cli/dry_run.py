"""The plan of a sweep or a study as text: its cells, those that are done, and the expected time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from irl_bench.cli.command import Command
from irl_bench.core import folders
from irl_bench.core.cell import CellSpec, fingerprint
from irl_bench.core.text import aligned
from irl_bench.plan.build import build
from irl_bench.plan.document import document, merge
from irl_bench.plan.pilot import AUTO
from irl_bench.plan.presets import SECONDS
from irl_bench.plan.request import Request
from irl_bench.running.runner import computed_elsewhere
from irl_bench.storage.cells import is_done
from irl_bench.storage.plans import read_plan
from irl_bench.sweep import check_folder, check_T_max


def study(command: Command) -> str:
    """Returns the plans of a study's parts as text. Writes nothing."""
    assert command.study is not None
    out, lines = folders.expand(command.request.out), []
    for part in command.study.parts(command.request, command.demos, out):
        lines.append(f"{part.name}:")
        if part.after and not (out / part.after / "learned").is_dir():
            lines += [f"  planned once {part.after} has been run", ""]
        else:
            lines += [sweep(part.request), ""]
    return "\n".join(lines)


def sweep(request: Request) -> str:
    """Returns the plan of a sweep as text. Writes nothing.

    Raises BadInput for a request that cannot be run, StoreError for a folder that cannot be used.
    """
    notes: tuple[str, ...] = ()
    automatic = request.demos == AUTO
    plan = build(dataclasses.replace(request, demos=None) if automatic else request)
    if automatic:
        check_T_max(plan.worlds)
        notes = (
            "a pilot finds the number of demonstrations first (--demos=auto); the budget's stands "
            "here",
        )
    out = folders.expand(request.out)
    check_folder(out)
    planned = document(plan, "", fingerprint())
    _, dropped = merge(read_plan(out), planned)
    rows = [
        (
            "world",
            "mode",
            "algorithm",
            "cells",
            "done",
            "seeds",
            "demos",
            "episodes",
            "rounds",
            "expert labels",
            "env steps",
            "comparisons",
        )
    ]
    missing = []
    for entry, record in zip(plan.entries, planned["entries"], strict=True):
        todo = [
            cell
            for cell, key in zip(entry.cells, record["cells"], strict=True)
            if not is_done(out, key)
        ]
        missing += todo
        first = entry.cells[0]
        env, algo, mode = entry.id
        rows.append(
            (
                env,
                mode,
                algo,
                str(len(entry.cells)),
                str(len(entry.cells) - len(todo)),
                f"{first.first_seed}..{first.first_seed + entry.seeds - 1}",
                f"{first.demos} x {first.demo_steps}",
                str(first.episodes),
                str(entry.rounds),
                f"{entry.consumes['expert_queries']:,}",
                f"{entry.consumes['env_steps']:,}",
                f"{entry.consumes['preference_labels']:,}",
            )
        )
    seconds, unknown = estimate(missing, out / "log.jsonl")
    minutes = f"{seconds / 60:.1f} minutes (as in this folder, else as on 2 CPU cores)"
    known = minutes if len(missing) > unknown or not missing else ""
    guess = (
        f"unknown for {unknown} cells (nothing like them has run in this folder)" if unknown else ""
    )
    lines = [
        f"plan: {len(plan.cells)} cells, {len(plan.cells) - len(missing)} done, budget "
        f"{plan.budget}, results in {out}",
        "",
    ]
    lines += aligned(rows)
    lines += ["", "expected time: " + " + ".join(filter(None, (known, guess)))]
    lines += [f"note: {note}" for note in (*notes, *plan.notes)] + dropped
    elsewhere = computed_elsewhere(out, missing, fingerprint())
    lines += [f"note: {elsewhere}"] if elsewhere else []
    return "\n".join(lines)


def estimate(missing: Sequence[CellSpec], log: Path) -> tuple[float, int]:
    """Returns the expected wall time [s] of the missing cells, and the number of cells without an
    estimate.

    The estimate of a cell is the mean time of the cells in `log` (the runner's log.jsonl) with the
    same algorithm, world, width, horizon and number of episodes, compilation included. Without any
    it comes from the times on two CPU cores, in proportion to the episodes.
    """
    alike = ("algo", "env", "width", "horizon", "episodes")
    times: dict[tuple, list[float]] = {}
    if log.is_file():
        for line in log.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
                # The cell's own share of the time it was computed in.
                seconds = float(record["wall"])
                times.setdefault(tuple(record[name] for name in alike), []).append(seconds)
            except (ValueError, KeyError, TypeError, ZeroDivisionError):
                continue  # a line cut short by a crash says nothing about time
    logged = [times.get(tuple(getattr(cell, name) for name in alike)) for cell in missing]
    total, unknown = 0.0, 0
    for cell, seconds in zip(missing, logged, strict=True):
        stored = SECONDS.get((cell.env, cell.algo))
        if seconds:
            total += sum(seconds) / len(seconds)
        elif stored:
            total += stored[0] * cell.episodes / stored[1]
        else:
            unknown += 1
    return total, unknown
