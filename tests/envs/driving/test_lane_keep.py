"""Lane keeping: the view, kerb and rail, hazards, costs, dials, and the expert's claims (on the
lane, and back to it)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from envs.core import dial_fields
from envs.driving import lane_keep, road
from envs.driving.lane_keep import EDGE, KERB, KINDS, RAIL, RUT_STEPS, LaneKeep

pytestmark = pytest.mark.usefixtures("quick_compilation")

EPISODES, STEPS = 256, 300
NOMINAL = LaneKeep().dials_for("nominal")
CALM = NOMINAL.replace(crosswind=jnp.float32(0.0), hazard_rate=jnp.float32(0.0))
SIDE = LaneKeep.observation_layout["side"][0]


def expert(world, state):
    return world.expert(state, state.pipeline_state.key)


def deaf(world, state):
    """A clone that never saw a cue or the side flag: keeps to the lane, and believes itself on
    its centre when off it."""
    inner = state.pipeline_state
    car = inner.car._replace(e_y=jnp.where(inner.side == 0.0, inner.car.e_y, 0.0))
    return expert(
        world,
        state.replace(
            pipeline_state=inner.replace(car=car, side=jnp.zeros(()), rut=jnp.zeros_like(inner.rut))
        ),
    )


def wild(world, state):
    """Half of the drivers steer and brake at random, the others hold full lock; all exceed the
    action's range."""
    inner = state.pipeline_state
    drawn = jax.random.uniform(jax.random.fold_in(inner.key, 7), (2,), minval=-2.0, maxval=2.0)
    return jnp.where(
        inner.knots[0] > 0, drawn, jnp.stack([2.0 * jnp.sign(inner.knots[1]), drawn[1]])
    )


def drive(world, policy, states, steps, keep):
    """`keep(state)` after each of `steps` steps of a batch of states: [steps, batch, ...]."""

    def step(states, _):
        states = jax.vmap(lambda s: world.step(s, policy(world, s)))(states)
        return states, jax.vmap(keep)(states)

    return jax.lax.scan(step, states, None, length=steps)[1]


@functools.partial(jax.jit, static_argnames=("policy", "keep", "steps"))
def run(dials, keys, policy, keep=lambda state: state, steps=STEPS):
    """Episodes from fresh starts. One compilation per driver, because dials are data."""
    world = LaneKeep().bind(dials)
    return drive(world, policy, jax.vmap(world.reset)(keys), steps, keep)


@jax.jit
def taken_over(dials, states):
    """Costs [60, batch] after the expert takes over at each of a batch of states."""
    return drive(LaneKeep().bind(dials), expert, states, 60, lambda s: s.metrics["cost"])


reset = jax.jit(lambda dials, key: LaneKeep().bind(dials).reset(key))
step = jax.jit(lambda dials, state, action: LaneKeep().bind(dials).step(state, action))
ask = jax.jit(lambda dials, state: expert(LaneKeep().bind(dials), state))


def keys(seed, count=EPISODES):
    return jax.random.split(jax.random.PRNGKey(seed), count)


def cost(states):
    return np.asarray(states.metrics["cost"])


def offset(states):
    return np.asarray(states.pipeline_state.car.e_y)


def returns(cost):
    """Number of steps from off the lane back to it."""
    return ((cost[1:] == 0) & (cost[:-1] == 1)).sum()


@pytest.fixture(scope="module")
def by_expert():
    return run(NOMINAL, keys(0), expert)


@pytest.fixture(scope="module")
def by_deaf():
    return run(NOMINAL, keys(1), deaf)


@pytest.fixture
def calm():
    """The start on the centre of a straight road; under the dials CALM nothing disturbs the car."""
    state = reset(CALM, jax.random.PRNGKey(0))
    zero = jnp.zeros(())
    car = state.pipeline_state.car._replace(e_y=zero, e_psi=zero, v_x=jnp.float32(lane_keep.SPEED))
    return state.replace(
        pipeline_state=state.pipeline_state.replace(car=car, knots=jnp.zeros(road.KNOTS), wind=zero)
    )


def place(state, *, side=0.0, **car):
    """`state` with some of the car's fields and the side flag set."""
    inner = state.pipeline_state
    car = inner.car._replace(**{name: jnp.float32(value) for name, value in car.items()})
    return state.replace(pipeline_state=inner.replace(car=car, side=jnp.float32(side)))


def test_every_reset_has_its_own_road():
    states = jax.jit(jax.vmap(LaneKeep().reset))(keys(2, 64))
    knots = np.asarray(states.pipeline_state.knots)
    assert len(np.unique(knots, axis=0)) == len(np.unique(np.asarray(states.obs), axis=0)) == 64
    np.testing.assert_array_equal(knots[5], reset(NOMINAL, keys(2, 64)[5]).pipeline_state.knots)


