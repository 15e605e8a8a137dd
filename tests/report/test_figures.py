"""The printed figures: equal bytes for equal data, and nothing breaks where data are missing."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from irl_bench.core.quantities import REFERENCES
from irl_bench.report import figures, series
from irl_bench.report.data import verdicts_json
from tests.report import synthetic


@pytest.fixture(scope="module")
def drawn():
    return figures.draw(synthetic.report_data(("lane_keep",)))


@pytest.mark.slow
def test_twice_gives_the_same_bytes(drawn):
    again = synthetic.report_data(("lane_keep",))
    assert figures.draw(again) == drawn
    assert verdicts_json(again.verdicts) == verdicts_json(
        synthetic.report_data(("lane_keep",)).verdicts
    )


def test_every_figure_is_there_in_both_formats(drawn):
    assert set(drawn) == {
        f"{name}.{ending}" for name in figures.FIGURES for ending in ("png", "pdf")
    }
    for name, content in drawn.items():
        if name.endswith("png"):
            image = Image.open(io.BytesIO(content))
            assert image.width == 1400
            assert not image.info.get("Software")
        else:
            assert content.startswith(b"%PDF")
            assert b"CreationDate" not in content


def test_missing_data_draw():
    data = synthetic.report_data(("lane_keep",), h=0.05, failed=tuple(range(10)))
    assert "regret.png" in figures.draw(data)
    alone = synthetic.with_curves(
        [synthetic.curves("a_{$x$}", "bc", "$\\frac", 1e-3, 0.0, seeds=1)]
    )
    assert "regret.png" in figures.draw(alone)
    better = synthetic.curves(
        "ant", "drex", "nominal", 1e-3, 0.0
    )  # than its demonstrator, at every horizon and in every seed
    better = dataclasses.replace(better, cost=-better.cost - 1e-3)
    assert "regret.png" in figures.draw(synthetic.with_curves([better]))
    assert (
        figures.draw(
            synthetic.with_curves([synthetic.curves("chain", "expert", "nominal", 1e-9, 0.5)])
        )
        == {}
    )


def test_local_slopes_of_powers():
    curve = synthetic.curves("chain", "bc", "nominal", 1e-3, 0.0)
    for power in (1, 2):
        cost = np.outer(np.linspace(1, 2, 10), curve.T.astype(float) ** power)
        horizons, slope, low, high = series.local_slopes(dataclasses.replace(curve, cost=cost), 8)
        assert len(horizons) > 20
        np.testing.assert_allclose([slope, low, high], power, atol=1e-9)


def test_interval_holds_the_mean():
    curve = synthetic.curves("chain", "bc", "nominal", 1e-3, 0.0)
    mean, low, high = series.mean_regret(curve, curve.T[::100])
    np.testing.assert_allclose(mean, curve.cost[:, ::100].mean(axis=0))
    assert (low < mean).all() and (mean < high).all()


def test_a_seed_without_failures_has_no_recovery_rate():
    np.testing.assert_array_equal(series.rates([0, 0, 2], [0, 10, 8]), [np.nan, 0.0, 0.25])


def test_a_zero_rate_has_a_place_on_the_axis():
    rail = series.Rail.of([np.array([0.0, 2e-4]), np.array([3e-2, np.nan])])
    assert rail.zero
    assert rail.place(np.array([0.0]))[0] == pytest.approx(1e-5)
    assert rail.limits()[0] < 1e-5 and rail.limits()[1] >= 3e-2
    assert not series.Rail.of([np.array([1e-3])]).zero
    assert [series.power_of_ten(x) for x in (1e-4, 0.1, 1, 100, 1e5)] == [
        "10⁻⁴",
        "0.1",
        "1",
        "100",
        "10⁵",
    ]


def test_colours_stay_with_their_algorithm():
    data = synthetic.with_curves(
        [
            synthetic.curves("chain", algo, "nominal", 1e-3, 0.0)
            for algo in ("other", "dagger", "bc")
        ]
    )
    looks = series.looks(data)
    assert (looks["bc"].colour, looks["dagger"].colour) == series.PALETTE[:2]
    assert len({look.colour for name, look in looks.items() if name not in REFERENCES}) == 3


def slow_learner(window=True):
    """The report of a learner that comes back, but not within the shortest horizon."""
    curve = synthetic.curves("lane_keep", "bc", "nominal", 2e-4, 0.0, seeds=3)
    back = np.round(curve.off_steps * 5e-4)
    data = synthetic.with_curves([dataclasses.replace(curve, off_to_on=back)])
    if not window:
        for verdict in data.verdicts:
            verdict["window"] = None
    return data


def test_the_line_of_quick_recovery_is_in_sight(recwarn):
    drawn = []

    def draw():
        drawn.append(figures.hazard_recovery(slow_learner()))
        return drawn[0]

    assert figures.files("x", draw)
    assert not [str(w.message) for w in recwarn if "layout" in str(w.message)]
    (axis,) = drawn[0].axes
    (line,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    low, high = axis.get_ylim()
    assert low < line.get_ydata()[0] < high
    assert "dashed line" in " ".join(drawn[0].get_supxlabel().split())


def test_without_a_window_no_line_is_told_of():
    figure = figures.hazard_recovery(slow_learner(window=False))
    assert figure is not None
    assert "dashed" not in figure.get_supxlabel()


def test_titles_fit_a_single_column():
    drawn = []

    def draw():
        drawn.append(figures.eps(slow_learner()))
        return drawn[0]

    figures.files("x", draw)
    (figure,) = drawn
    assert figure.get_suptitle().count("\n") == 1
    assert figure._suptitle.get_window_extent().x1 < figure.bbox.x1
