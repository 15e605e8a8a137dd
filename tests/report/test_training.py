"""Diagnostics of training: who collapsed and when, which learners have any, and learned rewards
on their grid."""

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from irl_bench.report import figures, interactive, tables, training
from tests.report import synthetic


def test_a_collapse_is_found_at_its_round_and_nowhere_else():
    good = np.full(40, 0.02)
    assert training.collapse_round(good) is None
    fallen = np.concatenate([np.linspace(0.5, 0.02, 20), np.full(20, 0.9)])
    assert training.collapse_round(fallen) in range(20, 25)  # smoothed over five rounds
    recovered = np.concatenate([good[:15], np.full(10, 0.9), good[:15]])
    assert training.collapse_round(recovered) is None
    assert (
        training.collapse_round(np.linspace(0.9, 0.8, 40)) is None
    )  # never learned anything: nothing to lose
    assert training.collapse_round(good[:3]) is None


def test_collapsed_seeds_stand_in_the_table():
    data = synthetic.report_data()
    entry = ("lane_keep", "dagger", "nominal")
    _, cost = data.rounds[entry]["train/cost"]
    long = np.repeat(cost, 6, axis=1)
    long[2, 20:] = 0.95
    rounds = {
        **data.rounds,
        entry: {**data.rounds[entry], "train/cost": (np.arange(long.shape[1]) + 1, long)},
    }
    table = tables.seeds(dataclasses.replace(data, rounds=rounds))
    column = table.header.index("collapsed in training")
    cells = {(row[0], row[2], row[1]): row[column] for row in table.rows}
    seed = next(c for c in data.curves if (c.env, c.algo, c.mode) == entry).seeds[2]
    assert cells[entry].startswith(f"{seed} (round 2")
    assert cells["lane_keep", "bc", "nominal"] == tables.MISSING  # does not drive while it learns


def test_only_drivers_have_diagnostics():
    names = {panel.title for panel, _ in training.panels(synthetic.report_data())}
    assert any(training.DIAGNOSTICS["kl"] in name for name in names)
    for _, metrics in training.panels(synthetic.report_data()):
        assert [curve.algo for curve, _, _ in metrics] == ["dagger"]


def test_a_reward_map_is_laid_out_as_it_was_probed():
    drawn = training.maps(synthetic.report_data())
    true, learned = drawn[0], drawn[1]
    np.testing.assert_allclose(true.values, [[0, -0.5, -1], [0, -0.5, -1]])
    assert learned.values.shape == (2, 3) and (np.diff(learned.values, axis=1) < 0).all()
    np.testing.assert_allclose(learned.values.mean(), 0, atol=1e-9)  # each seed's was standardised
    heat = interactive.reward_maps(synthetic.report_data())[0]["figure"]
    assert (
        heat["data"][0]["type"] == "heatmap"
        and heat["layout"]["xaxis"]["title"]["text"] == "offset [m]"
    )


def test_a_probes_names_are_escaped():
    data = synthetic.report_data(("lane_keep",))
    probe = {**synthetic.PROBE, "x_name": "<b>x</b>", "y_name": "a & b"}
    plan = {
        **data.plan,
        "worlds": {"lane_keep": {**data.plan["worlds"]["lane_keep"], "probe": probe}},
    }
    for plot in interactive.reward_maps(dataclasses.replace(data, plan=plan)):
        layout = plot["figure"]["layout"]
        assert layout["xaxis"]["title"]["text"] == "&lt;b&gt;x&lt;/b&gt;"
        assert layout["yaxis"]["title"]["text"] == "a &amp; b"


@pytest.mark.slow
def test_titles_in_print_stay_within_their_panels(monkeypatch):
    long = "lane_keep, nominal: " + max(training.DIAGNOSTICS.values(), key=len)
    assert len(long) > figures.TITLE
    drawn = []
    grid = figures._grid
    monkeypatch.setattr(
        figures, "_grid", lambda *arguments: drawn.append(grid(*arguments)) or drawn[-1]
    )
    data = synthetic.report_data(("lane_keep",))
    entry = ("lane_keep", "dagger", "nominal")
    rounds = {
        **data.rounds,
        entry: {f"train/{name}": data.rounds[entry]["level"] for name in training.DIAGNOSTICS},
    }
    figures.draw(dataclasses.replace(data, rounds=rounds))
    assert any(
        axis.get_title("left").replace("\n", " ") == long
        for figure in drawn
        if figure
        for axis in figure.axes
    )
    for figure in filter(None, drawn):
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [
            axis._left_title.get_window_extent(renderer)
            for axis in figure.axes
            if axis.get_title("left")
        ]
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)
        assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
