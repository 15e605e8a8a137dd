"""The highway: its expert's claims, crashes and the way back, costs, observations and dials."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import contract, drawing
from envs.core import dial_fields
from envs.driving import highway, highway_picture, road, traffic
from envs.driving.highway import SEEN, SIGHT, Highway
from envs.driving.traffic import LANE, LENGTH, WIDTH
from irl_bench.plan import registry

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT, STEPS = 64, 200


@functools.cache
def made(**options):
    return envs.make("highway", **options)


def expert(world, state):
    return world.expert(state, state.pipeline_state.key)


def drive(world, policy, states, steps):
    """Returns the last states, and of the states after each step what the tests look at."""

    def step(states, _):
        states = jax.vmap(lambda s: world.step(s, policy(world, s)))(states)
        inner = states.pipeline_state
        kept = states.obs, states.metrics, states.reward, inner.car, inner.cars.v, inner.slow
        return states, kept

    return jax.lax.scan(step, states, None, length=steps)


@functools.cache
def driven():
    """The expert's episodes, one program for all tests that look at them and change dials."""

    def run(dials, keys):
        world = made().bind(dials)
        return drive(world, expert, jax.vmap(world.reset)(keys), STEPS)

    return jax.jit(run)


def keys(seed, count=COUNT):
    return jax.random.split(jax.random.PRNGKey(seed), count)


def test_it_keeps_the_contract():
    assert contract.check(envs.make("highway")) == ()


def test_the_expert_overtakes_and_does_not_crash():
    _, (_, metrics, reward, car, traffic_v, _) = driven()(made().dials_for("nominal"), keys(0))
    assert not np.asarray(metrics["collision"]).any() and not np.asarray(metrics["off_road"]).any()
    assert metrics["cost"].mean() < 1e-3
    assert car.v_x.mean() > traffic_v.mean() + 1.0 and reward.mean() > 0.6
    lane = np.round(np.asarray(car.e_y) / LANE)
    assert (np.diff(lane, axis=0) != 0).sum() > 10  # it changes lanes


@pytest.mark.slow
def test_the_expert_is_free_of_collisions_in_999_of_1000_episodes_and_faster_than_the_traffic():
    """4096 episodes of 50 s."""
    world = made()

    def run(keys):
        states = jax.vmap(world.reset)(keys)

        def step(carry, _):
            states, hits, cost, v, others = carry
            states = jax.vmap(lambda s: world.step(s, expert(world, s)))(states)
            inner = states.pipeline_state
            hits += states.metrics["collision"]
            cost += states.metrics["cost"]
            return (states, hits, cost, v + inner.car.v_x, others + inner.cars.v.mean(-1)), None

        zero = jnp.zeros(len(keys))
        return jax.lax.scan(step, (states, zero, zero, zero, zero), None, length=500)[0][1:]

    hits, cost, v, others = jax.jit(run)(keys(1, 4096))
    assert (hits > 0).mean() <= 1e-3 and cost.mean() / 500 <= 1e-3
    assert v.mean() > others.mean()


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("parks", lambda world, state: jnp.array([0.0, -1.0])),
        ("spins", lambda world, state: jnp.array([1.0, 1.0])),
    ],
)
def test_no_policy_earns_by_parking_or_spinning(name, policy):
    world = made()
    run = jax.jit(lambda k: drive(world, policy, jax.vmap(world.reset)(k), STEPS)[1])
    _, metrics, reward, *_ = run(keys(2))
    # After 5 s each of them costs far more than the expert and earns little.
    assert metrics["cost"][50:].mean() > 0.5, name
    assert reward[50:].mean() < 0.3, name
    assert np.isfinite(reward).all()


@functools.cache
def stepper():
    return jax.jit(made().step)


def placed(state, **changes):
    """The state with other values of our car."""
    inner = state.pipeline_state
    car = inner.car._replace(**{name: jnp.float32(value) for name, value in changes.items()})
    return state.replace(pipeline_state=dataclasses.replace(inner, car=car))


def alone(state, s=230.0, y=0.0, v=20.0):
    """The state with our car in an empty stretch of road: all others are far
    away on the ring, but for one at s ahead of ours, at y; all drive v."""
    inner = state.pipeline_state
    count = len(inner.cars.s)
    far = inner.car.s + 250.0 + 20.0 * jnp.arange(count)
    cars = inner.cars._replace(
        s=far.at[0].set(inner.car.s + s),
        y=jnp.zeros(count).at[0].set(y),
        lane=jnp.zeros(count).at[0].set(np.round(y / LANE)),
        v=jnp.full(count, v),
    )
    return state.replace(pipeline_state=dataclasses.replace(inner, cars=cars))


