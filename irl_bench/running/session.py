"""The state that the parts of one run share, and the summary of the run."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irl_bench.running.console import Display, TensorBoard


@dataclasses.dataclass
class Summary:
    """What a call of `run` did.

    Attributes:
      done: keys of the cells that this call finished.
      present: keys of the cells that were already stored.
      resumed: {key: round and blocks of the checkpoint} of the cells that resumed.
      failures: {key: failed seeds with round and quantity} of the cells in `done`.
      compilations: {"algo env": {function: how often this call compiled it}}.
      seconds: wall time [s].
    """

    done: list[str] = dataclasses.field(default_factory=list)
    present: list[str] = dataclasses.field(default_factory=list)
    resumed: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    failures: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    compilations: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


@dataclasses.dataclass
class Session:
    """What all batches of one call of `run` share.

    Attributes:
      out: the run's folder.
      fingerprint: as `irl_bench.core.cell.fingerprint` returns it.
      display: shows the progress.
      stop: ends the run at its next checkpoint once it is set.
      board: TensorBoard files; None: none are written.
      checkpoint_seconds, chunk_seconds, chunk_rounds: as for `irl_bench.running.runner.compute`.
      summary: what the run has done so far.
      moved: called before every step of the work (`Leases.moved`).
    """

    out: Path
    fingerprint: dict[str, Any]
    display: Display
    stop: threading.Event
    board: TensorBoard | None
    checkpoint_seconds: float
    chunk_seconds: float
    chunk_rounds: int | None
    summary: Summary
    moved: Callable[[], None] = lambda: None
