"""Comparisons of learners over seeds, against simulated t-tests and hand-made samples."""

import numpy as np
import pytest
from scipy import stats

from irl_bench.studies import comparisons, iqm


@pytest.mark.parametrize(("seeds", "tests"), [(3, 1), (10, 1), (20, 1), (20, 12)])
def test_a_detectable_difference_is_detected_with_80_percent_power(seeds, tests):
    """At the level of Holm's first step in a table of as many comparisons."""
    rng = np.random.default_rng(seeds)
    sample = rng.normal(0.3, 0.2, seeds)
    smallest = comparisons.detectable(sample, tests)
    drawn = rng.normal(smallest, sample.std(ddof=1), (20_000, seeds))
    assert np.mean(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05 / tests) == pytest.approx(
        0.8, abs=0.01
    )
    # The mean does not count, and the unit does.
    assert comparisons.detectable(3 * sample + 7, tests) == pytest.approx(3 * smallest)


def test_the_detectable_difference_is_the_solution_of_tables():
    """Cohen's table: 34 pairs detect half a deviation at the 5 % level with 80 % power."""
    sample = np.random.default_rng(0).normal(size=34)
    sample /= sample.std(ddof=1)
    assert comparisons.detectable(sample) == pytest.approx(0.5, abs=0.01)
    assert np.isnan(comparisons.detectable(sample[:1]))
    assert comparisons.detectable(np.zeros(5)) == 0.0


def test_differences_are_paired_by_seed():
    scores, others = np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.3, 0.2, 0.4])
    found = comparisons.differences([3, 1, 2], scores, [1, 2, 9, 3], others)
    np.testing.assert_allclose(found, [0.7 - 0.1, 0.9 - 0.3, 0.5 - 0.4])


def test_the_p_value_has_two_sides():
    drawn = np.random.default_rng(0).normal(0.1, 0.2, 20)
    up, down = comparisons.p_value(drawn), comparisons.p_value(-drawn)
    assert up == down == 2 * iqm.p_at_most(drawn)
    assert comparisons.p_value(np.zeros(20)) == 1.0
    assert np.isnan(comparisons.p_value(drawn[:1]))


@pytest.mark.parametrize(
    ("interval", "p", "smallest", "expected"),
    [
        ([0.2, 0.1, 0.3], 0.01, 0.2, "better"),  # what is seen needs no power
        ([-0.2, -0.3, -0.1], 0.01, 0.02, "worse"),
        ([0.04, 0.01, 0.07], 0.06, 0.04, "undetermined"),  # not after Holm's correction
        ([0.2, -0.1, 0.5], 0.4, 0.04, "no power"),  # too wide
        ([0.0, -0.01, 0.01], 0.9, 0.06, "no power"),  # a lost seed among the quarters left out
        ([0.0, -0.04, 0.03], 0.9, 0.05, "no difference above 0.05"),
        ([0.0, -0.04, 0.06], 0.9, 0.05, "undetermined"),
        ([0.0, np.nan, np.nan], np.nan, np.nan, "no power"),
    ],
)
def test_answers(interval, p, smallest, expected):
    assert comparisons.answer(interval, p, smallest, 10) == expected


def test_a_ratio_is_resampled_by_pairs():
    others = np.exp(np.random.default_rng(1).normal(size=20))
    np.testing.assert_allclose(iqm.ratio(0.25 * others, others), 0.25)
    noisy = others + np.random.default_rng(2).normal(0, 0.1, 20)
    middle, low, high = iqm.ratio(noisy, others)
    assert middle == iqm.iqm(noisy) / iqm.iqm(others) and low < middle < high
    assert iqm.lost(np.array([0.49, 0.5, -2.0])) == 2


def test_the_interval_covers_differences_of_two_learners_that_lose_seeds():
    """Such differences have three humps; `test_iqm` simulates scores themselves."""
    rng = np.random.default_rng(4)
    for rate in (0.05, 0.3):

        def drawn(*shape, rate=rate):
            return np.where(
                rng.random(shape) < rate,
                rng.uniform(0.2, 0.6, shape),
                rng.normal(0.97, 0.02, shape),
            )

        # Differences of learners of one quality are symmetric, so their IQM is 0.
        ends = np.array([iqm.interval(drawn(20) - drawn(20))[1:] for _ in range(300)])
        assert np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) > 0.93


def test_fewer_seeds_than_the_interval_is_made_for_have_no_power():
    assert comparisons.answer((0.2, 0.1, 0.3), 0.0, 0.01, 10) == "better"
    assert comparisons.answer((0.2, 0.1, 0.3), 0.0, 0.01, 9) == "no power"
