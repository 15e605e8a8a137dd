"""Runs cells: compiled functions driven from the host, with checkpoints, exact resume and a clean
way out.

Cells that share compiled functions are run together, as many at once as there are devices. Training
goes in chunks of rounds and evaluation in blocks of episodes. Between two calls everything a cell
has achieved can be written down, and a cell taken up again from there ends in the same bytes as one
that was never disturbed; so does one run in other chunks or beside other cells.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from irl_bench.core.cell import CellSpec, cell_key, fingerprint
from irl_bench.core.settings import BadInput
from irl_bench.run.console import Progress, TensorBoard, reporter
from irl_bench.run.lanes import Lane, checkpoint_folder
from irl_bench.run.process import EXIT_AGAIN, Interrupted, configure, supervise
from irl_bench.run.programs import CAPACITY, EVALUATION, LEVEL, Program, program_for
from irl_bench.storage import artifacts, checkpoints
from irl_bench.storage.cells import StoreError, cell_path, is_done, write_cell, writing

__all__ = ["EXIT_AGAIN", "Interrupted", "Summary", "configure", "run", "supervise"]


DEVICES = (*range(1, 17), 32, 64, 128, 256)
"""Numbers of devices that an earlier process may have had."""
SHOWN = ("cost", "disc_accuracy_expert", "disc_accuracy_policy", "kl", "std")
"""Metrics shown while training."""


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


def run(
    cells: Iterable[CellSpec],
    out: Path | str,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    tensorboard: bool = False,
    checkpoint_seconds: float = 30.0,
    chunk_seconds: float = 2.0,
    chunk_rounds: int | None = None,
) -> Summary:
    """Computes and stores every cell that is not in `out` yet.

    Args:
      cells: what to run; each becomes `<out>/cells/<key>.parquet`.
      out: the run's folder; made if it is not there.
      progress: whom to tell; by default the terminal.
      stop: set it from another thread to end the run at its next checkpoint. None: SIGTERM and
        SIGINT do that.
      tensorboard: also write event files under `<out>/tensorboard`.
      checkpoint_seconds: least time between two checkpoints.
      chunk_seconds: how long one call of training should take; changes no result.
      chunk_rounds: rounds per call of training, instead of `chunk_seconds`; changes no result.

    Raises:
      BadInput: an option of JAX that may change a number is set by a context manager, for the
        calling thread alone.
      StoreError: a file cannot be written, or one that is there is damaged or foreign; the text is
        one line that names it.
      Interrupted: the run was asked to stop; a further call goes on from there.
    """
    if stop is None:
        check_options()
        return supervise(
            lambda event: run(
                cells,
                out,
                progress=progress,
                stop=event,
                tensorboard=tensorboard,
                checkpoint_seconds=checkpoint_seconds,
                chunk_seconds=chunk_seconds,
                chunk_rounds=chunk_rounds,
            )
        )
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

    shown = progress or reporter()
    text = computed_elsewhere(out, missing.values(), prints)
    if text:
        shown.note(text)

    board = TensorBoard(out / "tensorboard") if tensorboard else None
    session = _Session(
        out, prints, shown, stop, board, checkpoint_seconds, chunk_seconds, chunk_rounds, summary
    )
    session.progress.begin(len(wanted), len(summary.present))
    try:
        for alike in shared.values():
            _run_alike(session, alike)
    finally:
        if board:
            board.close()
        session.progress.end()
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


@dataclasses.dataclass
class _Session:
    """What all batches of one call of `run` have in common."""

    out: Path
    fingerprint: dict[str, Any]
    progress: Progress
    stop: threading.Event
    board: TensorBoard | None
    checkpoint_seconds: float
    chunk_seconds: float
    chunk_rounds: int | None
    summary: Summary


def _run_alike(session: _Session, cells: dict[str, CellSpec]) -> None:
    """Runs cells that share a program, as many at a time as there are devices."""
    keys, first = list(cells), next(iter(cells.values()))
    session.progress.advance(first.label, "tracing", 0.0)
    program = program_for(first)
    before = dict(program.compilations)
    try:
        for start in range(0, len(keys), program.groups):
            if session.stop.is_set():
                raise Interrupted
            learner = program.learner
            chosen = keys[start : start + program.groups]
            lanes = [
                Lane(cells[key], key, learner.rounds, program.metrics, learner.consumes)
                for key in chosen
            ]
            _Batch(session, program, lanes).run()
    finally:
        program.settle()
        counts = session.summary.compilations.setdefault(f"{first.algo} {first.env}", {})
        for name, count in program.compilations.items():
            counts[name] = counts.get(name, 0) + count - before.get(name, 0)


class _Batch:
    """Up to G cells that are computed at once. Each has a lane on the host and a group of the
    arrays on the devices."""

    def __init__(self, session: _Session, program: Program, lanes: Sequence[Lane]):
        self.session, self.program, self.lanes = session, program, lanes
        self.started = self.saved = time.monotonic()
        self.compile_seconds = program.compile_seconds
        # Devices without a cell repeat the last one; their results are left out.
        self.specs = [lane.spec for lane in lanes] + [lanes[-1].spec] * (
            program.groups - len(lanes)
        )
        self.seeds = program.put([np.asarray(spec.seeds, np.uint32) for spec in self.specs])
        self.dials = program.put([program.dials(spec) for spec in self.specs])
        self.given = program.given(self.specs)
        self.label = lanes[0].spec.label + (f" and {len(lanes) - 1} more" if len(lanes) > 1 else "")
        self.demos: Any = None
        self.state: Any = None

    def run(self) -> None:
        self._begin()
        self._train()
        self._evaluate()
        self._measure_eps()
        kept = (
            jax.device_get(self.program("keep", self.state))
            if self.program.learner.rounds
            else None
        )
        for group, lane in enumerate(self.lanes):
            if kept is not None:
                parts = jax.tree.map(lambda leaf, g=group: leaf[g], kept)
                artifacts.write(self.session.out, lane.spec, lane.key, parts)
            self._finish(lane)

    # The phases.

    def _begin(self) -> None:
        """Makes the learner's state afresh, or takes it from the cells' checkpoints."""
        self._show("compiling")
        self.program.prepare()
        if self.session.stop.is_set():
            raise Interrupted
        restored = [self._restore(lane) for lane in self.lanes]
        untrained = any(leaves is None for leaves in restored) or not all(
            lane.trained for lane in self.lanes
        )
        if self.program.learner.rounds and untrained:
            # Demonstrations are not in checkpoints: they are made again from the seed.
            self.demos = self.program.demonstrations(self.specs, self.seeds, self.dials)
        if all(leaves is not None for leaves in restored):
            groups = restored
        else:
            self.state = self.program("init", self.seeds, self.demos, self.dials, self.given)
            if not any(restored):
                return
            fresh = self._host_state()
            groups = [fresh[g] if leaves is None else leaves for g, leaves in enumerate(restored)]
        groups = [*groups, *[groups[-1]] * (self.program.groups - len(groups))]
        self.state = jax.tree.unflatten(
            jax.tree.structure(self.program.state_shape), self.program.put(groups)
        )

    def _train(self) -> None:
        """Rounds of training in chunks; stops at each evaluation that is due on the way."""
        most = self.session.chunk_rounds or 1
        while not all(lane.trained and not lane.level_due for lane in self.lanes):
            self._show("training" + self._detail())
            start, compiled = time.monotonic(), self.program.compile_seconds
            counts = [lane.rounds_ahead(min(most, CAPACITY)) for lane in self.lanes]
            if any(counts):
                k = self.program.put([np.int32(count) for count in self._pad(counts, 0)])
                self.state, buffer = self.program(
                    "chunk", self.state, self.demos, self.dials, self.given, k
                )
                rows = np.asarray(buffer)
                for lane, count, own in zip(self.lanes, counts, rows, strict=False):
                    self._log(lane, own[:count])
                    lane.add_rounds(own[:count].copy())
                if self.session.chunk_rounds is None and compiled == self.program.compile_seconds:
                    pace = (time.monotonic() - start) / max(counts)
                    most = int(np.clip(self.session.chunk_seconds / max(pace, 1e-6), 1, CAPACITY))
            if any(lane.level_due for lane in self.lanes):
                sums = self._rollouts(LEVEL, [0] * len(self.lanes))
                for lane, own in zip(self.lanes, sums, strict=False):
                    if lane.level_due:
                        lane.add_level(own)
                        if self.session.board:
                            self.session.board.add(
                                lane.key, lane.round, {"level": lane.levels[lane.round][None]}
                            )
            self._pause()
        self.demos = None

    def _evaluate(self) -> None:
        """The final evaluation, in blocks of episodes; each is added to its cell's sums."""
        while not all(lane.evaluated for lane in self.lanes):
            self._show("evaluating")
            sums = self._rollouts(EVALUATION, [lane.block for lane in self.lanes])
            for lane, own in zip(self.lanes, sums, strict=False):
                if not lane.evaluated:
                    lane.add(own)
                    lane.block += 1
            self._pause()

    def _measure_eps(self) -> None:
        """The errors on held-out expert rollouts, in blocks of episodes."""
        while not all(lane.done for lane in self.lanes):
            self._show("measuring eps")
            sums = self._expert_errors([lane.eps_block for lane in self.lanes])
            for lane, own in zip(self.lanes, sums, strict=False):
                if not lane.done:
                    lane.add(own)
                    lane.eps_block += 1
            self._pause()

    def _finish(self, lane: Lane) -> None:
        """Stores the cell's result, removes its checkpoints and writes a line into the log."""
        session, failures = (
            self.session,
            [dataclasses.asdict(failure) for failure in lane.failures()],
        )
        write_cell(
            session.out, lane.spec, lane.key, lane.rows(), lane.manifest(session.fingerprint)
        )
        checkpoints.remove(checkpoint_folder(session.out, lane.key))
        session.summary.done.append(lane.key)
        if failures:
            session.summary.failures[lane.key] = failures
        seconds = time.monotonic() - self.started
        compiling = self.program.compile_seconds - self.compile_seconds
        spec = lane.spec
        line = {
            "key": lane.key,
            **{
                name: getattr(spec, name)
                for name in ("algo", "env", "mode", "first_seed", "width", "episodes", "horizon")
            },
            "rounds": lane.rounds,
            # The cell's share of the time, so that a sum over cells is the time of a run.
            "wall": round(seconds / len(self.lanes), 3),
            "compile_seconds": round(compiling, 3),
            "cells_at_once": len(self.lanes),
            "compilations": dict(self.program.compilations),
            "resumed": lane.resumed,
            "failed": [failure["seed"] for failure in failures],
        }
        log = session.out / "log.jsonl"
        with writing(log), log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        failed = "".join(
            f"; seed {f['seed']} failed in round {f['round']}: {f['quantity']}" for f in failures
        )
        session.progress.cell_done(spec.label, f"{seconds:.1f} s{failed}")

    # Calls of the compiled functions; one dict of host arrays per group.

    def _rollouts(self, stream: int, blocks: Sequence[int]) -> list[dict[str, np.ndarray]]:
        streams = self.program.put([np.uint32(stream)] * self.program.groups)
        return self._groups(
            self.program(
                "evaluate", self.state, self.dials, self.seeds, streams, self._numbers(blocks)
            )
        )

    def _expert_errors(self, blocks: Sequence[int]) -> list[dict[str, np.ndarray]]:
        return self._groups(
            self.program("expert_errors", self.state, self.dials, self.seeds, self._numbers(blocks))
        )

    def _numbers(self, values: Sequence[int]) -> jax.Array:
        return self.program.put([np.uint32(value) for value in self._pad(values, values[-1])])

    def _pad(self, values: Sequence[int], filler: int) -> list[int]:
        return [*values, *[filler] * (self.program.groups - len(values))]

    def _groups(self, tree: dict[str, jax.Array]) -> list[dict[str, np.ndarray]]:
        host = jax.device_get(tree)
        return [{name: leaf[g] for name, leaf in host.items()} for g in range(self.program.groups)]

    # Checkpoints.

    def _host_state(self) -> list[list[np.ndarray]]:
        """The leaves of the learner's state of each group."""
        leaves = jax.device_get(jax.tree.leaves(self.state))
        return [[leaf[g] for leaf in leaves] for g in range(self.program.groups)]

    def _pause(self) -> None:
        """Between two calls: writes a checkpoint if it is time for one, and ends the run if it
        was asked to stop."""
        stopping = self.session.stop.is_set()
        if all(lane.done for lane in self.lanes):
            return  # the results themselves are written next, and that is quicker
        if stopping or time.monotonic() - self.saved >= self.session.checkpoint_seconds:
            for lane, leaves in zip(self.lanes, self._host_state(), strict=False):
                self._save(lane, leaves)
            self.saved = time.monotonic()
        if stopping:
            raise Interrupted

    def _save(self, lane: Lane, leaves: list[np.ndarray]) -> None:
        arrays, facts = lane.to_arrays()
        arrays |= {f"state.{index}": leaf for index, leaf in enumerate(leaves)}
        try:
            checkpoints.save(
                checkpoint_folder(self.session.out, lane.key), lane.serial, arrays, facts
            )
        except StoreError:
            # Another worker that finishes the same cell removes its checkpoints under our hands.
            if not is_done(self.session.out, lane.key):
                raise

    def _restore(self, lane: Lane) -> list[np.ndarray] | None:
        """The leaves of the state in the cell's newest sound checkpoint, whose counts go into
        the lane."""
        found = checkpoints.restore(
            checkpoint_folder(self.session.out, lane.key), self.session.progress.note
        )
        if found is None:
            return None
        arrays, facts = found
        shapes = jax.tree.leaves(self.program.state_shape)
        leaves = [arrays[f"state.{index}"] for index in range(len(shapes))]
        lane.take_arrays(arrays, facts)
        self.session.summary.resumed[lane.key] = lane.resumed or {}
        self.session.progress.note(
            f"{lane.spec.label}: goes on at round {lane.round}, block {lane.block}"
        )
        return leaves

    # Showing.

    def _show(self, stage: str) -> None:
        self.session.progress.advance(
            self.label, stage, sum(lane.fraction for lane in self.lanes) / len(self.lanes)
        )

    def _detail(self) -> str:
        """The latest value of some metrics, mean over seeds; "" for an algorithm that reports
        none of them."""
        lane = self.lanes[0]
        names = [name for name in SHOWN if name in lane.metrics]
        if not names or not lane.round:
            return ""
        last = lane.history[-1]
        values = (
            f"{name.removeprefix('disc_')} {last[:, lane.metrics.index(name)].mean():.3g}"
            for name in names
        )
        return f" ({', '.join(values)})"

    def _log(self, lane: Lane, rows: np.ndarray) -> None:
        if self.session.board:
            values = {name: rows[:, :, index] for index, name in enumerate(lane.metrics[:-1])}
            self.session.board.add(lane.key, lane.round + 1, values)