def test_observation_layout():
    world = LaneKeep()
    starts, ends = zip(*world.observation_layout.values())
    assert [*starts] == [0, *ends[:-1]] and ends[-1] == world.observation_size == SIDE + 1
    state = reset(NOMINAL, jax.random.PRNGKey(3))
    assert state.obs.shape == (world.observation_size,) and state.obs.dtype == jnp.float32
    assert ask(NOMINAL, state).shape == (world.action_size,)


def test_every_dial_says_what_it_is():
    for field in dataclasses.fields(LaneKeep().dials):
        low, high = field.metadata["low"], field.metadata["high"]
        assert field.metadata["help"] and field.metadata["unit"] and low <= field.default <= high


@pytest.mark.slow
def test_plain_dials_and_no_jit_change_nothing_but_rounding():
    world = LaneKeep(friction=0.9)  # Python floats, as `envs.make` leaves them
    dials = NOMINAL.replace(friction=jnp.float32(0.9))
    plain, jitted = world.reset(jax.random.PRNGKey(4)), reset(dials, jax.random.PRNGKey(4))
    for action in (jnp.array([0.3, 0.5]), jnp.array([-0.2, -0.4])):
        plain, jitted = world.step(plain, action), step(dials, jitted, action)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, jitted)
    np.testing.assert_allclose(expert(world, plain), ask(dials, jitted), atol=1e-4)


def test_vmap_changes_nothing_but_rounding():
    actions = jnp.asarray(np.random.default_rng(5).uniform(-0.4, 0.4, (20, 3, 2)), jnp.float32)
    many = jax.jit(jax.vmap(step, (None, 0, 0)))
    batched, alone = (
        jax.vmap(reset, (None, 0))(NOMINAL, keys(5, 3)),
        [reset(NOMINAL, key) for key in keys(5, 3)],
    )
    for row in actions:
        batched = many(NOMINAL, batched, row)
        alone = [step(NOMINAL, state, action) for state, action in zip(alone, row)]
    looped = jax.tree.map(lambda *x: np.stack(x), *alone)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), batched, looped
    )


@pytest.mark.slow
def test_dials_are_data_and_each_matters(by_deaf):
    changes = {
        "hazards": 2.0,
        "hazard_rate": 0.05,
        "noise": 0.1,
        "reacquisition": 0.25,
        "friction": 0.4,
        "mass": 1.5,
        "crosswind": 8.0,
        "delay": 0.15,
    }
    assert set(changes) == set(dial_fields(LaneKeep().dials))
    nominal, compiled = offset(by_deaf), run._cache_size()
    for name, value in changes.items():
        changed = offset(run(NOMINAL.replace(**{name: jnp.float32(value)}), keys(1), deaf))
        assert np.isfinite(changed).all() and np.max(np.abs(changed - nominal)) > 1e-3, name
    assert run._cache_size() == compiled


def test_delay_shifts_actions(calm):
    late = CALM.replace(delay=jnp.float32(lane_keep.DT))
    first, second = jnp.array([0.2, 0.1]), jnp.array([-0.1, 0.3])
    delayed = step(late, step(late, calm, first), second)
    prompt = step(CALM, step(CALM, calm, jnp.zeros(2)), first)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        delayed.pipeline_state.car,
        prompt.pipeline_state.car,
    )


