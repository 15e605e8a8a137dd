"""Runs tasks as jobs of a SLURM cluster, by submitit.

The jobs are one array. submitit has SLURM signal each of them before its time limit; the job then
stops at a checkpoint, is requeued, and goes on exactly. submitit writes the tasks that it sends,
and what they return, as pickles beside its scripts. Nothing else reads them, and no result is one.

Whoever reads a pickle runs it, and the run's folder may have come from a stranger. So each start
makes a folder of its own in `<out>/workers/submitit`, with a random name, that only the user can
write. Pickles are read from there, and from where SLURM says that the user's own jobs write theirs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irl_bench.core.settings import BadInput
from irl_bench.launchers import work
from irl_bench.launchers.options import ADDITIONAL, SLURM
from irl_bench.launchers.tasks import Ended
from irl_bench.launchers.work import Task
from irl_bench.running import process
from irl_bench.storage import untrusted
from irl_bench.storage.files import write_atomic, writing

GENERIC = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
"""Options that all executors of submitit take. The others are SLURM's."""
OF_SUBMITIT = ("executor", "max_num_timeout")
"""Options that are no parameters of a job."""
JOBS = "jobs.json"
"""The file that says which job computes which task."""
SPARE = 20.0
"""What a job needs of its notice to be ended and requeued [s]."""
LOOK = 30.0
"""Time between two looks at SLURM's queue [s]."""


