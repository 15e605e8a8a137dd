"""The figures of studies: their ticks can be read, and nothing that is drawn is cut off."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from irl_bench.report import figures
from irl_bench.studies import decomposition, drawing, retrain, transfer


def tick_labels(axis):
    """What is written at the x axis, and its boxes [pixels]."""
    axis.figure.savefig(io.BytesIO())
    low, high = axis.get_xlim()
    ticks = [*axis.xaxis.get_major_ticks(), *axis.xaxis.get_minor_ticks()]
    labels = [t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_text()]
    return [label.get_text() for label in labels], [label.get_window_extent() for label in labels]


@pytest.mark.parametrize(
    "ends",
    [(439, 1060), (420, 9000), (3, 40000), (-2500, 2500), (-3, 90), (-0.2, 1e5), (-900, -300)],
)
def test_ticks_of_regrets_are_apart_and_written_out(ends):
    points = [
        {"world": "w", "remedy": name, "T": 1024, "J": [sum(ends) / 2, *ends]}
        for name in ("none", "masks by intervention, which drives")
    ]
    drawn = []

    def draw():
        drawn.append(drawing.regret_bars(points, lambda point: point["remedy"], (3.7, 3.0)))
        return drawn[0]

    figures.files("x", draw)
    axis = drawn[0].axes[0]
    with figures.matplotlib.rc_context({"text.parse_math": False}):
        texts, boxes = tick_labels(axis)
    assert len(texts) >= 2 or (texts == ["0"] and ends[1] < 0)
    assert not any("$" in text for text in texts)
    boxes.sort(key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    low, high = axis.get_ylim()
    assert low <= -0.5 and high >= 1.5  # the markers of the first and the last row are whole


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (4, 8, [4, 5, 6, 7, 8]),
        (0.25, 0.25, [0.25]),
        (20, 200, [20, 50, 100, 200]),
        (1e-3, 0.25, [1e-3, 1e-2, 0.1]),
    ],
)
def test_round_ticks(low, high, ticks):
    assert drawing.round_ticks(low, high) == pytest.approx(ticks)


def test_an_interval_that_ends_below_zero_leaves_a_log_axis_downwards():
    means = [[10.0, -30.0, 50.0], [100.0, 60.0, 140.0]]
    slope = {f"slope_{name}": [1.0, 0.5, 1.5] for name in retrain.QUANTITIES}
    point = {"env": "w", "tail": None, "variant": "log_loss", "T": [512, 2048], **slope}
    figure = retrain.draw({"points": [point | dict.fromkeys(retrain.QUANTITIES, means)]})
    figure.savefig(io.BytesIO())
    axis = figure.axes[0]
    (bars,) = axis.collections
    assert isinstance(bars, LineCollection)
    bar = bars.get_segments()[0]
    pixels = axis.transData.transform(bar)
    assert np.isfinite(pixels).all() and pixels[0, 1] < axis.bbox.y0 < pixels[1, 1]


def test_one_panel_fills_the_figure_and_its_count_has_a_tick():
    point = {"env": "w", "quality": "50", "random": 0.0, "unit": 1.0, "demonstrator": 0.5}
    points = [
        point | {"algo": algo, "place": place, "labels": labels, "returns": [0.2, 0.3]}
        for algo, place, labels in (("bc", "others", 0), ("rlhf", "50", 50))
    ]
    (axis,) = decomposition.draw({"points": points}).axes
    low, high = axis.get_xlim()
    assert low < 50 < high and axis.get_xticks().tolist() == [50]


def test_markers_of_the_first_and_last_method_are_whole():
    point = {"env": "w", "sight": "hidden", "change": "none", "start": None, "scores": [0.1, 0.3]}
    points = [point | {"method": name, "score": [0.2, 0.1, 0.3]} for name in "abc"]
    (axis,) = transfer.draw({"points": points}).axes
    assert axis.get_ylim() == (-0.6, 2.6)
