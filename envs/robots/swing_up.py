"""A cart and a pole that turns all the way round, a Brax system whose expert swings it up again.

Failures are rare and can be undone. Gusts shake the pole at every step, and a good policy keeps it
upright. Now and then comes a shove that no policy withstands, and the pole turns over. The expert
swings it up again within `SwingUp.recovery_steps`. Demonstrations without a fall do not show how.

Equations of motion. x is the cart's position [m], θ the pole's angle from upright [rad], positive
towards +x, and F the force on the cart [N]. The pole is a uniform rod of mass m and length 2 l, so
its inertia about its centre is m l² / 3. The cart has the mass M. Both joints have viscous
friction, c and b:

    (M + m) x'' + m l (θ'' cos θ - θ'² sin θ) = F - c x'
    4/3 m l² θ'' + m l x'' cos θ              = m g l sin θ - b θ'

`MODEL` describes this system to MuJoCo and Brax; the dials add the friction. Brax's pipeline
computes the accelerations, and the classical Runge-Kutta method integrates them. Brax's own
integrator of generalised coordinates is semi-implicit Euler: with four times as many evaluations
its angle was off by 0.05 rad after 1 s.

Accuracy against the closed form (SciPy's DOP853, tolerance 1e-9), the largest of 16 random states,
hanging and spinning at up to 8 rad/s, under changing forces of up to 8 N, on both backends:
4e-4 [m, rad, m/s, rad/s] after 1 s; after 4 s, since the motion is chaotic, 4e-3 [m, rad, m/s] and
1.1e-2 [rad/s], with a median of 3e-5. A gust is 3e-2 rad/s in every step. Two Runge-Kutta steps
would be ten times as accurate after 1 s, and would cost twice as much.

At x = ±3 m the rail ends in buffers, springs with the damping of Hunt and Crossley. Elsewhere they
exert no force.

What a clone does with a fallen pole is extrapolation, and the dials decide which. The regulator
that balances the pole pushes with its rate, and the same push pumps energy into a hanging pole.
With gusts of 0.15 rad/s the demonstrations reach far enough for a clone to extrapolate this: about
half of the clones swung the pole up sooner or later. With gusts of 0.03 rad/s they stay within
0.1 rad of upright, and most clones are left down once they are down. The hinge's friction takes
away the energy that would else carry a falling pole round to upright.

Sources: the equations, but for the hinge's friction, are those of Barto, Sutton and Anderson 1983,
  "Neuronlike adaptive elements that can solve difficult learning control problems". Control of
  energy: Astrom and Furuta 2000, "Swinging up a pendulum by energy control". Buffers: Hunt and
  Crossley 1975, "Coefficient of restitution interpreted as damping in vibroimpact".
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy.linalg import expm, solve_discrete_are

from envs.core import State, World, dial, soundness

# isort: split
# After envs.core, which silences what MuJoCo prints when it is first imported.
from brax.generalized import pipeline as generalized
from brax.io import mjcf
from brax.mjx import pipeline as mjx
from mujoco.mjx import full_m

BACKENDS = ("generalized", "mjx")
"""Physics backends: Brax's generalised coordinates, and MuJoCo's in JAX (MJX)."""
DT, SUBSTEPS = 0.04, 1
"""Control step [s] and number of Runge-Kutta steps within it."""
CART, POLE, HALF_LENGTH = 1.0, 0.2, 0.5
"""M and m, the masses of cart and pole [kg], and l, half the length of the pole [m]."""
CART_FRICTION, GRAVITY = 0.05, 9.81
"""c, the viscous friction of the cart [N s/m], and g [m/s²]."""
FORCE = 25.0
"""Force on the cart of an action of 1 [N]."""
RAIL, BUFFER, BUFFER_DAMPING = 3.0, 500.0, 0.5
"""Half the length of the rail [m], and stiffness [N/m] and damping [s/m] of the buffers at its
ends."""
FALLEN, RISEN, RISEN_RATE = 0.6, 0.3, 2.0
"""The pole falls beyond the angle FALLEN from upright [rad]. It is up again within RISEN [rad] at a
rate below RISEN_RATE [rad/s], so a pole that spins through upright stays down."""

MODEL = f"""
<mujoco model="swing_up">
  <option gravity="0 0 {-GRAVITY}"/>
  <default><geom contype="0" conaffinity="0"/></default>
  <worldbody>
    <body name="cart">
      <joint name="slider" type="slide" axis="1 0 0"/>
      <inertial pos="0 0 0" mass="{CART}" diaginertia="0.01 0.01 0.01"/>
      <geom type="box" size="0.2 0.1 0.1"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0"/>
        <inertial pos="0 0 {HALF_LENGTH}" mass="{POLE}"
          diaginertia="{POLE * HALF_LENGTH**2 / 3} {POLE * HALF_LENGTH**2 / 3} 1e-5"/>
        <geom type="capsule" fromto="0 0 0 0 0 {2 * HALF_LENGTH}" size="0.04"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="slider" gear="{FORCE}"/></actuator>
