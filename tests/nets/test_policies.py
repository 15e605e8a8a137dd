"""Heads and standardisation against NumPy, and densities against their integral."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.chain import Chain
from irl_bench.core.types import Spec
from irl_bench.nets.policies import (
    ATANH_EDGE,
    MAX_LOG_STD,
    MIN_LOG_STD,
    MLP,
    Policy,
    standardiser,
    tanh_gaussian_nll,
)
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")

RANDOM = np.random.default_rng(0)
KEY = jax.random.PRNGKey(0)


density = jax.jit(tanh_gaussian_nll)


def numpy_mlp(net, x, layers):
    """The network's output in float64."""
    for i in range(layers):
        x = x @ np.asarray(net[f"Dense_{i}"]["kernel"], np.float64) + np.asarray(
            net[f"Dense_{i}"]["bias"], np.float64
        )
        x = np.tanh(x) if i < layers - 1 else x
    return x


def policy_of(world, hidden=(7, 5)):
    """(policy, weights with an output layer that is not small)."""
    policy = Policy(Spec(world, 16, 4, 8), hidden)
    weights = policy.init(KEY)
    head = weights["net"][f"Dense_{len(hidden)}"]
    head["kernel"], head["bias"] = 8.0 * head["kernel"], head["bias"] + 0.1
    return policy, weights


