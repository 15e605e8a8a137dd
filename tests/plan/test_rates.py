"""What cells are expected to take: the formula, and the rates that ship."""

import math

import pytest

import envs
from irl_bench.algos import ALGORITHMS
from irl_bench.plan import rates
from irl_bench.tools.rates import WITHOUT

CELL = {
    "width": 5, "episodes": 10, "horizon": 100, "demos": 4, "demo_steps": 50, "eps_episodes": 3,
    "eps_steps": 20, "burn_in": 7, "recorded": "", "config": {},
}  # fmt: skip


def test_what_was_measured_is_sound_and_whole():
    known = rates.rates()
    assert known["worlds"].keys() == set(envs.WORLDS)
    assert known["algorithms"].keys() == set(ALGORITHMS) - set(WITHOUT)
    for row in (*known["worlds"].values(), *known["algorithms"].values()):
        numbers = [value for value in row.values() if not isinstance(value, str)]
        assert all(math.isfinite(value) and value >= 0 for value in numbers)
    assert all(row["step"] > 0 and row["compile"] > 0 for row in known["worlds"].values())
    assert all(row["world"] in known["worlds"] for row in known["algorithms"].values())


def test_steps_are_those_of_all_phases():
    assert rates.steps(CELL, 0, 900) == 10 * 107 + 3 * 27
    assert rates.steps(CELL, 6, 900) == 4 * 57 + 900 + 10 * 107 + 3 * 27
    assert rates.steps({**CELL, "recorded": "0a"}, 6, 900) == 900 + 10 * 107 + 3 * 27


@pytest.mark.parametrize(
    ("config", "steps", "amount"),
    [({"steps_per_round": 20, "batch_size": 32}, 900, 6 * 20 * 32), ({}, 900, 900), ({}, 0, 6)],
)
def test_training_is_rows_or_steps_or_rounds(config, steps, amount):
    assert rates.training(config, 6, steps) == amount


def test_time_is_that_of_steps_and_of_training(monkeypatch):
    known = {
        "worlds": {"road": {"step": 2.0, "compile": 9.0, "temporary": 100.0},
                   "reference": {"step": 1.0, "compile": 3.0, "temporary": 1.0}},
        "algorithms": {"learner": {"unit": 0.5, "compile": 30.0, "temporary": 40.0, "trained": 8.0,
                                   "world": "reference"}},
    }  # fmt: skip
    monkeypatch.setattr(rates, "rates", lambda: known)
    seconds = lambda env, algo, rounds: rates.seconds_of(env, algo, CELL, rounds, 900)
    assert seconds("road", "learner", 6) == 5 * (2.0 * rates.steps(CELL, 6, 900) + 0.5 * 900)
    assert seconds("road", "expert", 0) == 5 * 2.0 * rates.steps(CELL, 0, 0)
    assert seconds("road", "mine:make", 6) is None and seconds("mine:make", "learner", 6) is None
    assert rates.compile_seconds("road", "learner") == 90.0
    assert rates.compile_seconds("road", "expert") == 18.0
    assert rates.compile_seconds("mine:make", "learner") == 0.0
    assert rates.temporary_bytes("road", "learner", 3, 80.0) == 400.0
    assert rates.temporary_bytes("road", "learner", 5, 8.0) == 500.0
    assert rates.temporary_bytes("road", "expert", 5, 0.0) == 500.0
    assert rates.temporary_bytes("mine:make", "expert", 5, 0.0) is None
    assert rates.temporary_bytes("road", "mine:make", 5, 8.0) is None
