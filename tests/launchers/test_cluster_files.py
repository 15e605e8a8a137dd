"""The files of launch/cluster: shells accept them, and their commands are commands."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from irl_bench.cli import command as cli
from irl_bench.running import process
from tests.launchers.launched import ROOT, awaited

FOLDER = ROOT / "launch/cluster"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_accepts_it(path):
    assert path.read_text().startswith("#!/bin/sh\n") and os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)


def test_every_file_is_in_the_readme():
    readme = (FOLDER / "README.md").read_text()
    names = {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert names and all(f"`{name}`" in readme for name in names)


def of_the_guide():
    """The job script of docs/guides/batch.md."""
    text = (ROOT / "docs/guides/batch.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if "#SBATCH" in block)


def test_a_sweep_has_less_time_to_stop_than_its_engine_gives():
    """And more than without the variable."""
    job = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    pod = job["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    times = [(float(variables["IRL_BENCH_GRACE"]), pod["terminationGracePeriodSeconds"])]
    for text in (of_the_guide(), (FOLDER / "slurm-array.sh").read_text()):
        told = re.search(r"--signal=B:TERM@(\d+)", text)
        grace = re.search(r"^export IRL_BENCH_GRACE=(\d+)", text, re.MULTILINE)
        assert told and grace
        times.append((float(grace[1]), float(told[1])))
    assert all(process.GRACE < grace <= given - 10 for grace, given in times)


SWEEP = """
import pathlib, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
pathlib.Path("ready").touch()
while not told and "ends" not in sys.argv:
    time.sleep(0.01)
time.sleep(0.5)
sys.exit(75 if told else 0)
"""
"""What a job script starts: it takes its time to a checkpoint, and a second SIGTERM changes
nothing."""


@pytest.mark.parametrize(
    ("signals", "state", "status", "calls"),
    [
        (0, "RUNNING", 0, ""),
        (1, "RUNNING", 75, "requeue 5\n"),
        (2, "RUNNING", 75, "requeue 5\n"),  # as from `scancel --signal` and then the time limit
        (1, "COMPLETING", 75, ""),  # as from scancel
    ],
)
@pytest.mark.parametrize("source", ["guide", "array"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_job_is_requeued_unless_it_is_cancelled(
    shell, source, signals, state, status, calls, tmp_path
):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    text = of_the_guide() if source == "guide" else (FOLDER / "slurm-array.sh").read_text()
    (tmp_path / "job.sh").write_text(text)
    (tmp_path / "sweep.py").write_text(SWEEP)
    ends = "" if signals else "ends"
    for name, body in {
        "python": f"exec {sys.executable} {tmp_path}/sweep.py {ends}",
        "squeue": f"echo {state}",
        "scontrol": f'echo "$@" >> {tmp_path}/calls',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    variables |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python"}
    job = subprocess.Popen([shell, "job.sh"], cwd=tmp_path, env={**os.environ, **variables})
    awaited(lambda: (tmp_path / "ready").exists() or None, 20)
    for _ in range(signals):
        job.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert job.wait(20) == status
    assert ((tmp_path / "calls").read_text() if calls else "") == calls
    assert (tmp_path / "calls").exists() == bool(calls)


def test_every_pod_computes_a_share():
    document = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    (replicated,) = document["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert job["completionMode"] == "Indexed" and replicated["replicas"] == 1
    assert str(job["completions"]) == str(job["parallelism"]) == variables["SHARES"]
    shell, flag, text = container["command"]
    assert (shell, flag) == ("sh", "-c") and text.startswith("exec python -m irl_bench sweep ")
    for index in range(job["completions"]):
        said = subprocess.run(
            ["sh", "-c", text.replace("exec python", "printf '%s\\n'", 1)],
            env={**variables, "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        parsed = cli.parse(["sweep", *said.stdout.splitlines()[3:]])
        assert parsed.request.shard == (index + 1, job["completions"])
        assert parsed.request.out.startswith(container["volumeMounts"][0]["mountPath"])


@pytest.fixture
def queued(tmp_path):
    """Runs tpu-queued.sh with a gcloud that notes down its arguments and startup scripts."""
    program = tmp_path / "gcloud"
    program.write_text(
        "#!/bin/sh\n"
        f"echo \"$@\" >> {tmp_path}/calls\n"
        "case \"$*\" in *describe*-2*) echo SUSPENDED;; *describe*-[34]*) echo ACTIVE;; "
        "*' ls '*share-4/ended) ;; *' ls '*) exit 1;; esac\n"
        "for each in \"$@\"; do case $each in --metadata-from-file=*) cp \"${each##*=}\" "
        f"{tmp_path}/startup-$5;; esac; done\n"
    )  # fmt: skip
    program.chmod(0o755)
    variables = {"PROJECT": "p", "ZONE": "z", "BUCKET": "gs://b/run", "SHARES": "4"}
    variables["PACKAGE"] = "irl-bench[tpu] @ git+https://host/irl_bench"

    def run(*arguments):
        return subprocess.run(
            ["sh", FOLDER / "tpu-queued.sh", *arguments],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
        )

    return run


def test_tpus_that_are_lost_are_asked_for_again(queued, tmp_path):
    done = queued("--algo=airl", "--env=lane_keep")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    does = [tuple(call.split()[3:5]) for call in calls if " queued-resources " in call]
    does = [each for each in does if each[0] != "describe"]
    assert does == [
        ("create", "irl-bench-1"),
        ("delete", "irl-bench-2"),
        ("create", "irl-bench-2"),
        ("delete", "irl-bench-4"),  # it has ended
    ]
    assert done.stdout == "irl-bench-3: ACTIVE\nirl-bench-4: has ended\n"
    for share in (1, 2):
        startup = tmp_path / f"startup-irl-bench-{share}"
        subprocess.run(["sh", "-n", startup], check=True)
        (line,) = [line for line in startup.read_text().splitlines() if " sweep " in line]
        arguments = shlex.split(line.partition(" sweep ")[2].removesuffix(" &"))
        parsed = cli.parse(["sweep", *arguments])
        assert parsed.request.shard == (share, 4) and parsed.request.algo == ("airl",)
        assert f"there=gs://b/run/share-{share}" in startup.read_text()


@pytest.mark.parametrize("argument", ["--out=x", "--shard=1/2", "--algo=$(reboot)", "--algo=a b"])
def test_tpus_refuse_what_a_share_sets_or_a_shell_reads(queued, tmp_path, argument):
    done = queued(argument)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not (tmp_path / "calls").exists()
