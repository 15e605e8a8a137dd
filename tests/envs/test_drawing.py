"""Frames of worlds: positions and colours of what they show, and states that are hard to draw.

Clips are tested in tests/labelling."""

import types

import jax
import numpy as np
import pytest

import envs
from envs import drawing
from envs.chain import OFF_VIEW
from envs.driving.road import KNOTS

pytestmark = pytest.mark.usefixtures("quick_compilation")

TOY = types.SimpleNamespace(name="toy", n_actions=None, failure_flags=())
PIXELS_PER_METRE = drawing.WIDTH / drawing.LANE_SPAN


def colour_of(frame, colour):
    """Returns bool[H, W], the pixels of exactly this colour."""
    return (frame == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)


def middle_of(frame, colour):
    """Returns (column, row) of the mean pixel of a colour."""
    rows, columns = np.nonzero(colour_of(frame, colour))
    return columns.mean(), rows.mean()


def road(s=100.0, offset=0.0, heading=0.0, curvature=0.0):
    return {
        "road": np.concatenate([[s, offset, heading], np.full(KNOTS, curvature)]).astype(np.float32)
    }


def draw(picture=None, observation=(0.0,), world=TOY, recent=(), age=0):
    found = drawing.frame(world, np.asarray(observation, np.float32), picture, recent, age)
    assert found.shape == (drawing.HEIGHT, drawing.WIDTH, 3) and found.dtype == np.uint8
    return found


def test_the_car_is_drawn_beside_its_lane_which_stays():
    left, right = draw(road(offset=1.5)), draw(road(offset=-1.5))
    for frame, sign in ((left, 1), (right, -1)):
        column, row = middle_of(frame, drawing.FINE)
        assert column == pytest.approx(drawing.WIDTH / 2 - drawing.LEAD * PIXELS_PER_METRE, abs=8)
        assert row == pytest.approx(drawing.HEIGHT / 2 - sign * 1.5 * PIXELS_PER_METRE, abs=2)
        lane = np.nonzero(colour_of(frame, drawing.ASPHALT)[:, -1])[0]
        assert lane.mean() == pytest.approx(drawing.HEIGHT / 2, abs=1.5)
        assert lane.max() - lane.min() == pytest.approx(2.0 * PIXELS_PER_METRE, abs=6)


def test_the_road_moves_below_the_car_and_bends_to_its_side():
    period = 4 * 2 * drawing.DASH  # of dashes and posts together
    here = draw(road(s=200.0))
    for part in (drawing.DASHES, drawing.WOOD):
        before, after = colour_of(here, part), colour_of(draw(road(s=201.0)), part)
        before[:, 72:168] = after[:, 48:144] = (
            False  # the car, before and after it has driven a metre
        )
        np.testing.assert_array_equal(after[:, :-24], before[:, 24:])
        assert (after != before).any() and before.sum() > 100
    np.testing.assert_array_equal(draw(road(s=200.0 + period)), here)
    up, down = (
        np.nonzero(colour_of(draw(road(curvature=k)), drawing.ASPHALT)[:, -20])[0].mean()
        for k in (0.0125, -0.0125)
    )  # a left bend goes up
    assert up < drawing.HEIGHT / 2 - 10 and down > drawing.HEIGHT / 2 + 10


def test_a_car_that_turns_left_points_up():
    rows, columns = np.nonzero(colour_of(draw(road(heading=0.6)), drawing.FINE))
    assert np.corrcoef(rows, columns)[0, 1] < -0.5


