"""Slopes of exact power laws and the jackknife-t against an explicit computation."""

import numpy as np
import pytest
from scipy import stats

from irl_bench.horizon.slopes import jackknife_t, local_slopes, log_spaced, slope, slope_rise


@pytest.mark.parametrize("low, high", [(80, 1024), (1, 8), (2, 16), (100, 100000)])
def test_grids_are_distinct_integers_from_end_to_end(low, high):
    grid = log_spaced(low, high)
    assert grid[0] == low and grid[-1] == high and len(grid) >= 7
    assert np.issubdtype(grid.dtype, np.integer) and np.all(np.diff(grid) > 0)


def test_a_short_range_gives_what_there_is():
    assert log_spaced(3, 6).tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("exponent", [1.0, 1.23, 2.0])
def test_power_laws_are_exact(exponent):
    T = log_spaced(80, 1024)
    J = np.array([[1e-6], [3.0]]) * T.astype(float) ** exponent
    np.testing.assert_allclose(slope(T, J), exponent, rtol=1e-12)
    np.testing.assert_allclose(local_slopes(T, J), exponent, rtol=1e-12)
    np.testing.assert_allclose(slope_rise(T, J), 0.0, atol=1e-12)


def test_slope_is_least_squares():
    rng = np.random.default_rng(0)
    T = log_spaced(10, 500)
    J = np.exp(rng.standard_normal(len(T)))
    assert slope(T, J) == pytest.approx(np.polyfit(np.log(T), np.log(J), 1)[0], rel=1e-10)


def test_no_logarithm_no_slope():
    T = log_spaced(80, 1024)
    J = np.ones(len(T))
    J[0] = 0.0
    assert np.isnan(slope(T, J))


def test_jackknife_t_against_an_explicit_loop():
    rng = np.random.default_rng(2)
    T = log_spaced(80, 1024)
    J = T**1.5 * rng.lognormal(0.0, 0.3, (12, 1)) * rng.lognormal(0.0, 0.1, (12, len(T)))
    estimate, low, high = jackknife_t(J, lambda mean: slope(T, mean))
    without = [
        np.polyfit(np.log(T), np.log(np.delete(J, seed, axis=0).mean(axis=0)), 1)[0]
        for seed in range(12)
    ]
    error = np.sqrt(11 / 12 * sum((value - np.mean(without)) ** 2 for value in without))
    middle = np.polyfit(np.log(T), np.log(J.mean(axis=0)), 1)[0]
    width = stats.t.ppf(0.975, 11) * error
    np.testing.assert_allclose(
        [estimate, low, high], [middle, middle - width, middle + width], rtol=1e-9
    )


def test_jackknife_t_of_a_mean_is_students_interval():
    values = np.random.default_rng(3).standard_normal((9, 4))
    _, low, high = jackknife_t(values, lambda mean: mean)
    expected = stats.t.interval(0.95, 8, values.mean(axis=0), stats.sem(values, axis=0))
    np.testing.assert_allclose([low, high], expected, rtol=1e-10)


def test_jackknife_t_covers():
    rng = np.random.default_rng(4)
    T = log_spaced(80, 1024).astype(float)
    hits = 0
    for _ in range(400):
        exponents = 2.0 + 0.04 * rng.standard_normal((20, 1))
        J = T**exponents * rng.lognormal(0.0, 0.1, (20, len(T)))
        # Of the slope of the expected curve, T² exp((0.04 log T)² / 2).
        truth = slope(T, T**2 * np.exp((0.04 * np.log(T)) ** 2 / 2))
        _, low, high = jackknife_t(J, lambda mean: slope(T, mean))
        hits += low <= truth <= high
    assert 0.91 <= hits / 400 <= 0.98


def test_one_seed_has_no_interval():
    estimate, low, high = jackknife_t(np.ones((1, 3)), lambda mean: mean)
    assert np.all(estimate == 1) and np.isnan(low).all() and np.isnan(high).all()
