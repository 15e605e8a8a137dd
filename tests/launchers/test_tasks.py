"""How a command is divided into tasks, what a task does with signals, and what is refused."""

import os
import signal
import socket
import sys
import time

import pytest

from irl_bench.cli import command as cli
from irl_bench.core.exits import INTERRUPTED
from irl_bench.core.settings import BadInput
from irl_bench.launchers import ray, slurm, tasks, work
from irl_bench.launchers.options import parse_options
from irl_bench.plan.build import build
from irl_bench.plan.request import Request


@pytest.fixture
def task(tmp_path):
    """Makes a task that runs a program of Python in the stead of the sweep."""

    def made(program, **more):
        package = tmp_path / "irl_bench"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()  # else the real one goes first
        (package / "__main__.py").write_text(f"import os, signal, sys, time\n{program}\n")
        return work.Task(1, ("--out=x",), {}, str(tmp_path), str(tmp_path / "1.log"), **more)

    return made


def starts(tmp_path):
    return (tmp_path / "starts").read_text().count("x")


COUNT = "open('starts', 'a').write('x'); n = len(open('starts').read())\n"


def test_a_task_says_its_last_line(task, tmp_path):
    done = task("print(sys.argv[1:]); print('error: no such thing'); sys.exit(2)")()
    assert done == (2, "no such thing")
    assert (tmp_path / "1.log").read_text().startswith("['sweep', '--out=x']")


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", f"sys.exit({INTERRUPTED})"])
def test_a_command_that_a_signal_ended_starts_again(task, tmp_path, death):
    assert task(f"{COUNT}if n < 3: {death}")()[0] == 0
    assert starts(tmp_path) == 3


def test_a_command_is_not_started_again_for_ever(task, tmp_path):
    code, text = task(f"{COUNT}print('it was killed', flush=True); os.kill(os.getpid(), 9)")()
    assert (code, text) == (128 + 9, "was ended 4 times: it was killed")
    assert starts(tmp_path) == 4


def test_signals_of_the_engine_do_not_end_the_command(task, tmp_path):
    """SLURM sends a job's signals to all of its processes."""
    program = "os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR2)"
    assert task(COUNT + program)()[0] == 0
    assert starts(tmp_path) == 1


STOPS = f"""
def stop(*_):
    open('stopped', 'w').close()
    sys.exit({INTERRUPTED})

signal.signal(signal.SIGTERM, stop)
open('ready', 'w').close()
time.sleep(60)
"""


def at_once(folder, act):
    """Calls a function in a handler, as submitit does, once the command is ready."""

    def on_alarm(*_):
        if not (folder / "ready").exists():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            act()

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def test_the_checkpoint_hook_waits_for_the_commands_own(task, tmp_path):
    submitit = pytest.importorskip("submitit")
    made = task(STOPS)

    def hook():
        again = made.checkpoint()
        assert isinstance(again, submitit.helpers.DelayedSubmission)
        assert again.function == made and (tmp_path / "stopped").exists()
        raise SystemExit(3)  # submitit leaves like this

    at_once(tmp_path, hook)
    begun = time.monotonic()
    with pytest.raises(SystemExit, match="3"):
        made()
    assert time.monotonic() - begun < work.PATIENCE


@pytest.mark.parametrize(("patience", "stops"), [(0.3, False), (work.PATIENCE, True)])
def test_a_command_has_the_patience_of_its_task(task, tmp_path, patience, stops):
    made = task(STOPS.replace("open('stopped'", "time.sleep(1); open('stopped'"), patience=patience)

    def hook():
        made._end()
        raise SystemExit(3)

    at_once(tmp_path, hook)
    with pytest.raises(SystemExit, match="3"):
        made()
    assert (tmp_path / "stopped").exists() == stops


def test_a_preempted_task_waits_for_its_end(task, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "LULL", 1.0)
    made = task(f"{COUNT}if n > 1: sys.exit(0)\n{STOPS}", preemptible=True)
    begun = []

    def preempt():
        os.kill(os.getpid(), signal.SIGTERM)
        begun.append(time.monotonic())

    before = signal.getsignal(signal.SIGTERM)
    try:
        at_once(tmp_path, preempt)
        assert made()[0] == 0  # the end did not come
        assert time.monotonic() - begun[0] > 1.0 and (tmp_path / "stopped").exists()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_folder_that_a_machine_does_not_see_is_one_line(task):
    made = task("pass")
    made.folder = "/no/such/folder"
    assert made() == (1, "No such file or directory: /no/such/folder")


def test_a_sweep_is_divided_and_a_study_is_not(tmp_path):
    divided = tasks.divide(["--algo=bc"], 3, True, tmp_path, {"A": "1"})
    assert [task.arguments for task in divided] == [
        ("--algo=bc", f"--shard={i}/3") for i in (1, 2, 3)
    ]
    assert [task.log for task in divided] == [
        str(tmp_path / "workers" / f"{i}.log") for i in (1, 2, 3)
    ]
    copies = tasks.divide(["--experiment=hazard"], 2, False, tmp_path, {})
    assert {task.arguments for task in copies} == {("--experiment=hazard",)}


def test_cells_that_share_compiled_functions_are_one_group():
    request = Request(algo=("bc",), env=("chain",), budget="smoke", seeds=15)
    cells = build(request).cells
    algorithms = {cell.algo for cell in cells}
    assert tasks.groups(cells) == len(algorithms) < len(cells)


