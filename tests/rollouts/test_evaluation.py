"""Rollouts against a slow loop: counts, costs, errors, common random numbers and demonstrations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.chain import Chain
from irl_bench.core.quantities import TOLERANCES
from irl_bench.rollouts import evaluation
from tests.worlds.helpers import Line, chain_expert, line_expert
from tests.worlds.toys import TwoState

pytestmark = pytest.mark.usefixtures("quick_compilation")

EPISODES, HORIZON = 6, 12
SLIPPERY = {"slip": 0.05}
KEY = jax.random.PRNGKey(3)


def line_act(params, observation, key):
    """The expert's action plus a bias, and noise of a given size."""
    return (
        line_expert(observation) + params["bias"] + params["noise"] * jax.random.normal(key, (2,))
    )


def drifting_act(params, observation, key):
    """Off by 1.6 in one wind, by 0.15 in the other: leaves the road and is blown back onto it."""
    return line_expert(observation) + jnp.asarray([jnp.where(observation[1] > 0, 1.6, 0.15), 0.0])


def params(bias=(0.0, 0.0), noise=0.0):
    return {"bias": jnp.asarray(bias, jnp.float32), "noise": jnp.float32(noise)}


def chain_act(table, observation, key):
    del key
    return (observation @ table).astype(jnp.int32)


def bound(world):
    return world.bind(world.dials_for(next(iter(world.modes))))


@functools.cache
def evaluator(kind, act, horizon=HORIZON):
    return jax.jit(
        lambda params, key: evaluation.evaluate(bound(kind()), act, params, key, EPISODES, horizon)
    )


def slow(world, act, params, key, episodes, horizon):
    """What `evaluate` counts, one episode and one step at a time."""
    reset, step, ask = jax.jit(world.reset), jax.jit(world.step), jax.jit(world.expert)
    counts = dict.fromkeys(("on_steps", "on_to_off", "off_steps", "off_to_on"), 0.0)
    reward, errors = 0.0, np.zeros(len(TOLERANCES))
    cost, graded, departed = np.zeros((3, horizon))
    for i in range(episodes):
        state = reset(jax.random.fold_in(key, i))
        for t in range(horizon):
            expert = np.asarray(ask(state, KEY))
            action = expert if act is None else np.asarray(act(params, state.obs, KEY))
            before = float(state.metrics["cost"])
            state = step(state, jnp.asarray(action))
            after = float(state.metrics["cost"])
            counts["off_steps" if before else "on_steps"] += 1
            counts["on_to_off"] += before == 0 and after == 1
            counts["off_to_on"] += before == 1 and after == 0
            departed[t] += before == 0 and after == 1
            cost[t] += after
            reward += float(state.reward)
            graded[t] += float(state.metrics["graded_cost"])
            for j, tolerance in enumerate(TOLERANCES):
                if world.n_actions is None:
                    errors[j] += np.abs(action.astype(np.float64) - expert).max() > tolerance
                else:
                    errors[j] += action != expert
    return {
        **counts,
        "cost": cost,
        "graded_cost": graded,
        "departed": departed,
        "own_errors": errors,
        "episodes": episodes,
        "reward": reward,
    }


@pytest.mark.parametrize("case", ["line expert", "line drifting", "chain"])
def test_evaluate_is_the_slow_loop(case):
    world, act, policy = {
        "line expert": (Line(), None, None),
        "line drifting": (Line(), drifting_act, None),
        "chain": (
            Chain(hazard=1.0, recovery=1.0),
            chain_act,
            jnp.append(jnp.arange(64) // 2 % 3, 3.0),
        ),
    }[case]
    if case == "chain":  # everything is a mistake that is met often: the plain situation too
        policy = policy.at[0].set(1.0)
    got = jax.jit(lambda p: evaluation.evaluate(world, act, p, KEY, EPISODES, HORIZON))(policy)
    act = act and jax.jit(act)
    expected = slow(world, act, policy, KEY, EPISODES, HORIZON)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=1e-5, atol=1e-5, err_msg=name)
    if act is not None:
        assert expected["own_errors"][0] > 0
    if case == "chain":
        assert min(expected["on_to_off"], expected["off_to_on"], expected["own_errors"][0]) > 0
        assert float(got.on_steps + got.off_steps) == EPISODES * HORIZON


