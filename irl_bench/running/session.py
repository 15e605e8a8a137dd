"""What the parts of one run have in common, and what it did."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

from irl_bench.running.console import Display, TensorBoard


@dataclasses.dataclass
class Summary:
    """What a call of `run` did.

    Attributes:
      done: keys of the cells that this call finished.
      present: keys of those that were there before.
      resumed: {key: the round and blocks it was taken up again at} of cells that went on from a
        checkpoint.
      failures: {key: failed seeds with round and quantity} of the cells in `done`.
      compilations: {"algo env": {function: how often it was compiled}} by this call.
      seconds: wall time.
    """

    done: list[str] = dataclasses.field(default_factory=list)
    present: list[str] = dataclasses.field(default_factory=list)
    resumed: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    failures: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    compilations: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


@dataclasses.dataclass
class Session:
    """What all batches of one call of `run` have in common."""

    out: Path
    fingerprint: dict[str, Any]
    display: Display
    stop: threading.Event
    board: TensorBoard | None
    checkpoint_seconds: float
    chunk_seconds: float
    chunk_rounds: int | None
    summary: Summary
