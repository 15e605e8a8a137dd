"""Runs of the toys: whole, in two shares, and with the seeds that follow."""

import dataclasses
import shutil

import pytest

from irl_bench import sweep
from irl_bench.plan.request import Request
from irl_bench.storage.cells import cell_path
from irl_bench.storage.plans import read_plan

TOY = Request(
    algo=("tests.worlds.toys:make",),
    env=("tests.worlds.toys:TwoState",),
    seeds=6,
    seeds_at_once=3,
    demos=4,
    demo_steps=8,
    episodes=32,
)


def run(out, **changes):
    """Runs the toy sweep in a folder and returns it."""
    sweep.sweep(dataclasses.replace(TOY, out=str(out), **changes), "a command", lambda _: None)
    return out


@pytest.fixture(scope="session")
def _runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irl_bench.report.figures.draw", lambda data: {"regret.png": b"drawn"})
        run(root / "whole")
        run(root / "one", shard=(1, 2))
        run(root / "other", shard=(2, 2))
    return root


@pytest.fixture
def runs(_runs, tmp_path):
    """A folder with the runs `whole`, `one` and `other`, which a test may spoil."""
    return shutil.copytree(_runs, tmp_path / "runs")


@pytest.fixture
def todo(runs):
    """The key of a cell that the first share has not stored."""
    plan = read_plan(runs / "one")
    assert plan
    keys = (key for entry in plan["entries"] for key in entry["cells"])
    return next(key for key in keys if not cell_path(runs / "one", key).exists())
