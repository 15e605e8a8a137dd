"""What the figures of studies are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

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
        axis.set_yticks(range(len(group)), [name(point) for point in group], fontsize=6)
        if min(point["J"][1] for point in group) > 0.0:
            axis.set_xscale("log")
        else:
            least = min(abs(point["J"][0]) for point in group)
            axis.set_xscale("symlog", linthresh=max(1e-3, least))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_xlabel(f"regret at T = {group[0]['T']} [steps]", fontsize=7)
        axis.set_title(world, fontsize=8)
    return figure


def count_axis(axis: Axes, counts: Iterable[int]) -> None:
    """Makes the x axis logarithmic, with ticks at `counts` that are written out."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(sorted(set(counts))))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.xaxis.set_minor_locator(NullLocator())


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
