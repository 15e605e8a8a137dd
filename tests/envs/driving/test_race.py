"""Racing: geometry, edges, barrier, spins and pace, dials, files of tracks, and the expert's claims
(on the track at the limit of friction, and back to it)."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline

import envs
from envs import contract, drawing
from envs.core import dial_fields
from envs.driving import comfort, race
from envs.driving import track as tracks
from envs.driving.race import DT, KERB, PEAK, Race
from envs.names import nearest

pytestmark = pytest.mark.usefixtures("quick_compilation")

EPISODES, STEPS = 48, 1000
ASTRAY = 0.04, 0.2
NOMINAL = Race().dials_for("nominal")
CALM = NOMINAL.replace(crosswind=jnp.float32(0.0))
SIDE, SLOW = Race.failure_flags
LAZY = {
    "parked": (0.0, -1.0),
    "full lock": (1.0, 0.0),
    "full lock and throttle": (-1.0, 1.0),
    "nothing": (0.0, 0.0),
    "throttle": (0.0, 1.0),
}


@functools.cache
def made():
    return Race()


def expert(world, state):
    return world.expert(state, state.pipeline_state.key)


ASKED, WILD = np.nan, np.inf
"""In a command: the expert's entry, and a random one that is held for about half a second."""


@functools.partial(jax.jit, static_argnames=("keep", "steps"))
def drive(dials, states, commands, steps=200, keep=lambda state: state):
    """`keep(state)` after each of `steps` steps of a batch of states under commands [batch, 2]:
    [steps, batch, ...]. One program for each shape, because dials and commands are data."""
    world = made().bind(dials)

    def act(state, command):
        inner = state.pipeline_state
        held = jax.random.fold_in(jax.random.PRNGKey(1), jnp.int32(inner.car.s / 8.0))
        held = jax.random.fold_in(held, inner.track)
        random = jax.random.uniform(held, (2,), minval=-2.0, maxval=2.0)
        given = jnp.where(jnp.isinf(command), random, command)
        return jnp.where(jnp.isnan(command), expert(world, state), given)

    def step(states, _):
        actions = jax.vmap(act)(states, commands)
        states = jax.vmap(world.step)(states, actions)
        return states, jax.vmap(keep)(states)

    return jax.lax.scan(step, states, None, length=steps)[1]


def told(*command, count=256):
    """The same command for every car."""
    return jnp.broadcast_to(jnp.array(command, jnp.float32), (count, 2))


many = jax.jit(jax.vmap(lambda dials, key: made().bind(dials).reset(key), (None, 0)))
reset = jax.jit(lambda dials, key: made().bind(dials).reset(key))
step = jax.jit(lambda dials, state, action: made().bind(dials).step(state, action))
ask = jax.jit(lambda dials, state: expert(made().bind(dials), state))
at = jax.jit(lambda track, s: made()._at(track, s))


def keys(seed, count=EPISODES):
    return jax.random.split(jax.random.PRNGKey(seed), count)


def cost(states):
    return np.asarray(states.metrics["cost"])


@pytest.fixture(scope="module")
def by_expert():
    return jax.device_get(
        drive(NOMINAL, many(NOMINAL, keys(0)), told(ASKED, ASKED, count=EPISODES), STEPS)
    )


@pytest.fixture(scope="module")
def by_wild():
    return jax.device_get(drive(NOMINAL, many(NOMINAL, keys(1, 256)), told(WILD, WILD)))


@pytest.fixture
def calm():
    """A car on the centre line, where the track is straightest; no wind."""
    state = reset(CALM, jax.random.PRNGKey(0))
    inner = state.pipeline_state
    places = made()._places.reshape(-1, made()._points + 1, 5)[int(inner.track), :-1]
    # The middle of the 40 m that bend the least.
    bends = np.convolve(np.tile(np.abs(places[:, 0]), 2), np.ones(40), "same")
    row = int(np.argmin(bends[40 : 40 + len(places)]) + 40) % len(places)
    s = row * made()._lengths[int(inner.track)] / len(places)
    return place(state, s=s, e_y=0.0, e_psi=0.0, v_x=20.0, v_y=0.0, r=0.0, delta=0.0)


