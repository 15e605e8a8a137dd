"""Race tracks: that they close, what their files may hold, and the speeds that friction allows."""

import math

import numpy as np
import pytest

from envs.driving import track
from envs.driving.vehicle import MIN_FRENET

BANK = track.bank()
LATERAL, LONGITUDINAL, TOP = 9.0, 4.5, 30.0


def circle(radius=60.0, points=80, **changes):
    """Rows of a file with a circular track, driven to the left."""
    angle = np.linspace(0.0, 2.0 * math.pi, points, endpoint=False)
    columns = {
        "x": radius * np.cos(angle),
        "y": radius * np.sin(angle),
        "right": np.full(points, 5.0),
        "left": np.full(points, 4.0),
    } | changes
    return np.stack(list(columns.values()), 1)


def written(folder, rows, header="# x_m,y_m,w_tr_right_m,w_tr_left_m"):
    path = folder / "my_track.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows.tolist())]) + "\n")
    return path


def walked(shape):
    """Heading and position [N + 1] of the centre line, from its curvature alone."""
    kappa = np.append(shape.kappa, shape.kappa[0])
    steps = (kappa[1:] + kappa[:-1]) / 2 * shape.spacing
    heading = shape.heading[0] + np.concatenate([[0.0], np.cumsum(steps)])
    middle = (heading[1:] + heading[:-1]) / 2
    x, y = (np.cumsum(part * shape.spacing) for part in (np.cos(middle), np.sin(middle)))
    start = shape.x[0], shape.y[0]
    return heading, *(np.append(a, a + part) for a, part in zip(start, (x, y), strict=True))


@pytest.mark.parametrize("index", range(len(BANK)))
def test_a_track_of_the_bank_closes_and_is_as_wide_and_tight_as_promised(index):
    shape = BANK[index]
    heading, x, y = walked(shape)
    assert math.hypot(x[-1] - x[0], y[-1] - y[0]) < 0.15
    assert abs(heading[-1] - heading[0]) == pytest.approx(2.0 * math.pi, abs=1e-3)
    assert np.hypot(x[:-1] - shape.x, y[:-1] - shape.y).max() < 0.15
    np.testing.assert_allclose(heading[:-1], shape.heading, atol=2e-3)
    assert 700.0 <= shape.length <= 1500.0
    assert 17.5 <= 1.0 / np.abs(shape.kappa).max() <= 25.5
    assert min(shape.left.min(), shape.right.min()) >= 4.0 - 1e-9
    assert max(shape.left.max(), shape.right.max()) <= 5.0 + 1e-9
    assert track.frenet(shape).min() > 0.5 > MIN_FRENET
    assert track._crossing(shape) is None


def test_the_bank_holds_different_tracks_in_both_directions():
    assert len(BANK) == 2 * track.TRACKS >= 24
    assert len({round(shape.length, 3) for shape in BANK}) == track.TRACKS
    np.testing.assert_array_equal(track.procedural(3).kappa, BANK[6].kappa)
    for there, back in zip(BANK[::2], BANK[1::2], strict=True):
        again = track.reverse(back)
        for name in ("kappa", "left", "right", "x", "y"):
            np.testing.assert_array_equal(getattr(again, name), getattr(there, name))
        assert back.kappa[1] == -there.kappa[-1] and back.left[1] == there.right[-1]
        assert back.x[1] == there.x[-1]


def test_a_circle_has_its_radius_and_length():
    rows = circle(radius=50.0)
    shape = track.through(rows[:, :2], rows[:, 3], rows[:, 2])
    assert shape.length == pytest.approx(100.0 * math.pi, rel=1e-6)
    np.testing.assert_allclose(shape.kappa, 1.0 / 50.0, rtol=2e-3)
    np.testing.assert_allclose(np.hypot(shape.x, shape.y), 50.0, rtol=1e-5)


@pytest.mark.parametrize("radius", [10.0, 40.0, 300.0])
def test_the_profile_on_a_circle_is_that_of_friction_or_the_top_speed(radius):
    for speed in track.speed_profile(
        np.full(100, -1.0 / radius), 1.0, LATERAL, LONGITUDINAL, LONGITUDINAL, TOP
    ):
        np.testing.assert_allclose(speed, min(TOP, math.sqrt(LATERAL * radius)))


