"""What a plan would take on a cluster: `--dry_run --cluster=MACHINESxDEVICES`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax

from irl_bench.core.cell import CellSpec
from irl_bench.plan import rates
from irl_bench.plan.build import Entry, Plan
from irl_bench.plan.shards import shares
from irl_bench.running.programs import Program

BASIS = (
    "(a device is taken to be one CPU core; where this folder's log knows such a cell, its time is "
    "taken)"
)
"""What the times rest on."""
BYTES = 4
"""Size of a number on a device."""


@dataclasses.dataclass(frozen=True)
class Left:
    """What is to be computed of a plan."""

    plan: Plan
    cells: Mapping[str, CellSpec]
    """{key: cell}."""
    seconds: Mapping[str, float | None]
    """{key: time for which the cell keeps a device busy [s]}; None where nothing is known."""


def described(left: Sequence[Left], cluster: tuple[int, int], divided: bool) -> list[str]:
    """Returns lines on the tasks of a sweep or a study, their time and their memory.

    Args:
      left: of the sweep, or of each part of the study.
      cluster: (machines, devices of each).
      divided: whether the machines are given shares; otherwise they share the cells as they come.
    """
    machines, devices = cluster
    cells = {key: cell for part in left for key, cell in part.cells.items()}
    seconds = {key: time for part in left for key, time in part.seconds.items()}
    last_share = f" to {machines}/{machines}" if machines > 1 else ""
    how = f" (--shard=1/{machines}{last_share})" if divided else ""
    head = (
        f"on {_some(machines, 'machine')} with {_some(devices, 'device')} each, one task for each "
        f"machine{how}:"
    )
    if not cells:
        return [head, "  no cell is left to compute"]
    keys = {id(cell): key for key, cell in cells.items()}
    tasks = [task for task in shares(cells, seconds, machines) if task]
    programs = [_programs(task) for task in tasks]
    compiling = [sum(rates.compile_seconds(c[0].env, c[0].algo) for c in own) for own in programs]
    computing = [
        sum(
            max(seconds[keys[id(cell)]] or 0.0 for cell in own[start : start + devices])
            for own in groups
            for start in range(0, len(own), devices)
        )
        for groups in programs
    ]
    ends = [sum(both) for both in zip(compiling, computing, strict=True)]
    unknown = sum(seconds[key] is None for key in cells)
    busy = sum(seconds[key] or 0.0 for key in cells) / (devices * len(tasks))
    idle = machines - len(tasks)
    last = ends.index(max(ends))
    lines = [
        head,
        f"  tasks: {len(tasks):,}, with {_between([len(task) for task in tasks])} cells in "
        f"{_between([len(own) for own in programs])} groups that share compiled functions",
    ]
    if idle:
        lines.append(f"  {_some(idle, 'machine')} would have nothing to do")
    known = (
        f"{_time(max(ends))} for the longest task, {_time(compiling[last])} of it compiling; "
        f"{_time(min(ends))} for the shortest; a device computes for {_time(busy)} on average"
    )
    guess = f"unknown for {unknown} cells (nothing like them was measured)" if unknown else ""
    parts = (known if unknown < len(cells) else "", guess)
    return [
        *lines,
        "  time: " + "; ".join(filter(None, parts)),
        f"  memory of a device: {_memory(left)}",
        f"  {BASIS}",
    ]


def _programs(cells: Sequence[CellSpec]) -> list[list[CellSpec]]:
    """Cells by the functions that they share, in order."""
    groups: dict[str, list[CellSpec]] = {}
    for cell in cells:
        groups.setdefault(cell.static_key(), []).append(cell)
    return list(groups.values())


def _memory(left: Sequence[Left]) -> str:
    """The cell that needs most, as text. The arrays that a device holds follow from their shapes;
    XLA's temporary buffers are in proportion to those that were measured."""
    found: list[tuple[float, float, str]] = []
    unknown: list[str] = []
    first: dict[tuple[str, str], tuple[Plan, Entry, CellSpec]] = {}
    for part in left:
        todo = {id(cell) for cell in part.cells.values()}
        for entry in part.plan.entries:
            for cell in entry.cells:
                if id(cell) in todo:
                    first.setdefault((cell.env, cell.algo), (part.plan, entry, cell))
    for plan, entry, cell in first.values():
        program = Program(cell, plan.inputs)
        leaves = jax.tree.leaves(program.state_shape)
        held = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in leaves)
        wide = program.world.observation_size + (program.world.action_size or 1)
        if entry.rounds:
            held += cell.width * cell.demos * cell.demo_steps * (wide + 3) * BYTES
        share = rates.training(cell.config, entry.rounds, entry.consumes["env_steps"])
        beside = rates.temporary_bytes(
            cell.env, cell.algo, cell.width * cell.block,
            cell.width * wide * share / entry.rounds if entry.rounds else 0.0,
        )  # fmt: skip
        label = f"{cell.algo} on {cell.env}"
        if beside is None:
            unknown.append(label)
        found.append((held + (beside or 0.0), beside or 0.0, label))
    most, beside, label = max(found)
    text = (
        f"about {_size(most)} at most, for {label}: {_size(most - beside)} of arrays and "
        f"{_size(beside)} of temporary buffers"
    )
    return f"{text} (those of {', '.join(unknown)} are unknown)" if unknown else text


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _between(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
