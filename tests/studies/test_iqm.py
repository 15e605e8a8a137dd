"""The interval of the interquartile mean: an oracle, and its coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from irl_bench.studies import iqm


def test_iqm_is_scipys_trimmed_mean():
    values = np.random.default_rng(1).normal(size=(5, 20))
    np.testing.assert_allclose(iqm.iqm(values), stats.trim_mean(values, 0.25, axis=1))


def drawn(kind, shape, rng):
    if kind == "normal":
        return rng.normal(0.9, 0.05, shape)
    if kind == "skewed":
        return 1.0 - rng.gamma(1.0, 0.05, shape)
    lost = rng.random(shape) < kind
    return np.where(lost, rng.uniform(0.2, 0.6, shape), rng.normal(0.97, 0.02, shape))


@pytest.mark.parametrize("kind", ["normal", "skewed", 0.05, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("seeds", [pytest.param(10, marks=pytest.mark.slow), 20])
def test_the_interval_covers_what_it_says(kind, seeds, monkeypatch):
    monkeypatch.setattr(iqm, "RESAMPLES", 2000)
    iqm._rows.cache_clear()
    rng = np.random.default_rng(seeds)
    truth = float(iqm.iqm(drawn(kind, 400_000, rng)))
    ends = np.array([iqm.interval(row)[1:] for row in drawn(kind, (800, seeds), rng)])
    iqm._rows.cache_clear()
    covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert covered > 0.93, covered


@pytest.mark.parametrize(("seeds", "covered"), [(2, 0.5), (3, 0.75), (5, 0.9)])
def test_with_few_seeds_it_covers_as_little_as_the_texts_say(seeds, covered):
    rng = np.random.default_rng(seeds)
    truth = float(iqm.iqm(drawn("normal", 400_000, rng)))
    ends = np.array([iqm.interval(row)[1:] for row in drawn("normal", (800, seeds), rng)])
    assert np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) == pytest.approx(
        covered, abs=0.05
    )
    assert "with 5, 3 and 2 seeds about 0.9, 0.75 and 0.5" in iqm.TEXT and seeds < iqm.LEAST


def test_students_interval_of_the_mean_does_not():
    """What the interquartile mean is for: with one seed in twenty lost, half of all samples show
    none, and their interval is far too narrow."""
    rng = np.random.default_rng(3)
    rows = drawn(0.05, (1000, 10), rng)
    truth = drawn(0.05, 1_000_000, rng).mean()
    half = stats.t.ppf(0.975, 9) * rows.std(1, ddof=1) / np.sqrt(10)
    assert np.mean(abs(rows.mean(1) - truth) <= half) < 0.6


def test_p_values_agree_with_the_interval():
    values = np.random.default_rng(0).normal(0.5, 0.1, 20)
    assert iqm.p_at_most(values) == 1 / iqm.RESAMPLES
    assert iqm.p_at_most(values, 10.0) == 1.0
    low = iqm.interval(values)[1]
    assert (1 - iqm.LEVEL) / 2 - 2e-3 <= iqm.p_at_most(values, low) < 0.05
    assert np.isnan(iqm.p_at_most(values[:1])) and np.isnan(iqm.interval(values[:1])[1])


def test_the_trimmed_t_test_is_yuens():
    values = np.random.default_rng(1).normal(0.2, 1.0, 20)
    # SciPy has the test for two samples; a sample of zeros has no error.
    other = stats.ttest_ind(values, np.zeros(20), trim=0.25, equal_var=False, alternative="greater")
    assert iqm._yuen(values, 0.0) == pytest.approx(other.pvalue, rel=1e-6)
    assert iqm._yuen(np.ones(8), 0.0) == 0.0 and iqm._yuen(np.ones(8), 1.0) == 1.0


@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_p_values_err_as_often_as_they_say(lost):
    rng = np.random.default_rng(2)

    def draw(shape):
        return rng.normal(size=shape) - 5.0 * (rng.random(shape) < lost)

    truth = float(iqm.iqm(draw(400_000)))
    p = np.array([iqm.p_at_most(values, truth) for values in draw((800, 20))])
    assert 0.005 < np.mean(p <= 0.025) < 0.045 and np.mean(p <= 0.001) < 0.01
