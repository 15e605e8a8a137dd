"""Learners whose worlds are spread over devices: equal to one device up to rounding, alike on all
devices, and as sound in the runner as any other."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from irl_bench.core.settings import BadInput
from irl_bench.core.spread import Spread
from irl_bench.core.types import Spec
from irl_bench.plan.build import build
from irl_bench.plan.request import Request
from irl_bench.rl import ppo
from tests.conftest import QUICK
from tests.worlds.helpers import Windy

ROOT = pathlib.Path(__file__).parent.parent.parent


def on_four_devices(folder: pathlib.Path, *parts: str) -> dict:
    """What `tests.integration.spread` prints about these parts."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.integration.spread", str(folder), *parts],
        env={**os.environ, **QUICK, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    return on_four_devices(tmp_path_factory.mktemp("spread"), "rounds", "resumed")


@pytest.mark.parametrize("devices", ["2", "4"])
def test_a_round_is_that_of_one_device_up_to_rounding(measured, devices):
    """One minibatch holds all rows, so that it does not matter who shuffles which."""
    seen = measured["rounds"][devices]
    assert seen["state"] < 1e-6 < 1e-4 < seen["moved"]
    assert max(seen["metrics"].values()) < 1e-5
    assert seen["own_random_numbers"] and seen["copies_equal"]


def test_a_resumed_cell_ends_in_the_same_bytes_after_one_compilation(measured):
    seen = measured["resumed"]
    assert seen["interrupted"] and [where["round"] for where in seen["resumed"]] == [2]
    assert seen["same"] and seen["cells"] == 2
    (counts,) = seen["compilations"].values()
    assert set(counts.values()) == {1} and len(counts) == 6


@pytest.mark.slow
def test_learners_run_with_equal_copies_and_learn(tmp_path):
    seen = on_four_devices(tmp_path, "bandit", "gail", "airl", "rlhf")
    assert seen.pop("bandit") == {"arm": 2, "copies_equal": True}
    for name, of in seen.items():
        assert of == {
            "copies_equal": True,
            "finite": True,
            "moved": True,
            "worlds": [8, 2],
            "weights_on": 4,
        }, name


FLAGS = [
    "--env=tests.worlds.toys:TwoState", "--mode=recoverable", "--seeds=2", "--seeds_at_once=2",
    "--demos=2", "--demo_steps=16", "--T_max=16", "--episodes=8", "--ppo.worlds=8",
    "--ppo.unroll=8", "--ppo.rounds=3", "--ppo.minibatches=2", "--ppo.hidden=4",
    "--ppo.value_hidden=4",
]  # fmt: skip


@pytest.mark.slow
def test_a_sweep_with_the_flag(tmp_path):
    def sweep(*flags: str) -> str:
        finished = subprocess.run(
            [sys.executable, "launch/sweep.py", "--algo=ppo", *FLAGS, f"--out={tmp_path}", *flags],
            env={**os.environ, **QUICK, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    first = sweep("--worlds_over_devices")
    assert "report:" in first
    (entry,) = [e for e in json.loads((tmp_path / "plan.json").read_text())["entries"]
                if e["algo"] == "ppo"]  # fmt: skip
    assert entry["settings"]["world_devices"] == 2
    assert "3 already there" in sweep("--worlds_over_devices")
    assert "2 already there" in sweep()  # other cells, since they round otherwise


def test_the_flag_is_for_algorithms_that_train_with_ppo():
    asked = Request(algo=("ppo", "bc"), env=("chain",), worlds_over_devices=True, budget="smoke")
    with pytest.raises(BadInput, match=r"train with PPO \(gail, .*ppo, .*\), and bc does not; nea"):
        build(asked)


def test_one_device_changes_nothing():
    asked = Request(algo=("ppo",), env=("chain",), budget="smoke")
    flagged = build(Request(**{**vars(asked), "worlds_over_devices": True}))
    assert flagged.cells == build(asked).cells
    assert "there is one device, so --worlds_over_devices changes nothing" in flagged.notes


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"worlds": 30}, "worlds=30 cannot be spread evenly over 4 devices; nearest: worlds=32"),
        ({"worlds": 1}, "worlds=1 cannot be spread evenly over 4 devices; nearest: worlds=4"),
        (
            {"worlds": 8, "unroll": 3, "minibatches": 4},
            r"minibatches=4 does not divide worlds \* unroll / 4 devices = 6; nearest: .*=3",
        ),
    ],
)
def test_worlds_that_cannot_be_shared_out_are_one_line(settings, line):
    world = Windy()
    with pytest.raises(BadInput, match=line):
        ppo.PPO(Spec(world, 16, 2, 4, spread=Spread(4)), ppo.Config(**settings), init="bc")
