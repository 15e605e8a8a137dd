"""The plants: dynamics against NumPy, loops and covariances in closed form, the drawn failures, the
expert, and how a clone without an answer to the offset fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import contract, plant
from envs.core import dial_fields
from envs.plant import COUPLING, KERB, PUSH, Plant, PlantDials
from irl_bench.horizon import linear_clones
from irl_bench.tools import latency

pytestmark = pytest.mark.usefixtures("quick_compilation")
SYSTEMS = tuple(COUPLING)


def g(x):
    """float64[...]: the nonlinear part of the dynamics at states [..., 3]."""
    return plant.AMPLITUDE * np.sin(plant.WAVE * x[..., 1])


def right(x, pole):
    """float64[...]: the expert's action at states [..., 3], without limits."""
    return x @ plant.gain(pole)[0] - g(x)


def cloned(system, pole=PlantDials.pole):
    """float64[3, 3]: the loop of a clone that answers the loads and not the offset."""
    matrices = plant.open_loop(system, pole), plant.INPUT, plant.gain(pole)
    return linear_clones.cloned_loop(*matrices, np.array([1.0, 1.0, 0.0]))


def started(world, keys):
    return jax.vmap(world.reset)(keys)


def placed(world, x, off=False, seed=0):
    """States of the world with x [n, 3] in the stead of what reset draws."""
    x = jnp.asarray(x, jnp.float32)
    states = started(world, jax.random.split(jax.random.PRNGKey(seed), len(x)))
    inner = states.pipeline_state.replace(x=x, off=jnp.full(len(x), off))
    return states.replace(pipeline_state=inner, obs=x)


def ask(world, states):
    return jax.vmap(lambda s: world.expert(s, jax.random.PRNGKey(0)))(states)


