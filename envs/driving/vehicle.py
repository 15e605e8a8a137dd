"""A dynamic single-track car with Magic-Formula tyres, in exact Frenet coordinates of the lane.

Model and numbers: Althoff & Würsching, "CommonRoad: Vehicle Models" (2020), tables 6 and 7, vehicle
2 (BMW 320i). Angles are in rad, lengths in m, forces in N. The lane's centre line is parametrised
by its arc length s; e_y is the offset to its left, e_psi the car's heading relative to it, kappa
its curvature (positive turns left).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

GRAVITY = 9.81
"""Acceleration of gravity [m/s²]."""
MASS = 1093.2952334674046
"""Mass of the car [kg]."""
YAW_INERTIA = 1791.5995300122856
"""Moment of inertia about the vertical axis [kg m²]."""
FRONT = 1.1561957064
"""Centre of gravity to front axle [m]."""
REAR = 1.4227170936
"""Centre of gravity to rear axle [m]."""
WHEELBASE = FRONT + REAR
"""Front axle to rear axle [m]."""
HEIGHT = 0.61373004
"""Height of the centre of gravity [m]."""
BRAKE_FRONT = 0.66
"""Share of the braking force on the front axle; the engine drives the rear one."""
TYRE_C, TYRE_D, TYRE_E, TYRE_K = 1.3507, 1.0489, -0.0074722, -21.92
"""Tyre parameters of pure lateral slip: shape, peak friction, curvature, and cornering stiffness
over load (p_cy1, p_dy1, p_ey1, p_ky1)."""

STEER_LAG = 0.1
"""Time constant of the steering actuator [s]."""
STEER_RATE = 0.4
"""Limit of the steering rate [rad/s]."""
WIND_AREA = 6.5
"""Side area of the car times its side-force coefficient [m²]."""
WIND_ARM = 0.3
"""Distance of a crosswind's centre of pressure ahead of the centre of gravity [m]."""
HELD = 0.95
"""Anti-lock brakes and traction control keep the longitudinal force below this share of what the
tyres hold (`longitudinal_limits`), which leaves them some grip to steer with."""
MIN_FRENET = 0.2
"""Lower bound put on 1 - kappa e_y, which is zero at the centre of curvature."""


class Car(NamedTuple):
    """The state of the car; every field is float[]."""

    s: jax.Array
    """Arc length along the lane [m]."""
    e_y: jax.Array
    """Lateral offset, positive to the left [m]."""
    e_psi: jax.Array
    """Heading relative to the lane [rad]."""
    v_x: jax.Array
    """Forward speed of the centre of gravity [m/s]."""
    v_y: jax.Array
    """Lateral speed, positive to the left [m/s]."""
    r: jax.Array
    """Yaw rate [rad/s]."""
    delta: jax.Array
    """Steering angle of the front wheels set by the actuator [rad]."""


class Inputs(NamedTuple):
    """What acts on the car, constant over a control step; every field is float[]."""

    steer: jax.Array
    """Target of the steering actuator [rad]."""
    accel: jax.Array
    """Longitudinal acceleration that the tyres are to give [m/s²]."""
    pull: jax.Array
    """Angle that the road surface adds to the front wheels [rad]."""
    wind: jax.Array
    """Lateral force at the centre of pressure [N]."""
    slope: jax.Array
    """Lateral acceleration from the road's cross slope [m/s²]."""
    friction: jax.Array | float
    """Factor on the tyres' peak friction."""
    mass: jax.Array | float
    """Factor on mass and yaw inertia."""


def tyre_lateral(alpha: jax.Array, load: jax.Array, friction: jax.Array | float = 1.0) -> jax.Array:
    """Returns the lateral tyre force [N] at slip angle `alpha` [rad] and normal load [N], by the
    Magic Formula for pure slip without camber; `friction` is a factor on the peak."""
    peak = friction * TYRE_D * load
    b = TYRE_K * load / (TYRE_C * peak)
    x = b * alpha
    return peak * jnp.sin(TYRE_C * jnp.arctan(x - TYRE_E * (x - jnp.arctan(x))))


