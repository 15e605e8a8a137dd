"""A sweep that is killed, asked to stop or short of disk ends in the bytes of an undisturbed one.
`tests/chaos/` has more faults, and more of each."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from irl_bench.core.exits import INTERRUPTED
from irl_bench.running import runner
from irl_bench.running.console import Silent
from tests.integration.toy_sweep import LONG, cells

ROOT = pathlib.Path(__file__).parent.parent.parent


def contents(out: pathlib.Path) -> dict[str, bytes]:
    """The result files of a run by name."""
    return {path.name: path.read_bytes() for path in sorted((out / "cells").glob("*.parquet"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    runner.run(cells(**LONG), out, display=Silent())
    return contents(out)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Processes that share a compilation cache of their own."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {**os.environ, **cache, "PYTHONPATH": str(ROOT)}


def start(environment, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.integration.toy_sweep", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_line(process: subprocess.Popen, word: str) -> bool:
    """Whether a line that contains `word` came before the process ended."""
    assert process.stdout
    return any(word in line for line in process.stdout)


def sealed(out: pathlib.Path) -> bool:
    """Whether some checkpoint is complete."""
    return any(not path.name.startswith(".") for path in out.glob("checkpoints/*/*.json"))


def kill_after_checkpoint(environment, out: pathlib.Path, delay: float) -> bool:
    """Starts the sweep and kills it `delay` seconds after it has written a checkpoint; False if
    it ended before that."""
    before = {path.name for path in out.glob("checkpoints/*/*.json")}
    process = start(environment, out, 1, "", 400)
    if await_line(process, "computing"):
        while (
            process.poll() is None
            and not {path.name for path in out.glob("checkpoints/*/*.json")} - before
        ):
            time.sleep(0.01)
        time.sleep(delay)
    killed = process.poll() is None
    process.kill()
    process.communicate()
    return killed


def finish(environment, out: pathlib.Path) -> list[dict]:
    """Runs the sweep to its end and returns its log."""
    process = start(environment, out, 1)
    output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def terminate(environment, out: pathlib.Path) -> None:
    """SIGTERM while it trains: gone within 10 s with status 75 and a checkpoint."""
    process = start(environment, out, 1, "", 50)
    assert await_line(process, "computing")
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - asked < 10
    assert process.returncode == INTERRUPTED and "run the same command to resume" in errors
    assert sealed(out)


def test_kill_and_terminate_then_the_same_bytes(tmp_path, environment, undisturbed):
    assert kill_after_checkpoint(environment, tmp_path, 0.05)
    terminate(environment, tmp_path)
    log = finish(environment, tmp_path)
    assert any(line["resumed"] and line["resumed"]["round"] > 0 for line in log)
    assert len(log) == len(undisturbed) and contents(tmp_path) == undisturbed
    assert not (tmp_path / "checkpoints").exists()


def test_full_disk_then_the_same_bytes(tmp_path, environment, undisturbed):
    # 2,000 bytes hold no checkpoint and no result.
    process = start(environment, tmp_path, 1, "", 0, 2000)
    errors = process.communicate(timeout=300)[1]
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert (
        process.returncode == 2
        and len(lines) == 1
        and "cannot write" in lines[0]
        and str(tmp_path) in lines[0]
    )
    assert contents(tmp_path) == {}
    process = start(environment, tmp_path, 1)
    output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert contents(tmp_path) == undisturbed


def test_work_that_does_not_end_is_left_behind():
    code = """
import time
from irl_bench.running import process
process.supervise(lambda stop: (print("on", flush=True), time.sleep(60)), grace=0.5)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert await_line(process, "on")
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=10)[1]
    assert process.returncode == INTERRUPTED and "run the same command to resume" in errors


@pytest.mark.slow
def test_terminate_within_a_long_compilation(tmp_path, environment):
    process = start(environment, tmp_path, 1, "tests.worlds.toys:make_slow_to_compile")
    assert await_line(process, "already there")
    time.sleep(25)
    assert process.poll() is None
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - asked < 10
    assert process.returncode == INTERRUPTED and "run the same command to resume" in errors
