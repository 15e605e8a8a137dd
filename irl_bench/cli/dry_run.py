"""The plan of a sweep or a study as text: its cells, those that are done, and the expected time."""

from __future__ import annotations

import dataclasses

from irl_bench.cli import on_cluster
from irl_bench.cli.command import Command
from irl_bench.cli.on_cluster import Left
from irl_bench.core import folders
from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.text import aligned
from irl_bench.plan.build import build
from irl_bench.plan.document import document, merge
from irl_bench.plan.pilot import AUTO
from irl_bench.plan.rates import CORES
from irl_bench.plan.request import Request
from irl_bench.running.runner import computed_elsewhere
from irl_bench.storage import remote
from irl_bench.storage.cells import fetch, is_done
from irl_bench.storage.plans import PlanEntry, read_plan
from irl_bench.sweep import asked_for, check_folder, check_T_max
from irl_bench.upkeep.status import Times


def study(command: Command) -> str:
    """Returns the plans of a study's parts as text. Writes nothing."""
    from irl_bench.studies.study import chosen  # it draws, and what draws is slow to import

    assert command.study is not None
    out, lines = folders.expand(command.request.out), []
    left: list[Left] = []
    parts = chosen(command.study.parts(command.request, command.demos, out), command.parts)
    whole, waiting = _Total(), 0
    for part in parts:
        lines.append(f"{part.name}:")
        if part.after and not (out / part.after / "learned").is_dir():
            lines += [f"  planned once {part.after} has been run", ""]
            waiting += 1
        else:
            text, todo, total = _planned(part.request)
            whole += total
            left.append(todo)
            lines += [text, ""]
    later = f", and those of {waiting} parts that wait for others" if waiting else ""
    lines += [
        f"all parts: {whole.cells} cells, {whole.done} done{later}",
        f"expected time: {whole.text()}{', without the parts that wait' if waiting else ''}",
    ]
    if command.cluster:
        lines += ["", *on_cluster.described(left, command.cluster, divided=False)]
    return "\n".join(lines)


def sweep(command: Command) -> str:
    """Returns the plan of a sweep as text. Writes nothing."""
    text, left, _ = _planned(command.request)
    if not command.cluster:
        return text
    return "\n".join([text, "", *on_cluster.described([left], command.cluster, divided=True)])


@dataclasses.dataclass(frozen=True)
class _Total:
    """What plans add up to."""

    cells: int = 0
    done: int = 0
    missing: int = 0
    """Cells that the command computes and that are not done."""
    seconds: float = 0.0
    """Expected time of these [s], without those of which it is unknown."""
    unknown: int = 0
    """Number of the latter."""

    def __add__(self, other: _Total) -> _Total:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return _Total(*(a + b for a, b in pairs))

    def text(self) -> str:
        """The expected time."""
        minutes = (
            f"{self.seconds / 60:.1f} minutes (as in this folder, else as on {CORES} CPU cores)"
        )
        known = minutes if self.missing > self.unknown or not self.missing else ""
        what = f"unknown for {self.unknown} cells (nothing like them has run in this folder)"
        return " + ".join(filter(None, (known, what if self.unknown else "")))


def _planned(request: Request) -> tuple[str, Left, _Total]:
    """The plan of a sweep as text, what is left of it to compute, and what it adds up to.

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
    asked = {id(cell) for cell in asked_for(request, plan)}
    missing: list[CellSpec] = []
    of_missing: list[PlanEntry] = []
    fetch(out, [key for record in planned["entries"] for key in record["cells"]])
    for entry, record in zip(plan.entries, planned["entries"], strict=True):
        todo = [
            cell
            for cell, key in zip(entry.cells, record["cells"], strict=True)
            if not is_done(out, key)
        ]
        ours = [cell for cell in todo if id(cell) in asked]
        missing += ours
        of_missing += [record] * len(ours)
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
    times = Times(out / "log.jsonl")
    seconds, unknown = times.total(of_missing)
    done = sum(int(row[4]) for row in rows[1:])
    total = _Total(len(plan.cells), done, len(missing), seconds, unknown)
    lines = [
        f"plan: {len(plan.cells)} cells, {done} done, budget {plan.budget}, results in "
        f"{remote.shown(out)}",
        "",
    ]
    lines += aligned(rows)
    if len(asked) < len(plan.cells):
        part = f"{len(asked)} of them, {len(missing)} not done yet"
        lines += ["", f"this command computes {part}"]
    lines += ["", f"expected time: {total.text()}"]
    lines += [f"note: {note}" for note in (*notes, *plan.notes)] + dropped
    elsewhere = computed_elsewhere(out, missing, fingerprint())
    lines += [f"note: {elsewhere}"] if elsewhere else []
    prints = fingerprint()
    keys = [cell_key(cell, prints) for cell in missing]
    alone = [times.alone(record) for record in of_missing]
    left = Left(plan, dict(zip(keys, missing, strict=True)), dict(zip(keys, alone, strict=True)))
    return "\n".join(lines), left, total
