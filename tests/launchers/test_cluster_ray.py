"""A sweep on a Ray cluster of two nodes, on loopback."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from irl_bench.launchers.ray import LOOPBACK
from tests.launchers.launched import (
    a_worker,
    awaited,
    of_launch,
    parent,
    results,
    undisturbed,
    workers,
)

SWEEP = ["--algo=bc", "--env=chain", "--mode=cliff", "--budget=smoke", "--seeds=30"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(LOOPBACK, "0")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # The driver belongs to the head, which runs no task.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [made.add_node(num_cpus=2) for _ in range(2)]
    try:
        yield made, nodes
    finally:
        made.shutdown()


def gone(pid):
    return not Path(f"/proc/{pid}").exists() or None


def descendants(pid):
    """A process and all that it has started."""
    numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    parents = {}
    for number in numbers:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[number] = parent(number)
    found, ours = {pid}, set()
    while found:
        ours |= found
        found = {number for number, above in parents.items() if above in found}
    return ours


def listening(pids):
    """The addresses, as /proc spells them, at which processes take TCP connections."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                sockets.add(str(path.readlink()))
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    of_listener = "0A"
    return {
        row[1].partition(":")[0]
        for row in rows
        if row[3] == of_listener and f"socket:[{row[9]}]" in sockets
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of the command itself."""
    return undisturbed(tmp_path_factory.mktemp("alone"), SWEEP)


def test_a_killed_worker_and_a_lost_node_lose_nothing(cluster, tmp_path, alone):
    made, nodes = cluster
    out = tmp_path / "run"
    flags = ("--launcher=ray", "--workers=4", f"--ray_address={made.address}")
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP)
    first = awaited(lambda: a_worker(out))
    os.kill(parent(first), signal.SIGKILL)  # Ray's own process
    awaited(lambda: gone(first), 30)  # what it ran has stopped too
    second = awaited(lambda: a_worker(out, besides=(first,)))
    assert second
    made.remove_node(nodes[1], allow_graceful=False)
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0, said
    assert results(out) == alone
    assert not list((out / "leases").glob("*.json"))


def test_a_driver_that_dies_is_started_again(cluster, tmp_path, alone):
    made, _ = cluster
    out = tmp_path / "run"
    flags = ("--launcher=ray", "--workers=2", f"--ray_address={made.address}")
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP)
    awaited(lambda: a_worker(out))
    program.kill()
    program.communicate()
    awaited(lambda: all(map(gone, workers(out))) or None, 60)  # nobody computes unasked
    before = workers(out)
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP)
    second = awaited(lambda: a_worker(out, besides=before))
    program.send_signal(signal.SIGINT)
    said, _ = program.communicate(timeout=60)
    assert program.returncode == 75 and "the tasks stop at their next checkpoints" in said
    awaited(lambda: gone(second), 30)
    program = of_launch(tmp_path, out, *flags, sweep=SWEEP)
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0, said
    assert results(out) == alone


def test_a_cluster_of_this_machine(tmp_path, alone):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    program = of_launch(tmp_path, out, "--launcher=ray", "--workers=2", sweep=SWEEP)
    awaited(lambda: a_worker(out))
    addresses = listening(descendants(program.pid))
    assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    said, _ = program.communicate(timeout=900)
    assert program.returncode == 0, said
    assert "2 tasks of Ray on this machine" in said and "Traceback" not in said
    assert results(out) == alone


def test_no_cluster_is_one_line(tmp_path):
    pytest.importorskip("ray")
    begun = time.monotonic()
    command = of_launch(
        tmp_path, "run", "--launcher=ray", "--ray_address=auto", RAY_TMPDIR=str(tmp_path)
    )
    try:
        said, _ = command.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    assert command.returncode == 2 and said.count("\n") == 1, said
    assert said.startswith("error: --ray_address=auto: Ray does not connect")
    assert time.monotonic() - begun < 60
