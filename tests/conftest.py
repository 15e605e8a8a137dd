"""Fixtures of all tests."""

import gc
import importlib.metadata
import os
import pathlib

os.environ["IRL_BENCH_CHECK_SHAPES"] = "1"  # irl_bench.core.shapes; programs inherit it

# Compiling is most of what tests do. At this level of LLVM it takes two thirds of the time, and so
# it does with XLA's older way to fuse loops on a CPU. Set before JAX starts; programs that tests
# start inherit it. XLA ends a process that names a flag it no longer has, as the second from 0.11.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()
)
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import pytest

from irl_bench.cli.main import COLLECTION
from tests.stores import billed, machines, objects  # noqa: F401 fixtures

# As irl_bench.running.process sets it: else cells run here and by a program would not be the same.
jax.config.update("jax_default_matmul_precision", "highest")

gc.set_threshold(*COLLECTION)

# Functions that an earlier run of the tests has compiled are not compiled again, if they took long
# enough to compile that storing them pays.
if jax.config.jax_compilation_cache_dir is None:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "irl_bench" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)


QUICK = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}
"""Environment of programs whose promises do not rest on XLA's optimiser: they compile in about
half the time, and what one of them compiles is kept for the next."""


TINY = (
    "--bc.hidden=8", "--bc.batch_size=16", "--bc.steps_per_round=10", "--T_max=128",
    "--episodes=16",
)  # fmt: skip
"""Flags of a sweep of BC on the chain whose numbers do not matter: it takes half of the time that
the budget `smoke` takes."""


@pytest.fixture
def no_pictures(monkeypatch):
    """Reports without figures, which take longer than all the rest of a report."""
    monkeypatch.setattr("irl_bench.report.figures.draw", lambda data: {})


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles in about half the time: for promises that do not rest on XLA's optimiser."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
