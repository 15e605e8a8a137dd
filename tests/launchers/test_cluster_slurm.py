"""A sweep on a SLURM cluster: one controller and two nodes of this machine, on loopback."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.launchers.launched import ROOT, a_worker, awaited, of_launch, results, undisturbed

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
SWEEP = ["--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=30"]

pytestmark = pytest.mark.slow


def found(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """The daemons, each with a private configuration, and this machine twice as a node."""

    def __init__(self, folder):
        self.folder, self.daemons = folder, {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        host, ports = socket.gethostname(), free_ports(3)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        (folder / "state").mkdir()
        lines = {
            "ClusterName": "loopback",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": ports[0],
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            # A requeued job waits until its last credential has expired.
            "AuthInfo": f"socket={folder}/munge.socket,cred_expire=5",
            "CredType": "cred/munge",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool-%n",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd-%n.pid",
            "SlurmctldLogFile": folder / "slurmctld.log",
            "SlurmdLogFile": folder / "slurmd-%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "AccountingStorageType": "accounting_storage/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "CommunicationParameters": "NoInAddrAny",
            "KillWait": 15,
            "SlurmdTimeout": 10,
            "SchedulerParameters": "batch_sched_delay=0",
        }
        # Each node may give out all cores, so that two tasks run at once on any machine.
        cores = os.cpu_count()
        nodes = [
            f"NodeName=node{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[i]} CPUs={cores}"
            for i in (1, 2)
        ]
        text = [f"{name}={value}" for name, value in lines.items()]
        partition = "PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP"
        (folder / "slurm.conf").write_text("\n".join([*text, *nodes, partition, ""]))
        self.cores = cores

    def start(self):
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={self.folder}/munge.key",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        awaited(lambda: (self.folder / "munge.socket").exists() or None, 20)
        self._start("slurmctld", "-D")
        for node in ("node1", "node2"):
            self._start("slurmd", "-D", "-N", node, name=node)
        awaited(lambda: self.of("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2" or None, 60)

    def _start(self, program, *arguments, name=None):
        with (self.folder / f"{name or program}.out").open("wb") as log:
            self.daemons[name or program] = subprocess.Popen(
                [found(program), *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def of(self, *command):
        """What a command of SLURM prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        return done.stdout

    def jobs(self):
        """{job: its state} of the queue."""
        lines = self.of("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def end(self):
        if "slurmctld" in self.daemons:
            for job in self.jobs():
                self.of("scancel", "--signal=KILL", "--full", job)
                self.of("scancel", job)
            until = time.monotonic() + 30
            while self.jobs() and time.monotonic() < until:
                time.sleep(0.5)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


@pytest.fixture
def cluster(tmp_path):
    missing = [name for name in PROGRAMS if found(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not found (Debian: slurm-wlm, munge)")
    if os.getuid() != 0:
        pytest.skip("slurmd runs the jobs of a user only as root")
    folder = tmp_path / "slurm"
    folder.mkdir()
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of the command itself."""
    return undisturbed(tmp_path_factory.mktemp("alone"), SWEEP)


def running(cluster):
    """The jobs that run; None without one."""
    return [job for job, state in cluster.jobs().items() if state == "RUNNING"] or None


def test_jobs_that_are_killed_and_requeued_lose_nothing(cluster, tmp_path, alone):
    submitit = pytest.importorskip("submitit")
    assert submitit
    out = tmp_path / "run"
    flags = ("--launcher=slurm", "--workers=3", "--launcher_options=timeout_min=30")
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP, **cluster.environment)
    first = awaited(lambda: a_worker(out))
    os.kill(first, signal.SIGKILL)
    jobs = awaited(lambda: running(cluster))
    awaited(lambda: a_worker(out, besides=(first,)))
    cluster.of("scontrol", "requeue", jobs[0])  # as after the death of a node
    told = awaited(lambda: [job for job in running(cluster) or () if job != jobs[0]] or None)[0]
    awaited(lambda: a_worker(out, besides=(first,)))
    cluster.of("scancel", "--signal=USR2", told)  # as before the limit
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0, said
    logs = "".join(
        path.read_text() for path in (out / "workers/submitit").glob(f"*/{told}_*_log.out")
    )
    assert "Requeued job" in logs
    assert results(out) == alone
    assert not list((out / "leases").glob("*.json"))


def test_jobs_go_on_without_the_command_and_are_followed_again(cluster, tmp_path, alone):
    pytest.importorskip("submitit")
    out = tmp_path / "run"
    flags = ("--launcher=slurm", "--workers=2")
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP, **cluster.environment)
    awaited(lambda: a_worker(out))
    program.send_signal(signal.SIGINT)
    said, _ = program.communicate(timeout=60)
    assert program.returncode == 75 and "the jobs go on; to end them: scancel" in said
    jobs = cluster.jobs()
    assert jobs
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP, **cluster.environment)
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0, said
    assert "2 tasks in SLURM's queue, 2 of them since an earlier start" in said
    assert results(out) == alone


def test_a_job_that_is_cancelled_is_named(cluster, tmp_path):
    pytest.importorskip("submitit")
    out = tmp_path / "run"
    program = of_launch(
        tmp_path, out, "--launcher=slurm", "--workers=1", sweep=SWEEP, **cluster.environment
    )
    awaited(lambda: a_worker(out))
    (job,) = cluster.jobs()
    cluster.of("scancel", job)
    said, _ = program.communicate(timeout=180)
    assert program.returncode == 1, said
    assert f"its log: {out / 'workers/1.log'}" in said and "Traceback" not in said


def test_a_partition_that_is_not_there_is_one_line(cluster, tmp_path):
    pytest.importorskip("submitit")
    options = "--launcher_options=partition=none"
    flags = ("--launcher=slurm", options)
    program = of_launch(tmp_path, tmp_path / "run", *flags, sweep=SWEEP, **cluster.environment)
    said, _ = program.communicate(timeout=120)
    assert program.returncode == 2 and said.count("\n") == 1, said
    assert said.startswith("error: --launcher=slurm: SLURM refused the jobs: ")


def test_the_array_without_submitit(cluster, tmp_path, alone):
    out = tmp_path / "run"
    program = [
        "sbatch",
        "--parsable",
        "--array=1-2",
        f"--cpus-per-task={cluster.cores}",
        str(ROOT / "launch/cluster/slurm-array.sh"),
        *SWEEP,
        f"--out={out}",
    ]
    python = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        program,
        cwd=tmp_path,
        env={**os.environ, **cluster.environment, **python},
        capture_output=True,
        text=True,
    )
    job = done.stdout.strip()
    assert job, done.stderr
    awaited(lambda: a_worker(out))
    cluster.of("scancel", "--batch", "--signal=TERM", f"{job}_1")  # as before the limit
    awaited(lambda: (not cluster.jobs()) or None, 900)
    logs = {i: (tmp_path / f"irl_bench-{job}_{i}.log").read_text() for i in (1, 2)}
    assert "SIGTERM: stop" in logs[1]
    assert "Restarts=1" in cluster.of("scontrol", "show", "job", f"{job}_1")
    assert "report: " in logs[1] + logs[2]
    assert results(out) == alone


def test_a_cancelled_array_stays_cancelled(cluster, tmp_path):
    out = tmp_path / "run"
    script = str(ROOT / "launch/cluster/slurm-array.sh")
    python = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    cores = f"--cpus-per-task={cluster.cores}"
    subprocess.run(
        ["sbatch", "--array=1-1", cores, script, *SWEEP, f"--out={out}"],
        cwd=tmp_path,
        env={**os.environ, **cluster.environment, **python},
        check=True,
    )
    awaited(lambda: a_worker(out))
    (job,) = cluster.jobs()
    cluster.of("scancel", "--full", "--signal=TERM", job)  # reaches the script and the sweep
    cluster.of("scancel", job)
    awaited(lambda: (not cluster.jobs()) or None, 120)
    time.sleep(10)  # a requeued job would be back
    assert not cluster.jobs()
