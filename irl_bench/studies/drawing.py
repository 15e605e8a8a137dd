"""What the figures of studies are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from matplotlib.transforms import ScaledTranslation

from irl_bench.report import series


def regret_bars(
    points: Sequence[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any]], str],
    size: tuple[float, float],
) -> Figure:
    """Draws regrets with their intervals below each other, a panel per world.

    Args:
      points: dictionaries with "world", "remedy", "T" and "J", [regret, low, high]. A remedy whose
        name begins with DAgger has its colour.
      name: what a point is called.
      size: of a panel [inches].
    """
    worlds = list(dict.fromkeys(point["world"] for point in points))
    figure = Figure(figsize=(size[0] * len(worlds), size[1]), layout="constrained")
    axes = figure.subplots(1, len(worlds), squeeze=False)[0]
    colours = series.colours(["bc", "dagger"])
    for axis, world in zip(axes, worlds, strict=True):
        group = [point for point in points if point["world"] == world][::-1]
        for y, point in enumerate(group):
            middle, low, high = np.array(point["J"], float)
            colour = colours["dagger" if point["remedy"].startswith("DAgger") else "bc"]
            axis.plot([low, high], [y, y], color=colour, lw=1.5)
            axis.plot([middle], [y], "o", color=colour, ms=4)
        forest_rows(axis, [name(point) for point in group])
        if min(point["J"][1] for point in group) > 0.0:
            log_axis(axis.xaxis, most=4)
        else:
            least = max(1e-3, min(abs(point["J"][0]) for point in group))
            axis.set_xscale("symlog", linthresh=least)
            ticks = _ticks_about_zero(axis, least)
            _write_ticks(axis.xaxis, ticks)
            axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(f"regret at T = {group[0]['T']} [steps]", fontsize=7)
        axis.set_title(world, fontsize=8)
    return figure


def forest_rows(axis: Axes, names: Sequence[str]) -> None:
    """Names the rows 0, 1, ... of a forest plot on the y axis, and leaves room for the markers of
    the first and the last."""
    axis.set_yticks(range(len(names)), names, fontsize=6)
    axis.set_ylim(-0.6, len(names) - 0.4)


def round_ticks(low: float, high: float, most: int = 6, slack: float = 1.0) -> list[float]:
    """Returns round numbers for a logarithmic axis: powers of ten, with 2 and 5 times these where
    there is room, and evenly spaced ones where even these are fewer than two.

    Args:
      low, high: ends of the axis, or of its data; 0 < low <= high.
      most: numbers to return.
      slack: factor by which numbers may lie beyond the ends.
    """
    ticks = np.array([low])
    if high > 1.01 * low:
        near = lambda ticks: ticks[(low <= slack * ticks) & (ticks <= slack * high)]
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = near(powers)
        if high < 50 * low:
            ticks = near(np.outer(powers, (1.0, 2.0, 5.0)).ravel())
        if len(ticks) < 2:
            even = np.array(MaxNLocator(min(4, most)).tick_values(low, high))
            ticks = even[(low <= even) & (even <= high)]
    return ticks[:: -(-len(ticks) // most)].tolist()


def _ticks_about_zero(axis: Axes, least: float) -> list[float]:
    """Returns ticks for an x axis that is linear within `least` of zero and logarithmic beyond:
    zero, and round numbers with room for their labels, powers of ten first."""
    low, high = axis.get_xlim()
    sides = ((-1, -low), (1, high))
    found = [s * tick for s, end in sides if end >= least for tick in round_ticks(least, end)]
    found.sort(key=lambda tick: (not _is_power(abs(tick)), -abs(tick)))
    to_axis = axis.transScale + axis.transLimits
    place = lambda tick: to_axis.transform((tick, 0.0))[0]
    ticks = [0.0]
    for tick in found:
        if min(abs(place(tick) - place(other)) for other in ticks) > 0.2:
            ticks.append(tick)
    return sorted(ticks)


def _is_power(value: float) -> bool:
    """Whether a number is a power of ten."""
    return value > 0 and bool(np.isclose(np.log10(value) % 1.0, (0.0, 1.0)).any())


def _write_ticks(which: XAxis | YAxis, ticks: Sequence[float]) -> None:
    """Sets the ticks of an axis."""
    which.set_major_locator(FixedLocator(list(ticks)))
    which.set_major_formatter(
        FuncFormatter(lambda v, _: series.power_of_ten(v) if _is_power(v) else f"{v:g}")
    )
    which.set_minor_formatter(NullFormatter())


def log_axis(which: XAxis | YAxis, most: int = 6) -> None:
    """Makes an axis logarithmic, with ticks at round numbers. What is drawn later does not move
    its ends.

    Args:
      which: the axis.
      most: ticks.
    """
    which.axes.set(**{f"{which.axis_name}scale": "log"})
    low, high = which.get_view_interval()
    which.axes.set(**{f"{which.axis_name}lim": (low, high)})
    _write_ticks(which, round_ticks(low, high, most))


def count_axis(axis: Axes, counts: Iterable[int]) -> None:
    """Makes the x axis logarithmic, with ticks at the positive ones of `counts` that are written
    out and in sight. What is drawn later does not move its ends."""
    ticks = sorted({count for count in counts if count > 0})
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    low, high = axis.get_xlim()
    axis.set_xlim(
        min([low, *(tick / 1.05 for tick in ticks)]), max([high, *(tick * 1.05 for tick in ticks)])
    )


def legend_below(axis: Axes, columns: int = 2) -> None:
    """Puts an axis' legend below its label, where it hides nothing and its markers look like no
    data."""
    below = ScaledTranslation(0, -30 / 72, axis.figure.dpi_scale_trans)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axis.transAxes + below,
        borderaxespad=0.0,
        frameon=False,
        ncols=columns,
    )


def shared_legend(figure: Figure, columns: int) -> None:
    """Puts one legend with the labels of all axes below a figure; none without labels."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )


def with_intervals(
    axis: Axes, x: Any, values: Any, colour: str, label: str, dash: str = "-"
) -> None:
    """Draws a line through means with their intervals.

    Args:
      axis: where it is drawn.
      x: [N], places of the means.
      values: [N, 3], (mean, low, high); a missing end is not drawn.
      colour, label, dash: of the line.
    """
    y, low, high = np.array(values, float).T
    ends = np.nan_to_num(np.stack([y - low, high - y]).clip(0))
    axis.errorbar(
        x, y, ends, color=colour, marker="o", ms=3, lw=1.2, capsize=2, label=label, ls=dash
    )


def with_seeds(
    axis: Axes, x: Iterable[float], seeds: Iterable[Sequence[float]], colour: str
) -> None:
    """Draws each seed as a dot.

    Args:
      axis: where they are drawn.
      x: [N], places.
      seeds: [N], the values of all seeds at each place.
      colour: of the dots.
    """
    for place, values in zip(x, seeds, strict=True):
        axis.plot([place] * len(values), values, ".", color=colour, ms=2, alpha=0.4)


def aside(counts: Iterable[float], index: int, lines: int) -> np.ndarray:
    """Returns the places of one of several lines on a logarithmic axis, moved a little apart."""
    return np.array(list(counts), float) * 1.06 ** (index - (lines - 1) / 2)
