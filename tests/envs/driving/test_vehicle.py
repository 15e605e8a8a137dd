"""The car against its published reference, an adaptive integrator and Cartesian coordinates;
steady cornering; the road."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from vehiclemodels.parameters_vehicle2 import parameters_vehicle2
from vehiclemodels.utils import tire_model
from vehiclemodels.vehicle_dynamics_std import vehicle_dynamics_std

from envs.driving import road, vehicle
from envs.driving.vehicle import Car, Inputs

pytestmark = pytest.mark.usefixtures("quick_compilation")

STATES = 500
TYRE = parameters_vehicle2().tire


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def inputs(**changes: float) -> Inputs:
    return Inputs(
        **{
            "steer": 0.0,
            "accel": 0.0,
            "pull": 0.0,
            "wind": 0.0,
            "slope": 0.0,
            "friction": 1.0,
            "mass": 1.0,
        }
        | changes
    )


def random_cars(seed: int) -> list[Car]:
    """Moving cars, up to large slip; Python floats."""
    rng = np.random.default_rng(seed)
    low = np.array([0.0, -3.0, -0.6, 3.0, -2.0, -1.0, -0.4])
    high = np.array([100.0, 3.0, 0.6, 25.0, 2.0, 1.0, 0.4])
    return [Car(*row.tolist()) for row in rng.uniform(low, high, (STATES, 7))]


def reference_state(car: Car, omega_f: float, omega_r: float) -> list[float]:
    """State of the package's drift model, at the origin: x, y, delta, v, yaw, yaw rate, slip
    angle, wheel speeds."""
    speed, slip = math.hypot(car.v_x, car.v_y), math.atan2(car.v_y, car.v_x)
    return [0.0, 0.0, car.delta, speed, car.e_psi, car.r, slip, omega_f, omega_r]


def wheel_speeds(car: Car) -> tuple[float, float]:
    """Longitudinal speed [m/s] of front and rear contact patch in the wheel's frame."""
    front = car.v_x * math.cos(car.delta) + (car.v_y + vehicle.FRONT * car.r) * math.sin(car.delta)
    return front, car.v_x


def polar(car: Car, v_x: float, v_y: float) -> tuple[float, float]:
    """(v', beta') [m/s², rad/s] from (v_x', v_y')."""
    speed = math.hypot(car.v_x, car.v_y)
    return (car.v_x * v_x + car.v_y * v_y) / speed, (car.v_x * v_y - car.v_y * v_x) / speed**2


def test_numbers_are_the_published_ones():
    p = parameters_vehicle2()
    ours = (
        vehicle.MASS,
        vehicle.YAW_INERTIA,
        vehicle.FRONT,
        vehicle.REAR,
        vehicle.HEIGHT,
        vehicle.BRAKE_FRONT,
    )
    assert ours == (p.m, p.I_z, p.a, p.b, p.h_s, p.T_sb) and p.T_se == 0
    tyre = (vehicle.TYRE_C, vehicle.TYRE_D, vehicle.TYRE_E, vehicle.TYRE_K)
    assert tyre == (p.tire.p_cy1, p.tire.p_dy1, p.tire.p_ey1, p.tire.p_ky1)


def test_tyre_force_matches_reference():
    rng = np.random.default_rng(0)
    alpha, load = rng.uniform(-1.5, 1.5, 2000), rng.uniform(100.0, 12000.0, 2000)
    expected = [tire_model.formula_lateral(a, 0.0, f, TYRE)[0] for a, f in zip(alpha, load)]
    np.testing.assert_allclose(vehicle.tyre_lateral(alpha, load), expected, rtol=1e-9)
    # Less friction scales the peak and leaves the slope at the origin.
    assert (
        np.max(np.abs(vehicle.tyre_lateral(alpha, load, 0.5))) <= 0.5 * vehicle.TYRE_D * load.max()
    )
    small = 1e-6
    ratio = vehicle.tyre_lateral(small, 3000.0, 0.5) / vehicle.tyre_lateral(small, 3000.0)
    np.testing.assert_allclose(ratio, 1.0, rtol=1e-6)