def test_tanh_gaussian_is_the_density_of_tanh_of_a_gaussian():
    mean, log_std = RANDOM.normal(0, 0.6, (50, 3)), RANDOM.normal(-0.5, 0.4, (50, 3))
    action = RANDOM.uniform(-0.99, 0.99, (50, 3))
    std = np.exp(log_std)
    gaussian = np.exp(-0.5 * ((np.arctanh(action) - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    expected = -np.log(gaussian / (1 - action**2)).sum(-1)
    got = density(*(jnp.asarray(x, jnp.float32) for x in (mean, log_std, action)))
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("mean", "log_std"), [(0.0, -1.0), (0.5, -2.0), (-0.8, -0.9), (0.2, MIN_LOG_STD)]
)
def test_tanh_gaussian_integrates_to_one(mean, log_std):
    action = np.linspace(-ATANH_EDGE, ATANH_EDGE, 40001)
    nll = density(
        jnp.float32(mean), jnp.float32(log_std), jnp.asarray(action, jnp.float32)[:, None]
    )
    assert np.trapezoid(np.exp(-np.asarray(nll, np.float64)), action) == pytest.approx(
        1.0, abs=2e-3
    )


def test_actions_at_the_edge_have_a_finite_density_and_gradient():
    mean, log_std, edge = (
        np.zeros(2, np.float32),
        -np.ones(2, np.float32),
        np.array([1, -1], np.float32),
    )
    value, gradient = jax.jit(jax.value_and_grad(tanh_gaussian_nll))(mean, log_std, edge)
    at_edge = density(mean, log_std, np.float32(ATANH_EDGE) * edge)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert float(value) == float(at_edge)


def test_log_deviation_is_clipped():
    policy, weights = policy_of(Line())
    x, action = jnp.asarray(RANDOM.normal(size=3), jnp.float32), jnp.asarray([0.1, -0.2])
    for low_or_high, bound in ((-50.0, MIN_LOG_STD), (50.0, MAX_LOG_STD)):
        clipped = {**weights, "log_std": jnp.full(2, bound)}
        beyond = {**weights, "log_std": jnp.full(2, low_or_high)}
        assert float(policy.nll(beyond, x, action)) == float(policy.nll(clipped, x, action))
        np.testing.assert_array_equal(policy.sample(beyond, x, KEY), policy.sample(clipped, x, KEY))


def test_continuous_head():
    policy, weights = policy_of(Line())
    weights["log_std"] = jnp.asarray([-0.4, -1.3])
    x, action = (
        RANDOM.normal(size=(4, 6, 3)).astype(np.float32),
        RANDOM.uniform(-0.9, 0.9, (4, 6, 2)).astype(np.float32),
    )
    out = numpy_mlp(weights["net"], x, 3)
    np.testing.assert_allclose(policy.mode(weights, x), np.tanh(out), atol=1e-5)
    expected = ((np.tanh(out) - action) ** 2).sum(-1)
    np.testing.assert_allclose(
        policy.squared_error(weights, x, jnp.asarray(action)), expected, rtol=1e-4, atol=1e-5
    )
    log_std = np.array([-0.4, -1.3])
    z = (np.arctanh(action) - out) / np.exp(log_std)
    expected = (0.5 * z**2 + log_std + 0.5 * np.log(2 * np.pi) + np.log(1 - action**2)).sum(-1)
    np.testing.assert_allclose(
        policy.nll(weights, x, jnp.asarray(action)), expected, rtol=1e-4, atol=1e-4
    )
    assert policy.loss("nll") == policy.nll and policy.loss("mse") == policy.squared_error


def test_continuous_sample_has_the_stated_moments():
    policy, weights = policy_of(Line())
    weights["log_std"] = jnp.asarray([-0.4, -1.3])
    x = jnp.asarray(RANDOM.normal(size=3), jnp.float32)
    drawn = jax.vmap(lambda key: policy.sample(weights, x, key))(jax.random.split(KEY, 4000))
    before_tanh = np.arctanh(np.asarray(drawn, np.float64))
    out, std = numpy_mlp(weights["net"], np.asarray(x), 3), np.exp([-0.4, -1.3])
    assert (np.abs(before_tanh.mean(0) - out) < 4 * std / np.sqrt(4000)).all()
    np.testing.assert_allclose(before_tanh.std(0), std, rtol=0.05)


def test_discrete_head():
    policy, weights = policy_of(Chain())
    assert set(weights) == {"net"}
    x, action = (
        RANDOM.normal(size=(4, 6, 65)).astype(np.float32),
        RANDOM.integers(0, 4, (4, 6)).astype(np.int32),
    )
    out = numpy_mlp(weights["net"], x, 3)
    p = np.exp(out) / np.exp(out).sum(-1, keepdims=True)
    mode = policy.mode(weights, x)
    assert mode.dtype == jnp.int32 and mode.shape == (4, 6)
    np.testing.assert_array_equal(mode, p.argmax(-1))
    expected = -np.log(np.take_along_axis(p, action[..., None], -1)[..., 0])
    np.testing.assert_allclose(
        policy.nll(weights, x, jnp.asarray(action)), expected, rtol=1e-4, atol=1e-5
    )
    expected = ((p - np.eye(4)[action]) ** 2).sum(-1)
    np.testing.assert_allclose(
        policy.squared_error(weights, x, jnp.asarray(action)), expected, rtol=1e-4, atol=1e-5
    )


def test_discrete_sample_has_the_stated_frequencies():
    policy, weights = policy_of(Chain())
    x = jnp.asarray(RANDOM.normal(size=65), jnp.float32)
    drawn = jax.vmap(lambda key: policy.sample(weights, x, key))(jax.random.split(KEY, 4000))
    assert drawn.dtype == jnp.int32
    p = np.exp([-policy.nll(weights, x, jnp.int32(a)) for a in range(4)])
    assert p.sum() == pytest.approx(1.0, abs=1e-5)
    assert (
        np.abs(np.bincount(drawn, minlength=4) / 4000 - p) < 4 * np.sqrt(p * (1 - p) / 4000)
    ).all()


def test_standardiser_is_the_weighted_mean_and_deviation():
    x = RANDOM.normal(3.0, [0.1, 5.0, 1.0], (400, 3))
    x[:, 2] = 0.7  # constant
    weight = RANDOM.integers(0, 2, 400).astype(float)
    x[weight == 0] += 1000.0  # rows without weight say nothing, not even that a feature varies
    mean = np.average(x, axis=0, weights=weight)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    for keep in (False, True):
        got = standardiser(
            jnp.asarray(x, jnp.float32), jnp.asarray(weight, jnp.float32), keep_constant=keep
        )
        np.testing.assert_allclose(got.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(got.scale[:2], 1 / deviation[:2], rtol=1e-4)
        assert float(got.scale[2]) == float(keep)
        out = np.asarray(got(jnp.asarray(x, jnp.float32)))[weight == 1]
        np.testing.assert_allclose(out[:, :2].mean(0), 0, atol=1e-3)
        np.testing.assert_allclose(out[:, :2].std(0), 1, rtol=1e-3)
        elsewhere = got(jnp.asarray([3.0, 3.0, 50.7]))[2]
        assert float(elsewhere) == pytest.approx(50.0 if keep else 0.0, rel=1e-5)


def test_standardiser_of_nothing_is_finite():
    got = standardiser(jnp.ones((4, 2)), jnp.zeros(4))
    assert np.isfinite(got.mean).all() and not got.scale.any()


def test_initial_scales():
    x = jnp.zeros(65)
    plain, first = (MLP((256, 256), 8, scale).init(KEY, x)["params"] for scale in (1.0, 3.0))
    np.testing.assert_allclose(
        first["Dense_0"]["kernel"], 3 * plain["Dense_0"]["kernel"], rtol=1e-5
    )
    np.testing.assert_array_equal(first["Dense_1"]["kernel"], plain["Dense_1"]["kernel"])
    for layer, fan_in, scale in (
        ("Dense_0", 65, 1.0),
        ("Dense_1", 256, 1.0),
        ("Dense_2", 256, 0.1),
    ):
        assert np.std(plain[layer]["kernel"]) == pytest.approx(scale / np.sqrt(fan_in), rel=0.1)
        assert not plain[layer]["bias"].any()