def test_tasks_compute_the_cells_of_the_command(monkeypatch):
    import jax

    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    carried = tasks.environment(gpus=False)
    assert carried["JAX_NUM_CPU_DEVICES"] == str(jax.local_device_count("cpu"))
    assert carried["JAX_PLATFORMS"] == "cpu" and carried["JAX_ENABLE_X64"] == "0"
    assert not {"JAX_NUM_CPU_DEVICES", "JAX_PLATFORMS"} & tasks.environment(gpus=True).keys()
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "7")
    assert tasks.environment(gpus=False)["JAX_NUM_CPU_DEVICES"] == "7"


class Fake:
    """An engine whose tasks end as they are told to."""

    every = 0.01

    def __init__(self, *rounds, act=lambda: None):
        self.rounds, self.act, self.stopped = list(rounds), act, False

    def start(self, tasks):
        return f"{len(tasks)} tasks"

    def ended(self):
        self.act()
        return self.rounds.pop(0)

    def stop(self):
        self.stopped = True
        return "they stop"


def test_a_failed_task_leaves_the_others_alone(tmp_path):
    said = []
    engine = Fake([tasks.Ended(2, 3, "no disk")], [], [tasks.Ended(1, 0, "")])
    divided = tasks.divide([], 2, True, tmp_path, {})
    assert tasks.launch(engine, divided, tmp_path, said.append) == 3
    log = tmp_path / "workers" / "2.log"
    assert said == ["2 tasks", f"task 2 failed: no disk; its log: {log}; the others go on"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_launch(tmp_path, number):
    said, before = [], signal.getsignal(number)
    engine = Fake(*[[]] * 100, act=lambda: os.kill(os.getpid(), number))
    divided = tasks.divide([], 1, True, tmp_path, {})
    assert tasks.launch(engine, divided, tmp_path, said.append) == INTERRUPTED
    assert engine.stopped and said[-1] == "they stop" and signal.getsignal(number) == before


def test_options_are_read():
    options = parse_options(
        "slurm", "partition=a,exclude=n1,n2,timeout_min=1e2,additional.mail-type=END"
    )
    assert options == {
        "partition": "a",
        "exclude": "n1,n2",
        "timeout_min": 100,
        "additional.mail-type": "END",
    }
    assert parse_options("ray", "num_cpus=0.5") == {"num_cpus": 0.5}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("slurm partitoin=a", "partitoin: no such setting; did you mean partition=...?"),
        ("slurm partition", "partition: no such setting; did you mean partition=...?"),
        ("slurm partition=", "partition=: must be printable text, not ''; nearest: leave out"),
        ("slurm timeout_min=soon", "must be an integer in [1, 1000000], not 'soon'; nearest: 60"),
        ("slurm timeout_min=2", "nearest: timeout_min=4"),
        ("slurm executor=sge", "must be one of slurm | local | debug, not 'sge'; nearest: "),
        ("slurm qos=a,qos=b", "qos is given twice"),
        ("ray retries=-1", "must be an integer in [0, 1000], not -1; nearest: 0"),
        ("ray additional.x=1", "additional.x: no such setting"),
        ("local x=1", "is for --launcher=slurm and ray; nearest: --launcher=slurm"),
    ],
)
def test_bad_options_are_one_line(flags, line):
    launcher, options = flags.split()
    with pytest.raises(BadInput) as error:
        cli.parse(["sweep", f"--launcher={launcher}", f"--launcher_options={options}"])
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--launcher_options=a=1"], "is for --launcher=slurm and ray"),
        (["--ray_address=auto"], "nearest: --launcher=ray --ray_address=auto"),
        (["--launcher=slurm", "--ray_address=auto"], "is for --launcher=ray"),
        (["--launcher=slurm", "--shard=1/2"], "divides the plan itself; nearest: leave out"),
        (["--launcher=slrum"], "there are local, slurm, ray; nearest: --launcher=slurm"),
        (
            ["--launcher=ray", "--ray_address=a", "--launcher_options=address=a"],
            "are the same; nearest: leave out --ray_address",
        ),
    ],
)
def test_misplaced_flags_are_one_line(flags, line):
    with pytest.raises(BadInput) as error:
        cli.parse(["sweep", *flags])
    assert line in str(error.value) and "\n" not in str(error.value)


def test_tasks_and_the_report_do_not_see_the_launchers_flags():
    flags = ["--launcher=ray", "--ray_address=auto", "--launcher_options", "retries=1"]
    parsed = cli.parse(["launch/sweep.py", *flags, "--seeds=5"])
    assert parsed.launched == ["--seeds=5"] and parsed.line == "launch/sweep.py --seeds=5"
    assert parsed.launcher_options == {"retries": 1, "address": "auto"}


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    for name in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=r"pip install 'irl-bench\[slurm\]'"):
        slurm.Slurm({}, tmp_path, 1)
    with pytest.raises(BadInput, match=r"pip install 'irl-bench\[ray\]'"):
        ray.Ray({}, 1)


def test_a_machine_without_slurm_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="sbatch is not found"):
        slurm.Slurm({}, tmp_path, 1)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_one_line(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(BadInput, match=rf"^--ray_address={address}: no cluster answers there"):
        ray.check_address(address)


@pytest.mark.parametrize("address", ["here", "http://a:1", "a:b", ":1", "a:99999", "ray://"])
def test_an_address_of_another_form_is_one_line(address):
    with pytest.raises(BadInput, match=r"must be auto, HOST:PORT or ray://HOST:PORT"):
        ray.check_address(address)
