"""Shows the progress of a run: bars on a terminal, plain lines elsewhere, TensorBoard files on
request."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

LINE_EVERY = 5.0
"""Minimum time between two plain lines about unfinished work [s]."""


class Display(Protocol):
    """Receives the progress of a run. One thread calls it at a time."""

    def begin(self, total: int, done: int) -> None:
        """The run starts with `total` cells, of which `done` are already stored."""

    def advance(self, label: str, stage: str, fraction: float) -> None:
        """The cells called `label` are in `stage`, and `fraction` of their work is done."""

    def note(self, text: str) -> None:
        """Shows a line of text."""

    def cell_done(self, label: str, text: str) -> None:
        """The cell called `label` is stored."""

    def end(self) -> None:
        """No more calls follow."""


class Silent:
    """Shows nothing."""

    def begin(self, total: int, done: int) -> None:
        """Does nothing."""

    def advance(self, label: str, stage: str, fraction: float) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Does nothing."""

    def cell_done(self, label: str, text: str) -> None:
        """Does nothing."""

    def end(self) -> None:
        """Does nothing."""


class Lines:
    """Prints one line per finished cell, and at most one every LINE_EVERY seconds in between."""

    def __init__(self, file: TextIO | None = None):
        self._file = file or sys.stdout
        self._start = time.monotonic()
        self._last = float("-inf")
        self._total = self._done = 0

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=self._file, flush=True)

    def begin(self, total: int, done: int) -> None:
        """See `Display.begin`."""
        self._total, self._done = total, done
        self._print(f"{total} cells, {done} already there")

    def advance(self, label: str, stage: str, fraction: float) -> None:
        """See `Display.advance`."""
        now = time.monotonic()
        if now - self._last >= LINE_EVERY:
            self._last = now
            self._print(f"{label}: {stage} {100 * fraction:.0f} %")

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._print(text)

    def cell_done(self, label: str, text: str) -> None:
        """See `Display.cell_done`."""
        self._done += 1
        self._print(f"{self._done}/{self._total} {label}: {text}")

    def end(self) -> None:
        """Does nothing."""


class Bars:
    """Draws a bar for all cells and a bar for the cells in progress, on a terminal."""

    def __init__(self) -> None:
        from rich import progress

        self._bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
        )
        self._cells = self._now = self._bars.add_task("cells", total=None)

    def begin(self, total: int, done: int) -> None:
        """See `Display.begin`."""
        self._bars.update(self._cells, total=max(total, 1), completed=done)
        self._now = self._bars.add_task("starting", total=1.0)
        self._bars.start()

    def advance(self, label: str, stage: str, fraction: float) -> None:
        """See `Display.advance`."""
        self._bars.update(self._now, description=f"{label}: {stage}", completed=fraction)

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._bars.console.print(text, markup=False, highlight=False)

    def cell_done(self, label: str, text: str) -> None:
        """See `Display.cell_done`."""
        self._bars.advance(self._cells)
        self.note(f"{label}: {text}")

    def end(self) -> None:
        """See `Display.end`."""
        self._bars.update(self._now, visible=False)
        self._bars.stop()


def display_here() -> Display:
    """Returns Bars on a terminal, Lines elsewhere."""
    return Bars() if sys.stdout.isatty() else Lines()


class TensorBoard:
    """Writes event files `<folder>/<key>/`: the means over seeds of every metric and level. Values
    that are not finite are left out."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def add(self, key: str, first_round: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes values of a cell.

        Args:
          key: the cell's key.
          first_round: the round of the first row.
          values: {name: float[k, W]}, the values after rounds first_round, first_round + 1, ...
        """
        from tensorboardX import SummaryWriter

        writer = self._writers.get(key) or self._writers.setdefault(
            key, SummaryWriter(str(self._folder / key))
        )
        for name, rows in values.items():
            for at, row in enumerate(rows, first_round):
                finite = row[np.isfinite(row)]
                if finite.size:
                    writer.add_scalar(name, float(finite.mean()), at)

    def close(self) -> None:
        """Closes all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
