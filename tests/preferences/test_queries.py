"""Queries: pairs are of two different segments, and what is asked is what the ensemble is least
sure of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.preferences import queries


def test_pairs_are_uniform_over_two_different_segments():
    first, second = (
        np.asarray(x) for x in queries.pairs("uniform", 4, 6000, jax.random.PRNGKey(0))
    )
    assert (
        (first != second).all()
        and first.min() == second.min() == 0
        and first.max() == second.max() == 3
    )
    counts = np.zeros((4, 4))
    np.add.at(counts, (first, second), 1)
    np.testing.assert_allclose(counts[~np.eye(4, dtype=bool)], 500, rtol=0.2)


@pytest.mark.parametrize("kind", ["disagreement", "entropy"])
def test_the_least_certain_candidates_are_asked(kind):
    margin = np.random.default_rng(0).normal(size=(3, 40)) * 3
    p = 1 / (1 + np.exp(-margin))
    mean = p.mean(0)
    expected = (
        p.var(0) if kind == "disagreement" else -mean * np.log(mean) - (1 - mean) * np.log(1 - mean)
    )
    np.testing.assert_allclose(
        queries.score(kind, jnp.asarray(margin)), expected, rtol=1e-4, atol=1e-6
    )
    chosen = np.asarray(queries.choose(kind, jnp.asarray(margin), 5))
    assert set(chosen) == set(np.argsort(-expected)[:5])


def test_more_candidates_than_questions_only_where_they_are_ranked():
    key = jax.random.PRNGKey(1)
    assert len(queries.pairs("uniform", 9, 7, key)[0]) == 7
    assert len(queries.pairs("entropy", 9, 7, key)[0]) == 7 * queries.CANDIDATES
    np.testing.assert_array_equal(queries.choose("uniform", jnp.zeros((2, 7)), 7), np.arange(7))
