"""A task: the part of a command that an engine runs on one of its machines.

Engines send this module by value, so it takes nothing but constants from the rest of the project,
and the machines load no JAX beside that of the command.
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
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from irl_bench.core.exits import INTERRUPTED

RESTARTS = 3
"""How often a process that a signal has ended is started again."""
PATIENCE = 20.0
"""How long processes have to stop once they were asked to [s], unless a task says otherwise; then
they are killed."""
LULL = 600.0
"""How long a task that was asked to stop waits for its engine to end it [s]."""


@dataclasses.dataclass
class Task:
    """A command, as a function without arguments that an engine can send."""

    number: int
    """From 1."""
    arguments: tuple[str, ...]
    """Of `irl-bench sweep`."""
    environment: Mapping[str, str]
    """What the command's environment has beside the machine's."""
    folder: str
    """The folder in which the command runs."""
    log: str
    """The file that takes the command's output."""
    preemptible: bool = False
    """Whether SIGTERM announces that the engine ends the task, and may run it again later."""
    patience: float = PATIENCE
    """As PATIENCE, of this task [s]."""

    def __post_init__(self) -> None:
        self._running: subprocess.Popen[bytes] | None = None
        self._asked = False

    def __call__(self) -> tuple[int, str]:
        """Runs the command, and runs it again if a signal has ended it.

        Returns:
          (its exit status, the last line of its output).
        """
        if self.preemptible and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_term)
        starts = 0
        while True:
            starts += 1
            try:
                code = self._run()
            except OSError as error:
                return 1, f"{error.strerror or error}: {error.filename or self.log}"
            ended = code < 0 or code == INTERRUPTED
            if not ended:
                return code, last_line(Path(self.log))
            if self._asked:
                # To go on now would only claim cells that nobody gives up when the end comes.
                time.sleep(LULL)
                self._asked = False
            elif starts > RESTARTS:
                text = f"was ended {starts} times: {last_line(Path(self.log))}"
                return code if code > 0 else 128 - code, text

    def checkpoint(self) -> Any:
        """Stops the command at its next checkpoint and returns what goes on with it. submitit calls
        it before the time limit and at a preemption, then requeues the job."""
        import submitit

        self._end()
        return submitit.helpers.DelayedSubmission(dataclasses.replace(self))

    def _run(self) -> int:
        """Runs the command once and returns its exit status, as `Popen.returncode`."""
        log = Path(self.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*_tied(), sys.executable, "-m", "irl_bench", "sweep", *self.arguments]
        # SLURM sends a job's signals to all of its processes. These two are for this one alone, and
        # would end the command without a checkpoint. A blocked signal stays blocked in a child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
        try:
            with log.open("ab") as output:
                self._running = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            self._wait()
        finally:
            self._end()
        return self._running.returncode

    def _wait(self, seconds: float = float("inf")) -> bool:
        """Waits until the command has ended, and returns whether it has.

        `Popen.wait` holds a lock, and a signal's handler that waits too would wait for ever.
        """
        running, until = self._running, time.monotonic() + seconds
        while running is not None and running.returncode is None:
            try:
                pid, status = os.waitpid(running.pid, os.WNOHANG)
            except ChildProcessError:  # the code that this handler interrupts has just seen its end
                return True
            if pid:
                running.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= until:
                return False
            else:
                time.sleep(0.1)
        return True

    def _end(self) -> None:
        """Asks the command to stop at its next checkpoint, and waits until it has ended."""
        if self._running is None or self._wait(0.0):
            return
        self._running.terminate()
        if not self._wait(self.patience):
            self._running.kill()
            self._wait()

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
        if self._running is not None and self._running.returncode is None:
            self._running.terminate()


def run(task: Task) -> tuple[int, str]:
    """Calls a task: Ray sends functions, and shows their names."""
    return task()


def last_line(log: Path) -> str:
    """Returns the last line of a process's output."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].removeprefix("error: ") if lines else f"it wrote nothing to {log}"


def package_path() -> str:
    """Returns the PYTHONPATH with which another process finds this package and the user's own
    modules."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join(dict.fromkeys([here, *filter(None, [os.environ.get("PYTHONPATH")])]))


def _tied() -> list[str]:
    """The beginning of a command that gets SIGTERM when this process is gone. Without it a killed
    worker of Ray leaves a command that nobody looks after."""
    tied = ["setpriv", "--pdeathsig", "TERM"]
    able = shutil.which("setpriv") is not None and (  # old ones lack the option
        subprocess.run([*tied, "true"], capture_output=True, check=False).returncode == 0
    )
    return tied if able else []
