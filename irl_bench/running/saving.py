"""Checkpoints of unfinished cells: when they are written, and how a cell resumes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from irl_bench.running.programs import Program
from irl_bench.running.progress import CellProgress
from irl_bench.running.session import Session
from irl_bench.storage import checkpoints
from irl_bench.storage.cells import is_done
from irl_bench.storage.files import StoreError


def checkpoint_folder(out: Path, key: str) -> Path:
    """Returns the folder of a cell's checkpoints in a run's folder."""
    return out / "checkpoints" / key


class Saver:
    """Writes and reads the checkpoints of one batch of cells."""

    def __init__(self, session: Session, program: Program):
        self.session, self.program = session, program
        self.saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old enough for another one."""
        return time.monotonic() - self.saved >= self.session.checkpoint_seconds

    def save(self, cells: Sequence[CellProgress], groups: Sequence[list[np.ndarray]]) -> None:
        """Writes a checkpoint of each cell from the leaves of its state. Raises StoreError if one
        cannot be written."""
        for cell, leaves in zip(cells, groups, strict=False):
            self._save(cell, leaves)
        self.saved = time.monotonic()

    def _save(self, cell: CellProgress, leaves: list[np.ndarray]) -> None:
        arrays, facts = cell.to_arrays()
        arrays |= {f"state.{index}": leaf for index, leaf in enumerate(leaves)}
        try:
            checkpoints.save(
                checkpoint_folder(self.session.out, cell.key), cell.serial, arrays, facts
            )
        except StoreError:
            # Another process may have finished the same cell and removed its checkpoints.
            if not is_done(self.session.out, cell.key):
                raise

    def restore(self, cell: CellProgress) -> list[np.ndarray] | None:
        """Returns the leaves of the state in the cell's newest sound checkpoint; None without one.
        Puts its counts into `cell`."""
        folder = checkpoint_folder(self.session.out, cell.key)
        count = len(jax.tree.leaves(self.program.state_shape))
        names = [f"state.{index}" for index in range(count)]

        def check(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
            cell.check_arrays(arrays, facts)
            if absent := [name for name in names if name not in arrays]:
                raise ValueError(f"it has no {absent[0]}")

        checkpoint = checkpoints.restore(folder, self.session.display.note, check)
        if checkpoint is None:
            return None
        arrays, facts = checkpoint
        leaves = [arrays[name] for name in names]
        cell.take_arrays(arrays, facts)
        self.session.summary.resumed[cell.key] = cell.resumed or {}
        self.session.display.note(
            f"{cell.spec.label}: resumes at round {cell.round}, block {cell.block}"
        )
        return leaves
