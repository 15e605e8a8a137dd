"""Fixtures of all tests."""

import jax
import pytest

# As irl_bench.process sets it: else cells run here and by a program would not be the same.
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles in about half the time: for promises that do not rest on XLA's optimiser."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