def place(state, *, side=0.0, slow=0.0, pace=1.0, **car):
    """`state` with some of the car's fields, its flags and its pace set."""
    inner = state.pipeline_state
    car = inner.car._replace(**{name: jnp.float32(value) for name, value in car.items()})
    return state.replace(
        pipeline_state=inner.replace(
            car=car, side=jnp.float32(side), slow=jnp.float32(slow), pace=jnp.float32(pace)
        )
    )


def edges(state):
    """Distances to the left and the right edge from the centre line beside the car [m]."""
    inner = state.pipeline_state
    return [float(part) for part in at(inner.track, inner.car.s)[1:3]]


def test_every_reset_is_another_scene_at_the_profiles_speed():
    states = many(NOMINAL, keys(2, 256))
    inner = states.pipeline_state
    assert len(np.unique(np.asarray(states.obs), axis=0)) == 256
    counts = np.bincount(np.asarray(inner.track), minlength=2 * tracks.TRACKS)
    assert (counts > 0).all()
    share = np.asarray(inner.car.s) / made()._lengths[np.asarray(inner.track)]
    assert abs(share.mean() - 0.5) < 0.08 and share.min() < 0.05 and share.max() > 0.95
    speed = jax.vmap(at)(inner.track, inner.car.s).speed
    np.testing.assert_allclose(inner.car.v_x, speed, rtol=1e-6)
    alone = reset(NOMINAL, keys(2, 256)[5])
    np.testing.assert_allclose(alone.obs, states.obs[5], atol=1e-5)


def test_observation_layout():
    world, state = made(), reset(NOMINAL, jax.random.PRNGKey(3))
    starts, ends = zip(*world.observation_layout.values())
    assert [*starts] == [0, *ends[:-1]] and ends[-1] == world.observation_size == SLOW + 1
    car, (left, right) = state.pipeline_state.car, edges(state)
    seen = np.asarray(state.obs[:8]) * race.UNITS
    expected = [car.e_y, car.e_psi, car.v_x, car.v_y, car.r, car.delta]
    np.testing.assert_allclose(
        seen, [*expected, left - car.e_y, right + car.e_y], rtol=1e-4, atol=1e-5
    )
    first, last = world.observation_layout["curvature"]
    kappa = [
        float(at(state.pipeline_state.track, car.s + distance).kappa) for distance in race.AHEAD
    ]
    np.testing.assert_allclose(np.asarray(state.obs[first:last]) / 20.0, kappa, atol=1e-6)
    assert np.abs(kappa).max() > 1e-3


@pytest.mark.slow
def test_plain_dials_and_no_jit_change_nothing_but_rounding():
    world = Race(friction=0.9)  # Python floats, as `envs.make` leaves them
    dials = NOMINAL.replace(friction=jnp.float32(0.9))
    plain, jitted = world.reset(jax.random.PRNGKey(4)), reset(dials, jax.random.PRNGKey(4))
    for action in (jnp.array([0.3, 0.5]), jnp.array([-0.2, -0.4])):
        plain, jitted = world.step(plain, action), step(dials, jitted, action)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, jitted)
    np.testing.assert_allclose(expert(world, plain), ask(dials, jitted), atol=1e-4)


def test_the_car_is_where_its_velocities_take_it(by_expert):
    """The drawn positions against the integral of speeds and yaw rate, in which no track occurs;
    cubic splines through the steps."""
    pictures = jax.jit(jax.vmap(lambda s: made().picture(s)["track"]))
    for car in range(3):
        states = jax.tree.map(lambda x, car=car: x[:400, car], by_expert)
        pose = np.asarray(pictures(states), float)[:, :3]
        inner = states.pipeline_state.car
        times = DT * np.arange(400)
        motion = CubicSpline(times, np.stack([inner.v_x, inner.v_y, inner.r], 1).astype(float))

        def rates(t, p, motion=motion):
            v_x, v_y, r = motion(t)
            cos, sin = np.cos(p[2]), np.sin(p[2])
            return [v_x * cos - v_y * sin, v_x * sin + v_y * cos, r]

        found = solve_ivp(rates, (0.0, times[-1]), pose[0], t_eval=times, rtol=1e-8, atol=1e-8).y.T
        assert np.hypot(*(found - pose)[:, :2].T).max() < 0.3  # of about 450 m
        assert np.abs(np.angle(np.exp(1j * (found - pose)[:, 2]))).max() < 5e-3


