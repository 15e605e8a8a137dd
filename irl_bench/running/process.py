"""The process of a run: its devices, its compilation cache, and how it ends when asked to stop."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
from jax.experimental.compilation_cache import compilation_cache

from irl_bench.core import folders, jax_options
from irl_bench.core.exits import INTERRUPTED
from irl_bench.core.settings import BadInput
from irl_bench.running.streams import tell, without_reader
from irl_bench.storage import untrusted

GRACE, MOST_GRACE = 8.0, 3600.0
"""How long the work has to reach its next checkpoint once it was asked to stop [s], unless
GRACE_VARIABLE says otherwise, and the most that it may say."""
GRACE_VARIABLE = "IRL_BENCH_GRACE"
"""Variable of the environment that replaces GRACE where an engine gives more time."""

BOUNCE = 0.25
"""Within this time a second SIGINT counts as the same key press [s]: wrappers forward a signal that
the terminal has already sent."""

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux describes the CPU."""

_Result = TypeVar("_Result")


class Interrupted(SystemExit):
    """The run stopped because it was asked to, and everything is stored. If nobody catches it, the
    process ends with status INTERRUPTED."""

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)


MOST_CPU_DEVICES = 4
"""Most CPU devices by default. The default sweep has four groups of seeds; further devices would
only repeat the last one."""


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def chosen_devices() -> bool:
    """Returns whether the environment says how many CPU devices there are."""
    return (
        "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        or "JAX_NUM_CPU_DEVICES" in os.environ
    )


def configure(devices: int | None = None) -> None:
    """Configures JAX for runs. Call it before anything else uses JAX.

    A CPU's cores become devices, so that several groups of seeds run at once, and compiled
    functions are kept in `JAX_COMPILATION_CACHE_DIR`, by default `irl_bench/jax` under the user's
    cache folder. Accelerators multiply matrices in full float32 unless
    `JAX_DEFAULT_MATMUL_PRECISION` says otherwise.

    Args:
      devices: number of CPU devices; None is the number of cores this process may use, up to
        MOST_CPU_DEVICES, or what JAX has if it has started.

    Raises:
      ValueError: JAX has started with another number of CPU devices.
      BadInput: an option of JAX has a value with which runs fail, or the requested platform is
        missing.
    """
    options: Any = cast("Any", jax.config)  # its attributes have no types
    jax_options.check()
    try:
        if devices or not chosen_devices():
            jax.config.update("jax_num_cpu_devices", devices or min(cores(), MOST_CPU_DEVICES))
    except RuntimeError:
        if devices is not None and devices != jax.local_device_count("cpu"):
            raise ValueError(
                f"JAX has started with {jax.local_device_count('cpu')} CPU devices, not {devices}"
            ) from None
    if not options.jax_compilation_cache_dir:
        folder = folders.cache()
        if folder is not None:  # JAX makes the folder
            jax.config.update("jax_compilation_cache_dir", str(folder / "jax"))
    if options.jax_default_matmul_precision is None:
        # By default accelerators multiply float32 with at most 11 bits of mantissa: physics would
        # differ from a CPU's.
        jax.config.update("jax_default_matmul_precision", "highest")
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    _start_backend()


def keep_compiled(out: Path) -> None:
    """Keeps compiled functions in a run's folder from now on, `<out>/compiled/<kind>`.

    Functions that were compiled for one kind of machine may crash another (XLA compiles for the
    CPU's instructions, or for a GPU's architecture), so each kind has a folder of its own.

    Args:
      out: the run's folder.
    """
    compilation_cache.reset_cache()  # of the folder that JAX uses so far
    # XLA's own caches lie beside JAX's, and their path becomes part of what JAX looks for: in
    # another folder nothing would be found.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_compilation_cache_dir", str(out / "compiled" / kind_of_machine()))


def kind_of_machine() -> str:
    """Returns a folder's name for what compiled functions depend on beside themselves: the
    platform, the kind of the devices, and the instructions of the CPU."""
    device = jax.devices()[0]
    facts = [sys.platform, platform.machine(), device.platform, device.device_kind]
    with contextlib.suppress(OSError):  # Linux alone has it
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)
        facts += sorted(flags[1].split()) if flags else []
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
    return f"{device.platform}-{digest}"


