"""Traffic: the IDM and MOBIL against their equations, a step against plain loops, and boxes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.driving import traffic
from envs.driving.traffic import LANE, LENGTH, PRESETS, WIDTH, Cars, Driver, Neighbour

pytestmark = pytest.mark.usefixtures("quick_compilation")
DT = 0.1
POLITE = PRESETS["highway_env"]._replace(politeness=0.3)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("v", [5.0, 15.0, 25.0])
def test_at_the_equilibrium_gap_nobody_accelerates(name, v):
    """s_e(v) = (s0 + v T) / sqrt(1 - (v / v0)^delta), Treiber et al. (2000), equation 6."""
    driver, desired = PRESETS[name], 30.0
    gap = (driver.spacing + v * driver.headway) / np.sqrt(1.0 - (v / desired) ** driver.exponent)
    accel = traffic.idm(v, desired, gap, v, driver)
    np.testing.assert_allclose(accel, 0.0, atol=1e-5)


def test_a_free_driver_accelerates_to_the_speed_it_wants():
    driver = PRESETS["waymax"]
    accel = [float(traffic.idm(v, 30.0, 1e4, v, driver)) for v in (0.0, 15.0, 30.0)]
    np.testing.assert_allclose(accel, [2.0, 2.0 * (1 - 0.5**4), 0.0], atol=1e-3)


def test_an_approaching_driver_brakes_by_the_equation():
    driver = Driver(3.0, 5.0, 1.5, 5.0, 4.0, 0.0, 0.2, 2.0)
    wanted = 5.0 + 20.0 * 1.5 + 20.0 * 8.0 / (2.0 * np.sqrt(15.0))
    expected = 3.0 * (1.0 - (20.0 / 30.0) ** 4 - (wanted / 60.0) ** 2)
    np.testing.assert_allclose(traffic.idm(20.0, 30.0, 60.0, 12.0, driver), expected, rtol=1e-5)


def idm(v, desired, gap, leader, p):
    wanted = p.spacing + max(
        0.0, v * p.headway + v * (v - leader) / (2.0 * np.sqrt(p.accel * p.brake))
    )
    close = (wanted / max(gap, traffic.LEAST_GAP)) ** 2
    return max(p.accel * (1.0 - (v / desired) ** p.exponent - close), -traffic.HARDEST)


def scene(seed, count=12, lanes=3, ring=300.0):
    """Random traffic, some of it changing lanes, and our car as the last row."""
    rng = np.random.default_rng(seed)
    lane = rng.integers(0, lanes, count + 1)
    y = LANE * lane + np.where(
        rng.random(count + 1) < 0.3, rng.uniform(-2, 2, count + 1), rng.normal(0, 0.1, count + 1)
    )
    columns = {
        "s": np.sort(rng.uniform(0, ring, count + 1)),
        "y": y,
        "v": rng.uniform(8, 28, count + 1),
        "lane": lane.astype(float),
        "desired": rng.uniform(20, 30, count + 1),
    }
    braking = np.where(rng.random(count) < 0.2, 0.7, 0.0)
    return columns, braking, rng.random(count) < 0.1


def loops(columns, braking, startled, to_left, lanes, ring, p):
    """A step of the traffic, car by car. Our car is the last one; it is going straight on."""
    count = len(braking)
    s, y, v, lane, desired = (columns[name] for name in ("s", "y", "v", "lane", "desired"))
    goal = np.append(LANE * lane[:count], y[count])
    strips = [(min(a, b) - WIDTH / 2, max(a, b) + WIDTH / 2) for a, b in zip(y, goal, strict=True)]

    def nearest(i, right, left):
        ahead, behind = (1e4, None), (1e4, None)
        for j in range(count + 1):
            if j == i or strips[j][1] <= right or strips[j][0] >= left:
                continue
            away = (s[j] - s[i]) % ring
            ahead = min(ahead, (away, j), key=lambda pair: pair[0])
            behind = min(behind, (ring - away, j), key=lambda pair: pair[0])
        return [
            (away - LENGTH, 0.0 if j is None else v[j], 0.0 if j is None else desired[j])
            for away, j in (ahead, behind)
        ]

    after = {name: values[:count].copy() for name, values in columns.items()}
    for i in range(count):
        (gap, leader, _), behind = nearest(i, *strips[i])
        accel = idm(v[i], desired[i], gap, leader, p)
        waits = traffic.SUDDEN_TIME if startled[i] else braking[i] - DT
        if waits > 0.0:
            accel = min(accel, -traffic.SUDDEN)
        other = lane[i] + (1 if to_left else -1)
        new_ahead, new_behind = nearest(i, (other - 0.5) * LANE, (other + 0.5) * LANE)

        def follows(car, gap, leader):
            return idm(car[1], max(car[2], 1.0), gap, leader, p)

        new_after = follows(new_behind, new_behind[0], v[i])
        new_before = follows(new_behind, new_behind[0] + LENGTH + new_ahead[0], new_ahead[1])
        old_before = follows(behind, behind[0], v[i])
        old_after = follows(behind, behind[0] + LENGTH + gap, leader)
        gain = idm(v[i], desired[i], new_ahead[0], new_ahead[1], p) - idm(
            v[i], desired[i], gap, leader, p
        )
        gain += p.politeness * (new_after - new_before + old_after - old_before)
        if (
            0 <= other <= lanes - 1
            and new_ahead[0] > 0
            and new_behind[0] > 0
            and new_after >= -p.safe
            and gain > p.gain
            and abs(y[i] - LANE * lane[i]) < traffic.SETTLED
        ):
            after["lane"][i] = other
        after["v"][i] = max(v[i] + DT * accel, 0.0)
        after["s"][i] = (s[i] + DT * 0.5 * (v[i] + after["v"][i])) % ring
        aside = np.clip(LANE * lane[i] - y[i], -traffic.SIDEWAYS, traffic.SIDEWAYS)
        after["y"][i] += DT * np.clip(aside, -traffic.STEEPEST * v[i], traffic.STEEPEST * v[i])
    return after


def moved(columns, braking, startled, to_left, lanes, ring, p):
    count = len(braking)
    as_array = {name: jnp.asarray(values, jnp.float32) for name, values in columns.items()}
    cars = Cars(
        **{name: values[:count] for name, values in as_array.items()},
        braking=jnp.asarray(braking, jnp.float32),
    )
    mine = {name: values[count:] for name, values in as_array.items()}
    ours = traffic.strips(mine["s"], mine["y"], mine["y"], mine["v"], mine["desired"])
    return traffic.step(
        cars, ours, jnp.bool_(to_left), jnp.float32(lanes), jnp.float32(ring), p,
        jnp.asarray(startled), DT,
    )  # fmt: skip


def test_a_step_is_that_of_plain_loops():
    changes = 0
    for seed, to_left in itertools.product(range(40), (True, False)):
        columns, braking, startled = scene(seed)
        arguments = columns, braking, startled, to_left, 3, 300.0, POLITE
        got, expected = moved(*arguments), loops(*arguments)
        for name, values in expected.items():
            np.testing.assert_allclose(
                getattr(got, name), values, atol=2e-3, err_msg=f"{name} {seed}"
            )
        changes += int((expected["lane"] != columns["lane"][:-1]).sum())
    assert changes > 20  # or lane changes would not have been compared


def test_a_lone_slow_leader_is_overtaken_and_our_car_counts_as_one():
    """Our car at 10 m/s in the right lane: the car behind it, which wants 30 m/s, changes lanes;
    without our car it stays."""
    for place, stays in ((60.0, False), (600.0, True)):
        columns = {
            "s": np.array([0.0, place]), "y": np.zeros(2), "v": np.array([25.0, 10.0]),
            "lane": np.zeros(2), "desired": np.array([30.0, 10.0]),
        }  # fmt: skip
        after = moved(columns, np.zeros(1), [False], True, 2, 1200.0, PRESETS["highway_env"])
        assert (float(after.lane[0]) == 0.0) == stays


def test_politeness_keeps_a_car_from_cutting_in():
    here = (Neighbour(15.0, 15.0, 20.0), Neighbour(80.0, 20.0, 20.0))
    there = (Neighbour(60.0, 25.0, 30.0), Neighbour(25.0, 22.0, 30.0))
    here, there = jax.tree.map(jnp.float32, (here, there))
    rude = PRESETS["highway_env"]._replace(safe=9.0)
    alone, _ = traffic.advantage(jnp.float32(18.0), jnp.float32(30.0), here, there, rude)
    polite, _ = traffic.advantage(
        jnp.float32(18.0), jnp.float32(30.0), here, there, rude._replace(politeness=1.0)
    )
    assert polite < alone


def test_the_traffic_of_a_ring_settles_at_the_closed_form():
    """Equal drivers in one lane: all gaps become ring / N, all speeds that of the equilibrium."""
    count, ring, driver = 10, 300.0, PRESETS["highway_env"]
    rng = np.random.default_rng(0)
    s = np.arange(count) * ring / count + rng.uniform(-4, 4, count)
    cars = Cars(
        *(jnp.asarray(x, jnp.float32) for x in (
            s, np.zeros(count), np.full(count, 10.0), np.zeros(count), np.full(count, 30.0),
            np.zeros(count),
        ))
    )  # fmt: skip
    far = traffic.strips(*(jnp.full(1, x, jnp.float32) for x in (0.0, 99.0, 99.0, 0.0, 1.0)))

    def step(cars, t):
        never = jnp.zeros(count, bool)
        return traffic.step(
            cars, far, t % 2 == 0, jnp.float32(1.0), jnp.float32(ring), driver, never, DT
        ), None

    cars = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(3000))[0])(cars)
    gap = ring / count - LENGTH
    v = float(cars.v.mean())
    np.testing.assert_allclose(cars.v, v, atol=0.01)
    expected = (driver.spacing + v * driver.headway) / np.sqrt(1 - (v / 30.0) ** driver.exponent)
    np.testing.assert_allclose(gap, expected, rtol=2e-3)


def corners(s, y, heading):
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    box = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [LENGTH / 2, WIDTH / 2]
    return box @ turn.T + [s, y]


def touches(a, b):
    """Whether two convex polygons share a point: by clipping one with the other."""
    polygon = list(a)
    for start, end in zip(b, np.roll(b, -1, 0)):
        edge = end - start
        side = [edge[0] * (p[1] - start[1]) - edge[1] * (p[0] - start[0]) for p in polygon]
        clipped = []
        for i in range(len(polygon)):
            p, q, u, w = polygon[i], polygon[i - 1], side[i], side[i - 1]
            if (u >= 0) != (w >= 0):
                clipped.append(p + (q - p) * u / (u - w))
            if u >= 0:
                clipped.append(p)
        polygon = clipped
        if not polygon:
            return False
    return True


def test_boxes_overlap_as_polygons_do():
    rng = np.random.default_rng(0)
    s, y, heading = rng.uniform(-6, 6, 400), rng.uniform(-4, 4, 400), rng.uniform(-1.5, 1.5, 400)
    cars = Cars(*(jnp.zeros(1),) * 6)
    got = jax.vmap(lambda s, y, h: traffic.collide(s, y, h, cars, jnp.float32(100.0))[0])(
        *(jnp.asarray(x, jnp.float32) for x in (s, y, heading))
    )
    still = corners(0.0, 0.0, 0.0)
    expected = [touches(corners(*row), still) for row in zip(s, y, heading, strict=True)]
    assert 50 < sum(expected) < 350
    np.testing.assert_array_equal(got, expected)


def test_boxes_overlap_across_the_seam_of_the_ring():
    cars = Cars(*(jnp.asarray([x], jnp.float32) for x in (99.0, 0.0, 0.0, 0.0, 0.0, 0.0)))
    hit = traffic.collide(
        jnp.float32(201.0), jnp.zeros(()), jnp.zeros(()), cars, jnp.float32(100.0)
    )
    assert bool(hit[0])
