"""The page's tables: plain text in every cell, a dash where a figure is missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from irl_bench.report import series, training
from irl_bench.report.data import ReportData

MISSING = "–"

Verdict = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text under a header; all rows are as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[int] = frozenset()
    """Columns of words, set to the left; the others hold numbers and are set to the right."""
    quiet: frozenset[int] = frozenset()
    """Rows of reference policies."""


def number(value: Any, digits: int = 4) -> str:
    """A number to `digits` significant digits; a dash if it is missing (None, NaN, infinite):
    missing never reads as zero."""
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
    """`middle [low, high]`, or what there is of it."""
    bounds = "" if low is None or high is None else f" [{show(low)}, {show(high)}]"
    return show(middle) + bounds if middle is not None else MISSING


def exponent(middle: Any, low: Any, high: Any, decimals: int = 3) -> str:
    """A slope and its interval, all to the same number of decimals; what rounds to zero has no
    sign."""

    def show(value: float) -> str:
        return f"{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else MISSING

    return interval(middle, low, high, show)


def of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of equal dicts: keys are the header; what is no number already is text."""
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
    """`80 to 1024`, or a dash if no horizon can be used."""
    limits = series.window_of(verdict)
    return f"{limits[0]:g} to {limits[1]:g}" if limits else MISSING


def ordered(data: ReportData) -> list[Verdict]:
    """Verdicts world by world, reference policies last in each."""
    worlds = list(dict.fromkeys(verdict["env"] for verdict in data.verdicts))
    return sorted(
        data.verdicts, key=lambda verdict: (worlds.index(verdict["env"]), is_reference(verdict))
    )


def is_reference(verdict: Verdict) -> bool:
    return verdict["algo"] in series.REFERENCES


def _identity(data: ReportData, verdict: Verdict) -> list[str]:
    return [
        verdict["env"],
        series.mode_title(data, verdict["env"], verdict["mode"]),
        verdict["algo"],
    ]


def _table(
    data: ReportData, columns: Mapping[str, Callable[[Verdict], str]], text: Iterable[str] = ()
) -> Table:
    """One row per verdict: what it is about, then the columns."""
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
    """Each verdict beside the figures it rests on."""
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
    """The largest |z| against the closed form, and the horizons that have none although the
    seeds differ from it."""
    horizons = ", ".join(map(str, verdict.get("closed_form_unjudged") or []))
    return number(verdict.get("closed_form_z")) + (
        f"; no spread at T = {horizons}" if horizons else ""
    )


def growth(data: ReportData) -> Table:
    """Exponents beside each other, what the two-state chain with the measured rates would show,
    and those rates in horizons."""
    columns = {
        "slope [95 % CI]": lambda v: exponent(v.get("slope"), v.get("ci_low"), v.get("ci_high")),
        "slope, graded cost": lambda v: exponent(
            v.get("graded_slope"), v.get("graded_ci_low"), v.get("graded_ci_high")
        ),
        "chain's slope at these h, ρ": lambda v: exponent(v.get("chain_slope"), None, None),
        "closed form's slope": lambda v: exponent(v.get("exact_slope"), None, None),
        "|z| against it, at most": closed_form,
        "rise within the window": lambda v: exponent(
            v.get("slope_rise"), *(v.get("slope_rise_ci") or [None, None])[:2]
        ),
        "h T_max": lambda v: number(v.get("hazard_T_max")),
        "ρ T_min": lambda v: number(v.get("recovery_T_min")),
        "share of time off, h/(h+ρ)": lambda v: number(v.get("stationary")),
    }
    return _table(data, columns)


def regrets(data: ReportData) -> Table:
    """Regret at every horizon of the window, and the local slope up to the next."""
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
    """Error rates on the expert's and the learner's own states at each tolerance, and their
    ratio where it says something."""

    def at(key: str, tau: str) -> Callable[[Verdict], str]:
        return lambda v: number((v.get(f"{key}_by_tau") or {}).get(tau))

    columns: dict[str, Callable[[Verdict], str]] = {
        "ε expert's states": lambda v: number(v.get("eps_expert")),
        "ε own states": lambda v: number(v.get("eps_own")),
        "%ExAccErr": lambda v: number(v.get("exc_acc_err")),
    }
    for key, words in (("eps_expert", "expert's"), ("eps_own", "own")):
        for tau in (str(tau) for tau in series.TOLERANCES):
            columns[f"{words}, τ = {tau}"] = at(key, tau)
    return _table(data, columns)