</mujoco>
"""
"""The system in MuJoCo's format (MJCF). The shapes touch nothing and do not determine the inertias.
Those of the cart, and of the pole about its own axis, have no effect."""

_STAGES = np.array([[0.0, 1 / 6], [0.5, 1 / 3], [0.5, 1 / 3], [1.0, 1 / 6]], np.float32)
"""The classical Runge-Kutta method: share of the step, and weight, of each stage."""


@struct.dataclass
class SwingUpDials:
    """The dials of `SwingUp`."""

    gust: float = dial(
        0.03,
        "standard deviation of the random change of the pole's rate at every step",
        unit="rad/s",
        low=0,
        high=2,
    )
    shove: float = dial(
        6.0,
        "change of the pole's rate, to a random side, that turns it over",
        unit="rad/s",
        low=0,
        high=12,
    )
    shove_rate: float = dial(
        3e-5, "probability of a shove, per step with the pole up", unit="1/step", low=0, high=1
    )
    noise: float = dial(
        0.0, "standard deviation of Gaussian noise added to each executed action", low=0, high=1
    )
    reacquisition: float = dial(
        0.0,
        "probability per step with the pole down of being put upright where it is, at rest",
        unit="1/step",
        low=0,
        high=1,
    )
    mass: float = dial(1.0, "factor on the pole's mass and inertia", low=0.5, high=2)
    friction: float = dial(1.0, "factor on the cart's viscous friction", low=0, high=20)
    hinge: float = dial(
        0.05, "viscous friction of the pole's hinge", unit="N m s/rad", low=0, high=0.08
    )


@struct.dataclass
class SwingUpState:
    """The inner state of `SwingUp`. Each step computes anew what else Brax derives from it."""

    q: jax.Array
    """float32[2]: x, the cart's position [m], and θ, the pole's angle from upright in [-π, π]
    [rad]."""
    qd: jax.Array
    """float32[2]: v, the cart's speed [m/s], and ω, the pole's rate [rad/s]."""


@functools.cache
def _load() -> Any:
    """Returns Brax's system of `MODEL`, which serves both backends. It is shared, so callers must
    not change it."""
    with warnings.catch_warnings(), jax.ensure_compile_time_eval():
        # Brax warns that its own physics is no longer developed.
        warnings.filterwarnings("ignore", "Brax System", UserWarning)
        return mjcf.loads(MODEL)


class SwingUp(World):
    """A pole on a cart that has to be kept upright and, after a shove, swung up again.

    The observation is float32[O]: x [m], the angle θ from upright in [-π, π] [rad], v [m/s] and ω
    [rad/s]. With `angle=cos_sin`, cos θ and sin θ take the place of θ. It contains no failure flag.
    The action is float32[1] in [-1, 1], the force on the cart in units of `FORCE`. Cost is 1 from
    the step in which the pole is beyond `FALLEN` until it is up again, within `RISEN` at less than
    `RISEN_RATE`. Graded cost is 1 during that time, else |θ| / π. The reward is 1 - cost. `done` is
    always 0, because a fallen pole can be swung up again.

    Measured with the expert and the nominal dials, on generalized (the long episodes on mjx):

    * 4096 shoves: every pole fell, after 5 steps (median). It was up for good 35 steps (median) and
      37 steps (99 %) after the shove. 0.1 % of the carts touched a buffer.
    * 4096 random states (x within ±1.5 m, any angle, ω within ±8 rad/s), the pole taken for down:
      cost 0 after 25 steps (median), 65 to 70 steps (99 % of three samples).
    * 256 episodes of 8192 steps: 81 falls, 3.9e-5 per step. Without shoves there was none, and |θ|
      stayed below 0.16 rad and |x| below 0.5 m.

    `auto` picks mjx, which is faster, on a CPU too.
    """

    name = "swing_up"
    horizon = 6144
    recovery_steps = 70
    latency = 12  # median from the first of many random actions to the fall; 99 %: 36
    options: ClassVar = {"backend": ("auto", *BACKENDS), "angle": ("wrapped", "cos_sin")}
    # Recoverable: put upright after 50 steps, not much later than the expert swings up by itself.
    modes: Mapping[str, Mapping[str, float]] = {
        "nominal": {},
        "recoverable": {"reacquisition": 0.02},
    }

    def __init__(self, backend: str = "auto", angle: str = "wrapped"):
        self.chosen = {"backend": "mjx" if backend == "auto" else backend, "angle": angle}
        self.dials = SwingUpDials()
        self._sys = _load()

    @property
    def backend(self) -> str:
        """Name of the physics, one of `BACKENDS`."""
        return self.chosen["backend"]

    @property
    def observation_size(self) -> int:
        """O, number of entries of an observation."""
        return 4 if self.chosen["angle"] == "wrapped" else 5

    @property
    def action_size(self) -> int:
        """1, the force on the cart."""
        return 1

    def reset(self, rng: jax.Array) -> State:
        """Returns a start near upright in the middle of the rail; rng, uint32[2], is consumed."""
        start_key, key = jax.random.split(rng)
        z = jax.random.normal(start_key, (2, 2))
        place = jnp.clip(jnp.array([0.1, 0.05]) * z[0], -RISEN, RISEN)  # no start is fallen
        return self.at(place, 0.1 * z[1], key)

    def at(self, q: jax.Array, qd: jax.Array, key: jax.Array) -> State:
        """Returns the world at any pose and motion, as after `reset`.

        The pole counts as down if it is beyond `FALLEN`.

        Args:
          q: float32[2], as `SwingUpState.q`; any angle.
          qd: float32[2], as `SwingUpState.qd`.
          key: uint32[2], the randomness of the steps to come.
        """
        inner = SwingUpState(q.at[1].set(_wrapped(q[1])), jnp.asarray(qd))
        return self._state(inner, jnp.abs(inner.q[1]) > FALLEN, key, jnp.zeros(1))

    def step(self, state: State, action: jax.Array) -> State:
        """Returns the next state; the action is float32[1], clipped to [-1, 1]."""
        inner, dials = cast(SwingUpState, state.pipeline_state), self.dials
        key, uniform_key, normal_key = jax.random.split(state.info["key"], 3)
        rescue, shove, side = jax.random.uniform(uniform_key, (3,))
        gust, noise = jax.random.normal(normal_key, (2,))
        executed = jnp.clip(jnp.clip(action, -1.0, 1.0) + dials.noise * noise, -1.0, 1.0)
        q, qd = self._move(inner.q, inner.qd, executed)
        angle = _wrapped(q[1])

        lying = (jnp.abs(angle) >= RISEN) | (jnp.abs(qd[1]) >= RISEN_RATE)
        down = jnp.where(state.info["down"], lying, jnp.abs(angle) > FALLEN)
        rescued = down & (rescue < dials.reacquisition)
        down = down & ~rescued
        q = jnp.stack([q[0], jnp.where(rescued, 0.0, angle)])
        qd = jnp.where(rescued, 0.0, qd)
        shoved = ~down & (shove < dials.shove_rate)
        push = jnp.where(shoved, jnp.where(side < 0.5, -dials.shove, dials.shove), 0.0)
        qd = qd.at[1].add(dials.gust * gust + push)
        return self._state(SwingUpState(q, qd), down, key, action)

    def _state(self, inner: SwingUpState, down: jax.Array, key: jax.Array, action: Any) -> State:
        """Returns the state of the world with observation, costs and reward.

        Args:
          inner: the inner state reached.
          down: bool[], whether the pole is down.
          key: uint32[2], the randomness of the steps to come.
          action: float32[1], the action that led here.
        """
        observation = self._observe(inner)
        sound = soundness(observation, action)
        failed = down.astype(jnp.float32)
        cost = failed + sound
        graded = jnp.where(down, 1.0, jnp.abs(inner.q[1]) / math.pi) + sound
        return State(
            cast(Any, inner),  # Brax annotates the states of its own physics alone
            observation,
            1.0 - cost,
            jnp.zeros(()),
            {"cost": cost, "graded_cost": graded},
            {"key": key, "down": down},
        )

    def _observe(self, inner: SwingUpState) -> jax.Array:
        """Returns the observation, float32[O], of an inner state."""
        (x, angle), (speed, rate) = inner.q, inner.qd
        if self.chosen["angle"] == "wrapped":
            return jnp.stack([x, angle, speed, rate])
        return jnp.stack([x, jnp.cos(angle), jnp.sin(angle), speed, rate])

    def _move(self, q: jax.Array, qd: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns q and qd, each float32[2], after a control step under a constant action
        float32[1]."""
        sys, h = self._dialled(), DT / SUBSTEPS

        def stage(start: SwingUpState, carry: Any, row: jax.Array) -> tuple[Any, None]:
            slope, change = carry
            place = jax.tree.map(lambda x, k: x + h * row[0] * k, start, slope)
            slope = SwingUpState(place.qd, self._accelerate(sys, place, action))
            return (slope, jax.tree.map(lambda x, k: x + h * row[1] * k, change, slope)), None

        def substep(start: SwingUpState, _: None) -> tuple[SwingUpState, None]:
            zero = jax.tree.map(jnp.zeros_like, start)
            stages = functools.partial(stage, start)
            (_, change), _ = jax.lax.scan(stages, (zero, zero), jnp.asarray(_STAGES))
            return jax.tree.map(jnp.add, start, change), None

        end, _ = jax.lax.scan(substep, SwingUpState(q, qd), None, length=SUBSTEPS)
        return end.q, end.qd

    def _accelerate(self, sys: Any, inner: SwingUpState, action: jax.Array) -> jax.Array:
        """Returns the accelerations of cart [m/s²] and pole [rad/s²], float32[2], from Brax's
        pipeline."""
        control = action + _buffer(inner.q[0], inner.qd[0]) / FORCE
        if self.backend == "mjx":
            # MuJoCo's forward dynamics without its constraints, of which there are none here. Its
            # own solution of M q'' = f calls LAPACK for one world at a time.
            state = mjx.init(sys, inner.q, inner.qd, ctrl=control)
            force = state.qfrc_passive - state.qfrc_bias + state.qfrc_actuator
            (a, b), (_, c) = full_m(sys, state)
            return jnp.stack([c * force[0] - b * force[1], a * force[1] - b * force[0]]) / (
                a * c - b * b
            )
        return generalized.step(sys, generalized.init(sys, inner.q, inner.qd), control).qdd

    def _dialled(self) -> Any:
        """Returns Brax's system with the dials applied; allowed inside jit."""
        sys, dials = self._sys, self.dials
        mass = jnp.array([1.0, dials.mass])
        damping = jnp.array([CART_FRICTION * dials.friction, dials.hinge])
        if self.backend == "mjx":
            # Weights of constraints stay as they are, because the system has no constraints.
            factor = jnp.concatenate([jnp.ones(1), mass])
            body_mass = sys.body_mass * factor
            return sys.tree_replace(
                {
                    "body_mass": body_mass,
                    "body_inertia": sys.body_inertia * factor[:, None],
                    "body_subtreemass": jnp.cumsum(body_mass[::-1])[::-1],
                    "dof_damping": damping,
                }
            )
        inertia = sys.link.inertia
        return sys.tree_replace(
            {
                "link.inertia.mass": inertia.mass * mass,
                "link.inertia.i": inertia.i * mass[:, None, None],
                "dof.damping": damping,
            }
        )

    def expert(self, state: State, key: jax.Array) -> jax.Array:
        """Returns the action float32[1] of a control law that works at any state.

        The law is deterministic and a function of the observation; the key is not used. Near
        upright it is a linear-quadratic regulator with the `gains` K. Elsewhere it pumps energy
        into the pole, or takes it out, until there is just enough to reach upright, and it pulls
        the cart to the middle of the rail:

            F = near clip(-K (x, θ, v, ω)) + (1 - near) (pump - CENTRE x - CENTRE_DAMPING v)
            pump = clip(PUMP (E - E') tanh(ω cos θ / SWING))

        E is the pole's energy above that of rest at upright, and E' what the hinge's friction takes
        on the way up, both per m l. `near`, in (0, 1), and tanh change smoothly, so that a clone
        can learn the law. E' follows the dial `hinge`; the rest is the same for all dials.
        """
        del key
        inner = cast(SwingUpState, state.pipeline_state)
        return self._drive(*inner.q, *inner.qd)

    @property
    def expert_reads_observations(self) -> bool:
        """True: the observation shows the whole state."""
        return True

    def expert_at(self, observation: jax.Array) -> jax.Array:
        """Returns the expert's action, float32[1], at an observation, float32[O]."""
        if self.chosen["angle"] == "wrapped":
            return self._drive(*observation)
        x, cos, sin, speed, rate = observation
        return self._drive(x, jnp.arctan2(sin, cos), speed, rate)

    def _drive(
        self, x: jax.Array, angle: jax.Array, speed: jax.Array, rate: jax.Array
    ) -> jax.Array:
        """Returns the action of the law in `expert`."""
        near = jax.nn.sigmoid((NEAR[0] - jnp.abs(angle)) / NEAR_WIDTH[0]) * jax.nn.sigmoid(
            (NEAR[1] - jnp.abs(rate)) / NEAR_WIDTH[1]
        )
        z = jnp.stack([x, angle, speed, rate])
        hold = jnp.clip(-jnp.asarray(gains(), jnp.float32) @ z, -FORCE, FORCE)
        energy = 2 / 3 * HALF_LENGTH * rate**2 + GRAVITY * (jnp.cos(angle) - 1.0)
        # Friction takes b ∫ ω dθ on the way up, where ω is about sqrt(3 g / l) sin(θ / 2).
        loss = self.dials.hinge * 2.0 * math.sqrt(3.0 * GRAVITY / HALF_LENGTH)
        loss = loss * (1.0 - jnp.cos(0.5 * angle)) / (POLE * HALF_LENGTH)
        pump = PUMP * (energy - loss) * jnp.tanh(rate * jnp.cos(angle) / SWING)
        swing = jnp.clip(pump, -PUMP_LIMIT, PUMP_LIMIT) - CENTRE * x - CENTRE_DAMPING * speed
        return jnp.clip((near * hold + (1.0 - near) * swing) / FORCE, -1.0, 1.0)[None]

    def picture(self, state: State) -> dict[str, jax.Array]:
        """Returns {"bodies", "parents"}, the cart and the pole's tip, as `World.picture`."""
        x, angle = cast(SwingUpState, state.pipeline_state).q
        tip = jnp.stack([x + 2 * HALF_LENGTH * jnp.sin(angle), 2 * HALF_LENGTH * jnp.cos(angle)])
        return {
            "bodies": jnp.stack([jnp.stack([x, jnp.zeros(())]), tip]),
            "parents": jnp.array([-1, 0], jnp.int32),
        }

    def probe(self) -> dict[str, Any]:
        """Returns a grid of the pole's angle against its rate, as `World.probe`, with the cart at
        rest in the middle of the rail."""
        angle, rate = (
            x.ravel()
            for x in np.meshgrid(np.linspace(-math.pi, math.pi, 49), np.linspace(-8.0, 8.0, 17))
        )
        zero = np.zeros_like(angle)
        inner = SwingUpState(
            jnp.stack([zero, angle], -1).astype(jnp.float32),
            jnp.stack([zero, rate], -1).astype(jnp.float32),
        )
        return {
            "observation": np.asarray(jax.vmap(self._observe)(inner)),
            "x": angle,
            "y": rate,
            "x_name": "angle from upright [rad]",
            "y_name": "rate [rad/s]",
            "cost": np.where(np.abs(angle) > FALLEN, 1.0, np.abs(angle) / math.pi),
        }


