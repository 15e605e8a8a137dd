"""DPO and CPL: losses against NumPy, and the case in which they are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.algos import cpl, dpo

rng = np.random.default_rng(0)


def parts(count=20, length=6):
    log_prob, reference = rng.normal(size=(2, count, 2, length)) * 2
    return (
        log_prob,
        reference,
        rng.choice([0.0, 0.5, 1.0], count),
        rng.integers(0, 2, count).astype(float),
    )


def cross_entropy(margin, label, weight):
    p = 1 / (1 + np.exp(-margin))
    return (weight * (-label * np.log(p) - (1 - label) * np.log(1 - p))).sum() / weight.sum()


def test_dpo_is_the_cross_entropy_of_summed_log_ratios():
    log_prob, reference, label, weight = parts()
    ratio = 0.3 * (log_prob - reference).sum(-1)
    expected = cross_entropy(ratio[:, 0] - ratio[:, 1], label, weight)
    assert np.isclose(
        dpo.loss(0.3, *map(jnp.asarray, (log_prob, reference, label, weight))), expected, rtol=1e-5
    )


def test_cpl_discounts_and_is_harder_on_likely_losers():
    log_prob, reference, _, weight = parts()
    label = rng.integers(0, 2, 20).astype(float)
    total = 0.2 * (log_prob * 0.9 ** np.arange(6)).sum(-1)
    winner = np.where(label > 0.5, total[:, 0], total[:, 1])
    loser = np.where(label > 0.5, total[:, 1], total[:, 0])
    each = -np.log(np.exp(winner) / (np.exp(winner) + np.exp(0.5 * loser)))
    found = cpl.loss(0.2, 0.9, 0.5, *map(jnp.asarray, (log_prob, reference, label, weight)))
    assert np.isclose(found, (weight * each).sum() / weight.sum(), rtol=1e-5)


def test_dpo_under_a_uniform_reference_is_cpl():
    """At gamma = lambda = 1 and alpha = beta, in loss and gradient, to 1e-5 in double precision."""
    with jax.enable_x64(True):
        log_prob, reference, label, weight = map(jnp.asarray, parts())
        assert log_prob.dtype == jnp.float64
        uniform = jnp.full_like(reference, -1.7)
        one = jax.value_and_grad(lambda x: dpo.loss(0.4, x, uniform, label, weight))(log_prob)
        two = jax.value_and_grad(lambda x: cpl.loss(0.4, 1.0, 1.0, x, uniform, label, weight))(
            log_prob
        )
        np.testing.assert_allclose(one[0], two[0], atol=1e-5)
        np.testing.assert_allclose(one[1], two[1], atol=1e-5)
        other = dpo.loss(0.4, log_prob, reference, label, weight)
        assert abs(other - one[0]) > 1e-3  # the reference matters where it is not uniform


@pytest.mark.parametrize("module", [dpo, cpl])
def test_a_tie_presses_for_no_side(module):
    tail = (0.5,) if module is dpo else (0.5, 1.0, 1.0)
    same = jnp.zeros((1, 2, 3))
    gradient = jax.grad(lambda x: module.loss(*tail, x, same, jnp.array([0.5]), jnp.ones(1)))(same)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