@functools.cache
def start(seed=0):
    state = jax.jit(made().reset)(jax.random.PRNGKey(seed))
    return placed(state, e_y=0.0, e_psi=0.0, v_x=20.0, v_y=0.0, r=0.0, delta=0.0)


@pytest.mark.parametrize(
    ("ahead", "side", "heading", "fault"),
    [(4.6, 0.0, 0.0, 1.0), (-4.6, 0.0, 0.0, 0.0), (0.0, 0.9, 0.2, 1.0)],
    ids=["runs into the one ahead", "is hit from behind", "drifts into the one beside"],
)
def test_a_crash_puts_the_car_on_the_hard_shoulder_and_tells_who_is_to_blame(
    ahead, side, heading, fault
):
    v = {4.6: 10.0, -4.6: 30.0, 0.0: 20.0}[ahead]
    state = alone(placed(start(), e_y=side, e_psi=heading), s=ahead, y=side * 3.0, v=v)
    after = stepper()(state, jnp.zeros(2))
    car = after.pipeline_state.car
    assert after.metrics["collision"] == 1.0 and after.metrics["cost"] == 1.0
    assert after.metrics["at_fault"] == fault
    assert car.e_y < -LANE / 2 - WIDTH / 2 and car.e_psi == 0.0
    assert car.v_x <= highway.ASIDE_SPEED and after.reward == 0.0


@pytest.mark.parametrize(
    ("x", "y", "ours", "heading", "v", "fault"),
    [
        (4.4, 0.0, 0.0, 0.0, 20.0, True),  # the front bumper
        (3.0, 1.7, 0.0, 0.0, 20.0, True),  # its corner, of a car that stays in its lane
        (1.0, 1.7, 0.0, 0.0, 20.0, True),
        (-1.0, 1.7, 0.0, 0.0, 20.0, False),  # the side, within a lane
        (-1.0, 1.7, 1.2, 0.0, 20.0, True),  # the side, between lanes
        (-4.2, 1.75, 1.2, 0.0, 20.0, True),  # cut in, and clipped at the tail: 148 degrees
        (-4.4, 1.0, 1.2, 0.0, 20.0, False),  # 162 degrees: behind
        (-4.4, 0.0, 0.0, 0.0, 0.0, True),  # one that stands
        (-1.0, 1.6, 0.0, 0.5, 20.0, True),  # turned across the line
    ],
)
def test_blame_is_nuplans(x, y, ours, heading, v, fault):
    """Stopped tracks, front bumper, lateral between lanes, and behind beyond 150 degrees."""
    state = alone(placed(start(), e_y=ours, e_psi=heading), s=x, y=ours + y, v=v).pipeline_state
    hit = jnp.arange(len(state.cars.s)) == 0
    assert bool(made()._at_fault(state.car, state.cars, hit)) == fault
    assert not bool(made()._at_fault(state.car, state.cars, jnp.zeros_like(hit)))


def test_a_crash_is_no_drive_off_the_road_and_leaves_no_time():
    state = alone(placed(start(), v_x=30.0), s=LENGTH + 0.5, v=10.0)
    after = stepper()(state, jnp.zeros(2))
    assert after.metrics["collision"] == 1.0 and after.metrics["time_to_collision"] == 0.0
    for _ in range(3):
        assert after.metrics["cost"] == 1.0 and after.metrics["off_road"] == 0.0
        after = stepper()(after, jnp.zeros(2))
    left = stepper()(alone(placed(start(), e_y=-LANE)), jnp.zeros(2))
    assert left.metrics["off_road"] == 1.0 and left.metrics["collision"] == 0.0


def test_nobody_feels_a_jerk_where_the_car_was_put():
    """A car that accelerates steadily is comfortable from its first step on; one whose
    acceleration begins within the episode is not in that step."""
    push = jnp.array([0.0, 0.2])
    first = stepper()(alone(start()), push)
    second = stepper()(first, push)
    assert first.pipeline_state.felt.forward > 0.5
    assert first.metrics["uncomfortable"] == 0.0 and second.metrics["uncomfortable"] == 0.0
    coasted = stepper()(alone(start()), jnp.zeros(2))
    assert stepper()(coasted, push).metrics["uncomfortable"] == 1.0


def test_any_speed_above_the_limit_is_speeding():
    limit = float(made().dials.speed)
    for v, speeding in ((limit - 0.5, 0.0), (limit + 0.5, 1.0)):
        after = stepper()(alone(placed(start(), v_x=v)), jnp.zeros(2))
        assert after.metrics["speeding"] == speeding


