"""Which growth law describes a regret curve: six models, fitted to log J by generalised least
squares, compared by BIC.

The covariance of log J between horizons comes from a bootstrap over seeds. With 10 to 20 seeds and
7 strongly correlated points it is ill-conditioned, so its correlations are shrunk towards none. BIC
= chi² + p log K up to what all models share. A big gap often means only that the Monte-Carlo error
is tiny: the fits support a verdict, they do not make one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from irl_bench.horizon import chain_model

RESAMPLES = 1000
BOOTSTRAP_SEED = 20
"""Fixed: the same curves give the same bytes."""
LEAST_SHRINKAGE = 0.05
_LEAST_VARIANCE = 1e-10  # of log J: keeps curves without spread (a closed form) solvable
_GRID = 80
_ZOOM_GRID = 41  # each zoom divides the spacing by 20
_ZOOMS = 4


@dataclasses.dataclass(frozen=True)
class Fit:
    """One model's best fit."""

    bic: float
    chi2: float
    params: dict[str, float]


def log_covariance(curves: np.ndarray) -> np.ndarray | None:
    """float[K, K]: shrunk bootstrap covariance of the log of the mean over seeds.

    Seeds are drawn with replacement. A resample whose mean is not positive everywhere has no
    logarithm and is left out. Correlations are multiplied by 1 - lambda (`shrinkage`).

    Args:
      curves: float[S, K], S >= 2.

    Returns:
      None if half of the resamples or more had to be left out.
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
def _resampling_weights(seeds: int) -> np.ndarray:
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=RESAMPLES) / seeds


def shrinkage(curves: np.ndarray) -> float:
    """lambda = sum Var(r_ij) / sum r_ij² over i != j, clipped to [0.05, 1]; 1 where the seeds do
    not differ at all.

    r is the correlation between horizons of the seeds' curves. Source: Schäfer and Strimmer 2005,
    target D with shrunk correlations.
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


def fit_models(T: np.ndarray, J: np.ndarray, covariance: np.ndarray) -> dict[str, Fit]:
    """The six models, each by generalised least squares of log J.

    `linear` a T; `quadratic` a T²; `power` a T^c; `exponential` a (e^(b T) - 1); `latency` a (T -
    L)² with 0 <= L < T_min; `chain`, the two-state chain in Brax's convention with h >= 0, rho >= 0
    and h + rho <= 1, hence h / (h + rho) <= 1.

    Args:
      T: [K] horizons.
      J: float[K] > 0.
      covariance: float[K, K] of log J, positive definite.
    """
    T = np.asarray(T, float)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T

    def whiten(rows: np.ndarray) -> np.ndarray:
        return rows @ whitening

    y, ones, log_T = whiten(np.log(J)), whiten(np.ones(len(T))), np.log(T)

    def level(shape: np.ndarray, most: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """The best log a of log J = log a + shape, at most `most`, and its chi²; shape is
        float[..., K]."""
        residual = y - whiten(shape)
        log_a = np.minimum(residual @ ones / (ones @ ones), most)
        return log_a, np.sum((residual - log_a[..., None] * ones) ** 2, axis=-1)

    def fixed(exponent: float) -> Fit:
        log_a, chi2 = level(exponent * log_T)
        return _fit(chi2, 1, len(T), a=np.exp(log_a))

    def power() -> Fit:
        design = np.stack([ones, whiten(log_T)], axis=1)
        (log_a, c), *_ = np.linalg.lstsq(design, y, rcond=None)
        chi2 = np.sum((y - design @ [log_a, c]) ** 2)
        return _fit(chi2, 2, len(T), a=np.exp(log_a), c=c)

    def searched(
        shape: Callable[[np.ndarray], np.ndarray], grid: np.ndarray, most: float = np.inf
    ) -> tuple[float, ...]:
        """(z, log a, chi²) at the best z; `shape` maps z[G] to float[G, K]."""
        for _ in range(_ZOOMS):
            best = int(np.argmin(level(shape(grid), most)[1]))
            grid = np.linspace(
                grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], _ZOOM_GRID
            )
        log_a, chi2 = level(shape(grid), most)
        best = int(np.argmin(chi2))
        return float(grid[best]), float(log_a[best]), float(chi2[best])

    def exponential() -> Fit:
        def shape(log_b: np.ndarray) -> np.ndarray:
            x = np.exp(log_b)[:, None] * T
            return x + np.log(-np.expm1(-x))

        log_b, log_a, chi2 = searched(shape, np.log(np.geomspace(1e-4, 1e2, _GRID) / T[-1]))
        return _fit(chi2, 2, len(T), a=np.exp(log_a), b=np.exp(log_b))

    def chain() -> Fit:
        def shape(log_k: np.ndarray) -> np.ndarray:
            k = np.exp(log_k)[:, None]
            return np.log(k * chain_model.unit_cost(T + 1.0, k))

        log_k, log_a, chi2 = searched(
            shape, np.log(np.geomspace(1e-6 / T[-1], 1.0, 2 * _GRID)), most=0.0
        )
        h = np.exp(log_a + log_k)
        return _fit(chi2, 2, len(T), h=h, rho=max(np.exp(log_k) - h, 0.0))

    def latency() -> Fit:
        def shape(L: np.ndarray) -> np.ndarray:
            return 2.0 * np.log(T - L[:, None])

        L, log_a, chi2 = searched(shape, np.linspace(0.0, 0.99 * T[0], _GRID))
        return _fit(chi2, 2, len(T), a=np.exp(log_a), L=L)

    return {
        "linear": fixed(1.0),
        "quadratic": fixed(2.0),
        "power": power(),
        "exponential": exponential(),
        "chain": chain(),
        "latency": latency(),
    }


def _fit(
    chi2: float | np.ndarray, parameters: int, points: int, **params: float | np.ndarray
) -> Fit:
    chi2 = float(chi2)
    return Fit(
        chi2 + parameters * float(np.log(points)),
        chi2,
        {name: float(value) for name, value in params.items()},
    )