def models(data: ReportData) -> Table:
    """BIC of every fitted law; the lowest is starred."""
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
        parameters = (verdict.get("models") or {}).get(name, {}).get("params") or {}
        return (
            ", ".join(f"{key} = {number(value)}" for key, value in parameters.items())
            if name
            else MISSING
        )

    return _table(
        data,
        {**{name: bic(name) for name in names}, "parameters of the best": best},
        ("parameters of the best",),
    )


def budgets(data: ReportData) -> Table:
    """What every learner used up, per seed."""
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
    """Which seeds were run, and what became of them."""
    curves = {(curve.env, curve.algo, curve.mode): curve for curve in data.curves}

    def of(verdict: Verdict) -> Any:
        return curves.get((verdict["env"], verdict["algo"], verdict["mode"]))

    def span(verdict: Verdict) -> str:
        curve = of(verdict)
        return MISSING if curve is None else f"{curve.seeds[0]} to {curve.seeds[-1]}"

    def failed(verdict: Verdict) -> str:
        curve = of(verdict)
        if curve is None:
            return MISSING
        metric = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("failed_round")
        names = []
        for i in np.flatnonzero(~curve.usable):
            round_ = metric[1][i, -1] if metric else -1
            names.append(f"{curve.seeds[i]}" + (f" (round {round_:.0f})" if round_ >= 0 else ""))
        return ", ".join(names) or "none"

    columns = {
        "seeds": span,
        "failed": failed,
        "collapsed in training": lambda v: (
            MISSING if of(v) is None else training.collapsed(data, of(v))
        ),
        "recovering": lambda v: number(v.get("recovering_seeds")),
        "absorbed": lambda v: number(v.get("absorbed_seeds")),
        "least departures seen in training": lambda v: number(v.get("departures_min")),
    }
    return _table(data, columns, ("seeds", "failed", "collapsed in training"))


def settings(data: ReportData) -> list[tuple[str, Table]]:
    """(world, table) of every setting: the same for all, by algorithm, by mode."""
    found = []
    entries = data.plan.get("entries", [])
    for env in dict.fromkeys(entry["env"] for entry in entries):
        here = [entry for entry in entries if entry["env"] == env]
        values: dict[str, dict[str, list[str]]] = {}
        for entry in here:
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
        found.append((env, Table(["setting", "value"], rows, frozenset({0, 1}))))
    return found


def _note(values: dict[str, dict[str, list[str]]], name: str, owner: str, value: Any) -> None:
    texts = values.setdefault(name, {}).setdefault(owner, [])
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if text not in texts:
        texts.append(text)


def worlds(data: ReportData) -> Table:
    """What the analysis knows of each world, and the window that follows from it."""
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
        found = windows.get(env, {})
        limits = f"{number(found.get('low'))} to {number(found.get('high'))}" if found else MISSING
        u, latency, horizon = (number(world.get(key)) for key in ("u", "latency", "horizon"))
        rows.append(
            [
                env,
                u,
                latency,
                horizon,
                limits,
                found.get("source") or MISSING,
                found.get("reason") or "none",
            ]
        )
    return Table(header, rows, frozenset({0, 5, 6}))


def versions(data: ReportData) -> Table:
    """What besides the settings determines the numbers; several values if cells were made under
    different ones."""
    found: dict[str, list[str]] = {}
    for manifest in data.manifests.values():
        for name, value in _flat(manifest.get("fingerprint", {})):
            text = f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else str(value)
            text = "none" if text in ("", "[]", "None") else text
            texts = found.setdefault(name, [])
            if text not in texts:
                texts.append(text)
    return Table(
        ["what", "value"],
        [[name, " and ".join(texts)] for name, texts in found.items()],
        frozenset({0, 1}),
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def cells(data: ReportData) -> Table:
    """From which files each row was computed."""
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