def test_the_road_goes_on_in_pictures_where_it_repeats():
    """Neighbouring points stay neighbours, and the heading is that of the road."""
    period = road.KNOTS * road.SPACING
    drawn = jax.jit(made().picture)
    for s in (period - 20.0, period + 20.0, 2 * period - 10.0, 7 * period + 3.0):
        track = np.asarray(drawn(placed(start(), s=s))["track"])
        points = track[4:].reshape(highway_picture.SHOWN, -1)[:, :3]
        steps = np.diff(points[:, :2], axis=0)
        np.testing.assert_allclose(
            np.hypot(*steps.T), highway_picture.SHOWN_STEP, atol=0.02 + 1e-6 * s
        )
        bearing = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        middle = (points[1:, 2] + points[:-1, 2]) / 2
        assert np.abs(np.angle(np.exp(1j * (bearing - middle)))).max() < 0.01


def test_cars_are_drawn_as_large_as_they_collide():
    picture = jax.device_get(jax.jit(made().picture)(start()))
    picture["cars"] = np.zeros((0, 3))
    frame = drawing.frame(made(), np.asarray(start().obs), picture, [(1.0, 0.0)])
    colour = [int(drawing.FINE[i : i + 2], 16) for i in (1, 3, 5)]
    scale = drawing.WIDTH / drawing.TRACK_SPAN
    # The windscreen and the outline take pixels away.
    rows, columns = np.nonzero((frame == colour).all(-1))
    assert np.ptp(columns) / scale == pytest.approx(traffic.LENGTH, abs=0.6)
    assert np.ptp(rows) / scale == pytest.approx(traffic.WIDTH, abs=0.6)


def test_who_has_left_is_back_once_the_whole_car_is_on_a_lane():
    edge = -LANE / 2
    off = alone(placed(start(), e_y=edge - 0.1))
    off = off.replace(pipeline_state=dataclasses.replace(off.pipeline_state, off=jnp.float32(1.0)))
    for inside, cost in ((-0.1, 1.0), (0.1, 1.0), (highway.BACK + 0.1, 0.0)):
        after = stepper()(placed(off, e_y=edge + inside), jnp.zeros(2))
        assert after.metrics["cost"] == cost, inside
    # Who is on the lanes leaves them when its side crosses the edge.
    for inside, cost in ((highway.OUT - 0.05, 1.0), (highway.OUT + 0.05, 0.0)):
        after = stepper()(alone(placed(start(), e_y=edge + inside)), jnp.zeros(2))
        assert after.metrics["cost"] == cost, inside


def errs_once(world, states, steps):
    """Our car steers wrongly and constantly, by an angle of its own, until it fails; then the
    expert drives. Returns costs and who steered wrongly, bool[steps, batch]."""
    count = states.obs.shape[0]
    wrong = jnp.linspace(-1.0, 1.0, count)
    wrong = jnp.where(jnp.abs(wrong) < 0.15, 0.15, wrong)

    def step(carry, _):
        states, failed = carry
        action = jax.vmap(lambda s: expert(world, s))(states)
        errors = jnp.stack([wrong, jnp.zeros(count)], 1)
        states = jax.vmap(world.step)(states, jnp.where(failed[:, None], action, errors))
        cost = states.metrics["cost"] > 0
        return (states, failed | cost), (cost, ~failed)

    return jax.lax.scan(step, (states, jnp.zeros(count, bool)), None, length=steps)[1]


def times(cost, errs):
    """Steps from the error to the failure, and from the failure until it is undone."""
    latency = errs.sum(0)
    later = np.arange(len(cost))[:, None] >= latency
    return latency, np.where(later & ~cost, np.arange(len(cost))[:, None], 999).min(0) - latency + 1


def test_the_expert_undoes_what_wrong_steering_causes_within_u():
    run = jax.jit(lambda k: errs_once(made(), jax.vmap(made().reset)(k), 200))
    latency, back = times(*(np.asarray(x) for x in run(keys(3, 256))))
    assert np.mean(back <= Highway.recovery_steps) >= 0.98  # of 256; 0.99 of all
    assert abs(np.median(latency) - Highway.latency) <= 3


