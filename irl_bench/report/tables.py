"""The page's tables. Every cell is plain text; a dash stands for a missing figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from irl_bench.core.quantities import REFERENCES, TOLERANCES
from irl_bench.horizon import Curves
from irl_bench.report import series, training
from irl_bench.report.data import ReportData

MISSING = "–"
"""Stands for a missing figure."""

Verdict: TypeAlias = Mapping[str, Any]
"""As `horizon.analyse` returns it. Only `env`, `algo`, `mode`, `verdict`, `regret` and `regret_ci`
must be there; a missing key reads as a missing figure."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    """One name per column."""
    rows: Sequence[Sequence[str]]
    """Each as long as the header."""
    text: frozenset[int] = frozenset()
    """Columns of words, aligned left. The other columns hold numbers and are aligned right."""
    quiet: frozenset[int] = frozenset()
    """Rows of reference policies, drawn in grey."""


def number(value: Any, digits: int = 4) -> str:
    """A number as text.

    Args:
      value: a number, a bool ("yes" or "no"), or None.
      digits: significant digits of a float.

    Returns:
      The text; a dash for None, NaN and infinities, so that a missing figure never reads as zero.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return MISSING
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return f"{value:.{digits - 1}e}"


def interval(middle: Any, low: Any, high: Any, show: Callable[[Any], str] = number) -> str:
    """`middle [low, high]`; without bounds `middle`, and without `middle` a dash.

    Args:
      middle, low, high: numbers or None.
      show: a number as text.
    """
    bounds = "" if low is None or high is None else f" [{show(low)}, {show(high)}]"
    return show(middle) + bounds if middle is not None else MISSING


