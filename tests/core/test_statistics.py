"""Statistics inside jit: the same with and without it, and NumPy's."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from irl_bench.core import shapes
from irl_bench.core.statistics import correlation


class Correlation(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_is_pearsons(self):
        x, y = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
        value = self.variant(correlation)(jnp.asarray(x), jnp.asarray(y))
        chex.assert_shape(value, ())
        chex.assert_trees_all_close(value, np.corrcoef(x.ravel(), y.ravel())[0, 1], atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_is_nothing_where_one_does_not_vary(self):
        y = jnp.arange(30.0)
        chex.assert_trees_all_equal(self.variant(correlation)(jnp.ones(30), y), jnp.zeros(()))


def test_the_tests_check_shapes():
    assert shapes.CHECKED
    with pytest.raises(Exception, match=r"(?i)type|shape"):
        correlation(jnp.ones(3), jnp.ones((3, 2)))
