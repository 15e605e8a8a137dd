"""The sweeps that are disturbed, as files: their cells, what these read from earlier runs, and the
plan."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_bench.algos import ALGORITHMS
from irl_bench.core.cell import CellSpec, fingerprint
from irl_bench.core.quantities import REFERENCES
from irl_bench.plan import document
from irl_bench.plan.build import Input, build
from irl_bench.plan.request import Request
from irl_bench.storage import artifacts
from irl_bench.storage.files import locked
from irl_bench.storage.plans import PlanDocument, read_plan, write_plan

CHUNK = 1
"""Rounds of training between two places at which a sweep can stop."""
SMALL = Request(
    algo=("bc",),
    env=("chain",),
    mode=("cliff", "recoverable"),
    budget="smoke",
    seeds=2,
    seeds_at_once=1,
    settings={"bc": {"hidden": (8,), "rounds": 12, "steps_per_round": 4}},
)
"""Four cells of one program, and no references, that are computed in two seconds."""
MANY = dataclasses.replace(SMALL, seeds=20)
"""Forty of these cells."""
SIZES: Mapping[str, Any] = {"budget": "smoke", "seeds": 1, "seeds_at_once": 1}
ON_CHAIN = tuple(
    name
    for name in ALGORITHMS
    if name not in ("dart", "sac", "maxent_irl", "judged", "stored", *REFERENCES)
)
EVERY = (
    Request(algo=ON_CHAIN, env=("chain",), mode=("cliff",), **SIZES),
    Request(algo=("dart", "sac"), env=("plant",), **SIZES),
    Request(algo=("maxent_irl",), env=("grid",), **SIZES),
)
"""Every registered algorithm that needs no earlier run, each on a small world that it can use."""
DONATED = Request(algo=("judged", "stored"), env=("chain",), mode=("cliff",), **SIZES)
"""Those that take what an earlier run of `DONOR` has learned."""
DONOR = Request(algo=("airl",), env=("chain",), mode=("cliff",), **SIZES)


def read(path: Path) -> tuple[list[CellSpec], dict[str, Input], PlanDocument]:
    """Returns a sweep: its cells, what they read from earlier runs, and its plan."""
    stored = json.loads(path.read_text())
    inputs: dict[str, Input] = {}
    for file, parts in stored["given"]:
        artifact = artifacts.read(file, parts)
        inputs[artifact.sha256] = artifact
    return [CellSpec.from_dict(cell) for cell in stored["cells"]], inputs, stored["plan"]


def record(out: Path, plan: PlanDocument) -> None:
    """Writes the plan of a sweep into its folder, as a sweep does before it runs."""
    with locked(out):
        write_plan(out, document.merge(read_plan(out), plan)[0])


def write(
    path: Path,
    requests: tuple[Request, ...],
    donor: Path | None = None,
    references: bool = True,
) -> Path:
    """Writes the file of a sweep, in a process of its own.

    Args:
      path: of the file.
      requests: what the sweep consists of, each with worlds of its own.
      donor: folder of a run of `DONOR`, from which `DONATED` joins the sweep; None: it does not.
      references: whether the expert and the untrained policy are in it if nobody asks for them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=_write, args=(str(path), requests, str(donor) if donor else None, references)
    )
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{path}: the sweep cannot be planned")
    return path


def _write(path: str, requests: tuple[Request, ...], donor: str | None, references: bool) -> None:
    import jax

    from irl_bench.running import runner

    runner.configure(1)
    jax.config.update("jax_disable_most_optimizations", True)  # as victims do
    given: list[tuple[str, tuple[str, ...]]] = []
    if donor:
        requests = (*requests, dataclasses.replace(DONATED, given=donor))
        given = [(donor, ("policy", "reward"))]
    cells: list[CellSpec] = []
    joined: PlanDocument | None = None
    for request in requests:
        plan = build(request)
        if not references:
            plan = dataclasses.replace(
                plan, entries=tuple(e for e in plan.entries if e.id[1] in request.algo)
            )
        cells += plan.cells
        joined = document.merge(joined, document.document(plan, "chaos", fingerprint()))[0]
    unique = {json.dumps(cell.to_dict(), sort_keys=True): cell.to_dict() for cell in cells}
    content = {"cells": list(unique.values()), "given": given, "plan": joined}
    Path(path).write_text(json.dumps(content))