def test_actions_are_clipped(calm):
    np.testing.assert_array_equal(
        step(CALM, calm, jnp.array([7.0, -9.0])).obs, step(CALM, calm, jnp.array([1.0, -1.0])).obs
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kerb_hysteresis(calm, sign):
    def side_after(e_y, side):
        after = step(CALM, place(calm, e_y=sign * e_y, side=sign * side), jnp.zeros(2))
        assert float(after.metrics["cost"]) == abs(float(after.pipeline_state.side))
        assert float(after.obs[SIDE]) == float(after.pipeline_state.side)
        return sign * float(after.pipeline_state.side)

    middle = (EDGE + KERB) / 2
    assert side_after(EDGE + 0.02, 0.0) == 1.0  # leaves
    assert side_after(EDGE - 0.02, 0.0) == 0.0
    assert side_after(middle, 0.0) == 0.0  # between kerb and edge it stays what it was
    assert side_after(middle, 1.0) == 1.0
    assert side_after(KERB + 0.02, 1.0) == 1.0
    assert side_after(KERB - 0.02, 1.0) == 0.0  # comes back


def test_off_the_lane_the_side_flag_replaces_the_offset(calm):
    observe = jax.jit(functools.partial(LaneKeep()._observe, view="hidden"))

    def view(e_y, side, e_psi=0.1):
        return np.asarray(observe(place(calm, e_y=e_y, side=side, e_psi=e_psi).pipeline_state))

    np.testing.assert_array_equal(view(1.1, 1.0), view(2.0, 1.0))
    assert (
        view(1.1, 1.0)[SIDE] == 1.0
        and view(-1.1, -1.0)[SIDE] == -1.0
        and view(0.5, 0.0)[SIDE] == 0.0
    )
    np.testing.assert_array_equal(view(1.1, 1.0)[:SIDE], view(-1.1, -1.0)[:SIDE])
    assert (view(0.5, 0.0) != view(0.6, 0.0)).any()
    assert (view(1.1, 1.0, e_psi=0.2) != view(1.1, 1.0)).any()  # the heading error stays visible


def test_expert_uses_no_hidden_offset(calm):
    """Off the lane the expert's action is a function of what can be seen."""
    left = [
        np.asarray(ask(CALM, place(calm, e_y=e_y, side=1.0, e_psi=0.05))) for e_y in (0.9, 1.5, 2.0)
    ]
    np.testing.assert_array_equal(left[0], left[1])
    np.testing.assert_array_equal(left[0], left[2])
    right = np.asarray(ask(CALM, place(calm, e_y=-1.5, side=-1.0, e_psi=-0.05)))
    assert left[0][0] < 0 < right[0]


@pytest.mark.slow
def test_rail_bounds_the_excursion_of_any_driver():
    states = run(NOMINAL, keys(8), wild)
    failed, graded = cost(states), np.asarray(states.metrics["graded_cost"])
    assert np.abs(offset(states)).max() == np.float32(RAIL)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves((states.obs, states.pipeline_state.car))
    )
    assert not states.done.any() and not states.pipeline_state.clipped.any()
    assert set(np.unique(failed)) == {0.0, 1.0}
    np.testing.assert_array_equal(failed, np.abs(states.pipeline_state.side))
    np.testing.assert_array_equal(failed, np.abs(states.obs[..., SIDE]))
    assert (
        (graded >= 0).all() and (graded[failed == 0] < 1).all() and (graded[failed == 1] == 1).all()
    )


def test_expert_keeps_the_lane(by_expert):
    assert not cost(by_expert).any() and not by_expert.pipeline_state.clipped.any()
    assert np.abs(offset(by_expert)).mean() < 0.15


@pytest.mark.slow
def test_expert_keeps_the_lane_4096_times_50_s():
    exits = run(NOMINAL, keys(9, 4096), expert, keep=lambda state: state.metrics["cost"], steps=500)
    assert float(exits.sum()) == 0.0


@pytest.fixture(scope="module")
def rescued(by_deaf):
    """Costs after the expert takes over where a driver that does not know the way back went: as
    it leaves, and long settled."""
    failed = cost(by_deaf)
    settled = np.random.default_rng(0).permutation(np.argwhere(failed == 1))[:2000]
    fresh = np.argwhere(np.diff(failed, axis=0) == 1)[:2000]
    assert len(settled) == 2000 and len(fresh) >= 50
    result = {}
    for name, (steps, episodes) in {
        "settled": settled.T,
        "fresh": (fresh[:, 0] + 1, fresh[:, 1]),
    }.items():
        padded = np.resize(np.arange(len(steps)), 2000)  # one shape, one compilation
        states = jax.tree.map(lambda x, t=steps[padded], e=episodes[padded]: x[t, e], by_deaf)
        result[name] = np.asarray(taken_over(NOMINAL, states))[:, : len(steps)]
    return result


@pytest.mark.parametrize("where", ["fresh", "settled"])
def test_expert_comes_back_within_u(rescued, where):
    u = LaneKeep.recovery_steps
    assert (rescued[where][:u] == 0).any(0).mean() >= 0.99


@pytest.mark.parametrize("where", ["fresh", "settled"])
def test_expert_comes_back_to_stay(rescued, where):
    """u bounds what an error costs in all, so a return that shoots across the lane and off its
    other side is none."""
    failed = rescued[where]
    assert (np.diff(failed, axis=0) == 1).any(0).mean() < 0.05
    assert failed.sum(0).mean() <= LaneKeep.recovery_steps


def test_deaf_driver_is_lost(by_deaf):
    """Without the way back nobody comes home: the world is a cliff for a learner that never saw
    the side flag."""
    failed = cost(by_deaf)
    assert (np.diff(failed, axis=0) == 1).sum() >= 50 and returns(failed) / failed.sum() < 2e-3


