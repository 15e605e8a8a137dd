"""Merging: the ramp, its end, trips, and the expert's claims."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import contract
from envs.driving.merge import BEYOND, ENTRY_SPEED, RAMP, Merge
from envs.driving.traffic import LANE
from tests.envs.driving.test_highway import errs_once, times

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def made():
    return envs.make("merge")


def keys(seed, count=64):
    return jax.random.split(jax.random.PRNGKey(seed), count)


def expert(state):
    return made().expert(state, state.pipeline_state.key)


@functools.cache
def driver():
    """300 steps of the expert from some states: costs, collisions, our car and its trip."""

    def step(states, _):
        states = jax.vmap(lambda s: made().step(s, expert(s)))(states)
        inner = states.pipeline_state
        return states, (states.metrics, inner.car, inner.trip)

    return jax.jit(lambda states: jax.lax.scan(step, states, None, length=300)[1])


@functools.cache
def started(seed=0):
    return jax.jit(jax.vmap(made().reset))(keys(seed))


def test_it_keeps_the_contract():
    assert contract.check(envs.make("merge")) == ()


def test_an_episode_starts_on_the_ramp_at_its_speed():
    states = started()
    car = states.pipeline_state.car
    assert np.abs(np.asarray(car.e_y) + LANE).max() < 0.5
    assert abs(float(car.v_x.mean()) - ENTRY_SPEED) < 0.5
    np.testing.assert_allclose(states.obs[:, -1], RAMP, atol=1e-3)
    np.testing.assert_allclose(states.obs[:, 1], np.asarray(car.e_y) + 1.5 * LANE, atol=1e-4)


def test_the_expert_merges_before_the_ramp_ends_again_and_again():
    metrics, car, trip = driver()(started())
    assert not np.asarray(metrics["collision"]).any()
    assert np.asarray(metrics["cost"]).mean() < 1e-3
    trips = (np.diff(np.asarray(trip), axis=0) != 0).sum(0)
    assert trips.min() >= 1  # 350 m take at most 30 s
    place = np.asarray(car.s) - np.asarray(trip)
    assert place.max() <= RAMP + BEYOND + 5.0
    # All trips begin on the ramp and end on the road.
    on_road = np.asarray(car.e_y) > -LANE / 2
    assert not on_road[place < 5.0].any() and on_road[place > RAMP].all()


@pytest.mark.slow
def test_the_expert_fails_in_at_most_one_step_of_a_thousand():
    """4096 episodes of 50 s."""

    def run(keys):
        def step(carry, _):
            states, cost, hits = carry
            states = jax.vmap(lambda s: made().step(s, expert(s)))(states)
            metrics = states.metrics
            return (states, cost + metrics["cost"], hits + metrics["collision"]), None

        zero = jnp.zeros(len(keys))
        start = jax.vmap(made().reset)(keys)
        return jax.lax.scan(step, (start, zero, zero), None, length=500)[0][1:]

    cost, hits = jax.jit(run)(keys(1, 4096))
    assert cost.mean() / 500 <= 1e-3 and (hits > 0).mean() <= 1e-3


def test_who_stays_on_the_ramp_is_off_the_road_at_its_end():
    """A car that holds its lane: the cost begins where the ramp ends, and no trip ends there."""
    state = jax.tree.map(lambda x: x[0], started())

    def follow(state):
        """Steers along the road at ENTRY_SPEED."""
        car = state.pipeline_state.car
        steer = -0.05 * (car.e_y + LANE) - 0.5 * car.e_psi
        return jnp.stack([steer / 0.1, 0.3 * (ENTRY_SPEED - car.v_x)])

    def step(state, _):
        state = made().step(state, follow(state))
        inner = state.pipeline_state
        return state, (state.metrics["cost"], inner.car.s - inner.trip, inner.car.e_y)

    cost, place, y = jax.jit(lambda s: jax.lax.scan(step, s, None, length=300)[1])(state)
    assert np.abs(np.asarray(y) + LANE).max() < 1.0
    np.testing.assert_array_equal(np.asarray(cost) > 0.0, np.asarray(place) >= RAMP)
    assert place[-1] > RAMP + BEYOND


def test_the_expert_undoes_what_wrong_steering_causes_within_u():
    run = jax.jit(lambda k: errs_once(made(), jax.vmap(made().reset)(k), 250))
    latency, back = times(*(np.asarray(x) for x in run(keys(3, 256))))
    assert np.mean(back <= Merge.recovery_steps) >= 0.98  # of 256; 0.99 of all
    assert abs(np.median(latency) - Merge.latency) <= 3


@pytest.mark.parametrize("action", [[0.0, -1.0], [1.0, 1.0], [-1.0, 0.3]])
def test_no_policy_earns_by_parking_or_spinning(action):
    def step(states, _):
        states = jax.vmap(lambda s: made().step(s, jnp.asarray(action)))(states)
        return states, (states.metrics["cost"], states.reward)

    cost, reward = jax.jit(lambda s: jax.lax.scan(step, s, None, length=300)[1])(started())
    assert cost[50:].mean() > 0.5 and reward[50:].mean() < 0.15
