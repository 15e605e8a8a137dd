"""The analytic worlds: simulation against the closed form in every mode, the views, the expert,
and the contract of a world."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
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


# SHA-256 of every number of 16 episodes of 48 random actions, and figures, computed before the
# world had the option `tail`.
ROLLOUTS = {
    "dagger_chain": "465d1987adad4ddc482a898ff36a78fadc53cf0e17e5b626900db608536ef639",
    "cliff": "e1d4bc7655912b2f056394297fa7e57f5c5dda33753e11cd576aaa27f339a512",
    "recoverable": "5a946601dfc23afecb82ad5ab462ca05768c03353ae44c328605dbc0f8089ef7",
    "front_loaded": "80374ee768ddb0a8187dceaed9601b7c11936fbc672d8d79e928d4dd2099e9c3",
}
TABLES = {
    "PROBABILITY": "d85c56f48126cc1b51961eec8d3563798071741966ff286ce360026f51da1515",
    "ZIPF": "d75bf0f1b1607cb5842227fbbd26677f3879fdbc9c1422c195edfae12d9a138a",
    "CORRECT": "2d92719d09918ca16557bb8d3a14e1d67f243ece5a87bc48a9caf5bff0fee22e",
}
NEW = tuple(name for name in chain.TAILS if name != "zipf")


@pytest.mark.parametrize("mode", MODES)
def test_the_default_tail_draws_what_it_always_drew(mode):
    world = Chain().bind(Chain().dials_for(mode))
    actions = jnp.asarray(np.random.default_rng(7).integers(0, 4, (48, 16)), jnp.int32)

    def step(state, action):
        state = jax.vmap(world.step)(state, action)
        expert = jax.vmap(lambda s: world.expert(s, s.pipeline_state.key))(state)
        return state, (state.obs, state.reward, state.metrics, state.pipeline_state, expert)

    start = jax.vmap(world.reset)(jax.random.split(jax.random.PRNGKey(7), 16))
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get((start, jax.lax.scan(step, start, actions)))):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    assert digest.hexdigest() == ROLLOUTS[mode]


def test_the_default_tail_has_the_numbers_it_always_had():
    for name, digest in TABLES.items():
        assert hashlib.sha256(getattr(chain, name).tobytes()).hexdigest() == digest
    actions = table(wrong=(1, 2, 20), off_action=RECOVER)
    h, rho = chain.exact_rates(actions, ChainDials())
    assert (h.hex(), rho.hex()) == ("0x1.57bd5e51ef8bcp-9", "0x1.5555555555554p-2")
    first = chain.exact_first(actions, ChainDials(front=0.5))
    assert first == pytest.approx(float.fromhex("0x1.0f3b6c6ca7043p-3"), rel=1e-14)
    world = Chain()
    assert (world.observation_size, world.horizon, world.failure_flags) == (65, 1024, (64,))
    assert world.dials == ChainDials() and world.chosen == {"tail": "zipf"}


@pytest.mark.parametrize("tail", NEW)
def test_a_tail_is_a_distribution_with_its_exponent(tail):
    law = chain.TAILS[tail]
    assert law.probability.sum() == pytest.approx(1, abs=1e-12)
    assert law.rare.sum() == pytest.approx(1, abs=1e-12) and law.rare[0] == 0
    assert law.situations == len(law.rare) == len(law.correct) <= 1024
    assert (np.diff(law.rare[1:]) <= 0.02 * law.rare[-1]).all() and set(law.correct) == {0, 1, 2}
    doubled = law.rare[8] / law.rare[4]  # 2^-s, or 2^-4
    assert doubled == pytest.approx(2.0 ** -(4.0 if tail == "geometric" else float(tail)))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("tail", NEW)
def test_the_world_draws_its_tail(tail):
    world, law = envs.make("chain", tail=tail, front=1.0), chain.TAILS[tail]
    keys = jax.random.split(jax.random.PRNGKey(11), 40000)
    state = jax.jit(jax.vmap(world.reset))(keys)  # front = 1: every first situation is rare
    rare = np.bincount(np.asarray(state.pipeline_state.situation), minlength=law.situations)
    state = jax.jit(jax.vmap(lambda s, k: world.step(s, world.expert(s, k))))(state, keys)
    usual = np.bincount(np.asarray(state.pipeline_state.situation), minlength=law.situations)
    assert not state.metrics["cost"].any()
    assert abs(usual[1:].sum() / 40000 - chain.RARE) < 4 * np.sqrt(chain.RARE / 40000)
    for counts, p in ((rare, law.rare), (usual, law.probability)):
        kept = p * counts.sum() > 5
        observed = np.append(counts[kept], counts[~kept].sum())
        expected = np.append(p[kept], p[~kept].sum()) * counts.sum()
        positive = expected > 0
        assert not observed[~positive].any()
        assert stats.chisquare(observed[positive], expected[positive]).pvalue > 0.001


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("tail", NEW)
def test_a_tail_has_views_costs_and_a_closed_form(tail):
    world, law = Chain(tail=tail), chain.TAILS[tail]
    K = law.situations
    assert world.observation_size == K + 1 and world.failure_flags == (K,)
    assert world.dials.hazard == law.hazard and world.horizon == 2048
    actions = np.append(law.correct, 1)
    actions[[0, 1]] = RECOVER
    played, dials = jnp.asarray(actions), world.dials_for("cliff")

    def cost(dials):
        return world.bind(dials).expected_cost(lambda x: played[jnp.argmax(x)], 256)

    h, rho = chain.exact_rates(actions, world.dials.replace(recovery=0.0), tail)
    assert rho == 0 and h == pytest.approx(law.hazard * law.probability[:2].sum())
    T = np.arange(1, 257)
    np.testing.assert_allclose(jax.jit(cost)(dials), chain.closed_form(h, rho, T), rtol=1e-4)
    assert chain.exact_first(actions, world.dials.replace(front=1.0), tail) == pytest.approx(
        law.hazard * law.rare[1]
    )

    def episode(key):
        def step(state, _):
            state = world.step(state, played[jnp.argmax(state.obs)])
            return state, (state.metrics["cost"], state.obs)

        return jax.lax.scan(step, world.bind(dials).reset(key), None, length=64)[1]

    failed, seen = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.PRNGKey(12), 512))
    assert (seen.sum(-1) == 1).all() and (seen[..., K] == failed).all()
    assert abs(float(failed.sum(1).mean()) - chain.closed_form(h, 0.0, np.array([64]))[0]) < 4 * (
        float(failed.sum(1).std()) / np.sqrt(512)
    )


def test_jit_changes_nothing_in_another_tail():
    world = Chain(tail="1.5")
    state, key = world.reset(jax.random.PRNGKey(13)), jax.random.PRNGKey(0)
    jitted = jax.jit(world.reset)(jax.random.PRNGKey(13))
    step = jax.jit(world.step)
    for action in (0, 1, RECOVER, RECOVER):
        jax.tree.map(np.testing.assert_array_equal, state, jitted)
        state, jitted = world.step(state, jnp.int32(action)), step(jitted, jnp.int32(action))
        assert int(world.expert(state, key)) == int(jax.jit(world.expert)(jitted, key))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Chain(tail="2.5"),
        lambda: envs.make("chain", tail="2.5"),
        lambda: chain.exact_rates(chain.CORRECT, ChainDials(), "2.5"),
    ],
)
def test_an_unknown_tail_is_one_line(call):
    with pytest.raises(ValueError, match=r"chain.tail=2.5 must be one of zipf .*; nearest: ") as e:
        call()
    assert "\n" not in str(e.value)