def test_a_car_that_holds_up_the_traffic_fails_until_it_drives_briskly():
    slow = alone(placed(start(), v_x=8.0))
    after = stepper()(slow, jnp.zeros(2))
    assert after.metrics["cost"] == 1.0 and after.metrics["off_road"] == 0.0
    # 11 m/s are half of what the others like to drive, 13.2 m/s are 0.6 of it.
    brisk = {12.0: 1.0, 13.6: 0.0}
    for speed, cost in brisk.items():
        assert stepper()(placed(after, v_x=speed), jnp.zeros(2)).metrics["cost"] == cost
    # Behind a slow car it may be as slow.
    queue = alone(placed(start(), v_x=8.0), s=20.0, v=8.0)
    assert stepper()(queue, jnp.zeros(2)).metrics["cost"] == 0.0


def test_the_observation_is_what_the_docstring_says():
    state = alone(placed(start(), e_y=LANE + 0.3), s=40.0, y=2 * LANE, v=27.0)
    inner = state.pipeline_state
    seen = np.asarray(made()._observe(inner, jnp.float32(0.0)))
    ego = dict(zip(Highway.ego_layout, seen, strict=False))
    np.testing.assert_allclose(ego["offset"], 0.3, atol=1e-5)
    np.testing.assert_allclose(ego["right_edge"], 1.5 * LANE + 0.3, atol=1e-5)
    np.testing.assert_allclose(ego["left_edge"], 1.5 * LANE - 0.3, atol=1e-5)
    np.testing.assert_allclose(ego["v_x"], 20.0)
    rows = seen[11:].reshape(3, 2, 3)  # right, own, left; ahead, behind
    np.testing.assert_allclose(rows[2, 0], [40.0 - LENGTH, 7.0, 1.0], atol=1e-3)
    np.testing.assert_allclose(rows[1], [[SIGHT, 0.0, 0.0]] * 2)
    table = np.asarray(
        made(observation="kinematics")._observe(inner, jnp.float32(0.0))
    )[11:].reshape(SEEN, 6)  # fmt: skip
    np.testing.assert_allclose(table[0], [1, 40.0, LANE - 0.3, 7.0, 0.0, LANE - 0.3], atol=1e-3)
    assert not table[1:].any()  # all others are further away than SIGHT


def test_every_reset_is_a_new_scene():
    states = jax.jit(jax.vmap(made().reset))(keys(5, 32))
    inner = states.pipeline_state
    for part in (inner.knots[:, 0], inner.cars.s[:, 0], inner.cars.desired[:, 0], inner.car.v_x):
        assert len(np.unique(np.asarray(part).round(4))) > 16
    assert len(np.unique(np.asarray(inner.cars.lane[:, 0]))) == 3


def test_nobody_starts_in_anybody_s_way():
    for options in ({"density": 35.0}, {"lanes": 5.0}, {"cars": "50", "lanes": 4.0}):
        world = made(**options)
        inner = jax.jit(jax.vmap(world.reset))(keys(6)).pipeline_state
        ring = float(world.ring)
        s = np.concatenate([np.asarray(inner.car.s)[:, None], np.asarray(inner.cars.s)], 1)
        y = np.concatenate([np.asarray(inner.car.e_y)[:, None], np.asarray(inner.cars.y)], 1)
        apart = np.abs((s[:, :, None] - s[:, None] + ring / 2) % ring - ring / 2)
        same = (np.abs(y[:, :, None] - y[:, None]) < WIDTH) & ~np.eye(s.shape[1], dtype=bool)
        assert apart[same].min() > LENGTH + 2.0, options
        assert np.asarray(inner.cars.lane).max() == round(float(world.dials.lanes)) - 1


@pytest.mark.parametrize("dial", sorted(dial_fields(Highway().dials)))
def test_every_dial_changes_the_episode(dial):
    world = made()
    usual = world.dials_for("nominal")
    field = dial_fields(world.dials)[dial].metadata
    value = {
        "lanes": 4.0, "density": 20.0, "speed": 25.0, "traffic_speed": 15.0, "spread": 0.0,
        "politeness": 1.0, "braking_rate": 0.05, "bend": 2.0, "friction": 0.4, "mass": 2.0,
        "sensor_noise": 1.0, "noise": 0.3, "crosswind": 0.0, "delay": 0.3, "reacquisition": 1.0,
    }[dial]  # fmt: skip
    assert field["low"] <= value <= field["high"]
    if dial == "reacquisition":  # the expert does not fail, so it is shown beside the road
        state = alone(placed(start(), e_y=-3.4))
        after = jax.jit(world.bind(usual.replace(reacquisition=jnp.float32(1.0))).step)(
            state, jnp.zeros(2)
        )
        np.testing.assert_allclose(after.pipeline_state.car.e_y, 0.0)
        assert after.metrics["cost"] == 0.0
        return
    _, (before, *_) = driven()(usual, keys(7))
    _, (after, *_) = driven()(usual.replace(**{dial: jnp.float32(value)}), keys(7))
    assert np.abs(np.asarray(before) - np.asarray(after)).max() > 1e-3