def axle_loads(accel: jax.Array, mass: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Returns the normal loads [N] of the front and the rear axle under a longitudinal acceleration
    [m/s²]; `mass` is a factor on MASS."""
    total = mass * MASS
    front = total * (GRAVITY * REAR - accel * HEIGHT) / WHEELBASE
    rear = total * (GRAVITY * FRONT + accel * HEIGHT) / WHEELBASE
    return front, rear


def longitudinal_limits(friction: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Returns the strongest braking and acceleration [m/s²] that no axle's tyres exceed, with the
    load that they shift; `friction` is a factor on the tyres' peak.

    The engine drives the rear axle alone.
    """
    mu = jnp.asarray(friction) * TYRE_D
    shift = mu * HEIGHT / WHEELBASE
    front, rear = mu * GRAVITY * REAR / WHEELBASE, mu * GRAVITY * FRONT / WHEELBASE
    # The front axle gains load under braking: beyond some friction it holds any.
    gains = shift >= BRAKE_FRONT
    of_front = jnp.where(gains, jnp.inf, front / jnp.where(gains, 1.0, BRAKE_FRONT - shift))
    of_rear = rear / (1.0 - BRAKE_FRONT + shift)
    return jnp.minimum(of_front, of_rear), rear / jnp.maximum(1.0 - shift, 1e-3)


def wind_force(v_x: jax.Array, wind: jax.Array) -> jax.Array:
    """Returns the lateral force [N] of a crosswind [m/s] on a car with forward speed v_x [m/s]."""
    return 0.5 * 1.2 * WIND_AREA * jnp.hypot(v_x, wind) * wind


def newton_euler(
    car: Car,
    delta: jax.Array,
    f_xf: jax.Array,
    f_yf: jax.Array,
    f_xr: jax.Array,
    f_yr: jax.Array,
    f_side: jax.Array,
    moment: jax.Array,
    mass: jax.Array | float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the time derivatives of the rigid body's velocities.

    Args:
      car: the state.
      delta: angle of the front wheels [rad].
      f_xf, f_yf: force on the front axle, in the frame of its wheels [N].
      f_xr, f_yr: force on the rear axle [N].
      f_side: lateral force at the centre of gravity [N].
      moment: yaw moment [N m].
      mass: factor on mass and yaw inertia.

    Returns:
      (v_x' [m/s²], v_y' [m/s²], r' [rad/s²]).
    """
    total, inertia = mass * MASS, mass * YAW_INERTIA
    cos, sin = jnp.cos(delta), jnp.sin(delta)
    front_x, front_y = f_xf * cos - f_yf * sin, f_yf * cos + f_xf * sin
    return (
        (front_x + f_xr) / total + car.v_y * car.r,
        (front_y + f_yr + f_side) / total - car.v_x * car.r,
        (FRONT * front_y - REAR * f_yr + moment) / inertia,
    )


def derivative(car: Car, inputs: Inputs, kappa: jax.Array) -> Car:
    """Returns the time derivative of every field of `car` at lane curvature `kappa` [1/m]; valid
    for v_x well above 0."""
    delta = car.delta + inputs.pull
    load_f, load_r = axle_loads(inputs.accel, inputs.mass)
    total = inputs.mass * MASS
    share = jnp.where(inputs.accel < 0.0, BRAKE_FRONT, 0.0)
    f_xf, f_xr = total * inputs.accel * share, total * inputs.accel * (1.0 - share)

    def lateral(alpha: jax.Array, load: jax.Array, f_x: jax.Array) -> jax.Array:
        # Friction ellipse: the longitudinal force reduces the grip that is left.
        used = f_x / (inputs.friction * TYRE_D * load)
        left = 1.0 - used * used
        # Written so that the derivative at 0 is finite.
        share = jnp.where(left > 0.0, jnp.sqrt(jnp.where(left > 0.0, left, 1.0)), 0.0)
        return tyre_lateral(alpha, load, inputs.friction) * share

    f_yf = lateral(jnp.arctan((car.v_y + FRONT * car.r) / car.v_x) - delta, load_f, f_xf)
    f_yr = lateral(jnp.arctan((car.v_y - REAR * car.r) / car.v_x), load_r, f_xr)
    side = inputs.wind + total * inputs.slope
    v_x, v_y, r = newton_euler(
        car, delta, f_xf, f_yf, f_xr, f_yr, side, WIND_ARM * inputs.wind, inputs.mass
    )

    cos, sin = jnp.cos(car.e_psi), jnp.sin(car.e_psi)
    s = (car.v_x * cos - car.v_y * sin) / jnp.maximum(1.0 - kappa * car.e_y, MIN_FRENET)
    return Car(
        s=s,
        e_y=car.v_x * sin + car.v_y * cos,
        e_psi=car.r - kappa * s,
        v_x=v_x,
        v_y=v_y,
        r=r,
        delta=jnp.clip((inputs.steer - car.delta) / STEER_LAG, -STEER_RATE, STEER_RATE),
    )


def integrate(
    car: Car,
    inputs: Inputs,
    curvature: Callable[[jax.Array], jax.Array],
    dt: float,
    substeps: int,
) -> Car:
    """Integrates the car over constant inputs by classical Runge-Kutta steps of fourth order.

    Args:
      car: the state at the beginning.
      inputs: what acts on the car.
      curvature: s [m] -> kappa [1/m] of the lane.
      dt: duration [s].
      substeps: number of Runge-Kutta steps.

    Returns:
      The state after `dt` seconds.
    """
    h = dt / substeps

    def f(c: Car) -> Car:
        return derivative(c, inputs, curvature(c.s))

    def add(c: Car, k: Car, w: float) -> Car:
        return Car(*(a + w * b for a, b in zip(c, k, strict=True)))

    def runge_kutta(c: Car, _: None) -> tuple[Car, None]:
        k1 = f(c)
        k2 = f(add(c, k1, h / 2))
        k3 = f(add(c, k2, h / 2))
        k4 = f(add(c, k3, h))
        steps = zip(c, k1, k2, k3, k4, strict=True)
        return Car(*(x + h / 6 * (a + 2 * b + 2 * d + e) for x, a, b, d, e in steps)), None

    return jax.lax.scan(runge_kutta, car, None, length=substeps)[0]
