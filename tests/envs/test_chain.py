"""The analytic worlds: simulation against the closed form in every mode, the views, the expert,
and the contract of a world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from envs import chain
from envs.chain import OFF_VIEW, RECOVER, SITUATIONS, Chain, ChainDials

EPISODES = 4096
HORIZON = 1024
GRID = np.round(np.geomspace(80, 1024, 8)).astype(int)
MODES = tuple(Chain.modes)


def table(wrong: tuple[int, ...] = (), off_action: int = 0) -> np.ndarray:
    """int[K + 1]: right everywhere but in `wrong`, where it plays another lane action."""
    actions = np.append(chain.CORRECT, off_action)
    actions[list(wrong)] = (actions[list(wrong)] + 1) % RECOVER
    return actions


# h is 2e-3 and more: many departures, so a small spread; the cliff bends towards saturation over
# the grid, as it should.
POLICIES = {
    "perfect": table(),
    "clone": table(wrong=(1, 2)),
    "clone that recovers": table(wrong=(1, 2), off_action=RECOVER),
    "worse, recovers": table(wrong=(1, 2, 3, 20), off_action=RECOVER),
}


def play(world: Chain, keys: jax.Array, actions: jax.Array, steps: int):
    """Cumulative cost of every episode after each step, reduced to its mean [T] and variance
    [T]; and transition counts [4]."""

    def step(carry, _):
        state, total, counts = carry
        before = state.metrics["cost"]
        state = jax.vmap(world.step)(state, (state.obs @ actions).astype(jnp.int32))
        after = state.metrics["cost"]
        total = total + after
        moved = jnp.stack(
            [
                (1 - before).sum(),
                ((1 - before) * after).sum(),
                before.sum(),
                (before * (1 - after)).sum(),
            ]
        )
        return (state, total, counts + moved), (total.mean(), total.var())

    state = jax.vmap(world.reset)(keys)
    start = (state, jnp.zeros(keys.shape[0]), jnp.zeros(4))
    (_, _, counts), (mean, variance) = jax.lax.scan(step, start, None, length=steps)
    return mean, variance, counts


@pytest.fixture(scope="module")
def simulated():
    """(mean [T], variance [T], counts [4]) by mode and policy: one compilation, as dials and
    tables are data."""
    world = Chain()
    run = jax.jit(lambda dials, actions, keys: play(world.bind(dials), keys, actions, HORIZON))
    results = {}
    for m, mode in enumerate(MODES):
        for p, (name, actions) in enumerate(POLICIES.items()):
            keys = jax.random.split(jax.random.PRNGKey(100 * m + p), EPISODES)
            out = run(world.dials_for(mode), jnp.asarray(actions, jnp.float32), keys)
            results[mode, name] = tuple(np.asarray(x, np.float64) for x in out)
    assert run._cache_size() == 1
    return results


def exact(mode: str, name: str) -> tuple[float, float, np.ndarray]:
    dials = Chain().dials.replace(**Chain.modes[mode])
    h, rho = chain.exact_rates(POLICIES[name], dials)
    return (
        h,
        rho,
        chain.closed_form(h, rho, GRID, dials.front, chain.exact_first(POLICIES[name], dials)),
    )


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("mode", MODES)
def test_simulated_cost_matches_closed_form(simulated, mode, name):
    mean, variance, _ = simulated[mode, name]
    _, _, expected = exact(mode, name)
    error = np.sqrt(variance[GRID - 1] / EPISODES)
    if name == "perfect":
        assert not mean.any() and not expected.any()
    else:
        assert np.max(np.abs(mean[GRID - 1] - expected) / error) < 3


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "perfect"])
@pytest.mark.parametrize("mode", MODES)
def test_simulated_slope_matches_exact_one(simulated, mode, name):
    mean, _, _ = simulated[mode, name]
    _, _, expected = exact(mode, name)
    slope = np.polyfit(np.log(GRID), np.log(mean[GRID - 1]), 1)[0]
    assert abs(slope - np.polyfit(np.log(GRID), np.log(expected), 1)[0]) < 0.05


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("mode", ["dagger_chain", "cliff", "recoverable"])
def test_transition_rates_match_exact_ones(simulated, mode, name):
    on, left, off, returned = simulated[mode, name][2]
    h, rho, _ = exact(mode, name)
    for count, trials, rate in ((left, on, h), (returned, off, rho)):
        spread = np.sqrt(trials * rate * (1 - rate))
        assert abs(count - trials * rate) <= 3 * spread


def test_closed_form_in_known_cases():
    T = np.array([1, 2, 10, 1000])
    np.testing.assert_allclose(
        chain.closed_form(0.01, 0.0, T), T - 0.99 * (1 - 0.99**T) / 0.01, rtol=1e-12
    )  # cliff
    h, rho = 0.003, 0.125
    k = h + rho
    np.testing.assert_allclose(
        chain.closed_form(h, rho, T), h / k * (T - (1 - k) * (1 - (1 - k) ** T) / k), rtol=1e-9
    )
    np.testing.assert_allclose(
        chain.closed_form(1e-12, 0.0, T), 1e-12 * T * (T + 1) / 2, rtol=1e-6
    )  # no cancellation
    np.testing.assert_allclose(chain.closed_form(0.3, 0.0, T, front=1.0), 0.3 * T, rtol=1e-12)
    np.testing.assert_allclose(
        chain.closed_form(0.3, 0.5, T, front=1.0), 0.3 * (1 - 0.5**T) / 0.5, rtol=1e-12
    )
    assert not chain.closed_form(0.0, 0.0, T).any()
    np.testing.assert_allclose(
        chain.closed_form(1.0, 1.0, T), np.ceil(T / 2)
    )  # k = 2: on and off in turn


@pytest.mark.parametrize("front", [0.0, 0.4, 1.0])
def test_closed_form_is_the_recursion(front):
    h, rho, p, total = 0.02, 0.1, 0.0, []
    for t in range(50):
        p = p * (1 - rho) + (1 - p) * h * (1 if t == 0 else 1 - front)
        total.append(p)
    np.testing.assert_allclose(
        chain.closed_form(h, rho, np.arange(1, 51), front), np.cumsum(total), rtol=1e-12
    )


def test_exact_slopes_at_a_small_hazard():
    def slope(rho):
        return np.polyfit(np.log(GRID), np.log(chain.closed_form(2e-4, rho, GRID)), 1)[0]

    assert slope(0.0) > 1.9 and 0.98 < slope(1 / 8) < 1.1 and 0.98 < slope(1 / 4) < 1.05


def test_exact_rates():
    dials = ChainDials(hazard=0.5, recovery=0.2, reacquisition=0.1)
    h, rho = chain.exact_rates(table(wrong=(0, 1), off_action=RECOVER), dials)
    assert h == pytest.approx(0.5 * (chain.PROBABILITY[0] + chain.PROBABILITY[1]))
    assert rho == pytest.approx(0.2 + 0.1 - 0.02)
    assert chain.exact_rates(table(off_action=1), dials) == (0.0, pytest.approx(0.1))
    assert chain.exact_rates(np.full(SITUATIONS + 1, RECOVER), dials)[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="shape"):
        chain.exact_rates(chain.CORRECT, dials)


def test_missing_mass_matches_draws():
    draws = np.random.default_rng(0).choice(SITUATIONS, size=(200, 20000), p=chain.PROBABILITY)
    absent = np.array([np.bincount(row, minlength=SITUATIONS) == 0 for row in draws])
    mass, number = chain.missing_mass(20000)
    for sample, expected in ((absent @ chain.PROBABILITY, mass), (absent.sum(1), number)):
        assert abs(sample.mean() - expected) < 3 * sample.std() / np.sqrt(200)


def test_situations_are_zipf():
    world = Chain()

    def episode(key):
        state = world.reset(key)

        def step(state, _):
            return world.step(state, world.expert(state, key)), state.obs

        return jax.lax.scan(step, state, None, length=200)[1]

    observations = np.asarray(
        jax.jit(jax.vmap(episode))(jax.random.split(jax.random.PRNGKey(1), 500))
    )
    assert set(np.unique(observations)) == {0.0, 1.0}
    assert (observations.sum(-1) == 1).all() and not observations[..., OFF_VIEW].any()
    counts = observations[..., :SITUATIONS].sum((0, 1))
    assert stats.chisquare(counts, chain.PROBABILITY * counts.sum()).pvalue > 0.001
    same_as_next = (
        (observations[:, 1:] * observations[:, :-1]).sum(-1).mean()
    )  # independent from step to step
    expected = (chain.PROBABILITY**2).sum()
    assert abs(same_as_next - expected) < 4 * np.sqrt(expected / (500 * 199))


@pytest.mark.parametrize("mode", MODES)
def test_expert_never_errs(mode):
    world = Chain().bind(Chain().dials_for(mode))

    def episode(key):
        def step(state, _):
            state = world.step(state, world.expert(state, key))
            return state, (
                state.metrics["cost"],
                state.metrics["graded_cost"],
                state.reward,
                state.done,
            )

        return jax.lax.scan(step, world.reset(key), None, length=HORIZON)[1]

    cost, graded, reward, done = jax.jit(jax.vmap(episode))(
        jax.random.split(jax.random.PRNGKey(2), 256)
    )
    assert not cost.any() and not graded.any() and not done.any() and (reward == 1).all()


def test_views_costs_and_way_back():
    world = Chain(recovery=1.0)
    state = world.reset(jax.random.PRNGKey(3))
    situation = int(state.pipeline_state.situation)
    assert state.obs.shape == (world.observation_size,) and state.obs.dtype == jnp.float32
    assert int(jnp.argmax(state.obs)) == situation
    assert float(state.metrics["cost"]) == float(state.metrics["graded_cost"]) == 0.0
    assert int(world.expert(state, state.pipeline_state.key)) == chain.CORRECT[situation]

    state = world.step(state, jnp.int32(RECOVER))  # wrong while on
    for action in (0, 1, 2):  # no lane action comes back
        assert not state.obs[:SITUATIONS].any() and state.obs[OFF_VIEW] == 1.0
        assert (
            float(state.metrics["cost"]) == float(state.metrics["graded_cost"]) == 1.0
            and float(state.reward) == 0.0
        )
        assert int(world.expert(state, state.pipeline_state.key)) == RECOVER
        state = world.step(state, jnp.int32(action))
    state = world.step(state, world.expert(state, state.pipeline_state.key))
    assert float(state.metrics["cost"]) == 0.0 and state.obs[OFF_VIEW] == 0.0
    assert int(state.pipeline_state.step) == 5


def test_jit_and_vmap_change_nothing():
    world = Chain().bind(Chain().dials_for("recoverable"))
    keys = jax.random.split(jax.random.PRNGKey(4), 5)
    actions = np.random.default_rng(4).integers(0, 4, (6, 5))

    def run(reset, step):
        states = [reset(keys)]
        for row in actions:
            states.append(step(states[-1], jnp.asarray(row, jnp.int32)))
        return states

    def loop(function):
        return lambda *rows: jax.tree.map(
            lambda *x: jnp.stack(x),
            *[function(*jax.tree.map(lambda x, i=i: x[i], rows)) for i in range(5)],
        )

    batched = run(jax.jit(jax.vmap(world.reset)), jax.jit(jax.vmap(world.step)))
    for other in (
        run(jax.vmap(world.reset), jax.vmap(world.step)),
        run(loop(world.reset), loop(world.step)),
    ):
        jax.tree.map(np.testing.assert_array_equal, batched, other)
    jax.tree.map(
        lambda a, b: (a.dtype, a.shape) == (b.dtype, b.shape) or pytest.fail("dtype"),
        batched[0],
        batched[-1],
    )


def test_dials_are_data():
    world = Chain()
    keys = jax.random.split(jax.random.PRNGKey(5), 64)
    actions = jnp.asarray(table(wrong=tuple(range(8))), jnp.float32)
    run = jax.jit(lambda dials, keys: play(world.bind(dials), keys, actions, 64)[0])
    final = [float(run(world.dials_for(mode), keys)[-1]) for mode in MODES]
    final.append(float(run(world.dials_for("cliff").replace(hazard=jnp.float32(0.0)), keys)[-1]))
    assert run._cache_size() == 1
    assert final[1] > final[0] - 1e-6 > final[2] > 0 and final[-1] == 0
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(world.dials_for("cliff")))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("mode", MODES)
def test_expected_cost_in_jit_is_the_closed_form(mode, name):
    world, actions = Chain(), jnp.asarray(POLICIES[name])
    cost = jax.jit(
        lambda dials: world.bind(dials).expected_cost(lambda x: actions[jnp.argmax(x)], HORIZON)
    )
    np.testing.assert_allclose(
        cost(world.dials_for(mode))[GRID - 1], exact(mode, name)[2], rtol=1e-4
    )
