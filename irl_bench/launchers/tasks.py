"""Divides a command into tasks, gives them to an engine, and follows them until they have ended.

A task of a sweep computes a share of the plan into the run's folder, which all machines see. It
ends when its share is stored and frees its machine, where a copy of the whole command would wait
for the others. Shares and copies meet in the folder alone, by leases: an engine may run a task
twice, or late, and nothing is lost or doubled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import jax

from irl_bench.core.cell import CellSpec
from irl_bench.core.exits import INTERRUPTED
from irl_bench.core.settings import BadInput
from irl_bench.launchers.work import Task, package_path
from irl_bench.running import process
from irl_bench.storage.cells import stored
from irl_bench.storage.files import StoreError, writing
from irl_bench.storage.plans import read_plan
from irl_bench.upkeep.runs import runs_in

EVERY = 5.0
"""Time between two lines about the progress [s]."""
UNDIVIDED = 2
"""Number of tasks of a command that is not divided, by default."""
CARRIED = ("JAX_", "XLA_", "IRL_BENCH_")
"""How variables begin that go with a task: cells depend on some of them."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """A task that has ended."""

    number: int
    """Of the task."""
    code: int
    """The command's exit status."""
    text: str
    """One line that says why, if it is not 0."""


class Engine(Protocol):
    """Runs tasks on machines."""

    every: float
    """Time between two looks at the tasks [s]."""

    def start(self, tasks: Sequence[Task]) -> str:
        """Starts tasks and returns a line about them.

        Raises:
          BadInput: the engine does not take them.
        """
        ...

    def ended(self) -> list[Ended]:
        """Returns the tasks that have ended since the last call."""
        ...

    def stop(self) -> str:
        """Does what the engine's users expect of a launching process that is stopped, and returns
        a line about the tasks."""
        ...


def groups(cells: Sequence[CellSpec]) -> int:
    """Returns the number of groups of cells that share compiled functions."""
    return len({cell.static_key() for cell in cells})


def environment(gpus: bool) -> dict[str, str]:
    """Returns the variables that go with a task.

    Args:
      gpus: whether the engine gives GPUs to the task. Without any, its cells are those that this
        process would compute on a CPU, whatever the machines have.
    """
    carried = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
    carried["PYTHONPATH"] = package_path()
    if not gpus:
        carried["JAX_PLATFORMS"] = carried.get("JAX_PLATFORMS") or "cpu"
        if not process.chosen_devices():
            carried["JAX_NUM_CPU_DEVICES"] = str(jax.local_device_count("cpu"))
    return carried


def divide(
    arguments: Sequence[str], count: int, shared: bool, out: Path, variables: dict[str, str]
) -> list[Task]:
    """Returns the tasks of a command.

    Args:
      arguments: of `irl-bench sweep`, without the launcher's.
      count: number of tasks.
      shared: whether each computes a share of the plan; otherwise all run the command itself, and
        share its cells by leases alone.
      out: the run's folder.
      variables: as `environment` returns them.
    """
    return [
        Task(
            number,
            (*arguments, f"--shard={number}/{count}") if shared else tuple(arguments),
            variables,
            os.getcwd(),  # noqa: PTH109 - the shell's, as it names it: links may lead elsewhere
            str(out.absolute() / "workers" / f"{number}.log"),
        )
        for number in range(1, count + 1)
    ]


def launch(
    engine: Engine, tasks: Sequence[Task], out: Path, say: Callable[[str], None] = print
) -> int:
    """Runs tasks until all of them have ended.

    A task that fails leaves the others alone: they may be hours into cells of their own.

    Args:
      engine: runs them.
      tasks: as `divide` returns them.
      out: the run's folder.
      say: is called with each line on the progress.

    Returns:
      The exit status: 0, INTERRUPTED, or that of the first task that failed.

    Raises:
      BadInput: the engine does not take the tasks.
      WriteError: the folder cannot be written.
    """
    with writing(out):
        (out / "workers").mkdir(parents=True, exist_ok=True)
    logs = {task.number: task.log for task in tasks}
    failed, told, last = 0, "", 0.0
    try:
        with _heard() as listen:
            say(engine.start(tasks))
            listen()  # an engine may have put its own handlers in their place
            while logs:
                time.sleep(engine.every)
                for ended in engine.ended():
                    log = logs.pop(ended.number)
                    if ended.code:
                        failed = failed or ended.code
                        left = "; the others go on" if logs else ""
                        say(f"task {ended.number} failed: {ended.text}; its log: {log}{left}")
                if time.monotonic() - last >= EVERY or not logs:
                    last, text = time.monotonic(), progress(out)
                    if text and text != told:
                        told = text
                        say(text)
    except _Asked:
        say(engine.stop())
        return INTERRUPTED
    return failed


def progress(out: Path) -> str:
    """Returns how many cells of the plans so far are stored; "" before there is a plan."""
    done = total = 0
    try:
        for place in runs_in(out).values():
            plan = read_plan(place)
            keys = {key for entry in plan["entries"] for key in entry["cells"]} if plan else set()
            total += len(keys)
            done += len(keys & stored(place, anew=True))
    except (BadInput, StoreError):
        return ""
    return f"{done} of {total} cells are stored"


class _Asked(BaseException):
    """A signal has asked this process to stop. Like KeyboardInterrupt it is no error, and ends
    whatever the engine waits for."""


@contextlib.contextmanager
def _heard() -> Generator[Callable[[], None]]:
    """Raises _Asked at the first signal that asks the process to stop, and hears no further one.
    What it yields takes over the handlers again."""
    heard: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if not heard:
            heard.append(number)
            raise _Asked

    def listen() -> None:
        for number in before:
            signal.signal(number, on_signal)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in process.stopping_signals()}
    listen()
    try:
        yield listen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
