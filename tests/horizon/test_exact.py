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
        verdict = analyse([make_curves(base, algo="learner", expected=expected, **changes)], world)[
            0
        ]
        json.dumps(verdict, allow_nan=False)
        return tuple(verdict[name] for name in FIGURES), verdict

    return make


def columns(verdict):
    return np.array(verdict["horizons"]) - 1


def test_no_closed_form_no_figures(exact):
    assert exact(None)[0] == NOTHING


def test_z_is_that_of_a_paired_t_test(exact, base):
    expected = base.cost.mean(axis=0) * np.exp(
        0.03 * np.random.default_rng(0).standard_normal(base.cost.shape)
    )
    (_, largest, last, unjudged), verdict = exact(expected)
    z = stats.ttest_1samp((base.cost - expected)[:, columns(verdict)], 0.0).statistic
    assert np.argmax(np.abs(z)) != len(z) - 1
    np.testing.assert_allclose((largest, last), (np.abs(z).max(), z[-1]), rtol=1e-6)
    assert unjudged == []


def test_exact_slope_is_that_of_the_regret(exact, base):
    T = np.arange(1.0, 1025.0)
    expert = 2e-4 * T
    (exact_slope, *_), verdict = exact(
        base.cost + expert, cost=base.cost + expert, expert_cost=np.tile(expert, (3, 1))
    )
    grid = np.array(verdict["horizons"])
    assert (
        exact_slope
        == pytest.approx(slope(grid, base.cost.mean(axis=0)[grid - 1]))
        == pytest.approx(verdict["slope"])
    )
    assert exact_slope > 0.3 + slope(grid, (base.cost.mean(axis=0) + expert)[grid - 1])


def test_exact_slope_is_missing_where_the_exact_regret_is_not_positive(exact, base):
    expert = np.tile(base.cost.mean(axis=0) * 0.5, (3, 1))
    expected = base.cost.copy()
    assert exact(expected, expert_cost=expert)[0][0] == pytest.approx(2, abs=0.02)
    expected[:, :100] = 0.4 * base.cost[:, :100]  # the window starts at 80
    assert exact(expected, expert_cost=expert)[0][0] is None


def test_a_horizon_without_spread_or_difference_does_not_hide_the_others(exact, base):
    expected = base.cost * np.linspace(0.95, 1.0, 20)[:, None]
    (_, largest, last, _), verdict = exact(expected)
    expected[:, columns(verdict)[0]] = base.cost[:, columns(verdict)[0]]
    slope_, still, same, unjudged = exact(expected)[0]
    assert slope_ is not None and (still, same, unjudged) == (
        pytest.approx(largest, rel=0.05),
        last,
        [],
    )
    # The last horizon alone: its own z is missing, the largest is not.
    expected[:, columns(verdict)[-1]] = base.cost[:, columns(verdict)[-1]]
    assert exact(expected)[0][2] is None and exact(expected)[0][1] > 1


def test_a_difference_without_spread_is_named(exact, base):
    rng = np.random.default_rng(1)
    expected, verdict = base.cost * (1 + 0.01 * rng.standard_normal((20, 1))), exact(base.cost)[1]
    cost = base.cost.copy()
    for column in columns(verdict)[[0, 3]]:
        cost[:, column], expected[:, column] = 0.3, 0.1  # 0.3 - 0.1 has rounding errors of its own
    _, largest, _, unjudged = exact(expected, cost=cost)[0]
    assert largest < 10 and unjudged == [verdict["horizons"][0], verdict["horizons"][3]]
    # No horizon with spread: nothing but names.
    _, largest, last, unjudged = exact(np.full_like(cost, 0.1), cost=np.full_like(cost, 0.3))[0]
    assert largest is None and last is None and unjudged == verdict["horizons"]


def test_rounding_is_no_difference(exact, base):
    (_, largest, last, unjudged), _ = exact(base.cost.astype(np.float32))
    assert largest is None and last is None and unjudged == []


def test_a_seed_without_closed_form_leaves_none_and_stays_usable(exact, base):
    expected = base.cost * 1.01
    expected[7] = np.nan
    figures, verdict = exact(expected)
    assert (
        figures == NOTHING and verdict["usable_seeds"] == 20 and verdict["verdict"] == "QUADRATIC"
    )


def test_a_failed_seed_is_left_out(exact, base):
    expected = base.cost * np.linspace(0.99, 1.02, 20)[:, None]
    expected[7] = np.nan
    (exact_slope, largest, *_), verdict = exact(expected, failed=np.arange(20) == 7)
    assert (
        exact_slope == pytest.approx(2, abs=0.02) and largest > 0 and verdict["failed_seeds"] == 1
    )


def test_one_seed_has_an_exact_slope_and_no_z(make_curves, grow, world):
    run = grow(lambda T: T**2, seeds=1)
    verdict = analyse([make_curves(run, expected=2 * run.cost)], world)[0]
    assert tuple(verdict[name] for name in FIGURES) == (
        pytest.approx(verdict["slope"]),
        None,
        None,
        [],
    )


@pytest.mark.parametrize("shape", [(20, 1023), (19, 1024), (1024,)])
def test_shape_of_the_closed_form_is_checked(make_curves, base, shape):
    with pytest.raises(ValueError, match="expected has shape"):
        make_curves(base, expected=np.zeros(shape))