def test_a_lap_brings_the_car_back_and_pays_the_profiles_time(by_expert):
    """Progress adds up to the track's length, and the reward to the profile's lap time."""
    inner, progress = by_expert.pipeline_state, np.asarray(by_expert.metrics["progress"])
    cars = np.nonzero(progress.sum(0) > made()._lengths[inner.track[0]] + 20.0)[0]
    assert len(cars) > 10
    for car in cars:
        index, s = int(inner.track[0, car]), np.asarray(inner.car.s)[:, car]
        length = float(made()._lengths[index])
        gone = np.cumsum(progress[1:, car])
        lap = int(np.searchsorted(gone, length))
        assert 0 < lap < STEPS - 1 and (s >= 0.0).all() and (s < length).all()
        assert (s[1 + lap] - s[0]) % length < 2.0
        rows = made()._places.reshape(-1, made()._points + 1, 5)[index, :-1]
        profile = float(np.sum(length / len(rows) / rows[:, 3]))
        assert by_expert.reward[1 : 1 + lap, car].sum() * DT == pytest.approx(profile, rel=0.02)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_edge_and_kerb(calm, sign):
    half = edges(calm)[0 if sign > 0 else 1]

    def after(distance, side):
        state = step(
            CALM, place(calm, e_y=sign * (half + distance), side=sign * side, v_x=6.0), jnp.zeros(2)
        )
        assert float(state.metrics["cost"]) == abs(float(state.pipeline_state.side))
        assert float(state.metrics["off_road"]) == float(state.metrics["cost"])
        assert float(state.obs[SIDE]) == float(state.pipeline_state.side)
        return sign * float(state.pipeline_state.side)

    assert after(0.05, 0.0) == 1.0  # leaves
    assert after(-0.05, 0.0) == 0.0
    assert after(-KERB / 2, 0.0) == 0.0  # between kerb and edge it stays what it was
    assert after(-KERB / 2, 1.0) == 1.0
    assert after(-KERB + 0.05, 1.0) == 1.0
    assert after(-KERB - 0.05, 1.0) == 0.0  # comes back


def test_beyond_the_edge_there_is_less_grip(calm):
    """A steering step turns the car less on grass; with `grass=1` it is like the track."""

    def turned(dials, e_y):
        state = place(calm, e_y=e_y, side=float(e_y > 0.0), delta=0.2)
        return float(step(dials, state, jnp.array([0.4, 0.0])).pipeline_state.car.r)

    far = edges(calm)[0] + 1.0
    on, off = turned(CALM, 0.0), turned(CALM, far)
    same = turned(CALM.replace(grass=jnp.float32(1.0)), far)
    assert off < 0.7 * on and same == pytest.approx(on, rel=1e-3)


def test_a_ride_is_judged_by_nuplans_bounds(calm):
    """A step after one that was driven is compared with it; one after the barrier is not."""
    rows = {"gentle": [0.0, 0.05], "braking": [0.0, -1.0]}
    felt = {name: step(CALM, calm, jnp.array(action)) for name, action in rows.items()}
    assert {n: float(s.metrics["uncomfortable"]) for n, s in felt.items()} == {
        "gentle": 0.0, "braking": 1.0,
    }  # fmt: skip
    again = step(CALM, felt["gentle"], jnp.array([0.0, -0.5]))
    assert float(again.pipeline_state.felt.forward) > comfort.ACCEL[0]
    assert float(again.metrics["uncomfortable"]) == 1.0  # the jerk
    wall = place(calm, e_y=edges(calm)[0] + tracks.RUNOFF - 0.1, e_psi=0.6, side=1.0)
    assert float(step(CALM, wall, jnp.zeros(2)).pipeline_state.felt.known) == 0.0
    assert float(felt["gentle"].pipeline_state.felt.known) == 1.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_barrier_turns_the_car_and_costs_speed(calm, sign):
    half = edges(calm)[0 if sign > 0 else 1]
    wall = half + tracks.RUNOFF
    state = place(calm, e_y=sign * (wall - 0.1), e_psi=sign * 0.6, side=sign)
    hit = step(CALM, state, jnp.zeros(2))
    car = hit.pipeline_state.car
    assert float(hit.metrics["collision"]) == 1.0 == float(hit.metrics["cost"])
    assert abs(float(car.e_y)) == pytest.approx(wall, abs=0.02) and float(car.e_psi) == 0.0
    assert float(car.v_x) < 0.9 * 20.0 * np.cos(0.6) + 0.2
    free = step(CALM, place(calm, e_y=sign * (wall - 2.5), side=sign), jnp.zeros(2))
    assert float(free.metrics["collision"]) == 0.0 and float(free.pipeline_state.car.v_x) > 19.0


