"""A sweep by submitit, whose local executor handles jobs and signals as SLURM does."""

import json
import os
import pickle
import re
import signal
from pathlib import Path

import pytest

from irl_bench.launchers import work
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
    log = next((out / "workers/submitit").glob(f"*/{job}_0_log.out")).read_text()
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


PROGRAMS = {
    "sbatch": 'realpath "$1" >> scripts; echo Submitted batch job $((76 + $(wc -l < scripts)))',
    "squeue": "cat queue",
    "srun": "",
    "sacct": "",
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder with programs in the place of SLURM's: jobs are 77, 78, ..., `scripts` holds their
    scripts, and the queue is what `queue` holds."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "queue").touch()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\ncd {folder}\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


class Trap:
    """What leaves a trace when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def result(folder, job, value):
    """Writes what submitit says of a job."""
    (folder / f"{job}_0_result.pkl").write_bytes(pickle.dumps(("success", value)))


def a_task(tmp_path):
    return Task(1, ("--algo=bc",), {"JAX_PLATFORMS": "cpu"}, str(tmp_path), str(tmp_path / "log"))


def test_pickles_that_lie_in_the_folder_are_not_read(tmp_path, programs):
    out, trace = tmp_path / "run", tmp_path / "trace"
    place, within = out / "workers" / "submitit", out / "workers" / "submitit" / "0123456789abcdef"
    within.mkdir(parents=True)
    for folder in (place, within):
        for job in (77, 78):
            result(folder, job, Trap(trace))
            (folder / f"{job}_submitted.pkl").write_bytes(pickle.dumps(Trap(trace)))
    task = a_task(tmp_path)
    # A job of the user's that is none of this folder's, and one that nobody has submitted.
    (programs / "queue").write_text("77 /elsewhere/job.sh\n")
    for job in (77, 78):
        (place / "jobs.json").write_text(
            json.dumps(
                {"1": {"arguments": ["--algo=bc"], "environment": task.environment, "job": job}}
            )
        )
        engine = Slurm({}, out, 1)
        assert engine.start([task]).startswith(f"1 tasks in SLURM's queue: job {job};")
        assert engine.ended() == []
    assert not trace.exists()
    folders = {path.parent.name for path in place.glob("*/*_submission.sh")}
    assert len(folders) == 2 and within.name not in folders
    assert all((place / name).stat().st_mode & 0o777 == 0o700 for name in folders)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "5",
        "[]",
        '{"1": 5}',
        '{"1": {"job": 77}}',
        '{"1": {"job": 77, "out": [[]], "number": {}}}',
        "",
    ],
)
def test_a_list_of_jobs_that_is_none_is_passed_over(tmp_path, programs, text):
    (tmp_path / "workers" / "submitit").mkdir(parents=True)
    (tmp_path / "workers" / "submitit" / "jobs.json").write_text(text)
    said = Slurm({}, tmp_path, 1).start([a_task(tmp_path)])
    assert said.startswith("1 tasks in SLURM's queue: job 77;")


def test_a_job_of_an_earlier_start_is_followed(tmp_path, programs):
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to("there")
    Slurm({}, tmp_path / "run", 1).start([a_task(tmp_path)])
    script = (programs / "scripts").read_text().strip()
    (programs / "queue").write_text(f"12 \n77 {script}\n")
    engine = Slurm({}, tmp_path / "run", 1)
    said = engine.start([a_task(tmp_path)])
    assert said.startswith("1 tasks in SLURM's queue, 1 of them since an earlier start: job 77;")
    result(Path(script).parent, 77, (3, "it failed"))
    assert [(ended.code, ended.text) for ended in engine.ended()] == [(3, "it failed")]


@pytest.mark.parametrize(
    ("notice", "grace"), [(15, "8"), (28, "8"), (90, "70"), (600, "580"), (10**5, "3600")]
)
def test_a_job_has_nearly_all_of_its_notice_to_stop(tmp_path, programs, notice, grace):
    engine = Slurm({"signal_delay_s": notice, "timeout_min": 10**4}, tmp_path, 1)
    job = engine._job(a_task(tmp_path))
    assert job.environment == {"JAX_PLATFORMS": "cpu", "IRL_BENCH_GRACE": grace}
    assert float(grace) < job.patience < max(notice, work.PATIENCE + 1)
    engine.start([a_task(tmp_path)])
    (pickled,) = (tmp_path / "workers" / "submitit").glob("*/*.pkl")
    assert b"IRL_BENCH_GRACE" in pickled.read_bytes()


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
