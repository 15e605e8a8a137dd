"""One sweep of three algorithms on 20 seeds by every launcher, each with a worker killed in the
middle: all end in the bytes of an undisturbed run."""

import os
import signal

import pytest

from tests.launchers.launched import a_worker, awaited, of_launch, parent, results, undisturbed
from tests.launchers.test_cluster_ray import cluster as ray_cluster
from tests.launchers.test_cluster_slurm import cluster as slurm_cluster

SWEEP = ["--algo=bc,dagger,airl", "--env=chain", "--budget=smoke", "--seeds=20"]

__all__ = ["ray_cluster", "slurm_cluster"]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of the command itself."""
    return undisturbed(tmp_path_factory.mktemp("alone"), SWEEP)


def survives(tmp_path, alone, *flags, killed=lambda pid: pid, **environment):
    """Kills a worker once a third of the cells is stored, and compares what the launch ends in."""
    out, third = tmp_path / "run", sum(name.endswith(".parquet") for name in alone) // 3
    assert third >= 4
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP, **environment)
    awaited(lambda: len(list(out.glob("cells/*.parquet"))) >= third or None, 1200)
    victim = killed(awaited(lambda: a_worker(out)))
    os.kill(victim, signal.SIGKILL)
    assert len(list(out.glob("cells/*.parquet"))) < len(alone) - 1, "it was killed too late"
    said, _ = program.communicate(timeout=2400)
    assert program.returncode == 0, said
    assert results(out) == alone
    assert not list((out / "leases").glob("*.json"))
    return said


def test_local(tmp_path, alone):
    said = survives(tmp_path, alone, "--launcher=local", "--workers=2")
    assert "was ended by SIGKILL; it starts again" in said


def test_slurm(slurm_cluster, tmp_path, alone):
    pytest.importorskip("submitit")
    flags = ("--launcher=slurm", "--workers=2", "--launcher_options=timeout_min=60")
    survives(tmp_path, alone, *flags, **slurm_cluster.environment)


def test_ray(ray_cluster, tmp_path, alone):
    made, _ = ray_cluster
    flags = ("--launcher=ray", "--workers=2", f"--ray_address={made.address}")
    survives(tmp_path, alone, *flags, killed=parent)  # Ray's own process
