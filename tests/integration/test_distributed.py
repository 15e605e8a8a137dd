"""Several processes on one learner: only if asked, and with the numbers of one process."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from irl_bench.cli import command
from irl_bench.core.settings import BadInput
from tests.conftest import QUICK
from tests.integration.test_spread import FLAGS

ROOT = pathlib.Path(__file__).parent.parent.parent
SCHEDULER = {
    "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "2",
    "OMPI_MCA_orte_hnp_uri": "1.0;tcp://127.0.0.1:4444", "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}  # fmt: skip


def test_variables_of_a_scheduler_join_no_processes():
    program = (
        "import sys; from irl_bench.cli import sweep; sys.argv = ['sweep', '--algo=ppo',"
        " '--worlds_over_devices']; sweep._prepare(); import jax; "
        "print(jax.process_count(), jax.distributed.is_initialized())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **SCHEDULER, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.stdout.split() == ["1", "False"], finished.stderr


SPREAD = ["--algo=ppo", "--worlds_over_devices", "--distributed"]
NAMED = ["--coordinator=127.0.0.1:4000", "--processes=2"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--processes=2"], "--processes=2 is for --distributed; nearest: --distributed --proc"),
        (["--distributed"], "nearest: --distributed --worlds_over_devices"),
        ([*SPREAD, *NAMED], "--distributed lacks --process_id; nearest: --distributed --coord"),
        ([*SPREAD, *NAMED, "--process_id=2"], "must be below --processes=2; nearest: .*=1"),
        (
            [*SPREAD, "--coordinator=host", "--processes=2", "--process_id=0"],
            "--coordinator=host must be HOST:PORT",
        ),
        ([*SPREAD, "--launcher=local"], "--distributed cannot be combined with --launcher"),
        ([*SPREAD, "--demos=auto"], "--distributed cannot be combined with --demos=auto"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(flags, line):
    with pytest.raises(BadInput, match=line):
        command.parse(["sweep", *flags])


def sweep(out: pathlib.Path, devices: int, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "launch/sweep.py", *SPREAD[:2], *FLAGS, f"--out={out}", *flags],
        env={**os.environ, **QUICK, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(out: pathlib.Path) -> list:
    """The stored numbers of PPO."""
    (entry,) = [e for e in json.loads((out / "plan.json").read_text())["entries"]
                if e["algo"] == "ppo"]  # fmt: skip
    table = pq.read_table(out / "cells" / f"{entry['cells'][0]}.parquet")
    return table.drop_columns([n for n in table.column_names if n == "cell"]).to_pylist()


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path):
    """A sum of two devices is the same in either order, so the numbers are equal, not close."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = [f"--coordinator=127.0.0.1:{port}", "--processes=2", "--distributed"]
    both = [sweep(tmp_path / "two", 1, *named, f"--process_id={place}") for place in (0, 1)]
    try:
        told = [process.communicate(timeout=600) for process in both]
    finally:
        for process in both:
            process.kill()  # JAX handles SIGTERM
    assert [process.returncode for process in both] == [0, 0], told
    assert "report:" in told[0][0] and "cells" not in told[1][0]
    alone = sweep(tmp_path / "one", 2)
    told.append(alone.communicate(timeout=600))
    assert alone.returncode == 0, told[-1]
    assert str(rows(tmp_path / "two")) == str(rows(tmp_path / "one"))
