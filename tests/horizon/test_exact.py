"""Verdicts beside the closed form: the exact slope is the regret's, and z neither hides a
horizon nor is made up."""

import json

import numpy as np
import pytest
from scipy import stats

from irl_bench.horizon import analyse
from irl_bench.horizon.slopes import slope

FIGURES = ("exact_slope", "closed_form_z", "closed_form_z_T_max", "closed_form_unjudged")
NOTHING = (None, None, None, [])
LEVEL = 1e-6


@pytest.fixture
def base(grow):
    return grow(lambda T: T**2, level=LEVEL)


@pytest.fixture
def exact(make_curves, world, base):
    """(the four figures, verdict) of 20 seeds whose cost is LEVEL T² times a factor each, beside
    `expected`."""

    def make(expected, **changes):
        found = analyse([make_curves(base, algo="learner", expected=expected, **changes)], world)[0]
        json.dumps(found, allow_nan=False)
        return tuple(found[name] for name in FIGURES), found

    return make


def columns(found):
    return np.array(found["horizons"]) - 1


def test_no_closed_form_no_figures(exact):
    assert exact(None)[0] == NOTHING


def test_z_is_that_of_a_paired_t_test(exact, base):
    expected = base.cost.mean(axis=0) * np.exp(
        0.03 * np.random.default_rng(0).standard_normal(base.cost.shape)
    )
    (_, largest, last, unjudged), found = exact(expected)
    z = stats.ttest_1samp((base.cost - expected)[:, columns(found)], 0.0).statistic
    assert np.argmax(np.abs(z)) != len(z) - 1
    np.testing.assert_allclose((largest, last), (np.abs(z).max(), z[-1]), rtol=1e-6)
    assert unjudged == []


def test_exact_slope_is_that_of_the_regret(exact, base):
    T = np.arange(1.0, 1025.0)
    expert = 2e-4 * T
    (found, *_), verdict = exact(
        base.cost + expert, cost=base.cost + expert, expert_cost=np.tile(expert, (3, 1))
    )
    grid = np.array(verdict["horizons"])
    assert (
        found
        == pytest.approx(slope(grid, base.cost.mean(axis=0)[grid - 1]))
        == pytest.approx(verdict["slope"])
    )
    assert found > 0.3 + slope(grid, (base.cost.mean(axis=0) + expert)[grid - 1])


def test_exact_slope_is_missing_where_the_exact_regret_is_not_positive(exact, base):
    expert = np.tile(base.cost.mean(axis=0) * 0.5, (3, 1))
    expected = base.cost.copy()
    assert exact(expected, expert_cost=expert)[0][0] == pytest.approx(2, abs=0.02)
    expected[:, :100] = 0.4 * base.cost[:, :100]  # the window starts at 80
    assert exact(expected, expert_cost=expert)[0][0] is None


def test_a_horizon_without_spread_or_difference_does_not_hide_the_others(exact, base):
    expected = base.cost * np.linspace(0.95, 1.0, 20)[:, None]
    (_, largest, last, _), found = exact(expected)
    expected[:, columns(found)[0]] = base.cost[:, columns(found)[0]]
    slope_, still, same, unjudged = exact(expected)[0]
    assert slope_ is not None and (still, same, unjudged) == (
        pytest.approx(largest, rel=0.05),
        last,
        [],
    )
    # The last horizon alone: its own z is missing, the largest is not.
    expected[:, columns(found)[-1]] = base.cost[:, columns(found)[-1]]
    assert exact(expected)[0][2] is None and exact(expected)[0][1] > 1


def test_a_difference_without_spread_is_named(exact, base):
    rng = np.random.default_rng(1)
    expected, found = base.cost * (1 + 0.01 * rng.standard_normal((20, 1))), exact(base.cost)[1]
    cost = base.cost.copy()
    for column in columns(found)[[0, 3]]:
        cost[:, column], expected[:, column] = 0.3, 0.1  # 0.3 - 0.1 has rounding errors of its own
    _, largest, _, unjudged = exact(expected, cost=cost)[0]
    assert largest < 10 and unjudged == [found["horizons"][0], found["horizons"][3]]
    # No horizon with spread: nothing but names.
    _, largest, last, unjudged = exact(np.full_like(cost, 0.1), cost=np.full_like(cost, 0.3))[0]
    assert largest is None and last is None and unjudged == found["horizons"]


def test_rounding_is_no_difference(exact, base):
    (_, largest, last, unjudged), _ = exact(base.cost.astype(np.float32))
    assert largest is None and last is None and unjudged == []


def test_a_seed_without_closed_form_leaves_none_and_stays_usable(exact, base):
    expected = base.cost * 1.01
    expected[7] = np.nan
    figures, found = exact(expected)
    assert figures == NOTHING and found["usable_seeds"] == 20 and found["verdict"] == "QUADRATIC"


def test_a_failed_seed_is_left_out(exact, base):
    expected = base.cost * np.linspace(0.99, 1.02, 20)[:, None]
    expected[7] = np.nan
    (found, largest, *_), verdict = exact(expected, failed=np.arange(20) == 7)
    assert found == pytest.approx(2, abs=0.02) and largest > 0 and verdict["failed_seeds"] == 1


def test_one_seed_has_an_exact_slope_and_no_z(make_curves, grow, world):
    run = grow(lambda T: T**2, seeds=1)
    found = analyse([make_curves(run, expected=2 * run.cost)], world)[0]
    assert tuple(found[name] for name in FIGURES) == (pytest.approx(found["slope"]), None, None, [])


@pytest.mark.parametrize("shape", [(20, 1023), (19, 1024), (1024,)])
def test_shape_of_the_closed_form_is_checked(make_curves, base, shape):
    with pytest.raises(ValueError, match="expected has shape"):
        make_curves(base, expected=np.zeros(shape))
