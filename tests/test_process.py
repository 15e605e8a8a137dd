"""What a process that computes is set up with."""

import jax
import pytest

from irl_bench import process


@pytest.fixture
def settings():
    names = ("jax_default_matmul_precision", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(("chosen", "expected"), [(None, "highest"), ("bfloat16", "bfloat16"), ("default", "default")])
def test_matrices_are_multiplied_in_full_precision_unless_told(chosen, expected, settings):
    jax.config.update("jax_default_matmul_precision", chosen)
    process.configure(jax.local_device_count("cpu"))
    assert jax.config.jax_default_matmul_precision == expected
