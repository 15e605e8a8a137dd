"""Regression inside jit: which rows it draws, the closed-form solutions it must find, its
schedule and its decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.chain import Chain
from irl_bench.core.types import Spec
from irl_bench.nets.policies import Policy, Standardiser
from irl_bench.nets.supervised import Data, PolicyParams, fit, flatten, held_out_loss, optimiser
from tests.worlds.helpers import Line

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.PRNGKey(1)
AS_IS = Standardiser(jnp.zeros(3), jnp.ones(3))


def run(policy, loss, data, *, inputs=AS_IS, steps=600, batch=256, rate=0.03, decay=0.0, key=KEY):
    """(weights, mean loss of the last tenth) after a fit from the initial weights."""
    transform = optimiser(rate, decay, steps)
    weights = policy.init(jax.random.PRNGKey(0))

    def go(data):
        return fit(
            policy,
            loss,
            transform,
            weights,
            transform.init(weights),
            inputs,
            data,
            key,
            steps,
            batch,
        )

    fitted, _, last = jax.jit(go)(data)
    return jax.tree.map(np.asarray, fitted), float(last)


def linear_data(noise=0.0, rows=2000):
    """atanh(a) = x W + b + noise, [rows, 2]; returns also W with b as its last row."""
    random = np.random.default_rng(2)
    x = random.normal(0, 0.5, (rows, 3))
    mapping = np.array([[0.5, -0.3], [0.2, 0.4], [-0.6, 0.1], [0.1, -0.2]])
    u = x @ mapping[:3] + mapping[3] + noise * random.normal(size=(rows, 2))
    data = Data(jnp.asarray(x, jnp.float32), jnp.asarray(np.tanh(u), jnp.float32), jnp.ones(rows))
    return data, mapping, x, u


def mapping_of(weights):
    return np.vstack([weights["net"]["Dense_0"]["kernel"], weights["net"]["Dense_0"]["bias"]])


@pytest.fixture(scope="module")
def linear():
    return Policy(Spec(Line(), 16, 4, 8), ())


def test_nll_finds_ordinary_least_squares_before_the_tanh(linear):
    data, _, x, u = linear_data(noise=0.2)
    design = np.column_stack([x, np.ones(len(x))])
    solution, _, _, _ = np.linalg.lstsq(design, u, rcond=None)
    residual = u - design @ solution
    weights, last = run(linear, "nll", data)
    np.testing.assert_allclose(mapping_of(weights), solution, atol=0.02)
    np.testing.assert_allclose(weights["log_std"], np.log(residual.std(0)), atol=0.03)
    log_std = np.log(residual.std(0))
    expected = (0.5 + log_std + 0.5 * np.log(2 * np.pi) + np.log(1 - np.tanh(u) ** 2).mean(0)).sum()
    assert last == pytest.approx(expected, abs=0.05)


def test_squared_error_finds_the_mapping_that_made_the_actions(linear):
    data, mapping, _, _ = linear_data()
    weights, last = run(linear, "mse", data)
    np.testing.assert_allclose(mapping_of(weights), mapping, atol=0.01)
    assert last < 1e-4


def test_fit_draws_only_rows_in_use(linear):
    data, mapping, _, _ = linear_data()
    used = np.random.default_rng(3).permutation(2000) < 300
    data = Data(
        jnp.where(used[:, None], data.observation, jnp.nan),
        jnp.where(used[:, None], data.action, jnp.nan),
        jnp.float32(used),
    )
    weights, last = run(linear, "mse", data)
    np.testing.assert_allclose(mapping_of(weights), mapping, atol=0.01)
    assert np.isfinite(last)


@pytest.mark.parametrize("rows", [(0,), (7,), (0, 9), tuple(range(10))])
def test_fit_draws_every_row_in_use_alike(linear, rows):
    """One step of SGD in disguise: with the rate 0 the loss is the mean over the draws, so
    frequencies show in it."""
    mask = np.isin(np.arange(10), rows)
    action = np.where(mask, np.linspace(-0.8, 0.8, 10), np.nan)
    data = Data(
        jnp.zeros((10, 3)),
        jnp.asarray(np.column_stack([action, action]), jnp.float32),
        jnp.float32(mask),
    )
    _, last = run(linear, "mse", data, steps=10, batch=20000, rate=1e-12)
    values = 2 * action[mask] ** 2
    assert last == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(20000) + 1e-5)


def test_categorical_fit_finds_the_frequencies():
    """At one input, the softmax that minimises the NLL is the share of each label."""
    policy = Policy(Spec(Chain(), 16, 4, 8), ())
    counts = np.array([500, 300, 150, 50])
    data = Data(
        jnp.zeros((1000, 65)), jnp.repeat(jnp.arange(4, dtype=jnp.int32), counts), jnp.ones(1000)
    )
    weights, last = run(
        policy, "nll", data, inputs=Standardiser(jnp.zeros(65), jnp.ones(65)), rate=0.05
    )
    bias = weights["net"]["Dense_0"]["bias"]
    p = counts / 1000
    np.testing.assert_allclose(np.exp(bias) / np.exp(bias).sum(), p, atol=0.03)
    assert last == pytest.approx(-(p * np.log(p)).sum(), abs=0.05)


def test_fit_does_what_its_key_says(linear):
    data, _, _, _ = linear_data(rows=100)
    first, again, other = (
        run(linear, "mse", data, steps=5, batch=8, key=jax.random.PRNGKey(k))[0] for k in (4, 4, 5)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (mapping_of(first) != mapping_of(other)).any()


@pytest.mark.parametrize("loss", ["nll", "mse"])
def test_held_out_loss_is_the_mean_over_rows_in_use(linear, loss):
    data, _, x, _ = linear_data(noise=0.3, rows=50)
    mask = np.arange(50) % 3 == 0
    weights = linear.init(KEY)
    inputs = Standardiser(jnp.asarray([0.1, 0.2, 0.3]), jnp.asarray([1.0, 2.0, 0.0]))
    masked = data.replace(mask=jnp.float32(mask), action=jnp.where(mask[:, None], data.action, 0.9))
    out = (
        (x - [0.1, 0.2, 0.3])
        * [1.0, 2.0, 0.0]
        @ np.asarray(weights["net"]["Dense_0"]["kernel"], np.float64)
    )
    action = np.asarray(data.action, np.float64)
    log_std = -1.0
    values = {
        "mse": (np.tanh(out) - action) ** 2,
        "nll": 0.5 * ((np.arctanh(action) - out) / np.exp(log_std)) ** 2
        + log_std + 0.5 * np.log(2 * np.pi) + np.log(1 - action**2),
    }[loss].sum(-1)  # fmt: skip
    got = held_out_loss(linear, loss, PolicyParams(weights, inputs), masked)
    assert float(got) == pytest.approx(values[mask].mean(), rel=1e-4)
    assert (
        float(
            held_out_loss(
                linear, loss, PolicyParams(weights, inputs), masked.replace(mask=jnp.zeros(50))
            )
        )
        == 0.0
    )


def test_step_size_is_a_cosine_and_only_matrices_decay():
    """Under a constant gradient of 1, Adam's direction is 1, so each update is minus the rate,
    plus the decay of a matrix."""
    rate, decay, steps = 0.01, 0.5, 20
    transform = optimiser(rate, decay, steps)
    kernel, bias = np.full((2, 2), 3.0, np.float32), np.full(2, 3.0, np.float32)
    params = {"kernel": kernel, "bias": bias, "log_std": np.ones(2, np.float32)}
    expected, state = {name: x.astype(float) for name, x in params.items()}, transform.init(params)
    update = jax.jit(transform.update)
    for t in range(steps + 2):
        updates, state = update(jax.tree.map(np.ones_like, params), state, params)
        params = jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)
        now = rate * 0.5 * (1 + np.cos(np.pi * min(t, steps) / steps))
        for name in expected:
            expected[name] = expected[name] - now * (
                1.0 + (decay * expected[name] if name == "kernel" else 0.0)
            )
        for name in expected:
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-4)


@pytest.mark.parametrize("discrete", [False, True])
def test_flatten_keeps_rows_together(discrete):
    observation = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(np.float32)
    action = (
        np.arange(6).reshape(2, 3).astype(np.int32)
        if discrete
        else np.arange(12).reshape(2, 3, 2).astype(np.float32)
    )
    mask = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    data = flatten(jnp.asarray(observation), jnp.asarray(action), jnp.asarray(mask))
    assert data.action.dtype == action.dtype and data.action.shape == (6, *action.shape[2:])
    for i in range(2):
        for t in range(3):
            np.testing.assert_array_equal(data.observation[3 * i + t], observation[i, t])
            np.testing.assert_array_equal(data.action[3 * i + t], action[i, t])
            assert data.mask[3 * i + t] == mask[i, t]
