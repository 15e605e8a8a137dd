"""Exact inverse RL: features matched, the true reward recovered up to shaping, and what the
tables promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.tabular import DISCOUNT, occupancy, soft_values
from irl_bench.algos import maxent_irl
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec, Task
from irl_bench.rollouts.evaluation import collect
from tests.worlds.helpers import Line, train

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(0)
WORLDS = ["grid", "coarse_lane"]
each_slowly = pytest.mark.parametrize(
    "name", ["grid", pytest.param("coarse_lane", marks=pytest.mark.slow)]
)
"""What is solved by training; the larger world with the slow tests."""


def solved(world, demos, **settings):
    spec = Spec(world, 64, demos.mask.shape[0], demos.mask.shape[1])
    learner = maxent_irl.make(spec, maxent_irl.Config(**settings))
    return jax.jit(lambda: train(learner, KEY, Task(demos, world.dials)))()


def exact_demonstrations(world):
    """The demonstrator's discounted occupancy of every state: what infinitely many
    demonstrations would show."""
    q, v = soft_values(world.transitions(), world.rewards())
    return occupancy(
        world.transitions(), jnp.exp(q - v[:, None]), jnp.asarray(world.start, jnp.float32)
    )


def soft_advantage(world, weights):
    q, v = soft_values(world.transitions(), jnp.asarray(world.features, jnp.float32) @ weights)
    return np.asarray(q - v[:, None])


@pytest.mark.parametrize("name", WORLDS)
def test_soft_values_are_a_fixed_point(name):
    world = envs.make(name)
    transitions, reward = np.asarray(world.transitions(), float), np.asarray(world.rewards(), float)
    np.testing.assert_allclose(transitions.sum(-1), 1, atol=1e-6)
    q, v = soft_values(world.transitions(), world.rewards())
    np.testing.assert_allclose(q, transitions @ (reward + DISCOUNT * np.asarray(v)), atol=1e-4)
    np.testing.assert_allclose(v, np.log(np.exp(np.asarray(q)).sum(1)), atol=1e-4)


@pytest.mark.parametrize("name", WORLDS)
def test_occupancy_is_where_the_expert_is(name):
    """The linear solve against the frequencies of rollouts, within five standard errors."""
    world = envs.make(name)
    demos = jax.jit(lambda key: collect(world, key, 500, 100))(KEY)
    weight = (1 - DISCOUNT) * DISCOUNT ** np.arange(100)
    seen = np.einsum("t,nts->ns", weight, np.asarray(demos.observation))
    error = seen.std(0) / np.sqrt(500) + 1e-4
    assert (np.abs(seen.mean(0) - exact_demonstrations(world)) < 5 * error).all()


@each_slowly
def test_features_are_matched(name):
    world = envs.make(name)
    demos = jax.jit(lambda key: collect(world, key, 64, 100))(KEY)
    _, metrics = solved(
        world, demos, rounds=200, steps_per_round=1
    )  # a round longer than that has closed it
    assert metrics["feature_gap"][0] > 1e-2 and metrics["feature_gap"][-1] < 1e-3


@each_slowly
def test_the_true_reward_is_recovered_up_to_shaping(name, monkeypatch):
    """From the demonstrator's exact expectations: equal soft advantages, which shaping cannot
    change, and equal weights up to a constant (every state has one feature)."""
    world = envs.make(name)
    target = exact_demonstrations(world) @ jnp.asarray(world.features, jnp.float32)
    monkeypatch.setattr(maxent_irl, "demonstrated", lambda demos, features: target)
    demos = collect(world, KEY, 1, 4)
    state, _ = solved(world, demos, rounds=40)
    difference = np.asarray(state.weights) - world.weights
    np.testing.assert_allclose(difference - difference.mean(), 0, atol=0.05)
    true = soft_advantage(world, jnp.asarray(world.weights, jnp.float32))
    np.testing.assert_allclose(state.log_policy, true, atol=0.02)


def test_more_demonstrations_bring_the_reward_closer():
    world = envs.make("grid")
    true = soft_advantage(world, jnp.asarray(world.weights, jnp.float32))
    errors = []
    for count in (4, 200):
        demos = jax.jit(lambda key, count=count: collect(world, key, count, 100))(KEY)
        errors.append(
            np.abs(np.asarray(solved(world, demos, rounds=6)[0].log_policy) - true).mean()
        )
    assert errors[1] < 0.5 * errors[0]


def test_other_worlds_are_refused():
    with pytest.raises(BadInput, match="nearest: grid"):
        maxent_irl.make(Spec(Line(), 16, 2, 4), maxent_irl.Config())
