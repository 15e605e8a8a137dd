"""Runs cells: compiled functions driven from the host, with checkpoints, exact resume and a clean
way out.

Cells that share compiled functions are run together, as many at once as there are devices. Training
goes in chunks of rounds and evaluation in blocks of episodes. Between two calls everything a cell
has achieved can be written down. A cell that goes on from there ends in the same bytes as one that
was never interrupted; so does one run in other chunks or beside other cells.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.plan.build import Input
from irl_bench.running.batch import Batch
from irl_bench.running.console import Display, TensorBoard, display_here
from irl_bench.running.process import EXIT_AGAIN, Interrupted, configure, supervise
from irl_bench.running.programs import program_for
from irl_bench.running.progress import CellProgress
from irl_bench.running.saving import checkpoint_folder
from irl_bench.running.session import Session, Summary
from irl_bench.storage.cells import cell_path, is_done
from irl_bench.storage.files import writing

__all__ = ["EXIT_AGAIN", "Interrupted", "Summary", "compute", "configure", "run", "supervise"]

DEVICES = (*range(1, 17), 32, 64, 128, 256)
"""Numbers of devices that an earlier process may have had."""


def run(
    cells: Iterable[CellSpec],
    out: Path | str,
    inputs: Mapping[str, Input] | None = None,
    **options: Any,
) -> Summary:
    """`compute` under supervision: SIGTERM, SIGINT and SIGHUP end the run at its next checkpoint.

    Raises:
      BadInput: an option of JAX that may change a number is set by a context manager, for the
        calling thread alone.
      StoreError, Interrupted: as `compute`.
    """
    check_options()
    return supervise(lambda stop: compute(cells, out, inputs, stop=stop, **options))


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
) -> Summary:
    """Computes and stores every cell that is not in `out` yet.

    Args:
      cells: what to run; each becomes `<out>/cells/<key>.parquet`.
      out: the run's folder; made if it is not there.
      inputs: `Plan.inputs`: the files that cells name in `recorded` and `given`.
      stop: set it from another thread to end the run at its next checkpoint.
      display: where progress is shown; by default the terminal.
      tensorboard: also write event files under `<out>/tensorboard`.
      checkpoint_seconds: least time between two checkpoints.
      chunk_seconds: how long one call of training should take; changes no result.
      chunk_rounds: rounds per call of training, instead of `chunk_seconds`; changes no result.

    Raises:
      StoreError: a file cannot be written, or one that is there is damaged or foreign; the text is
        one line that names it.
      Interrupted: the run was asked to stop; a further call goes on from there.
    """
    out, start, prints, summary = Path(out), time.monotonic(), fingerprint(), Summary()
    with writing(out):
        (out / "cells").mkdir(parents=True, exist_ok=True)
    wanted = {cell_key(cell, prints): cell for cell in cells}
    missing = {}
    for key, cell in wanted.items():
        if is_done(out, key):
            summary.present.append(key)
        else:
            missing[key] = cell
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
        for alike in shared.values():
            _run_alike(session, alike, inputs or {})
    finally:
        if board:
            board.close()
        display.end()
        summary.seconds = time.monotonic() - start
    return summary


def check_options() -> None:
    """Raises BadInput if an option of JAX that may change a number is set for the calling thread
    alone: cells are computed in another one."""
    there: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: there.append(fingerprint()))
    thread.start()
    thread.join()
    if there[0] != fingerprint():
        raise BadInput(
            "an option of JAX is set by a context manager, which the thread that computes does not "
            "see; nearest: "
            "jax.config.update"
        )


def computed_elsewhere(
    out: Path, missing: Iterable[CellSpec], prints: Mapping[str, Any]
) -> str | None:
    """One line on cells that `out` holds, whole or in part, from a process with another number of
    devices; None without any.

    A program for several devices rounds otherwise than one for one, so such cells are computed
    anew.
    """
    counts = Counter(
        devices
        for cell in missing
        for devices in DEVICES
        if devices != prints["devices"]
        and _begun(out, cell_key(cell, {**prints, "devices": devices}))
    )
    if not counts:
        return None
    devices, count = counts.most_common(1)[0]
    again = f"JAX_NUM_CPU_DEVICES={devices}" if prints["backend"] == "cpu" else f"{devices} devices"
    many = "1 device" if devices == 1 else f"{devices} devices"
    return (
        f"{count} of these cells are here from a process with {many}, and this one has "
        f"{prints['devices']}: they are computed "
        f"anew; to go on with them start again with {again}"
    )


def _begun(out: Path, key: str) -> bool:
    return cell_path(out, key).exists() or checkpoint_folder(out, key).exists()


def _run_alike(
    session: Session, cells: Mapping[str, CellSpec], inputs: Mapping[str, Input]
) -> None:
    """Runs cells that share a program, as many at a time as there are devices."""
    keys, first = list(cells), next(iter(cells.values()))
    session.display.advance(first.label, "tracing", 0.0)
    program = program_for(first, inputs)
    learner, before = program.learner, dict(program.compilations)
    try:
        for start in range(0, len(keys), program.groups):
            if session.stop.is_set():
                raise Interrupted
            batch = [
                CellProgress(cells[key], key, learner.rounds, program.metrics, learner.consumes)
                for key in keys[start : start + program.groups]
            ]
            Batch(session, program, batch).run()
    finally:
        program.settle()
        counts = session.summary.compilations.setdefault(f"{first.algo} {first.env}", {})
        for name, count in program.compilations.items():
            counts[name] = counts.get(name, 0) + count - before.get(name, 0)