def test_rigid_body_matches_reference_under_combined_slip():
    """`axle_loads` and `newton_euler` under the package's own tyre forces, with throttle, brakes
    and spinning wheels."""
    p, rng = parameters_vehicle2(), np.random.default_rng(1)
    body = jax.jit(vehicle.newton_euler)
    for car in random_cars(1):
        accel = float(rng.uniform(-8.0, 3.0))
        u_f, u_r = wheel_speeds(car)
        omega_f, omega_r = ((u / p.R_w * float(rng.uniform(0.8, 1.1))) for u in (u_f, u_r))
        expected = vehicle_dynamics_std(reference_state(car, omega_f, omega_r), [0.0, accel], p)

        forces = []
        angles = (
            math.atan((car.v_y + vehicle.FRONT * car.r) / car.v_x) - car.delta,
            math.atan((car.v_y - vehicle.REAR * car.r) / car.v_x),
        )
        speeds, omegas = (u_f, u_r), (omega_f, omega_r)
        for alpha, u, omega, load in zip(angles, speeds, omegas, vehicle.axle_loads(accel, 1.0)):
            slip = 1.0 - p.R_w * omega / max(u, 0.1)
            pure_y, mu = tire_model.formula_lateral(alpha, 0.0, load, p.tire)
            pure_x = tire_model.formula_longitudinal(slip, 0.0, load, p.tire)
            forces.append(tire_model.formula_longitudinal_comb(slip, alpha, pure_x, p.tire))
            forces.append(
                tire_model.formula_lateral_comb(slip, alpha, 0.0, mu, load, pure_y, p.tire)
            )
        v_x, v_y, r = (float(x) for x in body(car, car.delta, *forces, 0.0, 0.0, 1.0))
        v, beta = polar(car, v_x, v_y)
        np.testing.assert_allclose(
            [v, r, beta], [expected[3], expected[5], expected[6]], rtol=1e-9, atol=1e-12
        )


def test_right_hand_side_matches_reference():
    """`derivative` as a whole, coasting on a straight lane: slip angles, loads, tyres, rigid
    body and kinematics."""
    p = parameters_vehicle2()
    p.tire.p_hx1 = p.tire.p_vx1 = 0.0  # no longitudinal force from a freely rolling wheel
    f = jax.jit(vehicle.derivative)
    rate = 0.1
    for car in random_cars(2):
        u_f, u_r = wheel_speeds(car)
        expected = vehicle_dynamics_std(
            reference_state(car, u_f / p.R_w, u_r / p.R_w), [rate, 0.0], p
        )
        ours = Car(*map(float, f(car, inputs(steer=car.delta + rate * vehicle.STEER_LAG), 0.0)))
        v, beta = polar(car, ours.v_x, ours.v_y)
        values = [ours.s, ours.e_y, ours.delta, v, ours.e_psi, ours.r, beta]
        np.testing.assert_allclose(values, expected[:7], rtol=1e-9, atol=1e-12)


def test_axle_loads():
    for accel in (-5.0, 0.0, 5.0):
        front, rear = vehicle.axle_loads(accel, 1.3)
        assert front + rear == pytest.approx(1.3 * vehicle.MASS * vehicle.GRAVITY)
        # Moments about the centre of gravity: the tyres push with m a at the height of the ground.
        moment = (
            front * vehicle.FRONT
            - rear * vehicle.REAR
            + 1.3 * vehicle.MASS * accel * vehicle.HEIGHT
        )
        assert moment == pytest.approx(0.0, abs=1e-9 * front)


