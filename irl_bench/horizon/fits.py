"""Growth laws of a regret curve: six models, fitted to log J and compared by BIC.

The fits are generalised least squares. A bootstrap over seeds gives the covariance of log J between
horizons. With 10 to 20 seeds and 7 strongly correlated horizons that covariance is ill-conditioned,
so its correlations are shrunk towards zero. BIC = chi² + p log K, up to a constant that all models
share. A large gap in BIC often means only that the Monte-Carlo error is tiny: the fits support a
verdict; they do not make one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from irl_bench.horizon import chain_model
from irl_bench.horizon.arrays import Floats

RESAMPLES = 1000
"""Bootstrap resamples of the seeds."""
BOOTSTRAP_SEED = 20
"""Fixed, so that the same curves give the same bytes."""
LEAST_SHRINKAGE = 0.05
"""Correlations are always shrunk by at least this share."""
_LEAST_VARIANCE = 1e-10  # of log J: curves without spread (a closed form) stay solvable
_GRID = 80
_ZOOM_GRID = 41  # each zoom divides the spacing by 20
_ZOOMS = 4


@dataclasses.dataclass(frozen=True)
class Fit:
    """The best fit of one model."""

    bic: float
    """chi² + p log K with p parameters and K horizons; lower is better."""
    chi2: float
    """Squared residual of log J, weighted by the inverse covariance."""
    params: dict[str, float]
    """Parameter name -> value, as `fit_models` names them."""


def log_covariance(curves: Floats) -> Floats | None:
    """Covariance of the log of the mean over seeds, by a bootstrap over seeds.

    Seeds are drawn with replacement. A resample whose mean is not positive everywhere has no
    logarithm and is left out. Correlations are multiplied by 1 - lambda (see `shrinkage`).

    Args:
      curves: float[S, K], S >= 2.

    Returns:
      float64[K, K], positive definite; None if half of the resamples or more are left out.
    """
    seeds = len(curves)
    means = _resampling_weights(seeds) @ curves
    means = means[(means > 0).all(axis=1)]
    if 2 * len(means) <= RESAMPLES:
        return None
    covariance = np.cov(np.log(means), rowvar=False)
    scale = np.sqrt(np.maximum(np.diag(covariance), _LEAST_VARIANCE))
    correlation = covariance / np.outer(scale, scale) * (1.0 - shrinkage(curves))
    np.fill_diagonal(correlation, 1.0)
    return correlation * np.outer(scale, scale)


@functools.cache
def _resampling_weights(seeds: int) -> Floats:
    """float64[RESAMPLES, S]: the weight of each seed in each resample's mean."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=RESAMPLES) / seeds


