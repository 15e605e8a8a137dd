"""The host's side of a cell: rows of a result, failed seeds, and what goes into a checkpoint."""

import numpy as np
import pytest

from irl_bench.core.learner import Consumes
from irl_bench.running.progress import CellProgress
from tests.worlds.toys import cell

HORIZON, WIDTH, ROUNDS = 4, 3, 6
METRICS = ("departures", "loss", "params")


def lane():
    spec = cell(horizon=HORIZON, width=WIDTH, episodes=16, block=8, eval_every=4, first_seed=10)
    return CellProgress(spec, "k" * 20, ROUNDS, METRICS, Consumes(5, 7))


def sums(cost=2.0):
    wide = {
        name: np.full(WIDTH, 3.0, np.float32)
        for name in ("on_steps", "on_to_off", "off_steps", "off_to_on")
    }
    curves = {
        name: np.full((WIDTH, HORIZON), cost, np.float32)
        for name in ("cost", "graded_cost", "departed")
    }
    errors = np.tile(np.float32([4, 2, 1]), (WIDTH, 1))
    whole = {
        "episodes": np.full(WIDTH, 8, np.float32),
        "broken": np.zeros(WIDTH),
        "reward": np.full(WIDTH, 20.0),
    }
    return {**wide, **curves, **whole, "own_errors": errors}


def eps():
    return {
        "expert_errors": np.tile(np.float32([16, 8, 4]), (WIDTH, 1)),
        "expert_steps": np.full(WIDTH, 64, np.float32),
    }


def finish(own):
    own.add_rounds(np.ones((4, WIDTH, 3), np.float32) * [1, 1, 0])
    own.add_level(sums())
    own.add_rounds(np.ones((2, WIDTH, 3), np.float32) * [1, 1, 0])
    for _ in range(2):
        own.add(sums())
        own.block += 1
        own.add(eps())
        own.eps_block += 1
    return own


def values(own, quantity, seed=10):
    rows = own.rows()
    keep = (rows["quantity"] == quantity) & (rows["seed"] == seed)
    return rows["value"][keep].tolist(), rows["round"][keep].tolist(), rows["T"][keep].tolist()


def test_rows_of_a_finished_cell():
    own = finish(lane())
    assert own.done and not own.failures()
    assert values(own, "cost") == ([0.25, 0.5, 0.75, 1.0], [ROUNDS] * 4, [1, 2, 3, 4])
    assert values(own, "graded_cost", 12)[0] == [0.25, 0.5, 0.75, 1.0]
    assert values(own, "level") == ([0.25], [4], [HORIZON])
    assert values(own, "train/loss") == ([1.0] * 6, [1, 2, 3, 4, 5, 6], [0] * 6)
    assert values(own, "departures")[0] == [6.0]
    assert values(own, "return")[0] == [2.5]
    assert values(own, "episodes")[0] == [16.0] and values(own, "on_to_off")[0] == [6.0]
    assert [values(own, f"eps_expert@{tau}")[0] for tau in ("0.05", "0.1", "0.2")] == [
        [0.25],
        [0.125],
        [0.0625],
    ]
    assert [values(own, f"eps_own@{tau}")[0] for tau in ("0.05", "0.1", "0.2")] == [
        [0.125],
        [0.0625],
        [0.03125],
    ]
    assert values(own, "failed")[0] == [0.0] and values(own, "failed_round")[0] == [-1.0]
    assert own.manifest({})["consumes"]["env_steps"] == 7


def test_rounds_end_at_evaluations():
    own = lane()
    assert own.rounds_ahead(100) == 4
    own.add_rounds(np.zeros((3, WIDTH, 3), np.float32))
    assert own.rounds_ahead(100) == 1 and not own.level_due
    own.add_rounds(np.zeros((1, WIDTH, 3), np.float32))
    assert own.level_due
    own.add_level(sums())
    assert not own.level_due and own.rounds_ahead(100) == 2


def test_failed_seeds_are_named_with_round_and_quantity():
    own = lane()
    rows = np.zeros((6, WIDTH, 3), np.float32)
    rows[2:, 0, 1] = np.nan
    rows[1:, 1, 2] = np.nan
    rows[3:, 1, 0] = np.inf
    own.add_rounds(rows)
    bad = sums()
    bad["graded_cost"][2, 1] = np.nan
    own.add(bad)
    own.add(eps())
    assert [(f.seed, f.round, f.quantity) for f in own.failures()] == [
        (10, 3, "loss"),
        (11, 2, "params"),
        (12, 6, "cost"),
    ]
    assert np.isnan(values(own, "cost")[0]).all() and np.isnan(values(own, "eps_own@0.1")[0]).all()
    assert values(own, "failed")[0] == [1.0] and values(own, "failed_round")[0] == [3.0]


def test_broken_params_fail_a_policy_without_training():
    own = lane()
    bad = sums()
    bad["broken"] = np.array([0.0, 1.0, 0.0])
    own.add(bad)
    assert [(f.seed, f.round, f.quantity) for f in own.failures()] == [(11, 0, "params")]


def test_arrays_restore_everything():
    own = finish(lane())
    again = lane()
    again.take_arrays(*own.to_arrays())
    assert again.serial == own.serial and again.resumed == {"round": 6, "block": 2, "eps_block": 2}
    for name, column in own.rows().items():
        np.testing.assert_array_equal(again.rows()[name], column)


def test_arrays_of_another_cell_are_refused():
    arrays, facts = finish(lane()).to_arrays()
    with pytest.raises(ValueError, match="belongs to cell"):
        lane().take_arrays(arrays, {**facts, "key": "other"})