@pytest.mark.parametrize("shape", BANK[:8])
def test_the_profile_never_leaves_the_friction_ellipse(shape):
    braking = 6.0
    envelope, speed = track.speed_profile(
        shape.kappa, shape.spacing, LATERAL, LONGITUDINAL, braking, TOP
    )
    assert (speed <= envelope + 1e-9).all() and speed.max() <= TOP
    for profile, strongest in ((speed, LONGITUDINAL), (envelope, math.inf)):
        lateral = profile**2 * np.abs(shape.kappa) / LATERAL
        assert lateral.max() <= 1.0 + 1e-9
        along = (np.roll(profile, -1) ** 2 - profile**2) / (2.0 * shape.spacing)
        # Braking is limited by cornering where it ends, acceleration by cornering where it begins.
        slowing, gaining = np.minimum(along, 0.0) / braking, np.maximum(along, 0.0) / strongest
        assert (slowing**2 + np.roll(lateral, -1) ** 2 <= 1.0 + 1e-9).all()
        assert (gaining**2 + lateral**2 <= 1.0 + 1e-9).all()
    # The limit is used: everywhere something holds the car back.
    lateral = speed**2 * np.abs(shape.kappa) / LATERAL
    along = np.diff(np.append(speed, speed[0]) ** 2) / (2.0 * shape.spacing)
    driving = np.hypot(along / LONGITUDINAL, lateral)
    stopping = np.roll(np.hypot(along / braking, np.roll(lateral, -1)), 1)
    bound = (
        (lateral > 0.99)
        | (speed > 0.99 * TOP)
        | (np.maximum(driving, np.roll(driving, 1)) > 0.99)
        | (np.maximum(stopping, np.roll(stopping, -1)) > 0.99)
    )
    assert bound.mean() > 0.99


def test_the_profile_does_not_depend_on_where_the_track_begins():
    shape = BANK[4]
    rest = (shape.spacing, LATERAL, LONGITUDINAL, LONGITUDINAL, TOP)
    here = track.speed_profile(shape.kappa, *rest)
    there = track.speed_profile(np.roll(shape.kappa, 371), *rest)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(np.roll(one, 371), other, rtol=1e-12)


def test_the_profile_on_a_straight_between_corners_has_its_closed_form():
    """From the corner's speed c, v² = c² + 2 a d after d metres and c² + 2 b d at d metres before
    the next corner."""
    kappa = np.zeros(800)
    kappa[:200] = kappa[400:600] = 1.0 / 20.0
    spacing, gain, loss = 0.5, 3.0, 5.0
    envelope, speed = track.speed_profile(kappa, spacing, LATERAL, gain, loss, 100.0)
    corner = LATERAL * 20.0
    np.testing.assert_allclose(speed[:200] ** 2, corner, rtol=1e-9)
    at = np.arange(200, 401)  # grid points of the straight and the first of the next corner
    since = spacing * (at - 200)  # the corner's last point leaves no grip to accelerate
    until = spacing * np.maximum(399 - at, 0)
    up, down = corner + 2.0 * gain * since, corner + 2.0 * loss * until
    np.testing.assert_allclose(speed[at] ** 2, np.minimum(up, down), rtol=1e-9)
    np.testing.assert_allclose(envelope[at] ** 2, down, rtol=1e-9)


def test_a_file_becomes_the_track_that_it_holds(tmp_path):
    shape = track.read(written(tmp_path, circle()))
    assert shape.length == pytest.approx(120.0 * math.pi, rel=1e-5)
    np.testing.assert_allclose(shape.kappa, 1.0 / 60.0, rtol=2e-3)
    np.testing.assert_allclose(shape.left, 4.0)
    np.testing.assert_allclose(shape.right, 5.0)
    clockwise = track.read(written(tmp_path, circle()[::-1]))
    np.testing.assert_allclose(clockwise.kappa, -1.0 / 60.0, rtol=2e-3)
    repeated = track.read(written(tmp_path, circle()[[*range(80), 0]]))
    np.testing.assert_array_equal(repeated.kappa, shape.kappa)
    spaced = written(tmp_path, circle(), header="\n  # a comment\n# another")
    np.testing.assert_array_equal(track.read(spaced).kappa, shape.kappa)