SPUN = [
    {"e_y": e_y, "v_x": 10.0, **car}
    for car in ({"v_y": 7.0}, {"v_y": -7.0}, {"e_psi": 1.7}, {"e_psi": -1.7})
    for e_y in (2.0, -2.0)
]


def test_a_spun_car_is_put_onto_the_grass_beside_it(calm):
    before = [place(calm, **car) for car in SPUN]
    states = jax.tree.map(lambda *x: jnp.stack(x * (256 // len(SPUN))), *before)
    states = drive(CALM, states, told(ASKED, ASKED))
    (left, right), car = edges(calm), states.pipeline_state.car
    for i, start in enumerate(SPUN):
        beyond = left + race.SET_BACK if start["e_y"] > 0 else -right - race.SET_BACK
        found = [float(part[0, i]) for part in car[1:]]
        np.testing.assert_allclose(found, [beyond, 0.0, race.MIN_SPEED, 0.0, 0.0, 0.0], atol=0.05)
        assert float(states.pipeline_state.side[0, i]) == np.sign(start["e_y"])
    failed = cost(states)
    assert failed[0].all() and not failed[Race.recovery_steps :].any()


def test_a_slow_car_fails_until_it_is_brisk(calm):
    speed = float(at(calm.pipeline_state.track, calm.pipeline_state.car.s).speed)

    def slow_after(share, slow):
        """At a steady share of the profile's speed."""
        state = place(calm, v_x=share * speed, pace=share, slow=slow)
        after = step(CALM, state, jnp.zeros(2))
        assert float(after.metrics["cost"]) == float(after.pipeline_state.slow)
        assert float(after.obs[SLOW]) == float(after.pipeline_state.slow)
        return float(after.pipeline_state.slow)

    assert slow_after(0.37, 0.0) == 1.0 and slow_after(0.43, 0.0) == 0.0
    assert slow_after(0.46, 1.0) == 1.0 and slow_after(0.54, 1.0) == 0.0


def test_neither_parking_nor_spinning_earns(by_expert):
    batch = 48 * len(LAZY)
    commands = jnp.repeat(jnp.array([*LAZY.values()]), 48, axis=0)
    reward, failed, observation, speed = (
        np.asarray(part).reshape(STEPS, len(LAZY), -1)
        for part in drive(
            NOMINAL,
            many(NOMINAL, keys(6, batch)),
            commands,
            STEPS,
            lambda s: (s.reward, s.metrics["cost"], s.obs, s.pipeline_state.car.v_x),
        )
    )
    assert np.isfinite(observation).all() and speed.max() <= race.MAX_SPEED + 1.0
    earned = np.asarray(by_expert.reward).mean()
    for i, what in enumerate(LAZY):
        assert reward[:, i].mean() < 0.1 * earned, what
        assert failed[:, i].mean() > 0.85 + cost(by_expert).mean(), what


def test_the_car_cannot_stop_and_does_not_exceed_its_top_speed(calm):
    slow = place(calm, v_x=race.MIN_SPEED)
    after = step(CALM, slow, jnp.array([0.0, -1.0]))
    assert float(after.pipeline_state.car.v_x) >= race.MIN_SPEED - 1e-3
    fast = step(CALM, place(calm, v_x=race.MAX_SPEED), jnp.array([0.0, 1.0]))
    assert float(fast.pipeline_state.car.v_x) <= race.MAX_SPEED + 1e-3
    braked = step(CALM, place(calm, v_x=20.0), jnp.array([0.0, -1.0]))
    assert float(braked.pipeline_state.car.v_x) == pytest.approx(20.0 - 5.0 * DT, abs=1e-2)


def test_numbers_of_any_driver_are_sound(by_wild):
    failed, graded = cost(by_wild), np.asarray(by_wild.metrics["graded_cost"])
    inner = by_wild.pipeline_state
    for leaf in jax.tree.leaves((by_wild.obs, inner.car, by_wild.metrics, by_wild.reward)):
        assert np.isfinite(leaf).all()
    assert not by_wild.done.any() and set(np.unique(failed)) == {0.0, 1.0}
    np.testing.assert_array_equal(failed, np.maximum(np.abs(inner.side), inner.slow))
    np.testing.assert_array_equal(failed, np.abs(by_wild.obs[..., [SIDE, SLOW]]).max(-1))
    assert (graded >= 0).all() and (graded <= 1).all() and (graded[failed == 1] == 1).all()
    rows = jax.vmap(jax.vmap(at))(inner.track, inner.car.s)
    e_y = inner.car.e_y
    assert (e_y <= rows.left + tracks.RUNOFF + 1e-4).all()
    assert (e_y >= -rows.right - tracks.RUNOFF - 1e-4).all()
    assert np.asarray(by_wild.metrics["collision"]).any()


def test_a_number_that_is_none_counts_as_no_success(calm):
    broken = step(CALM, calm, jnp.array([jnp.nan, 0.0]))
    assert all(np.isnan(float(broken.metrics[name])) for name in ("cost", "graded_cost"))
    assert np.isnan(float(broken.reward))


def test_actions_are_clipped(calm):
    np.testing.assert_array_equal(
        step(CALM, calm, jnp.array([7.0, -9.0])).obs, step(CALM, calm, jnp.array([1.0, -1.0])).obs
    )


def test_delay_shifts_actions(calm):
    late = CALM.replace(delay=jnp.float32(DT))
    first, second = jnp.array([0.2, 0.1]), jnp.array([-0.1, 0.3])
    delayed = step(late, step(late, calm, first), second)
    prompt = step(CALM, step(CALM, calm, jnp.zeros(2)), first)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        delayed.pipeline_state.car,
        prompt.pipeline_state.car,
    )


def test_sensor_noise_is_of_its_size_and_spares_the_flags(calm):
    noisy = NOMINAL.replace(sensor_noise=jnp.float32(0.1))
    off = place(calm, e_y=edges(calm)[0] + 1.0, side=1.0, v_x=10.0)
    draws = []
    for i in range(200):
        inner = off.pipeline_state.replace(key=jax.random.PRNGKey(i))
        state = off.replace(pipeline_state=inner)
        draws.append(step(noisy, state, jnp.zeros(2)).obs - step(NOMINAL, state, jnp.zeros(2)).obs)
    draws = np.array(draws)
    assert not draws[:, [SIDE, SLOW]].any()
    rest = draws[:, :SIDE]
    assert rest.std() == pytest.approx(0.1, rel=0.05) and abs(rest.mean()) < 0.01
    assert abs(np.corrcoef(rest[:, 0], rest[:, 1])[0, 1]) < 0.3


@pytest.mark.slow
def test_dials_are_data_and_each_matters():
    changes = {
        "noise": 0.1,
        "sensor_noise": 0.1,
        "reacquisition": 0.25,
        "friction": 0.5,
        "grass": 0.25,
        "mass": 1.5,
        "crosswind": 8.0,
        "delay": 0.1,
    }
    assert set(changes) == set(dial_fields(Race().dials))

    def seen(dials):
        return np.asarray(drive(dials, many(NOMINAL, keys(7, 256)), told(*ASTRAY)).obs)

    nominal = seen(NOMINAL)
    compiled = drive._cache_size()
    for name, value in changes.items():
        changed = seen(NOMINAL.replace(**{name: jnp.float32(value)}))
        assert np.isfinite(changed).all() and np.max(np.abs(changed - nominal)) > 1e-2, name
    assert drive._cache_size() == compiled


def test_reacquisition_returns_at_its_rate():
    dials = Race().dials_for("recoverable")
    failed = cost(drive(dials, many(dials, keys(8, 256)), told(*ASTRAY)))
    rate, off = float(dials.reacquisition), failed[:-1].sum()
    returns = ((failed[1:] == 0) & (failed[:-1] == 1)).sum()
    assert off > 1000 and abs(returns / off - rate) < 5 * np.sqrt(rate * (1 - rate) / off) + 0.01
    always = NOMINAL.replace(reacquisition=jnp.float32(1.0))
    assert not cost(drive(always, many(always, keys(8, 256)), told(*ASTRAY))).any()


def test_the_expert_stays_on_the_track_at_the_limit_of_friction(by_expert):
    assert cost(by_expert).mean() < 1e-3
    car, inner = by_expert.pipeline_state.car, by_expert.pipeline_state
    used = np.abs(car.v_x * car.r) / PEAK
    assert 0.83 < np.quantile(used, 0.95) < 0.92 and used.mean() > 0.5
    assert np.abs(car.e_y).mean() < 0.4
    profile = jax.vmap(jax.vmap(at))(inner.track, inner.car.s).speed
    assert 0.97 < np.mean(car.v_x / profile) < 1.03
    assert 0.97 < np.asarray(by_expert.reward).mean() < 1.03


@pytest.mark.slow
def test_the_expert_stays_on_the_track_4096_times_50_s():
    states = many(NOMINAL, keys(9, 4096))
    costs = drive(
        NOMINAL, states, told(ASKED, ASKED, count=4096), STEPS, lambda state: state.metrics["cost"]
    )
    assert float(costs.mean()) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"friction": 0.6}, {"friction": 1.5}, {"mass": 1.5}, {"crosswind": 8.0}]
)
def test_the_expert_knows_the_dials(change):
    dials = NOMINAL.replace(**{name: jnp.float32(value) for name, value in change.items()})
    states = drive(dials, many(dials, keys(10)), told(ASKED, ASKED, count=EPISODES), STEPS)
    assert cost(states).mean() < 0.01


