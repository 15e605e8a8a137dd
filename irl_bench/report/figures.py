"""The report's figures for print, as PNG at 200 dpi and as PDF. Equal data give equal bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from irl_bench.core.quantities import REFERENCES
from irl_bench.report import series, training
from irl_bench.report.data import ReportData
from irl_bench.report.series import Panel

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 6.8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fancybox": False,
    "legend.edgecolor": "#CCCCCC",
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,
    "text.parse_math": False,
}
"""Matplotlib's settings for every figure; all others have their default."""
COLUMN = 3.5
"""Width of a panel [inch]: one column in print."""
TITLE, HEADING = 48, 42
"""Most characters on a line of a panel's title, and of a figure's per column."""
WINDOW = "#F0F0EA"
"""Colour of the window's shade."""
USUAL = "#CFCFC8"
"""Colour of the places where a policy usually is."""
UNDATED = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
"""File format -> metadata to leave out, so that equal figures are equal files."""


def draw(data: ReportData) -> dict[str, bytes]:
    """Draws every figure that has data.

    Returns:
      File name, such as `regret.png`, -> content.
    """
    return {
        name: content
        for stem, figure in FIGURES.items()
        for name, content in files(stem, lambda f=figure: f(data)).items()
    }


def files(stem: str, draw: Callable[[], Figure | None]) -> dict[str, bytes]:
    """Draws one figure in the report's style, in every format.

    Args:
      stem: file name without its ending.
      draw: makes the figure; None if there is nothing to draw.

    Returns:
      File name -> content; {} if there is nothing to draw.
    """
    contents: dict[str, bytes] = {}
    style: dict[Any, Any] = {**matplotlib.rcParamsDefault, **STYLE}
    del style["backend"]  # rc_context never restores it, and a notebook would lose its own
    with matplotlib.rc_context(style):
        figure = draw()
        if figure is None:
            return {}
        for ending, metadata in UNDATED.items():
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=200, metadata=metadata)
            contents[f"{stem}.{ending}"] = content.getvalue()
            # A second layout would differ; the second format must show the same picture.
            figure.set_layout_engine("none")
    return contents