def test_reacquisition_returns_at_its_rate():
    dials = LaneKeep().dials_for("recoverable")
    failed, rate = cost(run(dials, keys(10), deaf)), float(dials.reacquisition)
    off = failed[:-1].sum()
    assert returns(failed) / off > rate - 4 * np.sqrt(rate * (1 - rate) / off)
    assert not cost(run(NOMINAL.replace(reacquisition=jnp.float32(1.0)), keys(11), deaf)).any()


@pytest.mark.parametrize("hazards", [KINDS, 8])
def test_hazards_are_zipf(hazards):
    dials = NOMINAL.replace(hazards=jnp.float32(hazards), hazard_rate=jnp.float32(1.0))
    inner = run(dials, keys(12), expert).pipeline_state
    counts = np.bincount(
        np.asarray(inner.kind)[np.asarray(inner.rut) == RUT_STEPS], minlength=KINDS
    )
    assert counts.sum() > 1000 and counts[hazards:].sum() == 0
    expected = 1.0 / np.arange(1, hazards + 1)
    assert (
        stats.chisquare(counts[:hazards], expected / expected.sum() * counts.sum()).pvalue > 0.001
    )


def test_hazards_begin_at_their_rate_and_on_the_lane_only(by_expert, by_deaf):
    rut, rate = np.asarray(by_expert.pipeline_state.rut), float(NOMINAL.hazard_rate)
    possible = (rut[:-1] == rut.min()).sum()  # steps that follow a counter at rest
    began = ((rut[1:] == RUT_STEPS) & (rut[:-1] == rut.min())).sum()
    assert abs(began - possible * rate) < 4 * np.sqrt(possible * rate)
    began = np.asarray(by_deaf.pipeline_state.rut) == RUT_STEPS
    assert began.any() and not (began & (cost(by_deaf) == 1)).any()


def test_a_rut_pulls_and_is_seen_while_it_does(calm):
    first, last = LaneKeep.observation_layout["cue"]
    state = calm.replace(
        pipeline_state=calm.pipeline_state.replace(kind=jnp.int32(5), rut=jnp.int32(RUT_STEPS))
    )
    coast = step(CALM, state, jnp.zeros(2))
    assert np.sign(float(coast.pipeline_state.car.r)) == np.sign(lane_keep.PULL[5])
    for remaining in range(RUT_STEPS - 1, -3, -1):
        state = step(CALM, state, ask(CALM, state))
        cue = np.asarray(state.obs[first:last])
        assert cue.sum() == cue[5] == (remaining > 0)
    assert float(state.metrics["cost"]) == 0.0


def test_latency_from_rut_to_failure(by_deaf):
    off, rut = cost(by_deaf) > 0, np.asarray(by_deaf.pipeline_state.rut)
    first = [
        int(np.argmax(off[t : t + 30, i]))
        for t, i in zip(*np.nonzero(rut[:-30] == RUT_STEPS), strict=True)
        if off[t : t + 30, i].any() and not off[:t, i].any()
    ]
    assert len(first) > 100
    # The state in which a rut begins already shows its cue: the action there is the wrong one.
    assert np.quantile(first, 0.95) <= LaneKeep.latency


def test_the_visible_view_hides_nothing_and_changes_nothing_else():
    """Car, costs and demonstrators are the same; off the lane the offset is in sight."""
    hidden, visible = (LaneKeep(view=view) for view in ("hidden", "visible"))
    states = [world.reset(jax.random.PRNGKey(3)) for world in (hidden, visible)]
    steps = [jax.jit(world.step) for world in (hidden, visible)]
    seen = []
    for _ in range(60):  # straight off the road
        states = [step(s, jnp.array([0.4, 0.0])) for step, s in zip(steps, states, strict=True)]
        one, other = (state.pipeline_state for state in states)
        jax.tree.map(np.testing.assert_array_equal, one, other)
        assert states[0].metrics["cost"] == states[1].metrics["cost"]
        seen.append((float(states[0].metrics["cost"]), *(float(s.obs[0]) for s in states),
                     float(other.car.e_y)))  # fmt: skip
    off = [row for row in seen if row[0]]
    assert off and all(a == 0.0 and b == e_y and abs(b) > 0.7 for _, a, b, e_y in off)
    assert all(a == b == e_y for cost, a, b, e_y in seen if not cost)
    key = jax.random.PRNGKey(0)
    for quality in ("expert", "50"):
        worlds = [LaneKeep(demonstrator=quality, view=view) for view in ("hidden", "visible")]
        actions = [w.expert(s, key) for w, s in zip(worlds, states, strict=True)]
        np.testing.assert_array_equal(*actions)