def test_a_failure_is_red():
    for picture in (road(), None):
        fine, failing = (
            draw(picture, recent=[(1.0, 0.0)]),
            draw(picture, recent=[(1.0, 0.0), (0.0, 1.0)]),
        )
        assert (
            not colour_of(fine, drawing.FAILING).any()
            and colour_of(failing, drawing.FAILING).sum() > 50
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_drawn_as_a_chart(bad):
    frame = draw(road(offset=bad), [bad, 1.0, -1.0], recent=[(bad, bad), (1.0, 0.0)])
    assert not colour_of(frame, drawing.ASPHALT).any()
    assert (
        colour_of(frame, drawing.INK).sum() > 5000 and colour_of(frame, drawing.FINE).sum() > 5000
    )


def test_bars_go_the_way_of_their_sign():
    frame = draw(observation=[1.0, -2.0])
    bars = colour_of(frame, drawing.FINE)
    first, second = (np.nonzero(half.any(1))[0] for half in np.split(bars[:, 80:464], 2, 1))
    assert first.max() < second.min()
    assert len(second) == pytest.approx(2 * len(first), abs=3)
    wide = draw(observation=np.linspace(-1e6, 1e6, 400))
    assert colour_of(wide, drawing.FINE).any()


def test_chain_off_its_distribution_shows_the_flag_in_red():
    world = envs.make("chain")
    on, off = draw(None, np.eye(65)[3], world), draw(None, np.eye(65)[OFF_VIEW], world)
    assert colour_of(on, drawing.FINE).any() and not colour_of(on, drawing.FAILING).any()
    assert colour_of(off, drawing.FAILING).any() and not colour_of(off, drawing.FINE).any()
    assert middle_of(off, drawing.FAILING)[0] > middle_of(on, drawing.FINE)[0] + 300


def test_a_chart_holds_the_latest_steps():
    steps = [(float(i % 7), float(i % 2)) for i in range(3 * drawing.RECENT)]
    whole, latest = draw(recent=steps, age=9), draw(recent=steps[-drawing.RECENT :], age=9)
    np.testing.assert_array_equal(whole, latest)
    assert (draw(recent=steps[:-1], age=9) != latest).any()
    assert (draw(recent=steps, age=10) != latest).any()


def test_the_grid_shows_where_one_is():
    world = envs.make("grid")
    for place in (0, 5, 17, 35):
        row, column = divmod(place, 6)
        at = middle_of(draw(None, np.eye(36)[place], world), drawing.FINE)
        assert at == pytest.approx((24 + 48 * (column + 0.5), 16 + 48 * (row + 0.5)), abs=1)
    frame = draw(None, np.eye(36)[5], world)
    assert (
        colour_of(frame, drawing.AIM)[18, 24 + 5 * 48 + 4]
        and colour_of(frame, drawing.TERRAIN_COLOURS["m"]).sum() > 8000
    )


def test_the_coarse_lane_is_a_road():
    world = envs.make("coarse_lane")
    rows = [
        middle_of(draw(None, np.eye(27)[place], world), drawing.FINE)[1] for place in (1, 13, 25)
    ]
    assert (
        rows[0] > rows[1] + 30 and rows[1] > rows[2] + 30
    )  # offsets -4, 0 and 4, straight on; left is up
    assert (draw(None, np.eye(27)[13], world, age=1) != draw(None, np.eye(27)[13], world)).any()


@pytest.fixture(scope="module")
def hopper():
    world = envs.make("hopper")
    state = jax.jit(world.reset)(jax.random.PRNGKey(0))
    return world, jax.device_get(drawing.view(world)(state))


def test_a_robots_parts_hang_together_above_the_ground(hopper):
    world, picture = hopper
    ends = picture["ends"]
    torso, thigh, leg, foot = (part[:, [0, 2]] for part in ends)
    for one, other in ((torso, thigh), (thigh, leg)):
        assert np.linalg.norm(one[:, None] - other[None], axis=-1).min() < 0.02
    assert (
        torso[:, 1].max() > 1.3
        and np.abs(foot[:, 1]).max() < 0.2
        and abs(foot[0, 0] - foot[1, 0]) > 0.3
    )
    assert leg[:, 1].min() > -0.1
    shape = colour_of(draw(picture, world=world), drawing.FINE)
    assert shape.any(1).sum() > 90  # 1.4 m at 96 pixels per metre


def test_the_camera_follows_a_robot_over_the_tiles(hopper):
    world, picture = hopper
    here, one, two = (
        draw({"ends": picture["ends"] + [metres, 0.0, 0.0]}, world=world)
        for metres in (0.0, 1.0, 2.0)
    )
    np.testing.assert_array_equal(here, two)
    assert (here != one).any()
    np.testing.assert_array_equal(colour_of(here, drawing.FINE), colour_of(one, drawing.FINE))
    high = draw({"ends": picture["ends"] + [0.0, 0.0, 50.0]}, world=world)
    assert colour_of(high, drawing.FINE).sum() > 500 and not colour_of(high, drawing.GROUND).any()


def test_a_robot_that_flies_apart_is_drawn_all_the_same(hopper):
    world, picture = hopper
    draw({"ends": picture["ends"] * 1e20}, world=world)


def test_what_moves_flat_is_seen_from_above():
    world = envs.make("reacher")
    picture = jax.device_get(drawing.view(world)(jax.jit(world.reset)(jax.random.PRNGKey(1))))
    frame = draw(picture, world=world)
    links = drawing._shapes(world)[0]
    assert colour_of(frame, drawing.AIM).any() and colour_of(frame, drawing.HORIZON).any()
    tip = picture["ends"][links == 1][-1].mean(0)
    scale = drawing.WIDTH / drawing.FROM_ABOVE["reacher"][0]
    column, row = (
        round(drawing.WIDTH / 2 + tip[0] * scale),
        round(drawing.HEIGHT / 2 - tip[1] * scale),
    )
    assert colour_of(frame, drawing.FINE)[row, column]


def test_a_world_without_parts_is_seen_by_its_own_picture():
    world = envs.make("lane_keep")
    assert drawing.view(world) == world.picture
    assert drawing.view(envs.make("grid"))(None) is None
