"""Computes several cells at once in phases: begin or resume, train, evaluate, measure the errors,
store."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence

import jax
import numpy as np

from irl_bench.running.process import Interrupted
from irl_bench.running.programs import CAPACITY, EVALUATION, LEVEL, Program
from irl_bench.running.progress import CellProgress
from irl_bench.running.saving import Saver, checkpoint_folder
from irl_bench.running.session import Session
from irl_bench.running.work import Work
from irl_bench.storage import artifacts, checkpoints
from irl_bench.storage.cells import write_cell
from irl_bench.storage.files import writing

SHOWN_METRICS = ("cost", "disc_accuracy_expert", "disc_accuracy_policy", "kl", "std")
"""Metrics that are shown while training."""


class Batch:
    """Up to G cells that are computed at once. Each has its progress on the host and one group of
    the arrays on the devices."""

    def __init__(self, session: Session, program: Program, cells: Sequence[CellProgress]):
        self.session, self.program, self.cells = session, program, cells
        self.started = time.monotonic()
        self.saver = Saver(session, program)
        self.compile_seconds = program.compile_seconds
        self.work = Work(program, [cell.spec for cell in cells])
        self.label = cells[0].spec.label + (f" and {len(cells) - 1} more" if len(cells) > 1 else "")

    def run(self) -> None:
        """Computes and stores the cells.

        Raises:
          Interrupted: the run was asked to stop; the progress is in checkpoints.
          StoreError: a file cannot be written or used.
        """
        self._begin()
        self._train()
        self._evaluate()
        self._measure_eps()
        learned = self.work.keep() if self.program.learner.rounds else None
        for group, cell in enumerate(self.cells):
            parts = learned and jax.tree.map(lambda leaf, g=group: leaf[g], learned)
            self._finish(cell, artifacts.encode(cell.spec, cell.key, parts) if parts else None)

    # The phases.

    def _begin(self) -> None:
        """Initialises the learner's state, or restores it from the cells' checkpoints."""
        self._show("compiling")
        self.program.prepare()
        if self.session.stop.is_set():
            raise Interrupted
        restored = [self.saver.restore(cell) for cell in self.cells]
        untrained = any(leaves is None for leaves in restored) or not all(
            cell.trained for cell in self.cells
        )
        if self.program.learner.rounds and untrained:
            # Checkpoints hold no demonstrations: the seed determines them.
            self.work.demonstrate()
        groups = [leaves for leaves in restored if leaves is not None]
        if len(groups) < len(restored):
            self.work.init()
            if not any(restored):
                return
            fresh = self.work.leaves()
            groups = [fresh[g] if leaves is None else leaves for g, leaves in enumerate(restored)]
        self.work.restore(groups)

    def _train(self) -> None:
        """Trains in chunks of rounds, with an evaluation whenever one is due."""
        most = self.session.chunk_rounds or 1
        while not all(cell.trained and not cell.level_due for cell in self.cells):
            self._show("training" + self._detail())
            start, compiled = time.monotonic(), self.program.compile_seconds
            counts = [cell.rounds_ahead(min(most, CAPACITY)) for cell in self.cells]
            if any(counts):
                rows = self.work.train(counts)
                for cell, count, metrics in zip(self.cells, counts, rows, strict=False):
                    self._log(cell, metrics[:count])
                    cell.add_rounds(metrics[:count].copy())
                if self.session.chunk_rounds is None and compiled == self.program.compile_seconds:
                    pace = (time.monotonic() - start) / max(counts)
                    most = int(np.clip(self.session.chunk_seconds / max(pace, 1e-6), 1, CAPACITY))
            if any(cell.level_due for cell in self.cells):
                sums = self.work.evaluate(LEVEL, [0] * len(self.cells))
                for cell, values in zip(self.cells, sums, strict=False):
                    if cell.level_due:
                        cell.add_level(values)
                        if self.session.board:
                            self.session.board.add(
                                cell.key, cell.round, {"level": cell.levels[cell.round][None]}
                            )
            self._pause()
        self.work.demos = None

    def _evaluate(self) -> None:
        """Runs the final evaluation in blocks of episodes, which are added to the cells' sums."""
        while not all(cell.evaluated for cell in self.cells):
            self._show("evaluating")
            sums = self.work.evaluate(EVALUATION, [cell.block for cell in self.cells])
            for cell, values in zip(self.cells, sums, strict=False):
                if not cell.evaluated:
                    cell.add(values)
                    cell.block += 1
            self._pause()

    def _measure_eps(self) -> None:
        """Measures the errors on held-out expert rollouts in blocks of episodes."""
        while not all(cell.done for cell in self.cells):
            self._show("measuring eps")
            sums = self.work.expert_errors([cell.eps_block for cell in self.cells])
            for cell, values in zip(self.cells, sums, strict=False):
                if not cell.done:
                    cell.add(values)
                    cell.eps_block += 1
            self._pause()

    def _finish(self, cell: CellProgress, learned: bytes | None) -> None:
        """Stores the cell's result, removes its checkpoints and adds a line to the log.

        Args:
          cell: that is computed.
          learned: the bytes of the file of what it has learned; None: nothing.
        """
        session, failures = (
            self.session,
            [dataclasses.asdict(failure) for failure in cell.failures()],
        )
        manifest = cell.manifest(session.fingerprint)
        write_cell(session.out, cell.spec, cell.key, cell.rows(), manifest, learned)
        checkpoints.remove(checkpoint_folder(session.out, cell.key))
        session.summary.done.append(cell.key)
        if failures:
            session.summary.failures[cell.key] = failures
        seconds = time.monotonic() - self.started
        compiling = self.program.compile_seconds - self.compile_seconds
        spec = cell.spec
        line = {
            "key": cell.key,
            **{
                name: getattr(spec, name)
                for name in ("algo", "env", "mode", "first_seed", "width", "episodes", "horizon")
            },
            "rounds": cell.rounds,
            # The cell's share of the time, so that a sum over cells is the time of a run.
            "wall": round(seconds / len(self.cells), 3),
            "compile_seconds": round(compiling, 3),
            "cells_at_once": len(self.cells),
            "compilations": dict(self.program.compilations),
            "resumed": cell.resumed,
            "failed": [failure["seed"] for failure in failures],
        }
        log = session.out / "log.jsonl"
        with writing(log), log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        failed = "".join(
            f"; seed {f['seed']} failed in round {f['round']}: {f['quantity']}" for f in failures
        )
        session.display.cell_done(spec.label, f"{seconds:.1f} s{failed}")

    def _pause(self) -> None:
        """Writes a checkpoint if one is due, and ends the run if it was asked to stop. Called
        between two computations."""
        stopping = self.session.stop.is_set()
        if all(cell.done for cell in self.cells):
            return  # the results are written next, which is faster than a checkpoint
        if stopping or self.saver.due:
            self.saver.save(self.cells, self.work.leaves())
        if stopping:
            raise Interrupted

    # Display.

    def _show(self, stage: str) -> None:
        """Tells that a step of the work begins: its stage and the share of the work that is
        done."""
        self.session.moved()
        self.session.display.advance(
            self.label, stage, sum(cell.fraction for cell in self.cells) / len(self.cells)
        )

    def _detail(self) -> str:
        """The latest means over seeds of SHOWN_METRICS as text; "" if the algorithm reports
        none."""
        cell = self.cells[0]
        names = [name for name in SHOWN_METRICS if name in cell.metrics]
        if not names or not cell.round:
            return ""
        last = cell.history[-1]
        values = (
            f"{name.removeprefix('disc_')} {last[:, cell.metrics.index(name)].mean():.3g}"
            for name in names
        )
        return f" ({', '.join(values)})"

    def _log(self, cell: CellProgress, rows: np.ndarray) -> None:
        """Sends the metrics float32[k, W, M] of further rounds to TensorBoard, if it is on."""
        if self.session.board:
            values = {name: rows[:, :, index] for index, name in enumerate(cell.metrics[:-1])}
            self.session.board.add(cell.key, cell.round + 1, values)