def stadium(straight, spacing, radius=40.0, turn=0.0):
    """Rows of a file with two straights and two half circles, turned by `turn` [rad]."""
    along = np.arange(0.0, straight, spacing)
    bend = np.arange(0.0, math.pi, spacing / radius)
    half_x = np.concatenate([along, straight + radius * np.sin(bend)])
    half_y = np.concatenate([np.full(len(along), -radius), -radius * np.cos(bend)])
    x, y = np.append(half_x, straight - half_x), np.append(half_y, -half_y)
    cos, sin = math.cos(turn), math.sin(turn)
    wide = np.full(len(x), 5.0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, wide, wide], 1)


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("straight", "spacing"), [(400, 5), (300, 5), (200, 2), (100, 1)])
def test_long_straights_do_not_cross_themselves(tmp_path, straight, spacing, turn):
    shape = track.read(written(tmp_path, stadium(straight, spacing, turn=turn)))
    assert shape.length == pytest.approx(2 * straight + 80.0 * math.pi, rel=1e-3)


def test_a_track_of_the_bank_survives_its_file(tmp_path):
    """Points 6 m apart are enough to find it again."""
    shape = BANK[10]
    some = np.linspace(0, len(shape.kappa), 160, endpoint=False).astype(int)
    rows = np.stack([shape.x, shape.y, shape.right, shape.left], 1)[some]
    again = track.read(written(tmp_path, rows))
    assert again.length == pytest.approx(shape.length, rel=1e-4)
    assert np.abs(again.kappa - shape.kappa).max() < 0.004
    x, y = rows[:, :2].mean(0)
    assert np.hypot(again.x - shape.x + x, again.y - shape.y + y).max() < 0.1


def test_coordinates_of_a_map_lose_nothing(tmp_path):
    """Millions of metres, in which float32 has steps of half a metre."""
    near = track.read(written(tmp_path, circle()))
    far = track.read(written(tmp_path, np.add(circle(), [5e6, 4e5, 0.0, 0.0])))
    np.testing.assert_allclose([far.x, far.y], [near.x, near.y], atol=1e-6)


def test_a_long_track_gets_more_points(tmp_path):
    shape = track.read(written(tmp_path, circle(radius=1000.0, points=600)))
    assert len(shape.kappa) > track.POINTS and shape.spacing <= track.SPACING


EIGHT = np.linspace(0.0, 2.0 * math.pi, 100, endpoint=False)
BROKEN = {
    "a number that is none": (circle().astype(str), "line 2", None),
    "few points": (circle(points=7), "at least 8 points", None),
    "no points": (circle()[:0], "at least 8 points", None),
    "not finite": (circle(x=np.full(80, np.nan)), "line 2.*not finite", None),
    "far away": (circle(x=np.full(80, 1e200)), "line 2: a number is beyond", None),
    "a huge width": (circle(left=np.full(80, 60.0)), "line 2: a width is 60 m", None),
    "no width": (circle(left=np.zeros(80)), "line 2: a width is 0 m", None),
    "a negative width": (circle(right=np.full(80, -3.0)), "a width is -3 m", None),
    "a point twice": (circle()[[0, 1, 1, *range(2, 80)]], "line 4.*remove", None),
    "open": (circle()[:60], "the track is open.*close it", None),
    "short": (circle(radius=14.0), "88 m long, not 100 m", None),
    "long": (circle(radius=4000.0), "25126 m long", None),
    "crossing": (
        circle(points=100, x=120 * np.cos(EIGHT), y=80 * np.sin(2 * EIGHT)),
        "crosses itself at x = -?0",
        None,
    ),
    "tight": (
        circle(radius=30.0, left=np.full(80, 22.0)),
        r"radius of 30.* and needs 31.* there",
        None,
    ),
    "columns": (circle()[:, :3], "line 2: 3 columns, not 4", None),
    "a header without #": (circle(), "'x,y,r,l' is not numeric.*begins with #", "x,y,r,l"),
}
BROKEN["a number that is none"][0][0, 1] = "one"


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_without_a_usable_track_is_refused_in_one_line(tmp_path, what):
    rows, message, header = BROKEN[what]
    path = written(tmp_path, rows, **({"header": header} if header else {}))
    with pytest.raises(ValueError, match=message) as error:
        track.read(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes([0xFF, 0xFE, 0x00, 0x81]))
    for path, reason in (
        (tmp_path / "none.csv", "No such file"),
        (tmp_path, "directory"),
        (binary, "it is not text"),
    ):
        with pytest.raises(ValueError, match=reason) as error:
            track.read(path)
        assert "\n" not in str(error.value) and str(error.value).startswith(str(path))