def cartesian(t: float, pose: np.ndarray, u: Inputs) -> np.ndarray:
    """Right-hand side in world coordinates (x, y, yaw, v_x, v_y, r, delta), in NumPy with the
    package's tyre: an oracle."""
    _, _, yaw, v_x, v_y, r, delta = pose
    total, wheel = u.mass * vehicle.MASS, delta + u.pull
    transfer = total * u.accel * vehicle.HEIGHT / vehicle.WHEELBASE
    load_f = total * vehicle.GRAVITY * vehicle.REAR / vehicle.WHEELBASE - transfer
    load_r = total * vehicle.GRAVITY * vehicle.FRONT / vehicle.WHEELBASE + transfer
    share = 0.66 if u.accel < 0 else 0.0

    def axle(alpha, load, f_x):
        return tire_model.formula_lateral(alpha, 0.0, load, TYRE)[0] * math.sqrt(
            max(0.0, 1 - (f_x / (TYRE.p_dy1 * load)) ** 2)
        )

    x_f, x_r = total * u.accel * share, total * u.accel * (1 - share)
    y_f = axle(math.atan((v_y + vehicle.FRONT * r) / v_x) - wheel, load_f, x_f)
    y_r = axle(math.atan((v_y - vehicle.REAR * r) / v_x), load_r, x_r)
    c, s = math.cos(wheel), math.sin(wheel)
    return np.array(
        [
            v_x * math.cos(yaw) - v_y * math.sin(yaw),
            v_x * math.sin(yaw) + v_y * math.cos(yaw),
            r,
            (x_f * c - y_f * s + x_r) / total + v_y * r,
            (x_f * s + y_f * c + y_r + u.wind) / total + u.slope - v_x * r,
            (vehicle.FRONT * (x_f * s + y_f * c) - vehicle.REAR * y_r + vehicle.WIND_ARM * u.wind)
            / (u.mass * vehicle.YAW_INERTIA),
            float(
                np.clip(
                    (u.steer - delta) / vehicle.STEER_LAG, -vehicle.STEER_RATE, vehicle.STEER_RATE
                )
            ),
        ]
    )


def centre_line(knots: np.ndarray, length: float):
    """Dense solution s -> (x, y, heading) of the lane's centre line, integrated from the knots
    alone."""
    edges = np.arange(len(knots) + 1) * road.SPACING
    values = np.append(knots, knots[0])

    def f(s, pose):
        return [math.cos(pose[2]), math.sin(pose[2]), np.interp(s, edges, values)]

    return solve_ivp(
        f,
        (0.0, length),
        [0.0, 0.0, 0.0],
        "DOP853",
        rtol=1e-11,
        atol=1e-11,
        dense_output=True,
        max_step=2.0,
    ).sol


# Steering targets [rad], accelerations [m/s²], a start speed [m/s] and the error allowed in
# position after 5 s [m].
MANOEUVRES = {
    "gentle": (lambda t: 0.03 * math.sin(1.5 * t), lambda t: 0.5 * math.cos(t), 10.0, 1e-4),
    "lane change with brakes": (lambda t: 0.12 * math.sin(2.5 * t), lambda t: -1.5, 14.0, 1e-3),
    "at the limit": (lambda t: 0.25 * math.sin(2.0 * t), lambda t: 0.0, 15.0, 2e-2),
}


