"""`--distributed`: this process computes with others, which were started with the same command.

JAX joins processes only here, and only if the flag asks for it: variables that a scheduler sets
change nothing by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from irl_bench.cli.flags import flags_of
from irl_bench.core.settings import BadInput

NAMED = ("coordinator", "processes", "process_id")
"""Flags that say which processes there are, where no cluster tells."""
_EXAMPLE = "--distributed --coordinator=HOST:PORT --processes=2 --process_id=0"


def checked(values: flags.FlagValues) -> dict[str, Any] | None:
    """Returns {flag: value} of NAMED, empty if the cluster tells; None without --distributed.

    Raises:
      BadInput: flags are missing, or contradict each other; one line.
    """
    named: dict[str, Any] = {
        name: values[name].value for name in NAMED if values[name].value is not None
    }
    if not values["distributed"].value:
        for name, value in named.items():
            raise BadInput(
                f"--{name}={value} is for --distributed; nearest: --distributed --{name}={value}"
            )
        return None
    if not values["worlds_over_devices"].value:
        raise BadInput(
            "--distributed is for one learner on the devices of all processes; nearest: "
            "--distributed --worlds_over_devices"
        )
    for name in ("experiment", "launcher"):
        if values[name].value is not None:
            raise BadInput(f"--distributed cannot be combined with --{name}; nearest: leave it out")
    if values["demos"].value == "auto":
        raise BadInput("--distributed cannot be combined with --demos=auto; nearest: a number")
    if named and len(named) < len(NAMED):
        missing = ", ".join(f"--{name}" for name in NAMED if name not in named)
        raise BadInput(f"--distributed lacks {missing}; nearest: {_EXAMPLE}")
    if named and not re.fullmatch(r"\S+:\d{1,5}", named["coordinator"]):
        raise BadInput(
            f"--coordinator={named['coordinator']} must be HOST:PORT of the first process; "
            "nearest: --coordinator=127.0.0.1:12355"
        )
    if named and named["process_id"] >= named["processes"]:
        raise BadInput(
            f"--process_id={named['process_id']} must be below --processes={named['processes']}; "
            f"nearest: --process_id={named['processes'] - 1}"
        )
    return named


def join(argv: Sequence[str]) -> None:
    """Joins the other processes if `argv` asks for it; before JAX starts its devices.

    Raises:
      BadInput: flags are missing or contradict each other, or the processes do not meet.
    """
    values = flags_of(())
    try:
        values(list(argv), known_only=True)
    except (flags.Error, ValueError):
        return  # the parser of the whole command says what is wrong
    named = checked(values)
    if named is None:
        return
    import jax

    # The runner handles SIGTERM itself.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if named:
            # Else the variables of a scheduler would choose the devices.
            jax.distributed.initialize(
                named["coordinator"],
                named["processes"],
                named["process_id"],
                cluster_detection_method="deactivate",
            )
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"--distributed: the processes cannot be joined ({reason}); nearest: {_EXAMPLE}"
        ) from None
