"""Runs cells: drives compiled functions from the host, writes checkpoints and resumes exactly.

Cells that share compiled functions run together, as many at once as there are devices. Training
proceeds in chunks of rounds and evaluation in blocks of episodes. Between two calls the progress of
a cell can be written to a checkpoint. A resumed cell ends in the same bytes as an uninterrupted
one; so does a cell that runs in other chunks or beside other cells.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.plan.build import Input
from irl_bench.running import leftovers, work
from irl_bench.running.batch import Batch
from irl_bench.running.console import Display, TensorBoard, display_here
from irl_bench.running.leases import Leases
from irl_bench.running.process import Interrupted, configure, supervise
from irl_bench.running.programs import Program, groups_at_once, program_for
from irl_bench.running.progress import CellProgress
from irl_bench.running.saving import checkpoint_folder
from irl_bench.running.session import Session, Summary
from irl_bench.running.sharing import Compute, share
from irl_bench.storage.cells import cell_path, present, survey
from irl_bench.storage.files import store_of, writing

__all__ = ["Interrupted", "Summary", "compute", "configure", "follow", "run", "supervise"]

DEVICES = (*range(1, 17), 32, 64, 128, 256)
"""Numbers of devices with which an earlier process may have run."""


def run(
    cells: Iterable[CellSpec],
    out: Path | str,
    inputs: Mapping[str, Input] | None = None,
    **options: Any,
) -> Summary:
    """Runs `compute` in a thread. SIGTERM, SIGINT and SIGHUP end the run at its next checkpoint.

    Args:
      cells, out, inputs, **options: as for `compute`.

    Raises:
      BadInput: an option of JAX that may change a number is set by a context manager, for the
        calling thread alone.
      StoreError, Interrupted: as `compute`.
    """
    check_options()
    return supervise(lambda stop: compute(cells, out, inputs, stop=stop, **options))


def follow(inputs: Mapping[str, Input]) -> None:
    """Takes part in what the first process runs, until it ends. A signal ends it with the first
    process, at a checkpoint.

    Args:
      inputs: `Plan.inputs` of the same plan.

    Raises:
      Interrupted: the first process was interrupted.
    """
    supervise(lambda stop: work.follow(inputs))


def compute(
    cells: Iterable[CellSpec],
    out: Path | str,
    inputs: Mapping[str, Input] | None = None,
    *,
    stop: threading.Event,
    display: Display | None = None,
    tensorboard: bool = False,
    checkpoint_seconds: float = 30.0,
    chunk_seconds: float = 2.0,
    chunk_rounds: int | None = None,
    last: str = "",
) -> Summary:
    """Computes and stores every cell that `out` does not hold yet.

    Args:
      cells: what to run; each becomes `<out>/cells/<key>.parquet`.
      out: the run's folder; it is made if it does not exist.
      inputs: `Plan.inputs`: the files that cells name in `recorded` and `given`.
      stop: an event that ends the run at its next checkpoint once another thread sets it.
      display: shows the progress; None: the terminal.
      tensorboard: whether to write event files under `<out>/tensorboard` too.
      checkpoint_seconds: minimum time between two checkpoints [s].
      chunk_seconds: how long one call of training should take [s]; changes no result.
      chunk_rounds: rounds per call of training, instead of `chunk_seconds`; changes no result.
      last: as for `Leases`.

    Raises:
      StoreError: a file cannot be written, or an existing one is damaged or foreign; one line that
        names it.
      Interrupted: the run was asked to stop; a further call resumes it.
    """
    out, start, prints, summary = Path(out), time.monotonic(), fingerprint(), Summary()
    with writing(out):
        (out / "cells").mkdir(parents=True, exist_ok=True)
    wanted = {cell_key(cell, prints): cell for cell in cells}
    survey(out)
    summary.present += present(out, wanted)
    stored = {*summary.present}
    missing = {key: cell for key, cell in wanted.items() if key not in stored}
    shared: dict[str, dict[str, CellSpec]] = {}
    for key, cell in missing.items():
        shared.setdefault(cell.static_key(), {})[key] = cell

    display = display or display_here()
    text = computed_elsewhere(out, missing.values(), prints)
    if text:
        display.note(text)

    board = TensorBoard(out / "tensorboard") if tensorboard else None
    session = Session(
        out=out,
        fingerprint=prints,
        display=display,
        stop=stop,
        board=board,
        checkpoint_seconds=checkpoint_seconds,
        chunk_seconds=chunk_seconds,
        chunk_rounds=chunk_rounds,
        summary=summary,
    )
    display.begin(len(wanted), len(summary.present))
    try:
        with Leases(out, last=last) as leases:
            session.moved = leases.moved
            share(
                session,
                leases,
                list(shared.values()),
                groups_at_once,
                lambda cells: _compiled(session, inputs or {}, cells),
            )
        leftovers.remove(out, wanted)
    finally:
        if board:
            board.close()
        display.end()
        summary.seconds = time.monotonic() - start
    return summary


def check_options() -> None:
    """Raises BadInput if an option of JAX that may change a number is set for the calling thread
    alone. Cells are computed in another thread."""
    elsewhere: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: elsewhere.append(fingerprint()))
    thread.start()
    thread.join()
    if elsewhere[0] != fingerprint():
        raise BadInput(
            "an option of JAX is set by a context manager, which the thread that computes does not "
            "see; nearest: "
            "jax.config.update"
        )


def computed_elsewhere(
    out: Path, missing: Iterable[CellSpec], prints: Mapping[str, Any]
) -> str | None:
    """Returns one line about cells that a process with another number of devices has computed; None
    without any.

    A program for several devices rounds differently from one for one, so such cells are computed
    again.

    Args:
      out: the run's folder.
      missing: the cells to compute.
      prints: as `fingerprint` returns it.
    """
    counts = Counter(
        devices
        for cell in missing
        for devices in DEVICES
        if devices != prints["devices"]
        and _begun(out, cell_key(_over(cell, devices), {**prints, "devices": devices}))
    )
    if not counts:
        return None
    devices, count = counts.most_common(1)[0]
    again = f"JAX_NUM_CPU_DEVICES={devices}" if prints["backend"] == "cpu" else f"{devices} devices"
    many = "1 device" if devices == 1 else f"{devices} devices"
    return (
        f"{count} of these cells were begun by a process with {many}, and this one has "
        f"{prints['devices']}, so they are computed again; to resume them, use {again}"
    )


def _over(cell: CellSpec, devices: int) -> CellSpec:
    """The cell as a process with this number of devices computes it."""
    if not cell.world_devices:
        return cell
    return dataclasses.replace(cell, world_devices=devices if devices > 1 else 0)


def _begun(out: Path, key: str) -> bool:
    """Whether a cell is stored, as far as its object store was last listed, or has checkpoints on
    this machine."""
    path = cell_path(out, key)
    store = store_of(path)
    there = path.exists() or (store is not None and store.has(path))
    return there or checkpoint_folder(out, key).exists()


@contextlib.contextmanager
def _compiled(
    session: Session, inputs: Mapping[str, Input], cells: Mapping[str, CellSpec]
) -> Generator[Compute]:
    """Gives a function that computes some of `cells`, which share a program. It is compiled when it
    is first needed."""
    first = next(iter(cells.values()))
    program: Program | None = None
    before: dict[str, int] = {}

    def compute_some(some: Mapping[str, CellSpec]) -> None:
        nonlocal program, before
        if program is None:
            session.display.advance(first.label, "tracing", 0.0)
            program = program_for(first, inputs)
            before = dict(program.compilations)
        Batch(session, program, [_progress(program, key, some[key]) for key in some]).run()

    try:
        yield compute_some
    finally:
        if program is not None:
            program.settle()
            counts = session.summary.compilations.setdefault(f"{first.algo} {first.env}", {})
            for name, count in program.compilations.items():
                counts[name] = counts.get(name, 0) + count - before.get(name, 0)


def _progress(program: Program, key: str, cell: CellSpec) -> CellProgress:
    """A cell before its first round."""
    learner = program.learner
    return CellProgress(cell, key, learner.rounds, program.metrics, cell.used(learner.consumes))