def shrinkage(curves: Floats) -> float:
    """Share lambda by which correlations between horizons are shrunk towards zero.

    lambda = sum Var(r_ij) / sum r_ij² over i != j, where r is the correlation of the seeds' curves
    between horizons. Source: Schäfer and Strimmer 2005, target D with shrunk correlations.

    Args:
      curves: float[S, K], S >= 2.

    Returns:
      lambda in [LEAST_SHRINKAGE, 1]; 1 if all seeds have the same curve.
    """
    seeds, points = curves.shape
    spread = curves.std(axis=0, ddof=1)
    z = (curves - curves.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    products = z[:, :, None] * z[:, None, :]
    mean = products.mean(axis=0)
    correlation = mean * seeds / (seeds - 1)
    variance = seeds / (seeds - 1) ** 3 * np.sum((products - mean) ** 2, axis=0)
    off_diagonal = ~np.eye(points, dtype=bool)
    strength = float(np.sum(correlation[off_diagonal] ** 2))
    if strength == 0.0:
        return 1.0
    return float(np.clip(np.sum(variance[off_diagonal]) / strength, LEAST_SHRINKAGE, 1.0))


def fit_models(T: Floats, J: Floats, covariance: Floats) -> dict[str, Fit]:
    """Fits six growth laws to log J by generalised least squares.

    - `linear`: a T
    - `quadratic`: a T²
    - `power`: a T^c
    - `exponential`: a (e^(b T) - 1)
    - `latency`: a (T - L)² with 0 <= L < T_min
    - `chain`: the two-state chain in Brax's convention, with h >= 0, rho >= 0 and h + rho <= 1,
      hence h / (h + rho) <= 1

    Args:
      T: [K] horizons [steps], increasing.
      J: float[K] > 0, the mean regret.
      covariance: float[K, K] of log J, positive definite.

    Returns:
      Model name -> its best fit.
    """
    horizons = np.asarray(T, float)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T

    def whiten(rows: Floats) -> Floats:
        return rows @ whitening

    y, ones, log_T = whiten(np.log(J)), whiten(np.ones(len(horizons))), np.log(horizons)

    def level(shape: Floats, most: float = np.inf) -> tuple[Floats, Floats]:
        """The best log a of log J = log a + shape, at most `most`, and its chi²; shape is
        float[..., K]."""
        residual = y - whiten(shape)
        log_a = np.minimum(residual @ ones / (ones @ ones), most)
        return log_a, np.sum((residual - log_a[..., None] * ones) ** 2, axis=-1)

    def fixed(exponent: float) -> Fit:
        log_a, chi2 = level(exponent * log_T)
        return _fit(chi2, 1, len(horizons), a=np.exp(log_a))

    def power() -> Fit:
        design = np.stack([ones, whiten(log_T)], axis=1)
        (log_a, c), *_ = np.linalg.lstsq(design, y, rcond=None)
        chi2 = np.sum((y - design @ [log_a, c]) ** 2)
        return _fit(chi2, 2, len(horizons), a=np.exp(log_a), c=c)

    def search(
        shape: Callable[[Floats], Floats], grid: Floats, most: float = np.inf
    ) -> tuple[float, float, float]:
        """(z, log a, chi²) at the best z; `shape` maps z[G] to float[G, K]."""
        for _ in range(_ZOOMS):
            best = int(np.argmin(level(shape(grid), most)[1]))
            low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
            grid = np.linspace(low, high, _ZOOM_GRID)
        log_a, chi2 = level(shape(grid), most)
        best = int(np.argmin(chi2))
        return float(grid[best]), float(log_a[best]), float(chi2[best])

    def exponential() -> Fit:
        def shape(log_b: Floats) -> Floats:
            x = np.exp(log_b)[:, None] * horizons
            return x + np.log(-np.expm1(-x))

        grid = np.log(np.geomspace(1e-4, 1e2, _GRID) / horizons[-1])
        log_b, log_a, chi2 = search(shape, grid)
        return _fit(chi2, 2, len(horizons), a=np.exp(log_a), b=np.exp(log_b))

    def chain() -> Fit:
        def shape(log_k: Floats) -> Floats:
            k = np.exp(log_k)[:, None]
            return np.log(k * chain_model.unit_cost(horizons + 1.0, k))

        grid = np.log(np.geomspace(1e-6 / float(horizons[-1]), 1.0, 2 * _GRID))
        log_k, log_a, chi2 = search(shape, grid, most=0.0)
        h = np.exp(log_a + log_k)
        return _fit(chi2, 2, len(horizons), h=h, rho=max(np.exp(log_k) - h, 0.0))

    def latency() -> Fit:
        def shape(L: Floats) -> Floats:
            return 2.0 * np.log(horizons - L[:, None])

        L, log_a, chi2 = search(shape, np.linspace(0.0, 0.99 * float(horizons[0]), _GRID))
        return _fit(chi2, 2, len(horizons), a=np.exp(log_a), L=L)

    return {
        "linear": fixed(1.0),
        "quadratic": fixed(2.0),
        "power": power(),
        "exponential": exponential(),
        "chain": chain(),
        "latency": latency(),
    }


def _fit(chi2: float | Floats, parameters: int, points: int, **params: float | Floats) -> Fit:
    chi2 = float(chi2)
    return Fit(
        chi2 + parameters * float(np.log(points)),
        chi2,
        {name: float(value) for name, value in params.items()},
    )
