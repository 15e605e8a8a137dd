"""The files of launch/cluster: shells accept them, and their commands are commands."""

import os
import shlex
import subprocess

import pytest
import yaml

from irl_bench.cli import command as cli
from tests.launchers.launched import ROOT

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
