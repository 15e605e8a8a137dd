"""Fixtures of all tests."""

import jax
import pytest

jax.config.update(
    "jax_default_matmul_precision", "highest"
)  # as irl_bench.process sets it, or cells would differ from programs'


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles in about half the time: for promises that do not rest on XLA's optimiser."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
