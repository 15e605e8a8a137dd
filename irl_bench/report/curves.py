"""The cost curves of a run's plan, read from its cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irl_bench.core.quantities import CURVES, TOLERANCES, eps_expert, eps_own
from irl_bench.horizon import Curves
from irl_bench.storage.arrow import Table, pa, pc
from irl_bench.storage.cells import cell_path, read_cell
from irl_bench.storage.files import StoreError
from irl_bench.storage.plans import PlanEntry, read_plan


def _matrix(table: Table, quantity: str, seeds: range, steps: range) -> np.ndarray | None:
    """float64[seeds, steps] of a final quantity at each T in `steps`; NaN if a row is missing, None
    if all rows are."""
    rows = table.filter(pc.equal(table["quantity"], quantity))
    seed, horizon = rows["seed"].to_numpy() - seeds.start, rows["T"].to_numpy() - steps.start
    keep = (seed >= 0) & (seed < len(seeds)) & (horizon >= 0) & (horizon < len(steps))
    if not keep.any():
        return None
    values = np.full((len(seeds), len(steps)), np.nan)
    values[seed[keep], horizon[keep]] = rows["value"].to_numpy()[keep]
    return values


def _entry_cells(out: Path | str, entry: PlanEntry) -> tuple[dict[str, Any], Table]:
    """The manifest of an entry's first cell, and the final rows of all its cells. Raises StoreError
    if a cell does not belong to the entry."""
    tables: list[Table] = []
    first: dict[str, Any] = {}
    for key in entry["cells"]:
        path = cell_path(out, key)
        manifest, table = read_cell(path)
        spec = manifest["spec"]
        if any(spec[name] != entry[name] for name in ("env", "algo", "mode")):
            raise StoreError(
                f"{path} is a cell of {spec['algo']} on {spec['env']} ({spec['mode']}), not what "
                "the plan says"
            )
        first = first or manifest
        tables.append(table.filter(pc.equal(table["round"], manifest["rounds"])))
    if not tables:
        raise StoreError(
            f"{Path(out) / 'plan.json'} lists no cell for {entry['algo']} on {entry['env']} "
            f"({entry['mode']})"
        )
    return first, pa.concat_tables(tables)


def _expert_entry(out: Path | str, entry: PlanEntry) -> PlanEntry | None:
    """The expert's entry in the same world and mode; None without one."""
    plan = read_plan(out)
    for other in plan["entries"] if plan else ():
        if other["algo"] == "expert" and all(
            other[name] == entry[name] for name in ("env", "mode")
        ):
            return other
    return None


def absent(out: Path | str, entry: PlanEntry) -> int:
    """Returns the number of missing cells of an entry of the plan, including those of its
    expert."""
    expert = _expert_entry(out, entry)
    keys = {*entry["cells"], *(expert["cells"] if expert else ())}
    return sum(not cell_path(out, key).exists() for key in keys)


def read(out: Path | str, entry: PlanEntry) -> Curves:
    """Returns the cost curves of one entry of the plan, read from its cells.

    The expert's cost comes from the entry of the reference `expert` in the same world and mode of
    `<out>/plan.json`; it is None if there is none.

    Args:
      out: the run's folder.
      entry: an entry of plan.json. The first `entry["seeds"][1]` seeds from `entry["seeds"][0]` are
        used.

    Raises:
      StoreError: a cell is missing, damaged, foreign or does not hold the seeds; one line that
        names the file.
    """
    expert = _expert_entry(out, entry)
    manifest, table = _entry_cells(out, entry)
    seeds = range(entry["seeds"][0], entry["seeds"][0] + entry["seeds"][1])
    steps = range(1, manifest["spec"]["horizon"] + 1)
    # Each seed has a row for each step. What says otherwise would fill the memory with nothing.
    if len(seeds) * len(steps) > table.num_rows:
        raise StoreError(
            f"{cell_path(out, entry['cells'][0])} holds {table.num_rows:,} rows, too few for "
            f"{len(seeds):,} seeds over {len(steps):,} steps"
        )
    values = _quantities(table, seeds, steps)
    for name, rows in values.items():
        if np.isinf(rows).any():
            raise StoreError(
                f"{cell_path(out, entry['cells'][0])} or another cell of its entry has a {name} "
                "that is not finite"
            )
    if "failed" not in values or np.isnan(values["failed"]).any():
        failed = values.get("failed", np.full(len(seeds), np.nan))
        missing = seeds[int(np.flatnonzero(np.isnan(failed))[0])]
        raise StoreError(
            f"{Path(out) / 'plan.json'} asks for seed {missing} of {entry['algo']}, which none of "
            "its cells holds"
        )
    of_expert: dict[str, np.ndarray] = {}
    if expert is not None:
        expert_seeds = range(expert["seeds"][0], expert["seeds"][0] + expert["seeds"][1])
        of_expert = _quantities(_entry_cells(out, expert)[1], expert_seeds, steps)
    consumes = manifest["consumes"]
    return assemble(
        values,
        of_expert,
        env=entry["env"],
        algo=entry["algo"],
        mode=entry["mode"],
        seeds=np.asarray(seeds),
        T=np.asarray(steps),
        failed=values["failed"] == 1,
        interactive=bool(consumes["interactive"]),
        episodes=int(manifest["spec"]["episodes"]),
        consumes=(consumes["expert_queries"], consumes["env_steps"]),
        labels=consumes.get("preference_labels", 0),
    )


def assemble(
    values: Mapping[str, np.ndarray],
    expert: Mapping[str, np.ndarray],
    *,
    seeds: np.ndarray,
    T: np.ndarray,
    **facts: Any,
) -> Curves:
    """Returns curves from stored quantities; a missing quantity is NaN.

    Args:
      values: {quantity: float64[S] or float64[S, T]} of the policy.
      expert: the expert's quantities, of which only the costs are used.
      seeds: int[S].
      T: int[T], the horizons [steps].
      **facts: the other fields of `Curves`.
    """
    nothing = np.full(len(seeds), np.nan)

    def scalar(quantity: str) -> np.ndarray:
        return values.get(quantity, nothing)

    def curve(quantity: str) -> np.ndarray:
        return values.get(quantity, np.full((len(seeds), len(T)), np.nan))

    departures = values.get("departures")
    return Curves(
        seeds=seeds,
        T=T,
        cost=curve("cost"),
        graded=curve("graded_cost"),
        expert_cost=expert.get("cost"),
        on_steps=scalar("on_steps"),
        on_to_off=scalar("on_to_off"),
        off_steps=scalar("off_steps"),
        off_to_on=scalar("off_to_on"),
        eps_expert=np.stack([scalar(eps_expert(tau)) for tau in TOLERANCES], axis=1),
        eps_own=np.stack([scalar(eps_own(tau)) for tau in TOLERANCES], axis=1),
        departures=None if departures is None or np.isnan(departures).all() else departures,
        expert_graded=expert.get("graded_cost"),
        expected=values.get("expected_cost"),
        departed=values.get("departed"),
        returns=scalar("return"),
        **facts,
    )


def _quantities(table: Table, seeds: range, steps: range) -> dict[str, np.ndarray]:
    """{quantity: float64[S], or float64[S, T] of a curve}; NaN if a row is missing."""
    values = {}
    for name in pc.unique(table["quantity"]).to_pylist():
        matrix = _matrix(table, name, seeds, steps if name in CURVES else range(1))
        if matrix is not None:
            values[name] = matrix if name in CURVES else matrix[:, 0]
    return values
