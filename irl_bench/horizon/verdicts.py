"""One verdict per world, learner and mode, with the figures behind it.

The verdict is the first row of the protocol's table that applies. Its terms:

- a = h / (h + rho) is the share of time off in the long run.
- T_min and T_max are the ends of the grid in use, and `rho T` is rho T_min.
- A seed is `recovering` if rho T_min > 1 on its own transitions and `absorbed` if not. A seed that
  was never off is neither.
- A seed "never recovered" if it spent 10 u steps or more off and never came back. Fewer steps say
  nothing.
- "Local slopes rise" if the interval of (slope over the upper half of the grid) - (slope over the
  lower half) lies above zero.
- "The exponential wins" if its BIC is the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np

from irl_bench.core.quantities import REFERENCES, TAU, TOLERANCES
from irl_bench.horizon.arrays import Floats
from irl_bench.horizon.curves import Curves
from irl_bench.horizon.fits import fit_models, log_covariance
from irl_bench.horizon.slopes import jackknife_t, local_slopes, slope, slope_rise, upper_slope
from irl_bench.horizon.window import SETTLED, Window, find_window, saturates

VERDICTS = (
    "NO-WINDOW",
    "NO-REGRET",
    "UNDERCOVERED",
    "SATURATED",
    "SUPER-POLY",
    "QUADRATIC",
    "LINEAR",
    "RECOVERABLE",
    "CROSSOVER",
    "INCONCLUSIVE",
)
"""The verdicts, in the order in which they are tried."""
LEAST_SEEDS = 10
"""QUADRATIC and LINEAR need at least this many usable seeds."""
STEEP, STEEPEST = 1.7, 2.15
"""QUADRATIC needs a slope whose interval lies above the first and does not lie above the second."""
LEAST_REGRET = 0.1
"""LINEAR, RECOVERABLE and CROSSOVER need at least this mean regret at T_max [failed steps per
episode]: one failed step in ten episodes. Below it hardly anything grows, and an exponent describes
noise."""
MIXED_SHARE = 0.2
"""Seeds are mixed if at least this share of them recovers and at least this share is absorbed."""
RATIO_BELOW = 0.2
"""eps_own / eps_expert is reported only for an eps_expert below this: the ratio says nothing about
a policy that never resembled the expert."""
_EXPECTED_DEPARTURES = 10
_ROUNDING = 1e-4  # of J: the closed form is a float32 sum over the steps
_DIGITS = 9  # significant; rounding in the last bits must not change a byte of verdicts.json

Verdict: TypeAlias = dict[str, Any]
"""One verdict and the figures behind it, in JSON types; None stands for a missing figure.

- Identity: `env`, `algo`, `mode`; `reference` (no learner); `interactive`.
- Verdict: `verdict`, one of `VERDICTS`; `mechanism`, of a LINEAR verdict ("recovering" or "rare");
  `reason`, in words.
- Window: `window` with `low` and `high` [steps], `source` (where the upper end comes from),
  `reason` (why the window is unusable, or None) and `dropped` (requested horizons outside it);
  `horizons` [steps], the K horizons in use.
- Seeds: `seeds`, `usable_seeds`, `failed_seeds`, `recovering_seeds`, `absorbed_seeds`, `mixed`,
  `unrecovered_seeds`; `departures_min` and `sparse_departure_seeds` of interactive learners.
- Growth: `regret` [K] and `regret_ci` [K, 2] [cost]; `slope`, `ci_low`, `ci_high`; the same of the
  graded cost (`graded_slope`, `graded_ci_low`, `graded_ci_high`); `local_slopes` [K - 1] at
  `local_slope_horizons`; `slope_rise` and `slope_rise_ci`; `upper_slope` and
  `upper_slope_ci`, over the upper half of the horizons; `models`, name -> `bic`, `chi2`, `params`;
  `best_model`.
- Rates: `hazard` h and `recovery` rho [1/step]; `stationary` a; `hazard_T_max` h T_max;
  `recovery_T_min` rho T_min; `chain_slope`, the slope of a two-state chain with these rates.
- Errors: `eps_expert`, `eps_own`, `eps_ratio`, `exc_acc_err` [%]; `eps_expert_by_tau` and
  `eps_own_by_tau`, tolerance -> rate.
- Closed form: `exact_slope`; `closed_form_z`, `closed_form_z_T_max`, `closed_form_unjudged` (see
  the protocol).
