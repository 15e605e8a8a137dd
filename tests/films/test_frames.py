"""Frames of films: panels, strips and ghosts."""

import dataclasses
import types

import numpy as np
import pytest

from envs import drawing
from envs.driving.road import KNOTS
from irl_bench.core.settings import BadInput
from irl_bench.films import frames
from irl_bench.films.footage import Footage

TOY = types.SimpleNamespace(name="toy", n_actions=None, failure_flags=())
H = 80


def on_a_road(name="bc", offset=0.0, heading=0.0, failed=(), ahead=0.0):
    row = np.zeros((H, 3 + KNOTS), np.float32)
    row[:, 0] = 100.0 + ahead + np.arange(H)
    row[:, 1], row[:, 2] = offset, heading
    cost = np.zeros(H, np.float32)
    cost[list(failed)] = 1.0
    zeros = np.zeros((H, 2), np.float32)
    return Footage(name, zeros, zeros, np.zeros(H, np.float32), cost, {"road": row})


def pixels_of(image, colour):
    """bool[height, width] of exactly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.asarray(image) == wanted).all(-1)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2)])
def test_there_is_a_panel_per_driver(count, columns, rows):
    drivers = [on_a_road(f"d{i}") for i in range(count)]
    (image,) = frames.draw(TOY, drivers, [3], "side", 0.1)
    wide, high = drawing.WIDTH + frames.GAP, drawing.HEIGHT + frames.STRIP + frames.GAP
    assert image.size == (columns * wide - frames.GAP, rows * high - frames.GAP)


def test_failed_steps_are_red_in_the_car_the_trail_and_the_strip():
    before, after = frames.draw(TOY, [on_a_road(failed=[10, 11, 12])], [9, 12], "side", 0.1)
    assert not pixels_of(before, drawing.FAILING).any()
    assert not pixels_of(before, frames.BAND).any()
    car = pixels_of(after, drawing.FAILING)[: drawing.HEIGHT]
    assert car.sum() > 500 and pixels_of(after, frames.BAND).sum() > 50
    behind = drawing.WIDTH / 2 - (drawing.LEAD + 3.0) * drawing.WIDTH / drawing.LANE_SPAN
    assert car[:, : int(behind)].any()  # the trail


def test_the_strip_shows_the_latest_steps_alone():
    late = on_a_road(failed=[5])
    shown, gone = frames.draw(TOY, [late], [6, 5 + drawing.RECENT], "side", 0.1)
    assert pixels_of(shown, frames.BAND).any() and not pixels_of(gone, frames.BAND).any()


def test_actions_are_curves_of_their_own_colours():
    action = np.zeros((H, 2), np.float32)
    action[:, 0], action[:, 1] = 0.8, -0.8
    driven = dataclasses.replace(on_a_road(), action=action)
    (image,) = frames.draw(TOY, [driven], [40], "side", 0.1)
    strip = np.asarray(image)[drawing.HEIGHT :]
    rows = [np.nonzero(pixels_of(strip, colour))[0] for colour in frames.COLOURS[:2]]
    assert rows[0].max() < frames.STRIP / 2 < rows[1].min()
    discrete = dataclasses.replace(on_a_road(), action=np.arange(H, dtype=np.int32) % 3)
    frames.draw(TOY, [discrete], [40], "side", 0.1)


def test_ghosts_are_outlines_where_the_others_are():
    main, other = on_a_road(), on_a_road("expert", offset=1.0, ahead=4.0)
    (image,) = frames.draw(TOY, [main, other], [5], "ghosts", 0.1)
    (plain,) = frames.draw(TOY, [main], [5], "ghosts", 0.1)
    ghost = pixels_of(image, drawing.GHOST)
    assert image.size == (drawing.WIDTH, drawing.HEIGHT + frames.STRIP)
    assert ghost.any() and not pixels_of(plain, drawing.GHOST).any()
    rows, columns = np.nonzero(ghost)
    scale = drawing.WIDTH / drawing.LANE_SPAN
    assert columns.mean() == pytest.approx(drawing.WIDTH / 2 + (4 - drawing.LEAD) * scale, abs=6)
    assert rows.mean() == pytest.approx(drawing.HEIGHT / 2 - scale, abs=4)


def test_a_ghost_far_away_or_broken_is_not_drawn():
    for other in (on_a_road(ahead=300.0), on_a_road(offset=np.nan)):
        (image,) = frames.draw(TOY, [on_a_road(), other], [5], "ghosts", 0.1)
        assert not pixels_of(image, drawing.GHOST).any()


def test_ghosts_need_a_road():
    chart = dataclasses.replace(on_a_road(), picture=None)
    with pytest.raises(BadInput, match=r"toy is not drawn on a road.*nearest: layout=side"):
        frames.draw(TOY, [chart, chart], [5], "ghosts", 0.1)
    frames.draw(TOY, [chart, chart], [5], "side", 0.1)


def test_the_strip_tells_a_cars_offset_and_speed():
    """Its speed by the places of two pictures: 1.5 m along a road, or 3 m and 4 m on a track."""
    zeros = np.zeros((2, 1), np.float32)
    places = {"curvature [1/m]": np.zeros(2), "lateral offset [m]": np.array([0.5, -0.25])}
    road = {"road": np.array([[2.0, 0.5, 0.0], [3.5, -0.25, 0.0]])}
    track = {"track": np.array([[1.0, 1.0, 0.0], [4.0, 5.0, 0.0]])}
    for picture, speed in ((road, 15), (track, 50)):
        footage = Footage("bc", zeros, zeros, zeros[:, 0], zeros[:, 0], picture, places)
        assert frames._ego(footage, 1, 0.1) == [f"offset -0.25 m, {speed} m/s"]
        assert frames._ego(footage, 0, 0.1) == ["offset 0.50 m"]
        nowhere = dataclasses.replace(footage, places=None)
        assert frames._ego(nowhere, 1, 0.1) == []
    elsewhere = Footage(
        "bc", zeros, zeros, zeros[:, 0], zeros[:, 0], road, {"speed": zeros, "angle": zeros}
    )
    assert frames._ego(elsewhere, 1, 0.1) == []
    # The picture of a road that repeats jumps back once.
    many = np.zeros((12, 1), np.float32)
    path = np.stack([np.r_[np.arange(6), np.arange(6)], np.zeros(12), np.zeros(12)], 1)
    jump = Footage("bc", many, many, many[:, 0], many[:, 0], {"track": path},
                   {"lateral offset [m]": np.zeros(12)})  # fmt: skip
    assert all(frames._ego(jump, t, 0.1) == ["offset 0.00 m, 10 m/s"] for t in range(1, 12))
    robot = Footage("bc", zeros, zeros, zeros[:, 0], zeros[:, 0], {"ends": zeros}, places)
    assert frames._ego(robot, 1, 0.1) == []
