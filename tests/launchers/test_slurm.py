"""A sweep by submitit, whose local executor handles jobs and signals as SLURM does."""

import os
import re
import signal

import pytest

from irl_bench.launchers.slurm import Slurm
from irl_bench.launchers.work import Task
from tests.launchers.launched import (
    SWEEP,
    a_worker,
    awaited,
    of_launch,
    parent,
    results,
    undisturbed,
)

pytest.importorskip("submitit")


@pytest.mark.slow
def test_a_preempted_job_is_requeued_and_loses_nothing(tmp_path):
    out, alone = tmp_path / "run", undisturbed(tmp_path, SWEEP)
    options = "--launcher_options=executor=local"
    program = of_launch(tmp_path, out, "--launcher=slurm", options, "--workers=2")
    task = parent(awaited(lambda: a_worker(out)))
    job = parent(task)  # submitit's controller
    os.kill(task, signal.SIGUSR2)  # what SLURM sends before the limit
    said, _ = program.communicate(timeout=300)
    assert program.returncode == 0, said
    assert "6 of 6 cells are stored" in said and "report: " in said
    log = (out / f"workers/submitit/{job}_0_log.out").read_text()
    assert "Requeued job" in log and log.count("Starting with") == 2
    outputs = [(out / f"workers/{number}.log").read_text() for number in (1, 2)]
    assert any("SIGTERM: stopping at the next checkpoint" in output for output in outputs)
    assert results(out) == alone
    assert not list((out / "leases").glob("*.json"))


@pytest.mark.filterwarnings("ignore")  # the debug executor leaves its logs open
def test_a_share_that_fails_is_named(tmp_path):
    engine = Slurm({"executor": "debug"}, tmp_path, 1)
    log = str(tmp_path / "1.log")
    task = Task(1, ("--no_such_flag",), {"JAX_PLATFORMS": "cpu"}, str(tmp_path), log)
    assert engine.start([task]) == (
        f"1 tasks by submitit's debug executor; their output: {tmp_path / 'workers'}"
    )
    (ended,) = engine.ended()
    assert (ended.number, ended.code) == (1, 2) and ended.text.startswith("unknown flag")
    assert engine.ended() == []


def test_what_sbatch_is_told(tmp_path, monkeypatch):
    """By a program in its place, which then refuses the job."""
    for name in ("sbatch", "srun"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\ncat "$1" > {tmp_path}/script\necho no such partition >&2\nexit 1\n'
        )
        program.chmod(0o755)  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    engine = Slurm(
        {"partition": "a", "gres": "gpu:1", "mem_gb": 4, "additional.mail-type": "END"}, tmp_path, 3
    )
    tasks = [Task(number, (), {}, str(tmp_path), str(tmp_path / "log")) for number in (1, 2)]
    with pytest.raises(ValueError, match=r"SLURM refused the jobs: .*no such partition"):
        engine.start(tasks)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", (tmp_path / "script").read_text(), re.M))
    expected = {
        "array": "0-1%2",
        "partition": "a",
        "gres": "gpu:1",
        "mem": "4GB",
        "mail-type": "END",
        "time": "60",
        "signal": "USR2@90",
        "cpus-per-task": "3",
        "job-name": "irl_bench",
    }
    assert {name: asked.get(name) for name in expected} == expected
