"""What a process that computes is set up with."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

import jax
import pytest

from irl_bench.core.settings import BadInput
from irl_bench.running import process

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def settings():
    names = (
        "jax_default_matmul_precision",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("chosen", "expected"), [(None, "highest"), ("bfloat16", "bfloat16"), ("default", "default")]
)
def test_matrices_are_multiplied_in_full_precision_unless_told(chosen, expected, settings):
    jax.config.update("jax_default_matmul_precision", chosen)
    process.configure(jax.local_device_count("cpu"))
    assert jax.config.jax_default_matmul_precision == expected


SUPERVISED = """
import pathlib, signal, sys, time
from irl_bench.running import process

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup

def work(stop):
    print("ready", flush=True)
    stop.wait()
    time.sleep(1.5)
    pathlib.Path(sys.argv[1]).write_text("checkpoint")
    raise process.Interrupted

process.supervise(work)
"""


def interrupted(tmp_path, *signals, **environment):
    """(exit status, stderr, whether the last checkpoint was written) of work that gets signals,
    each after some seconds."""
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", SUPERVISED, str(mark)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    ) as program:
        assert program.stdout and program.stdout.readline() == "ready\n"
        for number, wait in signals:
            time.sleep(wait)
            program.send_signal(number)
        try:
            _, told = program.communicate(timeout=60)
        finally:
            program.kill()
    return program.returncode, told, mark.exists()


@pytest.mark.parametrize(
    "signals",
    [
        [(signal.SIGTERM, 0.0), (signal.SIGTERM, 0.3)],
        [(signal.SIGTERM, 0.0), (signal.SIGTERM, 0.0), (signal.SIGTERM, 0.8)],
        [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.3)],  # a wrapper that ends its child after Ctrl-C
        [
            (signal.SIGINT, 0.0),
            (signal.SIGINT, 0.05),
        ],  # a wrapper that hands on what the terminal sent already
        [(signal.SIGTERM, 0.0), (signal.SIGINT, 0.5)],
        [(signal.SIGHUP, 0.0)],  # a terminal that is closed
    ],
)
def test_one_request_may_come_as_several_signals(signals, tmp_path):
    status, told, written = interrupted(tmp_path, *signals)
    assert (status, written) == (75, True)
    assert told.count("stopping at the next checkpoint") == 1 and "the progress is stored" in told


@pytest.mark.parametrize(("grace", "reached"), [("1", False), ("60", True)])
def test_the_environment_says_how_long_a_checkpoint_may_take(tmp_path, grace, reached):
    """The one here takes 1.5 s."""
    status, told, written = interrupted(tmp_path, (signal.SIGTERM, 0.0), IRL_BENCH_GRACE=grace)
    assert (status, written) == (75, reached)
    assert ("not at a checkpoint in time" in told) != reached


def test_a_grace_that_is_longer_than_usual_is_given(monkeypatch):
    assert process.grace_here() == process.GRACE
    monkeypatch.setenv("IRL_BENCH_GRACE", "50.5")
    assert process.grace_here() == 50.5


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-1", "0", "1e9", "8 s\n"])
def test_a_grace_that_is_no_time_is_one_line(monkeypatch, text):
    monkeypatch.setenv("IRL_BENCH_GRACE", text)
    with pytest.raises(BadInput, match=r"^IRL_BENCH_GRACE=.* nearest: IRL_BENCH_GRACE=8$") as told:
        process.supervise(lambda stop: pytest.fail("it works"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_checkpoint_is_reached_though_nobody_reads_any_more(tmp_path, number):
    """As with `2>&1 | tee log` and Ctrl-C, which ends tee first."""
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", SUPERVISED, str(mark)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as program:
        assert program.stdout and program.stdout.readline() == "ready\n"
        program.stdout.close()
        program.send_signal(number)
        assert program.wait(60) == 75 and mark.exists()


def test_the_checkpoint_is_reached_after_the_terminal_is_closed(tmp_path):
    mark = tmp_path / "mark"
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", SUPERVISED, str(mark)])
    told = b""
    while b"ready" not in told:
        told += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 75 and mark.exists()


def test_work_is_finished_though_nobody_reads_its_lines():
    code = (
        "import sys, time\n"
        "from irl_bench.cli import errors\n"
        "from irl_bench.running import process\n"
        "def work(stop):\n"
        "    for i in range(20):\n"
        "        print(i, flush=True)\n"
        "        time.sleep(0.02)\n"
        "    print('all', file=sys.stderr)\n"
        "    return 3\n"
        "sys.exit(errors.guarded(lambda: process.supervise(work)))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as program:  # fmt: skip
        assert program.stdout and program.stderr
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == "all\n"
        assert program.wait(60) == 3


def test_a_second_ctrl_c_is_the_hard_way_out(tmp_path):
    status, told, written = interrupted(tmp_path, (signal.SIGINT, 0.0), (signal.SIGINT, 0.6))
    assert (status, written) == (75, False)
    assert "interrupted twice" in told
