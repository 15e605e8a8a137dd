"""Several processes of one machine share a sweep; one that dies is started again."""

import os
import signal

import pytest

from irl_bench.cli import command, launcher
from irl_bench.core.settings import BadInput
from irl_bench.launchers import local
from irl_bench.storage.files import WriteError
from tests.launchers.launched import SWEEP, a_worker, awaited, of_launch, results, undisturbed


@pytest.mark.parametrize(
    ("count", "gpus", "cores", "expected"),
    [
        (2, [], [0, 1, 2, 3, 4], [("", [0, 1]), ("", [2, 3, 4])]),
        (1, [], [3, 7], [("", [3, 7])]),
        (2, ["0", "1", "2"], [0], [("0", []), ("1", [])]),  # the same number each
        (2, ["0", "1", "2", "3", "7"], [0], [("0,1", []), ("2,3", [])]),
        (3, ["4", "5"], [0], [("4", []), ("5", []), ("4", [])]),
    ],
)
def test_devices_are_dealt_out(count, gpus, cores, expected):
    assert local.shares(count, gpus, cores) == expected


def test_too_few_cores_is_one_line():
    with pytest.raises(BadInput, match=r"--workers=3: .* there are 2; nearest: --workers=2"):
        local.shares(3, [], [0, 1])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1,3"}, ["1", "3"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0", "JAX_PLATFORMS": "cpu"}, []),
    ],
)
def test_gpus_are_those_that_may_be_used(environment, expected, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert local.accelerators() == expected


@pytest.mark.parametrize("name", ["workers", "workers/1.log"])
def test_an_output_that_is_a_link_out_of_the_folder_is_refused(tmp_path, name):
    (tmp_path / "mine").touch()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "mine")
    flags = ("--algo=bc", "--env=chain", "--budget=smoke", "--launcher=local", "--workers=1")
    with pytest.raises(WriteError, match="is a link that leads out of the folder"):
        launcher.run(command.parse(["sweep", *flags, f"--out={tmp_path / 'run'}"]))
    assert (tmp_path / "mine").read_text() == ""


def test_a_killed_process_loses_nothing(tmp_path):
    out, alone = tmp_path / "run", undisturbed(tmp_path, SWEEP)
    program = of_launch(tmp_path, out, "--launcher=local", "--workers=2")
    os.kill(awaited(lambda: a_worker(out)), signal.SIGKILL)
    said, _ = program.communicate(timeout=300)
    assert program.returncode == 0, said
    assert "was ended by SIGKILL; it starts again" in said and "6 of 6 cells are stored" in said
    assert "report: " in said and (out / "report.html").exists()
    assert results(out) == alone
    assert not list((out / "leases").glob("*.json"))


def made(tmp_path, script):
    """A launch of one process that runs a script of the shell."""
    worker = local.Worker(1, dict(os.environ), frozenset(), tmp_path / "1.log")
    said = []
    return local._Run(["sh", "-c", script], [worker], tmp_path, said.append), worker, said


def test_the_last_line_counts_all_cells(tmp_path, monkeypatch):
    """Also if the processes end soon after the line before it."""
    counts = iter(["1 of 2 cells are stored", "2 of 2 cells are stored"])
    monkeypatch.setattr(local, "progress", lambda out: next(counts))
    launched, _, said = made(tmp_path, "sleep 1")
    assert launched.run() == 0
    assert said == ["1 of 2 cells are stored", "2 of 2 cells are stored"]


def test_a_process_that_was_asked_to_stop_starts_again(tmp_path):
    """By somebody else than the launcher."""
    flag = tmp_path / "flag"
    launched, worker, said = made(tmp_path, f"test -e {flag} || {{ touch {flag}; exit 75; }}")
    assert launched.run() == 0 and worker.starts == 2
    assert said[0] == "process 1 was ended by a signal; it starts again"


def test_a_process_is_not_started_again_for_ever(tmp_path):
    launched, worker, _ = made(tmp_path, "echo it was killed; kill -9 $$")
    with pytest.raises(local.WorkerError, match="was ended 4 times: it was killed") as error:
        launched.run()
    assert worker.starts == 4 and error.value.code == 128 + 9


def test_a_process_that_fails_is_named_by_its_last_line(tmp_path):
    launched, worker, _ = made(tmp_path, "echo a; echo 'error: no such thing'; exit 2")
    with pytest.raises(local.WorkerError, match=r"^process 1 failed: no such thing$") as error:
        launched.run()
    assert worker.starts == 1 and error.value.code == 2


def test_bad_input_is_said_once(tmp_path):
    program = of_launch(tmp_path, "run", "--launcher=local", "--bc.learning_rate=-1")
    said, _ = program.communicate(timeout=120)
    assert program.returncode == 2 and said.count("error: ") == 1
    program = of_launch(tmp_path, "run", "--launcher=local", "--cells=00ff")
    said, _ = program.communicate(timeout=120)
    assert program.returncode == 2 and "00ff: this plan has no such cell" in said
    assert not (tmp_path / "run").exists()
    program = of_launch(tmp_path, "run", "--launcher=lokal")
    said, _ = program.communicate(timeout=120)
    assert program.returncode == 2 and said.endswith("nearest: --launcher=local\n")