def exponent(middle: Any, low: Any, high: Any, decimals: int = 3) -> str:
    """A slope and its interval, all to the same number of decimals; zero has no sign."""

    def show(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else MISSING

    return interval(middle, low, high, show)


def drives(found: Mapping[str, Mapping[str, float | None]]) -> Table:
    """What a world's metrics say of its drivers, as of `irl_bench.report.drives`: a column each."""
    names = list(next(iter(found.values())))
    rows = [[name, *(number(row[name], 3) for row in found.values())] for name in names]
    return Table(["", *found], rows, text=frozenset({0}))


def of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of dicts with equal keys, which become the header; values are numbers or text."""
    names = list(rows[0]) if rows else []
    cells_ = [
        [row[name] if isinstance(row[name], str) else number(row[name], 3) for name in names]
        for row in rows
    ]
    words = frozenset(
        i for i, name in enumerate(names) if any(isinstance(row[name], str) for row in rows)
    )
    return Table([name.replace("_", " ") for name in names], cells_, words)


def window(verdict: Verdict) -> str:
    """A verdict's window, as in `80 to 1024`; a dash if the window is unusable."""
    limits = series.window_of(verdict)
    return f"{limits[0]:g} to {limits[1]:g}" if limits else MISSING


def ordered(data: ReportData) -> list[Verdict]:
    """A report's verdicts world by world, reference policies last in each world."""
    worlds = list(dict.fromkeys(verdict["env"] for verdict in data.verdicts))
    return sorted(
        data.verdicts, key=lambda verdict: (worlds.index(verdict["env"]), is_reference(verdict))
    )


def is_reference(verdict: Verdict) -> bool:
    """Whether a verdict is about the expert or an untrained policy."""
    return verdict["algo"] in REFERENCES


def _identity(data: ReportData, verdict: Verdict) -> list[str]:
    return [
        verdict["env"],
        series.mode_title(data, verdict["env"], verdict["mode"]),
        verdict["algo"],
    ]


def _table(
    data: ReportData, columns: Mapping[str, Callable[[Verdict], str]], text: Iterable[str] = ()
) -> Table:
    """One row per verdict: world, mode and algorithm, then the columns; `text` names columns of
    words."""
    verdicts = ordered(data)
    header = ["world", "mode", "algorithm", *columns]
    rows = [
        [*_identity(data, verdict), *(column(verdict) for column in columns.values())]
        for verdict in verdicts
    ]
    words = frozenset({0, 1, 2} | {header.index(name) for name in text})
    return Table(
        header,
        rows,
        words,
        frozenset(i for i, verdict in enumerate(verdicts) if is_reference(verdict)),
    )


def _name(verdict: Verdict) -> str:
    name = verdict["verdict"] + (f" ({verdict['mechanism']})" if verdict.get("mechanism") else "")
    return name + (" mixed" if verdict.get("mixed") else "")


def verdicts(data: ReportData) -> Table:
    """Each verdict with the figures behind it."""
    columns = {
        "verdict": _name,
        "slope [95 % CI]": lambda v: exponent(v.get("slope"), v.get("ci_low"), v.get("ci_high")),
        "h [1/step]": lambda v: number(v.get("hazard")),
        "ρ [1/step]": lambda v: number(v.get("recovery")),
        "level": lambda v: number(v.get("level")),
        "untrained level": lambda v: number(v.get("untrained_level")),
        "window [steps]": window,
        "usable seeds": lambda v: f"{number(v.get('usable_seeds'))} of {number(v.get('seeds'))}",
        "reason": lambda v: v.get("reason") or MISSING,
    }
    return _table(data, columns, ("verdict", "reason"))


def closed_form(verdict: Verdict) -> str:
    """Formats the largest |z| against the closed form, and the horizons that have no z because all
    seeds differ from it by the same amount."""
    horizons = ", ".join(map(str, verdict.get("closed_form_unjudged") or []))
    return number(verdict.get("closed_form_z")) + (
        f"; no spread at T = {horizons}" if horizons else ""
    )


def _with_interval(name: str) -> Callable[[Verdict], str]:
    """What shows a slope of verdicts, whose interval is the figure `<name>_ci`."""

    def cell(verdict: Verdict) -> str:
        low, high = verdict.get(f"{name}_ci") or (None, None)
        return exponent(verdict.get(name), low, high)

    return cell


def growth(data: ReportData) -> Table:
    """Measured exponents, those of the two-state chain and of the closed form, and the rates in
    units of the horizon."""

    columns = {
        "slope [95 % CI]": lambda v: exponent(v.get("slope"), v.get("ci_low"), v.get("ci_high")),
        "slope, graded cost": lambda v: exponent(
            v.get("graded_slope"), v.get("graded_ci_low"), v.get("graded_ci_high")
        ),
        "chain's slope at these h, ρ": lambda v: exponent(v.get("chain_slope"), None, None),
        "closed form's slope": lambda v: exponent(v.get("exact_slope"), None, None),
        "|z| against it, at most": closed_form,
        "rise within the window": _with_interval("slope_rise"),
        "h T_max": lambda v: number(v.get("hazard_T_max")),
        "ρ T_min": lambda v: number(v.get("recovery_T_min")),
        "share of time off, h/(h+ρ)": lambda v: number(v.get("stationary")),
    }
    return _table(data, columns)


def regrets(data: ReportData) -> Table:
    """Regret at every horizon of the window, and the local slope up to the next horizon."""
    header = ["world", "mode", "algorithm", "T", "regret [95 % CI]", "local slope to the next T"]
    rows = []
    for verdict in ordered(data):
        horizons, slopes = verdict.get("horizons") or [], verdict.get("local_slopes") or []
        if is_reference(verdict):
            continue
        for i, (horizon, mean, (low, high)) in enumerate(
            zip(horizons, verdict["regret"], verdict["regret_ci"], strict=False)
        ):
            slope = exponent(slopes[i] if i < len(slopes) else None, None, None)
            rows.append(
                [*_identity(data, verdict), number(horizon), interval(mean, low, high), slope]
            )
    return Table(header, rows, frozenset({0, 1, 2}))


def errors(data: ReportData) -> Table:
    """Error rates on the expert's and on the learner's own states at each tolerance, and their
    excess where the ratio is meaningful."""

    def at(key: str, tau: str) -> Callable[[Verdict], str]:
        return lambda v: number((v.get(f"{key}_by_tau") or {}).get(tau))

    columns: dict[str, Callable[[Verdict], str]] = {
        "ε expert's states": lambda v: number(v.get("eps_expert")),
        "ε own states": lambda v: number(v.get("eps_own")),
        "%ExAccErr": lambda v: number(v.get("exc_acc_err")),
    }
    for key, words in (("eps_expert", "expert's"), ("eps_own", "own")):
        for tau in (str(tau) for tau in TOLERANCES):
            columns[f"{words}, τ = {tau}"] = at(key, tau)
    return _table(data, columns)


def models(data: ReportData) -> Table:
    """BIC of every fitted growth law; a star marks the lowest."""
    names = list(
        dict.fromkeys(name for verdict in data.verdicts for name in verdict.get("models") or {})
    )

    def bic(name: str) -> Callable[[Verdict], str]:
        def cell(verdict: Verdict) -> str:
            fit = (verdict.get("models") or {}).get(name)
            return (
                MISSING
                if fit is None
                else number(fit["bic"]) + ("*" if name == verdict.get("best_model") else "")
            )

        return cell

    def best(verdict: Verdict) -> str:
        name = verdict.get("best_model")
        if not name:
            return MISSING
        parameters = (verdict.get("models") or {}).get(name, {}).get("params") or {}
        return ", ".join(f"{key} = {number(value)}" for key, value in parameters.items())

    return _table(
        data,
        {
            **{name: bic(name) for name in names},
            "parameters of the best": best,
            "slope of the upper half": _with_interval("upper_slope"),
        },
        ("parameters of the best",),
    )


def budgets(data: ReportData) -> Table:
    """What every learner consumed, per seed."""
    rounds = {
        (entry["env"], entry["algo"], entry["mode"]): entry.get("rounds")
        for entry in data.plan.get("entries", [])
    }
    columns = {
        "expert queries": lambda v: number(v.get("expert_queries")),
        "environment steps": lambda v: number(v.get("env_steps")),
        "comparisons": lambda v: number(v.get("preference_labels")),
        "rounds": lambda v: number(rounds.get((v["env"], v["algo"], v["mode"]))),
        "evaluation episodes": lambda v: number(v.get("episodes")),
    }
    return _table(data, columns)


def seeds(data: ReportData) -> Table:
    """Which seeds were run, and which of them failed, collapsed, recovered or were absorbed."""
    curves = {(curve.env, curve.algo, curve.mode): curve for curve in data.curves}

    def curves_of(verdict: Verdict) -> Curves | None:
        return curves.get((verdict["env"], verdict["algo"], verdict["mode"]))

    def span(verdict: Verdict) -> str:
        curve = curves_of(verdict)
        return MISSING if curve is None else f"{curve.seeds[0]} to {curve.seeds[-1]}"

    def failed(verdict: Verdict) -> str:
        curve = curves_of(verdict)
        if curve is None:
            return MISSING
        metric = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("failed_round")
        names = []
        for i in np.flatnonzero(~curve.usable):
            round_ = metric[1][i, -1] if metric else -1
            names.append(f"{curve.seeds[i]}" + (f" (round {round_:.0f})" if round_ >= 0 else ""))
        return ", ".join(names) or "none"

    def collapsed(verdict: Verdict) -> str:
        curve = curves_of(verdict)
        return MISSING if curve is None else training.collapsed(data, curve)

    columns = {
        "seeds": span,
        "failed": failed,
        "collapsed in training": collapsed,
        "recovering": lambda v: number(v.get("recovering_seeds")),
        "absorbed": lambda v: number(v.get("absorbed_seeds")),
        "least departures seen in training": lambda v: number(v.get("departures_min")),
    }
    return _table(data, columns, ("seeds", "failed", "collapsed in training"))


def settings(data: ReportData) -> list[tuple[str, Table]]:
    """(world, table of its settings) for each world of the plan.

    A value that all entries share stands alone; otherwise each algorithm's or mode's value is
    named.
    """
    result: list[tuple[str, Table]] = []
    entries = data.plan.get("entries", [])
    for env in dict.fromkeys(entry["env"] for entry in entries):
        values: dict[str, dict[str, list[str]]] = {}
        for entry in (entry for entry in entries if entry["env"] == env):
            for name, value in entry["settings"].items():
                if name in ("env", "algo", "mode", "experiment", "plugin"):
                    continue
                if name == "config":
                    for key, item in dict(value).items():
                        _note(values, f"{entry['algo']}.{key}", entry["algo"], item)
                elif name == "dials":
                    for key, item in dict(value).items():
                        _note(values, f"{env}.{key}", f"mode {entry['mode']}", item)
                else:
                    _note(values, name, entry["algo"], value)
        rows = []
        for name, by_owner in values.items():
            every = {text for texts in by_owner.values() for text in texts}
            if len(every) == 1:
                rows.append([name, every.pop()])
            else:
                rows.append(
                    [
                        name,
                        "; ".join(
                            f"{owner}: {' or '.join(texts)}" for owner, texts in by_owner.items()
                        ),
                    ]
                )
        result.append((env, Table(["setting", "value"], rows, frozenset({0, 1}))))
    return result


def _note(values: dict[str, dict[str, list[str]]], name: str, owner: str, value: Any) -> None:
    """Adds the text of an owner's value of a setting, unless it is there."""
    texts = values.setdefault(name, {}).setdefault(owner, [])
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text not in texts:
        texts.append(text)


def worlds(data: ReportData) -> Table:
    """What the analysis knows about each world, and the window that follows."""
    windows = {verdict["env"]: verdict.get("window") or {} for verdict in data.verdicts}
    header = [
        "world",
        "u [steps]",
        "L [steps]",
        "T_max [steps]",
        "window [steps]",
        "upper end from",
        "objection",
    ]
    rows = []
    for env, world in data.plan.get("worlds", {}).items():
        window_ = windows.get(env, {})
        limits = (
            f"{number(window_.get('low'))} to {number(window_.get('high'))}" if window_ else MISSING
        )
        u, latency, horizon = (number(world.get(key)) for key in ("u", "latency", "horizon"))
        rows.append(
            [
                env,
                u,
                latency,
                horizon,
                limits,
                window_.get("source") or MISSING,
                window_.get("reason") or "none",
            ]
        )
    return Table(header, rows, frozenset({0, 5, 6}))


def versions(data: ReportData) -> Table:
    """Sources, versions and flags that determine the numbers besides the settings.

    A row has several values if the cells were computed under different ones.
    """
    values: dict[str, list[str]] = {}
    for manifest in data.manifests.values():
        for name, value in _flat(manifest.get("fingerprint", {})):
            text = f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else str(value)
            text = "none" if text in ("", "[]", "None") else text
            texts = values.setdefault(name, [])
            if text not in texts:
                texts.append(text)
    return Table(
        ["what", "value"],
        [[name, " and ".join(texts)] for name, texts in values.items()],
        frozenset({0, 1}),
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted name, value) of every leaf of nested mappings."""
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def cells(data: ReportData) -> Table:
    """The files from which each row was computed."""
    rows = [
        [
            entry["env"],
            series.mode_title(data, entry["env"], entry["mode"]),
            entry["algo"],
            " ".join(f"cells/{key}.parquet" for key in entry["cells"]),
        ]
        for entry in data.plan.get("entries", [])
    ]
    return Table(["world", "mode", "algorithm", "files"], rows, frozenset({0, 1, 2, 3}))