- Level: `level` and `untrained_level`, the mean regret per step over `level_horizon` steps.
- Cost of training, per seed: `expert_queries`, `env_steps`, `preference_labels`; `episodes`, those
  of the evaluation.
"""


def analyse(
    curves: Sequence[Curves],
    worlds: Mapping[str, Mapping[str, Any]],
    horizons: str | Sequence[int] = "auto",
) -> list[Verdict]:
    """One verdict per entry of `curves`, in that order.

    Args:
      curves: all learners and modes. Each world gets one window, derived from them.
      worlds: name -> `u` [steps] (None: an error cannot be undone), `latency` [steps], `horizon`
        T_max [steps] and the name of the `nominal` mode.
      horizons: "auto" for a log-spaced grid, or increasing horizons [steps], used where they lie in
        the window.

    Returns:
      Verdicts in JSON types (see `Verdict`); every number is finite or None. Equal curves give
      equal verdicts.

    Raises:
      ValueError: if a world is not described, or the horizons do not increase from 1 or more.
    """
    if not isinstance(horizons, str):
        requested = np.asarray(horizons)
        if (
            requested.ndim != 1
            or not np.array_equal(requested, requested.astype(int))
            or np.any(requested < 1)
            or np.any(np.diff(requested) <= 0)
        ):
            raise ValueError("horizons must be increasing whole numbers, from 1 or more")
    elif horizons != "auto":
        raise ValueError(f"horizons must be 'auto' or a list, not {horizons!r}")
    missing = sorted({curve.env for curve in curves} - set(worlds))
    if missing:
        raise ValueError(f"no description of world {', '.join(missing)}")
    by_world: dict[str, list[Curves]] = {}
    for curve in curves:
        by_world.setdefault(curve.env, []).append(curve)
    windows = {env: find_window(group, worlds[env], horizons) for env, group in by_world.items()}
    return [
        _analyse_curves(curve, by_world[curve.env], worlds[curve.env], windows[curve.env])
        for curve in curves
    ]


def _analyse_curves(
    curves: Curves, group: list[Curves], world: Mapping[str, Any], window: Window
) -> Verdict:
    level_horizon = window.horizons[-1] if window.horizons else int(curves.T[-1])
    figures: dict[str, Any] = {
        "env": curves.env,
        "algo": curves.algo,
        "mode": curves.mode,
        "reference": curves.algo in REFERENCES,
        "interactive": bool(curves.interactive),
        **_seed_figures(
            curves, window.horizons[0] if window.horizons else window.low, world.get("u")
        ),
        **_rate_figures(curves, window),
        **_error_figures(curves),
        **growth_figures(curves, window.horizons),
        **_exact_figures(curves, window),
        "level": _level(curves, level_horizon),
        "level_horizon": level_horizon,
        "untrained_level": _untrained_level(
            group, curves.mode, str(world["nominal"]), level_horizon
        ),
        "episodes": int(curves.episodes),
        "expert_queries": int(curves.consumes[0]),
        "env_steps": int(curves.consumes[1]),
        "preference_labels": int(curves.labels),
        "window": {
            "low": window.low,
            "high": window.high,
            "source": window.source,
            "reason": window.reason,
            "dropped": list(window.dropped),
        },
    }
    verdict, mechanism, reason = verdict_of(figures)
    return _plain({**figures, "verdict": verdict, "mechanism": mechanism, "reason": reason})


def verdict_of(figures: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """The first row of the protocol's table that applies to a learner's figures.

    Args:
      figures: the entries of a `Verdict` without `verdict`, `mechanism` and `reason`.

    Returns:
      (verdict, mechanism, reason): one of `VERDICTS`, the mechanism of a LINEAR verdict or None,
      and the reason in words.
    """
    f, window = figures, figures["window"]
    if window["reason"]:
        return "NO-WINDOW", None, window["reason"]
    if f["usable_seeds"] == 0:
        return "INCONCLUSIVE", None, "no usable seed"
    none = [
        T
        for T, mean, (_, upper) in zip(f["horizons"], f["regret"], f["regret_ci"], strict=True)
        if mean == 0 or (_known(upper) and upper <= 0)
    ]
    if none and len(none) == len(f["horizons"]):
        bound = max([0.0, *(upper for _, upper in f["regret_ci"] if _known(upper))])
        return (
            "NO-REGRET",
            None,
            f"at every horizon in use the upper end of the mean regret's interval is at most "
            f"{bound:.3g}",
        )
    if none:
        T, end, last = none[-1], f["horizons"][-1], f["regret"][-1]
        if end in none:  # better than its demonstrator in the long run
            short = next(i for i, horizon in enumerate(f["horizons"]) if horizon not in none)
            return (
                "NO-WINDOW",
                None,
                f"regret changes its sign: {f['regret'][short]:.3g} failed steps more than the "
                f"demonstrator at T = {f['horizons'][short]}, but {last:.3g} at T = {end}",
            )
        return (
            "NO-WINDOW",
            None,
            f"no regret is seen at T = {T}, but {last:.3g} failed steps are at T = {end}; nearest: "
            "more episodes, or --horizons that begin later",
        )
    if f["interactive"] and f["unrecovered_seeds"] > 0:
        return (
            "UNDERCOVERED",
            None,
            f"{f['unrecovered_seeds']} of {f['usable_seeds']} seeds never came back while off",
        )
    hT, a, rho_T = f["hazard_T_max"], f["stationary"], f["recovery_T_min"]
    chain = f"h T_max = {_text(hT)}, a = {_text(a)}, rho T_min = {_text(rho_T)}"
    if _known(hT) and _known(a) and saturates(hT) and a > 0.5:
        return "SATURATED", None, chain
    middle, low, high = f["slope"], f["ci_low"], f["ci_high"]
    if not _known(middle):
        worst = next(T for T, mean in zip(f["horizons"], f["regret"], strict=True) if not mean > 0)
        return (
            "INCONCLUSIVE",
            None,
            f"no slope: the mean regret at T = {worst} is negative, yet its interval reaches above "
            "zero",
        )
    if not (_known(low) and _known(high)):
        return (
            "INCONCLUSIVE",
            None,
            f"no interval for the slope with {f['usable_seeds']} usable seeds",
        )
    measured = f"slope {middle:.3f} [{low:.3f}, {high:.3f}]"
    if outgrows_powers(f):
        return (
            "SUPER-POLY",
            None,
            f"{measured}; local slopes rise by {f['slope_rise']:.2f} or so, to "
            f"{f['upper_slope']:.2f}, and the exponential fits best",
        )
    recovering: bool = _known(rho_T) and _known(a) and rho_T > 10 and a < 0.5
    passed = (
        "QUADRATIC"
        if low > STEEP and high >= 1.85 and low <= STEEPEST
        else "LINEAR"
        if low >= 0.85 and high <= 1.15
        else None
    )
    if passed and f["usable_seeds"] < LEAST_SEEDS:
        reason = (
            f"fewer than {LEAST_SEEDS} seeds ({f['usable_seeds']}); the figures alone would "
            f"read {passed}: {measured}"
        )
        return "INCONCLUSIVE", None, reason
    crossing = _known(rho_T) and 1 < rho_T < 10
    kind = passed or ("RECOVERABLE" if recovering else "CROSSOVER" if crossing else None)
    least = f["regret"][-1]
    if least < LEAST_REGRET and kind in ("LINEAR", "RECOVERABLE", "CROSSOVER"):
        return (
            "INCONCLUSIVE",
            None,
            f"too little regret for an exponent: {least:.3g} failed steps per episode at T = "
            f"{f['horizons'][-1]}, fewer than {LEAST_REGRET}; the figures alone would read "
            f"{kind}: {measured}",
        )
    if kind == "LINEAR":
        return kind, "recovering" if recovering else "rare", f"{measured}; {chain}"
    if kind == "QUADRATIC":
        return kind, None, f"{measured}; {chain}"
    if kind:
        return kind, None, f"{chain}; {measured}"
    return "INCONCLUSIVE", None, f"{measured} fits no row; {chain}"


def outgrows_powers(figures: Mapping[str, Any]) -> bool:
    """Returns whether regret seems to outgrow powers of T: the exponential fits best, and the
    intervals of the rise of local slopes and of the slope over the upper half of the horizons lie
    above 0 and above STEEPEST. A sum of two powers, such as a T + b T⁴, may pass too; a T + b T²
    does not.

    Args:
      figures: those of `growth_figures`.
    """
    rise, upper = figures["slope_rise_ci"][0], figures["upper_slope_ci"][0]
    rising = _known(rise) and _known(upper) and rise > 0 and upper > STEEPEST
    return bool(figures["best_model"] == "exponential" and rising)


def _seed_figures(curves: Curves, shortest: int, u: float | None) -> dict[str, Any]:
    """How many seeds are usable, recover, are absorbed, and departed in training."""
    use = curves.usable
    off, back = np.asarray(curves.off_steps, float)[use], np.asarray(curves.off_to_on, float)[use]
    returns = back * shortest > off  # rho T_min > 1
    recovering, absorbed = int(np.sum(returns & (off > 0))), int(np.sum(~returns & (off > 0)))
    usable = int(use.sum())
    departures = None
    if curves.departures is not None:
        departures = np.asarray(curves.departures, float)[use]
        departures = departures[np.isfinite(departures)]
    return {
        "seeds": len(curves.seeds),
        "usable_seeds": usable,
        "failed_seeds": len(curves.seeds) - usable,
        "recovering_seeds": recovering,
        "absorbed_seeds": absorbed,
        "mixed": usable > 0 and min(recovering, absorbed) >= MIXED_SHARE * usable,
        # Where the expert cannot undo a failure (no u), never coming back shows no lack of
        # coverage.
        "unrecovered_seeds": int(np.sum((back == 0) & (off >= max(1.0, SETTLED * u))))
        if u is not None
        else 0,
        "departures_min": float(departures.min())
        if departures is not None and len(departures)
        else None,
        "sparse_departure_seeds": int(np.sum(departures < _EXPECTED_DEPARTURES))
        if departures is not None
        else None,
    }


def _rate_figures(curves: Curves, window: Window) -> dict[str, Any]:
    """The rates of the two-state chain, and the slope that such a chain would have."""
    h, rho = curves.rates()
    grid = np.array(window.horizons)
    a = None if h is None else 0.0 if h == 0 else None if rho is None else h / (h + rho)
    return {
        "hazard": h,
        "recovery": rho,
        "stationary": a,
        "hazard_T_max": h * float(grid[-1]) if h is not None and len(grid) else None,
        "recovery_T_min": rho * float(grid[0]) if rho is not None and len(grid) else None,
        "chain_slope": curves.chain_slope(grid),
    }


def _error_figures(curves: Curves) -> dict[str, Any]:
    """Error rates, averaged over usable seeds."""
    by_tau_expert, by_tau_own = (
        _mean_of_finite(rates[curves.usable]) for rates in (curves.eps_expert, curves.eps_own)
    )
    expert, own = by_tau_expert[TAU], by_tau_own[TAU]
    ratio = None
    if expert is not None and own is not None and 0 < expert < RATIO_BELOW:
        ratio = own / expert
    return {
        "eps_expert": expert,
        "eps_own": own,
        "eps_ratio": ratio,
        # Arora et al. 2022: 100 (L - T eps) / (T eps) with the accumulated error L = T eps_own.
        "exc_acc_err": None if ratio is None else 100.0 * (ratio - 1.0),
        "eps_expert_by_tau": {
            str(tau): rate for tau, rate in zip(TOLERANCES, by_tau_expert, strict=True)
        },
        "eps_own_by_tau": {
            str(tau): rate for tau, rate in zip(TOLERANCES, by_tau_own, strict=True)
        },
    }


def growth_figures(curves: Curves, horizons: Sequence[int]) -> dict[str, Any]:
    """Returns regret, slopes and model fits, the entries of a `Verdict` that depend on horizons.

    Args:
      curves: of one learner.
      horizons: at which its regret is read, increasing [steps]; none: the entries are empty.
    """
    grid = np.array(horizons, int)
    missing = (None, None, None)
    figures: dict[str, Any] = {
        "horizons": list(horizons),
        "regret": [],
        "regret_ci": [],
        "local_slopes": [],
    }
    figures |= {"local_slope_horizons": list(np.sqrt(grid[:-1] * grid[1:]))}
    exponent = graded = rise = upper = missing
    models: dict[str, Any] = {}
    if len(grid) and curves.usable.any():
        regret = curves.regret(grid)
        mean, low, high = jackknife_t(regret, lambda J: J)
        figures |= {
            "regret": list(mean),
            "regret_ci": [list(pair) for pair in zip(low, high, strict=True)],
        }
        graded = jackknife_t(curves.graded_regret(grid), lambda J: slope(grid, J))
        if (mean > 0).all():
            exponent = jackknife_t(regret, lambda J: slope(grid, J))
            rise = jackknife_t(regret, lambda J: slope_rise(grid, J))
            upper = jackknife_t(regret, lambda J: upper_slope(grid, J))
            figures["local_slopes"] = list(local_slopes(grid, mean))
            covariance = log_covariance(regret) if len(regret) > 1 else None
            fitted = {} if covariance is None else fit_models(grid, mean, covariance)
            models = {
                name: {"bic": fit.bic, "chi2": fit.chi2, "params": fit.params}
                for name, fit in fitted.items()
            }
    return {
        **figures,
        "slope": exponent[0],
        "ci_low": exponent[1],
        "ci_high": exponent[2],
        "graded_slope": graded[0],
        "graded_ci_low": graded[1],
        "graded_ci_high": graded[2],
        "slope_rise": rise[0],
        "slope_rise_ci": list(rise[1:]),
        "upper_slope": upper[0],
        "upper_slope_ci": list(upper[1:]),
        "models": models,
        "best_model": min(models, key=lambda name: models[name]["bic"]) if models else None,
    }


def _exact_figures(curves: Curves, window: Window) -> dict[str, Any]:
    """Compares measured costs with the closed form, if every usable seed's policy has one.

    At each horizon of the window, z is the mean over seeds of (measured J - exact J) divided by its
    standard error over seeds. `closed_form_z` is the largest |z|; `closed_form_z_T_max` is z at the
    last horizon. If all seeds differ from the closed form by the same amount, the horizon has no z:
    it is listed in `closed_form_unjudged` unless that amount is zero.
    """
    figures: dict[str, Any] = {
        "exact_slope": None,
        "closed_form_z": None,
        "closed_form_z_T_max": None,
        "closed_form_unjudged": [],
    }
    grid = np.array(window.horizons, int)
    regret = curves.exact_regret(grid) if len(grid) else None
    if regret is None or not len(regret) or not np.isfinite(regret).all():
        return figures
    figures["exact_slope"] = float(slope(grid, regret.mean(axis=0)))
    if len(regret) == 1:
        return figures
    rows = np.ix_(curves.usable, np.searchsorted(curves.T, grid))
    measured, expected = (
        np.asarray(curves.cost, float)[rows],
        np.asarray(curves.expected, float)[rows],
    )
    difference = np.where(
        np.isclose(measured, expected, rtol=_ROUNDING, atol=0.0), 0.0, measured - expected
    )
    spread = np.ptp(difference, axis=0) > 0
    mean, error = difference.mean(axis=0), difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    z = np.divide(mean, error, out=np.full(len(grid), np.nan), where=spread)
    if spread.any():
        figures |= {
            "closed_form_z": float(np.nanmax(np.abs(z))),
            "closed_form_z_T_max": float(z[-1]),
        }
    return {**figures, "closed_form_unjudged": list(grid[~spread & (difference[0] != 0)])}


def _level(curves: Curves, horizon: int) -> float | None:
    """Mean regret per step over `horizon` steps."""
    if not curves.usable.any() or horizon not in curves.T:
        return None
    return float(curves.regret(np.array([horizon])).mean()) / horizon


def _untrained_level(group: list[Curves], mode: str, nominal: str, horizon: int) -> float | None:
    """Level of the untrained policy in `mode`, else in the nominal mode; None without one."""
    untrained = {curve.mode: curve for curve in group if curve.algo == "untrained"}
    reference = untrained.get(mode) or untrained.get(nominal)
    return None if reference is None else _level(reference, horizon)


def _mean_of_finite(rates: Floats) -> list[float | None]:
    """Per tolerance, the mean over the seeds with a finite rate; None without one."""
    columns = np.asarray(rates, float).reshape(-1, len(TOLERANCES)).T
    return [
        float(column[np.isfinite(column)].mean()) if np.isfinite(column).any() else None
        for column in columns
    ]


def _known(value: float | None) -> TypeGuard[float]:
    """Whether a figure is there and finite."""
    return value is not None and math.isfinite(value)


def _text(value: float | None) -> str:
    return f"{value:.3g}" if _known(value) else "unknown"


def _plain(value: object) -> Any:
    """JSON types only; floats to 9 significant digits, and None for what is not finite."""
    if isinstance(value, Mapping):
        mapping = cast(Mapping[object, object], value)
        return {str(key): _plain(item) for key, item in mapping.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(Sequence[object], value)]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(cast("np.generic[object]", value).item())
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