def test_with_the_noise_of_sensors_the_mean_stays():
    world = made()
    inner = start().pipeline_state
    noisy = world.bind(world.dials.replace(sensor_noise=1.0))
    seen = jax.vmap(
        lambda key: noisy._observe(dataclasses.replace(inner, key=key), jnp.float32(0.0))
    )(keys(8, 4096))
    plain = world._observe(inner, jnp.float32(0.0))
    scale = np.array(highway.EGO_NOISE + highway.ROW_NOISE["lanes"] * 6)
    np.testing.assert_allclose((seen - plain).mean(0), 0.0, atol=0.08 * scale.max())
    np.testing.assert_allclose((seen - plain).std(0), scale, rtol=0.08, atol=1e-6)


@pytest.mark.parametrize("drivers", sorted(traffic.PRESETS))
def test_the_expert_keeps_its_distance_with_either_kind_of_driver(drivers):
    world = made(drivers=drivers)
    run = jax.jit(lambda k: drive(world, expert, jax.vmap(world.reset)(k), STEPS)[1][1])
    assert not np.asarray(run(keys(9, 32))["collision"]).any()


@pytest.mark.parametrize("line", [LANE / 2, -LANE / 2 + 0.05, -LANE / 2 + 0.85])
def test_no_policy_earns_by_driving_between_the_lanes_or_on_the_edge(line):
    """A car that holds a lane marking, or the edge, at the speed limit on a straight road."""
    world = made().bind(made().dials.replace(bend=0.0, crosswind=0.0))

    def hold(world, state):
        car = state.pipeline_state.car
        aside = jnp.clip(line - car.e_y, -1.0, 1.0) / car.v_x
        rate = 2.0 * (aside - car.e_psi)
        return jnp.stack([26.0 * rate / car.v_x, 0.3 * (30.0 - car.v_x)])

    run = jax.jit(lambda k: drive(world, hold, jax.vmap(world.reset)(k), 300)[1])
    _, metrics, reward, *_ = run(keys(4))
    best = jax.jit(lambda k: drive(world, expert, jax.vmap(world.reset)(k), 300)[1])(keys(4))
    assert reward[50:].mean() < best[2][50:].mean()
    assert metrics["cost"][50:].mean() > 0.1


@pytest.mark.parametrize("closing", [5.0, 10.0, 20.0, 25.0])
def test_who_runs_into_the_car_ahead_is_to_blame_at_any_speed(closing):
    for gap in np.linspace(0.05, 0.95, 5):
        state = alone(
            placed(start(), v_x=30.0), s=float(LENGTH + gap * 0.1 * closing), v=30.0 - closing
        )
        after = stepper()(state, jnp.zeros(2))
        assert after.metrics["collision"] == 1.0 and after.metrics["at_fault"] == 1.0, gap


def test_time_to_collision_needs_a_car_ahead_that_is_slower():
    for s, v, time in ((24.5, 10.0, 2.0), (24.5, 30.0, 10.0), (0.0, 10.0, 10.0)):
        y = 0.0 if s else LANE
        state = alone(placed(start()), s=s, y=y, v=v).pipeline_state
        np.testing.assert_allclose(made()._time_to_collision(state), time, rtol=1e-4)


def test_hidden_velocities_are_those_of_all_cars():
    """Two scenes that differ in speeds alone look alike."""
    for observation, shown in (("lanes", 29 - 10), ("kinematics", 71 - 24)):
        twin = envs.make("highway", observation=observation, velocities="hidden")
        assert twin.observation_size == shown
        scenes = [
            alone(placed(start(), v_x=v, v_y=0.1 * v, r=0.01 * v), s=40.0, v=0.8 * v)
            for v in (15.0, 25.0)
        ]
        seen = [
            np.asarray(twin.inner._observe(s.pipeline_state, jnp.float32(0.0)))[twin.entries]
            for s in scenes
        ]
        np.testing.assert_allclose(*seen, atol=1e-5)


@pytest.mark.parametrize("name", ["highway", "merge"])
def test_lanes_are_counted(name):
    with pytest.raises(ValueError, match=rf"{name}.lanes=2.4 must be .* whole .*; nearest: 2$"):
        envs.make(name, lanes=2.4)
    assert float(envs.make(name, lanes=4).dials.lanes) == 4.0
    assert registry.world(name).dials["lanes"].range == "whole number in [2, 5]"
