"""JAX's own options in three groups: those that may change a number, those that cannot be used, and
those that change nothing.

An option may come from an environment variable, from `jax.config.update` or from a context manager.
Every option outside HARMLESS is part of a cell's fingerprint, including options that a newer JAX
adds: computing again is safer than reusing a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jax

from irl_bench.core.settings import BadInput

__all__ = ["HARMLESS", "REFUSED", "check", "numerical"]

REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "jax_enable_x64": (("false",), "everything here computes in float32"),
    "jax_disable_jit": (("false",), "compiled functions are what runs here"),
    "jax_enable_custom_prng": (("false",), "random keys are kept as arrays here"),
    "jax_legacy_prng_key": (("allow",), "random keys are kept as arrays here"),
    "jax_numpy_dtype_promotion": (("standard",), "mixed types are promoted here"),
    "jax_numpy_rank_promotion": (("allow", "warn"), "arrays of several ranks are combined here"),
    "jax_no_tracing": (("false",), "functions are traced here"),
    "jax_no_execution": (("false",), "functions are executed here"),
    "jax_debug_infs": (("false",), "a best loss starts at infinity here"),
    "jax_debug_nans": (
        ("false",),
        "a seed that gives NaN is marked as failed here, and the others go on",
    ),
    "jax_transfer_guard": (("allow", "none", "log"), "arrays travel between host and device here"),
    "jax_transfer_guard_host_to_device": (
        ("allow", "none", "log"),
        "arrays travel between host and device here",
    ),
    "jax_transfer_guard_device_to_host": (
        ("allow", "none", "log"),
        "arrays travel between host and device here",
    ),
}
"""Option -> (its usable values, of which messages suggest the first; the reason). Any other value
would end a run with a traceback."""

HARMLESS = frozenset(
    {
        # What is printed, logged, checked or dumped.
        "jax_array_garbage_collection_guard",
        "jax_captured_constants_report_frames",
        "jax_captured_constants_warn_bytes",
        "jax_check_proxy_envs",
        "jax_check_static_indices",
        "jax_check_tracer_leaks",
        "jax_compiler_detailed_logging_min_ops",
        "jax_debug_key_reuse",
        "jax_debug_leaked_clients_on_clear_backends",
        "jax_debug_log_modules",
        "jax_disable_bwd_checks",
        "jax_disable_vmap_shmap_error",
        "jax_disallow_mesh_context_manager",
        "jax_distributed_debug",
        "jax_dump_ir_modes",
        "jax_dump_ir_to",
        "jax_enable_checks",
        "jax_experimental_unsafe_xla_runtime_errors",
        "jax_explain_cache_misses",
        "jax_hlo_source_file_canonicalization_regex",
        "jax_include_debug_info_in_dumps",
        "jax_include_full_tracebacks_in_locations",
        "jax_log_checkpoint_residuals",
        "jax_log_compiles",
        "jax_logging_level",
        "jax_mutable_array_checks",
        "jax_pallas_enable_debug_checks",
        "jax_pallas_poison_buffers",
        "jax_pallas_verbose_errors",
        "jax_pprint_use_color",
        "jax_send_traceback_to_runtime",
        "jax_source_url_schema",
        "jax_thread_guard",
        "jax_traceback_filtering",
        "jax_traceback_in_locations_limit",
        "jax_tracer_error_num_traceback_frames",
        "jax_transfer_guard_device_to_device",
        # Where compiled programs are kept.
        "jax_compilation_cache_check_contents",
        "jax_compilation_cache_dir",
        "jax_compilation_cache_expect_pgle",
        "jax_compilation_cache_include_metadata_in_key",
        "jax_compilation_cache_max_size",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_enable_xla_caches",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
        "jax_raise_persistent_cache_errors",
        "jax_remove_custom_partitioning_ptr_from_cache_key",
        # How programs are exported, which nothing here does.
        "jax2tf_associative_scan_reductions",
        "jax2tf_default_native_serialization",
        "jax_export_calling_convention_version",
        "jax_export_ignore_forward_compatibility",
        "jax_serialization_version",
        # Which devices there are and how machines talk; the fingerprint holds backend, kind and
        # number of devices.
        "jax_backend_target",
        "jax_cpu_collectives_implementation",
        "jax_cpu_enable_async_dispatch",
        "jax_cpu_get_global_topology_timeout_minutes",
        "jax_cpu_get_local_topology_timeout_minutes",
        "jax_cross_host_transfer_socket_address",
        "jax_cross_host_transfer_timeout_seconds",
        "jax_cross_host_transfer_transfer_size",
        "jax_cross_host_transport_addresses",
        "jax_cuda_visible_devices",
        "jax_default_device",
        "jax_enable_preemption_service",
        "jax_enable_recoverability",
        "jax_force_dcn_cross_host_transfers",
        "jax_mock_gpu_topology",
        "jax_num_cpu_devices",
        "jax_oneapi_visible_devices",
        "jax_pjrt_client_create_options",
        "jax_platform_name",
        "jax_platforms",
        "jax_rocm_visible_devices",
        "jax_share_binary_between_hosts",
        "jax_share_binary_between_hosts_timeout_ms",
        "jax_sort_devices_by_process_index",
        "jax_xla_backend",
        "mock_num_gpu_processes",
    }
)
"""Options that change no number of a cell."""


def _values() -> Mapping[str, Any]:
    """The present value of every option of JAX, which JAX itself leaves untyped."""
    return cast("Any", jax.config).values


def check() -> None:
    """Raises BadInput, in one line, if an option of JAX has a value with which runs fail."""
    for name, (allowed, reason) in REFUSED.items():
        value = _values().get(name, allowed[0])
        if str(getattr(value, "name", value)).lower() not in allowed:
            raise BadInput(
                f"{name.upper()}={value} cannot be used: {reason}; nearest: "
                f"{name.upper()}={allowed[0]}"
            )


def numerical() -> dict[str, str]:
    """Returns the options that may change a number, {name: value as text}."""
    return {
        name: str(value)
        for name, value in sorted(_values().items())
        if name not in HARMLESS | REFUSED.keys()
    }