@pytest.mark.parametrize("kind", [Line, Chain])
def test_the_expert_makes_no_errors_and_pays_nothing(kind):
    got = evaluator(kind, None)(None, KEY)
    assert (
        not got.own_errors.any()
        and not got.cost.any()
        and float(got.on_steps) == EPISODES * HORIZON
    )


def test_policies_under_one_key_meet_the_same_episodes():
    """The graded cost of `Line` is its wind alone, whatever the car does and whether the policy
    itself is random."""
    evaluate = evaluator(Line, line_act)
    calm, rough = evaluate(params(), KEY), evaluate(params((0.6, 0.0), 0.3), KEY)
    assert float(calm.cost.sum()) == 0 and float(rough.cost.sum()) > 0
    np.testing.assert_array_equal(calm.graded_cost, rough.graded_cost)
    np.testing.assert_array_equal(calm.graded_cost, evaluator(Line, None)(None, KEY).graded_cost)
    assert (evaluate(params(), jax.random.PRNGKey(4)).graded_cost != calm.graded_cost).all()


def test_a_shorter_evaluation_is_the_start_of_a_longer_one():
    short, long = (
        evaluator(Line, line_act, horizon)(params((0.6, 0.0), 0.3), KEY) for horizon in (5, HORIZON)
    )
    np.testing.assert_array_equal(short.cost, long.cost[:5])


def test_episodes_of_a_block_differ():
    one = jax.jit(lambda key: evaluation.evaluate(bound(Line()), None, None, key, 1, HORIZON))(KEY)
    assert not np.allclose(evaluator(Line, None)(None, KEY).graded_cost, EPISODES * one.graded_cost)


def test_wrong_at_the_tolerances():
    world, expert = Line(), jnp.asarray([0.0, 0.5])
    for j, tolerance in enumerate(TOLERANCES):
        at = np.float32(tolerance)
        for gap, expected in (
            (at, 0.0),
            (np.nextafter(at, np.float32(1)), 1.0),
            (-at, 0.0),
            (-2 * at, 1.0),
        ):
            # The first component is off, the second is right; float32 holds the gap exactly because
            # the expert's is 0.
            assert float(evaluation.wrong(world, jnp.asarray([gap, 0.5]), expert)[j]) == expected
    np.testing.assert_array_equal(
        evaluation.wrong(world, jnp.asarray([0.0, 0.375]), expert), [1, 1, 0]
    )  # any component counts
    np.testing.assert_array_equal(
        evaluation.wrong(world, jnp.asarray([0.06, 0.65]), expert), [1, 1, 0]
    )
    for action, expected in ((2, 0.0), (1, 1.0), (3, 1.0)):
        np.testing.assert_array_equal(
            evaluation.wrong(Chain(), jnp.int32(action), jnp.int32(2)), [expected] * 3
        )


def test_collect():
    world = bound(Line())
    demos = jax.jit(lambda key: evaluation.collect(world, key, 5, 7))(KEY)
    assert (
        demos.observation.shape == (5, 7, 3)
        and demos.action.shape == (5, 7, 2)
        and demos.mask.shape == (5, 7)
    )
    assert (demos.mask == 1).all() and demos.mask.dtype == jnp.float32
    np.testing.assert_allclose(
        demos.action, jax.vmap(jax.vmap(line_expert))(demos.observation), rtol=1e-5, atol=1e-6
    )
    # Each observation follows from the one before it under the expert's action, and no two episodes
    # start alike.
    follows = (
        demos.observation[:, :-1, 0] + 0.5 * demos.action[:, :-1, 0] + demos.observation[:, :-1, 1]
    )
    np.testing.assert_allclose(demos.observation[:, 1:, 0], follows, rtol=1e-5, atol=1e-6)
    assert len(np.unique(demos.observation[:, 0, 0])) == 5