class Slurm:
    """Jobs of SLURM.

    Args:
      options: as `parse_options` returns them.
      out: the run's folder.
      devices: the number of devices of a task on a CPU.

    Raises:
      BadInput: submitit is not installed, or there is no SLURM here.
    """

    def __init__(self, options: Mapping[str, Any], out: Path, devices: int):
        try:
            import cloudpickle
            import submitit
        except ImportError:
            raise BadInput(
                "--launcher=slurm needs the extra `slurm`; nearest: pip install 'irl-bench[slurm]'"
            ) from None
        self.executor = options.get("executor", SLURM["executor"].default)
        missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
        if self.executor == "slurm" and missing:
            raise BadInput(
                f"--launcher=slurm: {missing[0]} is not found, so this is no machine of a SLURM "
                "cluster; nearest: --launcher=local"
            )
        cloudpickle.register_pickle_by_value(work)
        self.submitit, self.devices = submitit, devices
        self.options = {name: setting.default for name, setting in SLURM.items() if name in (
            "timeout_min", "signal_delay_s", "max_num_timeout", "array_parallelism"
        )} | {"name": "irl_bench", "cpus_per_task": devices} | dict(options)  # fmt: skip
        self.root = out.absolute() / "workers" / "submitit"
        self.every = 0.5 if self.executor != "slurm" else 5.0
        self.jobs: dict[int, Any] = {}
        self.looked, self.absent = time.monotonic(), set[str]()

    def start(self, tasks: Sequence[Task]) -> str:
        """Submits tasks as one array, but for those that are in SLURM's queue since an earlier
        start. Raises BadInput, in one line, if SLURM refuses the array, and WriteError if the
        folder cannot be written."""
        before = self._submitted(tasks)
        self.jobs = {n: self.submitit.SlurmJob(at, job) for n, (job, at) in before.items()}
        new = [task for task in tasks if task.number not in before]
        self.jobs |= dict(zip((task.number for task in new), self._submit(new), strict=True))
        where = f"their output: {self.root.parent}"
        if self.executor != "slurm":
            return f"{len(tasks)} tasks by submitit's {self.executor} executor; {where}"
        records = {
            str(task.number): {**_identity(task), "job": self.jobs[task.number].job_id}
            for task in tasks
        }
        write_atomic(self.root / JOBS, json.dumps(records, indent=1).encode())
        follows = f", {len(before)} of them since an earlier start" if before else ""
        return f"{len(tasks)} tasks in SLURM's queue{follows}: job {self._arrays()}; {where}"

    def _submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Submits tasks as one array and returns their jobs."""
        if not tasks:
            return []
        folder = self.root / secrets.token_hex(8)
        with writing(folder):
            self.root.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
        most = self.options["max_num_timeout"]
        executor = self.submitit.AutoExecutor(
            folder,
            cluster=self.executor,
            slurm_max_num_timeout=most,
            local_max_num_timeout=most,
        )
        executor.update_parameters(**self._parameters())
        jobs: list[Any] = []
        try:
            # sbatch's own lines are in the error.
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():
                for task in tasks:
                    jobs.append(executor.submit(self._job(task)))
        except self.submitit.core.utils.FailedJobError as error:
            raise BadInput(f"--launcher=slurm: SLURM refused the jobs: {_reason(error)}") from None
        return jobs

    def _job(self, task: Task) -> Task:
        """A task as a job, which has nearly all the time from its notice to its limit to stop."""
        grace = max(process.GRACE, self.options["signal_delay_s"] - SPARE)
        grace = min(grace, process.MOST_GRACE)
        return dataclasses.replace(
            task,
            preemptible=True,
            environment={**task.environment, process.GRACE_VARIABLE: f"{grace:g}"},
            patience=max(work.PATIENCE, grace + SPARE / 2),
        )

    def _submitted(self, tasks: Sequence[Task]) -> dict[int, tuple[str, Path]]:
        """{number: (job, its folder)} of the tasks that an earlier start has submitted and that
        have not ended. Else a command that is started again would have every node wait for another
        one."""
        if self.executor != "slurm" or not (self.root / JOBS).exists():
            return {}
        try:
            records = untrusted.parsed(untrusted.content(self.root / JOBS))
            known = {
                task.number: str(records[str(task.number)]["job"])
                for task in tasks
                if records.get(str(task.number), {}).items() >= _identity(task).items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        # The file may be a stranger's: SLURM says which jobs are the user's, and where they write.
        queued = _queue() or {}
        return {
            number: (job, queued[job])
            for number, job in known.items()
            if job in queued and self._made(queued[job])
        }

    def _made(self, folder: Path) -> bool:
        """Whether a folder lies where starts make theirs. The shell's folder may have links in its
        name."""
        return folder.is_absolute() and (
            os.path.realpath(folder.parent) == os.path.realpath(self.root)
        )

    def ended(self) -> list[Ended]:
        """Returns the tasks that have ended since the last call."""
        absent = self._absent()
        found = []
        for number, job in list(self.jobs.items()):
            if job.done():
                try:
                    code, text = job.result()
                except self.submitit.core.utils.FailedJobError as error:
                    code, text = 1, _reason(error)
                except self.submitit.core.utils.UncompletedJobError:
                    code, text = 1, f"its job {job.job_id} has ended (state {job.state})"
            elif job.job_id in absent:
                code, text = 1, f"its job {job.job_id} has left SLURM's queue without a result"
            else:
                continue
            del self.jobs[number]
            found.append(Ended(number, code, text))
        return found

    def stop(self) -> str:
        """Leaves jobs of SLURM as they are; ends those that run on this machine."""
        if self.executor == "slurm":
            ending = f"scancel {self._arrays()}"
            return f"the jobs go on; to end them: {ending}; to follow them: the same command"
        for job in self.jobs.values():
            job.cancel()
        return "the tasks stop; to go on: the same command"

    def _parameters(self) -> dict[str, Any]:
        """The options as AutoExecutor names them."""
        parameters: dict[str, Any] = {}
        more: dict[str, str] = {}
        for name, value in self.options.items():
            additional = ADDITIONAL.fullmatch(name)
            if additional:
                more[additional[1]] = value
            elif name in GENERIC:
                parameters[name] = value
            elif name not in OF_SUBMITIT:
                parameters[f"slurm_{name}"] = value
        return parameters | ({"slurm_additional_parameters": more} if more else {})

    def _arrays(self) -> str:
        """The numbers of the arrays."""
        return " ".join(sorted({job.job_id.partition("_")[0] for job in self.jobs.values()}))

    def _absent(self) -> set[str]:
        """The jobs that two looks at SLURM's queue, LOOK seconds apart, have not found.

        submitit asks sacct, which answers only where SLURM keeps accounts. Elsewhere a job that was
        cancelled or killed would be waited for in vain. A result may be seen later than the end.
        """
        if self.executor != "slurm" or time.monotonic() - self.looked < LOOK:
            return set()
        self.looked = time.monotonic()
        queued = _queue()
        before, self.absent = self.absent, set[str]()
        if queued is not None:
            self.absent = {job.job_id for job in self.jobs.values()} - queued.keys()
        return before & self.absent


def _queue() -> dict[str, Path] | None:
    """{job: the folder of its script} of the user's jobs in SLURM's queue; None if SLURM does not
    say."""
    listed = subprocess.run(
        ["squeue", "--noheader", "--array", "--me", "--format=%i %o"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        return None
    jobs = (line.strip().partition(" ") for line in listed.stdout.splitlines())
    return {job: Path(script).parent for job, _, script in jobs}


def _identity(task: Task) -> dict[str, Any]:
    """What makes two tasks the same, as JSON gives it back."""
    return {"arguments": list(task.arguments), "environment": dict(task.environment)}


def _reason(error: Exception) -> str:
    """The last line of an error of submitit, or of the traceback in it."""
    text = str(error)
    within = re.split(r"^-{9,}$", text, flags=re.MULTILINE)
    lines = (within[1] if len(within) > 1 else text).strip().splitlines()
    return lines[-1].strip().removeprefix("sbatch: error: ") if lines else type(error).__name__