def run(world, act, states, steps):
    """(last states, (observations [T, n, 3], costs [T, n], graded costs [T, n]))."""

    def step(states, t):
        states = jax.vmap(world.step)(states, act(states, t))
        metrics = states.metrics
        return states, (states.obs, metrics["cost"], metrics["graded_cost"])

    return jax.device_get(
        jax.jit(lambda states: jax.lax.scan(step, states, jnp.arange(steps)))(states)
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_contract_is_kept(system):
    assert contract.check(Plant(system)) == ()


@pytest.mark.parametrize("system", SYSTEMS)
def test_steps_are_those_of_the_equations(system):
    """x' = A x + B (u + g(x)) + w in NumPy, with the world's own w; the offset stops at bound."""
    world = Plant(system, pole=1.03, noise=0.06, shake=0.05, bound=0.5)
    A, B = plant.open_loop(system, 1.03), np.array([0.0, 0.0, PUSH])
    state, rng, stopped = world.reset(jax.random.PRNGKey(5)), np.random.default_rng(5), 0
    step = jax.jit(world.step)
    for _ in range(60):
        x, u = np.asarray(state.obs, np.float64), 2.0 * rng.uniform(-1.0, 1.0)
        key = jax.random.split(state.pipeline_state.key, 3)[1]
        w = np.asarray(jax.random.normal(key, (3,))) * [0.06, 0.06, 0.05]
        expected = A @ x + B * (np.clip(u, -1, 1) + g(x)) + w
        stopped += abs(expected[2]) > 0.5
        expected[2] = np.clip(expected[2], -0.5, 0.5)
        state = step(state, jnp.array([u], jnp.float32))
        np.testing.assert_allclose(state.obs, expected, atol=2e-6)
        graded = min(1.0, (expected[2] / 0.5) ** 2)
        assert float(state.metrics["graded_cost"]) == pytest.approx(graded, abs=1e-5)
        assert float(state.reward) == 1.0 - float(state.metrics["cost"])
    assert 0 < stopped < 60


@pytest.mark.parametrize("system", SYSTEMS)
def test_jit_and_vmap_change_nothing(system):
    world = Plant(system, shake=0.1, reacquisition=0.5, bound=0.3)
    keys = jax.random.split(jax.random.PRNGKey(4), 3)
    actions = np.random.default_rng(4).uniform(-1, 1, (8, 3, 1)).astype(np.float32)
    together = jax.jit(jax.vmap(world.reset))(keys)
    alone = [world.reset(key) for key in keys]
    step = jax.jit(jax.vmap(world.step))
    for row in actions:
        together = step(together, jnp.asarray(row))
        alone = [world.step(state, jnp.asarray(a)) for state, a in zip(alone, row)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    assert jax.tree.structure(together) == jax.tree.structure(stacked)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(stacked)):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_loops_are_as_the_module_says():
    """The table in the module's text, and what the two systems are there for."""
    table = {
        ("open", "stable"): (4.61, 0.921), ("open", "unstable"): (1.02, 1.025),
        ("expert", "stable"): (4.12, 0.9995), ("expert", "unstable"): (1.0, 0.9995),
        ("clone", "stable"): (4.14, 1.025), ("clone", "unstable"): (1.0, 1.025),
    }  # fmt: skip
    loops = {"open": plant.open_loop, "expert": plant.closed_loop, "clone": cloned}
    for (name, system), (C, rho) in table.items():
        loop = loops[name](system)
        np.testing.assert_array_equal(loop[1], [0, plant.LOAD_POLE, 0])  # load 2 is alone
        block = loop[np.ix_([0, 2], [0, 2])]
        found = plant.eiss(block)
        assert abs(found[0] - C) < 0.006 and abs(found[1] - rho) < 0.0006
        power = np.eye(2)
        for k in range(200):
            assert np.linalg.norm(power, 2) <= found[0] * found[1] ** k * (1 + 1e-9)
            power = power @ block
    highest = dial_fields(PlantDials())["pole"].metadata["high"]
    for pole in (1.001, 1.06, highest):
        assert plant.eiss(plant.open_loop("stable", pole))[1] < 1
        assert plant.eiss(plant.open_loop("unstable", pole))[1] == pytest.approx(pole)
        for system in SYSTEMS:
            assert plant.eiss(plant.closed_loop(system, pole))[1] < 1
            assert plant.eiss(cloned(system, pole))[1] == pytest.approx(pole)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_expert_holds_the_covariance_of_the_lyapunov_equation(system):
    """With loads that begin at 0, the covariance after k steps is S - M^k S (M^k)^T."""
    world, n, steps = Plant(system, shake=0.01, noise=0.064), 4096, 400
    S, M = plant.stationary_covariance(system, world.dials), plant.closed_loop(system)
    W = np.diag([0.064**2, 0.064**2, 0.01**2])
    np.testing.assert_allclose(M @ S @ M.T + W, S, atol=1e-12)
    power = np.linalg.matrix_power(M, steps)
    expected = S - power @ S @ power.T
    start = placed(world, np.zeros((n, 3)))
    last, _ = run(world, lambda s, t: ask(world, s), start, steps)
    x = last.obs.astype(np.float64)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    # A variance of 4096 plants is known to 2.2 %, a covariance to 1.6 %.
    assert np.abs((x.T @ x / n - expected) / scale).max() < 0.09
    assert system == "unstable" or expected[0, 0] > 1.2 * expected[1, 1]  # the coupling


def test_starts_are_stationary_at_any_noise():
    world = Plant(noise=0.016)
    keys = jax.random.split(jax.random.PRNGKey(8), 8192)
    x = np.asarray(jax.jit(jax.vmap(world.reset))(keys).obs, np.float64)
    expected = plant.stationary_covariance("stable", world.dials)[0, 0]
    np.testing.assert_allclose(x[:, :2].var(0), expected, rtol=0.06)
    assert abs(x[:, 0] @ x[:, 1]) / len(x) < 4 * expected / np.sqrt(len(x)) and not x[:, 2].any()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_expert_is_right_at_any_state_and_never_fails(system):
    world = Plant(system)
    states = started(world, jax.random.split(jax.random.PRNGKey(9), 512))
    _, (x, cost, graded) = run(world, lambda s, t: ask(world, s), states, world.horizon)
    assert not cost.any() and graded.max() < 1e-12
    actions = right(x.astype(np.float64), world.dials.pole)
    assert np.abs(actions).max() < 1  # it does not even reach its limits

    world, rng = Plant(system, bound=1.0, pole=1.06), np.random.default_rng(9)
    anywhere = rng.normal(size=(256, 3)) * [3.0, 3.0, 0.7]
    anywhere[:, 2] = np.clip(anywhere[:, 2], -1, 1)
    states = placed(world, anywhere, off=True)
    wanted = right(anywhere, world.dials.pole)
    np.testing.assert_allclose(ask(world, states)[:, 0], np.clip(wanted, -1, 1), atol=1e-5)
    after = jax.vmap(world.step)(states, ask(world, states)).obs[:, 2]
    reachable = np.abs(wanted) < 1
    assert 10 < reachable.sum() < 246
    assert np.abs(np.asarray(after))[reachable].max() < 1e-5  # in one step: deadbeat


def test_demonstrations_do_not_tell_the_systems_apart():
    keys = jax.random.split(jax.random.PRNGKey(10), 32)
    seen = []
    for system in SYSTEMS:
        world = Plant(system)
        seen.append(run(world, lambda s, t, w=world: ask(w, s), started(world, keys), 64)[1])
    jax.tree.map(np.testing.assert_array_equal, *seen)
    assert np.abs(seen[0][0][..., 2]).max() < 1e-6


@pytest.mark.parametrize(
    ("offset", "sharpness"), [(0.05, 2.0), (0.3, 2.0), (0.8, 2.0), (0.3, 1.0), (0.45, 8.0)]
)
def test_failures_have_the_probability_of_the_graded_cost(offset, sharpness):
    """With the pole at 1 an unanswered offset comes back on the other side, 0.8 up to the bound."""
    world, n = Plant("unstable", bound=0.5, pole=1.0, sharpness=sharpness), 20000
    x = np.tile([0.3, 0.2, -offset], (n, 1))
    u = right(x * [1, 1, 0], 1.0)[:, None]
    after = jax.jit(jax.vmap(world.step))(placed(world, x, seed=11), jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(after.obs[:, 2], min(offset, 0.5), rtol=1e-5)
    expected = min(1.0, (offset / 0.5) ** sharpness)
    share = float(after.metrics["cost"].mean())
    assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)
    graded = min(1.0, (offset / 0.5) ** 2)
    np.testing.assert_allclose(after.metrics["graded_cost"], graded, rtol=1e-4)


@pytest.mark.parametrize("bound", [1.0, 2.0])
def test_a_failed_plant_is_up_again_within_the_kerb_unless_it_is_hit(bound):
    world, n = Plant("unstable", pole=1.0, bound=bound), 4000
    for share, expected in ((0.05, 0.05**2), (0.99 * KERB, (0.99 * KERB) ** 2), (0.6, 1.0)):
        x = np.tile([0.0, 0.0, -share * bound], (n, 1))
        after = jax.jit(jax.vmap(world.step))(placed(world, x, off=True), jnp.zeros((n, 1)))
        np.testing.assert_allclose(after.obs[:, 2], share * bound, rtol=1e-5)
        failed = float(after.metrics["cost"].mean())
        assert abs(failed - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("system", SYSTEMS)
def test_recovery_from_the_stop(system):
    """From the bound, the worst case, with the loads where they usually are."""
    world, n = Plant(system), 20000
    x = np.array(started(world, jax.random.split(jax.random.PRNGKey(12), n)).obs)
    x[:, 2] = world.dials.bound * np.where(np.arange(n) % 2, 1.0, -1.0)
    _, (_, cost, _) = run(world, lambda s, t: ask(world, s), placed(world, x, off=True), 6)
    steps = 1 + np.argmax(cost == 0, 0)
    assert np.quantile(steps, 0.99) == Plant.recovery_steps and not cost[-1].any()


def test_latency_is_measured():
    """As for the robots. A single random action suffices, and without one nothing fails."""
    for system in SYSTEMS:
        rows = latency.measure(Plant(system), episodes=256, before=20, watched=60)
        assert rows[0]["burst"] == rows[0]["failed"] == 0 and rows[1]["failed"] > 0.5
        assert rows[-1]["burst"] == max(latency.BURSTS) and rows[-1]["failed"] > 0.95
        assert latency.latency(rows) == (Plant.latency, 1)


def test_reacquisition_puts_the_plant_back():
    world, n = Plant("unstable", reacquisition=0.25, bound=1.0), 8000
    states = placed(world, np.tile([0.0, 0.0, 0.9], (n, 1)), off=True)
    after = jax.jit(jax.vmap(world.step))(states, jnp.zeros((n, 1)))
    back = np.asarray(after.metrics["cost"]) == 0
    assert abs(back.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)
    assert not np.asarray(after.obs)[back, 2].any()
    assert np.abs(np.asarray(after.obs)[~back, 2]).min() > 0.8
    assert float(Plant().dials_for("recoverable").reacquisition) == 0.25
    # A fresh failure is put back just as often, whatever chance has drawn for it.
    world = Plant("unstable", reacquisition=0.5, bound=1.0, pole=1.0)
    states = placed(world, np.tile([0.0, 0.0, 0.5], (n, 1)))
    failed = float(jax.jit(jax.vmap(world.step))(states, jnp.zeros((n, 1))).metrics["cost"].mean())
    assert abs(failed - 0.5 * 0.5**2) < 4 * np.sqrt(0.125 * 0.875 / n)


def test_every_dial_has_an_effect():
    keys = jax.random.split(jax.random.PRNGKey(13), 64)
    world = Plant()

    @jax.jit
    def total(dials):
        bound = world.bind(dials)

        def step(states, key):
            pushes = jax.random.uniform(key, (64, 1), minval=-0.2, maxval=0.2)
            states = jax.vmap(bound.step)(states, pushes)
            return states, (states.obs, states.metrics["cost"])

        moves = jax.random.split(keys[0], 50)
        seen, cost = jax.lax.scan(step, jax.vmap(bound.reset)(keys), moves)[1]
        return jnp.abs(seen[..., 1]).sum(), jnp.abs(seen[..., 2]).sum(), cost.sum()

    usual = world.dials_for("nominal")
    before = [float(x) for x in total(usual)]
    changes = {"pole": 1.05, "bound": 0.5, "sharpness": 1.0, "noise": 0.064, "shake": 0.1}
    changes["reacquisition"] = 0.9
    assert set(changes) == set(dial_fields(world.dials))
    for name, value in changes.items():
        after = [float(x) for x in total(usual.replace(**{name: jnp.float32(value)}))]
        if name == "noise":
            assert after[0] > 1.5 * before[0]  # load 2
        else:
            assert abs(after[2] - before[2]) > 5, name  # failed steps
    assert total._cache_size() == 1


def test_broken_numbers_never_count_as_success():
    world = Plant()
    state = world.step(world.reset(jax.random.PRNGKey(14)), jnp.array([jnp.nan]))
    for _ in range(2):
        assert all(np.isnan(float(value)) for value in state.metrics.values())
        assert np.isnan(float(state.reward))
        state = world.step(state, jnp.zeros(1))


def test_the_numbers_stay_bounded_under_the_worst_pushes():
    world = Plant("stable", pole=1.09, bound=10.0)
    states = started(world, jax.random.split(jax.random.PRNGKey(15), 16))
    sign = lambda s, t: jnp.where(s.obs[:, 2:] > 0, -1.0, 1.0)  # with the pole, against the expert
    _, (x, cost, _) = run(world, sign, states, 500)
    assert np.abs(x[..., 2]).max() == 10.0 and np.abs(x[..., :2]).max() <= plant.LOAD_LIMIT
    assert cost[-1].all()


def test_a_clone_without_an_answer_fails_exponentially():
    """If the clone's action is off by delta, its offset solves e' = -pole e + b delta. The cost
    follows it, with local slopes that rise."""
    world, delta, T, n = Plant("unstable"), 0.005, np.arange(1, 129), 8192

    def act(states, t):
        x = states.pipeline_state.x.at[:, 2].set(0.0)
        inner = states.pipeline_state.replace(x=x)
        return ask(world, states.replace(pipeline_state=inner)) + delta

    states = started(world, jax.random.split(jax.random.PRNGKey(16), n))
    _, (x, cost, graded) = run(world, act, states, len(T))
    pole, bound = world.dials.pole, world.dials.bound
    e = PUSH * delta * (1.0 - (-pole) ** T) / (1.0 + pole)
    p = (e / bound) ** 2
    np.testing.assert_allclose(x[..., 2], np.tile(e, (n, 1)).T, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(graded.mean(1), p, rtol=5e-3, atol=1e-9)
    # All offsets stay within the kerb, so every failure lasts one step: cost_t ~ Bernoulli(p_t).
    assert np.abs(e).max() < KERB * bound and p[-1] > 0.01
    J, expected = np.cumsum(cost.mean(1)), np.cumsum(p)
    assert (np.abs(J - expected) < 4.5 * np.sqrt(np.cumsum(p * (1 - p)) / n)).all()
    local = np.diff(np.log(expected[[15, 31, 63, 127]])) / np.log(2)
    assert local[0] > 1.1 and (np.diff(local) > 0.4).all() and local[-1] > 3.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: Plant("unstabel"),
        lambda: envs.build(Plant, "plant", system="unstabel"),
        lambda: plant.open_loop("unstabel"),
        lambda: plant.stationary_covariance("unstabel", PlantDials()),
    ],
)
def test_an_unknown_system_is_one_line(call):
    with pytest.raises(ValueError, match=r"plant\.system=unstabel must be one of .*unstable$") as e:
        call()
    assert "\n" not in str(e.value)


def test_dials_out_of_range_are_one_line():
    with pytest.raises(ValueError, match=r"plant\.pole=1\.2 must be finite and in \[0, 1\.09\]"):
        envs.build(Plant, "plant", pole=1.2)


def test_the_probe_shows_the_graded_cost():
    probe = Plant(bound=2.0).probe()
    x = probe["observation"]
    assert x.shape == (37 * 13, 3) and x.dtype == np.float32
    np.testing.assert_allclose(x[:, 2], probe["x"], rtol=1e-6)
    np.testing.assert_allclose(x[:, 0], probe["y"], rtol=1e-6)
    np.testing.assert_allclose(probe["cost"], (x[:, 2] / 2.0) ** 2, atol=1e-6)
