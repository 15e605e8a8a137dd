"""Model fits recover the parameters that made the data, and BIC picks the model."""

import numpy as np
import pytest

from irl_bench.horizon import chain_model
from irl_bench.horizon.fits import LEAST_SHRINKAGE, fit_models, log_covariance, shrinkage
from irl_bench.horizon.slopes import log_spaced

T = log_spaced(80, 1024).astype(float)


def covariance(scale=0.01):
    """Strongly correlated points, as cumulative costs are."""
    nearness = np.exp(-np.abs(np.log(T[:, None] / T)) / 2)
    return scale**2 * nearness


TRUTHS = {
    "linear": (2e-3 * T, {"a": 2e-3}),
    "quadratic": (1e-6 * T**2, {"a": 1e-6}),
    "power": (1e-4 * T**1.4, {"a": 1e-4, "c": 1.4}),
    "exponential": (0.01 * np.expm1(0.006 * T), {"a": 0.01, "b": 0.006}),
    "chain": (chain_model.cost(T, 3e-4, 5e-3), {"h": 3e-4, "rho": 5e-3}),
    "latency": (1e-6 * (T - 30.0) ** 2, {"a": 1e-6, "L": 30.0}),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_exact_curves_give_back_their_parameters_and_their_name(name):
    J, params = TRUTHS[name]
    fits = fit_models(T, J, covariance())
    assert fits[name].chi2 < 1e-6
    for parameter, value in params.items():
        assert fits[name].params[parameter] == pytest.approx(value, rel=1e-4)
    assert min(fits, key=lambda model: fits[model].bic) == name


def test_generalised_least_squares_against_the_normal_equations():
    rng = np.random.default_rng(0)
    V = covariance(0.05)
    log_J = np.log(1e-4 * T**1.4) + np.linalg.cholesky(V) @ rng.standard_normal(len(T))
    design = np.stack([np.ones(len(T)), np.log(T)], axis=1)
    inverse = np.linalg.inv(V)
    log_a, c = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ log_J)
    residual = log_J - design @ [log_a, c]
    fit = fit_models(T, np.exp(log_J), V)["power"]
    assert (fit.params["a"], fit.params["c"]) == (
        pytest.approx(np.exp(log_a), rel=1e-8),
        pytest.approx(c, rel=1e-8),
    )
    assert fit.chi2 == pytest.approx(residual @ inverse @ residual, rel=1e-6)
    assert fit.bic == pytest.approx(fit.chi2 + 2 * np.log(len(T)))


def test_the_chain_stays_in_its_range():
    # More cost than a chain can make: a = h / (h + rho) is held at 1.
    params = fit_models(T, 3.0 * T, covariance())["chain"].params
    assert 0 <= params["rho"] < 1e-6 and params["h"] == pytest.approx(1.0)
    # A pure quadratic is the chain's limit rho = 0.
    params = fit_models(T, chain_model.cost(T, 1e-7, 0.0), covariance())["chain"].params
    assert params["h"] == pytest.approx(1e-7, rel=1e-3)


def test_bic_picks_the_true_model_through_noise():
    rng = np.random.default_rng(1)
    V = covariance(0.02)
    noise = np.linalg.cholesky(V) @ rng.standard_normal((len(T), 20))
    for name in ("linear", "quadratic"):
        picked = [fit_models(T, TRUTHS[name][0] * np.exp(column), V) for column in noise.T]
        wins = [min(fits, key=lambda model: fits[model].bic) == name for fits in picked]
        assert np.mean(wins) > 0.7


def test_covariance_is_shrunk_positive_definite_and_reproducible():
    rng = np.random.default_rng(2)
    curves = T**2 * rng.lognormal(0.0, 0.3, (12, 1)) * rng.lognormal(0.0, 0.01, (12, len(T)))
    V = log_covariance(curves)
    assert np.array_equal(V, log_covariance(curves))
    assert np.linalg.cond(V) < 1e4
    # The delta method: var of the log of a mean is the squared relative standard error.
    relative = curves.std(axis=0, ddof=1) / np.sqrt(12) / curves.mean(axis=0)
    np.testing.assert_allclose(np.sqrt(np.diag(V)), relative, rtol=0.1)


def test_shrinkage_against_the_explicit_sum():
    curves = np.random.default_rng(3).standard_normal((10, 4))
    z = (curves - curves.mean(axis=0)) / curves.std(axis=0, ddof=1)
    above = below = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                w = z[:, i] * z[:, j]
                above += 10 / 9**3 * np.sum((w - w.mean()) ** 2)
                below += (10 / 9 * w.mean()) ** 2
    assert shrinkage(curves) == pytest.approx(
        np.clip(above / below, LEAST_SHRINKAGE, 1.0), rel=1e-12
    )


def test_no_covariance_where_most_resamples_have_no_logarithm():
    curves = np.full((10, len(T)), -0.1)
    curves[0] = 0.8  # must be drawn twice for a positive mean
    assert log_covariance(curves) is None


def test_curves_without_spread_can_be_fitted():
    curves = np.tile(TRUTHS["quadratic"][0], (10, 1))
    assert fit_models(T, curves[0], log_covariance(curves))["quadratic"].chi2 < 1e-9