def _start_backend() -> None:
    """Starts JAX's backend. Raises BadInput if the requested platform is missing."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = cast("Any", jax.config).jax_platforms or "the default platform"
        reason = " ".join(str(error).split()).removesuffix(
            "(set JAX_PLATFORMS='' to automatically choose an available backend)"
        )
        detail = (
            f" ({reason.strip()})" if reason else ": no such device or no plugin for it is here"
        )
        raise BadInput(f"JAX cannot start {asked}{detail}; nearest: JAX_PLATFORMS=cpu") from None


def grace_here() -> float:
    """Returns how long the work has to reach its next checkpoint in this process [s].

    Raises:
      BadInput: the environment says something else than a time; one line.
    """
    text = os.environ.get(GRACE_VARIABLE, f"{GRACE:g}")
    try:
        grace = float(text)
    except ValueError:
        grace = math.nan
    if not 1 <= grace <= MOST_GRACE:
        raise BadInput(
            f"{GRACE_VARIABLE}={untrusted.shown(text)} is no time from 1 to {MOST_GRACE:g} s; "
            f"nearest: {GRACE_VARIABLE}={GRACE:g}"
        )
    return grace


def supervise(work: Callable[[threading.Event], _Result], grace: float | None = None) -> _Result:
    """Calls `work(stop)` in a thread and returns its result. SIGTERM, SIGINT and SIGHUP set the
    event `stop`.

    The process ends at once with status INTERRUPTED if the work goes on for `grace` seconds after
    the signal (a long compilation cannot be interrupted), or at a second Ctrl-C. Earlier
    checkpoints stay. A second SIGTERM changes nothing: schedulers and `timeout` send it to a
    process and then to its group. Outside the main thread no signals are handled. The work goes on
    without the reader of its output (`without_reader`).

    Args:
      work: takes the event and returns a result.
      grace: how long the work may go on after a signal [s]; None: as `grace_here` returns it.

    Raises:
      BadInput: as `grace_here`.
      BaseException: whatever `work` raises.
    """
    patience = grace_here() if grace is None else grace
    stop, asked, pressed = threading.Event(), [0.0], [0.0]
    box: dict[str, Any] = {}

    def body() -> None:
        try:
            box["result"] = work(stop)
        except BaseException as error:  # raised again below, in the main thread
            box["error"] = error

    def on_signal(number: int, frame: Any) -> None:
        del frame
        now = time.monotonic()
        if number == signal.SIGINT:
            if pressed[0] and now - pressed[0] > BOUNCE:
                _leave("interrupted twice")
            pressed[0] = pressed[0] or now
        if stop.is_set():
            return
        asked[0] = now
        stop.set()
        tell(f"{signal.Signals(number).name}: stopping at the next checkpoint")

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, on_signal) for number in stopping_signals()}
    with without_reader():
        try:
            thread = threading.Thread(target=body, daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
                if stop.is_set() and time.monotonic() - asked[0] > patience and thread.is_alive():
                    _leave("not at a checkpoint in time")
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if "error" in box:
            if isinstance(box["error"], Interrupted):
                print(
                    "interrupted; the progress is stored, run the same command to resume",
                    file=sys.stderr,
                    flush=True,
                )
            raise box["error"]
    return box["result"]


def stopping_signals() -> tuple[int, ...]:
    """Returns the signals that ask a run to stop. SIGHUP (a closed terminal) is left out if it is
    ignored, as under nohup."""
    hangup = getattr(signal, "SIGHUP", None)  # absent on Windows
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return (signal.SIGTERM, signal.SIGINT)
    return (signal.SIGTERM, signal.SIGINT, hangup)


def _leave(reason: str) -> None:
    """Ends the process at once with status INTERRUPTED."""
    with contextlib.suppress(OSError):
        if sys.stdout.isatty():
            os.write(1, b"\x1b[?25h\n")  # shows the cursor again, which a progress bar hides
    tell(f"{reason}; earlier checkpoints are kept, run the same command to resume")
    os._exit(INTERRUPTED)
