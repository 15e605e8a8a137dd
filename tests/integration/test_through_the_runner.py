"""The algorithms in the frame: their stored bytes depend on neither chunks, repetition nor
interruptions."""

import threading

import numpy as np
import pytest

import irl_bench
from irl_bench import report
from irl_bench.core.cell import CellSpec
from irl_bench.running import programs, runner
from irl_bench.running.console import Silent

CONFIGS = {
    "bc": {"hidden": [4], "rounds": 5, "steps_per_round": 4, "batch_size": 16},
    "dagger": {
        "hidden": [4],
        "iterations": 4,
        "steps_per_round": 4,
        "batch_size": 16,
        "episode_steps": 4,
    },
}
"""Five rounds each."""


def cells():
    fields = {
        "env": "tests.worlds.toys:TwoState",
        "mode": "recoverable",
        "horizon": 8,
        "demos": 4,
        "demo_steps": 16,
        "episodes": 8,
    }
    fields |= {
        "block": 4,
        "eps_episodes": 4,
        "eps_steps": 4,
        "eval_every": 2,
        "first_seed": 0,
        "width": 2,
    }
    fields |= {"dials": {"slip": 0.5}}
    return [CellSpec(algo=algo, config=config, **fields) for algo, config in CONFIGS.items()]


def run(out, **options):
    return runner.compute(
        cells(), out, **{"display": Silent(), "stop": threading.Event(), **options}
    )


def contents(out):
    return {path.name: path.read_bytes() for path in sorted((out / "cells").glob("*.parquet"))}


class StopInTraining(Silent):
    """Asks the run to stop after its `count`-th chunk of rounds."""

    def __init__(self, stop, count):
        self.stop, self.left = stop, count

    def advance(self, label, stage, fraction):
        self.left -= stage == "training"
        if self.left == 0:
            self.stop.set()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    summary = run(out)
    assert len(summary.done) == 2 and not any(summary.failures.values())
    return contents(out)


@pytest.mark.parametrize("rounds", [1, 3])
def test_bytes_do_not_depend_on_chunks(tmp_path, reference, rounds):
    run(tmp_path, chunk_rounds=rounds)
    assert contents(tmp_path) == reference


@pytest.mark.parametrize("count", [1, 4])
def test_resume_is_exact(tmp_path, reference, count):
    stop = threading.Event()
    with pytest.raises(runner.Interrupted):
        run(tmp_path, stop=stop, display=StopInTraining(stop, count), chunk_rounds=1)
    assert len(contents(tmp_path)) < 2
    summary = run(tmp_path)
    assert len(summary.resumed) >= 1
    assert contents(tmp_path) == reference


def test_twice_gives_the_same_bytes_after_a_fresh_compilation(tmp_path, reference):
    programs._programs.clear()
    summary = run(tmp_path)
    assert all(functions["chunk"] == 1 for functions in summary.compilations.values())
    assert contents(tmp_path) == reference


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "quick_compilation")
def test_seeds_at_once_changes_how_many_share_a_cell_and_no_result(tmp_path):
    curves = []
    for count in (2, 4):
        out = tmp_path / str(count)
        irl_bench.run(
            "bc",
            "tests.worlds.toys:TwoState",
            mode="nominal",
            budget="smoke",
            seeds=4,
            seeds_at_once=count,
            demos=4,
            demo_steps=16,
            episodes=8,
            T_max=8,
            out=str(out),
            bc={"hidden": (4,), "rounds": 3, "steps_per_round": 4, "batch_size": 16},
        )
        data = report.load(out)
        curves.append(next(curve for curve in data.curves if curve.algo == "bc"))
        assert len(contents(out)) == 3 * 4 // count  # bc, expert and untrained
    two, four = curves
    assert two.seeds.tolist() == four.seeds.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(two.cost, four.cost, rtol=1e-6)
    np.testing.assert_allclose(two.eps_expert, four.eps_expert, rtol=1e-6)
