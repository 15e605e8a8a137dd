"""Policies that copy their last action: the measures, dropout on the past, and the adversary."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from irl_bench.core.types import Spec
from irl_bench.nets.copying import SHARE, Adversary, _reversed, forgetful, measures
from irl_bench.nets.policies import Policy, standardiser
from irl_bench.nets.supervised import Data, PolicyParams, fit, flatten, optimiser

pytestmark = pytest.mark.usefixtures("quick_compilation")
SIZE, ACTIONS = 5, 2
LAST = (3, 4)
"""The last two of five observed entries are the last action."""


@functools.cache
def policy(hidden=(16,)):
    world = envs.make("lane_keep")
    spec = Spec(world, 64, 4, 64)

    class Small(Policy):
        """A policy of five entries."""

        def __init__(self):
            super().__init__(spec, hidden)
            self._inputs = SIZE

    return Small()


def rows(count=600, seed=0, used=500):
    """Rows whose first entries cause the action; the action mostly stays as it was."""
    rng = np.random.default_rng(seed)
    cause = np.repeat(rng.uniform(-0.8, 0.8, (count // 10 + 1, ACTIONS)), 10, 0)[:count]
    action = cause + 0.02 * rng.normal(size=cause.shape)
    before = np.concatenate([np.zeros((1, ACTIONS)), action[:-1]])
    noisy = cause + 0.3 * rng.normal(size=cause.shape)
    observation = np.concatenate([noisy, rng.normal(size=(count, 1)), before], 1)
    mask = (rng.permutation(count) < used).astype(float)
    return Data(*(jnp.asarray(x, jnp.float32) for x in (observation, action, mask, before)))


def fitted(data, steps=1500, augment=None, weight=0.0, seed=0):
    inputs = standardiser(data.observation, data.mask)
    weights = policy().init(jax.random.PRNGKey(seed))
    extra = None
    if weight:
        extra = Adversary(policy(), inputs, weight)
        weights |= {Adversary.NAME: Adversary.init(jax.random.PRNGKey(1), 16, ACTIONS)}
    transform = optimiser(3e-3, 0.0, steps)
    train = jax.jit(
        lambda w, s: fit(
            policy(), "mse", transform, w, s, inputs, data, jax.random.PRNGKey(2), steps, 128,
            extra, augment,
        )
    )  # fmt: skip
    weights, _, loss = train(weights, transform.init(weights))
    return PolicyParams(weights, inputs), loss


def test_previous_is_the_action_of_the_step_before():
    rng = np.random.default_rng(0)
    action = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    data = flatten(jnp.zeros((3, 4, 5)), action, jnp.ones((3, 4)), previous=True)
    expected = np.concatenate([np.zeros((3, 1, 2)), np.asarray(action)[:, :-1]], 1).reshape(12, 2)
    np.testing.assert_array_equal(data.previous, expected)
    assert flatten(jnp.zeros((3, 4, 5)), action, jnp.ones((3, 4))).previous is None


def test_the_measures_are_those_of_numpy():
    data = rows()
    params, _ = fitted(data, steps=50)
    found = jax.jit(lambda: measures(policy(), params, data, LAST, jax.random.PRNGKey(3)))()
    used = np.asarray(data.mask) > 0
    action, before, observation = (
        np.asarray(x, float)[used] for x in (data.action, data.previous, data.observation)
    )
    # R² of the regression, by NumPy's least squares with a constant.
    design = np.concatenate([before, np.ones((len(before), 1))], 1)
    left = action - design @ np.linalg.lstsq(design, action, rcond=None)[0]
    centred = action - action.mean(0)
    np.testing.assert_allclose(
        found["predictable"], 1 - (left**2).sum() / (centred**2).sum(), atol=1e-4
    )
    acts = np.asarray(policy().mode(params.weights, params.inputs(observation)))
    change = np.linalg.norm(action - before, axis=1)
    big = change >= np.quantile(change, 1 - SHARE)
    nearer = np.linalg.norm(acts - before, axis=1) < np.linalg.norm(acts - action, axis=1)
    np.testing.assert_allclose(found["repeats"], nearer[big].mean(), atol=0.02)
    shifts = []
    for seed in range(20):
        mixed = observation.copy()
        mixed[:, LAST] = mixed[np.random.default_rng(seed).permutation(len(mixed))][:, LAST]
        moved = np.asarray(policy().mode(params.weights, params.inputs(mixed))) - acts
        shifts.append(np.sqrt((moved**2).sum() / (centred**2).sum()))
    assert min(shifts) * 0.9 < found["shift"] < max(shifts) * 1.1


def test_without_a_visible_last_action_nothing_is_shuffled():
    data = rows()
    params, _ = fitted(data, steps=5)
    assert float(measures(policy(), params, data, (), jax.random.PRNGKey(0))["shift"]) == 0.0


def test_dropout_hides_the_past_of_a_share_of_the_rows():
    x = jnp.ones((4000, SIZE))
    seen = np.asarray(forgetful((LAST[:1], LAST[1:]), 0.3)(x, jax.random.PRNGKey(0)))
    assert (seen[:, :3] == 1.0).all()
    assert ((seen[:, 3] == 0.0) == (seen[:, 4] == 0.0)).all()
    np.testing.assert_allclose((seen[:, 3] == 0.0).mean(), 0.3, atol=0.03)


def test_the_reversed_gradient_has_the_opposite_sign():
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.square(_reversed(x, 0.5))))(
        jnp.array([1.0, -2.0])
    )
    assert value == 5.0
    np.testing.assert_allclose(gradient, [-1.0, 2.0])


def copies(**remedy):
    data = rows(seed=4)
    params, _ = fitted(data, **remedy)
    found = measures(policy(), params, rows(seed=5), LAST, jax.random.PRNGKey(0))
    return {name: float(value) for name, value in found.items()}


def test_a_clone_copies_and_both_remedies_keep_it_from_that():
    """The cause is noisy and the last action is exact, so a clone repeats itself."""
    plain = copies()
    dropout = copies(augment=forgetful((LAST,), 0.9))
    adversary = copies(weight=3.0)
    assert plain["predictable"] > 0.7 and plain["repeats"] > 0.4 and plain["shift"] > 0.5
    assert dropout["shift"] < plain["shift"] and dropout["repeats"] < plain["repeats"]
    assert adversary["shift"] < plain["shift"]


def test_the_adversary_s_error_is_relative_to_the_variance():
    """An adversary that always guesses 0 of a centred last action has the error 1."""
    data = rows()
    inputs = standardiser(data.observation, data.mask)
    weights = policy().init(jax.random.PRNGKey(0))
    still = jax.tree.map(jnp.zeros_like, Adversary.init(jax.random.PRNGKey(1), 16, ACTIONS))
    before = data.previous - data.previous.mean(0)
    error = Adversary(policy(), inputs, 1.0)(
        {**weights, Adversary.NAME: still},
        dataclasses.replace(data, previous=before),
        jax.random.PRNGKey(0),
    )
    np.testing.assert_allclose(error, 1.0, rtol=1e-4)
