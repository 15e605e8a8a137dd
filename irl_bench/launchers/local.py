"""Runs one sweep or study in several processes of this machine, each with devices of its own.

All processes run the same command in the same folder and share its cells by leases
(`irl_bench.running.leases`). One that dies is started again, and what it computed stays.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from irl_bench.core.exits import INTERRUPTED
from irl_bench.core.settings import BadInput
from irl_bench.launchers.tasks import EVERY, progress
from irl_bench.launchers.work import PATIENCE, RESTARTS, last_line, package_path
from irl_bench.running import process, streams
from irl_bench.storage.files import writing


class WorkerError(Exception):
    """A process failed.

    Args:
      text: one line about it.
      code: its exit status.
    """

    def __init__(self, text: str, code: int):
        super().__init__(text)
        self.code = code


@dataclasses.dataclass
class Worker:
    """One of the processes."""

    number: int
    """From 1."""
    environment: Mapping[str, str]
    """Its environment variables."""
    cores: frozenset[int]
    """Its cores; empty: all."""
    log: Path
    """Where its output goes."""
    running: subprocess.Popen[bytes] | None = None
    """The process; None once it has ended."""
    starts: int = 0
    """How often it was started."""


def accelerators() -> list[str]:
    """Returns the NVIDIA GPUs that processes may use, as CUDA_VISIBLE_DEVICES names them. JAX is
    not started."""
    if os.environ.get("JAX_PLATFORMS", "").strip().lower() == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def shares(count: int, gpus: Sequence[str], cores: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Returns what each of `count` processes may use: (CUDA_VISIBLE_DEVICES, cores).

    GPUs are dealt out, or else cores. Each process gets the same number of GPUs, since cells are
    those of a number of devices; GPUs that are left over idle. With more processes than GPUs,
    several share one.

    Raises:
      BadInput: there are fewer cores than processes, and no GPU.
    """
    if gpus:
        each = max(1, len(gpus) // count)
        start = lambda n: n * each % (len(gpus) // each * each)
        return [(",".join(gpus[start(n) : start(n) + each]), []) for n in range(count)]
    if count > len(cores):
        raise BadInput(
            f"--workers={count}: each needs a core, and there are {len(cores)}; nearest: "
            f"--workers={len(cores)}"
        )
    ends = [len(cores) * n // count for n in range(count + 1)]
    return [("", list(cores[ends[n] : ends[n + 1]])) for n in range(count)]


def launch(
    arguments: Sequence[str], count: int | None, out: Path, say: Callable[[str], None] = print
) -> int:
    """Runs a command in several processes until all of them have ended.

    Args:
      arguments: of `irl-bench sweep`, without the launcher's.
      count: number of processes; None: one per GPU, or two.
      out: the folder of the run.
      say: is called with each line on the progress.

    Returns:
      The exit status: 0 or INTERRUPTED.

    Raises:
      BadInput: there are too few cores.
      WorkerError: a process failed; the others were stopped.
      WriteError: the folder cannot be written.
    """
    gpus = accelerators()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = cores or list(range(process.cores()))
    count = count or len(gpus) or min(2, len(cores))
    workers = []
    with writing(out):
        (out / "workers").mkdir(parents=True, exist_ok=True)
    for number, (visible, own) in enumerate(shares(count, gpus, cores), 1):
        environment = {**os.environ, "PYTHONPATH": package_path()}
        if visible:
            environment["CUDA_VISIBLE_DEVICES"] = visible
            if count > len(gpus):  # else the first process on a GPU would reserve most of it
                environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        elif not process.chosen_devices():
            # As many devices as without a launcher: cells are those of a number of devices.
            environment["JAX_NUM_CPU_DEVICES"] = str(min(len(cores), process.MOST_CPU_DEVICES))
        log = out / "workers" / f"{number}.log"
        workers.append(Worker(number, environment, frozenset(own), log))
    command = [sys.executable, "-m", "irl_bench", "sweep", *arguments]
    say(f"{count} processes; their output: {out / 'workers'}")
    return _Run(command, workers, out, say).run()


class _Run:
    """The processes of one launch."""

    def __init__(
        self,
        command: Sequence[str],
        workers: Sequence[Worker],
        out: Path,
        say: Callable[[str], None],
    ):
        self.command, self.workers, self.out, self.say = command, workers, out, say
        self.asked = threading.Event()

    def run(self) -> int:
        """Starts the processes, waits for them, and returns the exit status."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {n: signal.signal(n, self._on_signal) for n in process.stopping_signals()}
        try:
            for worker in self.workers:
                self._start(worker)
            return self._wait()
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        told = self.asked.is_set()
        self.asked.set()
        if not told:
            streams.tell(f"{signal.Signals(number).name}: stopping all processes")

    def _start(self, worker: Worker) -> None:
        """Starts a process on its cores."""
        worker.starts += 1
        allowed: Any = getattr(os, "sched_setaffinity", None)
        ours = os.sched_getaffinity(0) if allowed and worker.cores else None
        if ours is not None:
            allowed(0, worker.cores)  # a child inherits them
        try:
            with writing(worker.log), worker.log.open("ab") as log:
                worker.running = subprocess.Popen(
                    self.command,
                    env=dict(worker.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # A terminal's Ctrl-C reaches this process alone, which passes it on.
                    start_new_session=True,
                )
        finally:
            if ours is not None:
                allowed(0, ours)

    def _wait(self) -> int:
        """Waits until all processes have ended, and returns the exit status."""
        told, last = "", 0.0
        while any(worker.running for worker in self.workers):
            if self.asked.wait(0.2):
                return INTERRUPTED
            for worker in self.workers:
                code = worker.running.poll() if worker.running else None
                if code is None:
                    continue
                worker.running = None
                # A process that is asked to stop ends with INTERRUPTED.
                signalled = code < 0 or code == INTERRUPTED
                if signalled and worker.starts <= RESTARTS:
                    how = _name(-code) if code < 0 else "a signal"
                    self.say(f"process {worker.number} was ended by {how}; it starts again")
                    self._start(worker)
                elif code:
                    how = f"was ended {worker.starts} times" if signalled else "failed"
                    raise WorkerError(
                        f"process {worker.number} {how}: {last_line(worker.log)}",
                        code if code > 0 else 128 - code,
                    )
            ended = not any(worker.running for worker in self.workers)
            if time.monotonic() - last >= EVERY or ended:
                last, text = time.monotonic(), progress(self.out)
                if text and text != told:
                    told = text
                    self.say(text)
        return 0

    def _stop(self) -> None:
        """Ends the processes that still run."""
        running = [worker.running for worker in self.workers if worker.running]
        for each in running:
            each.terminate()
        until = time.monotonic() + PATIENCE
        for each in running:
            try:
                each.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


def _name(number: int) -> str:
    """A signal's name; not all numbers have one."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
