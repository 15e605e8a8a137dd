"""JAX's own options: each is in the fingerprint, refused or harmless, and none of them makes two
results pass for one."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from irl_bench.core import jax_options
from irl_bench.core.cell import cell_key, fingerprint
from irl_bench.core.settings import BadInput
from tests.conftest import QUICK
from tests.worlds.toys import cell

ROOT = pathlib.Path(__file__).parents[2]

NUMERICAL = (
    "check_vma",
    "eager_constant_folding",
    "jax_allow_f16_reductions",
    "jax_auto_pcast",
    "jax_bcoo_cusparse_lowering",
    "jax_compiler_enable_remat_pass",
    "jax_custom_vjp3",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_most_optimizations",
    "jax_embedded_constants_max_bytes",
    "jax_enable_pgle",
    "jax_error_checking_behavior_divide",
    "jax_error_checking_behavior_nan",
    "jax_error_checking_behavior_oob",
    "jax_exec_time_optimization_effort",
    "jax_explicit_x64_dtypes",
    "jax_high_dynamic_range_gumbel",
    "jax_memory_fitting_effort",
    "jax_memory_fitting_level",
    "jax_mosaic_allow_hlo",
    "jax_optimization_level",
    "jax_pallas_use_mosaic_gpu",
    "jax_pgle_aggregation_percentile",
    "jax_pgle_profiling_runs",
    "jax_ragged_dot_use_gpu_pallas_triton_lowering",
    "jax_ragged_dot_use_ragged_dot_instruction",
    "jax_random_seed_offset",
    "jax_refs_to_pins",
    "jax_remat3",
    "jax_remove_size_one_mesh_axis_from_type",
    "jax_scan3",
    "jax_softmax_custom_jvp",
    "jax_threefry_gpu_kernel_lowering",
    "jax_threefry_partitionable",
    "jax_use_direct_linearize",
    "jax_use_emit_pipeline_primitive",
    "jax_use_magma",
    "jax_use_shardy_partitioner",
    "jax_use_simplified_jaxpr_constants",
    "jax_xla_profile_version",
)


def test_no_option_is_of_two_kinds():
    assert not jax_options.HARMLESS & jax_options.REFUSED.keys()
    assert not set(NUMERICAL) & (jax_options.HARMLESS | jax_options.REFUSED.keys())


@pytest.mark.skipif(
    jax.__version__ != "0.10.2", reason="the options were gone through in JAX 0.10.2"
)
def test_every_option_was_gone_through():
    assert sorted(jax_options.numerical()) == sorted(NUMERICAL)
    assert (
        jax_options.HARMLESS | jax_options.REFUSED.keys() | set(NUMERICAL)
        == jax.config.values.keys()
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_random_seed_offset", 1),
    ],
)
def test_what_may_change_a_number_is_another_cell(option, value):
    before, key = getattr(jax.config, option), cell_key(cell(), fingerprint())
    jax.config.update(option, value)
    try:
        assert cell_key(cell(), fingerprint()) != key
    finally:
        jax.config.update(option, before)
    assert cell_key(cell(), fingerprint()) == key


def test_a_context_manager_counts_too():
    key = cell_key(cell(), fingerprint())
    with jax.default_matmul_precision("bfloat16"):
        assert cell_key(cell(), fingerprint()) != key


def test_a_variable_that_changes_an_accelerators_numbers_is_another_cell(monkeypatch):
    key = cell_key(cell(), fingerprint())
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert cell_key(cell(), fingerprint()) != key


@pytest.mark.parametrize("option", ["jax_log_compiles", "jax_debug_key_reuse", "jax_enable_checks"])
def test_what_is_harmless_is_the_same_cell(option):
    key = cell_key(cell(), fingerprint())
    jax.config.update(option, True)
    try:
        jax_options.check()
        assert cell_key(cell(), fingerprint()) == key
    finally:
        jax.config.update(option, False)


@pytest.mark.parametrize(
    ("option", "value", "usual"),
    [
        ("jax_enable_x64", True, False),
        ("jax_debug_nans", True, False),
        ("jax_numpy_rank_promotion", "raise", "allow"),
        ("jax_numpy_dtype_promotion", "strict", "standard"),
        ("jax_transfer_guard_host_to_device", "disallow", None),
    ],
)
def test_what_cannot_be_used_is_one_line(option, value, usual):
    jax.config.update(option, value)
    try:
        with pytest.raises(
            BadInput, match=f"{option.upper()}={value} cannot be used: .*; nearest: "
        ) as caught:
            jax_options.check()
    finally:
        jax.config.update(option, usual)
    assert "\n" not in str(caught.value)


def sweep(*flags: str, **variables: str) -> subprocess.CompletedProcess:
    line = [sys.executable, ROOT / "launch" / "sweep.py", *flags]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=300, env={**os.environ, **QUICK, **variables}
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"JAX_ENABLE_X64": "1"},
            "JAX_ENABLE_X64=True cannot be used: everything here computes in float32",
        ),
        ({"JAX_ENABLE_X64": "maybe"}, "JAX does not start"),
        ({"JAX_PLATFORMS": "cuda"}, "JAX cannot start cuda"),
        ({"JAX_PLATFORMS": "cpuu"}, "JAX cannot start cpuu"),
    ],
)
def test_an_environment_that_cannot_compute_is_one_line(variables, words):
    done = sweep("--describe=chain", **variables)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    assert done.stderr.startswith(f"error: {words}") and done.stderr.count("\n") == 1, done.stderr


def test_texts_need_no_device():
    done = sweep("--list", JAX_PLATFORMS="cuda")
    assert done.returncode == 0 and "algorithms" in done.stdout and done.stderr == ""


@pytest.mark.slow
def test_another_generators_figures_are_not_taken(tmp_path):
    flags = (
        "--algo=expert",
        "--env=chain",
        "--mode=cliff",
        "--budget=smoke",
        "--seeds=2",
        f"--out={tmp_path}",
    )
    assert sweep(*flags).returncode == 0
    assert "2 done" in sweep(*flags, "--dry_run").stdout
    assert "0 done" in sweep(*flags, "--dry_run", JAX_DEFAULT_PRNG_IMPL="rbg").stdout