@pytest.fixture(scope="module")
def lost(by_wild):
    """Failed states of 256 cars: as they leave the track, long off it, spun and slow."""
    starts = many(NOMINAL, keys(11, 256))
    failed = cost(by_wild)
    inner = starts.pipeline_state
    sliding = inner.replace(car=inner.car._replace(v_y=inner.car.v_x))
    spun = drive(NOMINAL, starts.replace(pipeline_state=sliding), told(ASKED, ASKED))
    slow = drive(NOMINAL, starts, told(ASKED, -1.0))
    return {
        "fresh": jax.tree.map(lambda x: x[failed.argmax(0), np.arange(256)], by_wild),
        "far": jax.tree.map(lambda x: x[-1], by_wild),
        "spun": jax.tree.map(lambda x: x[0], spun),
        "slow": jax.tree.map(lambda x: x[-1], slow),
    }


@pytest.mark.parametrize("where", ["fresh", "far", "spun", "slow"])
def test_the_expert_comes_back_within_u(lost, where):
    states = lost[where]
    failing = cost(states) == 1.0
    assert failing.sum() > 150
    after = cost(drive(NOMINAL, states, told(ASKED, ASKED)))[:, failing]
    u = Race.recovery_steps
    assert (after[:u] == 0).any(0).mean() >= 0.99
    # To stay: u bounds what an error costs in all.
    assert after.sum(0).mean() <= u and after[-1].mean() < 0.02