PUMP, PUMP_LIMIT, SWING = 4.0, 25.0, 0.5
"""Swinging up: force per energy [N s²/m²], its limit [N], and the rate within which it changes
sides [rad/s]."""
CENTRE, CENTRE_DAMPING = 2.3, 4.0
"""Swinging up: pull to the middle of the rail per position [N/m] and per speed [N s/m]."""
NEAR, NEAR_WIDTH = (0.6, 4.0), (0.08, 0.5)
"""Angle [rad] and rate [rad/s] up to which the regulator acts, and how gradually it takes over."""


@functools.cache
def gains() -> np.ndarray:
    """Returns K, float64[4], the expert's gains [N per unit] on (x, θ, v, ω) near upright.

    They minimise the sum over control steps of x² + 10 θ² + 0.1 v² + ω² + 0.05 F² for the equations
    of motion linearised at upright, without friction in the hinge, under a force F that is constant
    during a step.
    """
    moment = POLE * HALF_LENGTH
    inertia = np.array([[CART + POLE, moment], [moment, 4 / 3 * moment * HALF_LENGTH]])
    # (x'', θ'') = inertia^-1 (F - c x', m g l θ), and F' = 0.
    forces = np.array([[0, 0, -CART_FRICTION, 0, 1], [0, moment * GRAVITY, 0, 0, 0]])
    rates = np.zeros((5, 5))
    rates[:2, 2:4] = np.eye(2)
    rates[2:4] = np.linalg.solve(inertia, forces)
    step = expm(DT * rates)
    a, b = step[:4, :4], step[:4, 4:]
    weights, price = np.diag([1.0, 10.0, 0.1, 1.0]), np.array([[0.05]])
    value = solve_discrete_are(a, b, weights, price)
    return np.linalg.solve(price + b.T @ value @ b, b.T @ value @ a)[0]


def _wrapped(angle: jax.Array) -> jax.Array:
    """Returns an angle in [-π, π] [rad]."""
    return angle - 2.0 * math.pi * jnp.round(angle / (2.0 * math.pi))


def _buffer(x: jax.Array, speed: jax.Array) -> jax.Array:
    """Returns the force [N] of the buffers on a cart at x [m] with a speed [m/s].

    Compressed by p and p', a buffer pushes back with k p (1 + d p'), and it never pulls.
    """
    side = jnp.sign(x)
    pressed = jnp.maximum(jnp.abs(x) - RAIL, 0.0)
    return -side * BUFFER * pressed * jnp.maximum(1.0 + BUFFER_DAMPING * side * speed, 0.0)
