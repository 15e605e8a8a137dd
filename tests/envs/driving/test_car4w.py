"""The car on four wheels: its physics against MuJoCo's own, the frame of the lane, costs and the
way back, dials, and the expert's claims."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs
from envs import contract
from envs.core import dial_fields
from envs.driving import car4w, road, vehicle
from envs.driving.car4w import BRISK, EDGE, KERB, RADIUS, SET_BACK, SLOW, Car4w
from envs.driving.lane_keep import DT, MAX_ACCEL, MAX_STEER, SPEED

STEPS, CARS = 80, 16
NOMINAL = Car4w().dials_for("nominal")
CALM = NOMINAL.replace(crosswind=jnp.float32(0.0))
KEYS = jax.random.split(jax.random.PRNGKey(3), CARS)
# What a driver does: the expert's action times `own`, plus `fixed`, plus `wild` times a draw.
EXPERT = {"own": 1.0, "fixed": jnp.zeros(2), "wild": 0.0}


def constant(*action):
    return {"own": 0.0, "fixed": jnp.asarray(action, jnp.float32), "wild": 0.0}


@functools.cache
def starts():
    return jax.jit(jax.vmap(Car4w().bind(CALM).reset))(KEYS)


@jax.jit
def drive(dials, states, driver):
    """Drives `CARS` cars for `STEPS` steps and returns the states, [STEPS, CARS, ...]. One
    compilation serves all tests, because dials and drivers are data."""
    world = Car4w().bind(dials)

    def act(state):
        drawn = jax.random.uniform(state.pipeline_state.key, (2,), minval=-1.0, maxval=1.0)
        own = driver["own"] * world.expert(state, state.pipeline_state.key)
        return own + driver["fixed"] + driver["wild"] * drawn

    def step(states, _):
        states = jax.vmap(lambda s: world.step(s, act(s)))(states)
        return states, states

    return jax.lax.scan(step, states, None, length=STEPS)[1]


def placed(states, e_y=0.0, e_psi=0.0, speed=SPEED, knots=None):
    """The cars of `states`, each put to a place; numbers or float[CARS]."""
    inner = states.pipeline_state
    e_y, e_psi, speed = (jnp.broadcast_to(jnp.float32(x), CARS) for x in (e_y, e_psi, speed))
    q, qd = jax.vmap(Car4w().at)(e_y, e_psi, speed)
    side = jnp.where(jnp.abs(e_y) > EDGE, jnp.sign(e_y), 0.0)
    knots = inner.knots if knots is None else knots
    return states.replace(pipeline_state=inner.replace(q=q, qd=qd, side=side, knots=knots))


def world_poses(states):
    """x, y and heading in the plane of the cars of a drive, float[STEPS, CARS], from their place on
    the road: the centre line integrated finely, and the offset across it."""
    inner = states.pipeline_state
    out = []
    for car in range(4):
        s = np.asarray(inner.s[:, car], np.float64)
        grid = np.linspace(0.0, s.max() + 1.0, 60_001)
        knots = np.asarray(inner.knots[0, car], np.float64)
        kappa = np.interp(grid, np.arange(road.KNOTS) * road.SPACING, knots)
        h = grid[1]
        turn = np.concatenate([[0.0], np.cumsum((kappa[1:] + kappa[:-1]) / 2 * h)])
        x, y = (
            np.concatenate([[0.0], np.cumsum((f(turn)[1:] + f(turn)[:-1]) / 2 * h)])
            for f in (np.cos, np.sin)
        )
        e_y = np.asarray(inner.q[:, car, 1], np.float64)
        at = [np.interp(s, grid, v) for v in (x, y, turn)]
        yaw = np.asarray(jax.vmap(car4w._yaw)(inner.q[:, car]))
        out.append((at[0] - e_y * np.sin(at[2]), at[1] + e_y * np.cos(at[2]), at[2] + yaw))
    return np.moveaxis(np.array(out), 0, 2)


def native(states, car, actions, dials):
    """The same car in MuJoCo itself, in float64 and in the plane, without a lane: x, y, heading
    and roof height [steps, 4]."""
    model = mujoco.MjModel.from_xml_string(car4w.MODEL)
    # MuJoCo searches along a line in another way and needs more steps than MJX.
    model.opt.iterations, model.opt.ls_iterations = 100, 50
    model.body_mass[car4w.BODY] *= dials.mass
    model.body_inertia[car4w.BODY] *= dials.mass
    model.pair_friction[:, :2] *= dials.friction
    data = mujoco.MjData(model)
    inner = jax.tree.map(lambda x: np.asarray(x[car], np.float64), states.pipeline_state)
    data.qpos[:], data.qvel[:] = inner.q, inner.qd
    delta, out = 0.0, []
    weight = float(dials.mass) * car4w.SPRUNG + 4 * car4w.UNSPRUNG
    spins = [model.joint(f"spin_{name}").dofadr[0] for name in car4w.CORNERS]
    for steer, accel in np.clip(np.asarray(actions, np.float64), -1.0, 1.0):
        w, x, y, z = data.qpos[3:7]
        yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        forward = np.cos(yaw) * data.qvel[0] + np.sin(yaw) * data.qvel[1]
        brake, drive_ = (float(a) for a in vehicle.longitudinal_limits(dials.friction))
        a = np.clip(accel * MAX_ACCEL, -0.95 * brake, 0.95 * drive_)
        a = min(a, car4w.GOVERNOR * (car4w.MAX_SPEED - forward))
        for _ in range(car4w.SUBSTEPS):
            h = DT / car4w.SUBSTEPS
            delta += h * np.clip((steer * MAX_STEER - delta) / 0.1, -0.4, 0.4)
            surface = RADIUS * data.qvel[spins]
            if a >= 0:
                torque = weight * RADIUS * a / 2 * np.array([0.0, 0.0, 1.0, 1.0])
            else:
                share = np.array([0.66, 0.66, 0.34, 0.34])
                torque = weight * RADIUS * a / 2 * share * np.clip(surface / 0.5, -1, 1)
            data.ctrl[:] = [delta, delta, *torque]
            mujoco.mj_step(model, data)
        w, x, y, z = data.qpos[3:7]
        yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        out.append([data.qpos[0], data.qpos[1], yaw, data.qpos[2]])
    return np.array(out)


@pytest.mark.parametrize("dials", [{}, {"friction": 0.5}, {"mass": 1.4}])
@pytest.mark.parametrize("driver", ["expert", "swerving", "braking"])
def test_a_drive_is_that_of_mujoco_in_the_plane(dials, driver):
    """MJX in float32 and in the lane's frame, against MuJoCo in float64 in the plane with the same
    actions. Sliding wheels feel how the pyramid of friction lies, which is along the lane, so these
    are compared on a straight one."""
    dials = CALM.replace(**{name: jnp.float32(value) for name, value in dials.items()})
    straight = jnp.zeros((CARS, road.KNOTS))
    begun = placed(starts(), knots=None if driver == "expert" else straight)
    drivers = {
        "expert": EXPERT | {"wild": 0.1},
        "swerving": constant(0.6, 0.2),  # more than half of the friction holds
        "braking": constant(0.0, -1.0),
    }
    driven = drive(dials, begun, drivers[driver])
    back = np.asarray(driven.metrics["set_back"])[:, :4] > 0.0
    until = np.where(back.any(0), np.minimum(back.argmax(0), 40), 40)
    assert until.min() >= (6 if driver == "swerving" else 40)
    actions = np.asarray(driven.pipeline_state.past)[:, :, 0]
    poses = world_poses(driven)
    for car, steps in enumerate(until):
        reference = native(begun, car, actions[:steps, car], dials)
        x, y, heading = poses[:, :steps, car]
        np.testing.assert_allclose(np.stack([x, y], 1), reference[:, :2], atol=0.02)
        error = (heading - reference[:, 2] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(error, 0.0, atol=5e-3)
        height = np.asarray(driven.pipeline_state.q)[:steps, car, 2]
        np.testing.assert_allclose(height, reference[:, 3], atol=2e-3)


def test_the_model_has_the_sizes_of_the_single_track_car():
    model, data = car4w.load().native, mujoco.MjData(car4w.load().native)
    data.qpos[:] = np.asarray(Car4w().at(0.0, 0.0, 0.0)[0])
    mujoco.mj_forward(model, data)
    assert model.body_subtreemass[0] == pytest.approx(vehicle.MASS, rel=1e-6)
    dense = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, dense)
    assert dense[5, 5] == pytest.approx(vehicle.YAW_INERTIA, rel=1e-6)
    for _ in range(2000):  # the springs carry the body at its height, level
        mujoco.mj_step(model, data)
    assert abs(data.qpos[2] - vehicle.HEIGHT) < 0.005
    assert abs(data.qpos[4]) < 1e-3 and abs(data.qpos[5]) < 2e-3
    loads = np.abs(data.efc_force).sum()
    assert loads >= vehicle.MASS * vehicle.GRAVITY * 0.99


def test_it_keeps_the_contract():
    assert contract.check(envs.make("car4w")) == ()


def test_an_episode_starts_on_a_new_road_near_the_lanes_middle():
    inner = starts().pipeline_state
    assert np.abs(np.asarray(inner.q[:, 1])).max() < 0.6
    assert len(np.unique(np.asarray(inner.knots[:, 0]))) > CARS / 2
    assert not np.asarray(starts().metrics["cost"]).any()


def test_the_observation_shows_the_car_and_the_lane():
    states = drive(NOMINAL, starts(), EXPERT | {"wild": 0.2})
    inner = states.pipeline_state
    car = jax.vmap(jax.vmap(Car4w()._car))(inner)
    shown = np.asarray(states.obs)
    assert shown.shape[-1] == Car4w().observation_size == 21
    for entry, value in enumerate((car.e_y, car.e_psi, car.v_x - SPEED, car.v_y, car.r, car.delta)):
        np.testing.assert_allclose(shown[..., entry], value, atol=1e-6)
    np.testing.assert_array_equal(shown[..., -2], inner.side)
    np.testing.assert_array_equal(shown[..., -1], inner.slow)
    # Roll and pitch against the matrix of the quaternion.
    q = np.asarray(inner.q[-1], np.float64)
    for row, seen in zip(q, shown[-1], strict=True):
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, row[3:7])
        matrix = matrix.reshape(3, 3)
        assert seen[6] == pytest.approx(np.arctan2(matrix[2, 1], matrix[2, 2]), abs=1e-5)
        assert seen[7] == pytest.approx(-np.arcsin(matrix[2, 0]), abs=1e-5)


def test_the_foot_on_the_lane_is_the_nearest_point():
    """Against a fine grid of points of the centre line."""
    rng = np.random.default_rng(0)
    find = jax.jit(road.foot)
    for _ in range(20):
        local = rng.uniform(-road.MAX_CURVATURE, road.MAX_CURVATURE, 4)
        x, ahead, left = rng.uniform(20.0, 40.0), rng.uniform(-2.0, 3.0), rng.uniform(-6.0, 6.0)
        d = np.linspace(-4.0, 5.0, 9001)
        kappa = np.interp(x + d, np.arange(4) * road.SPACING, local)
        turn = np.cumsum(kappa) * (d[1] - d[0])
        turn -= np.interp(0.0, d, turn)
        east, north = (
            np.cumsum(np.cos(turn)) * (d[1] - d[0]),
            np.cumsum(np.sin(turn)) * (d[1] - d[0]),
        )
        east, north = east - np.interp(0.0, d, east), north - np.interp(0.0, d, north)
        nearest = np.argmin(np.hypot(east - ahead, north - left))
        place, offset = find(jnp.float32(local), jnp.float32(x), ahead, left)
        assert float(place) == pytest.approx(d[nearest], abs=5e-3)
        distance = np.hypot(east - ahead, north - left)[nearest]
        assert abs(float(offset)) == pytest.approx(distance, abs=2e-3)
        assert np.sign(offset) == np.sign(left) or distance < 0.05


def test_the_expert_keeps_the_lane_under_wind():
    states = drive(NOMINAL, starts(), EXPERT)
    metrics = states.metrics
    assert not np.asarray(metrics["cost"]).any() and not np.asarray(metrics["set_back"]).any()
    assert np.abs(np.asarray(states.pipeline_state.q[..., 1])).mean() < 0.12
    assert float(states.reward.mean()) > 0.97
    assert np.asarray(metrics["uncomfortable"]).mean() < 0.01


def test_a_failure_begins_beyond_the_edge_and_ends_within_the_kerb():
    offset = np.linspace(-1.75, 1.75, CARS)
    states = drive(CALM, placed(starts(), e_y=offset), EXPERT)
    cost = np.asarray(states.metrics["cost"])
    e_y = np.abs(np.asarray(states.pipeline_state.q[..., 1]))
    before = np.concatenate([(np.abs(offset) > EDGE)[None], cost[:-1] > 0.0])
    expected = np.where(before, e_y >= KERB, e_y > EDGE)
    np.testing.assert_array_equal(cost > 0.0, expected)
    assert cost[0].any() and not cost[-1].any()  # the expert drives back


def test_a_standing_car_fails_until_it_is_brisk_again():
    states = drive(CALM, starts(), constant(0.0, -1.0))
    speed = np.asarray(states.metrics["progress"]) / DT
    slow = np.asarray(states.obs[..., -1])
    lost = np.asarray(states.metrics["set_back"]) > 0.0
    before = np.concatenate([np.zeros((1, CARS)), slow[:-1]])
    expected = (speed < np.where(before > 0.0, BRISK, SLOW)) & ~lost
    np.testing.assert_array_equal(slow > 0.0, expected)
    assert slow[-1].all() and np.abs(speed[-1]).max() < 0.1
    # Full braking is beyond nuPlan's bounds; standing is not.
    uncomfortable = np.asarray(states.metrics["uncomfortable"])
    assert uncomfortable[:5].all() and not uncomfortable[-20:].any()
    # The brakes hold the car, and do not drive it backwards.
    assert np.asarray(states.pipeline_state.qd[-20:, :, 0]).min() > -0.05
    last = jax.tree.map(lambda x: x[-1], states)
    again = drive(CALM, last, EXPERT)
    assert not np.asarray(again.metrics["cost"])[-1].any()


@pytest.mark.parametrize("action", [(0.0, -1.0), (1.0, 0.0), (1.0, 1.0), (-1.0, 0.3)])
def test_no_policy_earns_by_parking_or_spinning(action):
    states = drive(NOMINAL, starts(), constant(*action))
    assert np.isfinite(np.asarray(states.obs)).all()
    assert np.asarray(states.metrics["cost"])[40:].mean() > 0.9
    assert np.asarray(states.reward)[40:].mean() < 0.05


def test_a_car_that_rolls_over_hits_the_rail_or_turns_round_is_set_back_on_its_wheels():
    heading = jnp.where(jnp.arange(CARS) % 2 == 0, 2.0, 0.0)
    begun = placed(starts(), e_y=jnp.where(heading > 0.0, 0.5, 2.0), e_psi=heading)
    tipped = begun.pipeline_state.q.at[:8, 3:7].set(jnp.array([0.5, 0.866, 0.0, 0.0]))
    tipped = tipped.at[:8, 1].set(0.0).at[:8, 2].set(1.0)
    begun = begun.replace(pipeline_state=begun.pipeline_state.replace(q=tipped))
    first = jax.tree.map(lambda x: x[0], drive(CALM, begun, EXPERT))
    assert np.asarray(first.metrics["set_back"]).all() and np.asarray(first.metrics["cost"]).all()
    q = np.asarray(first.pipeline_state.q)
    np.testing.assert_allclose(np.abs(q[:, 1]), SET_BACK)
    np.testing.assert_allclose(q[:, 3], 1.0)
    assert not np.asarray(first.pipeline_state.felt.known).any()


def test_reacquisition_puts_a_failed_car_back_on_the_lane():
    dials = CALM.replace(reacquisition=jnp.float32(1.0))
    states = drive(dials, placed(starts(), e_y=1.5), EXPERT)
    assert not np.asarray(states.metrics["cost"]).any()
    np.testing.assert_allclose(states.pipeline_state.q[0, :, 1], 0.0)


@pytest.mark.parametrize(
    ("dial", "value"),
    [("noise", 0.3), ("sensor_noise", 0.1), ("friction", 0.4), ("mass", 1.5), ("crosswind", 12.0),
     ("delay", 0.2), ("reacquisition", 1.0)],
)  # fmt: skip
def test_every_dial_acts_without_compiling_again(dial, value):
    assert dial in dial_fields(NOMINAL)
    dials = CALM.replace(**{dial: jnp.float32(value)})
    begun = placed(starts(), e_y=1.5 if dial == "reacquisition" else 0.3)
    driver = constant(0.2, -1.0) if dial in ("friction", "mass") else EXPERT
    usual = drive(CALM, begun, driver)
    count = drive._cache_size()
    changed = drive(dials, begun, driver)
    assert np.abs(np.asarray(usual.obs - changed.obs)).max() > 1e-3
    assert drive._cache_size() == count


def test_an_action_that_is_not_a_number_is_no_success():
    states = drive(CALM, starts(), constant(np.nan, 0.0))
    assert np.isnan(np.asarray(states.metrics["cost"])).all()
    assert np.isnan(np.asarray(states.reward)).all()


def test_a_car_alone_moves_as_in_a_batch():
    state = jax.tree.map(lambda x: x[0], starts())
    stepped = jax.jit(Car4w().bind(CALM).step)(state, jnp.array([0.1, 0.2]))
    batch = drive(CALM, starts(), constant(0.1, 0.2))
    np.testing.assert_allclose(stepped.obs, batch.obs[0, 0], atol=1e-4)


def test_the_picture_is_that_of_the_road():
    state = jax.tree.map(lambda x: x[0], starts())
    picture = Car4w().picture(state)["road"]
    assert picture.shape == (3 + road.KNOTS,)
    assert set(Car4w().whereabouts(state)) == {"curvature [1/m]", "lateral offset [m]"}


@pytest.mark.slow
def test_the_expert_undoes_99_percent_of_failures_within_u():
    """Of cars off the lane between the rails, and of cars that a driver braked and steered until
    they failed."""
    rng = np.random.default_rng(1)
    back = []
    for batch in range(32):
        if batch % 2:
            e_y = rng.uniform(EDGE, 1.75, CARS) * rng.choice([-1, 1], CARS)
            speed, e_psi = rng.uniform(4.0, 12.0, CARS), rng.uniform(-0.3, 0.3, CARS)
            begun = placed(starts(), e_y=e_y, e_psi=e_psi, speed=speed)
        else:
            steer = rng.uniform(0.05, 0.3) * rng.choice([-1, 1])
            fresh = jax.vmap(Car4w().bind(NOMINAL).reset)(
                jax.random.split(jax.random.PRNGKey(batch), CARS)
            )
            driven = drive(NOMINAL, fresh, constant(steer, rng.uniform(-1.0, 0.0)))
            begun = jax.tree.map(lambda x: x[40], driven)
        failed = np.asarray(begun.pipeline_state.side != 0.0) | (np.asarray(begun.obs[:, -1]) > 0.0)
        cost = np.asarray(drive(NOMINAL, begun, EXPERT).metrics["cost"])
        last = np.where(cost.any(0), STEPS - np.argmax(cost[::-1] > 0.0, axis=0), 0)
        back.append(last[failed])
    back = np.concatenate(back)
    assert len(back) > 400 and np.mean(back <= Car4w.recovery_steps) >= 0.99