@pytest.mark.slow
def test_a_burst_of_random_actions_fails_after_the_latency():
    """The rule of `envs.robots.locomotion`: the shortest burst that makes a tenth of the episodes
    fail, and the median time from its last action."""

    @functools.partial(jax.jit, static_argnames="count")
    def first_failures(length, count=512):
        world, states = made(), many(NOMINAL, keys(12, count))

        def one(states, t):
            drawn = jax.random.fold_in(jax.random.PRNGKey(13), t)
            random = jax.random.uniform(drawn, (count, 2), minval=-1.0, maxval=1.0)
            asked = jax.vmap(lambda s: expert(world, s))(states)
            states = jax.vmap(world.step)(states, jnp.where(t < length, random, asked))
            return states, states.metrics["cost"]

        return jax.lax.scan(one, states, jnp.arange(120))[1]

    for length in range(4, 10):
        costs = np.asarray(first_failures(length))
        failed = costs.any(0)
        if failed.mean() >= 0.1:
            break
    times = costs.argmax(0)[failed] - (length - 1)
    assert Race.latency == pytest.approx(np.median(times), abs=5)


def test_a_track_from_a_file(tmp_path):
    shape = tracks.procedural(7)
    some = np.linspace(0, len(shape.kappa), 200, endpoint=False).astype(int)
    rows = np.stack([shape.x, shape.y, shape.right, shape.left], 1)[some]
    path = tmp_path / "mine.csv"
    np.savetxt(path, rows, delimiter=",", header="x_m,y_m,w_tr_right_m,w_tr_left_m")
    world = envs.make("race", track=str(path), friction=0.9)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"mine-{digest[:12]}.csv"
    assert world.source == {name: digest}
    assert world.chosen == {"track": name} and len(world._lengths) == 2
    contract.check_shapes(world)
    states = jax.jit(jax.vmap(world.reset))(keys(14, 32))
    assert set(np.asarray(states.pipeline_state.track)) == {0, 1}
    run = jax.jit(
        lambda states: jax.lax.scan(
            lambda s, _: (
                jax.vmap(lambda x: world.step(x, expert(world, x)))(s),
                s.metrics["cost"],
            ),
            states,
            length=400,
        )[1]
    )
    assert float(run(states).mean()) < 1e-2


