"""Runs a sweep or a study by --launcher, then shows what its report says."""

from __future__ import annotations

from irl_bench import report
from irl_bench.cli import errors
from irl_bench.cli.command import Command
from irl_bench.core import folders
from irl_bench.launchers import local
from irl_bench.plan.build import build
from irl_bench.plan.pilot import AUTO
from irl_bench.storage.plans import read_plan
from irl_bench.studies import study
from irl_bench.sweep import asked_for, check_folder, incomplete


def run(command: Command) -> int:
    """Runs the command in other processes and returns the exit status.

    Raises:
      BadInput, StoreError: one line for the user.
    """
    out = folders.expand(command.request.out)
    check_folder(out)
    if command.study:
        command.study.parts(command.request, command.demos, out)
    elif command.request.demos != AUTO:
        plan = build(command.request)  # what is wrong is said here, once
        if not local.accelerators():  # there, keys are those of the processes' devices
            asked_for(command.request, plan)
    try:
        status = local.launch(command.launched, command.workers, out)
    except local.WorkerError as error:
        errors.complain(error)
        return error.code
    if status:
        return status
    if command.study:
        study.rebuild(out)
        return 0
    planned = read_plan(out)
    if planned is None or incomplete(out, planned, print):
        return 0
    data = report.load(out, partial=True)
    report.show(data.verdicts, data.sentences)
    print(f"report: {out / 'report.html'}")
    return 0
