"""Runs a sweep or a study by --launcher, then shows what its report says."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import jax

from irl_bench.cli import errors
from irl_bench.cli.command import Command
from irl_bench.core import folders
from irl_bench.core.settings import BadInput
from irl_bench.launchers import local, tasks
from irl_bench.plan.build import build
from irl_bench.plan.pilot import AUTO
from irl_bench.storage import remote
from irl_bench.storage.cells import stored
from irl_bench.storage.files import check_links
from irl_bench.storage.plans import read_plan
from irl_bench.studies import study
from irl_bench.sweep import Ran, asked_for, check_folder, finish, incomplete

LATE = 60.0
"""How long a shared file system may take to show a stored cell [s]."""


def run(command: Command) -> int:
    """Runs the command in other processes and returns the exit status.

    Raises:
      BadInput, StoreError: one line for the user.
    """
    out = folders.expand(command.request.out)
    check_folder(out)
    check_links(out)  # the processes' output goes there before they look themselves
    return _on_machines(command, out) if command.launcher != "local" else _here(command, out)


def _here(command: Command, out: Path) -> int:
    """Runs the command in processes of this machine."""
    _cells(command, out, gpus=bool(local.accelerators()))
    try:
        status = local.launch(command.launched, command.workers, out)
    except local.WorkerError as error:
        errors.complain(error)
        return error.code
    return status or _report(command, out)


def _on_machines(command: Command, out: Path) -> int:
    """Runs the command as tasks of an engine."""
    options, devices = command.launcher_options, jax.local_device_count("cpu")
    if command.launcher == "slurm":
        from irl_bench.launchers.slurm import Slurm

        engine: tasks.Engine = Slurm(options, out, devices)
        asked = [name for name, value in options.items() if value not in ("", "0", 0)]
        gpus = any("gpu" in name for name in asked) or "gpu" in str(options.get("gres", ""))
    else:
        from irl_bench.launchers.ray import Ray

        engine = Ray(options, devices)
        gpus = bool(options.get("num_gpus"))
    groups = _cells(command, out, gpus)
    shared = command.study is None and command.request.cells is None
    divided = tasks.divide(
        command.launched, command.workers or groups, shared, out, tasks.environment(gpus)
    )
    # Of a part of a plan, cells are missing that nobody has computed.
    late = LATE if command.request.cells is None else 0.0
    return tasks.launch(engine, divided, out) or _report(command, out, late)


def _report(command: Command, out: Path, late: float = 0.0) -> int:
    """Writes and shows the report of a command whose processes have all ended, and returns 0.

    Args:
      command: the command.
      out: the run's folder.
      late: how long its file system may take to show a stored cell [s].

    Raises:
      BadInput: the processes have written elsewhere.
    """
    if command.study:
        study.latest(out)
        return 0
    planned = read_plan(out)
    if planned is None:
        raise BadInput(
            f"all processes have ended, and {remote.shown(out)} holds no plan: the machines see "
            "another folder of this name; nearest: --out on a file system that all of them share"
        )
    until = time.monotonic() + late
    stored(out, anew=True)
    while incomplete(out, planned, lambda _: None) and time.monotonic() < until:
        time.sleep(1.0)
        stored(out, anew=True)
    if not incomplete(out, planned, print):
        # The last process has written it too, unless it saw a cell of another machine late.
        finish(Ran(out, planned, {}), print)
    return 0


def _cells(command: Command, out: Path, gpus: bool) -> int:
    """Says once what is wrong with the command, and returns into how many groups its cells fall; of
    a study, whose cells become known as it runs, `tasks.UNDIVIDED`.

    Args:
      command: the command.
      out: the run's folder.
      gpus: whether GPUs compute. The keys of cells are then not known here.

    Raises:
      BadInput: the command cannot be run.
    """
    if command.study:
        study.chosen(command.study.parts(command.request, command.demos, out), command.parts)
        return tasks.UNDIVIDED
    # What a pilot will find changes no group.
    automatic = command.request.demos == AUTO
    request = dataclasses.replace(command.request, demos=None) if automatic else command.request
    plan = build(request)
    named = request.cells is not None
    return tasks.groups(plan.cells if gpus or (named and automatic) else asked_for(request, plan))