@pytest.mark.parametrize(
    ("value", "message"),
    [("bnak", "must be one of bank | FILE.csv; nearest: bank"), ("none.csv", "cannot be read")],
)
def test_no_such_track(value, message):
    assert nearest("bnak", ("bank",)) == "bank"
    with pytest.raises(ValueError) as error:
        envs.make("race", track=value)
    assert message in str(error.value) and "\n" not in str(error.value)


def colour_of(frame, colour):
    return (frame == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)


def draw(state, failing=False, **more):
    picture = jax.device_get(made().picture(state))
    recent = [(1.0, float(failing))]
    return drawing.frame(made(), np.asarray(state.obs), picture, recent, **more)


def test_frames_show_the_car_where_it_is(calm):
    left, right = (draw(place(calm, e_y=e_y)) for e_y in (2.0, -2.0))
    scale = drawing.WIDTH / drawing.TRACK_SPAN
    columns = []
    for frame in (left, right):
        rows, across = np.nonzero(colour_of(frame, drawing.FINE))
        assert rows.mean() == pytest.approx(drawing.HEIGHT / 2, abs=2)  # the frame follows the car
        columns.append(across.mean())
        asphalt = np.nonzero(colour_of(frame, drawing.ASPHALT)[:, int(columns[-1])])[0]
        sign = 1.0 if frame is left else -1.0
        halves = edges(calm)
        middle = drawing.HEIGHT / 2 + scale * (sign * 2.0 - (halves[0] - halves[1]) / 2)
        assert (asphalt.min() + asphalt.max()) / 2 == pytest.approx(middle, abs=4)
        assert colour_of(frame, drawing.WOOD).sum() > 200
    assert columns[0] == pytest.approx(drawing.WIDTH / 2 - scale * drawing.TRACK_LEAD, abs=4)


def test_frames_show_failures_trails_and_ghosts(calm):
    pose = np.asarray(made().picture(calm)["track"])[:3]
    behind = pose - [10 * np.cos(pose[2]), 10 * np.sin(pose[2]), 0.0]
    failing = draw(calm, failing=True)
    assert colour_of(failing, drawing.FAILING).sum() > 100
    assert not colour_of(failing, drawing.FINE).any()
    ghost = draw(calm, ghosts=[behind, pose * np.nan])
    assert colour_of(ghost, drawing.GHOST).sum() > 50
    trail = np.stack([[*behind[:2], 0.0], [*pose[:2], 1.0]])
    assert colour_of(draw(calm, trail=trail), drawing.FAILING).sum() > 50
    assert drawing.seconds(made()) == DT


def test_a_clip_shows_the_whole_way(by_expert):
    states = jax.tree.map(lambda x: x[:200, 0], by_expert)
    picture = jax.device_get(jax.jit(jax.vmap(made().picture))(states))
    found = drawing.clip(picture)
    assert len(found["frames"]) == 200 and found["span"] == drawing.TRACK_SPAN
    rails = np.concatenate([row["points"] for row in found["still"] if row["kind"] == "rail"])
    for lines in found["frames"]:
        middle = np.mean(lines[0]["points"], 0)
        assert 6.0 < np.linalg.norm(rails - middle, axis=1).min() < 10.0  # a barrier beside it