@pytest.mark.parametrize("name", MANOEUVRES)
def test_frenet_trajectory_matches_cartesian_one(name):
    """4 Runge-Kutta steps per 0.1 s along a curved lane, against DOP853 in world coordinates,
    where there is no lane."""
    steer, accel, speed, tolerance = MANOEUVRES[name]
    knots = np.asarray(road.generate(jax.random.PRNGKey(3)))
    line = centre_line(knots, 120.0)
    e_y, e_psi = 0.4, -0.05
    x, y, heading = line(0.0)
    pose = np.array(
        [
            x - e_y * math.sin(heading),
            y + e_y * math.cos(heading),
            heading + e_psi,
            speed,
            0.0,
            0.0,
            0.0,
        ]
    )
    car = Car(*map(jnp.float64, (0.0, e_y, e_psi, speed, 0.0, 0.0, 0.0)))

    @jax.jit
    def advance(car, u):
        local, origin = road.window(jnp.asarray(knots), car.s)
        return vehicle.integrate(car, u, lambda s: road.curvature(local, s - origin), 0.1, 4)

    offsets = []
    for i in range(50):
        t = 0.1 * i
        u = inputs(
            steer=steer(t),
            accel=accel(t),
            wind=200.0 * math.sin(t),
            slope=0.1,
            pull=0.02 * (i // 8 % 2),
        )
        pose = solve_ivp(
            cartesian, (0.0, 0.1), pose, "DOP853", args=(u,), rtol=1e-10, atol=1e-10
        ).y[:, -1]
        car = advance(car, u)
        offsets.append(abs(float(car.e_y)))
    x, y, heading = line(float(car.s))
    ours = (x - float(car.e_y) * math.sin(heading), y + float(car.e_y) * math.cos(heading))
    assert math.hypot(ours[0] - pose[0], ours[1] - pose[1]) < tolerance
    assert abs(heading + float(car.e_psi) - pose[2]) < tolerance
    np.testing.assert_allclose([float(v) for v in car[3:]], pose[3:], atol=tolerance)
    assert (
        max(offsets) > 0.5 and float(car.s) > 2 * road.SPACING
    )  # the test left the centre line and passed knots


def test_integrator_is_of_fourth_order():
    car = Car(*map(jnp.float64, (0.0, 0.2, 0.05, 12.0, 0.1, 0.05, 0.02)))
    u = inputs(steer=0.03, accel=-1.0)  # within the steering rate's limit: a smooth right-hand side

    def after(substeps):
        return np.asarray(
            vehicle.integrate(car, u, lambda s: 0.01 * jnp.sin(0.1 * s), 1.0, substeps)
        )

    def f(t, y):
        return np.asarray(derivative(Car(*y), u, 0.01 * jnp.sin(0.1 * y[0])))

    derivative = jax.jit(vehicle.derivative)
    exact = solve_ivp(f, (0.0, 1.0), np.asarray(car), "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    errors = [np.max(np.abs(after(n) - exact)) for n in (80, 160, 320)]
    assert errors[0] < 1e-5
    for coarse, fine in itertools.pairwise(errors):
        assert 13 < coarse / fine < 20  # 2^4


@pytest.mark.parametrize(
    ("steer", "speed"), [(0.02, 5.0), (0.02, 10.0), (-0.05, 10.0), (0.08, 8.0), (0.05, 15.0)]
)
def test_steady_state_radius(steer, speed):
    """Constant steering and speed end on a circle given by the balance of forces, found here by
    root search.

    Steady state shares the lateral force like the load, so both axles slip alike, at alpha with
    F_y(alpha) = m v_x r; then tan(alpha + delta) - tan(alpha) = L r / v_x. For small forces that is
    the kinematic radius L / delta.
    """
    step = jax.jit(
        lambda car, a: vehicle.integrate(
            car, inputs(steer=steer, accel=a), lambda s: 0.0 * s, 0.1, 4
        )
    )
    car = Car(*map(jnp.float64, (0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0)))
    for _ in range(100):
        car = step(car, 5.0 * (speed - car.v_x))
    radius = float(car.v_x / car.r)

    def imbalance(r):
        def slip_force(alpha):
            return (
                float(vehicle.tyre_lateral(alpha, vehicle.MASS * vehicle.GRAVITY))
                - vehicle.MASS * speed * r
            )

        alpha = brentq(slip_force, -0.1, 0.1)
        return math.tan(alpha + steer) - math.tan(alpha) - vehicle.WHEELBASE * r / speed

    r = brentq(imbalance, *sorted((0.0, 1.3 * steer * speed / vehicle.WHEELBASE)))
    assert radius == pytest.approx(
        speed / r, rel=1e-2
    )  # the drive against cornering drag shifts some load
    if speed <= 5.0:
        assert radius == pytest.approx(vehicle.WHEELBASE / steer, rel=5e-3)


def test_left_and_right_are_alike():
    f = jax.jit(vehicle.derivative)
    for car in random_cars(4)[:50]:
        u = inputs(steer=0.1, accel=-2.0, pull=0.05, wind=300.0, slope=0.3, friction=0.7, mass=1.2)
        mirrored = car._replace(
            e_y=-car.e_y, e_psi=-car.e_psi, v_y=-car.v_y, r=-car.r, delta=-car.delta
        )
        other = f(mirrored, u._replace(steer=-0.1, pull=-0.05, wind=-300.0, slope=-0.3), -0.01)
        signs = np.array([1, -1, -1, 1, -1, -1, -1])
        np.testing.assert_allclose(
            np.array(f(car, u, 0.01)), signs * np.array(other), rtol=1e-12, atol=1e-12
        )


def test_friction_bounds_the_lateral_force():
    f = jax.jit(vehicle.derivative)
    for friction in (0.3, 1.0):
        bound = friction * vehicle.TYRE_D * vehicle.GRAVITY
        for car in random_cars(5)[:100]:
            d = f(car, inputs(friction=friction), 0.0)
            assert math.hypot(d.v_x - car.v_y * car.r, d.v_y + car.v_x * car.r) <= bound * (
                1 + 1e-9
            )
    # Braking at the limit leaves no lateral grip on the axle that uses all of it.
    hard = f(Car(0.0, 0.0, 0.0, 10.0, 1.0, 0.0, 0.0), inputs(accel=-20.0), 0.0)
    assert hard.v_y == 0.0 and hard.v_x == pytest.approx(-20.0)


def test_centre_of_curvature_is_no_singularity():
    d = vehicle.derivative(Car(0.0, 100.0, 0.0, 10.0, 0.0, 0.0, 0.0), inputs(), 0.01)
    assert d.s == pytest.approx(10.0 / vehicle.MIN_FRENET)
    assert all(np.isfinite(d))


def test_steering_rate_is_limited():
    f = jax.jit(vehicle.derivative)
    for target, expected in ((0.5, 0.4), (-0.5, -0.4), (0.01, 0.1)):
        assert f(
            Car(0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0), inputs(steer=target), 0.0
        ).delta == pytest.approx(expected)


def test_road_is_what_its_knots_say():
    knots = road.generate(jax.random.PRNGKey(7))
    assert np.max(np.abs(knots)) <= road.MAX_CURVATURE and 0.1 < np.mean(knots == 0.0) < 0.5
    values = np.asarray(knots, np.float64)
    edges = np.arange(road.KNOTS + 1) * road.SPACING
    line = centre_line(values, 250.0)
    for s in (0.0, 3.7, 19.99, 20.0, 47.3, 101.0, 199.0):
        local, origin = road.window(jnp.asarray(values), s)
        for ahead in (0.0, 5.0, 17.0, 39.0):
            kappa = np.interp(s + ahead, edges, np.append(values, values[0]))
            np.testing.assert_allclose(road.curvature(local, s - origin + ahead), kappa, atol=1e-12)
            turned = road.turned(local, s - origin + ahead) - road.turned(local, s - origin)
            np.testing.assert_allclose(turned, line(s + ahead)[2] - line(s)[2], atol=1e-8)
        forward, left = road.points_ahead(local, s - origin)
        x, y, heading = line(s)
        for i in range(road.POINTS):
            px, py, _ = line(s + road.POINT_SPACING * (i + 1))
            c, d = math.cos(heading), math.sin(heading)
            point = [c * (px - x) + d * (py - y), -d * (px - x) + c * (py - y)]
            np.testing.assert_allclose([forward[i], left[i]], point, atol=2e-2)
    # The road repeats.
    length = road.KNOTS * road.SPACING
    np.testing.assert_array_equal(road.window(knots, 33.0)[0], road.window(knots, 33.0 + length)[0])


def test_centre_line_for_drawing():
    knots = road.generate(jax.random.PRNGKey(8))
    s = np.linspace(0.0, 200.0, 41)
    np.testing.assert_allclose(
        np.stack(road.centre_line(knots, jnp.asarray(s))),
        centre_line(np.asarray(knots), 200.0)(s),
        atol=2e-3,
    )


@pytest.mark.parametrize("friction", [0.3, 0.5, 1.0, 2.0])
def test_at_the_longitudinal_limits_no_axle_exceeds_its_grip(friction):
    brake, drive = (float(x) for x in vehicle.longitudinal_limits(friction))
    peak = friction * vehicle.TYRE_D
    for accel, front_share in ((-brake, vehicle.BRAKE_FRONT), (drive, 0.0)):
        loads = [float(load) for load in vehicle.axle_loads(jnp.float32(accel), 1.0)]
        used = [
            abs(share * accel * vehicle.MASS) / (peak * load)
            for share, load in zip((front_share, 1.0 - front_share), loads, strict=True)
        ]
        np.testing.assert_allclose(max(used), 1.0, rtol=1e-4)


def test_the_derivative_is_finite_where_an_axle_has_no_grip_left():
    def forward(accel):
        car = vehicle.Car(*(jnp.float32(x) for x in (0, 0, 0, 20, 0, 0, 0)))
        zero = jnp.zeros(())
        inputs = vehicle.Inputs(zero, accel, zero, zero, zero, 1.0, 1.0)
        return sum(jnp.sum(x) for x in vehicle.derivative(car, inputs, zero))

    for accel in (-12.0, 0.0, 12.0):
        assert np.isfinite(jax.grad(forward)(jnp.float32(accel)))