def test_collect_of_a_discrete_world():
    demos = jax.jit(lambda key: evaluation.collect(bound(Chain()), key, 5, 7))(KEY)
    assert (
        demos.observation.shape == (5, 7, 65)
        and demos.action.shape == (5, 7)
        and demos.action.dtype == jnp.int32
    )
    np.testing.assert_array_equal(demos.action, chain_expert(np.asarray(demos.observation)))


def test_expert_errors_of_known_policies():
    world, total = bound(Line()), EPISODES * HORIZON

    @functools.cache
    def compiled(act):
        return jax.jit(lambda p, k: evaluation.expert_errors(world, act, p, k, EPISODES, HORIZON))

    def count(act, policy, key=KEY):
        errors, steps = compiled(act)(policy, key)
        assert float(steps) == total
        return np.asarray(errors)

    np.testing.assert_array_equal(count(None, None), [0, 0, 0])
    np.testing.assert_array_equal(count(line_act, params()), [0, 0, 0])
    np.testing.assert_array_equal(count(line_act, params((0.0, 0.15))), [total, total, 0])
    # A policy that would leave the road is asked on the expert's road only; its own errors never
    # move the car.
    np.testing.assert_array_equal(count(line_act, params((-1.0, 0.0))), [total] * 3)

    def wrong_where_the_expert_never_is(p, observation, key):
        return line_expert(observation) + jnp.where(jnp.abs(observation[0]) > 0.7, 1.0, 0.0)

    np.testing.assert_array_equal(count(wrong_where_the_expert_never_is, None), [0, 0, 0])

    def wrong_in_a_tailwind(p, observation, key):
        return line_expert(observation) + jnp.where(observation[1] > 0, 1.0, 0.0)

    half = [count(wrong_in_a_tailwind, None, jax.random.PRNGKey(k)) for k in range(20)]
    assert abs(np.mean(half) - total / 2) < 4 * np.sqrt(total / 4 / 20)
    assert len({float(errors[0]) for errors in half}) > 1  # fresh rollouts under each key


def slippery(**dials):
    world = TwoState()
    return world.bind(jax.tree.map(jnp.float32, world.dials.replace(**{**SLIPPERY, **dials})))


def test_clean_demonstrations_hold_no_failure_and_are_those_of_all_where_none_fails():
    world = slippery()
    every = evaluation.recorded(world, KEY, 40, 10)
    clean = evaluation.recorded(world, KEY, 40, 10, clean=True)
    failed = np.asarray(every.failed)
    observed = np.asarray(clean.demonstrations.observation)
    assert 5 < failed.sum() < 35  # 0.95^10 = 0.6 of the episodes hold none
    # The flag of failure is in view: it is 0 before every action.
    assert (observed[..., 0] == 0).all() and not np.asarray(clean.failed).any()
    assert (np.asarray(clean.demonstrations.mask) == 1).all()
    usual = np.asarray(every.demonstrations.observation)[~failed]
    np.testing.assert_array_equal(observed[: len(usual)], usual)
    none = evaluation.recorded(slippery(slip=0.0), KEY, 40, 10)
    same = evaluation.recorded(slippery(slip=0.0), KEY, 40, 10, clean=True)
    jax.tree.map(np.testing.assert_array_equal, none, same)
    assert len(np.unique(observed[:, 0, 1])) == 40  # no episode twice


def test_an_episode_that_always_fails_is_masked():
    never = evaluation.collect(slippery(slip=1.0), KEY, 3, 4, clean=True)
    assert (np.asarray(never.mask) == 0).all()


def test_a_burn_in_is_the_experts_steps_from_reset():
    world = slippery(slip=0.3, back=0.5)
    later = world.with_burn_in(5)
    reset, step = jax.jit(world.reset), jax.jit(world.step)
    for i in range(12):
        key = jax.random.fold_in(KEY, i)
        state = fresh = reset(jax.random.split(key)[0])
        for _ in range(5):
            state = step(state, jnp.int32(0))
        expected = fresh if float(state.metrics["cost"]) else state
        np.testing.assert_array_equal(jax.jit(later.begin)(key).obs, expected.obs)
        np.testing.assert_array_equal(world.begin(key).obs, world.reset(key).obs)
