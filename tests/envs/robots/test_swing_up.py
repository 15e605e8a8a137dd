"""The swing-up: the physics against its closed form, falls and how they end, disturbances, dials,
and the expert's claims."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import envs
from envs import contract
from envs.robots import swing_up
from envs.robots.swing_up import FALLEN, FORCE, RAIL, RISEN, RISEN_RATE, SwingUp

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXPERT, CONSTANT, SPINNER = 0, 1, 2
"""Policies of `run`."""
BATCH = 2048
"""Number of worlds of `one_step`, which is compiled once."""


@functools.cache
def made(backend="generalized"):
    return SwingUp(backend)


def nominal(**dials):
    return jax.tree.map(jnp.float32, made().dials.replace(**dials))


def still(**dials):
    """The nominal dials without gusts and shoves, some of them changed."""
    return nominal(**{"gust": 0.0, "shove_rate": 0.0, **dials})


def keys(seed, count):
    return jax.random.split(jax.random.PRNGKey(seed), count)


@functools.partial(jax.jit, static_argnames="steps")
def run(dials, q, qd, kind, key, steps):
    """Pose q, motion qd and cost [steps, batch, ...] of episodes from any states; `kind` [batch]
    chooses the policy of each."""
    world = made().bind(dials)

    def act(state, kind):
        x, angle, v, w = state.obs
        # It pumps energy for ever, and keeps the cart in place.
        spin = jnp.clip(-0.6 * jnp.sign(w * jnp.cos(angle)) - 0.2 * x - 0.2 * v, -1.0, 1.0)[None]
        others = jnp.where(kind == SPINNER, spin, 0.3)
        return jnp.where(kind == EXPERT, world.expert(state, key), others)

    def step(states, _):
        states = jax.vmap(lambda state, kind: world.step(state, act(state, kind)))(states, kind)
        inner = states.pipeline_state
        return states, (inner.q, inner.qd, states.metrics["cost"])

    states = jax.vmap(world.at)(q, qd, jax.random.split(key, len(q)))
    return jax.lax.scan(step, states, None, length=steps)[1]


@jax.jit
def one_step(dials, q, qd, down, action, seed):
    """The state after one step from each of `BATCH` states."""
    world = made().bind(dials)

    def step(q, qd, down, action, key):
        state = world.at(q, qd, key)
        return world.step(state.replace(info={**state.info, "down": down}), action)

    return jax.vmap(step)(q, qd, down, action, jax.random.split(jax.random.PRNGKey(seed), BATCH))


def after(dials, angle=0.0, x=0.0, v=0.0, w=0.0, down=False, action=0.0, seed=0):
    """`one_step` from states that are given by numbers or lists, as often as they fit."""
    x, angle, v, w, down, action = np.broadcast_arrays(
        *map(np.asarray, (x, angle, v, w, down, action))
    )
    q, qd = np.stack([x, angle], -1), np.stack([v, w], -1)
    full = [
        np.resize(part, (BATCH, *part.shape[1:])).astype(kind)
        for part, kind in [
            (q.reshape(-1, 2), np.float32),
            (qd.reshape(-1, 2), np.float32),
            (down.reshape(-1), bool),
            (action.reshape(-1, 1), np.float32),
        ]
    ]
    return jax.device_get(one_step(dials, *full, seed))


def accelerations(y, force, mass, friction, hinge):
    """The closed form: [x', θ', x'', θ''] at y = [x, θ, x', θ']."""
    _, angle, v, w = y
    sin, cos, arm = np.sin(angle), np.cos(angle), 0.5 * 0.2 * mass
    inertia = [[1.0 + 0.2 * mass, arm * cos], [arm * cos, 4 / 3 * arm * 0.5]]
    forces = [force - 0.05 * friction * v + arm * w**2 * sin, arm * 9.81 * sin - hinge * w]
    return [v, w, *np.linalg.solve(inertia, forces)]


CASES, SECONDS = 16, 4
"""Trajectories that are compared with the closed form, and their length."""


@functools.cache
def reference():
    """Starts [CASES, 4], actions [steps, CASES], dials, and the states [steps, CASES, 4] of the
    closed form.

    The first four swing freely without friction, two of them hang at rest, half have other dials.
    The carts start without momentum, and forces change sides, so all stay on the rail.
    """
    rng = np.random.default_rng(0)
    steps, numbers = round(SECONDS / swing_up.DT), np.arange(CASES)
    angle, w = rng.uniform(-np.pi, np.pi, CASES), rng.uniform(-8.0, 8.0, CASES)
    angle[[4, 5]], w[[4, 5]] = np.pi, 0.0
    starts = np.stack([rng.uniform(-1, 1, CASES), angle, -0.1 / 1.2 * np.cos(angle) * w, w], 1)
    starts = starts.astype(np.float32).astype(float)
    pulse = np.repeat([1.0, -1.0, -1.0, 1.0], 10)
    action = np.resize(pulse, steps)[:, None] * rng.uniform(0.1, 0.4, CASES)
    action[:, :4] = 0.0
    free, other = numbers < 4, numbers % 2 == 1
    dials = {
        "mass": np.where(other, 1.8, 1.0),
        "friction": np.where(free, 0.0, np.where(other, 8.0, 1.0)),
        "hinge": np.where(free, 0.0, np.where(other, 0.05, 0.03)),
    }
    states = np.zeros((steps, CASES, 4))
    for i in range(CASES):
        y, (mass, friction, hinge) = starts[i], (values[i] for values in dials.values())
        for t in range(steps):
            y = solve_ivp(
                lambda _, y, force: accelerations(y, force, mass, friction, hinge),  # noqa: B023
                (0.0, swing_up.DT),
                y,
                "DOP853",
                rtol=1e-9,
                atol=1e-9,
                args=(FORCE * action[t, i],),
            ).y[:, -1]
            states[t, i] = y
    return starts, action, dials, states


@functools.cache
def simulated(backend):
    """The states [steps, CASES, 4] of the world for the same starts, actions and dials."""
    starts, action, dials, _ = reference()

    def play(dials, start, action):
        world = made(backend).bind(dials)

        def step(state, action):
            state = world.step(state, action[None])
            inner = state.pipeline_state
            return state, jnp.concatenate([inner.q, inner.qd])

        start = world.at(start[:2], start[2:], jax.random.PRNGKey(0))
        return jax.lax.scan(step, start, action)[1]

    every = {name: jnp.asarray(values, jnp.float32) for name, values in dials.items()}
    dials = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, CASES), still(**dict.fromkeys(every, 1))
    )
    play = jax.jit(jax.vmap(play, (0, 0, 1), 1))
    return np.asarray(play(dials.replace(**every), jnp.float32(starts), jnp.float32(action)), float)


@pytest.mark.parametrize("backend", swing_up.BACKENDS)
def test_the_motion_is_that_of_the_closed_form(backend):
    expected, states = reference()[-1], simulated(backend)
    assert np.abs(expected[..., 0]).max() < RAIL
    assert np.abs(expected[..., 3]).max() > 9.0
    error = np.abs(states - expected)
    error[..., 1] = np.abs(np.angle(np.exp(1j * (states - expected)[..., 1])))
    assert error[: round(1 / swing_up.DT)].max() < 5e-4
    assert error.max() < 2e-2
    assert np.median(error[-1]) < 5e-5


def test_energy_is_kept_without_friction():
    """Four poles swing freely, two of them 1.8 times as heavy."""
    mass = reference()[2]["mass"][:4]
    _, angle, v, w = np.moveaxis(simulated("generalized")[:, :4], -1, 0)
    arm = 0.1 * mass
    kinetic = 0.5 * (1.0 + 0.2 * mass) * v**2 + arm * v * w * np.cos(angle) + arm * w**2 / 3
    energy = kinetic + arm * 9.81 * (np.cos(angle) + 1.0)
    np.testing.assert_allclose(energy, np.broadcast_to(energy[0], energy.shape), rtol=1e-4)


def test_buffers_hold_the_cart_and_act_at_the_ends_of_the_rail_alone():
    x = np.linspace(-RAIL, RAIL, 13)
    assert (np.asarray(swing_up._buffer(x, np.full(13, 5.0))) == 0).all()
    for side in (-1.0, 1.0):
        into, out, away = (
            float(swing_up._buffer(side * 3.1, side * v)) * side for v in (1.0, -1.0, -9.0)
        )
        assert into < out < 0.0 == away  # it takes energy, and never pulls
    start = np.tile([2.5, np.pi], (512, 1)).astype(np.float32)
    q, _, _ = played(still(), start, np.zeros((512, 2)), CONSTANT)
    assert 3.03 < np.abs(q[..., 0]).max() < 3.3
    np.testing.assert_allclose(q[-40:, :, 0].mean(0), RAIL + 0.3 * FORCE / 500.0, atol=0.02)


def test_a_start_is_near_upright_and_costs_nothing():
    states = jax.jit(jax.vmap(made().reset))(keys(0, 256))
    angle = np.asarray(states.pipeline_state.q[:, 1])
    assert 0.02 < angle.std() < 0.1 and np.abs(angle).max() < RISEN
    assert len(np.unique(np.asarray(states.obs), axis=0)) == 256
    assert (np.asarray(states.metrics["cost"]) == 0).all()
    assert (np.asarray(states.metrics["graded_cost"]) < 0.1).all()
    assert not np.asarray(states.info["down"]).any()


def test_the_contract_is_kept():
    assert contract.check(made()) == ()


@pytest.mark.parametrize(
    ("angle", "rate", "down", "fails"),
    [
        (0.5, 0.0, False, 0.0),
        (0.5, 0.0, True, 1.0),  # between RISEN and FALLEN it stays what it was
        (-0.5, 0.0, False, 0.0),
        (-0.5, 0.0, True, 1.0),
        (0.7, 0.0, False, 1.0),
        (0.2, 0.0, True, 0.0),
        (-0.2, 0.0, True, 0.0),
        (0.0, RISEN_RATE + 0.5, True, 1.0),  # it spins through upright
        (0.0, RISEN_RATE + 0.5, False, 0.0),
        (np.pi, 0.0, True, 1.0),
        (np.pi, 0.0, False, 1.0),
    ],
)
def test_a_fall_begins_beyond_one_angle_and_ends_within_another(angle, rate, down, fails):
    state = after(still(), angle, w=rate, down=down)
    assert (state.metrics["cost"] == fails).all()
    assert (state.reward == 1.0 - fails).all()
    assert (state.done == 0).all() and (state.info["down"] == (fails == 1.0)).all()
    graded = 1.0 if fails else np.abs(state.pipeline_state.q[:, 1]) / np.pi
    np.testing.assert_allclose(state.metrics["graded_cost"], graded, rtol=1e-6)


def test_reacquisition_puts_a_fallen_pole_upright_where_it_is():
    dials = still(reacquisition=0.25)
    state = after(dials, angle=2.0, x=1.2, v=0.7, w=3.0, down=True, seed=1)
    up = state.metrics["cost"] == 0
    assert abs(up.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / BATCH)
    inner = state.pipeline_state
    assert (inner.q[up, 1] == 0).all() and (inner.qd[up] == 0).all()
    np.testing.assert_allclose(inner.q[:, 0], 1.2 + 0.7 * swing_up.DT, atol=0.02)
    assert not state.info["down"][up].any() and (state.metrics["graded_cost"][up] == 0).all()
    assert (np.abs(inner.q[~up, 1]) > 1.5).all()
    never_down = after(dials, angle=0.1, seed=1)
    assert (never_down.pipeline_state.q[:, 1] != 0).all()


def test_shoves_come_at_their_rate_to_both_sides_while_the_pole_is_up():
    rate = 0.05
    angle, down = np.array([0.1, 2.0]), np.array([False, True])
    calm, shoved = (
        after(still(shove_rate=p), angle, down=down, seed=2).pipeline_state.qd[:, 1]
        for p in (0.0, rate)
    )
    change = (shoved - calm).reshape(-1, 2)
    assert (change[:, 1] == 0).all()
    hit = change[:, 0] != 0
    np.testing.assert_allclose(np.abs(change[hit, 0]), 6.0, atol=1e-5)
    assert abs(hit.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / len(hit))
    assert 0.2 < (change[hit, 0] > 0).mean() < 0.8


def test_gusts_change_the_poles_rate_by_their_standard_deviation():
    calm, gusty = (
        after(still(gust=sd), [0.1, 2.0], down=[False, True], seed=3).pipeline_state
        for sd in (0.0, 0.15)
    )
    assert (gusty.q == calm.q).all() and (gusty.qd[:, 0] == calm.qd[:, 0]).all()
    change = (gusty.qd - calm.qd)[:, 1]
    assert abs(change.std() / 0.15 - 1.0) < 0.07 and abs(change.mean()) < 0.02


@pytest.mark.parametrize(
    ("dial", "value"), [("noise", 0.3), ("mass", 2.0), ("friction", 20.0), ("hinge", 0.08)]
)
def test_a_dial_changes_the_motion_without_compiling_again(dial, value):
    start = {"angle": 1.0, "v": 1.0, "w": 2.0, "down": True, "action": 0.5}
    before = after(still(), **start).pipeline_state.qd
    compiled = one_step._cache_size()
    changed = after(still(**{dial: value}), **start).pipeline_state.qd
    assert one_step._cache_size() == compiled
    assert np.abs(changed - before).max() > 5e-3
    assert (np.ptp(changed, 0) > 0.1).any() == (dial == "noise")  # only noise is random


def test_actions_are_clipped():
    states = [after(still(), action=a).obs for a in (1.0, 5.0, -1.0, -5.0)]
    assert (states[0] == states[1]).all() and (states[2] == states[3]).all()
    assert (states[0] != states[2]).any()


def test_an_action_or_a_state_that_is_not_a_number_is_no_success():
    for state in (after(still(), action=np.nan), after(still(), angle=np.nan)):
        for values in (state.metrics["cost"], state.metrics["graded_cost"], state.reward):
            assert np.isnan(values).all()


def test_a_step_is_the_same_without_jit():
    world = made().bind(nominal(noise=0.1))
    start = world.at(jnp.array([0.3, 2.5]), jnp.array([0.4, -5.0]), jax.random.PRNGKey(4))
    action = world.expert(start, start.info["key"])
    compiled = jax.jit(lambda state, action: world.step(state, action))(start, action)
    plain = world.step(start, action)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, compiled
    )


def random_states(count):
    rng = np.random.default_rng(5)
    angle, w = rng.uniform(-np.pi, np.pi, count), rng.uniform(-8, 8, count)
    angle[:32], w[:32] = np.pi, 0.0  # hanging at rest
    q = np.stack([rng.uniform(-1.5, 1.5, count), angle], 1)
    return q.astype(np.float32), np.stack([np.zeros(count), w], 1).astype(np.float32)


def played(dials, q, qd, kind=EXPERT, steps=120, seed=0):
    kinds = np.broadcast_to(np.asarray(kind), len(q))
    return [np.asarray(x) for x in run(dials, q, qd, kinds, jax.random.PRNGKey(seed), steps)]


@pytest.mark.slow
def test_the_expert_swings_up_from_any_state():
    """A pole that is down in any state costs nothing again within `recovery_steps`."""
    world, (q, qd) = made().bind(nominal(shove_rate=0.0)), random_states(4096)

    def step(states, _):
        states = jax.vmap(lambda state: world.step(state, world.expert(state, state.info["key"])))(
            states
        )
        return states, states.metrics["cost"]

    @jax.jit
    def costs(q, qd):
        states = jax.vmap(world.at)(q, qd, keys(6, len(q)))
        states.info["down"] = jnp.ones(len(q), bool)
        return jax.lax.scan(step, states, None, SwingUp.recovery_steps)[1]

    assert (np.asarray(costs(q, qd)) == 0).any(0).mean() >= 0.99


@pytest.fixture(scope="module")
def balanced():
    """512 episodes of the expert without shoves: 120 steps from upright at rest."""
    return played(nominal(shove_rate=0.0), np.zeros((512, 2)), np.zeros((512, 2)))


def test_the_expert_does_not_fall_without_a_shove(balanced):
    q, _, cost = balanced
    assert (cost == 0).all() and np.abs(q[..., 1]).max() < 0.2 and np.abs(q[..., 0]).max() < 1.0


def test_the_expert_undoes_a_shove_within_the_recovery_steps(balanced):
    q, qd, _ = balanced
    shoved = qd[-1] + np.stack([np.zeros(512), np.resize([6.0, -6.0], 512)], 1)
    q, _, cost = played(nominal(shove_rate=0.0), q[-1], shoved.astype(np.float32))
    fell = cost.argmax(0) + 1
    assert (cost.max(0) == 1).all() and np.median(fell) <= 6
    back = len(cost) - cost[::-1].argmax(0)
    assert 25 < np.median(back) < 40
    assert np.percentile(back, 99) <= SwingUp.recovery_steps
    assert np.mean(np.abs(q[..., 0]).max(0) < RAIL) > 0.95


def test_nobody_earns_by_spinning_or_by_pushing():
    kind = np.resize([SPINNER, CONSTANT], 512)
    q, qd, cost = played(nominal(), np.zeros((512, 2)), np.zeros((512, 2)), kind)
    for policy in (SPINNER, CONSTANT):
        assert cost[60:, kind == policy].mean() > 0.99
    turning = np.abs(qd[-1, kind == SPINNER, 1])
    assert np.median(turning) > 8.0
    assert (np.abs(q[60:, kind == SPINNER, 1]) < RISEN).mean() > 0.03  # it does pass upright


def test_the_expert_follows_the_observation_and_the_range():
    q, qd = random_states(256)
    states = jax.vmap(made().at)(q, 3.0 * qd, keys(6, 256))
    act = jax.vmap(made().expert)
    action = np.asarray(act(states, keys(7, 256)))
    assert action.shape == (256, 1) and np.abs(action).max() <= 1.0
    turned = states.replace(info={**states.info, "down": ~states.info["down"]})
    assert (np.asarray(act(turned, keys(8, 256))) == action).all()


def test_the_picture_and_the_probe():
    state = made().at(jnp.array([1.0, np.pi / 2]), jnp.zeros(2), jax.random.PRNGKey(0))
    picture = made().picture(state)
    np.testing.assert_allclose(picture["bodies"], [[1.0, 0.0], [2.0, 0.0]], atol=1e-6)
    assert picture["parents"].tolist() == [-1, 0]
    probe = made().probe()
    assert probe["observation"].shape == (len(probe["x"]), 4)
    np.testing.assert_allclose(probe["observation"][:, 1], probe["x"])
    np.testing.assert_allclose(probe["observation"][:, 3], probe["y"])
    assert ((probe["cost"] == 1) == (np.abs(probe["x"]) > FALLEN)).all()


def test_the_usual_physics_is_the_faster_one():
    assert SwingUp().backend == SwingUp("auto").backend == "mjx"
    assert SwingUp("generalized").chosen == {"backend": "generalized", "angle": "wrapped"}


def test_both_forms_of_the_angle_show_the_same_state():
    place, motion = jnp.array([0.5, -2.5]), jnp.array([0.3, 1.5])
    wrapped, circle = (SwingUp(angle=form) for form in ("wrapped", "cos_sin"))
    plain, turned = (
        world.at(place, motion, jax.random.PRNGKey(0)).obs for world in (wrapped, circle)
    )
    np.testing.assert_allclose(plain, [0.5, -2.5, 0.3, 1.5], atol=1e-6)
    np.testing.assert_allclose(turned, [0.5, np.cos(-2.5), np.sin(-2.5), 0.3, 1.5], atol=1e-6)
    assert (wrapped.observation_size, circle.observation_size) == (4, 5)
    np.testing.assert_allclose(wrapped.expert_at(plain), circle.expert_at(turned), atol=1e-4)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(ValueError, match="nearest: cos_sin"):
        envs.make("swing_up", angle="cos")
    with pytest.raises(ValueError, match="nearest: generalized") as raised:
        envs.make("swing_up", backend="generalised")
    assert "\n" not in str(raised.value)
