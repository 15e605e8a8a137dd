"""The page's plots: one plotly figure per panel, as plain dicts that the page lays out itself."""

from __future__ import annotations

import html
import math
from typing import Any, TypeAlias

import numpy as np

from irl_bench.core.quantities import REFERENCES
from irl_bench.report import series, training
from irl_bench.report.data import ReportData, plain
from irl_bench.report.series import Panel

GUIDE = "#888888"
"""Colour of guide lines."""
Plot: TypeAlias = dict[str, Any]
"""`title`, `note` (may be empty) and `figure`, a plotly figure of JSON types."""
Trace: TypeAlias = dict[str, Any]
"""One trace of a plotly figure."""


def regret(data: ReportData) -> list[Plot]:
    """Regret against T: every seed, their mean with its interval, guide lines and the window."""
    looks = series.looks(data)
    plots: list[Plot] = []
    for panel in series.panels(data):
        traces: list[Trace] = []
        means: list[tuple[np.ndarray, np.ndarray]] = []
        for curve in panel.curves:
            look = looks[curve.algo]
            horizons = np.asarray(curve.T)[series.thin(curve.T, 64)]
            mean, low, high = series.mean_regret(curve, horizons)
            reference = curve.algo in REFERENCES
            name = (
                "untrained policy"
                if reference
                else f"{curve.algo}: {series.headline(series.verdict_of(data, curve))}"
            )
            if not reference:
                means.append((horizons, mean))
                traces += _seeds(horizons, curve.regret(horizons), look.colour, curve.algo)
                traces += _band(horizons, low, high, look.colour, curve.algo)
            traces.append(
                _line(horizons, mean, look, name, curve.algo, width=1.5 if reference else 2.5)
            )
        anchor = series.guide(panel, means)
        if anchor:
            ends, start = anchor
            for power, name in ((1, "T"), (2, "T²")):
                line = {"color": GUIDE, "width": 1.2, "dash": "dash"}
                values = [start, start * (ends[1] / ends[0]) ** power]
                traces.append(
                    {
                        "x": ends,
                        "y": values,
                        "mode": "lines+text",
                        "line": line,
                        "text": [
                            "",
                            f"\u00a0{name}",
                        ],  # a space between the line's end and its name
                        "textposition": "middle right",
                    }
                    | {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
                )
        vertical = _log("regret J(T) − J*(T) [cost]") | _visible(
            traces, series.horizon_range(panel)[0]
        )
        plots.append(
            _plot(panel, traces, {"xaxis": _horizons(panel), "yaxis": vertical}, window=True)
        )
    return plots


def local_slopes(data: ReportData) -> list[Plot]:
    """Local slopes against T, with guide lines at slopes 1 and 2."""
    looks = series.looks(data)
    plots: list[Plot] = []
    for panel in series.panels(data):
        traces: list[Trace] = []
        first = series.horizon_range(panel)[0]
        for curve in series.learners(panel):
            horizons, slope, low, high = series.local_slopes(curve, first)
            traces += _band(horizons, low, high, looks[curve.algo].colour, curve.algo)
            traces.append(_line(horizons, slope, looks[curve.algo], curve.algo, curve.algo))
        layout = {
            "xaxis": _horizons(panel),
            "yaxis": {"title": {"text": "local slope"}, "range": [0, 3]},
        }
        layout["shapes"] = [_across(power) for power in (1, 2)]
        plots.append(_plot(panel, traces, layout, window=True))
    return plots


def eps(data: ReportData) -> list[Plot]:
    """Error rates on the expert's and on the learner's own states."""
    looks, panels = series.looks(data), series.panels(data)
    plots: list[Plot] = []
    rail = series.Rail.of(
        [
            seeds
            for panel in panels
            for c in series.learners(panel)
            for seeds in series.error_rates(c)
        ]
    )
    for panel in panels:
        traces: list[Trace] = []
        learners = series.learners(panel)
        for place, curve in enumerate(learners):
            look = looks[curve.algo]
            for side, (seeds, words) in enumerate(
                zip(series.error_rates(curve), ("expert's states", "own states"), strict=True)
            ):
                if not len(seeds):
                    continue
                row, means = place + (side - 0.5) * 0.4, rail.place(seeds.mean(axis=0))
                quiet = {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
                dots = {"color": look.colour, "size": 5, "opacity": 0.4}
                traces.append(
                    {
                        "x": rail.place(seeds[:, 1]),
                        "y": [row] * len(seeds),
                        "mode": "markers",
                        "marker": dots,
                    }
                    | quiet
                )
                bar = {"color": look.colour, "width": 1.5}
                traces.append(
                    {"x": [means.min(), means.max()], "y": [row, row], "mode": "lines", "line": bar}
                    | quiet
                )
                symbol = look.marker[1] + ("-open" if side else "")
                mark = {
                    "color": look.colour,
                    "size": 10,
                    "symbol": symbol,
                    "line": {"width": 2, "color": look.colour},
                }
                name = f"{curve.algo}, {words}"
                text = f"{html.escape(name)}: {seeds[:, 1].mean():.4g}"
                traces.append(
                    {
                        "x": [means[1]],
                        "y": [row],
                        "mode": "markers",
                        "marker": mark,
                        "name": html.escape(name),
                    }
                    | {"hovertext": [text], "hoverinfo": "text", "cliponaxis": False}
                )
        names = [html.escape(curve.algo) for curve in learners]
        rows = {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [len(names) - 0.4, -0.6],
            "showgrid": False,
        }
        plots.append(
            _plot(panel, traces, {"xaxis": _rates(rail, "error rate ε"), "yaxis": rows}, height=300)
        )
    return plots


def hazard_recovery(data: ReportData) -> list[Plot]:
    """Hazard against recovery, one dot per seed."""
    looks, panels = series.looks(data), series.panels(data)
    plots: list[Plot] = []
    rails = series.hazard_rails(panels)
    for panel in panels:
        traces: list[Trace] = []
        for curve in series.learners(panel):
            rates, look = series.hazard_recovery(curve), looks[curve.algo]
            seeds = np.asarray(curve.seeds)[curve.usable]
            text = [
                f"seed {seed}: h {_rate(h)}, ρ {_rate(rho)}"
                for seed, h, rho in zip(seeds, *rates, strict=True)
            ]
            mark = {"color": look.colour, "size": 8, "symbol": look.marker[1], "opacity": 0.65}
            name = html.escape(curve.algo) + series.without_recovery(rates)
            traces.append(
                {
                    "x": rails[0].place(rates[0]),
                    "y": rails[1].place(rates[1]),
                    "mode": "markers",
                    "marker": mark,
                    "name": name,
                }
                | {"hovertext": text, "hoverinfo": "text", "cliponaxis": False}
            )
        quick = series.quick_recovery(panel)
        layout = {
            "xaxis": _rates(rails[0], "hazard h, on → off [per step]"),
            "yaxis": _rates(rails[1], "recovery ρ, off → on [per step]"),
            "shapes": [] if quick is None else [_across(quick)],
        }
        plots.append(_plot(panel, traces, layout))
    return plots


def hazard_over_time(data: ReportData) -> list[Plot]:
    """The rate of leaving h over the time of an episode: means over seeds, with their intervals."""
    looks = series.looks(data)
    plots: list[Plot] = []
    for panel in series.panels(data):
        traces: list[Trace] = []
        for curve in series.stepwise(panel):
            (t, rate, low, high), look = series.hazard_over_time(curve), looks[curve.algo]
            traces += _band(t, low, high, look.colour, curve.algo)
            traces.append(_line(t, rate, look, curve.algo, curve.algo, markers=True))
        if traces:
            axes = {
                "xaxis": {"title": {"text": "time in the episode t [steps]"}},
                "yaxis": {"title": {"text": "hazard h at t [per step]"}, "rangemode": "tozero"},
            }
            plots.append(_plot(panel, traces, axes))
    return plots


def learning(data: ReportData) -> list[Plot]:
    """Level (mean cost per step over T_max) by round: every seed, and their mean."""
    looks = series.looks(data)
    plots: list[Plot] = []
    for panel in series.panels(data):
        traces: list[Trace] = []
        for curve in series.learners(panel):
            metric = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("level")
            if metric is None or not curve.usable.any():
                continue
            index, values = metric[0], metric[1][curve.usable]
            traces += _seeds(index, values, looks[curve.algo].colour, curve.algo)
            traces.append(
                _line(
                    index,
                    values.mean(axis=0),
                    looks[curve.algo],
                    curve.algo,
                    curve.algo,
                    markers=True,
                )
            )
        if traces:
            plots.append(
                _plot(
                    panel,
                    traces,
                    {"xaxis": {"title": {"text": "round"}}, "yaxis": _log("level [cost per step]")},
                )
            )
    return plots


def diagnostics(data: ReportData) -> list[Plot]:
    """Training diagnostics by round, one plot per quantity: mean over seeds, and their middle
    80 %."""
    looks = series.looks(data)
    plots: list[Plot] = []
    for panel, curves in training.panels(data):
        traces: list[Trace] = []
        for curve, rounds, values in curves:
            name = curve.algo
            thin = np.unique(np.linspace(0, len(rounds) - 1, 200).round().astype(int))
            low, high = np.quantile(values[:, thin], (0.1, 0.9), axis=0)
            traces += _band(rounds[thin], low, high, looks[name].colour, name)
            traces.append(
                _line(
                    rounds[thin], values[:, thin].mean(axis=0), looks[name], name, name, width=2.0
                )
            )
        plots.append(
            _plot(panel, traces, {"xaxis": {"title": {"text": "round"}}, "yaxis": {}}, height=300)
        )
    return plots


def reward_maps(data: ReportData) -> list[Plot]:
    """Learned rewards over each world's probe, beside minus the true cost."""
    plots: list[Plot] = []
    for reward_map in training.maps(data):
        trace = {
            "type": "heatmap",
            "x": reward_map.x,
            "y": reward_map.y,
            "z": reward_map.values,
            "colorscale": "Viridis",
        }
        axes = {
            axis: {"title": {"text": html.escape(name)}}
            for axis, name in (("xaxis", reward_map.x_name), ("yaxis", reward_map.y_name))
        }
        figure = {
            "data": [trace | {"colorbar": {"thickness": 12}}],
            "layout": axes | {"height": 300},
        }
        plots.append({"title": reward_map.title, "note": "", "figure": _rounded(plain(figure))})
    return plots


def failures(data: ReportData) -> list[Plot]:
    """Where the policies of the films are before their failures, over where they usually are."""
    looks, plots = series.looks(data), []
    for where in data.failures:
        look = looks.get(where.driver, looks["expert"])
        shown = (
            ("usually", where.usual, "rgba(128,128,120,0.35)", 3),
            ("before a failure", where.before, look.colour, 5),
        )
        traces = [
            {
                "type": "scatter",
                "mode": "markers",
                "x": places[:, 0],
                "y": places[:, 1],
                "name": name,
                "marker": {"color": colour, "size": size},
                "hoverinfo": "x+y",
            }
            for name, places, colour, size in shown
        ]
        limits = series.around([other for other in data.failures if other.env == where.env])
        if density := series.density(where, limits):
            traces += [
                {
                    "type": "contour",
                    "x": density.x,
                    "y": density.y,
                    "z": density.height,
                    "contours": {"start": level, "end": level, "size": 1, "coloring": "lines"},
                    "colorscale": [[0, series.GREY], [1, series.GREY]],
                    "line": {"width": 2},
                    "name": f"{part:.0%} of them",
                    "showscale": False,
                    "showlegend": True,
                    "hoverinfo": "skip",
                }
                for level, part in zip(density.levels[::-1], series.HELD, strict=False)
            ]
        axes = {
            axis: {"title": {"text": html.escape(name)}, "range": list(limit)}
            for axis, name, limit in zip(("xaxis", "yaxis"), where.axes, limits, strict=True)
        }
        figure = {"data": traces, "layout": axes | {"height": 320, "showlegend": True}}
        plots.append({"title": where.title, "note": "", "figure": _rounded(plain(figure))})
    return plots


def _plot(
    panel: Panel,
    traces: list[Trace],
    layout: dict[str, Any],
    *,
    window: bool = False,
    height: int = 360,
) -> Plot:
    """A plot of one panel; with `window`, the window is shaded or its absence noted."""
    if window and panel.window:
        low, high = panel.window
        shade = {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": low,
            "x1": high,
            "y0": 0,
            "y1": 1,
            "layer": "below",
        }
        layout["shapes"] = [
            shade | {"fillcolor": "rgba(128,128,110,0.13)", "line": {"width": 0}},
            *layout.get("shapes", []),
        ]
    note = "" if panel.window or not window else "no window: no slope is fitted"
    figure = {
        "data": [{"type": "scatter", **trace} for trace in traces],
        "layout": layout | {"height": height, "showlegend": True},
    }
    return {"title": panel.title, "note": note, "figure": _rounded(plain(figure))}


def _rounded(value: Any) -> Any:
    """The same tree with floats to six significant digits, more than a screen shows."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _line(
    x: Any,
    y: np.ndarray,
    look: series.Look,
    name: str,
    group: str,
    *,
    width: float = 2.5,
    markers: bool = False,
) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "mode": "lines+markers" if markers else "lines",
        "name": html.escape(name),
        "legendgroup": html.escape(group),
        "line": {"color": look.colour, "width": width, "dash": look.dash[1]},
        "marker": {"symbol": look.marker[1], "size": 6, "color": look.colour},
        "hovertemplate": html.escape(group) + ": %{y:.4g} at %{x:.4g}<extra></extra>",
    }


def _seeds(x: np.ndarray, values: np.ndarray, colour: str, group: str) -> list[Trace]:
    """One trace of all seeds, with gaps between them; none without seeds.

    Args:
      x: [K].
      values: float[S, K]; values that are not positive are left out.
      colour: #RRGGBB.
      group: the legend entry that shows and hides the trace.
    """
    if not len(values):
        return []
    gaps = np.full((len(values), 1), np.nan)
    rows = np.concatenate([np.where(values > 0, values, np.nan), gaps], axis=1).ravel()
    columns = np.tile(np.append(np.asarray(x, float), np.nan), len(values))
    line = {"color": colour, "width": 0.7}
    shared = {
        "opacity": 0.45,
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": html.escape(group),
    }
    return [{"x": columns, "y": rows, "mode": "lines", "line": line, "connectgaps": False} | shared]


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, group: str) -> list[Trace]:
    good = np.isfinite(low) & np.isfinite(high)
    if not good.any():
        return []
    around_x = np.concatenate([x[good], x[good][::-1]])
    around_y = np.concatenate([low[good], high[good][::-1]])
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    shared = {
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": html.escape(group),
    }
    return [
        {
            "x": around_x,
            "y": around_y,
            "mode": "lines",
            "fill": "toself",
            "fillcolor": f"rgba({red},{green},{blue},0.2)",
        }
        | shared
    ]


def _across(height: float) -> dict[str, Any]:
    """A horizontal guide line."""
    line = {"color": GUIDE, "width": 1.2, "dash": "dash"}
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "line": line,
    }


def _log(title: str) -> dict[str, Any]:
    return {"type": "log", "title": {"text": title}, "exponentformat": "power", "dtick": 1}


def _visible(traces: list[Trace], first: float) -> dict[str, Any]:
    """The `range` of a log axis that holds every positive value from T = first on; {} if none."""
    x, y = (
        np.concatenate([np.asarray(trace[key], float) for trace in traces] or [np.zeros(0)])
        for key in ("x", "y")
    )
    shown = y[(x >= first) & (y > 0)]
    return (
        {"range": [math.log10(shown.min() / 2), math.log10(shown.max() * 2)]} if shown.size else {}
    )


def _horizons(panel: Panel) -> dict[str, Any]:
    """A log axis of T with ticks at powers of two."""
    low, high = series.horizon_range(panel)
    powers = [2**i for i in range(24) if low <= 2**i <= high]
    ticks = powers[::-1][:: math.ceil(len(powers) / 6)] if powers else []
    shape = {
        "type": "log",
        "title": {"text": "horizon T [steps]"},
        "tickvals": ticks,
        "ticktext": [str(tick) for tick in ticks],
    }
    return shape | {"range": [math.log10(low), math.log10(high * 1.15)]}


def _rates(rail: series.Rail, title: str) -> dict[str, Any]:
    """A log axis over whole decades whose lowest tick stands for a rate of exactly zero."""
    ticks = rail.ticks()
    names = [
        "0" if rail.zero and i == 0 else series.power_of_ten(tick) for i, tick in enumerate(ticks)
    ]
    ends = [math.log10(limit) for limit in rail.limits()]
    return {
        "type": "log",
        "title": {"text": title},
        "tickvals": ticks,
        "ticktext": names,
        "range": ends,
    }


def _rate(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.3g}"