def _grid(
    panels: list[Panel],
    title: str,
    caption: str,
    paint: Callable[[Axes, Panel], None],
    height: float,
) -> Figure | None:
    """Lays panels out in rows of at most two, a new row for each world, above a caption.

    Args:
      panels: to draw.
      title: of the figure; wrapped to its width.
      caption: of the figure; wrapped to its width.
      paint: draws one panel.
      height: of a row [inch].

    Returns:
      The figure; None without panels.
    """
    if not panels:
        return None
    rows: list[list[Panel]] = []
    for panel in panels:
        if not rows or len(rows[-1]) == 2 or rows[-1][-1].env != panel.env:
            rows.append([])
        rows[-1].append(panel)
    columns = max(map(len, rows))
    caption = textwrap.fill(caption, 68 * columns)
    title = textwrap.fill(title, HEADING * columns)
    further = 0.13 * caption.count("\n") + 0.16 * title.count("\n")
    figure = Figure(
        figsize=(COLUMN * columns, height * len(rows) + 0.3 + further),
        layout="constrained",
    )
    figure.suptitle(title, fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(caption, fontsize=6.8, x=0.01, ha="left", color="#444444")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line[len(row) :]:
            axis.set_axis_off()
        for axis, panel in zip(line, row, strict=False):
            axis.set_title(textwrap.fill(panel.title, TITLE), loc="left")
            paint(axis, panel)
    return figure


def _horizon_axis(axis: Axes, panel: Panel) -> None:
    """A log axis of T with ticks at powers of two; the window is shaded."""
    low, high = series.horizon_range(panel)
    axis.set_xscale("log")
    axis.set_xlim(low, high * 1.06)
    powers = [2**i for i in range(24) if low <= 2**i <= high]
    axis.xaxis.set_major_locator(FixedLocator(powers[::-1][:: math.ceil(len(powers) / 7)]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("horizon T [steps]")
    if panel.window:
        axis.axvspan(*panel.window, color=WINDOW, zorder=-10, lw=0)
    else:
        axis.text(
            0.99,
            0.02,
            "no window",
            transform=axis.transAxes,
            ha="right",
            color=series.GREY,
            fontsize=7,
        )


def _log_axis(which: XAxis | YAxis) -> None:
    """A log axis with ticks at powers of ten."""
    which.axes.set(**{f"{which.axis_name}scale": "log"})
    which.set_major_locator(LogLocator(10, numticks=8))
    which.set_major_formatter(FuncFormatter(lambda x, _: series.power_of_ten(x)))
    which.set_minor_locator(NullLocator())


def _rail_axis(which: XAxis | YAxis, rail: series.Rail) -> None:
    """A log axis over whole decades whose lowest tick stands for a rate of exactly zero."""
    _log_axis(which)
    ticks = rail.ticks()
    which.set_major_locator(FixedLocator(list(ticks)))
    which.set_major_formatter(
        FuncFormatter(
            lambda x, _: (
                "0" if rail.zero and math.isclose(x, rail.floor) else series.power_of_ten(x)
            )
        )
    )
    which.axes.set(**{f"{which.axis_name}lim": rail.limits()})


def regret(data: ReportData) -> Figure | None:
    """Regret against T: every seed, their mean with its interval, and guide lines T and T²."""
    looks = series.looks(data)

    def paint(axis: Axes, panel: Panel) -> None:
        means, lows = [], []
        for curve in panel.curves:
            look = looks[curve.algo]
            horizons = np.asarray(curve.T)[series.thin(curve.T)]
            mean, low, high = series.mean_regret(curve, horizons)
            reference = curve.algo in REFERENCES
            if not reference:
                means.append((horizons, mean))
                lows.append(mean[horizons >= series.horizon_range(panel)[0]])
                values = curve.regret(horizons)
                axis.plot(
                    horizons,
                    np.where(values > 0, values, np.nan).T,
                    color=look.colour,
                    lw=0.4,
                    alpha=0.35,
                    zorder=1,
                )
                axis.fill_between(
                    horizons, low, high, color=look.colour, alpha=0.22, lw=0, zorder=2
                )
            label = (
                "untrained policy"
                if reference
                else f"{curve.algo}: {series.headline(series.verdict_of(data, curve))}"
            )
            axis.plot(
                horizons,
                mean,
                color=look.colour,
                ls=look.dash[0],
                lw=1.0 if reference else 1.7,
                label=label,
                zorder=3,
            )
        _log_axis(axis.yaxis)
        _horizon_axis(axis, panel)
        anchor = series.guide(panel, means)
        if anchor:
            ends, start = anchor
            for power, name in ((1, "T"), (2, "T²")):
                end = start * (ends[1] / ends[0]) ** power
                axis.plot(ends, [start, end], color="#444444", lw=0.8, ls=(0, (4, 3)), zorder=2.5)
                axis.annotate(
                    name,
                    (ends[1], end),
                    xytext=(3, -2),
                    textcoords="offset points",
                    fontsize=7.5,
                    color="#444444",
                )
        finite = (
            np.concatenate([part[np.isfinite(part)] for part in lows]) if lows else np.array([])
        )
        if not np.isfinite(axis.dataLim.minposy):  # a log axis needs a positive value
            axis.set_ylim(0.1, 1.0)
            axis.text(
                0.5,
                0.5,
                "no regret above 0",
                transform=axis.transAxes,
                ha="center",
                color=series.GREY,
            )
        if (finite > 0).any():
            axis.set_ylim(bottom=finite[finite > 0].min() / 2, top=axis.get_ylim()[1] * 12)
        axis.set_ylabel("regret J(T) − J*(T) [cost]")
        axis.legend(
            loc="upper left", frameon=False, handlelength=1.6, borderaxespad=0.1, labelspacing=0.25
        )

    caption = (
        "Thin: seeds. Thick: mean over seeds, with a 95 % jackknife interval. Shaded: the window "
        "in which slopes are fitted. "
        "Dashed: guide lines that grow as T and as T²."
    )
    return _grid(series.panels(data), "Regret against horizon", caption, paint, 2.75)


def local_slopes(data: ReportData) -> Figure | None:
    """d log regret / d log T over the octave around each T."""
    looks = series.looks(data)

    def paint(axis: Axes, panel: Panel) -> None:
        for curve in panel.curves:
            if curve.algo in REFERENCES:
                continue
            look = looks[curve.algo]
            horizons, slope, low, high = series.local_slopes(curve, series.horizon_range(panel)[0])
            axis.fill_between(horizons, low, high, color=look.colour, alpha=0.2, lw=0)
            axis.plot(
                horizons,
                slope,
                color=look.colour,
                marker=look.marker[0],
                markevery=4,
                ms=3,
                label=curve.algo,
            )
        for power in (1, 2):
            axis.axhline(power, color="#444444", lw=0.8, ls=(0, (4, 3)), zorder=0)
        _horizon_axis(axis, panel)
        axis.set_ylim(0, 3)
        axis.set_ylabel("local slope")
        axis.legend(loc="upper right", frameon=False, ncols=2)

    caption = (
        "Slope of log regret on log T over the octave around each T; 95 % jackknife interval "
        "over seeds. Shaded: the window."
    )
    return _grid(series.panels(data), "Local slopes", caption, paint, 2.3)


def eps(data: ReportData) -> Figure | None:
    """Error rates on the expert's states and on the learner's own states."""
    looks = series.looks(data)
    panels = series.panels(data)
    rail = series.Rail.of(
        [
            seeds
            for panel in panels
            for c in series.learners(panel)
            for seeds in series.error_rates(c)
        ]
    )

    def paint(axis: Axes, panel: Panel) -> None:
        labels = []
        learners = series.learners(panel)
        for place, curve in enumerate(learners):
            verdict, look = series.verdict_of(data, curve), looks[curve.algo]
            for side, seeds in enumerate(series.error_rates(curve)):
                row = place + (side - 0.5) * 0.4
                if not len(seeds):
                    continue
                points, means = rail.place(seeds[:, 1]), rail.place(seeds.mean(axis=0))
                axis.plot(
                    points,
                    np.full(len(points), row),
                    ls="",
                    marker=".",
                    ms=4,
                    alpha=0.35,
                    color=look.colour,
                    clip_on=False,
                )
                axis.plot(
                    [means.min(), means.max()], [row, row], lw=1, color=look.colour, alpha=0.8
                )
                fill = "white" if side else look.colour
                axis.plot(
                    [means[1]],
                    [row],
                    marker=look.marker[0],
                    ms=5,
                    color=look.colour,
                    mfc=fill,
                    clip_on=False,
                )
            excess = verdict.get("exc_acc_err")
            note = (
                "" if excess is None or not math.isfinite(excess) else f"\n%ExAccErr {excess:.0f}"
            )
            labels.append(f"{curve.algo}{note}")
        _rail_axis(axis.xaxis, rail)
        axis.set_yticks(range(len(learners)), labels)
        axis.set_ylim(len(learners) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel("error rate ε")

    caption = (
        "Filled: on the expert's states. Open: on the learner's own. Both at a tolerance of 0.1; "
        "the bar spans tolerances 0.05 to 0.2. Dots: seeds. %ExAccErr stands only where ε on the "
        "expert's states is below 0.2."
    )
    return _grid(
        panels, "Errors on the expert's and on the learner's own states", caption, paint, 1.9
    )


def hazard_recovery(data: ReportData) -> Figure | None:
    """Hazard h against recovery rate ρ, one dot per seed; a rate of zero lies at the edge."""
    looks, panels = series.looks(data), series.panels(data)
    rails = series.hazard_rails(panels)

    def paint(axis: Axes, panel: Panel) -> None:
        for curve in series.learners(panel):
            rates, look = series.hazard_recovery(curve), looks[curve.algo]
            label = curve.algo + series.without_recovery(rates)
            points = [rail.place(rate) for rail, rate in zip(rails, rates, strict=True)]
            axis.plot(
                *points,
                ls="",
                marker=look.marker[0],
                ms=4,
                alpha=0.6,
                mew=0,
                color=look.colour,
                label=label,
                clip_on=False,
            )
        _rail_axis(axis.xaxis, rails[0])
        _rail_axis(axis.yaxis, rails[1])
        quick = series.quick_recovery(panel)
        if quick is not None:
            axis.axhline(quick, color="#444444", lw=0.7, ls=(0, (4, 3)))
            where = {
                "xycoords": ("axes fraction", "data"),
                "xytext": (3, -8),
                "textcoords": "offset points",
            }
            axis.annotate("ρ T_min = 10", (0, quick), fontsize=6.5, **where)
        axis.set_xlabel("hazard h, on → off [per step]")
        axis.set_ylabel("recovery ρ, off → on [per step]")
        axis.legend(loc="best")  # in a frame, without which its markers look like seeds

    caption = "Dots: seeds. "
    if any(series.quick_recovery(panel) is not None for panel in panels):
        caption += (
            "Above the dashed line the learner recovers well within the shortest horizon of the "
            "window. "
        )
    caption += "A seed that never left has no ρ."
    return _grid(panels, "Hazard and recovery", caption, paint, 2.4)


def hazard_over_time(data: ReportData) -> Figure | None:
    """The rate of leaving h over the time of an episode, of each learner."""
    looks = series.looks(data)

    def paint(axis: Axes, panel: Panel) -> None:
        for curve in series.stepwise(panel):
            (t, rate, low, high), look = series.hazard_over_time(curve), looks[curve.algo]
            axis.plot(t, rate, color=look.colour, label=curve.algo, ls=look.dash[0])
            axis.fill_between(t, low, high, color=look.colour, alpha=0.15, lw=0)
        axis.set_ylim(bottom=0.0)
        axis.set_xlabel("time in the episode t [steps]")
        axis.set_ylabel("hazard h at t [per step]")
        axis.legend(loc="best", frameon=False)

    caption = (
        "The rate of leaving in twelve equal parts of an episode, mean over seeds with its "
        "jackknife-t interval of 95 %. The law of T² takes a constant rate: where it rises with t, "
        "the slope is above 2."
    )
    panels = [panel for panel in series.panels(data) if series.stepwise(panel)]
    return _grid(panels, "Hazard over time", caption, paint, 1.9)


def learning(data: ReportData) -> Figure | None:
    """Level (mean cost per step over T_max) by round: every seed, and their mean."""
    looks = series.looks(data)

    def paint(axis: Axes, panel: Panel) -> None:
        for curve in panel.curves:
            metric = data.rounds.get((curve.env, curve.algo, curve.mode), {}).get("level")
            if metric is None or curve.algo in REFERENCES:
                continue
            look = looks[curve.algo]
            index, values = metric
            values = values[curve.usable]
            axis.plot(
                index, np.where(values > 0, values, np.nan).T, color=look.colour, lw=0.4, alpha=0.35
            )
            if len(values):
                axis.plot(
                    index,
                    values.mean(axis=0),
                    color=look.colour,
                    marker=look.marker[0],
                    ms=3,
                    label=curve.algo,
                )
        _log_axis(axis.yaxis)
        low, high = axis.get_ylim()
        if high < 20 * low:  # whole decades, so that the axis has ticks
            axis.set_ylim(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)))
        axis.set_xlabel("round")
        axis.set_ylabel("level [cost per step]")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="upper right", frameon=False)

    panels = [
        panel
        for panel in series.panels(data)
        if any("level" in data.rounds.get((c.env, c.algo, c.mode), {}) for c in panel.curves)
    ]
    caption = (
        "Mean cost per step over T_max after each round, from few episodes. Thin: seeds. "
        "Thick: mean over seeds."
    )
    return _grid(panels, "Learning curves", caption, paint, 2.3)


def reward_maps(data: ReportData) -> Figure | None:
    """Learned rewards over each world's probe, beside minus the true cost."""
    maps = training.maps(data)
    if not maps:
        return None
    map_of = {reward_map.title: reward_map for reward_map in maps}
    panels = [Panel(title.split(":")[0].split(",")[0], "", title, (), None) for title in map_of]

    def paint(axis: Axes, panel: Panel) -> None:
        reward_map = map_of[panel.title]
        mesh = axis.pcolormesh(
            reward_map.x,
            reward_map.y,
            reward_map.values,
            cmap="viridis",
            shading="nearest",
            rasterized=True,
        )
        axis.figure.colorbar(mesh, ax=axis, pad=0.02)
        axis.set(xlabel=reward_map.x_name, ylabel=reward_map.y_name)

    caption = (
        "The reward of standing still in a state, each seed's standardised, then averaged "
        "over seeds. Brighter is better."
    )
    return _grid(panels, "Learned rewards", caption, paint, 2.2)


def failures(data: ReportData) -> Figure | None:
    """Where the policies of the films are before their failures, over where they usually are."""
    looks, wheres = series.looks(data), {where.title: where for where in data.failures}
    panels = [Panel(where.env, "", where.title, (), None) for where in data.failures]

    def paint(axis: Axes, panel: Panel) -> None:
        where = wheres[panel.title]
        look = looks.get(where.driver, looks["expert"])
        for places, size, colour in ((where.usual, 2, USUAL), (where.before, 3, look.colour)):
            axis.plot(*places.T, ls="none", marker=".", ms=size, color=colour, rasterized=True)
        limits = series.around([w for w in data.failures if w.env == where.env])
        if density := series.density(where, limits):
            axis.contour(
                density.x,
                density.y,
                density.height,
                density.levels,
                colors=["#333333"],  # seen on the places
                linewidths=0.8,
            )
        axis.set(xlim=limits[0], ylim=limits[1], xlabel=where.axes[0], ylabel=where.axes[1])

    return _grid(panels, "Where failures begin", series.WHERE, paint, 2.2)


def diagnostics(data: ReportData) -> Figure | None:
    """Training diagnostics by round: mean over seeds, and their middle 80 %."""
    looks, panels = series.looks(data), list(training.panels(data))
    metrics_of = {panel.title: metrics for panel, metrics in panels}

    def paint(axis: Axes, panel: Panel) -> None:
        for curve, rounds, values in metrics_of[panel.title]:
            look = looks[curve.algo]
            low, high = np.quantile(values, (0.1, 0.9), axis=0)
            axis.fill_between(rounds, low, high, color=look.colour, alpha=0.2, lw=0)
            axis.plot(rounds, values.mean(axis=0), color=look.colour, lw=1.2, label=curve.algo)
        axis.set(xlabel="round")
        axis.legend(loc="best", frameon=False)

    caption = "From the rollouts trained on. Line: mean over seeds. Band: their middle 80 %."
    return _grid([panel for panel, _ in panels], "Training diagnostics", caption, paint, 1.8)


FIGURES = {
    "regret": regret,
    "local_slopes": local_slopes,
    "eps": eps,
    "hazard_recovery": hazard_recovery,
    "hazard_over_time": hazard_over_time,
    "learning": learning,
    "reward_maps": reward_maps,
    "failures": failures,
    "diagnostics": diagnostics,
}
"""File name without its ending -> what draws the figure, None if it has no data."""
